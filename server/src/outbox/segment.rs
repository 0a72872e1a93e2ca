//! The segments of a send queue.

use bytes::Bytes;
use tidewheel_codec::frame::FrameHeader;

use crate::ring::BufferPart;

/// A run of frames in a send queue, or a frame.
pub(super) struct Segment {
    pub(super) storage: Storage,
    pub(super) lane: Lane,
}

/// The memory in which the bytes of a segment lie.
pub(super) enum Storage {
    /// Whole frames, one behind the other, in memory of this segment.
    Owned(Vec<u8>),
    /// A frame in shared memory: a published message, or an assembled one. It keeps `allocation` bytes of
    /// memory alive.
    Shared { bytes: Bytes, allocation: usize },
    /// A frame in the receive buffer in which it arrived.
    Received(BufferPart),
}

/// The class of a segment: it decides which segments it overtakes, and whether it may be dropped.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) enum Lane {
    /// Control frames, or an HTTP response: sent before messages, and never dropped.
    Control,
    /// Messages that may not be dropped, because of the policy, or because a part was sent.
    Kept,
    /// Messages that may be dropped, all messages of the segment together.
    Batch,
    /// One message that may be dropped. A later message with the same key replaces it.
    Single(u64),
}

impl Segment {
    pub(super) fn bytes(&self) -> &[u8] {
        match &self.storage {
            Storage::Owned(bytes) => bytes,
            Storage::Shared { bytes, .. } => bytes,
            Storage::Received(bytes) => bytes,
        }
    }

    /// Memory in bytes, without receive buffers.
    pub(super) fn allocation(&self) -> usize {
        match &self.storage {
            Storage::Owned(bytes) => bytes.capacity(),
            Storage::Shared { allocation, .. } => *allocation,
            Storage::Received(_) => 0,
        }
    }

    /// Returns whether the policy permits to drop the segment.
    pub(super) fn is_droppable(&self) -> bool {
        matches!(self.lane, Lane::Batch | Lane::Single(_))
    }

    /// Number of frames.
    pub(super) fn frames(&self) -> u64 {
        FrameSizes(self.bytes()).count() as u64
    }
}

/// Iterates over the sizes in bytes of whole unmasked frames.
pub(super) struct FrameSizes<'a>(pub(super) &'a [u8]);

impl Iterator for FrameSizes<'_> {
    type Item = usize;

    fn next(&mut self) -> Option<usize> {
        let header = FrameHeader::parse(self.0).ok().flatten()?;
        let size = header.size() + usize::try_from(header.payload_len).ok()?;
        self.0 = self.0.get(size..)?;
        Some(size)
    }
}
