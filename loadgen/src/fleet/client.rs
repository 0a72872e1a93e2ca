//! One client of a fleet: at most 112 bytes, and nothing on the heap while it is idle.

use tidewheel_codec::{CloseCode, Connection, handshake::ClientRequest};

use super::Approach;
use crate::outcome::Asked;

/// A client and what the kernel does for it.
#[derive(Debug)]
pub(super) struct Client {
    pub(super) state: State,
    pub(super) under_way: UnderWay,
}

const _: () = assert!(size_of::<Client>() <= 112);

/// What the kernel does for a client; the descriptor is not closed before all of it is over.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) struct UnderWay(u8);

impl UnderWay {
    pub(super) const NOTHING: Self = Self(0);
    pub(super) const CONNECT: Self = Self(1);
    pub(super) const RECEIVE: Self = Self(2);
    /// A send that waits for room.
    pub(super) const SEND: Self = Self(4);

    pub(super) const fn insert(&mut self, other: Self) {
        self.0 |= other.0;
    }

    pub(super) const fn remove(&mut self, other: Self) {
        self.0 &= !other.0;
    }

    pub(super) const fn contains(self, other: Self) -> bool {
        self.0 & other.0 == other.0
    }
}

#[derive(Debug)]
pub(super) enum State {
    /// There is no socket, not yet or no longer.
    Absent,
    /// SOCKET and CONNECT are with the kernel.
    Connecting(Approach),
    /// The TLS handshake is under way.
    Securing(Approach),
    /// The request is out, and the response is awaited (RFC 6455 4.1).
    Upgrading(Box<Upgrade>),
    /// There is a TCP connection, and nobody means to make a WebSocket of it.
    Bare,
    /// The handshake is done.
    Live {
        connection: Connection,
        stage: Stage,
        /// The code of the server's Close.
        received: Option<CloseCode>,
    },
    /// The outcome is known. The socket is closed as soon as nothing is under way on it.
    Leaving,
}

/// An opening handshake that waits for its response.
#[derive(Debug)]
pub(super) struct Upgrade {
    pub(super) request: ClientRequest<'static>,
    pub(super) check_echo: bool,
    /// All that was received so far.
    pub(super) response: Vec<u8>,
}

#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) enum Stage {
    /// The first message is out, and must come back.
    Checking,
    /// It is open, and this is asked of the server.
    Open(Asked),
}

impl Client {
    pub(super) const fn absent() -> Self {
        Self {
            state: State::Absent,
            under_way: UnderWay::NOTHING,
        }
    }
}
