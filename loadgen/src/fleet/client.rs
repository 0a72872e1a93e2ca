//! The state of one client of a fleet: at most 112 bytes, without heap memory while the client is idle.

use tidewheel::ring::Token;
use tidewheel_codec::{CloseCode, Connection, handshake::ClientRequest};

use crate::fleet::{event::Opening, outcome::Expected};

/// A client and its operations in the kernel.
#[derive(Debug)]
pub(super) struct Client {
    pub(super) state: State,
    pub(super) under_way: UnderWay,
}

const _: () = assert!(size_of::<Client>() <= 112);

/// Generation of all tokens: no operation of a client outlives its socket.
const GENERATION: u32 = 0;

/// Returns the token of all operations of a client.
pub(super) const fn token(client: u32) -> Token {
    Token::new(GENERATION, client)
}

/// Set of a client's operations in the kernel. The descriptor is closed when the set is empty.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) struct UnderWay(u8);

impl UnderWay {
    pub(super) const NOTHING: Self = Self(0);
    pub(super) const CONNECT: Self = Self(1);
    pub(super) const RECEIVE: Self = Self(2);
    /// A send that waits until the socket has room.
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
    /// The client has no socket.
    Absent,
    /// The socket is being created and connected.
    Connecting(Opening),
    /// The TLS handshake is under way.
    Securing(Opening),
    /// The request was sent, and the response is awaited (RFC 6455 4.1).
    Upgrading(Box<Upgrade>),
    /// There is a TCP connection without a WebSocket handshake.
    Bare,
    /// The opening handshake is complete.
    Live {
        connection: Connection,
        stage: Stage,
        /// The code of the server's Close.
        received: Option<CloseCode>,
    },
    /// The connection has ended. The socket is closed when no operation is in the kernel.
    Leaving,
}

/// An opening handshake that waits for its response.
#[derive(Debug)]
pub(super) struct Upgrade {
    pub(super) request: ClientRequest<'static>,
    pub(super) check_echo: bool,
    /// The bytes received so far.
    pub(super) response: Vec<u8>,
}

#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) enum Stage {
    /// The first message was sent, and its echo is awaited.
    Checking,
    /// The client is open, and expects this of the server.
    Open(Expected),
}

impl Client {
    pub(super) const fn absent() -> Self {
        Self {
            state: State::Absent,
            under_way: UnderWay::NOTHING,
        }
    }
}
