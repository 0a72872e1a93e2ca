use std::borrow::Cow;
use std::fmt;

use bytes::{Bytes, BytesMut};

use crate::frame::{FrameHeader, HEADER_SIZE_MAX, Opcode, unmasked_header_size};

/// A message, a ping or a pong from the peer. A Close frame ends the connection and is not an event.
#[derive(Debug)]
pub enum Event<'b> {
    /// A complete message.
    Message(Message<'b>),
    /// The payload of a ping, which is already answered. Owned only if the frame spans receive buffers.
    Ping(Cow<'b, [u8]>),
    /// The payload of a pong, solicited or not. Owned only if the frame spans receive buffers.
    Pong(Cow<'b, [u8]>),
}

/// The type of a message.
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

/// A complete, unmasked and validated message. It lies in the receive buffer, or in a pooled buffer if it
/// spans receive buffers.
pub struct Message<'b> {
    kind: Kind,
    body: Body<'b>,
}

enum Body<'b> {
    /// A complete frame in the receive buffer. Its payload starts at `header_size`.
    InPlace {
        frame: &'b mut [u8],
        header_size: u8,
    },
    /// `HEADER_SIZE_MAX` bytes of headroom, then the payload, in an allocation of `allocation` bytes.
    Assembled { buffer: BytesMut, allocation: usize },
}

/// A message as one unmasked frame, which a server can send.
#[derive(Debug)]
pub enum Reply<'b> {
    /// A frame in the receive buffer.
    Borrowed(&'b mut [u8]),
    /// A frame in a pooled buffer, which is reused after the bytes are dropped.
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
    /// Returns a message in `frame`, whose payload the caller has unmasked and, if it is text, validated.
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

    /// Returns a message in `buffer`: `HEADER_SIZE_MAX` bytes of headroom, then the payload, which the
    /// caller has validated if it is text. `buffer` is a part of an allocation of `allocation` bytes.
    pub(crate) fn assembled(kind: Kind, buffer: BytesMut, allocation: usize) -> Self {
        debug_assert!((HEADER_SIZE_MAX..=allocation).contains(&buffer.len()));
        Self {
            kind,
            body: Body::Assembled { buffer, allocation },
        }
    }

    /// Returns the payload.
    #[inline]
    #[must_use]
    pub fn payload(&self) -> &[u8] {
        match &self.body {
            Body::InPlace { frame, header_size } => &frame[usize::from(*header_size)..],
            Body::Assembled { buffer, .. } => &buffer[HEADER_SIZE_MAX..],
        }
    }

    /// Returns the text of a text message, or `None` for a binary one.
    #[inline]
    #[must_use]
    #[allow(unsafe_code)]
    pub fn as_text(&self) -> Option<&str> {
        match self.kind {
            // SAFETY: the callers of `in_place` and `assembled` have validated the payload as UTF-8, and no
            // method gives mutable access to it.
            Kind::Text => Some(unsafe { std::str::from_utf8_unchecked(self.payload()) }),
            Kind::Binary => None,
        }
    }

    /// Returns whether this is a text message.
    #[inline]
    #[must_use]
    pub const fn is_text(&self) -> bool {
        matches!(self.kind, Kind::Text)
    }

    /// Returns the length of the payload in bytes.
    #[inline]
    #[must_use]
    pub fn len(&self) -> usize {
        match &self.body {
            Body::InPlace { frame, header_size } => frame.len() - usize::from(*header_size),
            Body::Assembled { buffer, .. } => buffer.len() - HEADER_SIZE_MAX,
        }
    }

    /// Returns the bytes of memory that an owned [reply](Message::into_frame) keeps from being reused; 0 for
    /// a message in the receive buffer. A pooled buffer may be larger than its message.
    #[must_use]
    pub const fn allocation(&self) -> usize {
        match self.body {
            Body::InPlace { .. } => 0,
            Body::Assembled { allocation, .. } => allocation,
        }
    }

    /// Returns whether the payload is empty.
    #[inline]
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Converts the message to a frame as a server sends it, without copying the payload. The new header
    /// is written before the payload, over the received one, which is never shorter.
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
        let body = match &self.body {
            Body::InPlace { .. } => "in place",
            Body::Assembled { .. } => "assembled",
        };
        formatter
            .debug_struct("Message")
            .field("kind", &self.kind)
            .field("len", &self.len())
            .field("body", &body)
            .finish()
    }
}
