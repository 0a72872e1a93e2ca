use std::ops::Add;
use std::time::Duration;

/// A time on the caller's monotonic clock, in milliseconds since an epoch that the caller chooses.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Time(u64);

impl Time {
    /// Returns the time `millis` milliseconds after the epoch.
    #[must_use]
    pub const fn from_millis(millis: u64) -> Self {
        Self(millis)
    }

    /// Returns the milliseconds since the epoch.
    #[must_use]
    pub const fn as_millis(self) -> u64 {
        self.0
    }

    /// Returns the duration from `earlier` to this time, or zero if `earlier` is later.
    #[must_use]
    pub const fn since(self, earlier: Self) -> Duration {
        Duration::from_millis(self.0.saturating_sub(earlier.0))
    }
}

/// Rounds a fraction of a millisecond up, so that a deadline is never early. Saturates, so that a deadline
/// with a huge duration never passes.
impl Add<Duration> for Time {
    type Output = Self;

    #[inline]
    fn add(self, duration: Duration) -> Self {
        Self(self.0.saturating_add(millis(duration)))
    }
}

/// Returns `duration` in whole milliseconds, rounded up.
#[inline]
pub(crate) const fn millis(duration: Duration) -> u64 {
    const NANOS_PER_MILLI: u32 = 1_000_000;
    let fraction = duration.subsec_nanos().div_ceil(NANOS_PER_MILLI) as u64;
    duration
        .as_secs()
        .saturating_mul(1000)
        .saturating_add(fraction)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_fraction_of_a_millisecond_is_rounded_up() {
        let time = Time::from_millis(7) + Duration::from_nanos(1_000_001);
        assert_eq!(time, Time::from_millis(9));
    }

    #[test]
    fn adding_a_huge_duration_saturates() {
        assert_eq!(
            Time::from_millis(7) + Duration::MAX,
            Time::from_millis(u64::MAX)
        );
    }

    #[test]
    fn the_duration_since_a_later_time_is_zero() {
        assert_eq!(
            Time::from_millis(7).since(Time::from_millis(9)),
            Duration::ZERO
        );
    }
}
