//! The wire format of a compressed message (RFC 7692 6 and 7.2).

use bytes::BytesMut;

use crate::frame::{HEADER_SIZE_MAX, SHORT_PAYLOAD_SIZE_MAX};
use crate::message::Kind;

/// The last bytes of a flush, which are not sent (RFC 7692 7.2.1).
pub(crate) const TAIL: [u8; 4] = [0x00, 0x00, 0xff, 0xff];

/// RSV1 in the first frame of a message: the message is compressed (RFC 7692 6).
pub(crate) const RESERVED_1: u8 = 0b100;

/// A complete message that is neither decompressed nor validated yet.
#[derive(Debug)]
pub(crate) struct Compressed<'b> {
    pub(crate) kind: Kind,
    pub(crate) body: CompressedBody<'b>,
}

/// The bytes of a compressed message.
#[derive(Debug)]
pub(crate) enum CompressedBody<'b> {
    /// One complete, unmasked frame in the receive buffer.
    InPlace {
        frame: &'b mut [u8],
        header_size: usize,
    },
    /// `HEADER_SIZE_MAX` bytes of headroom, then the payload and [`TAIL`].
    Assembled(BytesMut),
}

impl Compressed<'_> {
    /// Calls `read` with the payload followed by [`TAIL`].
    ///
    /// A decompressor is called once for both. In the receive buffer, the payload moves over the end of
    /// its header to make room for the tail.
    pub(crate) fn read_with_tail<T>(self, read: impl FnOnce(&[u8]) -> T) -> T {
        match self.body {
            CompressedBody::InPlace { frame, header_size } if header_size >= TAIL.len() => {
                let start = header_size - TAIL.len();
                frame.copy_within(header_size.., start);
                let payload_end = frame.len() - TAIL.len();
                frame[payload_end..].copy_from_slice(&TAIL);
                read(&frame[start..])
            }
            // A header of less than 4 bytes is that of a server's frame of at most 125 bytes.
            CompressedBody::InPlace { frame, header_size } => {
                let payload = &frame[header_size..];
                let mut copy = [0; SHORT_PAYLOAD_SIZE_MAX + TAIL.len()];
                copy[..payload.len()].copy_from_slice(payload);
                copy[payload.len()..payload.len() + TAIL.len()].copy_from_slice(&TAIL);
                read(&copy[..payload.len() + TAIL.len()])
            }
            CompressedBody::Assembled(buffer) => read(&buffer[HEADER_SIZE_MAX..]),
        }
    }
}
