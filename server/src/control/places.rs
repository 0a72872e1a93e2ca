//! The places of the admin listener's connections, and which connection has to make room for a new one.
//!
//! A connection is *idle* from when it is accepted until the head of a request has come, and from each
//! answer until the head of the next request. When all places are taken, the connection that has been idle
//! longest is closed. So idle connections keep nobody out, however many there are.

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

/// Time for which a connection may be idle: for the head of a request to arrive, and for an answer to be read.
pub(super) const IDLE_TIMEOUT: Duration = Duration::from_secs(10);

/// A request whose body has paused for this time is no better than an idle connection.
const BODY_PAUSE: Duration = Duration::from_secs(1);

#[derive(Clone, Copy, Debug)]
enum State {
    /// No request is under way since then.
    Idle { since: Instant },
    /// The body of a request arrives; the last of it came then.
    Receiving { since: Instant },
    /// The place belongs to another connection. This state is final.
    Revoked,
}

impl State {
    /// The time at which the connection began, or begins, to be one that may be closed for a new one.
    fn revocable(self) -> Option<Instant> {
        match self {
            Self::Idle { since } => Some(since),
            Self::Receiving { since } => Some(since + BODY_PAUSE),
            Self::Revoked => None,
        }
    }
}

/// All places.
#[derive(Debug)]
pub(super) struct Places {
    max: usize,
    taken: RefCell<Slab<Rc<Tenant>>>,
    /// Wakes the one who waits for a place.
    changed: Notify,
}

#[derive(Debug)]
struct Tenant {
    state: Cell<State>,
    /// Wakes the connection.
    changed: Notify,
}

/// A connection's place, which is free when this is dropped.
#[derive(Debug)]
pub(super) struct Place {
    places: Rc<Places>,
    key: usize,
    tenant: Rc<Tenant>,
}

impl Places {
    /// # Panics
    /// If there are none.
    pub(super) fn new(max: usize) -> Self {
        assert!(max > 0, "a connection needs a place");
        Self {
            max,
            taken: RefCell::default(),
            changed: Notify::new(),
        }
    }

    /// Takes a place for a new connection. If all are taken, the connection that has been idle longest
    /// loses its place, and ends in the next turn of the runtime; if none is idle, this waits for one. Only
    /// one caller may wait at a time.
    pub(super) async fn take(self: &Rc<Self>) -> Place {
        loop {
            let is_full = self.taken.borrow().len() >= self.max;
            let Some(due) = is_full.then(|| self.revoke_longest_idle()).flatten() else {
                return self.add();
            };
            let _ = timeout_at(due, self.changed.notified()).await;
        }
    }

    /// Takes the place of the connection that has been idle longest. If none is idle, tells when the first
    /// one will count as idle.
    pub(super) fn revoke_longest_idle(&self) -> Option<Instant> {
        let mut taken = self.taken.borrow_mut();
        let idle = taken
            .iter()
            .filter_map(|(key, it)| Some((it.state.get().revocable()?, key)));
        let (due, key) = idle.min()?;
        if due > Instant::now() {
            return Some(due);
        }
        taken.remove(key).enter(State::Revoked);
        None
    }

    fn add(self: &Rc<Self>) -> Place {
        let tenant = Rc::new(Tenant {
            state: Cell::new(State::Idle {
                since: Instant::now(),
            }),
            changed: Notify::new(),
        });
        Place {
            key: self.taken.borrow_mut().insert(Rc::clone(&tenant)),
            places: Rc::clone(self),
            tenant,
        }
    }
}

impl Tenant {
    fn enter(&self, next: State) {
        match self.state.get() {
            State::Idle { .. } | State::Receiving { .. } => {
                self.state.set(next);
                self.changed.notify_one();
            }
            State::Revoked => {}
        }
    }
}

impl Place {
    /// A part of a request's body has come, or its head.
    pub(super) fn received(&self) {
        self.enter(State::Receiving {
            since: Instant::now(),
        });
    }

