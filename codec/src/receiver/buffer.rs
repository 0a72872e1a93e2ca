use bytes::BytesMut;

use crate::frame::HEADER_SIZE_MAX;
use crate::mask;

/// A buffer that is too small grows to this multiple of the received bytes, but not beyond the end of the
/// frame. With a smaller factor, a large message is copied more often while it grows.
const GROWTH_FACTOR: usize = 4;

/// The buffer of a message that spans receive buffers: headroom for a frame header, then the payload.
///
/// It grows with the received bytes, and not with the announced length.
#[derive(Debug)]
pub(super) struct AssemblyBuffer {
    /// Empty if no message has begun.
    bytes: BytesMut,
    /// The size of the allocation, which finished messages share until they are dropped.
    allocation: usize,
    loan: Loan,
}

/// The state of the free end of the buffer.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
enum Loan {
    /// The free end is not lent.
    None,
    /// The free end is lent, and nothing else may be received.
    Out,
    /// The free end came back with this number of bytes, which are not read yet.
    Unread(usize),
}

impl AssemblyBuffer {
    pub(super) fn new() -> Self {
        Self {
            bytes: BytesMut::new(),
            allocation: 0,
            loan: Loan::None,
        }
    }

    /// Returns the bytes of the allocation.
    pub(super) fn size(&self) -> usize {
        self.allocation.max(self.bytes.capacity())
    }

    /// Returns the payload bytes in the buffer.
    pub(super) fn payload_len(&self) -> usize {
        self.bytes.len().saturating_sub(HEADER_SIZE_MAX)
    }

    /// Returns the last `len` bytes.
    pub(super) fn last(&self, len: usize) -> &[u8] {
        &self.bytes[self.bytes.len() - len..]
    }

    /// Empties the buffer, but keeps its memory unless that is lent.
    pub(super) fn reset(&mut self) {
        match std::mem::replace(&mut self.loan, Loan::None) {
            Loan::None | Loan::Unread(_) => {}
            Loan::Out => {
                self.bytes = BytesMut::new();
                self.allocation = 0;
            }
        }
        self.allocation = self.allocation.max(self.bytes.capacity());
        self.bytes.clear();
    }

    /// Frees the buffer. Returns the number of unread bytes of the last loan.
    pub(super) fn release(&mut self) -> usize {
        let unread = self.unread();
        *self = Self::new();
        unread
    }

    /// Starts a new message.
    pub(super) fn clear(&mut self) {
        self.bytes.clear();
    }

    /// Returns whether nothing is lent.
    pub(super) fn is_complete(&self) -> bool {
        self.loan != Loan::Out
    }

    /// Returns whether the bytes of the last loan are not read yet.
    pub(super) const fn is_unread(&self) -> bool {
        matches!(self.loan, Loan::Unread(_))
    }

    const fn unread(&self) -> usize {
        match self.loan {
            Loan::None | Loan::Out => 0,
            Loan::Unread(count) => count,
        }
    }

    /// Lends the free end for the `to_come` missing bytes of the frame. The received bytes stay here: text is
    /// validated once, and must not change.
    pub(super) fn lend(&mut self, to_come: u64) -> Option<BytesMut> {
        let to_come = usize::try_from(to_come).unwrap_or(usize::MAX);
        let received = self.bytes.len();
        if to_come == 0 || received == 0 || self.loan != Loan::None {
            return None;
        }
        let room = self.bytes.capacity() - received;
        if room < to_come.min(received) {
            self.bytes
                .reserve(to_come.min(received * (GROWTH_FACTOR - 1)));
        }
        self.loan = Loan::Out;
        self.allocation = self.allocation.max(self.bytes.capacity());
        Some(self.bytes.split_off(received))
    }

    /// Takes the free end back with the bytes that were received into it. Returns `false`, without the
    /// bytes, if the buffer has been released since.
    ///
    /// # Panics
    ///
    /// If there are more than `to_come` bytes, or if the bytes of the last loan are not read yet.
    pub(super) fn take_back(&mut self, received: BytesMut, to_come: u64) -> bool {
        let count = received.len();
        match self.loan {
            Loan::Out => {
                assert_at_most(to_come, count);
                self.bytes.unsplit(received);
                self.loan = match count {
                    0 => Loan::None,
                    _ => Loan::Unread(count),
                };
                true
            }
            Loan::Unread(_) => panic!("the bytes of the last loan are not read yet"),
            Loan::None => false,
        }
    }

