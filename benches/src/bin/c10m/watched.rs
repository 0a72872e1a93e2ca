//! A ring whose calls are told apart from the turn that they are made in.

use std::{io, net::IpAddr};

use bytes::BytesMut;
use tidewheel::ring::{Bell, Buffer, Completion, Op, Ring, Token, Wait};

use crate::ledger::{Owner, on_behalf_of};

/// A ring, and how often the shard has called it. What it allocates meanwhile is not the server's.
pub(crate) struct Watched<R> {
    pub(crate) ring: R,
    /// Operations pushed, completions reaped, buffers provided, and looks that found no completion.
    pub(crate) calls: u64,
    /// Completions reaped.
    pub(crate) reaped: u64,
}

impl<R> Watched<R> {
    pub(crate) fn new(ring: R) -> Self {
        Self {
            ring,
            calls: 0,
            reaped: 0,
        }
    }

    fn call<T>(&mut self, call: impl FnOnce(&mut R) -> T) -> T {
        self.calls += 1;
        on_behalf_of(Owner::Simulation, || call(&mut self.ring))
    }
}

impl<R: Ring> Ring for Watched<R> {
    fn push(&mut self, op: Op, token: Token) {
        self.call(|ring| ring.push(op, token));
    }

    fn enter(&mut self, wait: Wait) -> io::Result<()> {
        on_behalf_of(Owner::Simulation, || self.ring.enter(wait))
    }

    fn reap(&mut self) -> Option<Completion> {
        let completion = self.call(R::reap);
        self.reaped += u64::from(completion.is_some());
        completion
    }

    fn take_filled(&mut self, fill: Token) -> BytesMut {
        self.call(|ring| ring.take_filled(fill))
    }

    fn provide(&mut self, buffer: Buffer) {
        self.call(|ring| ring.provide(buffer));
    }

    fn buffers_free(&self) -> usize {
        self.ring.buffers_free()
    }

    fn stop_listening(&mut self) {
        self.call(R::stop_listening);
    }

    fn peer(&self, accept: Token) -> Option<IpAddr> {
        self.ring.peer(accept)
    }

    fn bell(&self) -> Bell {
        self.ring.bell()
    }
}
