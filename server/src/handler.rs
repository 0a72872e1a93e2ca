//! What an application implements.

use tidewheel_codec::{
    Disconnect,
    handshake::{Rejection, Request},
};

use crate::{Conn, Message};

/// An application: one value per shard, called on that shard's thread alone.
///
/// It needs no lock and no reference count. Everything runs between two looks at the network,
/// so a callback that computes for long, or blocks, delays all connections of the shard.
///
/// For each connection the order is `upgrade`, `open`, any number of `message`, `drained` and
/// `gap`, and `close` once, with the exceptions that it names.
pub trait Handler: 'static {
    /// What the application keeps for each connection; it lives in the connection's slot.
    type State: 'static;

    /// A client asks for a WebSocket (RFC 6455 section 4.2).
    fn upgrade(&mut self, request: &Request<'_>) -> Verdict<Self::State>;

    /// The opening handshake is done.
    fn open(&mut self, conn: &mut Conn<'_, Self::State>) {
        let _ = conn;
    }

    /// A whole text or binary message has arrived, borrowed from the buffer that the kernel
    /// filled. Text is valid UTF-8.
    fn message(&mut self, conn: &mut Conn<'_, Self::State>, message: Message<'_>);

    /// Everything that was queued has been taken by the kernel, after not all of it was at first.
    fn drained(&mut self, conn: &mut Conn<'_, Self::State>) {
        let _ = conn;
    }

    /// `missed` messages were dropped because the peer read too slowly; it can read on now.
    fn gap(&mut self, conn: &mut Conn<'_, Self::State>, missed: u64) {
        let _ = (conn, missed);
    }

    /// The connection has ended: who ended it, why, and the codes both ways. Nothing more can be
    /// sent. For each `open` this is called once, unless the shard itself panics: then the handler is not
    /// called any more.
    fn close(&mut self, conn: &mut Conn<'_, Self::State>, end: &Disconnect) {
        let _ = (conn, end);
    }
}

/// The answer to a request for a WebSocket.
#[derive(Debug)]
pub enum Verdict<S> {
    /// 101: the connection opens with this state.
    Accept {
        /// What the application keeps for the connection.
        state: S,
        /// The subprotocol chosen, one of those offered (RFC 6455 1.9).
        protocol: Option<String>,
    },
    /// Another status: the client is told so, and the connection ends.
    Reject(Rejection),
}

impl<S> Verdict<S> {
    /// Accepts with no subprotocol.
    #[must_use]
    pub fn accept(state: S) -> Self {
        Self::Accept {
            state,
            protocol: None,
        }
    }

    /// Accepts with the subprotocol named, which must be one of those that the client offered.
    #[must_use]
    pub fn accept_protocol(state: S, protocol: impl Into<String>) -> Self {
        Self::Accept {
            state,
            protocol: Some(protocol.into()),
        }
    }

    /// Refuses with an HTTP status.
    #[must_use]
    pub fn reject(rejection: Rejection) -> Self {
        Self::Reject(rejection)
    }
}
