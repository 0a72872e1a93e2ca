//! A timer wheel for deadlines that are moved far more often than they are reached.

#![forbid(unsafe_code)]

mod occupancy;
mod pool;
mod tick;
mod timer;
mod wheel;

pub use tick::Tick;
pub use timer::{Timer, Timers};
pub use wheel::Wheel;

/// Slots of the wheel, one for each tick of a turn.
pub const SLOTS: usize = 4096;

/// How many ticks ahead an entry can lie. A deadline beyond it is looked at, and queued anew, each time that this
/// many ticks have passed.
pub const HORIZON: u32 = SLOTS as u32 - 1;
