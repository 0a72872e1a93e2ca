//! Mutual exclusion of the tests of a program that measure or share a resource.

use std::sync::{Mutex, MutexGuard, PoisonError};

/// Waits until no other test has the turn, and takes it until the guard is dropped.
pub(crate) fn take() -> MutexGuard<'static, ()> {
    static TURN: Mutex<()> = Mutex::new(());
    TURN.lock().unwrap_or_else(PoisonError::into_inner)
}
