//! A ring that counts its calls, and whose memory does not count as the server's.

use std::{
    cell::{Cell, RefCell, RefMut},
    io,
    net::SocketAddr,
};

use bytes::BytesMut;
use tidewheel::ring::{AckProgress, Completion, Op, Ring, Token, Wait, Waker};

use crate::memory_accounts::{Owner, on_behalf_of};

/// A ring and the number of its calls. Allocations of the ring count for the simulation.
pub(crate) struct CountingRing<R> {
    ring: RefCell<R>,
    /// Calls that push, reap or find no completion.
    calls: Cell<u64>,
    /// Completions that were reaped.
    completions: Cell<u64>,
}

impl<R> CountingRing<R> {
    /// Wraps a ring.
    pub(crate) fn new(ring: R) -> Self {
        Self {
            ring: RefCell::new(ring),
            calls: Cell::new(0),
            completions: Cell::new(0),
        }
    }

    /// Returns the ring, which may be used between turns.
    pub(crate) fn ring(&self) -> RefMut<'_, R> {
        self.ring.borrow_mut()
    }

    /// Returns the number of calls so far.
    pub(crate) fn calls(&self) -> u64 {
        self.calls.get()
    }

    /// Returns the number of completions so far.
    pub(crate) fn completions(&self) -> u64 {
        self.completions.get()
    }

    fn call<T>(&mut self, call: impl FnOnce(&mut R) -> T) -> T {
        *self.calls.get_mut() += 1;
        on_behalf_of(Owner::Simulation, || call(self.ring.get_mut()))
    }
}

// SAFETY: all calls are passed unchanged to one ring, which keeps the contract and is never replaced.
unsafe impl<R: Ring> Ring for CountingRing<R> {
    fn push(&mut self, op: Op, token: Token) {
        self.call(|ring| ring.push(op, token));
    }

    fn enter(&mut self, wait: Wait) -> io::Result<()> {
        on_behalf_of(Owner::Simulation, || self.ring.get_mut().enter(wait))
    }

    fn reap(&mut self) -> Option<Completion> {
        let completion = self.call(R::reap);
        *self.completions.get_mut() += u64::from(completion.is_some());
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

    fn peer(&self, accept: Token) -> Option<SocketAddr> {
        self.ring.borrow().peer(accept)
    }

    fn ack_progress(&self, query: Token) -> Option<AckProgress> {
        self.ring.borrow().ack_progress(query)
    }

    fn waker(&self) -> Waker {
        self.ring.borrow().waker()
    }
}
