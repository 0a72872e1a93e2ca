//! Waiting for an event with a bound. Every bound is extended by the measured
//! [scheduling delay](scheduling_delay).

use std::time::{Duration, Instant};

use super::scheduling_delay;

/// Time between two polls of a condition.
const POLL_INTERVAL: Duration = Duration::from_millis(4);

/// Returns the time, as the start of a bound.
pub(crate) fn now() -> Instant {
    scheduling_delay::measure();
    clock()
}

/// Returns the time.
#[expect(
    clippy::disallowed_methods,
    reason = "the only place where the tests read the clock"
)]
pub(super) fn clock() -> Instant {
    Instant::now()
}

/// Polls until `met` holds, and returns the time that this took.
///
/// # Panics
/// If `met` does not hold within `limit`.
#[track_caller]
pub(crate) fn until(limit: Duration, what: &str, met: impl FnMut() -> bool) -> Duration {
    until_since(now(), limit, what, met)
}

/// Polls until `met` holds, and returns the time since `start`.
///
/// # Panics
/// If `met` does not hold within `limit` of `start`.
#[track_caller]
pub(crate) fn until_since(
    start: Instant,
    limit: Duration,
    what: &str,
    mut met: impl FnMut() -> bool,
) -> Duration {
    loop {
        // The clock is read before the condition, so that a slow poll does not count.
        let elapsed = start.elapsed();
        if met() {
            return elapsed;
        }
        assert_took(start, elapsed, limit, what);
        pause(POLL_INTERVAL);
    }
}

/// Asserts that no more than `bound` has passed since `start`.
#[track_caller]
pub(crate) fn assert_within(start: Instant, bound: Duration, what: &str) {
    assert_took(start, start.elapsed(), bound, what);
}

/// Asserts that `took`, measured since `start`, is at most `bound`.
#[track_caller]
pub(crate) fn assert_took(start: Instant, took: Duration, bound: Duration, what: &str) {
    if took > bound {
        let delay = scheduling_delay::since(start);
        assert!(
            took <= bound + delay,
            "{what}: took {took:?}; the bound is {bound:?} plus {delay:?} of scheduling delay"
        );
    }
}

/// Sleeps, to simulate a slow peer or between two polls.
#[expect(
    clippy::disallowed_methods,
    reason = "no test uses it to wait for an event"
)]
pub(crate) fn pause(time: Duration) {
    std::thread::sleep(time);
}
