//! The clock of the generator. No other file reads the time.

use std::{
    ops::Add,
    time::{Duration, Instant},
};

use tidewheel_codec::Time;

/// A monotonic clock that starts at zero.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Clock {
    epoch: Instant,
}

impl Clock {
    /// Starts a clock at zero.
    #[expect(clippy::disallowed_methods, reason = "the only clock of the generator")]
    pub(crate) fn start() -> Self {
        Self {
            epoch: Instant::now(),
        }
    }

    /// Returns the current time.
    #[expect(
        clippy::cast_possible_truncation,
        reason = "2^64 ns are 584 years of run time"
    )]
    pub(crate) fn now(&self) -> Moment {
        Moment(self.epoch.elapsed().as_nanos() as u64)
    }
}

/// A point in time on the [`Clock`] of the generator, in nanoseconds since its start.
#[derive(Clone, Copy, Debug, Default, Eq, Ord, PartialEq, PartialOrd)]
pub(crate) struct Moment(u64);

impl Moment {
    #[cfg(test)]
    pub(crate) const fn from_nanos(nanos: u64) -> Self {
        Self(nanos)
    }

    /// Returns the time since `earlier`, or zero if that is later.
    pub(crate) const fn since(self, earlier: Self) -> Duration {
        Duration::from_nanos(self.nanos_since(earlier))
    }

    /// Returns the moment `duration` before this one, or the start of the clock if that is later.
    #[cfg(test)]
    pub(crate) fn earlier(self, duration: Duration) -> Self {
        Self(self.0.saturating_sub(duration.as_nanos() as u64))
    }

    /// Rounds down to a multiple of `interval` since the start of the clock.
    #[expect(
        clippy::cast_possible_truncation,
        reason = "2^64 ns are 584 years of run time"
    )]
    pub(crate) const fn floor(self, interval: Duration) -> Self {
        Self(self.0 - self.0 % interval.as_nanos() as u64)
    }

    /// Returns the time since `earlier` in nanoseconds, or zero if that is later.
    pub(crate) const fn nanos_since(self, earlier: Self) -> u64 {
        self.0.saturating_sub(earlier.0)
    }

    /// Returns the same moment for the codec, which counts milliseconds.
    pub(crate) const fn time(self) -> Time {
        Time::from_millis(self.0 / 1_000_000)
    }
}

impl Add<Duration> for Moment {
    type Output = Self;

    #[expect(
        clippy::cast_possible_truncation,
        reason = "2^64 ns are 584 years of run time"
    )]
    fn add(self, duration: Duration) -> Self {
        Self(self.0.saturating_add(duration.as_nanos() as u64))
    }
}
