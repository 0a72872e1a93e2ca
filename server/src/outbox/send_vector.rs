//! The message header of a send of several segments (sendmsg(2)).

use crate::ring::Outbound;

/// Segments in one send, at most; the next send takes the others.
pub(super) const SEGMENTS_PER_SEND: usize = 16;

/// A message header, and the byte ranges that it refers to.
pub(super) struct SendVector {
    header: libc::msghdr,
    ranges: [libc::iovec; SEGMENTS_PER_SEND],
}

impl SendVector {
    /// Boxed, because the kernel reads it at its address.
    pub(super) fn new() -> Box<Self> {
        // SAFETY: a message header and an array of byte ranges are valid when all bytes are zero.
        unsafe { Box::new(std::mem::zeroed()) }
    }

    /// Fills the header with the first [`SEGMENTS_PER_SEND`] of `ranges`.
    ///
    /// # Safety
    /// Until the send has ended, this value and the bytes of `ranges` neither move, nor change, nor are
    /// freed.
    pub(super) unsafe fn lend<'b>(&mut self, ranges: impl Iterator<Item = &'b [u8]>) -> Outbound {
        let mut count = 0;
        for (range, bytes) in self.ranges.iter_mut().zip(ranges) {
            *range = libc::iovec {
                iov_base: bytes.as_ptr().cast_mut().cast(),
                iov_len: bytes.len(),
            };
            count += 1;
        }
        self.header.msg_iov = self.ranges.as_mut_ptr();
        self.header.msg_iovlen = count as _;
        // SAFETY: the caller keeps the header, the array and the bytes as they are until the send has ended.
        unsafe { Outbound::message(&raw const self.header) }
    }
}
