//! From bytes to messages and control frames.
//!
//! A frame that lies within one receive buffer is handled where it lies. What a buffer ends within
//! (a header, a control frame, a message) is kept in a [`Partial`], which an idle connection does
//! not have.

use std::borrow::Cow;

use bytes::BytesMut;

use crate::close::CloseCode;
use crate::config::Config;
use crate::deflate::{Compressed, CompressedBody, RESERVED_1, wire_size_max};
use crate::disconnect::CloseFrame;
use crate::frame::{FrameHeader, Opcode};
use crate::mask::{mask, mask_and_test};
use crate::message::{Kind, Message};
use crate::role::Role;
use crate::utf8;
use crate::violation::Violation;

mod partial;
mod pool;

use partial::{Partial, Progress};
pub(crate) use pool::Pool;

/// The receiving half of one connection.
#[derive(Debug, Default)]
pub(crate) struct Receiver {
    /// None while the connection is between two messages and between two frames.
    partial: Option<Box<Partial>>,
}

/// What frames are checked against.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Rules<'c> {
    pub(crate) config: &'c Config,
    /// Whether permessage-deflate was negotiated.
    pub(crate) deflate: bool,
}

/// What the receiver found.
#[derive(Debug)]
pub(crate) enum Item<'b> {
    Message(Message<'b>),
    Compressed(Compressed<'b>),
    Ping(Cow<'b, [u8]>),
    Pong(Cow<'b, [u8]>),
    Close(CloseFrame),
}

impl Receiver {
    /// Whether the next byte is the first of a frame that is no continuation.
    #[inline]
    pub(crate) const fn is_idle(&self) -> bool {
        self.partial.is_none()
    }

    /// Bytes on the heap.
    pub(crate) fn size(&self) -> usize {
        self.partial.as_ref().map_or(0, |partial| partial.size())
    }

    /// Bytes that are to come of the frame of a message.
    #[inline]
    pub(crate) fn to_come(&self) -> u64 {
        self.partial.as_ref().map_or(0, |partial| partial.to_come())
    }

    /// Whether bytes were received into the lent buffer that are yet to be read.
    pub(crate) fn is_unread(&self) -> bool {
        self.partial
            .as_ref()
            .is_some_and(|partial| partial.is_unread())
    }

    /// Hands out the free end of the buffer of a message of whose frame more is to come.
    pub(crate) fn lend(&mut self) -> Option<BytesMut> {
        self.partial.as_mut()?.lend()
    }

    /// Takes it back, with the bytes that were received.
    pub(crate) fn take_back(&mut self, received: BytesMut) {
        if let Some(partial) = &mut self.partial {
            partial.take_back(received);
        }
    }

    /// The next item in `bytes`, of which it takes what it has read; `None` when more bytes are
    /// needed, or no `frames` are left, which is at least one.
    pub(crate) fn poll<'b>(
        &mut self,
        rules: Rules<'_>,
        pool: &mut Pool,
        bytes: &mut &'b mut [u8],
        frames: &mut u32,
    ) -> Result<Option<Item<'b>>, Violation> {
        if self.partial.is_none() {
            if bytes.is_empty() {
                return Ok(None);
            }
            if let Some(item) = poll_in_place(rules, bytes)? {
                *frames -= 1;
                return Ok(Some(item));
            }
            self.partial = Some(pool.take());
        }
        self.poll_partial(rules, pool, bytes, frames)
    }

    /// From now on, messages are dropped as they arrive: our Close is out.
    pub(crate) fn discard_messages(&mut self, pool: &mut Pool) {
        self.partial
            .get_or_insert_with(|| pool.take())
            .discard_messages();
    }

    /// Ends the receiving half.
    pub(crate) fn release(&mut self, pool: &mut Pool) {
        if let Some(partial) = self.partial.take() {
            pool.put(partial);
        }
    }

    fn poll_partial<'b>(
        &mut self,
        rules: Rules<'_>,
        pool: &mut Pool,
        bytes: &mut &'b mut [u8],
        frames: &mut u32,
    ) -> Result<Option<Item<'b>>, Violation> {
        let Some(partial) = &mut self.partial else {
            return Ok(None);
        };
        loop {
            match partial.poll(rules, bytes)? {
                Progress::NeedMore => return Ok(None),
                Progress::Header => {}
                Progress::Frame => {
                    *frames -= 1;
                    if *frames == 0 {
                        return Ok(None);
                    }
                }
                Progress::Item(item) => {
                    *frames -= 1;
                    if partial.is_idle() {
                        self.release(pool);
                    }
                    return Ok(Some(item));
                }
            }
        }
    }
}

