//! The opening handshake (RFC 6455 4) of both roles.
//!
//! A server parses a [`Request`], checks whether it is an [upgrade](Request::upgrade) to a WebSocket, and
//! writes an [`Accept`] or a [`Rejection`]. A client writes a
//! [`ClientRequest`], then parses a [`Response`]. A parser takes all bytes that were received so far, and
//! returns the size of the handshake in bytes: frames may follow it at once.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD as BASE64;
use sha1::{Digest as _, Sha1};

mod accept;
mod client;
mod header;
mod reason;
mod rejection;
mod request;
mod response;
mod target;

pub use accept::Accept;
pub use client::ClientRequest;
pub use header::{Header, is_token, write_header};
pub use reason::reason_phrase;
pub use rejection::Rejection;
pub use request::Request;
pub use response::{Response, ResponseError};
pub use target::is_authority;

/// The version of the protocol that RFC 6455 defines.
pub const VERSION: &str = "13";

/// Upper bound of [`Limits::max_headers`].
pub const HEADERS_MAX: usize = 128;

/// The string that is appended to the key before it is hashed (RFC 6455 1.3).
const GUID: &[u8] = b"258EAFA5-E914-47DA-95CA-C5AB0DC85B11";

/// Size of a `Sec-WebSocket-Accept` value in bytes: 20 bytes in base64.
const ACCEPT_SIZE: usize = 28;

/// Limits on the size of a handshake.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Limits {
    /// Largest request, including its body, or largest response head, in bytes. Default: 16 KiB.
    pub max_bytes: usize,
    /// Largest number of headers, at most [`HEADERS_MAX`]. Default: 64.
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

/// Returns the `Sec-WebSocket-Accept` value for the `Sec-WebSocket-Key` value `key` (RFC 6455 4.2.2).
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
