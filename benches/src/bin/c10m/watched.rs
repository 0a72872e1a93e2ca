//! A ring whose calls are told apart from the turn that they are made in.

use std::{
    cell::{Cell, RefCell, RefMut},
    io,
    net::IpAddr,
};

use bytes::BytesMut;
use tidewheel::ring::{AckProgress, Completion, Op, Ring, Token, Wait, Waker};

use crate::ledger::{Owner, on_behalf_of};

/// A ring, and how often the shard has called it. What it allocates meanwhile is not the server's.
pub(crate) struct Watched<R> {
    ring: RefCell<R>,
    /// Operations pushed, completions reaped, and looks that found no completion.
    calls: Cell<u64>,
    /// Completions reaped.
    reaped: Cell<u64>,
}

impl<R> Watched<R> {
    pub(crate) fn new(ring: R) -> Self {
        Self {
            ring: RefCell::new(ring),
            calls: Cell::new(0),
            reaped: Cell::new(0),
        }
    }

    /// The ring, between turns.
    pub(crate) fn ring(&self) -> RefMut<'_, R> {
        self.ring.borrow_mut()
    }

    pub(crate) fn calls(&self) -> u64 {
        self.calls.get()
    }

    pub(crate) fn reaped(&self) -> u64 {
        self.reaped.get()
    }

    fn call<T>(&mut self, call: impl FnOnce(&mut R) -> T) -> T {
        *self.calls.get_mut() += 1;
        on_behalf_of(Owner::Simulation, || call(self.ring.get_mut()))
    }
}

// SAFETY: it hands on every call as it is to a ring that keeps the promises, which nobody here replaces.
unsafe impl<R: Ring> Ring for Watched<R> {
    fn push(&mut self, op: Op, token: Token) {
        self.call(|ring| ring.push(op, token));
    }

    fn enter(&mut self, wait: Wait) -> io::Result<()> {
        on_behalf_of(Owner::Simulation, || self.ring.get_mut().enter(wait))
    }

    fn reap(&mut self) -> Option<Completion> {
        let completion = self.call(R::reap);
        *self.reaped.get_mut() += u64::from(completion.is_some());
        completion
    }

    fn take_filled(&mut self, fill: Token) -> BytesMut {
        self.call(|ring| ring.take_filled(fill))
    }

    fn buffers_free(&self) -> usize {
        self.ring.borrow().buffers_free()
    }

    fn stop_listening(&mut self) {
        self.call(R::stop_listening);
    }

    fn peer(&self, accept: Token) -> Option<IpAddr> {
        self.ring.borrow().peer(accept)
    }

    fn ack_progress(&self, query: Token) -> Option<AckProgress> {
        self.ring.borrow().ack_progress(query)
    }

    fn waker(&self) -> Waker {
        self.ring.borrow().waker()
    }
}
