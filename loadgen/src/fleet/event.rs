//! Requests to the clients of a fleet, and the events that they report.

use crate::fleet::outcome::Outcome;

/// The handshake of a client that has a TCP connection.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) enum Opening {
    /// The opening handshake of WebSocket, and one message that must be echoed if `check_echo` is set.
    Upgrade {
        /// Whether the client sends a message and checks its echo before it counts as open.
        check_echo: bool,
    },
    /// No handshake: the client sends raw bytes only, and drops received bytes.
    TcpOnly,
}

/// Payload of a message that a client sends.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Payload<'a> {
    Binary(&'a [u8]),
    Text(&'a str),
}

/// An event of a client, which has the number that was given to `Fleet::connect`.
#[derive(Debug)]
pub(crate) enum Event {
    /// A client without a handshake has a TCP connection.
    Connected {
        /// Number of the client.
        client: u32,
    },
    /// The opening handshake is complete, and the first message was echoed if that is checked.
    Opened {
        /// Number of the client.
        client: u32,
    },
    /// A message arrived.
    Message {
        /// Number of the client.
        client: u32,
        /// Length of its payload, in bytes.
        length: u32,
        /// Its [fingerprint](crate::fleet::fingerprint::Fingerprint).
        fingerprint: u64,
    },
    /// The server's Close frame arrived.
    CloseReceived {
        /// Number of the client.
        client: u32,
    },
    /// The connection has ended, and nothing more is received or sent. Once for each connection.
    Ended {
        /// Number of the client.
        client: u32,
        /// The way it ended.
        outcome: Outcome,
        /// Further details, if there are any.
        detail: Option<String>,
    },
    /// The socket is closed, and the client may connect again. Once for each connection, after
    /// `Ended`.
    Released {
        /// Number of the client.
        client: u32,
    },
}
