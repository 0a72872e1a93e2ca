use std::time::Duration;

use crate::close::CloseCode;
use crate::violation::Violation;

/// A report of how a connection ended.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Disconnect {
    /// The side that ended the connection.
    pub initiator: Initiator,
    /// The reason of the end.
    pub cause: Cause,
    /// The peer's Close frame, if one arrived.
    pub received: Option<CloseFrame>,
    /// Our Close frame, if one was encoded. It may not have reached the peer.
    pub sent: Option<CloseFrame>,
    /// Time from the opening handshake to this report.
    pub lived: Duration,
    /// Messages and bytes that were sent and received.
    pub traffic: Traffic,
}

impl Disconnect {
    /// Returns _the WebSocket Connection Close Code_ (RFC 6455 7.1.5): that of the peer's Close frame, 1005
    /// if the frame had none, 1006 without a frame.
    #[must_use]
    pub fn code(&self) -> CloseCode {
        self.received
            .as_ref()
            .map_or(CloseCode::ABNORMAL_CLOSURE, |close| close.code)
    }
}

/// Counts of messages and payload bytes, without control frames.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct Traffic {
    /// Received messages.
    pub received_messages: u64,
    /// Payload bytes of received messages, after decompression.
    pub received_bytes: u64,
    /// Sent messages.
    pub sent_messages: u64,
    /// Payload bytes of sent messages, before compression.
    pub sent_bytes: u64,
}

/// The content of a Close frame (RFC 6455 5.5.1).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CloseFrame {
    /// The code; [`CloseCode::NO_STATUS_RECEIVED`] if the frame has none.
    pub code: CloseCode,
    /// The reason, at most 123 bytes. An empty one takes no heap memory.
    pub reason: Box<str>,
}

/// The side that ended a connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Initiator {
    /// The peer, which sent the first Close.
    Peer,
    /// We, with the first Close or without one.
    Local,
    /// The transport, which ended before any Close.
    Network,
}

impl Initiator {
    /// Returns the name in logs and metrics.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Peer => "peer",
            Self::Local => "local",
            Self::Network => "network",
        }
    }
}

/// The reason why a connection ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Cause {
    /// The peer started the closing handshake.
    PeerClose,
    /// The application started the closing handshake.
    LocalClose,
    /// No byte arrived within the ping interval plus the ping timeout.
    PingTimeout,
    /// No message arrived within the idle timeout.
    IdleTimeout,
    /// The transport delivered EOF before any Close frame.
    EofWithoutClose,
    /// The transport was reset or failed before any Close frame.
    Reset,
    /// The peer violated the protocol.
    ProtocolError(Violation),
    /// A frame or message exceeded a limit.
    TooBig,
    /// The send queue overflowed, because the peer reads too slowly.
    SlowConsumer,
    /// The peer did not answer the application's Close within the close timeout.
    CloseTimeout,
    /// The server is shutting down.
    Shutdown,
    /// The connection has reached its maximum lifetime.
    Lifetime,
    /// The peer exceeded the limit of messages in a second.
    MessageRate,
    /// The application panicked while it handled the connection.
    HandlerPanic,
}

impl Cause {
    /// The names of all causes in logs and metrics, in the order of [`index`](Self::index).
    pub const NAMES: &'static [&'static str] = &[
        "peer_close",
        "local_close",
        "ping_timeout",
        "idle_timeout",
        "eof_without_close",
        "reset",
        "protocol_error",
        "too_big",
        "slow_consumer",
        "close_timeout",
        "shutdown",
        "lifetime",
        "message_rate",
        "handler_panic",
    ];

    /// Returns the number of the cause, from 0, for counters by cause.
    #[must_use]
    pub const fn index(self) -> usize {
        match self {
            Self::PeerClose => 0,
            Self::LocalClose => 1,
            Self::PingTimeout => 2,
            Self::IdleTimeout => 3,
            Self::EofWithoutClose => 4,
            Self::Reset => 5,
            Self::ProtocolError(_) => 6,
            Self::TooBig => 7,
            Self::SlowConsumer => 8,
            Self::CloseTimeout => 9,
            Self::Shutdown => 10,
            Self::Lifetime => 11,
            Self::MessageRate => 12,
            Self::HandlerPanic => 13,
        }
    }

    /// Returns the name in logs and metrics.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        Self::NAMES[self.index()]
    }
}

impl From<Violation> for Cause {
    fn from(violation: Violation) -> Self {
        if violation.close_code() == CloseCode::MESSAGE_TOO_BIG {
            Self::TooBig
        } else {
            Self::ProtocolError(violation)
        }
    }
}
