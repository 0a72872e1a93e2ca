use std::borrow::Cow;

use bytes::BytesMut;

use super::buffer::{AssemblyBuffer, assert_at_most};
use super::in_place::split_front;
use super::item::Item;
use super::rules::Rules;
use crate::deflate::{Compressed, CompressedBody, TAIL};
use crate::frame::{CONTROL_PAYLOAD_SIZE_MAX, FrameHeader, HEADER_SIZE_MAX, Opcode};
use crate::mask::{self, key_at};
use crate::message::{Kind, Message};
use crate::utf8::Validator;
use crate::violation::Violation;

/// The state that a connection keeps between two receive buffers.
#[derive(Debug)]
pub(super) struct Partial {
    position: Position,
    message: Incoming,
    buffer: AssemblyBuffer,
}

/// The position in a frame.
#[derive(Debug)]
enum Position {
    /// Before or in a header. Its first `len` bytes are in `bytes`.
    Header {
        bytes: [u8; HEADER_SIZE_MAX],
        len: u8,
    },
    /// In the payload of a control frame. Its first `len` bytes are in `payload`, unmasked.
    Control {
        header: FrameHeader,
        payload: [u8; CONTROL_PAYLOAD_SIZE_MAX],
        len: u8,
    },
    /// In the payload of a data frame. Its first `received` bytes have arrived.
    Data { header: FrameHeader, received: u64 },
}

/// The message to which data frames belong.
#[derive(Debug)]
enum Incoming {
    /// No message has begun.
    None,
    /// The received part of the message is in the buffer.
    Message { content: Content, fragments: u32 },
    /// All messages are dropped, because our Close is sent.
    Discarded,
}

/// The content of a message.
#[derive(Debug)]
enum Content {
    /// Text, whose received part is validated.
    Text(Validator),
    Binary,
    /// Compressed content, which is validated when it is decompressed.
    Compressed(Kind),
}

/// The result of one step.
#[derive(Debug)]
pub(super) enum Progress<'b> {
    /// All bytes are read.
    NeedMore,
    /// A header is complete. Poll again, even if no bytes are left.
    Header,
    /// A frame is complete that does not end a message. Poll again, even if no bytes are left.
    Frame,
    /// A message or a control frame is complete.
    Item(Item<'b>),
}

const FRAME_START: Position = Position::Header {
    bytes: [0; HEADER_SIZE_MAX],
    len: 0,
};

impl Partial {
    pub(super) fn new() -> Self {
        Self {
            position: FRAME_START,
            message: Incoming::None,
            buffer: AssemblyBuffer::new(),
        }
    }

    /// Returns whether the connection is between two messages and between two frames.
    pub(super) fn is_idle(&self) -> bool {
        matches!(
            (&self.position, &self.message),
            (Position::Header { len: 0, .. }, Incoming::None)
        )
    }

    /// Returns the bytes on the heap.
    pub(super) fn size(&self) -> usize {
        size_of::<Self>() + self.buffer.size()
    }

    /// Prepares for another connection. The memory of the buffer is kept.
    pub(super) fn reset(&mut self) {
        self.position = FRAME_START;
        self.message = Incoming::None;
        self.buffer.reset();
    }

    /// Drops the current message and all later ones.
    pub(super) fn discard_messages(&mut self) {
        match self.buffer.release() {
            0 => {}
            unread => self.skip(unread),
        }
        self.message = Incoming::Discarded;
    }

    /// Returns the bytes that are missing of the current data frame.
    pub(super) fn to_come(&self) -> u64 {
        match (&self.position, &self.message) {
            (Position::Data { header, received }, Incoming::Message { .. }) => {
                header.payload_len - received
            }
            (Position::Data { .. }, Incoming::None | Incoming::Discarded)
            | (Position::Header { .. } | Position::Control { .. }, _) => 0,
        }
    }

    /// Returns whether bytes were received into the lent buffer and are not read yet.
    pub(super) const fn is_unread(&self) -> bool {
        self.buffer.is_unread()
    }

    /// Lends the free end of the buffer.
    pub(super) fn lend(&mut self) -> Option<BytesMut> {
        self.buffer.lend(self.to_come())
    }

