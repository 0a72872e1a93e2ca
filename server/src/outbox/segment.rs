//! The parts of what waits to be sent, and what may happen to them.

use bytes::Bytes;
use tidewheel_codec::frame::FrameHeader;

use crate::ring::Kept;

/// A part of what waits to be sent.
pub(super) struct Segment {
    pub(super) run: Run,
    pub(super) lane: Lane,
}

/// Where the bytes of a segment are.
pub(super) enum Run {
    /// Frames encoded one behind the other.
    Owned(Vec<u8>),
    /// A frame that others may be sending too, or an assembled message; and the bytes of memory that
    /// are kept for it.
    Shared { bytes: Bytes, allocation: usize },
    /// A frame in the receive buffer that it came in.
    Received(Kept),
}

/// What may happen to bytes that wait.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) enum Lane {
    /// Control frames, or the answer to a request: never dropped, and sent before messages.
    Control,
    /// Messages that are kept: the peer needs each of them, or the rest of one is under way.
    Kept,
    /// Messages that may be dropped, those of a segment together.
    Batch,
    /// One message, which may be dropped; those with the same number replace each other.
    Single(u64),
}

impl Segment {
    pub(super) fn bytes(&self) -> &[u8] {
        match &self.run {
            Run::Owned(bytes) => bytes,
            Run::Shared { bytes, .. } => bytes,
            Run::Received(bytes) => bytes,
        }
    }

    /// Bytes of memory; none of its own for what lies in a receive buffer.
    pub(super) fn allocation(&self) -> usize {
        match &self.run {
            Run::Owned(bytes) => bytes.capacity(),
            Run::Shared { allocation, .. } => *allocation,
            Run::Received(_) => 0,
        }
    }

    pub(super) fn is_droppable(&self) -> bool {
        matches!(self.lane, Lane::Batch | Lane::Single(_))
    }

    /// How many frames there are; one that does not parse is none of ours.
    pub(super) fn frames(&self) -> u64 {
        Frames(self.bytes()).count() as u64
    }
}

/// The sizes of the frames in a run of whole unmasked frames.
pub(super) struct Frames<'a>(pub(super) &'a [u8]);

impl Iterator for Frames<'_> {
    type Item = usize;

    fn next(&mut self) -> Option<usize> {
        let header = FrameHeader::parse(self.0).ok().flatten()?;
        let size = header.size() + usize::try_from(header.payload_len).ok()?;
        self.0 = self.0.get(size..)?;
        Some(size)
    }
}
