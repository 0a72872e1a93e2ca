//! Overload: R25, and fairness between connections.
//!
//! `cargo test -p tidewheel --test overload -- --nocapture`
//!
//! Each test runs the program with clients that overload it, and measures the round trips of another
//! client. It prints each measurement beside its bound. One test runs at a time.
//! `TIDEWHEEL_OVERLOAD_SECONDS` is the duration of each overload in seconds (default: 3).
//! `TIDEWHEEL_PROGRAM` is the path of an optimised build of the program.

#[path = "../support/mod.rs"]
mod support;

mod floods;
mod memory;
mod publishing;
mod readers;

use std::time::{Duration, Instant};

use support::{prober::Prober, scheduling_delay};

/// Returns the duration of an overload.
fn overload_duration() -> Duration {
    let seconds = std::env::var("TIDEWHEEL_OVERLOAD_SECONDS");
    let seconds = seconds.map_or(3, |text| text.parse().expect("a number of seconds"));
    Duration::from_secs(seconds)
}

/// Time between the starts of two round trips of a prober.
const PROBE_INTERVAL: Duration = Duration::from_millis(4);

/// Prints the 99th percentile of a prober's round trips since `since` beside its bound.
///
/// # Errors
/// A message, if the 99th percentile exceeds the bound and the scheduling delay.
fn check_p99(prober: &Prober, what: &str, since: Instant, bound: Duration) -> Result<(), String> {
    let (p99, longest) = prober.p99_since(since);
    let delay = scheduling_delay::p99_since(since);
    report(&format!(
        "{what}: round trips of another client: p99 {p99:.1?} (bound {bound:?} plus {delay:.1?} of \
         scheduling delay), longest {longest:.1?}"
    ));
    match p99 <= bound + delay {
        true => Ok(()),
        false => Err(format!(
            "{what}: p99 {p99:?}; the bound is {bound:?} plus {delay:?} of scheduling delay"
        )),
    }
}

/// Prints a measurement.
fn report(what: &str) {
    println!("{what}");
}
