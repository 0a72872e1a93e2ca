//! zlib streams: compressors and decompressors, and their memory.

use std::fmt;

use flate2::{Compress, Compression, Decompress, FlushCompress, FlushDecompress, Status};

use super::budget::Reservation;
use super::compressed::TAIL;
use crate::violation::Violation;

/// The bytes by which an output buffer grows when a compressor has filled it.
const OUTPUT_GROWTH_BYTES: usize = 32 << 10;

/// The streams of a connection with context takeover. Each is created at the first message that needs it.
pub(crate) struct Streams {
    compressor: Option<Compress>,
    decompressor: Option<Decompress>,
    _reservation: Reservation,
}

impl Streams {
    /// Returns streams whose memory is accounted for by `reservation`.
    pub(crate) fn new(reservation: Reservation) -> Self {
        Self {
            compressor: None,
            decompressor: None,
            _reservation: reservation,
        }
    }

    /// Returns the compressor of this connection.
    pub(super) fn compressor(&mut self, level: u32, window_bits: u8) -> &mut Compress {
        self.compressor
            .get_or_insert_with(|| new_compressor(level, window_bits))
    }

    /// Returns the decompressor of this connection.
    pub(super) fn decompressor(&mut self) -> &mut Decompress {
        self.decompressor.get_or_insert_with(new_decompressor)
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

/// Returns the bytes that zlib-rs allocates for a decompressor, for any window of the peer.
pub(super) const fn decompressor_size() -> usize {
    48 << 10
}

/// Returns the bytes that zlib-rs allocates for a compressor.
pub(super) const fn compressor_size(window_bits: u8) -> usize {
    (4 << window_bits) + (244 << 10)
}

pub(super) fn new_compressor(level: u32, window_bits: u8) -> Compress {
    Compress::new_with_window_bits(Compression::new(level), false, window_bits)
}

/// Returns a decompressor with a window of 15 bits, which decompresses data of any window.
pub(super) fn new_decompressor() -> Decompress {
    Decompress::new(false)
}

/// Appends the compressed form of `payload` to `out` (RFC 7692 7.2.1).
pub(super) fn compress(compressor: &mut Compress, payload: &[u8], out: &mut Vec<u8>) {
    // More than a stored block takes, so that one call is enough in nearly all cases.
    out.reserve(payload.len() + payload.len() / 8 + 64);
    let (start, total_in_before) = (out.len(), compressor.total_in());
    loop {
        let consumed = (compressor.total_in() - total_in_before) as usize;
        let status = compressor
            .compress_vec(&payload[consumed..], out, FlushCompress::Sync)
            .expect("a compressor that is only flushed has no invalid state");
        debug_assert!(matches!(status, Status::Ok | Status::BufError));
        // The flush is complete if the output is not full.
        if out.len() < out.capacity() {
            break;
        }
        out.reserve(OUTPUT_GROWTH_BYTES);
    }
    if out[start..].ends_with(&TAIL) {
        out.truncate(out.len() - TAIL.len());
    }
    if out.len() == start {
        // RFC 7692 7.2.3.6: an empty message is one byte, the header of an empty block.
        out.push(0);
    }
}

/// Decompresses a complete message with its tail (RFC 7692 7.2.2), and passes it to `sink` in pieces of
/// at most the size of `scratch`.
pub(super) fn decompress(
    decompressor: &mut Decompress,
    mut input: &[u8],
    scratch: &mut [u8],
    mut sink: impl FnMut(&[u8]) -> Result<(), Violation>,
) -> Result<(), Violation> {
    // A sender writes an empty message as one byte (RFC 7692 7.2.3.6). No byte is accepted as well.
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
            // RFC 7692 7.2.3.4: blocks may follow one that is marked as the last.
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
