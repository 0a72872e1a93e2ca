//! Waiting for what must come, with a bound.
//!
//! Every bound is extended by what the machine's other work has [delayed](disturbance) meanwhile.

use std::time::{Duration, Instant};

use super::disturbance;

/// Between two looks at something that cannot be waited for.
const BETWEEN_LOOKS: Duration = Duration::from_millis(4);

/// The time at which something begins that a bound is on.
pub(crate) fn now() -> Instant {
    disturbance::measure();
    clock()
}

/// The time.
#[expect(
    clippy::disallowed_methods,
    reason = "the one place where the tests read the clock"
)]
pub(super) fn clock() -> Instant {
    Instant::now()
}

/// Looks until `met` holds, and says how long that took.
///
/// # Panics
/// If it does not hold within `limit`.
#[track_caller]
pub(crate) fn until(limit: Duration, what: &str, met: impl FnMut() -> bool) -> Duration {
    until_since(now(), limit, what, met)
}

/// The same for what began at `start`: looks until `met` holds, and says how long that took since then.
///
/// # Panics
/// If it does not hold within `limit` of `start`.
#[track_caller]
pub(crate) fn until_since(
    start: Instant,
    limit: Duration,
    what: &str,
    mut met: impl FnMut() -> bool,
) -> Duration {
    loop {
        // Looked at before the clock: a look that is late is no failure of what it sees.
        let elapsed = start.elapsed();
        if met() {
            return elapsed;
        }
        assert_took(start, elapsed, limit, what);
        pause(BETWEEN_LOOKS);
    }
}

/// Asserts that what began at `start` is over within `bound`.
#[track_caller]
pub(crate) fn assert_within(start: Instant, bound: Duration, what: &str) {
    assert_took(start, start.elapsed(), bound, what);
}

/// Asserts that something that happened since `start` took no longer than `bound`.
#[track_caller]
pub(crate) fn assert_took(start: Instant, took: Duration, bound: Duration, what: &str) {
    if took > bound {
        let disturbance = disturbance::since(start);
        assert!(
            took <= bound + disturbance,
            "{what}: {took:?}; the bound is {bound:?}, and {disturbance:?} for delays of the machine"
        );
    }
}

/// Keeps the pace of a peer that is slow on purpose, and of looks at the kernel's tables.
#[expect(
    clippy::disallowed_methods,
    reason = "slowness is what is asked for; no test takes it for an event"
)]
pub(crate) fn pause(time: Duration) {
    std::thread::sleep(time);
}
