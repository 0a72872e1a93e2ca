use std::borrow::Cow;

use bytes::BytesMut;

use super::{Item, check_frame, check_message_size, control, take};
use crate::config::Config;
use crate::frame::{CONTROL_PAYLOAD_SIZE_MAX, FrameHeader, HEADER_SIZE_MAX, Opcode};
use crate::mask::{key_at, mask};
use crate::message::{Kind, Message};
use crate::utf8::Validator;
use crate::violation::Violation;

/// What a connection must remember from one receive buffer to the next.
#[derive(Debug)]
pub(super) struct Partial {
    position: Position,
    message: Assembly,
    /// Headroom for a header and the payload of `message`; empty when there is none. Grows with
    /// what has arrived, never with what was announced.
    buffer: BytesMut,
    /// Bytes that `buffer` holds at most, together with the messages that were split off it.
    allocation: usize,
}

/// Where in a frame the last buffer ended.
#[derive(Debug)]
enum Position {
    /// Before or within a header, `len` bytes of which are in `bytes`.
    Header {
        bytes: [u8; HEADER_SIZE_MAX],
        len: u8,
    },
    /// Within the payload of a control frame, `len` unmasked bytes of which are in `payload`.
    Control {
        header: FrameHeader,
        payload: [u8; CONTROL_PAYLOAD_SIZE_MAX],
        len: u8,
    },
    /// Within the payload of a data frame, `received` bytes of which have arrived.
    Data { header: FrameHeader, received: u64 },
}

/// Which message the data frames belong to.
#[derive(Debug)]
enum Assembly {
    /// None has begun.
    None,
    /// One that is in `buffer` as far as it has arrived; `utf8` follows a text.
    Message {
        kind: Kind,
        fragments: u32,
        utf8: Validator,
    },
    /// Our Close is out: whichever, it is dropped.
    Discard,
}

