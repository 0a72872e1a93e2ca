//! Messages to and from the wire format of RFC 7692 7.2.

use std::fmt;

use bytes::{Bytes, BytesMut};
use flate2::{Compress, Compression, Decompress, FlushCompress, FlushDecompress, Status};

use super::budget::{Budget, Reservation};
use super::compressed::Compressed;
use super::negotiation::{Agreement, Terms};
use super::{Deflate, WINDOW_BITS};
use crate::frame::{FrameHeader, HEADER_SIZE_MAX, Opcode, unmasked_header_size};
use crate::mask::mask;
use crate::message::{Kind, Message};
use crate::utf8::Validator;
use crate::violation::Violation;

/// RFC 7692 7.2.1: what a flush ends with, and what is not sent.
pub(crate) const TAIL: [u8; 4] = [0x00, 0x00, 0xff, 0xff];

/// RSV1 (RFC 7692 6): "the message is compressed".
pub(crate) const RESERVED_1: u8 = 0b100;

/// Decompressed bytes between two looks at the limit.
const SCRATCH_SIZE: usize = 32 << 10;

/// Bytes that zlib-rs allocates for a decompressor, whatever the peer's window.
pub(super) const fn decompressor_size() -> usize {
    48 << 10
}

/// Bytes that zlib-rs allocates for a compressor.
pub(super) const fn compressor_size(window_bits: u8) -> usize {
    (4 << window_bits) + (244 << 10)
}

/// A byte that is given to a decompressor, or compressed, takes about as long as so many that come out of
/// a decompressor: a peer may send blocks that are nearly all header.
const INPUT_WORK: u64 = 8;

/// What the connections of an endpoint share.
pub(crate) struct Codec {
    settings: Deflate,
    /// One for each number of window bits that was negotiated.
    compressors: [Option<Compress>; (*WINDOW_BITS.end() - *WINDOW_BITS.start() + 1) as usize],
    decompressor: Decompress,
    scratch: Box<[u8]>,
    /// As in the receiver's buffers: the messages that are split off share its allocation.
    output: BytesMut,
    pub(crate) budget: Budget,
    /// Bytes that were decompressed, and [`INPUT_WORK`] times those that were read for it or compressed.
    work: u64,
}

/// What a connection with context takeover has of its own, from the first message on.
pub(crate) struct Streams {
    compressor: Option<Compress>,
    decompressor: Option<Decompress>,
    _reservation: Reservation,
}

impl Streams {
    /// None if all is shared.
    pub(crate) fn new(agreement: Agreement) -> Option<Box<Self>> {
        let reservation = agreement.reservation?;
        Some(Box::new(Self {
            compressor: None,
            decompressor: None,
            _reservation: reservation,
        }))
    }
}

impl Codec {
    pub(crate) fn new(settings: &Deflate) -> Self {
        Self {
            settings: settings.clone(),
            compressors: [const { None }; _],
            decompressor: new_decompressor(),
            scratch: vec![0; SCRATCH_SIZE].into_boxed_slice(),
            output: BytesMut::new(),
            budget: Budget::new(settings.takeover_budget),
            work: 0,
        }
    }

    /// Appends one compressed frame to `out`, or gives `false` if the message is better sent as it
    /// is.
    pub(crate) fn append_message(
        &mut self,
        terms: Terms,
        streams: Option<&mut Streams>,
        masking_key: Option<[u8; 4]>,
        (opcode, payload): (Opcode, &[u8]),
        out: &mut Vec<u8>,
    ) -> bool {
        if payload.len() < self.settings.threshold {
            return false;
        }
        self.work += INPUT_WORK * payload.len() as u64;
        let level = self.settings.level;
        let compressor = match streams {
            Some(streams) if terms.takeover => streams
                .compressor
                .get_or_insert_with(|| new_compressor(level, terms.window_bits)),
            Some(_) | None => {
                let index = usize::from(terms.window_bits - WINDOW_BITS.start());
                let shared = &mut self.compressors[index];
                let shared = shared.get_or_insert_with(|| new_compressor(level, terms.window_bits));
                shared.reset();
                shared
            }
        };
        let frame_start = out.len();
        // Most messages shrink, but stay in the class of lengths that they are in.
        let masking_key_size = if masking_key.is_some() { 4 } else { 0 };
        let room = unmasked_header_size(payload.len() as u64) + masking_key_size;
        out.resize(frame_start + room, 0);
        compress(compressor, payload, out);
        let size = out.len() - frame_start - room;
        if size >= payload.len() && !terms.takeover {
            out.truncate(frame_start);
            return false;
        }
        let header = FrameHeader {
            reserved: RESERVED_1,
            ..FrameHeader::new(opcode, masking_key, size as u64)
        };
        put_header(header, frame_start, room, out);
        if let Some(key) = masking_key {
            mask(&mut out[frame_start + header.size()..], key);
        }
        true
    }

    /// One compressed frame for all connections that agreed to [`Self::shared_window_bits`] or
    /// more, and to no context takeover; `None` if the message is better sent as it is.
    pub(crate) fn encode_frame(&mut self, opcode: Opcode, payload: &[u8]) -> Option<Bytes> {
        let window_bits = self.shared_window_bits();
        let terms = Terms {
            window_bits,
            takeover: false,
            peer_takeover: false,
        };
        let mut out = Vec::new();
        self.append_message(terms, None, None, (opcode, payload), &mut out)
            .then(|| out.into())
    }

    /// The window of frames that are encoded once for many connections.
    pub(crate) fn shared_window_bits(&self) -> u8 {
        self.settings.max_window_bits
    }

