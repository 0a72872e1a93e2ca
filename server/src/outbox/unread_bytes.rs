//! Received bytes that are not read yet.

use std::collections::VecDeque;

/// Received bytes that are not read yet, one piece for each receive. So their memory does not grow by doubling.
#[derive(Default)]
pub(crate) struct UnreadBytes {
    pieces: VecDeque<Piece>,
    /// Memory of all pieces, in bytes.
    bytes: usize,
}

/// The bytes of one receive.
pub(crate) struct Piece {
    bytes: Vec<u8>,
    /// Leading bytes that have been read.
    read: usize,
}

impl Piece {
    /// The bytes that are not read yet.
    pub(crate) fn unread(&mut self) -> &mut [u8] {
        &mut self.bytes[self.read..]
    }

    /// Marks all but the last `rest` bytes as read.
    pub(crate) fn keep_last(&mut self, rest: usize) {
        self.read = self.bytes.len() - rest;
    }
}

impl UnreadBytes {
    pub(crate) fn is_empty(&self) -> bool {
        self.pieces.is_empty()
    }

    /// Memory in bytes. It is bounded by the size of all receive buffers, because a connection with unread
    /// bytes stops receiving before the kernel receives again.
    pub(crate) fn bytes(&self) -> usize {
        self.bytes
    }

    /// Appends the bytes of a receive.
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

    /// Takes the oldest piece.
    pub(crate) fn take(&mut self) -> Option<Piece> {
        let piece = self.pieces.pop_front()?;
        self.bytes -= piece.bytes.capacity();
        Some(piece)
    }

    /// Keeps memory for at most `count` pieces.
    pub(super) fn shrink_to(&mut self, count: usize) {
        self.pieces.shrink_to(count);
    }
}
