//! What the turns of a phase take.

use std::time::Duration;

use rustix::time::{ClockId, clock_gettime};
use tidewheel::ring::{
    Op, Ring, Token, Wait,
    sim::{Population, PopulationRing},
};

use crate::{
    ledger::{Owner, on_behalf_of},
    watched::Watched,
};

/// Processor time of this thread: that others have the core does not count.
pub(crate) fn processor_time() -> Duration {
    reading(ClockId::ThreadCPUTime)
}

/// Time as it passes.
pub(crate) fn wall_time() -> Duration {
    reading(ClockId::Monotonic)
}

fn reading(clock: ClockId) -> Duration {
    let time = clock_gettime(clock);
    Duration::new(time.tv_sec as u64, time.tv_nsec as u32)
}

/// What the turns since the phase began have taken.
#[derive(Clone, Debug, Default)]
pub(crate) struct Meter {
    /// Processor time of all turns.
    pub(crate) turns_time: Duration,
    pub(crate) turns: u64,
    pub(crate) longest: Duration,
    /// The longest of those to which the kernel had nothing to tell: an upper bound on a step of the
    /// wheel.
    pub(crate) longest_unasked: Duration,
    /// Calls into the ring.
    pub(crate) calls: u64,
}

impl Meter {
    /// Counts a turn.
    pub(crate) fn add(&mut self, time: Duration, calls: u64, reaped: u64) {
        self.turns_time += time;
        self.turns += 1;
        self.calls += calls;
        self.longest = self.longest.max(time);
        if reaped == 0 {
            self.longest_unasked = self.longest_unasked.max(time);
        }
    }
}

/// What measuring itself costs.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Overhead {
    /// Of a look at the clock; there are two to each turn, and half of each lies within.
    pub(crate) clock: Duration,
    /// Of a call into the ring, as far as it can be told in a loop, where the cache has everything.
    pub(crate) call: Duration,
}

const ROUNDS: u32 = 1 << 12;

/// Operations of a turn in which as many buffers are filled as there are.
const OPERATIONS: u32 = 64;

impl Overhead {
    pub(crate) fn measure() -> Self {
        let ring = PopulationRing::new(Population {
            seed: 1,
            sockets: 1,
            buffers: 1,
            buffer_size: 4096,
            message_size: 64,
            published: String::new(),
        });
        let mut ring = Watched::new(ring.expect("there is memory for one buffer"));
        let (mut looks, mut calls) = (Duration::ZERO, Duration::ZERO);
        for _ in 0..ROUNDS {
            let began = processor_time();
            let looked = processor_time();
            on_behalf_of(Owner::Server, || {
                for slot in 0..OPERATIONS {
                    ring.push(Op::PollWakeup, Token::new(0, slot));
                    std::hint::black_box(ring.reap().is_some());
                }
            });
            calls += processor_time() - looked;
            looks += looked - began;
            ring.enter(Wait::No).expect("a simulation never fails");
        }
        let clock = looks / ROUNDS;
        let call = (calls / ROUNDS).saturating_sub(clock) / (2 * OPERATIONS);
        Self { clock, call }
    }
}