    /// Takes the free end of the buffer back with the bytes that were received into it.
    ///
    /// # Panics
    ///
    /// If there are more bytes than the frame has left, or if the bytes of the last loan are not read yet.
    pub(super) fn take_back(&mut self, received: BytesMut) {
        let count = received.len();
        if !self.buffer.take_back(received, self.to_come()) {
            // Our Close was sent meanwhile.
            self.skip(count);
        }
    }

    /// Skips bytes of a frame that is discarded.
    fn skip(&mut self, count: usize) {
        if let Position::Data { header, received } = &mut self.position {
            assert_at_most(header.payload_len - *received, count);
            *received += count as u64;
            if *received == header.payload_len {
                self.position = FRAME_START;
            }
        }
    }

    /// Returns whether no message shares the memory of the buffer.
    pub(super) fn is_unshared(&mut self) -> bool {
        self.buffer.is_unshared()
    }

    #[cfg(test)]
    pub(super) fn buffer_mut(&mut self) -> &mut AssemblyBuffer {
        &mut self.buffer
    }

    /// Takes one step: to the end of a header, of a payload, or of `bytes`.
    pub(super) fn poll<'b>(
        &mut self,
        rules: Rules<'_>,
        bytes: &mut &'b mut [u8],
    ) -> Result<Progress<'b>, Violation> {
        match &mut self.position {
            Position::Header {
                bytes: carried,
                len,
            } => {
                let Some(header) = poll_header(carried, len, rules, bytes)? else {
                    return Ok(Progress::NeedMore);
                };
                self.begin_frame(header, rules)?;
                Ok(Progress::Header)
            }
            Position::Control {
                header,
                payload,
                len,
            } => {
                let opcode = header.opcode;
                let Some(payload) = poll_control(header, payload, len, bytes) else {
                    return Ok(Progress::NeedMore);
                };
                self.position = FRAME_START;
                Item::control(opcode, payload).map(Progress::Item)
            }
            Position::Data { .. } => self.poll_data(bytes),
        }
    }

    /// Reads the payload of a data frame as far as it has arrived.
    fn poll_data<'b>(&mut self, bytes: &mut &'b mut [u8]) -> Result<Progress<'b>, Violation> {
        let Position::Data { header, received } = &mut self.position else {
            unreachable!("the position is in a data frame");
        };
        debug_assert!(self.buffer.is_complete(), "the buffer is lent");
        let missing = header.payload_len - *received;
        let key = header
            .masking_key
            .map(|key| key_at(key, (*received % 4) as usize));
        let loan = self.buffer.read_loan(key);
        let piece_len = match loan {
            0 => usize::try_from(missing).map_or(bytes.len(), |missing| missing.min(bytes.len())),
            loan => loan,
        };
        let to_come = missing - piece_len as u64;
        *received += piece_len as u64;
        let is_complete = to_come == 0;
        let is_last = is_complete && header.fin;
        if is_complete {
            self.position = FRAME_START;
        }
        if loan == 0 {
            let piece = split_front(bytes, piece_len);
            if matches!(self.message, Incoming::Message { .. }) {
                self.buffer.append(piece, to_come, key);
            }
        }
        self.validate(piece_len)?;
        match (is_complete, is_last) {
            (false, _) => Ok(Progress::NeedMore),
            (true, false) => Ok(Progress::Frame),
            (true, true) => self.end_message(),
        }
    }

    /// Checks `header` against the message that it starts or continues.
    fn begin_frame(&mut self, header: FrameHeader, rules: Rules<'_>) -> Result<(), Violation> {
        if header.opcode.is_control() {
            let payload = [0; CONTROL_PAYLOAD_SIZE_MAX];
            self.position = Position::Control {
                header,
                payload,
                len: 0,
            };
            return Ok(());
        }
        match &mut self.message {
            Incoming::None => {
                let content = Content::of_first_frame(&header)?;
                rules.check_sizes(content.is_compressed(), 0, header.payload_len)?;
                self.message = Incoming::Message {
                    content,
                    fragments: 1,
                };
                self.buffer.clear();
            }
            Incoming::Message { content, fragments } => {
                if header.opcode != Opcode::Continuation {
                    return Err(Violation::InterleavedMessage);
                }
                let assembled = self.buffer.payload_len();
                rules.check_sizes(content.is_compressed(), assembled, header.payload_len)?;
                let limit = rules.config.max_fragments;
                if *fragments == limit {
                    return Err(Violation::TooManyFragments { limit });
                }
                *fragments += 1;
            }
            Incoming::Discarded => {}
        }
        self.position = Position::Data {
            header,
            received: 0,
        };
        Ok(())
    }

    /// Validates the last `len` bytes of a text message.
    fn validate(&mut self, len: usize) -> Result<(), Violation> {
        match &mut self.message {
            Incoming::Message {
                content: Content::Text(utf8),
                ..
            } => utf8
                .push(self.buffer.last(len))
                .map_err(|_| Violation::InvalidUtf8),
            Incoming::Message {
                content: Content::Binary | Content::Compressed(_),
                ..
            }
            | Incoming::None
            | Incoming::Discarded => Ok(()),
        }
    }

    /// Returns the message, whose last fragment is complete.
    fn end_message<'b>(&mut self) -> Result<Progress<'b>, Violation> {
        let content = match std::mem::replace(&mut self.message, Incoming::None) {
            Incoming::Message { content, .. } => content,
            Incoming::Discarded => {
                self.message = Incoming::Discarded;
                return Ok(Progress::Frame);
            }
            Incoming::None => unreachable!("a data frame belongs to a message"),
        };
        let kind = match content {
            Content::Text(utf8) => {
                utf8.finish().map_err(|_| Violation::InvalidUtf8)?;
                Kind::Text
            }
            Content::Binary => Kind::Binary,
            Content::Compressed(kind) => {
                self.buffer.extend(&TAIL);
                let body = CompressedBody::Assembled(self.buffer.take().0);
                return Ok(Progress::Item(Item::Compressed(Compressed { kind, body })));
            }
        };
        let (buffer, allocation) = self.buffer.take();
        let message = Message::assembled(kind, buffer, allocation);
        Ok(Progress::Item(Item::Message(message)))
    }
}

