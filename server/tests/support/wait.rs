//! Waiting for what must come, with a bound.

use std::time::{Duration, Instant};

/// Between two looks at something that cannot be waited for.
const BETWEEN_LOOKS: Duration = Duration::from_millis(4);

/// The time.
#[expect(
    clippy::disallowed_methods,
    reason = "the one place where the tests read the clock"
)]
pub(crate) fn now() -> Instant {
    Instant::now()
}

/// Looks until `met` holds, and says how long that took.
///
/// # Panics
/// If it does not hold within `limit`.
#[track_caller]
pub(crate) fn until(limit: Duration, what: &str, mut met: impl FnMut() -> bool) -> Duration {
    let start = now();
    loop {
        // Looked at before the clock: a look that is late is no failure of what it sees.
        let elapsed = start.elapsed();
        if met() {
            return elapsed;
        }
        assert!(elapsed < limit, "within {limit:?}: {what}");
        pause(BETWEEN_LOOKS);
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