    /// Unmasks the bytes of the last loan with `key`, and returns their number; 0 without a loan.
    pub(super) fn read_loan(&mut self, key: Option<[u8; 4]>) -> usize {
        let count = self.unread();
        self.loan = Loan::None;
        if let Some(key) = key {
            let start = self.bytes.len() - count;
            mask::mask(&mut self.bytes[start..], key);
        }
        count
    }

    /// Appends a piece, masked with `key`. `to_come` bytes of its frame are missing after it.
    pub(super) fn append(&mut self, piece: &[u8], to_come: u64, key: Option<[u8; 4]>) {
        let headroom = if self.bytes.is_empty() {
            HEADER_SIZE_MAX
        } else {
            0
        };
        let arriving = headroom + piece.len();
        if self.bytes.capacity() - self.bytes.len() < arriving {
            let received = self.bytes.len() + arriving;
            let to_come = usize::try_from(to_come).unwrap_or(usize::MAX);
            self.bytes
                .reserve(arriving + to_come.min(received * (GROWTH_FACTOR - 1)));
        }
        self.bytes
            .extend_from_slice(&[0; HEADER_SIZE_MAX][..headroom]);
        mask::append(piece, &mut self.bytes, key);
    }

    /// Appends bytes to the payload.
    pub(super) fn extend(&mut self, bytes: &[u8]) {
        self.bytes.extend_from_slice(bytes);
    }

    /// Takes the complete message, with the size of the allocation that it shares.
    ///
    /// The rest of the buffer shares the allocation as well, so that `BytesMut::reserve` reclaims all of
    /// it after the message is dropped.
    pub(super) fn take(&mut self) -> (BytesMut, usize) {
        self.allocation = self.allocation.max(self.bytes.capacity());
        (self.bytes.split(), self.allocation)
    }

    /// Returns whether no message shares the allocation. Otherwise the next message would need a new one.
    pub(super) fn is_unshared(&mut self) -> bool {
        self.bytes.try_reclaim(self.allocation)
    }
}

/// Checks the number of received bytes.
///
/// # Panics
///
/// If `count` is more than `to_come`.
pub(super) fn assert_at_most(to_come: u64, count: usize) {
    assert!(
        count as u64 <= to_come,
        "{count} bytes were received, and {to_come} are left of the frame"
    );
}

#[cfg(test)]
pub(super) mod tests {
    use super::*;

    const PIECE: [u8; 16 * 1024] = [7; 16 * 1024];

    /// Assembles a message of one frame from `pieces` pieces. Returns it, and the number of times that its
    /// bytes moved.
    pub(in crate::receiver) fn assemble(
        buffer: &mut AssemblyBuffer,
        pieces: usize,
    ) -> (BytesMut, usize) {
        let size = HEADER_SIZE_MAX + pieces * PIECE.len();
        let mut moves = 0;
        let mut place = std::ptr::null();
        for piece in 1..=pieces {
            let to_come = (pieces - piece) * PIECE.len();
            buffer.append(&PIECE, to_come as u64, None);
            let capacity = buffer.bytes.capacity();
            assert!(capacity <= buffer.allocation.max(GROWTH_FACTOR * buffer.bytes.len()));
            assert!(capacity <= buffer.allocation.max(size));
            moves += usize::from(buffer.bytes.as_ptr() != place);
            place = buffer.bytes.as_ptr();
        }
        (buffer.take().0, moves)
    }

    #[test]
    fn memory_grows_with_the_received_bytes_up_to_the_end_of_the_frame() {
        let mut buffer = AssemblyBuffer::new();
        let (message, moves) = assemble(&mut buffer, 64);
        assert_eq!(message.len(), HEADER_SIZE_MAX + 64 * PIECE.len());
        assert_eq!(buffer.allocation, message.len());
        assert_eq!(moves, 3, "room for 64 KiB, for 256 KiB, for all of it");
    }

    #[test]
    fn memory_is_reused_after_the_message_is_dropped() {
        let mut buffer = AssemblyBuffer::new();
        let (message, _) = assemble(&mut buffer, 64);
        buffer.reset();
        assert!(!buffer.is_unshared());
        drop(message);
        assert!(buffer.is_unshared());
        let (_, moves) = assemble(&mut buffer, 64);
        assert_eq!(moves, 1, "nothing is allocated");
    }
}
