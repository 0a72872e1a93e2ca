//! From bytes to messages and control frames.
//!
//! A frame that lies within one receive buffer is handled where it lies. What a buffer ends within
//! (a header, a control frame, a message) is kept in a [`Partial`], which an idle connection does
//! not have.

use std::borrow::Cow;

use crate::close::CloseCode;
use crate::config::{Config, Role};
use crate::disconnect::CloseFrame;
use crate::frame::{FrameHeader, Opcode};
use crate::mask::mask;
use crate::message::{Kind, Message};
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

/// What the receiver found.
#[derive(Debug)]
pub(crate) enum Item<'b> {
    Message(Message<'b>),
    Ping(Cow<'b, [u8]>),
    Pong(Cow<'b, [u8]>),
    Close(CloseFrame),
}

impl Receiver {
    /// The next item in `bytes`, of which it takes what it has read; `None` when more bytes are
    /// needed.
    #[inline]
    pub(crate) fn poll<'b>(
        &mut self,
        config: &Config,
        pool: &mut Pool,
        bytes: &mut &'b mut [u8],
    ) -> Result<Option<Item<'b>>, Violation> {
        if self.partial.is_none() {
            if bytes.is_empty() {
                return Ok(None);
            }
            if let Some(item) = poll_in_place(config, bytes)? {
                return Ok(Some(item));
            }
            self.partial = Some(pool.take());
        }
        self.poll_partial(config, pool, bytes)
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
        config: &Config,
        pool: &mut Pool,
        bytes: &mut &'b mut [u8],
    ) -> Result<Option<Item<'b>>, Violation> {
        let Some(partial) = &mut self.partial else {
            return Ok(None);
        };
        loop {
            match partial.poll(config, bytes)? {
                Progress::NeedMore => return Ok(None),
                Progress::Continue => {}
                Progress::Item(item) => {
                    if partial.is_idle() {
                        self.release(pool);
                    }
                    return Ok(Some(item));
                }
            }
        }
    }
}

/// Takes the frame at the start of `bytes` if it is an item of its own and lies there as a whole.
#[inline]
fn poll_in_place<'b>(
    config: &Config,
    bytes: &mut &'b mut [u8],
) -> Result<Option<Item<'b>>, Violation> {
    let Some(header) = FrameHeader::parse(bytes)? else {
        return Ok(None);
    };
    check_frame(&header, config)?;
    let kind = match header.opcode {
        Opcode::Text => Kind::Text,
        Opcode::Binary => Kind::Binary,
        Opcode::Continuation => return Err(Violation::UnexpectedContinuation),
        Opcode::Close | Opcode::Ping | Opcode::Pong => return poll_control(&header, bytes),
    };
    check_message_size(config, 0, header.payload_len)?;
    let header_size = header.size();
    // The sum cannot overflow: the payload is below 2^63 bytes.
    if !header.fin || header_size as u64 + header.payload_len > bytes.len() as u64 {
        return Ok(None);
    }
    let frame = take(bytes, header_size + header.payload_len as usize);
    let payload = &mut frame[header_size..];
    if let Some(key) = header.masking_key {
        mask(payload, key);
    }
    if kind == Kind::Text && !utf8::is_valid(payload) {
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
fn check_frame(header: &FrameHeader, config: &Config) -> Result<(), Violation> {
    if header.reserved != 0 {
        return Err(Violation::ReservedBits {
            got: header.reserved,
        });
    }
    match (config.role, header.masking_key) {
        (Role::Server, None) => return Err(Violation::UnmaskedClientFrame),
        (Role::Client, Some(_)) => return Err(Violation::MaskedServerFrame),
        (Role::Server, Some(_)) | (Role::Client, None) => {}
    }
    if header.payload_len > config.max_frame_size as u64 && !header.opcode.is_control() {
        return Err(Violation::FrameTooBig {
            got: header.payload_len,
            limit: config.max_frame_size,
        });
    }
    Ok(())
}

/// `assembled` bytes have arrived, and the current frame announces `announced` more.
#[inline]
fn check_message_size(config: &Config, assembled: usize, announced: u64) -> Result<(), Violation> {
    let got = (assembled as u64).saturating_add(announced);
    if got > config.max_message_size as u64 {
        return Err(Violation::MessageTooBig {
            got,
            limit: config.max_message_size,
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
