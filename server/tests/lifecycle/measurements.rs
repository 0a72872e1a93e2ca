//! Measurements, printed and compared with their bounds.

use std::{
    sync::{Mutex, PoisonError},
    time::{Duration, Instant},
};

use crate::support::{SLACK, process::Server, scheduling_delay, socket_table, wait};

/// Time that a test waits beyond a bound, in order to print the actual time.
const EXTRA_WAIT: Duration = Duration::from_secs(10);

/// R10: time until the kernel keeps no orphan.
const ORPHANS_GONE_MAX: Duration = Duration::from_millis(500);

/// Start of the current test.
static START: Mutex<Option<Instant>> = Mutex::new(None);

/// Notes the start of a test.
pub(crate) fn begin() {
    *START.lock().unwrap_or_else(PoisonError::into_inner) = Some(wait::now());
}

/// Returns a bound, extended by the scheduling delay since the start of the test.
fn extended(bound: Duration) -> Duration {
    let start = START.lock().unwrap_or_else(PoisonError::into_inner);
    bound + scheduling_delay::since(start.expect("a test has begun"))
}

/// Prints a measurement for a rule.
pub(crate) fn report(rule: &str, what: &str) {
    println!("{rule:<4}{what}");
}

/// Prints a time beside its bound, and asserts the bound.
#[track_caller]
pub(crate) fn assert_within(rule: &str, what: &str, took: Duration, bound: Duration) {
    if let Err(missed) = check_within(rule, what, took, bound) {
        panic!("{missed}");
    }
}

/// Prints a time beside its bound.
///
/// # Errors
/// A message, if the time exceeds the bound and the scheduling delay.
pub(crate) fn check_within(
    rule: &str,
    what: &str,
    took: Duration,
    bound: Duration,
) -> Result<(), String> {
    let (took_shown, bound_shown) = (time(took), time(bound));
    report(rule, &format!("{what} {took_shown} (bound {bound_shown})"));
    if took <= bound {
        return Ok(());
    }
    let allowed = extended(bound);
    if took <= allowed {
        return Ok(());
    }
    Err(format!(
        "{what} {took:?}; the bound is {bound:?}, {allowed:?} with scheduling delay"
    ))
}

/// Prints the earliest and the latest of `times` beside their bounds, and asserts the bounds.
#[track_caller]
pub(crate) fn assert_between(
    rule: &str,
    what: &str,
    times: &[Duration],
    bounds: (Duration, Duration),
) {
    let (earliest, latest) = extremes(times);
    report(
        rule,
        &format!(
            "{what} {} to {} (bounds {} and {})",
            time(earliest),
            time(latest),
            time(bounds.0),
            time(bounds.1)
        ),
    );
    assert!(earliest >= bounds.0, "{earliest:?} is too early");
    assert!(
        latest <= bounds.1 || latest <= extended(bounds.1),
        "{latest:?} is too late"
    );
}

/// Prints a number of bytes beside its bound, and asserts the bound.
#[track_caller]
pub(crate) fn assert_bytes(rule: &str, what: &str, bytes: u64, bound: u64) {
    let mib = |bytes: u64| bytes as f64 / f64::from(1 << 20);
    let (got, allowed) = (mib(bytes), mib(bound));
    report(
        rule,
        &format!("{what} {got:.1} MiB (bound {allowed:.1} MiB)"),
    );
    assert!(bytes <= bound, "{what} {bytes} bytes; the bound is {bound}");
}

/// Asserts that all connections are gone within `bound` of `start`, and that then the kernel keeps no orphan
/// (R10).
#[track_caller]
pub(crate) fn assert_gone(
    rule: &str,
    what: &str,
    server: &Server,
    start: Instant,
    bound: Duration,
) {
    server.until_empty(bound.saturating_sub(start.elapsed()) + EXTRA_WAIT);
    let took = start.elapsed();
    let orphans = socket_table::orphans(server.port());
    wait::until(EXTRA_WAIT, "no orphan is left", || {
        socket_table::orphans(server.port()) == 0
    });
    let orphans_gone = start.elapsed().saturating_sub(took);
    assert_within(rule, &format!("{what}: all gone after"), took, bound);
    assert_within(
        "R10",
        &format!("{what}: {orphans} orphans when all are gone, 0 after"),
        orphans_gone,
        ORPHANS_GONE_MAX,
    );
    wait::until(SLACK, "no direct descriptor is left", || {
        server.direct_descriptors() == Some(0)
    });
}

/// Returns the least and the greatest.
fn extremes(times: &[Duration]) -> (Duration, Duration) {
    let least = times.iter().min().expect("at least one time");
    let greatest = times.iter().max().expect("at least one time");
    (*least, *greatest)
}

/// Formats a time in seconds or milliseconds.
pub(crate) fn time(time: Duration) -> String {
    let seconds = time.as_secs_f64();
    let in_millis = seconds < 1.0;
    let number = format!("{:.3}", if in_millis { seconds * 1e3 } else { seconds });
    let digits = if in_millis { 2 } else { 0 };
    let shown = number[..number.len() - digits].trim_end_matches('0');
    let unit = if in_millis { "ms" } else { "s" };
    format!("{} {unit}", shown.trim_end_matches('.'))
}
