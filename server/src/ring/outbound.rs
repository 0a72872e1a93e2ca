//! Bytes lent to the kernel for a send.

/// The condition for the completion of a send.
///
/// A send takes the bytes that the socket has room for, and does not wait. It has ended when
/// [`Ring::enter`](super::Ring::enter) has returned; its bytes may be freed as soon as
/// [`Ring::reap`](super::Ring::reap) has returned `None` after that.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum SendMode {
    /// Completes only if the socket has not taken every byte: with the number that it took, or
    /// `EAGAIN`.
    Silent,
    /// Completes always.
    Reported,
}

/// Bytes that the kernel reads during a send.
///
/// Only a ring can read them. [`Outbound::bytes`] and [`Outbound::message`] state for how long they
/// must stay valid.
#[derive(Debug)]
pub struct Outbound {
    pub(super) data: Data,
    /// Number of bytes, below 2 GiB.
    pub(super) length: u32,
}

#[derive(Clone, Copy, Debug)]
pub(super) enum Data {
    /// The first byte of a contiguous run.
    Bytes(*const u8),
    /// The message header of several runs (sendmsg(2)).
    Message(*const libc::msghdr),
}

/// The kernel's limit for one send.
const SEND_BYTES_MAX: usize = i32::MAX as usize;

impl Outbound {
    /// Lends one run of bytes to the kernel.
    ///
    /// # Panics
    /// If there are 2 GiB or more.
    ///
    /// # Safety
    /// The bytes must not move, change or be freed before the send has ended: until the first
    /// [`Ring::reap`](super::Ring::reap) that returns `None` after the next
    /// [`Ring::enter`](super::Ring::enter), or until the ring is dropped.
    #[must_use]
    pub unsafe fn bytes(bytes: &[u8]) -> Self {
        Self {
            data: Data::Bytes(bytes.as_ptr()),
            length: checked_length(bytes.len()),
        }
    }

    /// Lends a message header, its vector and the bytes in it to the kernel.
    ///
    /// # Panics
    /// If there are 2 GiB or more.
    ///
    /// # Safety
    /// Header, vector and bytes must be valid, and the rule of [`Outbound::bytes`] applies to all three.
    #[must_use]
    pub unsafe fn message(header: *const libc::msghdr) -> Self {
        // SAFETY: the caller guarantees that header and vector are valid.
        let length = unsafe {
            let runs = std::slice::from_raw_parts((*header).msg_iov, (*header).msg_iovlen);
            runs.iter().map(|run| run.iov_len).sum::<usize>()
        };
        Self {
            data: Data::Message(header),
            length: checked_length(length),
        }
    }

    /// The number of bytes.
    pub(crate) fn len(&self) -> usize {
        self.length as usize
    }

    /// Copies the bytes.
    ///
    /// # Safety
    /// The send must not have ended.
    #[cfg(any(test, feature = "sim"))]
    pub(crate) unsafe fn copy(&self) -> Vec<u8> {
        match self.data {
            // SAFETY: the send has not ended, so the bytes are valid, as the caller of `bytes` guaranteed.
            Data::Bytes(start) => unsafe { std::slice::from_raw_parts(start, self.len()).to_vec() },
            // SAFETY: the same holds for the header, the vector and the bytes of `message`.
            Data::Message(header) => unsafe {
                let runs = std::slice::from_raw_parts((*header).msg_iov, (*header).msg_iovlen);
                let run = |run: &libc::iovec| {
                    std::slice::from_raw_parts(run.iov_base.cast::<u8>(), run.iov_len)
                };
                runs.iter().map(run).collect::<Vec<_>>().concat()
            },
        }
    }
}

fn checked_length(length: usize) -> u32 {
    assert!(
        length <= SEND_BYTES_MAX,
        "a send has {length} bytes; limit is {SEND_BYTES_MAX}"
    );
    length as u32
}
