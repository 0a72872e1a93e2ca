//! Repetition of measurements that other load of the machine may disturb.

/// Number of measurements, of which one has to meet its bound.
const TRIES_MAX: usize = 3;

/// Calls `measure` until it returns `Ok`.
///
/// # Panics
/// If it returns `Err`, a message about the missed bound, [`TRIES_MAX`] times.
#[track_caller]
pub(crate) fn until_ok(mut measure: impl FnMut() -> Result<(), String>) {
    for _ in 1..TRIES_MAX {
        match measure() {
            Ok(()) => return,
            Err(missed) => println!("measured again: {missed}"),
        }
    }
    if let Err(missed) = measure() {
        panic!("{missed}");
    }
}