    /// How much work there was so far.
    pub(crate) fn work(&self) -> u64 {
        self.work
    }

    pub(crate) fn settings(&self) -> &Deflate {
        &self.settings
    }

    /// The message, of at most `limit` bytes.
    pub(crate) fn decompress(
        &mut self,
        terms: Terms,
        streams: Option<&mut Streams>,
        compressed: Compressed<'_>,
        limit: usize,
    ) -> Result<Message<'static>, Violation> {
        let kind = compressed.kind;
        let decompressor = match streams {
            Some(streams) if terms.peer_takeover => {
                streams.decompressor.get_or_insert_with(new_decompressor)
            }
            Some(_) | None => {
                self.decompressor.reset(false);
                &mut self.decompressor
            }
        };
        self.output.clear();
        self.output.extend_from_slice(&[0; HEADER_SIZE_MAX]);
        let mut utf8 = Validator::new();
        let (output, scratch, work) = (&mut self.output, &mut self.scratch, &mut self.work);
        compressed.read_with_tail(|payload| {
            *work += INPUT_WORK * payload.len() as u64;
            decompress(decompressor, payload, scratch, |piece| {
                *work += piece.len() as u64;
                let got = output.len() - HEADER_SIZE_MAX + piece.len();
                if got > limit {
                    return Err(Violation::MessageTooBig {
                        got: got as u64,
                        limit,
                    });
                }
                if kind == Kind::Text {
                    utf8.push(piece).map_err(|_| Violation::InvalidUtf8)?;
                }
                output.extend_from_slice(piece);
                Ok(())
            })
        })?;
        utf8.finish().map_err(|_| Violation::InvalidUtf8)?;
        let allocation = self.output.capacity();
        Ok(Message::assembled(kind, self.output.split(), allocation))
    }
}

fn new_compressor(level: u32, window_bits: u8) -> Compress {
    Compress::new_with_window_bits(Compression::new(level), false, window_bits)
}

/// A window of 15 bits decompresses what was compressed with any.
fn new_decompressor() -> Decompress {
    Decompress::new(false)
}

/// Appends the compressed form of `payload` to `out` (7.2.1).
fn compress(compressor: &mut Compress, payload: &[u8], out: &mut Vec<u8>) {
    // More than a stored block takes, so that one call is enough but for odd cases.
    out.reserve(payload.len() + payload.len() / 8 + 64);
    let (start, consumed) = (out.len(), compressor.total_in());
    loop {
        let taken = (compressor.total_in() - consumed) as usize;
        let status = compressor
            .compress_vec(&payload[taken..], out, FlushCompress::Sync)
            .expect("a compressor that is only flushed has no invalid state");
        debug_assert!(matches!(status, Status::Ok | Status::BufError));
        // With room left, everything is flushed.
        if out.len() < out.capacity() {
            break;
        }
        out.reserve(SCRATCH_SIZE);
    }
    if out[start..].ends_with(&TAIL) {
        out.truncate(out.len() - TAIL.len());
    }
    if out.len() == start {
        // 7.2.3.6: an empty message is one byte, the header of an empty block.
        out.push(0);
    }
}

/// Writes the header into the room of `room` bytes in front of the payload, and closes the gap
/// that is left if it needs less.
fn put_header(header: FrameHeader, frame_start: usize, room: usize, out: &mut Vec<u8>) {
    let size = header.size();
    if size < room {
        let payload_start = frame_start + room;
        out.copy_within(payload_start.., frame_start + size);
        out.truncate(out.len() - (room - size));
    } else if size > room {
        // With context takeover, what did not shrink is sent compressed all the same.
        out.splice(
            frame_start..frame_start,
            std::iter::repeat_n(0, size - room),
        );
    }
    header.encode_to(&mut out[frame_start..]);
}

/// Decompresses a whole message with its tail (7.2.2), and gives it to `sink` in pieces.
fn decompress(
    decompressor: &mut Decompress,
    mut input: &[u8],
    scratch: &mut [u8],
    mut sink: impl FnMut(&[u8]) -> Result<(), Violation>,
) -> Result<(), Violation> {
    // An empty message is one byte (7.2.3.6), but nothing is nothing, too.
    if input == TAIL {
        return Ok(());
    }
    loop {
        let before = (decompressor.total_in(), decompressor.total_out());
        let status = decompressor
            .decompress(input, scratch, FlushDecompress::Sync)
            .map_err(|_| Violation::CorruptDeflate)?;
        let consumed = (decompressor.total_in() - before.0) as usize;
        let produced = (decompressor.total_out() - before.1) as usize;
        input = &input[consumed..];
        sink(&scratch[..produced])?;
        let is_done = match status {
            // 7.2.3.4: a block may be marked as the last one, and others may follow.
            Status::StreamEnd => {
                decompressor.reset(false);
                input.is_empty() || input == TAIL
            }
            Status::Ok | Status::BufError => {
                let is_stuck = consumed == 0 && produced == 0;
                is_stuck || (input.is_empty() && produced < scratch.len())
            }
        };
        if is_done {
            return Ok(());
        }
    }
}

impl fmt::Debug for Codec {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter
            .debug_struct("Codec")
            .field("settings", &self.settings)
            .field("budget", &self.budget)
            .finish_non_exhaustive()
    }
}

impl fmt::Debug for Streams {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter
            .debug_struct("Streams")
            .field("compressor", &self.compressor.is_some())
            .field("decompressor", &self.decompressor.is_some())
            .finish_non_exhaustive()
    }
}
