//! Slots that limit the number of admin connections.
//!
//! A connection is *idle* from its accept until the head of a request has arrived, and from each response until
//! the head of the next request. When all slots are taken, the connection that has been idle longest is closed
//! for a new one. So idle connections, however many, do not block the listener.

use std::{
    cell::{Cell, RefCell},
    rc::Rc,
    time::Duration,
};

use slab::Slab;
use tokio::{
    sync::Notify,
    time::{Instant, timeout_at},
};

/// Maximum idle time of a connection: for the head of a request to arrive, and for a response to be read.
pub(super) const IDLE_TIMEOUT: Duration = Duration::from_secs(10);

/// Pause in the body of a request after which its connection may be evicted like an idle one.
const BODY_PAUSE_MAX: Duration = Duration::from_secs(1);

#[derive(Clone, Copy, Debug)]
enum State {
    /// No request has been in progress since that time.
    Idle { since: Instant },
    /// The body of a request arrives; its last part arrived at that time.
    Receiving { since: Instant },
    /// The slot was given to another connection. Final.
    Evicted,
}

impl State {
    /// The time from which the connection may be evicted.
    fn evictable_from(self) -> Option<Instant> {
        match self {
            Self::Idle { since } => Some(since),
            Self::Receiving { since } => Some(since + BODY_PAUSE_MAX),
            Self::Evicted => None,
        }
    }
}

/// All slots.
#[derive(Debug)]
pub(super) struct Slots {
    max: usize,
    taken: RefCell<Slab<Rc<Entry>>>,
    /// Wakes the task that waits for a slot.
    changed: Notify,
}

#[derive(Debug)]
struct Entry {
    state: Cell<State>,
    /// Wakes the task of the connection.
    changed: Notify,
}

/// The slot of a connection. Dropping it frees the slot.
#[derive(Debug)]
pub(super) struct Slot {
    slots: Rc<Slots>,
    key: usize,
    entry: Rc<Entry>,
}

impl Slots {
    /// Returns `max` free slots.
    ///
    /// # Panics
    /// If `max` is 0.
    pub(super) fn new(max: usize) -> Self {
        assert!(max > 0, "there is at least one slot");
        Self {
            max,
            taken: RefCell::default(),
            changed: Notify::new(),
        }
    }

    /// Takes a slot for a new connection. If all are taken, evicts the connection that has been idle longest,
    /// which ends in the next turn of the runtime. If none is idle, waits for one. Only one task may wait at a
    /// time.
    pub(super) async fn take(self: &Rc<Self>) -> Slot {
        loop {
            let is_full = self.taken.borrow().len() >= self.max;
            let Some(evictable_from) = is_full.then(|| self.evict_longest_idle()).flatten() else {
                return self.add();
            };
            let _ = timeout_at(evictable_from, self.changed.notified()).await;
        }
    }

    /// Evicts the connection that has been idle longest. If none may be evicted yet, returns the time from which
    /// the first one may be.
    pub(super) fn evict_longest_idle(&self) -> Option<Instant> {
        let mut taken = self.taken.borrow_mut();
        let candidates = taken
            .iter()
            .filter_map(|(key, it)| Some((it.state.get().evictable_from()?, key)));
        let (evictable_from, key) = candidates.min()?;
        if evictable_from > Instant::now() {
            return Some(evictable_from);
        }
        taken.remove(key).enter(State::Evicted);
        None
    }

    fn add(self: &Rc<Self>) -> Slot {
        let entry = Rc::new(Entry {
            state: Cell::new(State::Idle {
                since: Instant::now(),
            }),
            changed: Notify::new(),
        });
        Slot {
            key: self.taken.borrow_mut().insert(Rc::clone(&entry)),
            slots: Rc::clone(self),
            entry,
        }
    }
}

impl Entry {
    fn enter(&self, next: State) {
        match self.state.get() {
            State::Idle { .. } | State::Receiving { .. } => {
                self.state.set(next);
                self.changed.notify_one();
            }
            State::Evicted => {}
        }
    }
}

impl Slot {
    /// Notes that the head of a request, or a part of its body, has arrived.
    pub(super) fn received(&self) {
        self.enter(State::Receiving {
            since: Instant::now(),
        });
    }

    /// Notes that the response is made: the connection is idle again.
    pub(super) fn answered(&self) {
        self.enter(State::Idle {
            since: Instant::now(),
        });
    }

