//! CPU of the turns of a phase.

use std::time::Duration;

use rustix::time::{ClockId, clock_gettime};
use tidewheel::ring::{
    Op, Ring, Token, Wait,
    sim::{Population, PopulationRing},
};

use crate::{
    counting_ring::CountingRing,
    memory_accounts::{Owner, on_behalf_of},
};

/// Returns the CPU time of this thread, which does not include other threads on the core.
pub(crate) fn cpu_time() -> Duration {
    reading(ClockId::ThreadCPUTime)
}

/// Returns the monotonic time.
pub(crate) fn wall_time() -> Duration {
    reading(ClockId::Monotonic)
}

fn reading(clock: ClockId) -> Duration {
    let time = clock_gettime(clock);
    Duration::new(time.tv_sec as u64, time.tv_nsec as u32)
}

/// CPU times and counts of the turns since the phase began.
#[derive(Clone, Debug, Default)]
pub(crate) struct TurnTimes {
    /// CPU time of all turns.
    pub(crate) total: Duration,
    /// Number of turns.
    pub(crate) turns: u64,
    /// CPU time of the longest turn.
    pub(crate) longest: Duration,
    /// CPU time of the longest turn without completions, which is an upper bound for a step of the wheel.
    pub(crate) longest_without_completions: Duration,
    /// Calls of the ring.
    pub(crate) ring_calls: u64,
}

impl TurnTimes {
    /// Adds a turn with its CPU time, calls of the ring, and completions.
    pub(crate) fn add(&mut self, time: Duration, ring_calls: u64, completions: u64) {
        self.total += time;
        self.turns += 1;
        self.ring_calls += ring_calls;
        self.longest = self.longest.max(time);
        if completions == 0 {
            self.longest_without_completions = self.longest_without_completions.max(time);
        }
    }
}

/// CPU of the measurement itself.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Overhead {
    /// CPU of a read of the clock. A turn includes half of two reads.
    pub(crate) clock: Duration,
    /// CPU of a call of the ring, measured in a loop, where the caches have all data.
    pub(crate) call: Duration,
}

/// Repetitions of the measurement.
const ROUNDS: u32 = 1 << 12;

/// Operations of a turn that fills all receive buffers.
const OPERATIONS: u32 = 64;

impl Overhead {
    /// Measures both.
    pub(crate) fn measure() -> Self {
        let ring = PopulationRing::new(Population {
            seed: 1,
            sockets: 1,
            buffers: 1,
            buffer_size: 4096,
            message_size: 64,
            published: String::new(),
        });
        let mut ring = CountingRing::new(ring.expect("one buffer can be allocated"));
        let (mut reads, mut calls) = (Duration::ZERO, Duration::ZERO);
        for _ in 0..ROUNDS {
            let began = cpu_time();
            let read = cpu_time();
            on_behalf_of(Owner::Server, || {
                for slot in 0..OPERATIONS {
                    ring.push(Op::PollWakeup, Token::new(0, slot));
                    std::hint::black_box(ring.reap().is_some());
                }
            });
            calls += cpu_time() - read;
            reads += read - began;
            ring.enter(Wait::No).expect("a simulated ring never fails");
        }
        let clock = reads / ROUNDS;
        let call = (calls / ROUNDS).saturating_sub(clock) / (2 * OPERATIONS);
        Self { clock, call }
    }
}
