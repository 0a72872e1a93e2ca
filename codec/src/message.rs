use std::borrow::Cow;
use std::fmt;

use bytes::{Bytes, BytesMut};

use crate::frame::{FrameHeader, HEADER_SIZE_MAX, Opcode, unmasked_header_size};

/// What the peer sent; Close frames are not events but end the connection.
#[derive(Debug)]
pub enum Event<'b> {
    /// A complete message.
    Message(Message<'b>),
    /// A ping, already answered. Owned only if the frame was split over receive buffers.
    Ping(Cow<'b, [u8]>),
    /// A pong, asked for or not. Owned only if the frame was split over receive buffers.
    Pong(Cow<'b, [u8]>),
}

/// Whether a message is text or binary.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Kind {
    Text,
    Binary,
}

impl Kind {
    #[inline]
    const fn opcode(self) -> Opcode {
        match self {
            Self::Text => Opcode::Text,
            Self::Binary => Opcode::Binary,
        }
    }
}

/// A complete, unmasked and validated message: in the receive buffer where it arrived, or in a
/// pooled buffer if it spanned several.
pub struct Message<'b> {
    kind: Kind,
    body: Body<'b>,
}

enum Body<'b> {
    /// One whole frame within the receive buffer; its payload starts at `header_size`.
    InPlace {
        frame: &'b mut [u8],
        header_size: u8,
    },
    /// `HEADER_SIZE_MAX` bytes of headroom, then the payload; in an allocation of so many bytes.
    Assembled { buffer: BytesMut, allocation: usize },
}

/// A message as one unmasked frame, ready to be sent.
#[derive(Debug)]
pub enum Reply<'b> {
    /// In the receive buffer.
    Borrowed(&'b mut [u8]),
    /// In a pooled buffer, which is used again once the bytes are dropped.
    Owned(Bytes),
}

impl AsRef<[u8]> for Reply<'_> {
    fn as_ref(&self) -> &[u8] {
        match self {
            Self::Borrowed(frame) => frame,
            Self::Owned(frame) => frame,
        }
    }
}

impl<'b> Message<'b> {
    /// The caller has unmasked `frame` from `header_size` on, and validated it if it is text.
    #[inline]
    pub(crate) fn in_place(kind: Kind, frame: &'b mut [u8], header_size: usize) -> Self {
        debug_assert!(header_size <= HEADER_SIZE_MAX && header_size <= frame.len());
        Self {
            kind,
            body: Body::InPlace {
                frame,
                header_size: header_size as u8,
            },
        }
    }

    /// `buffer` starts with `HEADER_SIZE_MAX` bytes of headroom; the rest is validated if it is
    /// text. It is a part of `allocation` bytes.
    pub(crate) fn assembled(kind: Kind, buffer: BytesMut, allocation: usize) -> Self {
        debug_assert!((HEADER_SIZE_MAX..=allocation).contains(&buffer.len()));
        Self {
            kind,
            body: Body::Assembled { buffer, allocation },
        }
    }

    /// The bytes of the message.
    #[inline]
    #[must_use]
    pub fn payload(&self) -> &[u8] {
        match &self.body {
            Body::InPlace { frame, header_size } => &frame[usize::from(*header_size)..],
            Body::Assembled { buffer, .. } => &buffer[HEADER_SIZE_MAX..],
        }
    }

    /// The text of a text message; `None` for a binary one.
    #[inline]
    #[must_use]
    #[allow(unsafe_code)]
    pub fn as_text(&self) -> Option<&str> {
        match self.kind {
            // SAFETY: a message of kind `Text` is only made by the receiver, after its payload was
            // validated as UTF-8, and nothing gives mutable access to the payload.
            Kind::Text => Some(unsafe { std::str::from_utf8_unchecked(self.payload()) }),
            Kind::Binary => None,
        }
    }

    /// Whether this is a text message.
    #[inline]
    #[must_use]
    pub const fn is_text(&self) -> bool {
        matches!(self.kind, Kind::Text)
    }

    /// Bytes of the payload.
    #[inline]
    #[must_use]
    pub fn len(&self) -> usize {
        match &self.body {
            Body::InPlace { frame, header_size } => frame.len() - usize::from(*header_size),
            Body::Assembled { buffer, .. } => buffer.len() - HEADER_SIZE_MAX,
        }
    }

    /// Bytes of memory that an owned [reply](Message::into_frame) keeps from being used again: more
    /// than its own where a pooled buffer had been made for a larger message.
    #[must_use]
    pub const fn allocation(&self) -> usize {
        match self.body {
            Body::InPlace { .. } => 0,
            Body::Assembled { allocation, .. } => allocation,
        }
    }

    /// Whether the payload is empty.
    #[inline]
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// The same message as a server sends it, without a copy of the payload: the header is written
    /// in front of it, where the received header stood (an unmasked header is never longer).
    #[inline]
    #[must_use]
    pub fn into_frame(self) -> Reply<'b> {
        let header = FrameHeader::new(self.kind.opcode(), None, self.len() as u64);
        match self.body {
            Body::InPlace { frame, header_size } => {
                let start = usize::from(header_size) - unmasked_header_size(header.payload_len);
                let frame = &mut frame[start..];
                header.encode_to(frame);
                Reply::Borrowed(frame)
            }
            Body::Assembled { mut buffer, .. } => {
                let start = HEADER_SIZE_MAX - unmasked_header_size(header.payload_len);
                header.encode_to(&mut buffer[start..]);
                Reply::Owned(buffer.freeze().slice(start..))
            }
        }
    }
}

impl fmt::Debug for Message<'_> {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let place = match &self.body {
            Body::InPlace { .. } => "in place",
            Body::Assembled { .. } => "assembled",
        };
        formatter
            .debug_struct("Message")
            .field("kind", &self.kind)
            .field("len", &self.len())
            .field("body", &place)
            .finish()
    }
}