/// Takes the frame at the start of `bytes` if it is what nearly all frames are: a whole message
/// of less than 64 KiB, uncompressed, within the limits, and all there. Anything else, valid or
/// not, is left to [`Receiver::poll`], which knows the rules.
#[inline]
pub(crate) fn poll_common<'b>(
    config: &Config,
    bytes: &mut &'b mut [u8],
) -> Result<Option<Message<'b>>, Violation> {
    const FIN_TEXT: u8 = 0x81;
    const FIN_BINARY: u8 = 0x82;
    const LENGTH_16_BIT: usize = 126;
    let &mut [first, second, one, two, ..] = &mut **bytes else {
        return Ok(None);
    };
    let kind = match first {
        FIN_TEXT => Kind::Text,
        FIN_BINARY => Kind::Binary,
        _ => return Ok(None),
    };
    let (masked, masking_key_size) = match config.role {
        Role::Server => (0x80, 4),
        Role::Client => (0, 0),
    };
    // The wrong mask bit makes this 128 or more.
    let short = usize::from(second ^ masked);
    let (len, unmasked_size) = match short {
        0..LENGTH_16_BIT => (short, 2),
        LENGTH_16_BIT => (usize::from(u16::from_be_bytes([one, two])), 4),
        _ => return Ok(None),
    };
    let header_size = unmasked_size + masking_key_size;
    let is_minimal = short < LENGTH_16_BIT || len >= LENGTH_16_BIT;
    let is_within_limits = len <= config.max_frame_size && len <= config.max_message_size;
    if header_size + len > bytes.len() || !is_minimal || !is_within_limits {
        return Ok(None);
    }
    let frame = take(bytes, header_size + len);
    let (header, payload) = frame.split_at_mut(header_size);
    let is_ascii = match (config.role, header.last_chunk::<4>()) {
        (Role::Server, Some(&key)) => mask_and_test(payload, key),
        (Role::Server | Role::Client, _) => false,
    };
    if kind == Kind::Text && !is_ascii && !utf8::is_valid(payload) {
        return Err(Violation::InvalidUtf8);
    }
    Ok(Some(Message::in_place(kind, frame, header_size)))
}

/// Takes the frame at the start of `bytes` if it is an item of its own and lies there as a whole.
fn poll_in_place<'b>(
    rules: Rules<'_>,
    bytes: &mut &'b mut [u8],
) -> Result<Option<Item<'b>>, Violation> {
    let Some(header) = FrameHeader::parse(bytes)? else {
        return Ok(None);
    };
    check_frame(&header, rules)?;
    let kind = match header.opcode {
        Opcode::Text => Kind::Text,
        Opcode::Binary => Kind::Binary,
        Opcode::Continuation => return Err(Violation::UnexpectedContinuation),
        Opcode::Close | Opcode::Ping | Opcode::Pong => return poll_control(&header, bytes),
    };
    let is_compressed = header.reserved != 0;
    check_sizes(rules.config, is_compressed, 0, header.payload_len)?;
    let header_size = header.size();
    // The sum cannot overflow: the payload is below 2^63 bytes.
    if !header.fin || header_size as u64 + header.payload_len > bytes.len() as u64 {
        return Ok(None);
    }
    let frame = take(bytes, header_size + header.payload_len as usize);
    let payload = &mut frame[header_size..];
    let is_ascii = header
        .masking_key
        .is_some_and(|key| mask_and_test(payload, key));
    if is_compressed {
        let body = CompressedBody::InPlace { frame, header_size };
        return Ok(Some(Item::Compressed(Compressed { kind, body })));
    }
    if kind == Kind::Text && !is_ascii && !utf8::is_valid(payload) {
        return Err(Violation::InvalidUtf8);
    }
    Ok(Some(Item::Message(Message::in_place(
        kind,
        frame,
        header_size,
    ))))
}

