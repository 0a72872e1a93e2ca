//! Converts between the time of a shard and the ticks of its wheel.

use std::time::Duration;

use tidewheel_codec::Time;
use tidewheel_timerwheel::Tick;

use super::TICK_MS;

/// The last tick that has begun at `now`.
pub(super) fn at(now: Time) -> Tick {
    Tick::new((now.as_millis() / TICK_MS) as u32)
}

/// The first tick that is not before `deadline`.
pub(crate) fn after(deadline: Time) -> Tick {
    Tick::new(deadline.as_millis().div_ceil(TICK_MS) as u32)
}

/// Time from `now` until `tick` begins.
pub(crate) fn until(tick: Tick, now: Time) -> Duration {
    let current = at(now);
    if !current.is_before(tick) {
        return Duration::ZERO;
    }
    let begins = (now.as_millis() / TICK_MS + u64::from(tick.since(current))) * TICK_MS;
    Duration::from_millis(begins - now.as_millis())
}
