//! A request whose answer the application has not decided yet.

use tidewheel_codec::handshake::Accept;

/// The parts of a request that its answer needs.
#[cfg_attr(not(feature = "tasks"), expect(dead_code))]
pub(crate) enum Undecided {
    /// The request is for a WebSocket.
    Upgrade {
        accept: Accept<'static>,
        /// The subprotocols that the client offers.
        protocols: Vec<String>,
        /// The extensions that the client offers.
        extensions: Vec<String>,
    },
    /// Any other request.
    Http {
        /// Whether the method is HEAD.
        is_for_head: bool,
    },
}
