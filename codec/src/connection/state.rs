use super::acknowledged::DeadlineExtension;
use super::close::Closing;
use crate::deflate::{Streams, Terms};
use crate::disconnect::Disconnect;
use crate::receiver::Receiver;
use crate::time::Time;

/// The states of a connection (RFC 6455 7).
///
/// ```text
///   Open --+-- Close received and answered ------------------+
///     |    |                                                 |
///     |    +-- start_closing_handshake --> Closing --+-- Close received --> server: Lingering
///     |                                      |   |   |                      client: AwaitingEof
///     +-- fail --> Lingering <------ fail ---+   +-- deadline ------------> Expired
///
///   Lingering, AwaitingEof --- deadline -----------------------------------> Expired
///   any ---------------------- EOF, or the transport failed ---------------> Released
/// ```
///
/// `poll_disconnect` takes `end`, once.
#[derive(Debug)]
pub(super) enum State {
    /// Messages are sent and received.
    Open {
        receiver: Receiver,
        /// The time of the last ping. The ping is unanswered while this is later than the last byte from
        /// the peer.
        pinged: Time,
        /// The fraction of the jitter by which pings are early, in 65,536ths.
        phase: u16,
        /// The negotiated compression.
        deflate: Option<Terms>,
        /// The compression streams of a connection with context takeover.
        streams: Option<Box<Streams>>,
    },
    /// Our Close is sent (7.1.3), and the peer's is expected until `deadline`. Nothing more is sent.
    /// Messages that still arrive are dropped.
    Closing {
        closing: Box<Closing>,
        deadline: Time,
    },
    /// All frames are sent, so our FIN may be sent (7.1.1). Received bytes are ignored. The peer's FIN is
    /// expected until `deadline`, which moves while the peer acknowledges bytes.
    Lingering {
        end: Option<Box<Disconnect>>,
        deadline: Time,
        extension: DeadlineExtension,
    },
    /// Client: the closing handshake is complete, and the server's FIN is expected until `deadline`
    /// (7.1.1).
    AwaitingEof {
        end: Option<Box<Disconnect>>,
        deadline: Time,
    },
    /// A deadline has passed: the transport is to be reset.
    Expired { end: Option<Box<Disconnect>> },
    /// The transport has ended. Bytes that the peer has not acknowledged may still be delivered; until
    /// `close_by` at most after a ping timeout.
    Released {
        end: Option<Box<Disconnect>>,
        close_by: Option<Time>,
    },
}
