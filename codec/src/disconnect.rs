use std::time::Duration;

use crate::close::CloseCode;
use crate::violation::Violation;

/// How a connection ended: who, why, and which codes went which way.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Disconnect {
    /// Who ended it.
    pub initiator: Initiator,
    /// Why it ended.
    pub cause: Cause,
    /// The peer's Close frame, if one arrived.
    pub received: Option<CloseFrame>,
    /// Our Close frame, if one was encoded; whether it reached the peer is unknown.
    pub sent: Option<CloseFrame>,
    /// From the opening handshake to this report.
    pub lived: Duration,
    /// Messages that went both ways.
    pub traffic: Traffic,
}

impl Disconnect {
    /// _The WebSocket Connection Close Code_ (RFC 6455 7.1.5): what the peer sent, 1005 if its
    /// Close had no code, 1006 if there was no Close.
    #[must_use]
    pub fn code(&self) -> CloseCode {
        self.received
            .as_ref()
            .map_or(CloseCode::ABNORMAL_CLOSURE, |close| close.code)
    }
}

/// Messages and payload bytes of a connection; control frames do not count.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Traffic {
    /// Messages from the peer.
    pub received_messages: u64,
    /// Payload bytes of the messages from the peer.
    pub received_bytes: u64,
    /// Messages to the peer.
    pub sent_messages: u64,
    /// Payload bytes of the messages to the peer.
    pub sent_bytes: u64,
}

/// The content of a Close frame (RFC 6455 5.5.1).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CloseFrame {
    /// The code; [`CloseCode::NO_STATUS_RECEIVED`] when the frame had none.
    pub code: CloseCode,
    /// The reason, at most 123 bytes of UTF-8; without allocation when empty.
    pub reason: Box<str>,
}

/// Who ended a connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Initiator {
    /// The peer sent Close first.
    Peer,
    /// We sent Close first, or were stopped.
    Local,
    /// The transport ended with no Close in either direction.
    Network,
}

impl Initiator {
    /// The name in logs and metrics.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Peer => "peer",
            Self::Local => "local",
            Self::Network => "network",
        }
    }
}

/// Why a connection ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Cause {
    /// The peer started the closing handshake.
    PeerClose,
    /// The application started the closing handshake.
    LocalClose,
    /// Nothing was heard from the peer within the ping interval and timeout.
    PingTimeout,
    /// No message arrived within the idle timeout.
    IdleTimeout,
    /// The transport delivered EOF, and no Close frame went either way.
    EofWithoutClose,
    /// The transport was reset or failed, and no Close frame went either way.
    Reset,
    /// The peer broke a rule of the protocol.
    ProtocolError(Violation),
    /// A frame or message was above the limits.
    TooBig,
    /// The peer reads too slowly: its send queue overflowed.
    SlowConsumer,
    /// The peer did not answer the application's Close within the close timeout.
    CloseTimeout,
    /// The server shut down.
    Shutdown,
    /// The connection reached its maximum lifetime.
    Lifetime,
    /// The peer sent more messages in a second than it may.
    MessageRate,
    /// The application panicked while it handled the connection.
    HandlerPanic,
}

impl Cause {
    /// The name in logs and metrics.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::PeerClose => "peer_close",
            Self::LocalClose => "local_close",
            Self::PingTimeout => "ping_timeout",
            Self::IdleTimeout => "idle_timeout",
            Self::EofWithoutClose => "eof_without_close",
            Self::Reset => "reset",
            Self::ProtocolError(_) => "protocol_error",
            Self::TooBig => "too_big",
            Self::SlowConsumer => "slow_consumer",
            Self::CloseTimeout => "close_timeout",
            Self::Shutdown => "shutdown",
            Self::Lifetime => "lifetime",
            Self::MessageRate => "message_rate",
            Self::HandlerPanic => "handler_panic",
        }
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
