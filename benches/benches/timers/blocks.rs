//! A wheel with one entry for each block of sixteen timers, whose deadlines share a cache line.
//!
//! A reschedule stores into that line and not into the caller's record. When the entry of a block is due, all its
//! deadlines are checked, and the wheel is set to the earliest of them.

use tidewheel_timerwheel::{Tick, Timer, Timers, Wheel};

use crate::candidates::{Candidate, Records};

/// Timers of a block, whose deadlines take 64 bytes.
const BLOCK_TIMERS: usize = 16;
/// Deadline of a timer that is not set.
const UNSET: u32 = u32::MAX;

pub(crate) struct BlockWheel {
    wheel: Wheel,
    blocks: Blocks,
}

struct Blocks {
    deadlines: Vec<Deadlines>,
    /// The wheel's record of each block.
    timers: Vec<Timer>,
    records: Records<()>,
}

#[derive(Clone)]
#[repr(align(64))]
struct Deadlines([u32; BLOCK_TIMERS]);

impl BlockWheel {
    /// Blocks that one `advance` checks at most.
    const ADVANCE_BLOCKS_MAX: usize = 8192 / BLOCK_TIMERS;
}

impl Candidate for BlockWheel {
    const RECORD_BYTES: f64 =
        (size_of::<Deadlines>() + size_of::<Timer>()) as f64 / BLOCK_TIMERS as f64;

    fn new(count: u32) -> Self {
        let blocks = (count as usize).div_ceil(BLOCK_TIMERS);
        Self {
            wheel: Wheel::new(Tick::new(0)),
            blocks: Blocks {
                deadlines: vec![Deadlines([UNSET; BLOCK_TIMERS]); blocks],
                timers: (0..blocks).map(|_| Timer::new()).collect(),
                records: Records::new(count),
            },
        }
    }

    fn set(&mut self, id: u32, deadline: u32) {
        self.blocks.records.touch(id);
        let (block, place) = (id as usize / BLOCK_TIMERS, id as usize % BLOCK_TIMERS);
        self.blocks.deadlines[block].0[place] = deadline;
        let timer = &mut self.blocks.timers[block];
        if timer
            .deadline()
            .is_none_or(|earliest| deadline < earliest.get())
        {
            self.wheel.set(block as u32, timer, Tick::new(deadline));
        }
    }

    fn clear(&mut self, id: u32) {
        self.blocks.records.touch(id);
        self.blocks.deadlines[id as usize / BLOCK_TIMERS].0[id as usize % BLOCK_TIMERS] = UNSET;
    }

    fn advance(&mut self, now: u32) -> bool {
        self.wheel
            .advance(Tick::new(now), Self::ADVANCE_BLOCKS_MAX, &mut self.blocks)
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
        let mut earliest = UNSET;
        for (id, deadline) in (block * BLOCK_TIMERS as u32..).zip(deadlines) {
            if *deadline <= now {
                *deadline = UNSET;
                self.records.expire(id);
            }
            earliest = earliest.min(*deadline);
        }
        if earliest != UNSET {
            wheel.set(block, &mut self.timers[block as usize], Tick::new(earliest));
        }
    }
}