impl Content {
    /// Returns the content of the message whose first frame has this header.
    fn of_first_frame(header: &FrameHeader) -> Result<Self, Violation> {
        let kind = match header.opcode {
            Opcode::Text => Kind::Text,
            Opcode::Binary => Kind::Binary,
            Opcode::Continuation | Opcode::Close | Opcode::Ping | Opcode::Pong => {
                return Err(Violation::UnexpectedContinuation);
            }
        };
        Ok(match kind {
            _ if header.reserved != 0 => Self::Compressed(kind),
            Kind::Text => Self::Text(Validator::new()),
            Kind::Binary => Self::Binary,
        })
    }

    const fn is_compressed(&self) -> bool {
        matches!(self, Self::Compressed(_))
    }
}

/// Reads a header as far as it has arrived. Returns it if it is complete.
fn poll_header(
    carried: &mut [u8; HEADER_SIZE_MAX],
    len: &mut u8,
    rules: Rules<'_>,
    bytes: &mut &mut [u8],
) -> Result<Option<FrameHeader>, Violation> {
    let had = usize::from(*len);
    let more = bytes.len().min(HEADER_SIZE_MAX - had);
    carried[had..had + more].copy_from_slice(&bytes[..more]);
    let Some(header) = FrameHeader::parse(&carried[..had + more])? else {
        split_front(bytes, more);
        *len = (had + more) as u8;
        return Ok(None);
    };
    rules.check_frame(&header)?;
    split_front(bytes, header.size() - had);
    Ok(Some(header))
}

/// Reads the payload of a control frame as far as it has arrived. Returns it if it is complete.
fn poll_control<'b>(
    header: &FrameHeader,
    payload: &mut [u8; CONTROL_PAYLOAD_SIZE_MAX],
    len: &mut u8,
    bytes: &mut &'b mut [u8],
) -> Option<Cow<'b, [u8]>> {
    let had = usize::from(*len);
    let size = header.payload_len as usize;
    let piece_len = bytes.len().min(size - had);
    let piece = split_front(bytes, piece_len);
    if let Some(key) = header.masking_key {
        mask::mask(piece, key_at(key, had));
    }
    if piece_len == size {
        return Some(Cow::Borrowed(piece));
    }
    payload[had..had + piece_len].copy_from_slice(piece);
    *len += piece_len as u8;
    (usize::from(*len) == size).then(|| Cow::Owned(payload[..size].to_vec()))
}