    fn enter(&self, next: State) {
        self.entry.enter(next);
        self.slots.changed.notify_one();
    }

    /// Waits until the connection must close: it has been idle for [`IDLE_TIMEOUT`], or is evicted.
    pub(super) async fn expired(&self) {
        loop {
            let changed = self.entry.changed.notified();
            match self.entry.state.get() {
                State::Evicted => return,
                State::Receiving { .. } => changed.await,
                State::Idle { since } => {
                    if timeout_at(since + IDLE_TIMEOUT, changed).await.is_err() {
                        return;
                    }
                }
            }
        }
    }
}

impl Drop for Slot {
    fn drop(&mut self) {
        match self.entry.state.get() {
            State::Idle { .. } | State::Receiving { .. } => {
                self.slots.taken.borrow_mut().remove(self.key);
                self.slots.changed.notify_one();
            }
            // The slot belongs to another connection.
            State::Evicted => {}
        }
    }
}

#[cfg(test)]
mod tests {
    use tokio::time::{advance, sleep};

    use super::*;

    const SECOND: Duration = Duration::from_secs(1);

    fn slots(max: usize) -> Rc<Slots> {
        Rc::new(Slots::new(max))
    }

    /// Whether a connection must close now.
    async fn is_expired(slot: &Slot) -> bool {
        timeout_at(Instant::now(), slot.expired()).await.is_ok()
    }

    #[tokio::test(start_paused = true)]
    async fn the_connection_that_has_been_idle_longest_is_evicted() {
        let slots = slots(3);
        let mut held = Vec::new();
        for _ in 0..3 {
            held.push(slots.take().await);
            advance(SECOND).await;
        }
        // Idle since a later time than the others.
        held[0].answered();
        let next = slots.take().await;
        let mut expired = Vec::new();
        for slot in [&held[0], &held[1], &held[2], &next] {
            expired.push(is_expired(slot).await);
        }
        assert_eq!(expired, [false, true, false, false]);
        // An evicted connection stays evicted, and does not free its slot again.
        held[1].answered();
        assert!(is_expired(&held[1]).await);
        drop(held);
        assert_eq!(slots.taken.borrow().len(), 1);
    }

    #[tokio::test(start_paused = true)]
    async fn a_thousand_idle_connections_do_not_delay_the_next_one() {
        let slots = slots(64);
        let mut held = Vec::new();
        let start = Instant::now();
        for _ in 0..1000 {
            held.push(slots.take().await);
        }
        assert_eq!(start.elapsed(), Duration::ZERO);
        let mut expired = 0;
        for slot in &held {
            expired += usize::from(is_expired(slot).await);
        }
        assert_eq!(expired, 1000 - 64);
    }

    #[tokio::test(start_paused = true)]
    async fn a_connection_whose_body_pauses_for_a_second_is_evicted() {
        let slots = slots(1);
        let uploading = slots.take().await;
        uploading.received();
        let start = Instant::now();
        let next = slots.take();
        let upload = async {
            sleep(SECOND / 2).await;
            uploading.received();
            uploading.expired().await;
        };
        let (_next, ()) = tokio::join!(next, upload);
        assert_eq!(start.elapsed(), SECOND / 2 + BODY_PAUSE_MAX);
    }

    #[tokio::test(start_paused = true)]
    async fn a_waiting_connection_gets_a_slot_that_becomes_free_or_idle() {
        for becomes_free in [true, false] {
            let slots = slots(1);
            let busy = slots.take().await;
            busy.received();
            let start = Instant::now();
            let end = async {
                sleep(SECOND / 4).await;
                if becomes_free {
                    drop(busy);
                } else {
                    busy.answered();
                }
            };
            tokio::join!(slots.take(), end);
            assert_eq!(start.elapsed(), SECOND / 4);
        }
    }

    #[tokio::test(start_paused = true)]
    async fn the_idle_timeout_starts_again_with_each_response() {
        let slots = slots(1);
        let slot = slots.take().await;
        let start = Instant::now();
        let answer = async {
            sleep(3 * SECOND).await;
            slot.received();
            // The idle timeout does not apply to a body.
            sleep(2 * IDLE_TIMEOUT).await;
            slot.answered();
        };
        tokio::join!(slot.expired(), answer);
        assert_eq!(start.elapsed(), 3 * SECOND + 3 * IDLE_TIMEOUT);
    }
}
