//! Frames that lie completely in one receive buffer.

use std::borrow::Cow;

use super::item::Item;
use super::rules::Rules;
use crate::config::Config;
use crate::deflate::{Compressed, CompressedBody};
use crate::frame::{FrameHeader, Opcode};
use crate::mask::{mask, mask_and_test};
use crate::message::{Kind, Message};
use crate::role::Role;
use crate::utf8;
use crate::violation::Violation;

/// Takes the frame at the start of `bytes` if it is of the most common form: a complete, uncompressed
/// message of less than 64 KiB within the limits. Any other frame, valid or not, is left to
/// [`Receiver::poll`](super::Receiver::poll), which checks all rules.
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
    // A wrong mask bit makes this 128 or more.
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
    let frame = split_front(bytes, header_size + len);
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

/// Takes the frame at the start of `bytes` if it is complete, and is a message or a control frame.
pub(super) fn poll_in_place<'b>(
    rules: Rules<'_>,
    bytes: &mut &'b mut [u8],
) -> Result<Option<Item<'b>>, Violation> {
    let Some(header) = FrameHeader::parse(bytes)? else {
        return Ok(None);
    };
    rules.check_frame(&header)?;
    let kind = match header.opcode {
        Opcode::Text => Kind::Text,
        Opcode::Binary => Kind::Binary,
        Opcode::Continuation => return Err(Violation::UnexpectedContinuation),
        Opcode::Close | Opcode::Ping | Opcode::Pong => return poll_control(&header, bytes),
    };
    let is_compressed = header.reserved != 0;
    rules.check_sizes(is_compressed, 0, header.payload_len)?;
    let header_size = header.size();
    // The sum cannot overflow: the payload is below 2^63 bytes.
    if !header.fin || header_size as u64 + header.payload_len > bytes.len() as u64 {
        return Ok(None);
    }
    let frame = split_front(bytes, header_size + header.payload_len as usize);
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
    let message = Message::in_place(kind, frame, header_size);
    Ok(Some(Item::Message(message)))
}

/// Takes the control frame at the start of `bytes` if it is complete.
fn poll_control<'b>(
    header: &FrameHeader,
    bytes: &mut &'b mut [u8],
) -> Result<Option<Item<'b>>, Violation> {
    let header_size = header.size();
    let frame_size = header_size + header.payload_len as usize;
    if frame_size > bytes.len() {
        return Ok(None);
    }
    let payload = &mut split_front(bytes, frame_size)[header_size..];
    if let Some(key) = header.masking_key {
        mask(payload, key);
    }
    Item::control(header.opcode, Cow::Borrowed(payload)).map(Some)
}

/// Splits the first `len` bytes off `bytes`.
#[inline]
pub(super) fn split_front<'b>(bytes: &mut &'b mut [u8], len: usize) -> &'b mut [u8] {
    let (head, tail) = std::mem::take(bytes).split_at_mut(len);
    *bytes = tail;
    head
}
