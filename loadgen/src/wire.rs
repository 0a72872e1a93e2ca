//! The ring of a fleet, and the bytes that are lent to it.
//!
//! The invariant that makes the lending safe: bytes lie in chunks whose memory is reserved once
//! and never moves. A chunk that a send points into is emptied only after [`Ring::reap`] has
//! returned `None` behind the [`Ring::enter`] that submitted the send, and all sends are
//! [`SendMode::Silent`], so nothing of them is under way then. The ring is dropped before the
//! chunks.

use std::io;

use tidewheel::ring::{
    Completion, Op, Outbound, Ring, RingError, SendMode, Setup, Socket, Token, Uring, Wait,
};

/// The bytes that a chunk holds; a longer run gets a chunk of its own.
const CHUNK_SIZE: usize = 64 * 1024;

/// A ring that copies what it sends.
#[derive(Debug)]
pub(crate) struct Wire {
    ring: Uring,
    /// Chunks that sends not yet entered point into.
    queued: Vec<Vec<u8>>,
    /// Chunks that sends entered but perhaps not yet over point into.
    lent: Vec<Vec<u8>>,
    /// Chunks that nothing points into.
    spare: Vec<Vec<u8>>,
}

impl Wire {
    /// Makes a ring for the calling thread.
    ///
    /// # Errors
    /// Those of [`Uring::new`].
    pub(crate) fn new(setup: &Setup) -> Result<Self, RingError> {
        Ok(Self {
            ring: Uring::new(setup, None)?,
            queued: Vec::new(),
            lent: Vec::new(),
            spare: Vec::new(),
        })
    }

    /// Queues an operation.
    pub(crate) fn push(&mut self, op: Op, token: Token) {
        self.ring.push(op, token);
    }

    /// Queues a send of `bytes`, which completes only if the socket does not take all of them.
    pub(crate) fn send(&mut self, socket: Socket, bytes: &[u8], token: Token) {
        let room = |chunk: &Vec<u8>| chunk.capacity() - chunk.len();
        if self
            .queued
            .last()
            .is_none_or(|chunk| room(chunk) < bytes.len())
        {
            let mut chunk = self.spare.pop().unwrap_or_default();
            chunk.reserve_exact(bytes.len().max(CHUNK_SIZE));
            self.queued.push(chunk);
        }
        let chunk = self
            .queued
            .last_mut()
            .expect("has room, or was just pushed");
        let start = chunk.len();
        chunk.extend_from_slice(bytes);
        // SAFETY: the chunk had room, so it does not move; it is in `queued`, and emptied only
        // when its send is over (see the invariant above).
        let data = unsafe { Outbound::bytes(&chunk[start..]) };
        let send = Op::Send {
            socket,
            data,
            mode: SendMode::Silent,
            finish: false,
        };
        self.ring.push(send, token);
    }

    /// Submits what is queued and waits; see [`Ring::enter`].
    ///
    /// # Errors
    /// Those of [`Ring::enter`].
    pub(crate) fn enter(&mut self, wait: Wait) -> io::Result<()> {
        self.lent.append(&mut self.queued);
        self.ring.enter(wait)
    }

    /// Takes the next completion; call it until it gives `None`, before the next `enter`.
    pub(crate) fn reap(&mut self) -> Option<Completion> {
        let completion = self.ring.reap();
        if completion.is_none() {
            for mut chunk in self.lent.drain(..) {
                chunk.clear();
                self.spare.push(chunk);
            }
        }
        completion
    }

    /// Gives a receive buffer back.
    pub(crate) fn provide(&mut self, buffer: tidewheel::ring::Buffer) {
        self.ring.provide(buffer);
    }
}
