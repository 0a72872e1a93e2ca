//! The record of a run, and the virtual clock of its futures.

use std::{
    cell::{Cell, RefCell},
    collections::BTreeSet,
    panic::panic_any,
    rc::Rc,
    task::Waker,
    time::Duration,
};

use tidewheel::{ConnectionId, Disconnect, Time};

use super::later::Pending;

/// Maximum number of bytes that the handler sends and publishes in a run, beside echoes.
/// A send of the simulation copies the whole queue, so a long queue for a socket that takes little is slow.
const OUTPUT_BYTES_MAX: usize = 1 << 18;

/// Maximum number of tasks and timers of a run.
const STARTS_MAX: usize = 1 << 12;

/// The payload of a panic that the input requests.
pub(crate) struct RequestedPanic;

/// The handler's record of a connection.
#[derive(Debug)]
pub(crate) struct ConnectionRecord {
    pub(crate) id: ConnectionId,
    /// The client's index, from the path of its request.
    pub(crate) client: Option<usize>,
    /// Number of `open` calls.
    pub(crate) opens: usize,
    /// Time of the `open` call.
    pub(crate) opened: Time,
    pub(crate) pending: Rc<Pending>,
    /// The arguments of the `close` calls.
    pub(crate) ends: Vec<Disconnect>,
}

/// The handler's record of a run.
#[derive(Debug, Default)]
pub(crate) struct Record {
    pub(crate) connections: RefCell<Vec<ConnectionRecord>>,
    /// Topics that are active, by the last call for each.
    pub(crate) active_topics: RefCell<BTreeSet<String>>,
    /// Whether the next callback for a topic panics.
    pub(crate) presence_panics: Cell<bool>,
    /// Number of dropped messages that `gap` reported.
    pub(crate) missed: Cell<u64>,
    /// Number of closures that were called after a task.
    pub(crate) tasks: Cell<usize>,
    /// Number of timers that expired.
    pub(crate) timers: Cell<usize>,
    /// Number of closures of other threads that were called.
    pub(crate) calls: Cell<usize>,
    /// Number of futures that exist.
    pub(crate) futures: Cell<usize>,
    /// Number of panics in callbacks that were not requested.
    pub(crate) unexpected_panics: Cell<usize>,
    /// Whether the current panic of a callback was requested.
    is_panic_requested: Cell<bool>,
    /// Number of bytes sent beside echoes.
    output: Cell<usize>,
    /// Number of tasks and timers.
    starts: Cell<usize>,
    now: Cell<Time>,
    /// The futures that wait for a time.
    sleepers: RefCell<Vec<(Time, Waker)>>,
}

impl Record {
    pub(crate) fn panic(&self) -> ! {
        self.is_panic_requested.set(true);
        panic_any(RequestedPanic)
    }

    /// Runs a callback, and counts a panic that was not requested, because the shard contains it.
    pub(crate) fn watch<T>(&self, callback: impl FnOnce() -> T) -> T {
        struct Watch<'a>(&'a Record);
        impl Drop for Watch<'_> {
            fn drop(&mut self) {
                if std::thread::panicking() && !self.0.is_panic_requested.replace(false) {
                    self.0
                        .unexpected_panics
                        .set(self.0.unexpected_panics.get() + 1);
                }
            }
        }
        // A destructor outside of callbacks may have set it.
        self.is_panic_requested.set(false);
        let _watch = Watch(self);
        callback()
    }

    /// Counts `bytes` of output, unless that exceeds the limit; returns whether they may be sent.
    pub(crate) fn take_quota(&self, bytes: usize) -> bool {
        take(&self.output, bytes, OUTPUT_BYTES_MAX)
    }

    /// Counts a task or a timer, unless that exceeds the limit; returns whether it may be started.
    pub(crate) fn take_start(&self) -> bool {
        take(&self.starts, 1, STARTS_MAX)
    }

    pub(crate) fn now(&self) -> Time {
        self.now.get()
    }

    /// Sets the time, and wakes the futures that wait for it.
    pub(crate) fn set_now(&self, now: Time) {
        self.now.set(now);
        let mut sleepers = self.sleepers.borrow_mut();
        for (_, waker) in sleepers.extract_if(.., |(until, _)| *until <= now) {
            waker.wake();
        }
    }

    /// Wakes a future at `until`.
    pub(crate) fn wake_at(&self, until: Time, waker: &Waker) {
        self.sleepers.borrow_mut().push((until, waker.clone()));
    }

    /// Whether a future waits for a time.
    pub(crate) fn has_sleepers(&self) -> bool {
        !self.sleepers.borrow().is_empty()
    }

    /// Time until the next future is woken.
    pub(crate) fn next_in(&self) -> Option<Duration> {
        let sleepers = self.sleepers.borrow();
        let next = sleepers.iter().map(|(until, _)| *until).min()?;
        Some(next.since(self.now.get()))
    }
}

/// Adds `count` to `taken`, unless that exceeds the limit; returns whether it did.
fn take(taken: &Cell<usize>, count: usize, limit: usize) -> bool {
    let total = taken.get() + count;
    let is_allowed = total <= limit;
    if is_allowed {
        taken.set(total);
    }
    is_allowed
}

/// Adds one to a count.
pub(crate) fn count(counter: &Cell<usize>) {
    counter.set(counter.get() + 1);
}
