//! Bytes that have been received and are not looked at yet.

use std::collections::VecDeque;

/// Received bytes in the pieces in which they came, so that their memory never grows by doubling.
#[derive(Default)]
pub(crate) struct Parked {
    pieces: VecDeque<Vec<u8>>,
    /// Memory of all pieces.
    bytes: usize,
}

impl Parked {
    pub(crate) fn is_empty(&self) -> bool {
        self.pieces.is_empty()
    }

    /// Bytes of memory: what all receive buffers held, at most. Who finds something here, or parks
    /// it, stops receiving before the kernel works again.
    pub(crate) fn bytes(&self) -> usize {
        self.bytes
    }

    pub(crate) fn push(&mut self, bytes: &[u8]) {
        let piece = bytes.to_vec();
        self.bytes += piece.capacity();
        self.pieces.push_back(piece);
    }

    /// Puts back what is left of the piece that was taken last.
    pub(crate) fn put_back(&mut self, rest: Vec<u8>) {
        self.bytes += rest.capacity();
        self.pieces.push_front(rest);
    }

    pub(crate) fn take(&mut self) -> Option<Vec<u8>> {
        let piece = self.pieces.pop_front()?;
        self.bytes -= piece.capacity();
        Some(piece)
    }

    /// Keeps room for at most `count` pieces.
    pub(super) fn shrink_to(&mut self, count: usize) {
        self.pieces.shrink_to(count);
    }
}
