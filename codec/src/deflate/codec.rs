//! Conversion of messages to and from the wire format of RFC 7692 7.2.

use std::fmt;

use bytes::{Bytes, BytesMut};
use flate2::{Compress, Decompress};

use super::budget::Budget;
use super::compressed::{Compressed, RESERVED_1};
use super::negotiation::Terms;
use super::streams::{Streams, compress, decompress, new_compressor, new_decompressor};
use super::{Deflate, WINDOW_BITS};
use crate::frame::{FrameHeader, HEADER_SIZE_MAX, Opcode, unmasked_header_size};
use crate::mask::mask;
use crate::message::{Kind, Message};
use crate::utf8::Validator;
use crate::violation::Violation;

/// Decompressed bytes between two checks of the message size limit.
const SCRATCH_SIZE: usize = 32 << 10;

/// The work of one input byte of a decompressor or compressor, in output bytes of a decompressor: a peer
/// may send blocks that consist mostly of headers.
const INPUT_WORK_BYTES: u64 = 8;

/// The compression state that all connections of an endpoint share.
pub(crate) struct Codec {
    settings: Deflate,
    /// One compressor for each negotiated number of window bits.
    compressors: [Option<Compress>; (*WINDOW_BITS.end() - *WINDOW_BITS.start() + 1) as usize],
    decompressor: Decompress,
    scratch: Box<[u8]>,
    /// The message that is being decompressed. Finished messages are split off and share its allocation.
    output: BytesMut,
    pub(crate) budget: Budget,
    /// Output bytes of decompression, plus [`INPUT_WORK_BYTES`] for each input byte of compression and
    /// decompression.
    work_bytes: u64,
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
            work_bytes: 0,
        }
    }

    /// Appends one compressed frame to `out`. Returns `false`, with `out` unchanged, if the message is to
    /// be sent uncompressed.
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
        self.work_bytes += INPUT_WORK_BYTES * payload.len() as u64;
        let level = self.settings.level;
        let compressor = match streams {
            Some(streams) if terms.takeover => streams.compressor(level, terms.window_bits),
            Some(_) | None => {
                let index = usize::from(terms.window_bits - WINDOW_BITS.start());
                let shared = &mut self.compressors[index];
                let shared = shared.get_or_insert_with(|| new_compressor(level, terms.window_bits));
                shared.reset();
                shared
            }
        };
        let frame_start = out.len();
        // Most messages shrink, but need a header of the same size.
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

    /// Encodes one compressed frame for all connections without context takeover whose window has at
    /// least [`Self::shared_window_bits`]. Returns `None` if the message is to be sent uncompressed.
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

    /// Returns the window bits of frames that are encoded once for many connections.
    pub(crate) fn shared_window_bits(&self) -> u8 {
        self.settings.max_window_bits
    }

    /// Returns the work done so far, in bytes.
    pub(crate) fn work_bytes(&self) -> u64 {
        self.work_bytes
    }

    pub(crate) fn settings(&self) -> &Deflate {
        &self.settings
    }

    /// Decompresses a message of at most `limit` bytes.
    pub(crate) fn decompress(
        &mut self,
        terms: Terms,
        streams: Option<&mut Streams>,
        compressed: Compressed<'_>,
        limit: usize,
    ) -> Result<Message<'static>, Violation> {
        let kind = compressed.kind;
        let decompressor = match streams {
            Some(streams) if terms.peer_takeover => streams.decompressor(),
            Some(_) | None => {
                self.decompressor.reset(false);
                &mut self.decompressor
            }
        };
        self.output.clear();
        self.output.extend_from_slice(&[0; HEADER_SIZE_MAX]);
        let mut utf8 = Validator::new();
        let (output, scratch, work_bytes) =
            (&mut self.output, &mut self.scratch, &mut self.work_bytes);
        compressed.read_with_tail(|payload| {
            *work_bytes += INPUT_WORK_BYTES * payload.len() as u64;
            decompress(decompressor, payload, scratch, |piece| {
                *work_bytes += piece.len() as u64;
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

impl fmt::Debug for Codec {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter
            .debug_struct("Codec")
            .field("settings", &self.settings)
            .field("budget", &self.budget)
            .finish_non_exhaustive()
    }
}

/// Writes the header into the `room` bytes before the payload. If the header has another size, the
/// payload moves.
fn put_header(header: FrameHeader, frame_start: usize, room: usize, out: &mut Vec<u8>) {
    let size = header.size();
    if size < room {
        let payload_start = frame_start + room;
        out.copy_within(payload_start.., frame_start + size);
        out.truncate(out.len() - (room - size));
    } else if size > room {
        // With context takeover, a message is sent compressed even if it has grown.
        out.splice(
            frame_start..frame_start,
            std::iter::repeat_n(0, size - room),
        );
    }
    header.encode_to(&mut out[frame_start..]);
}
