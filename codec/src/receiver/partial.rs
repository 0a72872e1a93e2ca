use std::borrow::Cow;

use bytes::BytesMut;

use super::{Item, Rules, check_frame, check_sizes, control, take};
use crate::deflate::{Compressed, CompressedBody, TAIL};
use crate::frame::{CONTROL_PAYLOAD_SIZE_MAX, FrameHeader, HEADER_SIZE_MAX, Opcode};
use crate::mask::{self, key_at};
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
    loan: Loan,
}

/// Whether the free end of `buffer` is with somebody who receives into it.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
enum Loan {
    /// It is not.
    None,
    /// It is, and nothing else may be received.
    Out,
    /// It was, and so many bytes at its end are yet to be read.
    Unread(usize),
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
    /// One that is in `buffer` as far as it has arrived.
    Message { content: Content, fragments: u32 },
    /// Our Close is out: whichever, it is dropped.
    Discard,
}

/// What a message is made of.
#[derive(Debug)]
enum Content {
    /// Text, validated as far as it has arrived.
    Text(Validator),
    Binary,
    /// Text is validated when it is decompressed.
    Compressed(Kind),
}

/// How far one step came.
#[derive(Debug)]
pub(super) enum Progress<'b> {
    /// All bytes are taken.
    NeedMore,
    /// A header is complete. Poll again, even if no bytes are left.
    Header,
    /// A frame is, with which no message ends. Poll again, even if no bytes are left.
    Frame,
    /// Something is complete.
    Item(Item<'b>),
}

