//! Bytes that have been received and are not looked at yet.

use std::collections::VecDeque;

/// Received bytes in the pieces in which they came, so that their memory never grows by doubling.
#[derive(Default)]
pub(crate) struct Parked {
    pieces: VecDeque<Piece>,
    /// Memory of all pieces.
    bytes: usize,
}

/// Bytes that were received together, and how many of them have been read.
pub(crate) struct Piece {
    bytes: Vec<u8>,
    read: usize,
}

impl Piece {
    /// What is to be read.
    pub(crate) fn unread(&mut self) -> &mut [u8] {
        &mut self.bytes[self.read..]
    }

    /// All but the last `rest` bytes have been read.
    pub(crate) fn keep_last(&mut self, rest: usize) {
        self.read = self.bytes.len() - rest;
    }
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
        let bytes = bytes.to_vec();
        self.bytes += bytes.capacity();
        self.pieces.push_back(Piece { bytes, read: 0 });
    }

    /// Puts back the piece that was taken last.
    pub(crate) fn put_back(&mut self, piece: Piece) {
        self.bytes += piece.bytes.capacity();
        self.pieces.push_front(piece);
    }

    pub(crate) fn take(&mut self) -> Option<Piece> {
        let piece = self.pieces.pop_front()?;
        self.bytes -= piece.bytes.capacity();
        Some(piece)
    }

    /// Keeps room for at most `count` pieces.
    pub(super) fn shrink_to(&mut self, count: usize) {
        self.pieces.shrink_to(count);
    }
}
