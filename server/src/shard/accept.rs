//! Accepting connections, and never one too many.
//!
//! A full table of direct descriptors ends a multishot accept with `ENFILE` and drops the client
//! that it had accepted. So the multishot accept runs only while there is ample room, and single
//! accepts, no more than there are free places, fill the rest. Who comes when all are taken waits
//! in the listener's backlog.

use std::time::Duration;

use tidewheel_codec::Time;

use super::{Life, Shard};
use crate::{
    Handler,
    connection::Connection,
    ring::{Completion, Op, OpCode, Ring, Socket, Token},
};

/// With fewer free places than this, connections are accepted one by one. A listener's whole
/// backlog, and what comes meanwhile, may be accepted before a multishot accept can be stopped.
const AMPLE: u32 = 8192;

/// Single accepts under way at once.
const SINGLE_ACCEPTS_MAX: u32 = 64;

/// After the system has run out of descriptors or memory.
const RETRY_AFTER: Duration = Duration::from_secs(1);

/// The slot in the token of a multishot accept; single accepts have [`SINGLE`].
const MULTISHOT: u32 = 0;
const SINGLE: u32 = 1;

/// What is under way to accept connections.
#[derive(Debug)]
pub(super) struct Acceptor {
    capacity: u32,
    multishot: Multishot,
    /// Single accepts under way.
    singles: u32,
    stopped: bool,
    /// The system as a whole is out of something: not before then is it asked again.
    retry_at: Option<Time>,
}

#[derive(Clone, Copy, Debug, Eq, PartialEq)]
enum Multishot {
    Off,
    Armed,
    Cancelling,
}

impl Acceptor {
    pub(super) fn new(capacity: u32) -> Self {
        Self {
            capacity,
            multishot: Multishot::Off,
            singles: 0,
            stopped: false,
            retry_at: None,
        }
    }

    /// Ends all accepts.
    pub(super) fn stop(&mut self, ring: &mut impl Ring) {
        self.stopped = true;
        self.cancel_multishot(ring);
        if self.singles > 0 {
            let target = token(SINGLE);
            ring.push(Op::Cancel { target }, cancel());
        }
    }

    /// Whether none is under way, and none will be.
    pub(super) fn is_stopped(&self) -> bool {
        self.stopped && self.singles == 0 && self.multishot == Multishot::Off
    }

    /// How long until the system is asked again, where it had said no.
    pub(super) fn retry_in(&self, now: Time) -> Option<Duration> {
        self.retry_at.map(|time| time.since(now))
    }

    fn cancel_multishot(&mut self, ring: &mut impl Ring) {
        if self.multishot == Multishot::Armed {
            self.multishot = Multishot::Cancelling;
            ring.push(
                Op::Cancel {
                    target: token(MULTISHOT),
                },
                cancel(),
            );
        }
    }

    /// Arms what the number of free places asks for.
    fn arm(&mut self, open: u32, now: Time, ring: &mut impl Ring) {
        if self.stopped || self.retry_at.is_some_and(|time| now < time) {
            return;
        }
        self.retry_at = None;
        let free = self.capacity - open;
        if free > AMPLE {
            if self.multishot == Multishot::Off && self.singles == 0 {
                self.multishot = Multishot::Armed;
                ring.push(Op::Accept { multishot: true }, token(MULTISHOT));
            }
            return;
        }
        self.cancel_multishot(ring);
        if self.multishot == Multishot::Off {
            while self.singles < free.min(SINGLE_ACCEPTS_MAX) {
                self.singles += 1;
                ring.push(Op::Accept { multishot: false }, token(SINGLE));
            }
        }
    }

    fn completed(&mut self, completion: &Completion) {
        match completion.token.slot() {
            SINGLE => self.singles -= 1,
            _ if !completion.more => self.multishot = Multishot::Off,
            _ => {}
        }
    }
}

fn token(slot: u32) -> Token {
    Token::new(OpCode::Accept, 0, slot)
}

fn cancel() -> Token {
    Token::new(OpCode::Cancel, 0, 0)
}

impl<R: Ring, H: Handler> Shard<R, H> {
    /// Accepts as many connections as there is room for.
    pub(super) fn accept_more(&mut self, now: Time) {
        self.acceptor
            .arm(self.connections.len() as u32, now, &mut self.ring);
    }

    pub(super) fn accepted(&mut self, completion: &Completion, now: Time) {
        self.acceptor.completed(completion);
        match u32::try_from(completion.result) {
            Ok(socket) => self.welcome(Socket(socket), now),
            Err(_) => match -completion.result {
                // The peer was gone before it was accepted, or we stopped.
                libc::ECONNABORTED | libc::ECANCELED | libc::EAGAIN | libc::EINTR => {}
                errno => {
                    let error = std::io::Error::from_raw_os_error(errno);
                    tracing::warn!(shard = self.settings.index, %error, "accept failed; trying again in a second");
                    self.acceptor.retry_at = Some(now + RETRY_AFTER);
                }
            },
        }
        self.accept_more(now);
    }

    /// Gives a new connection its slot, its deadline and its receive.
    fn welcome(&mut self, socket: Socket, now: Time) {
        self.generation = (self.generation + 1) % Token::GENERATIONS;
        let connection = Connection::new(
            socket,
            self.generation,
            now + self.settings.handshake_timeout,
        );
        let slot = self.connections.insert(connection) as u32;
        self.stats.accepts.add(1);
        self.stats.connections.set(self.connections.len() as u64);
        self.arm(slot);
        self.schedule(slot);
        if let Life::Draining { .. } = self.life {
            // It was accepted before the accept could be stopped.
            self.say_goodbye(slot, now);
        }
    }
}