    /// The request is answered: the connection is idle again.
    pub(super) fn answered(&self) {
        self.enter(State::Idle {
            since: Instant::now(),
        });
    }

    fn enter(&self, next: State) {
        self.tenant.enter(next);
        self.places.changed.notify_one();
    }

    /// Waits until the connection has to be closed: because it was idle for [`IDLE_TIMEOUT`], or because
    /// another one gets its place.
    pub(super) async fn over(&self) {
        loop {
            let changed = self.tenant.changed.notified();
            match self.tenant.state.get() {
                State::Revoked => return,
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

impl Drop for Place {
    fn drop(&mut self) {
        match self.tenant.state.get() {
            State::Idle { .. } | State::Receiving { .. } => {
                self.places.taken.borrow_mut().remove(self.key);
                self.places.changed.notify_one();
            }
            // The place belongs to another connection.
            State::Revoked => {}
        }
    }
}

#[cfg(test)]
mod tests {
    use tokio::time::{advance, sleep};

    use super::*;

    const SECOND: Duration = Duration::from_secs(1);

    fn places(max: usize) -> Rc<Places> {
        Rc::new(Places::new(max))
    }

    /// Whether a connection has to be closed now.
    async fn is_over(place: &Place) -> bool {
        timeout_at(Instant::now(), place.over()).await.is_ok()
    }

    #[tokio::test(start_paused = true)]
    async fn the_connection_that_has_been_idle_longest_gives_way() {
        let places = places(3);
        let mut held = Vec::new();
        for _ in 0..3 {
            held.push(places.take().await);
            advance(SECOND).await;
        }
        // It was answered since the others came.
        held[0].answered();
        let next = places.take().await;
        let over = [&held[0], &held[1], &held[2], &next].map(is_over);
        let mut told = Vec::new();
        for over in over {
            told.push(over.await);
        }
        assert_eq!(told, [false, true, false, false]);
        // A place that was taken away stays so, and does not become free twice.
        held[1].answered();
        assert!(is_over(&held[1]).await);
        drop(held);
        assert_eq!(places.taken.borrow().len(), 1);
    }

    #[tokio::test(start_paused = true)]
    async fn a_thousand_idle_connections_keep_nobody_out() {
        let places = places(64);
        let mut held = Vec::new();
        let start = Instant::now();
        for _ in 0..1000 {
            held.push(places.take().await);
        }
        assert_eq!(start.elapsed(), Duration::ZERO);
        let mut over = 0;
        for place in &held {
            over += usize::from(is_over(place).await);
        }
        assert_eq!(over, 1000 - 64);
    }

    #[tokio::test(start_paused = true)]
    async fn a_body_that_has_paused_for_a_second_gives_way() {
        let places = places(1);
        let uploading = places.take().await;
        uploading.received();
        let start = Instant::now();
        let next = places.take();
        let upload = async {
            sleep(SECOND / 2).await;
            uploading.received();
            uploading.over().await;
        };
        let (_next, ()) = tokio::join!(next, upload);
        assert_eq!(start.elapsed(), SECOND / 2 + BODY_PAUSE);
    }

    #[tokio::test(start_paused = true)]
    async fn whoever_waits_gets_a_place_that_becomes_free_or_idle() {
        for becomes_free in [true, false] {
            let places = places(1);
            let busy = places.take().await;
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
            tokio::join!(places.take(), end);
            assert_eq!(start.elapsed(), SECOND / 4);
        }
    }

    #[tokio::test(start_paused = true)]
    async fn an_idle_connection_has_a_deadline_from_each_answer() {
        let places = places(1);
        let place = places.take().await;
        let start = Instant::now();
        let answer = async {
            sleep(3 * SECOND).await;
            place.received();
            // The body has a deadline of its own.
            sleep(2 * IDLE_TIMEOUT).await;
            place.answered();
        };
        tokio::join!(place.over(), answer);
        assert_eq!(start.elapsed(), 3 * SECOND + 3 * IDLE_TIMEOUT);
    }
}
