//! What was measured, beside what must hold.

use std::{
    sync::{Mutex, PoisonError},
    time::{Duration, Instant},
};

use crate::support::{SLACK, disturbance, process::Server, socket_table, wait};

/// How long is waited for what is late, so that it can be told how late.
const PATIENCE: Duration = Duration::from_secs(10);

/// R10: by then the kernel has let go of all.
const ORPHANS_GONE_WITHIN: Duration = Duration::from_millis(500);

/// When the test began that has its turn.
static BEGAN: Mutex<Option<Instant>> = Mutex::new(None);

/// A test begins.
pub(crate) fn begin() {
    *BEGAN.lock().unwrap_or_else(PoisonError::into_inner) = Some(wait::now());
}

/// A bound, extended by what the machine's other work has delayed since the test began.
fn extended(bound: Duration) -> Duration {
    let began = BEGAN.lock().unwrap_or_else(PoisonError::into_inner);
    bound + disturbance::since(began.expect("a test has begun"))
}

/// Prints a figure.
pub(crate) fn tell(rule: &str, what: &str) {
    println!("{rule:<4}{what}");
}

/// Prints a time beside its bound, and holds it to that.
#[track_caller]
pub(crate) fn assert_within(rule: &str, what: &str, took: Duration, bound: Duration) {
    let (took_shown, bound_shown) = (time(took), time(bound));
    tell(rule, &format!("{what} {took_shown} (bound {bound_shown})"));
    if took > bound {
        let allowed = extended(bound);
        assert!(
            took <= allowed,
            "{what} {took:?}; the bound is {bound:?}, and {allowed:?} with delays of the machine"
        );
    }
}

/// Prints the earliest and the latest of `times` beside their bounds, and holds them to those.
#[track_caller]
pub(crate) fn assert_between(
    rule: &str,
    what: &str,
    times: &[Duration],
    bounds: (Duration, Duration),
) {
    let (earliest, latest) = extremes(times);
    tell(
        rule,
        &format!(
            "{what} {} to {} (bounds {} and {})",
            time(earliest),
            time(latest),
            time(bounds.0),
            time(bounds.1)
        ),
    );
    assert!(earliest >= bounds.0, "{earliest:?} is early");
    assert!(
        latest <= bounds.1 || latest <= extended(bounds.1),
        "{latest:?} is late"
    );
}

/// Prints a number of bytes beside its bound, and holds it to that.
#[track_caller]
pub(crate) fn assert_bytes(rule: &str, what: &str, bytes: u64, bound: u64) {
    let mib = |bytes: u64| bytes as f64 / f64::from(1 << 20);
    let (got, allowed) = (mib(bytes), mib(bound));
    tell(
        rule,
        &format!("{what} {got:.1} MiB (bound {allowed:.1} MiB)"),
    );
    assert!(bytes <= bound, "{what} {bytes} bytes; the bound is {bound}");
}

/// Waits until the server holds no connection, and holds the time since `start` to `bound`; then
/// the kernel may keep nothing of them either (R10).
#[track_caller]
pub(crate) fn assert_gone(
    rule: &str,
    what: &str,
    server: &Server,
    start: Instant,
    bound: Duration,
) {
    server.until_empty(bound.saturating_sub(start.elapsed()) + PATIENCE);
    let took = start.elapsed();
    let orphans = socket_table::orphans(server.port());
    wait::until(PATIENCE, "no orphan is left", || {
        socket_table::orphans(server.port()) == 0
    });
    let orphans_gone = start.elapsed().saturating_sub(took);
    assert_within(rule, &format!("{what}: all gone after"), took, bound);
    assert_within(
        "R10",
        &format!("{what}: {orphans} orphans when all are gone, 0 after another"),
        orphans_gone,
        ORPHANS_GONE_WITHIN,
    );
    wait::until(SLACK, "no direct descriptor is left", || {
        server.direct_descriptors() == Some(0)
    });
}

/// The least and the greatest.
fn extremes(times: &[Duration]) -> (Duration, Duration) {
    let least = times.iter().min().expect("something was measured");
    let greatest = times.iter().max().expect("something was measured");
    (*least, *greatest)
}

/// A time as people write it.
pub(crate) fn time(time: Duration) -> String {
    let seconds = time.as_secs_f64();
    let in_millis = seconds < 1.0;
    let number = format!("{:.3}", if in_millis { seconds * 1e3 } else { seconds });
    let digits = if in_millis { 2 } else { 0 };
    let shown = number[..number.len() - digits].trim_end_matches('0');
    let unit = if in_millis { "ms" } else { "s" };
    format!("{} {unit}", shown.trim_end_matches('.'))
}
