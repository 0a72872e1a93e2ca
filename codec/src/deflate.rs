//! Message compression: permessage-deflate (RFC 7692).
//!
//! Compression is off unless [`Config::deflate`](crate::Config::deflate) is set. Without context takeover,
//! which is the default, all connections of an [`Endpoint`](crate::Endpoint) share one compressor for each
//! window size and one decompressor, and a connection takes no further memory. With context takeover, each
//! connection has its own compressor and decompressor, up to a byte budget. Beyond the budget, connections
//! are negotiated without context takeover.
//!
//! ```
//! use tidewheel_codec::deflate::Deflate;
//! use tidewheel_codec::{Config, Connection, Endpoint, Role, Time};
//!
//! let mut config = Config::new(Role::Server);
//! config.deflate = Some(Deflate::default());
//! let mut server = Endpoint::new(config)?;
//!
//! // The values of a request's Sec-WebSocket-Extensions headers.
//! let agreement = server.accept_deflate(["x-unknown", "permessage-deflate"]).expect("the offer is valid");
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
mod streams;

pub(crate) use codec::Codec;
pub(crate) use compressed::{Compressed, CompressedBody, RESERVED_1, TAIL};
pub(crate) use negotiation::Terms;
pub use negotiation::{Agreement, InvalidAgreement};
pub(crate) use streams::Streams;

/// The window bits of a compressor. RFC 7692 also allows 8, but zlib's raw format does not.
pub(crate) const WINDOW_BITS: std::ops::RangeInclusive<u8> = 9..=15;

/// Settings of permessage-deflate. The default of each is given at its field.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Deflate {
    /// The compression level of zlib, 0 to 9. Default: 1.
    pub level: u32,
    /// The size of the smallest message that is compressed, in bytes. Default: 1 KiB.
    pub threshold: usize,
    /// Whether a message may refer to earlier ones. This compresses similar messages better, and takes
    /// about 420 KiB for each connection. Default: `false`.
    pub context_takeover: bool,
    /// The limit on the memory of all compressors and decompressors with context takeover, in bytes. A
    /// server negotiates connections beyond it without context takeover. Default: 64 MiB.
    pub takeover_budget: usize,
    /// The base-2 logarithm of the window of our compressors, 9 to 15. Default: 15.
    pub max_window_bits: u8,
    /// The base-2 logarithm of the window that peers are asked to use, 9 to 15. A peer may be unable to
    /// limit its window. Default: 15.
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

/// Returns the largest size of a compressed message on the wire, in bytes, for a payload of `size` bytes.
///
/// Compressed data is at most an eighth larger than the payload (fixed Huffman codes, RFC 1951 3.2.6),
/// plus 1 KiB for flushes.
#[must_use]
pub const fn wire_size_max(size: usize) -> usize {
    size.saturating_add(size / 8).saturating_add(1 << 10)
}