/// How far one step came.
#[derive(Debug)]
pub(super) enum Progress<'b> {
    /// All bytes are taken.
    NeedMore,
    /// Poll again, even if no bytes are left.
    Continue,
    /// Something is complete.
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
            message: Assembly::None,
            buffer: BytesMut::new(),
            allocation: 0,
        }
    }

    /// Whether there is nothing to remember.
    pub(super) fn is_idle(&self) -> bool {
        matches!(
            (&self.position, &self.message),
            (Position::Header { len: 0, .. }, Assembly::None)
        )
    }

    /// Bytes on the heap.
    pub(super) fn size(&self) -> usize {
        size_of::<Self>() + self.allocation
    }

    /// Forgets everything but the buffer.
    pub(super) fn reset(&mut self) {
        self.position = FRAME_START;
        self.message = Assembly::None;
        self.allocation = self.allocation.max(self.buffer.capacity());
        self.buffer.clear();
    }

    pub(super) fn discard_messages(&mut self) {
        self.message = Assembly::Discard;
        self.buffer = BytesMut::new();
        self.allocation = 0;
    }

    /// Takes one step: to the end of a header, a payload, or `bytes`.
    pub(super) fn poll<'b>(
        &mut self,
        config: &Config,
        bytes: &mut &'b mut [u8],
    ) -> Result<Progress<'b>, Violation> {
        match &mut self.position {
            Position::Header {
                bytes: carried,
                len,
            } => {
                let had = usize::from(*len);
                let more = bytes.len().min(HEADER_SIZE_MAX - had);
                carried[had..had + more].copy_from_slice(&bytes[..more]);
                let Some(header) = FrameHeader::parse(&carried[..had + more])? else {
                    take(bytes, more);
                    *len = (had + more) as u8;
                    return Ok(Progress::NeedMore);
                };
                check_frame(&header, config)?;
                take(bytes, header.size() - had);
                self.begin_frame(header, config)?;
                Ok(Progress::Continue)
            }
            Position::Control {
                header,
                payload,
                len,
            } => {
                let had = usize::from(*len);
                let size = header.payload_len as usize;
                let piece_len = bytes.len().min(size - had);
                let piece = take(bytes, piece_len);
                if let Some(key) = header.masking_key {
                    mask(piece, key_at(key, had));
                }
                let opcode = header.opcode;
                let payload = if piece_len == size {
                    Cow::Borrowed(&*piece)
                } else {
                    payload[had..had + piece_len].copy_from_slice(piece);
                    *len += piece_len as u8;
                    if usize::from(*len) < size {
                        return Ok(Progress::NeedMore);
                    }
                    Cow::Owned(payload[..size].to_vec())
                };
                self.position = FRAME_START;
                control(opcode, payload).map(Progress::Item)
            }
            Position::Data { header, received } => {
                let left = header.payload_len - *received;
                let piece_len =
                    usize::try_from(left).map_or(bytes.len(), |left| left.min(bytes.len()));
                let piece = take(bytes, piece_len);
                if let Some(key) = header.masking_key {
                    mask(piece, key_at(key, (*received % 4) as usize));
                }
                *received += piece_len as u64;
                let complete = *received == header.payload_len;
                let last = complete && header.fin;
                if complete {
                    self.position = FRAME_START;
                }
                self.append(piece, complete, last)
            }
        }
    }

    /// Checks `header` against the message that it starts or continues.
    fn begin_frame(&mut self, header: FrameHeader, config: &Config) -> Result<(), Violation> {
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
            Assembly::None => {
                let kind = match header.opcode {
                    Opcode::Text => Kind::Text,
                    Opcode::Binary => Kind::Binary,
                    Opcode::Continuation | Opcode::Close | Opcode::Ping | Opcode::Pong => {
                        return Err(Violation::UnexpectedContinuation);
                    }
                };
                check_message_size(config, 0, header.payload_len)?;
                self.message = Assembly::Message {
                    kind,
                    fragments: 1,
                    utf8: Validator::new(),
                };
                self.buffer.clear();
            }
            Assembly::Message { fragments, .. } => {
                if header.opcode != Opcode::Continuation {
                    return Err(Violation::InterleavedMessage);
                }
                let assembled = self.buffer.len().saturating_sub(HEADER_SIZE_MAX);
                check_message_size(config, assembled, header.payload_len)?;
                if *fragments == config.max_fragments {
                    return Err(Violation::TooManyFragments {
                        limit: config.max_fragments,
                    });
                }
                *fragments += 1;
            }
            Assembly::Discard => {}
        }
        self.position = Position::Data {
            header,
            received: 0,
        };
        Ok(())
    }

    /// Adds an unmasked piece to the message; `complete` at the end of a frame, `last` at the end
    /// of the message.
    fn append<'b>(
        &mut self,
        piece: &[u8],
        complete: bool,
        last: bool,
    ) -> Result<Progress<'b>, Violation> {
        let progress = if complete {
            Progress::Continue
        } else {
            Progress::NeedMore
        };
        let Assembly::Message { kind, utf8, .. } = &mut self.message else {
            return Ok(progress);
        };
        let kind = *kind;
        if kind == Kind::Text {
            utf8.push(piece).map_err(|_| Violation::InvalidUtf8)?;
            if last {
                utf8.finish().map_err(|_| Violation::InvalidUtf8)?;
            }
        }
        if self.buffer.is_empty() {
            self.buffer.reserve(HEADER_SIZE_MAX + piece.len());
            self.buffer.extend_from_slice(&[0; HEADER_SIZE_MAX]);
        }
        self.buffer.extend_from_slice(piece);
        if !last {
            return Ok(progress);
        }
        self.message = Assembly::None;
        Ok(Progress::Item(Item::Message(Message::assembled(
            kind,
            self.take_buffer(),
        ))))
    }

    /// The assembled message. What is left of the buffer shares its allocation, so that
    /// `BytesMut::reserve` reclaims the whole of it once the message is dropped.
    fn take_buffer(&mut self) -> BytesMut {
        self.allocation = self.allocation.max(self.buffer.capacity());
        self.buffer.split()
    }
}
