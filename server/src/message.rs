//! A received message, as a handler uses it.

use std::{borrow::Cow, fmt};

use bytes::Bytes;
use tidewheel_codec::{
    Connection as Protocol, Endpoint, Event as ReceivedEvent, Input, Message as Received, Reply,
    Time,
};

use crate::ring::{Buffer, BufferPart, BufferRef};

/// Received bytes that are not parsed yet.
pub(crate) struct Arrived<'b> {
    bytes: &'b mut [u8],
    /// Keeps parts of the receive buffer, if the bytes lie in one.
    keeper: BufferRef<'b>,
}

/// Reads the frames of received bytes.
pub(crate) struct Frames<'b> {
    input: Input<'b>,
    keeper: BufferRef<'b>,
}

/// A message, or a control frame.
pub(crate) enum Event<'b> {
    Message(Message<'b>),
    /// A Ping, which is answered already.
    Ping,
    Pong(Cow<'b, [u8]>),
}

impl<'b> Arrived<'b> {
    /// Calls `read` with the bytes of a receive buffer.
    #[inline]
    pub(crate) fn in_buffer<T>(buffer: Buffer, read: impl FnOnce(Arrived<'_>) -> T) -> T {
        buffer.read(|bytes, keeper| read(Arrived { bytes, keeper }))
    }

    /// Wraps bytes that lie in no receive buffer.
    #[inline]
    pub(crate) fn elsewhere(bytes: &'b mut [u8]) -> Self {
        Self {
            bytes,
            keeper: BufferRef::NONE,
        }
    }

    #[inline]
    pub(crate) fn bytes(&self) -> &[u8] {
        self.bytes
    }

    /// Returns the bytes.
    pub(crate) fn into_bytes(self) -> &'b [u8] {
        self.bytes
    }

    /// Removes the first `count` bytes.
    #[inline]
    pub(crate) fn skip(self, count: usize) -> Self {
        Self {
            bytes: &mut self.bytes[count..],
            keeper: self.keeper,
        }
    }

    /// Begins to read the bytes as frames, at most `frames_max`.
    #[inline]
    pub(crate) fn frames(self, protocol: &mut Protocol, frames_max: u32, now: Time) -> Frames<'b> {
        Frames {
            input: protocol
                .receive(self.bytes, now)
                .with_frames_max(frames_max),
            keeper: self.keeper,
        }
    }
}

impl<'b> Frames<'b> {
    /// Reads the next frame. Appends control frames that answer it to `control`.
    #[inline]
    pub(crate) fn poll(
        &mut self,
        protocol: &mut Protocol,
        endpoint: &mut Endpoint,
        control: &mut Vec<u8>,
    ) -> Option<Event<'b>> {
        Some(
            match protocol.poll_event(endpoint, &mut self.input, control)? {
                // A message in the buffer of `keeper` comes from `bytes`, which only this value could access.
                // The codec gives each byte to one message, and keeps none.
                ReceivedEvent::Message(received) => Event::Message(Message {
                    received,
                    keeper: self.keeper,
                }),
                ReceivedEvent::Ping(_) => Event::Ping,
                ReceivedEvent::Pong(payload) => Event::Pong(payload),
            },
        )
    }

    /// Number of frames that may still be read.
    #[inline]
    pub(crate) fn frames_left(&self) -> u32 {
        self.input.frames_left()
    }

    /// The bytes that were not read.
    #[inline]
    pub(crate) fn into_rest(self) -> &'b mut [u8] {
        self.input.into_rest()
    }
}

/// A complete, unmasked and validated message, lent to [`Handler::message`](crate::Handler::message).
///
/// It lies in its receive buffer, or in a pooled buffer if it spanned several. [Sending](crate::Link::send) a
/// large one back does not copy it.
pub struct Message<'m> {
    /// The bytes lie either in the buffer of `keeper`, where only this message can access them, or in no
    /// receive buffer.
    received: Received<'m>,
    /// Keeps parts of the receive buffer in which the message may lie.
    keeper: BufferRef<'m>,
}

/// A message as one unmasked frame.
pub(crate) enum Frame<'m> {
    /// A frame in its receive buffer.
    Kept(BufferPart),
    /// A frame in a pooled buffer, and the size of the buffer's allocation in bytes.
    Assembled(Bytes, usize),
    /// A frame in memory that will be reused, so it must be copied.
    Borrowed(&'m [u8]),
}

impl<'m> Message<'m> {
    /// The payload.
    #[inline]
    #[must_use]
    pub fn payload(&self) -> &[u8] {
        self.received.payload()
    }

    /// The text of a text message; `None` for a binary message.
    #[inline]
    #[must_use]
    pub fn as_text(&self) -> Option<&str> {
        self.received.as_text()
    }

    /// Returns whether this is a text message.
    #[inline]
    #[must_use]
    pub const fn is_text(&self) -> bool {
        self.received.is_text()
    }

    /// Length of the payload in bytes.
    #[inline]
    #[must_use]
    pub fn len(&self) -> usize {
        self.received.len()
    }

    /// Returns whether the payload is empty.
    #[inline]
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.received.is_empty()
    }

    /// The frame in which a server sends this message. A frame of `kept_min` bytes or more in a receive buffer
    /// keeps the buffer from being reused. A shorter one must be copied.
    #[inline]
    pub(crate) fn into_frame(self, kept_min: usize) -> Frame<'m> {
        let allocation = self.received.allocation();
        match self.received.into_frame() {
            Reply::Owned(frame) => Frame::Assembled(frame, allocation),
            Reply::Borrowed(frame) if frame.len() < kept_min => Frame::Borrowed(frame),
            Reply::Borrowed(frame) => {
                // SAFETY: only this message can access its bytes in the buffer of its keeper: it was made by
                // `Frames::poll`, cannot be cloned or lent for writing, and is consumed here. `frame` is used
                // again only if it was not kept.
                match unsafe { self.keeper.keep(frame) } {
                    Some(kept) => Frame::Kept(kept),
                    None => Frame::Borrowed(frame),
                }
            }
        }
    }
}

impl fmt::Debug for Message<'_> {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.received.fmt(formatter)
    }
}
