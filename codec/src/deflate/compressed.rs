use bytes::BytesMut;

use super::TAIL;
use crate::frame::{HEADER_SIZE_MAX, SHORT_PAYLOAD_SIZE_MAX};
use crate::message::Kind;

/// A whole message that is yet to be decompressed and validated.
#[derive(Debug)]
pub(crate) struct Compressed<'b> {
    pub(crate) kind: Kind,
    pub(crate) body: CompressedBody<'b>,
}

/// The bytes of a compressed message.
#[derive(Debug)]
pub(crate) enum CompressedBody<'b> {
    /// As of [`Message`]: one whole frame, unmasked.
    InPlace {
        frame: &'b mut [u8],
        header_size: usize,
    },
    /// `HEADER_SIZE_MAX` bytes of headroom, then the payload and [`TAIL`].
    Assembled(BytesMut),
}

impl Compressed<'_> {
    /// Hands the payload with [`TAIL`] behind it to `read`, so that a decompressor is called once:
    /// where the frame lies, the payload moves over what was the end of the header.
    pub(crate) fn read_with_tail<T>(self, read: impl FnOnce(&[u8]) -> T) -> T {
        match self.body {
            CompressedBody::InPlace { frame, header_size } if header_size >= TAIL.len() => {
                let start = header_size - TAIL.len();
                frame.copy_within(header_size.., start);
                let payload_end = frame.len() - TAIL.len();
                frame[payload_end..].copy_from_slice(&TAIL);
                read(&frame[start..])
            }
            // Only the shortest of a server's frames have a header of less than 4 bytes.
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
