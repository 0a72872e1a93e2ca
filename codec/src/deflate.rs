//! permessage-deflate (RFC 7692).
//!
//! Off unless [`Config::deflate`](crate::Config::deflate) is set. Without context takeover, which
//! is the default, all connections of an [`Endpoint`](crate::Endpoint) share one compressor and one
//! decompressor, and a connection costs nothing more. With it, a connection has its own, as far as
//! the byte budget goes; behind that, connections are negotiated without.
//!
//! ```
//! use tidewheel_codec::deflate::Deflate;
//! use tidewheel_codec::{Config, Connection, Endpoint, Role, Time};
//!
//! let mut config = Config::new(Role::Server);
//! config.deflate = Some(Deflate::default());
//! let mut server = Endpoint::new(config)?;
//!
//! // The values of the request's Sec-WebSocket-Extensions headers.
//! let agreement = server.accept_deflate(["x-unknown", "permessage-deflate"]).expect("a good offer");
//! assert_eq!(
//!     agreement.to_string(),
//!     "permessage-deflate; server_no_context_takeover; client_no_context_takeover"
//! );
//! let mut connection = Connection::new(Time::from_millis(0), 0).with_deflate(agreement);
//! let mut out = Vec::new();
//! connection.send_text(&mut server, &"tide ".repeat(1000), &mut out).unwrap();
//! assert!(out.len() < 100);
//! # Ok::<(), tidewheel_codec::InvalidConfig>(())
//! ```

mod budget;
mod codec;
mod compressed;
mod extension;
mod negotiation;

pub(crate) use codec::{Codec, RESERVED_1, Streams, TAIL};
pub(crate) use compressed::{Compressed, CompressedBody};
pub(crate) use negotiation::Terms;
pub use negotiation::{Agreement, InvalidAgreement};

/// The window bits that a compressor may have. RFC 7692 allows 8, but zlib's raw format does not.
pub(crate) const WINDOW_BITS: std::ops::RangeInclusive<u8> = 9..=15;

/// How an endpoint compresses, and what it asks its peers for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Deflate {
    /// zlib's level, 0 to 9; 1.
    pub level: u32,
    /// Messages of fewer bytes are sent as they are; 1 KiB.
    pub threshold: usize,
    /// Whether a message may refer to those before it: better compression of many similar
    /// messages, for some 420 KiB a connection. `false`.
    pub context_takeover: bool,
    /// Bytes that the compressors and decompressors with context takeover may take; 64 MiB.
    /// Connections that would exceed it are negotiated without.
    pub takeover_budget: usize,
    /// The base-2 logarithm of the window of our compressors, 9 to 15; 15.
    pub max_window_bits: u8,
    /// The same of the peers', as far as they let us say; 15.
    pub peer_max_window_bits: u8,
}

impl Default for Deflate {
    fn default() -> Self {
        Self {
            level: 1,
            threshold: 1 << 10,
            context_takeover: false,
            takeover_budget: 64 << 20,
            max_window_bits: 15,
            peer_max_window_bits: 15,
        }
    }
}

/// Bytes on the wire that a message of `size` bytes may take: compressed, data grow by an eighth
/// at worst (fixed Huffman codes, RFC 1951 3.2.6), and by what flushes add.
#[must_use]
pub const fn wire_size_max(size: usize) -> usize {
    size.saturating_add(size / 8).saturating_add(1 << 10)
}
