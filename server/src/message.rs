//! A received message as a handler sees it.

use std::{borrow::Cow, fmt};

use bytes::Bytes;
use tidewheel_codec::{
    Connection as Protocol, Endpoint, Event as ReceivedEvent, Input, Message as Received, Reply,
    Time,
};

use crate::ring::{Buffer, Keeper, Kept};

/// Received bytes that are yet to be read.
pub(crate) struct Arrived<'b> {
    bytes: &'b mut [u8],
    /// Keeps parts of the receive buffer, if the bytes lie in one.
    keeper: Keeper<'b>,
}

/// Frames that are being read.
pub(crate) struct Frames<'b> {
    input: Input<'b>,
    keeper: Keeper<'b>,
}

/// A message, or a control frame that has been dealt with.
pub(crate) enum Event<'b> {
    Message(Message<'b>),
    /// It is answered already.
    Ping,
    Pong(Cow<'b, [u8]>),
}

impl<'b> Arrived<'b> {
    /// Lets `read` read a receive buffer.
    #[inline]
    pub(crate) fn in_buffer<T>(buffer: Buffer, read: impl FnOnce(Arrived<'_>) -> T) -> T {
        buffer.read(|bytes, keeper| read(Arrived { bytes, keeper }))
    }

    /// Bytes that lie in no receive buffer.
    #[inline]
    pub(crate) fn elsewhere(bytes: &'b mut [u8]) -> Self {
        Self {
            bytes,
            keeper: Keeper::NONE,
        }
    }

    #[inline]
    pub(crate) fn bytes(&self) -> &[u8] {
        self.bytes
    }

    /// The bytes, which are not read now.
    pub(crate) fn into_bytes(self) -> &'b [u8] {
        self.bytes
    }

    /// The same but for the first `count` bytes, which have been read.
    #[inline]
    pub(crate) fn skip(self, count: usize) -> Self {
        Self {
            bytes: &mut self.bytes[count..],
            keeper: self.keeper,
        }
    }

    /// Begins to read the bytes as frames of a connection, `frames_max` of them at most.
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
    /// Reads the next frame; control frames to answer with are appended to `control`.
    #[inline]
    pub(crate) fn poll(
        &mut self,
        protocol: &mut Protocol,
        endpoint: &mut Endpoint,
        control: &mut Vec<u8>,
    ) -> Option<Event<'b>> {
        Some(
            match protocol.poll_event(endpoint, &mut self.input, control)? {
                // A message in the buffer of `keeper` came from `bytes`, which were this value's alone. The
                // codec gives each byte to one message, and keeps none.
                ReceivedEvent::Message(received) => Event::Message(Message {
                    received,
                    keeper: self.keeper,
                }),
                ReceivedEvent::Ping(_) => Event::Ping,
                ReceivedEvent::Pong(payload) => Event::Pong(payload),
            },
        )
    }

    /// How many frames may still be read.
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

/// A complete, unmasked and validated message, lent to
/// [`Handler::message`](crate::Handler::message).
///
/// It lies in the receive buffer in which it arrived, or in a pooled buffer if it spanned several. Sending it
/// [back](crate::Conn::send) does not copy it, when it is large.
pub struct Message<'m> {
    /// Its bytes are either in the buffer of `keeper`, and nobody else's, or in none.
    received: Received<'m>,
    /// Keeps parts of the receive buffer that the message may lie in.
    keeper: Keeper<'m>,
}

/// A message as one unmasked frame.
pub(crate) enum Frame<'m> {
    /// In the receive buffer that it came in.
    Kept(Kept),
    /// In a pooled buffer, a part of an allocation of so many bytes.
    Assembled(Bytes, usize),
    /// In memory that will be used again: it must be copied.
    Borrowed(&'m [u8]),
}

impl<'m> Message<'m> {
    /// The bytes of the message.
    #[inline]
    #[must_use]
    pub fn payload(&self) -> &[u8] {
        self.received.payload()
    }

    /// The text of a text message; `None` for a binary one.
    #[inline]
    #[must_use]
    pub fn as_text(&self) -> Option<&str> {
        self.received.as_text()
    }

    /// Whether this is a text message.
    #[inline]
    #[must_use]
    pub const fn is_text(&self) -> bool {
        self.received.is_text()
    }

    /// Bytes of the payload.
    #[inline]
    #[must_use]
    pub fn len(&self) -> usize {
        self.received.len()
    }

    /// Whether the payload is empty.
    #[inline]
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.received.is_empty()
    }

    /// The frame in which a server sends this message. One that lies in a receive buffer keeps that from
    /// being used again if it has `kept_min` bytes; a shorter one is to be copied.
    #[inline]
    pub(crate) fn into_frame(self, kept_min: usize) -> Frame<'m> {
        let allocation = self.received.allocation();
        match self.received.into_frame() {
            Reply::Owned(frame) => Frame::Assembled(frame, allocation),
            Reply::Borrowed(frame) if frame.len() < kept_min => Frame::Borrowed(frame),
            Reply::Borrowed(frame) => {
                // SAFETY: nobody else can reach the bytes of a message that lie in the buffer of its keeper:
                // a message is only made by `Frames::poll`, can neither be cloned nor lent for writing, and
                // is consumed here. `frame` is used again only if it was not kept.
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