/// Takes the control frame at the start of `bytes` if it lies there as a whole.
fn poll_control<'b>(
    header: &FrameHeader,
    bytes: &mut &'b mut [u8],
) -> Result<Option<Item<'b>>, Violation> {
    let header_size = header.size();
    let frame_size = header_size + header.payload_len as usize;
    if frame_size > bytes.len() {
        return Ok(None);
    }
    let payload = &mut take(bytes, frame_size)[header_size..];
    if let Some(key) = header.masking_key {
        mask(payload, key);
    }
    control(header.opcode, Cow::Borrowed(payload)).map(Some)
}

/// What must hold of every frame, whatever was received before it.
#[inline]
fn check_frame(header: &FrameHeader, rules: Rules<'_>) -> Result<(), Violation> {
    if header.reserved != 0 {
        check_reserved(header, rules)?;
    }
    match (rules.config.role, header.masking_key) {
        (Role::Server, None) => Err(Violation::UnmaskedClientFrame),
        (Role::Client, Some(_)) => Err(Violation::MaskedServerFrame),
        (Role::Server, Some(_)) | (Role::Client, None) => Ok(()),
    }
}

/// RFC 7692 6.1: RSV1 is set on the first frame of a compressed message, and on no other.
#[cold]
fn check_reserved(header: &FrameHeader, rules: Rules<'_>) -> Result<(), Violation> {
    let starts_message = matches!(header.opcode, Opcode::Text | Opcode::Binary);
    if rules.deflate && starts_message && header.reserved == RESERVED_1 {
        Ok(())
    } else {
        Err(Violation::ReservedBits {
            got: header.reserved,
        })
    }
}

/// `assembled` bytes of a message have arrived, and its current frame announces `announced` more.
#[inline]
fn check_sizes(
    config: &Config,
    is_compressed: bool,
    assembled: usize,
    announced: u64,
) -> Result<(), Violation> {
    let mut limits = (config.max_frame_size, config.max_message_size);
    if is_compressed {
        limits = (wire_size_max(limits.0), wire_size_max(limits.1));
    }
    if announced > limits.0 as u64 {
        return Err(Violation::FrameTooBig {
            got: announced,
            limit: limits.0,
        });
    }
    let got = (assembled as u64).saturating_add(announced);
    if got > limits.1 as u64 {
        return Err(Violation::MessageTooBig {
            got,
            limit: limits.1,
        });
    }
    Ok(())
}

/// The item for the unmasked payload of a control frame.
fn control<'b>(opcode: Opcode, payload: Cow<'b, [u8]>) -> Result<Item<'b>, Violation> {
    match opcode {
        Opcode::Ping => Ok(Item::Ping(payload)),
        Opcode::Pong => Ok(Item::Pong(payload)),
        Opcode::Close => parse_close(&payload).map(Item::Close),
        Opcode::Continuation | Opcode::Text | Opcode::Binary => {
            unreachable!("{opcode:?} is no control frame")
        }
    }
}

/// RFC 6455 5.5.1: "If there is a body, the first two bytes of the body MUST be a 2-byte unsigned
/// integer [...] representing a status code".
fn parse_close(payload: &[u8]) -> Result<CloseFrame, Violation> {
    let Some((code, reason)) = payload.split_first_chunk::<2>() else {
        if payload.is_empty() {
            return Ok(CloseFrame {
                code: CloseCode::NO_STATUS_RECEIVED,
                reason: Box::default(),
            });
        }
        return Err(Violation::TruncatedCloseCode);
    };
    let code = CloseCode(u16::from_be_bytes(*code));
    if !code.is_sendable() {
        return Err(Violation::InvalidCloseCode { got: code.0 });
    }
    let reason = std::str::from_utf8(reason).map_err(|_| Violation::InvalidCloseReason)?;
    Ok(CloseFrame {
        code,
        reason: reason.into(),
    })
}

/// Splits the first `len` bytes off `bytes`.
#[inline]
fn take<'b>(bytes: &mut &'b mut [u8], len: usize) -> &'b mut [u8] {
    let (head, tail) = std::mem::take(bytes).split_at_mut(len);
    *bytes = tail;
    head
}
