//! One entry in the wheel for each block of sixteen timers, whose deadlines lie side by side in a cache line.
//!
//! A reschedule stores into that line rather than into the caller's record; when the entry of a block comes up, all
//! its deadlines are looked at together, and the wheel is asked again for the least of them.

use tidewheel_timerwheel::{Tick, Timer, Timers, Wheel};

use crate::candidates::{Candidate, Records};

/// Timers in a block: their deadlines take 64 bytes.
const BLOCK: usize = 16;
/// A deadline that is not set.
const NONE: u32 = u32::MAX;

pub(crate) struct BlockWheel {
    wheel: Wheel,
    blocks: Blocks,
}

struct Blocks {
    deadlines: Vec<Deadlines>,
    /// What the wheel keeps of each block.
    timers: Vec<Timer>,
    records: Records<()>,
}

#[derive(Clone)]
#[repr(align(64))]
struct Deadlines([u32; BLOCK]);

impl BlockWheel {
    /// Blocks looked at in one `advance`.
    const BUDGET: usize = 8192 / BLOCK;
}

impl Candidate for BlockWheel {
    const RECORD_BYTES: f64 = (size_of::<Deadlines>() + size_of::<Timer>()) as f64 / BLOCK as f64;

    fn new(count: u32) -> Self {
        let blocks = (count as usize).div_ceil(BLOCK);
        Self {
            wheel: Wheel::new(Tick::new(0)),
            blocks: Blocks {
                deadlines: vec![Deadlines([NONE; BLOCK]); blocks],
                timers: (0..blocks).map(|_| Timer::new()).collect(),
                records: Records::new(count),
            },
        }
    }

    fn set(&mut self, id: u32, deadline: u32) {
        self.blocks.records.touch(id);
        let (block, place) = (id as usize / BLOCK, id as usize % BLOCK);
        self.blocks.deadlines[block].0[place] = deadline;
        let timer = &mut self.blocks.timers[block];
        if timer.deadline().is_none_or(|least| deadline < least.get()) {
            self.wheel.set(block as u32, timer, Tick::new(deadline));
        }
    }

    fn clear(&mut self, id: u32) {
        self.blocks.records.touch(id);
        self.blocks.deadlines[id as usize / BLOCK].0[id as usize % BLOCK] = NONE;
    }

    fn advance(&mut self, now: u32) -> bool {
        self.wheel
            .advance(Tick::new(now), Self::BUDGET, &mut self.blocks)
    }

    fn expired(&self) -> u64 {
        self.blocks.records.expired()
    }
}

impl Timers for Blocks {
    fn timer(&mut self, block: u32) -> Option<&mut Timer> {
        self.timers.get_mut(block as usize)
    }

    fn expire(&mut self, wheel: &mut Wheel, block: u32) {
        let now = wheel.now().get();
        let deadlines = &mut self.deadlines[block as usize].0;
        let mut least = NONE;
        for (id, deadline) in (block * BLOCK as u32..).zip(deadlines) {
            if *deadline <= now {
                *deadline = NONE;
                self.records.expire(id);
            }
            least = least.min(*deadline);
        }
        if least != NONE {
            wheel.set(block, &mut self.timers[block as usize], Tick::new(least));
        }
    }
}
