//! The opening handshake (RFC 6455 4), both roles.
//!
//! A server parses a [`Request`], then writes an [`Accept`] or a [`Rejection`]; a client writes a
//! [`ClientRequest`], then parses a [`Response`]. Parsers take all bytes received so far, and tell
//! how many were the handshake's: frames may stand right behind it.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD as BASE64;
use sha1::{Digest as _, Sha1};

mod accept;
mod client;
mod header;
mod rejection;
mod request;
mod response;

pub use accept::Accept;
pub use client::ClientRequest;
pub use header::{Header, is_token};
pub use rejection::Rejection;
pub use request::{Request, is_authority};
pub use response::{Refusal, Response};

/// The version of the protocol that RFC 6455 defines.
pub const VERSION: &str = "13";

/// More headers than this cannot be allowed by [`Limits::max_headers`].
pub const HEADERS_MAX: usize = 128;

/// RFC 6455 1.3.
const GUID: &[u8] = b"258EAFA5-E914-47DA-95CA-C5AB0DC85B11";

/// Bytes of a `Sec-WebSocket-Accept` value: 20 bytes in base64.
const ACCEPT_SIZE: usize = 28;

/// What a handshake may cost.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Limits {
    /// Bytes of the request or response, a body included; 16 KiB.
    pub max_bytes: usize,
    /// Headers; 64. At most [`HEADERS_MAX`] count.
    pub max_headers: usize,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            max_bytes: 16 << 10,
            max_headers: 64,
        }
    }
}

/// The `Sec-WebSocket-Accept` value for a `Sec-WebSocket-Key` value (RFC 6455 4.2.2).
///
/// ```
/// use tidewheel_codec::handshake::accept_key;
///
/// assert_eq!(&accept_key("dGhlIHNhbXBsZSBub25jZQ=="), b"s3pPLMBiTxaQ9kYGzzhZRbK+xOo=");
/// ```
#[must_use]
pub fn accept_key(key: &str) -> [u8; ACCEPT_SIZE] {
    let digest = Sha1::new().chain_update(key).chain_update(GUID).finalize();
    let mut accept = [0; ACCEPT_SIZE];
    BASE64
        .encode_slice(digest, &mut accept)
        .expect("20 bytes are 28 in base64");
    accept
}