/// A buffer that is too small gets room for so many times what has arrived, or for all of the frame
/// if that is less. With fewer, a large message is copied more often while it grows.
const GROWTH: usize = 4;

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
            loan: Loan::None,
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
        size_of::<Self>() + self.allocation.max(self.buffer.capacity())
    }

    /// Forgets everything but the buffer.
    pub(super) fn reset(&mut self) {
        self.position = FRAME_START;
        self.message = Assembly::None;
        match std::mem::replace(&mut self.loan, Loan::None) {
            Loan::None | Loan::Unread(_) => {}
            Loan::Out => {
                self.buffer = BytesMut::new();
                self.allocation = 0;
            }
        }
        self.allocation = self.allocation.max(self.buffer.capacity());
        self.buffer.clear();
    }

    pub(super) fn discard_messages(&mut self) {
        if let Loan::Unread(count) = std::mem::replace(&mut self.loan, Loan::None) {
            self.skip(count);
        }
        self.message = Assembly::Discard;
        self.buffer = BytesMut::new();
        self.allocation = 0;
    }

    /// Bytes of a message's frame that are to come.
    pub(super) fn to_come(&self) -> u64 {
        match (&self.position, &self.message) {
            (Position::Data { header, received }, Assembly::Message { .. }) => {
                header.payload_len - received
            }
            (Position::Data { .. }, Assembly::None | Assembly::Discard)
            | (Position::Header { .. } | Position::Control { .. }, _) => 0,
        }
    }

    /// Whether bytes were received into the buffer that are yet to be read.
    pub(super) const fn is_unread(&self) -> bool {
        matches!(self.loan, Loan::Unread(_))
    }

    /// Hands out the free end of the buffer, to be received into. What has arrived stays here: text is
    /// validated once.
    pub(super) fn lend(&mut self) -> Option<BytesMut> {
        let to_come = usize::try_from(self.to_come()).unwrap_or(usize::MAX);
        let arrived = self.buffer.len();
        if to_come == 0 || arrived == 0 || self.loan != Loan::None {
            return None;
        }
        let room = self.buffer.capacity() - arrived;
        if room < to_come.min(arrived) {
            self.buffer.reserve(to_come.min(arrived * (GROWTH - 1)));
        }
        self.loan = Loan::Out;
        self.allocation = self.allocation.max(self.buffer.capacity());
        Some(self.buffer.split_off(arrived))
    }

    /// Takes the end of the buffer back, with the bytes that were received.
    pub(super) fn take_back(&mut self, received: BytesMut) {
        let count = received.len();
        match self.loan {
            Loan::Out => {
                assert!(
                    count as u64 <= self.to_come(),
                    "{count} bytes were not to come"
                );
                self.buffer.unsplit(received);
                self.loan = match count {
                    0 => Loan::None,
                    _ => Loan::Unread(count),
                };
            }
            Loan::Unread(_) => panic!("the bytes of the last loan are yet to be read"),
            // Meanwhile our Close has gone out.
            Loan::None => self.skip(count),
        }
    }

    /// Passes over bytes of a frame that is discarded.
    fn skip(&mut self, count: usize) {
        if let Position::Data { header, received } = &mut self.position {
            let to_come = header.payload_len - *received;
            assert!(count as u64 <= to_come, "{count} bytes were not to come");
            *received += count as u64;
            if *received == header.payload_len {
                self.position = FRAME_START;
            }
        }
    }

    /// Takes one step: to the end of a header, a payload, or `bytes`.
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
                let had = usize::from(*len);
                let more = bytes.len().min(HEADER_SIZE_MAX - had);
                carried[had..had + more].copy_from_slice(&bytes[..more]);
                let Some(header) = FrameHeader::parse(&carried[..had + more])? else {
                    take(bytes, more);
                    *len = (had + more) as u8;
                    return Ok(Progress::NeedMore);
                };
                check_frame(&header, rules)?;
                take(bytes, header.size() - had);
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
                control(opcode, payload).map(Progress::Item)
            }
            Position::Data { header, received } => {
                debug_assert!(
                    self.loan != Loan::Out,
                    "nothing is received beside the loan"
                );
                let left = header.payload_len - *received;
                let key = header
                    .masking_key
                    .map(|key| key_at(key, (*received % 4) as usize));
                let loan = std::mem::replace(&mut self.loan, Loan::None);
                let piece_len = match loan {
                    Loan::Unread(count) => count,
                    Loan::None | Loan::Out => {
                        usize::try_from(left).map_or(bytes.len(), |left| left.min(bytes.len()))
                    }
                };
                let to_come = left - piece_len as u64;
                *received += piece_len as u64;
                let is_complete = to_come == 0;
                let is_last = is_complete && header.fin;
                if is_complete {
                    self.position = FRAME_START;
                }
                if let Loan::Unread(count) = loan {
                    let start = self.buffer.len() - count;
                    let piece = &mut self.buffer[start..];
                    if let Some(key) = key {
                        mask::mask(piece, key);
                    }
                } else {
                    self.append(take(bytes, piece_len), to_come, key);
                }
                self.validate(piece_len)?;
                match (is_complete, is_last) {
                    (false, _) => Ok(Progress::NeedMore),
                    (true, false) => Ok(Progress::Frame),
                    (true, true) => self.end_message(),
                }
            }
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
            Assembly::None => {
                let content = Content::begun_by(&header)?;
                check_sizes(rules.config, content.is_compressed(), 0, header.payload_len)?;
                self.message = Assembly::Message {
                    content,
                    fragments: 1,
                };
                self.buffer.clear();
            }
            Assembly::Message { content, fragments } => {
                if header.opcode != Opcode::Continuation {
                    return Err(Violation::InterleavedMessage);
                }
                let assembled = self.buffer.len().saturating_sub(HEADER_SIZE_MAX);
                check_sizes(
                    rules.config,
                    content.is_compressed(),
                    assembled,
                    header.payload_len,
                )?;
                let limit = rules.config.max_fragments;
                if *fragments == limit {
                    return Err(Violation::TooManyFragments { limit });
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

    /// Adds a piece, which is masked with `key`, to the message; of its frame so many bytes are
    /// `to_come`.
    fn append(&mut self, piece: &[u8], to_come: u64, key: Option<[u8; 4]>) {
        match self.message {
            Assembly::Message { .. } => {}
            Assembly::None | Assembly::Discard => return,
        }
        let headroom = if self.buffer.is_empty() {
            HEADER_SIZE_MAX
        } else {
            0
        };
        let arriving = headroom + piece.len();
        if self.buffer.capacity() - self.buffer.len() < arriving {
            let arrived = self.buffer.len() + arriving;
            let to_come = usize::try_from(to_come).unwrap_or(usize::MAX);
            self.buffer
                .reserve(arriving + to_come.min(arrived * (GROWTH - 1)));
        }
        self.buffer
            .extend_from_slice(&[0; HEADER_SIZE_MAX][..headroom]);
        mask::append(piece, &mut self.buffer, key);
    }

    /// Validates the last `len` bytes of the message if it is a text.
    fn validate(&mut self, len: usize) -> Result<(), Violation> {
        match &mut self.message {
            Assembly::Message {
                content: Content::Text(utf8),
                ..
            } => {
                let start = self.buffer.len() - len;
                utf8.push(&self.buffer[start..])
                    .map_err(|_| Violation::InvalidUtf8)
            }
            Assembly::Message {
                content: Content::Binary | Content::Compressed(_),
                ..
            }
            | Assembly::None
            | Assembly::Discard => Ok(()),
        }
    }

    /// Whether the buffer has all its memory to itself: a message that was split off it may not
    /// have been sent yet, and would make the next one allocate anew.
    pub(super) fn is_whole(&mut self) -> bool {
        self.buffer.try_reclaim(self.allocation)
    }

    /// Its last fragment is complete.
    fn end_message<'b>(&mut self) -> Result<Progress<'b>, Violation> {
        let content = match std::mem::replace(&mut self.message, Assembly::None) {
            Assembly::Message { content, .. } => content,
            Assembly::Discard => {
                self.message = Assembly::Discard;
                return Ok(Progress::Frame);
            }
            Assembly::None => unreachable!("a data frame belongs to a message"),
        };
        let kind = match content {
            Content::Text(utf8) => {
                utf8.finish().map_err(|_| Violation::InvalidUtf8)?;
                Kind::Text
            }
            Content::Binary => Kind::Binary,
            Content::Compressed(kind) => {
                self.buffer.extend_from_slice(&TAIL);
                let body = CompressedBody::Assembled(self.take_buffer());
                return Ok(Progress::Item(Item::Compressed(Compressed { kind, body })));
            }
        };
        let buffer = self.take_buffer();
        let message = Message::assembled(kind, buffer, self.allocation);
        Ok(Progress::Item(Item::Message(message)))
    }

    /// The assembled message. What is left of the buffer shares its allocation, so that
    /// `BytesMut::reserve` reclaims the whole of it once the message is dropped.
    fn take_buffer(&mut self) -> BytesMut {
        self.allocation = self.allocation.max(self.buffer.capacity());
        self.buffer.split()
    }
}

impl Content {
    /// What the message is whose first frame has this header.
    fn begun_by(header: &FrameHeader) -> Result<Self, Violation> {
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

/// Takes what has arrived of a control frame; gives its payload once that is complete.
fn poll_control<'b>(
    header: &FrameHeader,
    payload: &mut [u8; CONTROL_PAYLOAD_SIZE_MAX],
    len: &mut u8,
    bytes: &mut &'b mut [u8],
) -> Option<Cow<'b, [u8]>> {
    let had = usize::from(*len);
    let size = header.payload_len as usize;
    let piece_len = bytes.len().min(size - had);
    let piece = take(bytes, piece_len);
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

#[cfg(test)]
pub(super) mod tests {
    use super::*;

    const PIECE: [u8; 16 * 1024] = [7; 16 * 1024];

    /// Assembles a message of one frame of so many pieces; gives it, and how often its bytes had to
    /// move.
    pub(in crate::receiver) fn assemble(partial: &mut Partial, pieces: usize) -> (BytesMut, usize) {
        partial.message = Assembly::Message {
            content: Content::Binary,
            fragments: 1,
        };
        let size = HEADER_SIZE_MAX + pieces * PIECE.len();
        let mut moves = 0;
        let mut place = std::ptr::null();
        for piece in 1..=pieces {
            let to_come = (pieces - piece) * PIECE.len();
            partial.append(&PIECE, to_come as u64, None);
            let capacity = partial.buffer.capacity();
            assert!(capacity <= partial.allocation.max(GROWTH * partial.buffer.len()));
            assert!(capacity <= partial.allocation.max(size));
            moves += usize::from(partial.buffer.as_ptr() != place);
            place = partial.buffer.as_ptr();
        }
        (partial.take_buffer(), moves)
    }

    #[test]
    fn memory_grows_with_what_has_arrived_and_up_to_the_end_of_the_frame() {
        let mut partial = Partial::new();
        let (message, moves) = assemble(&mut partial, 64);
        assert_eq!(message.len(), HEADER_SIZE_MAX + 64 * PIECE.len());
        assert_eq!(partial.allocation, message.len());
        assert_eq!(moves, 3, "room for 64 KiB, for 256 KiB, for all of it");
    }

    #[test]
    fn memory_is_whole_again_when_the_message_is_dropped() {
        let mut partial = Partial::new();
        let (message, _) = assemble(&mut partial, 64);
        partial.reset();
        assert!(!partial.is_whole());
        drop(message);
        assert!(partial.is_whole());
        let (_, moves) = assemble(&mut partial, 64);
        assert_eq!(moves, 1, "nothing is allocated");
    }
}
