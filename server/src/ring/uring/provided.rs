//! The ring of provided buffers.

use std::{
    io,
    ptr::NonNull,
    sync::atomic::{AtomicU16, Ordering},
};

use io_uring::types;

use super::super::{BufferMemory, buffers::Pages};

/// Maximum number of entries (io_uring_register_buf_ring(3)).
const ENTRIES_MAX: u16 = 1 << 15;

/// The ring by which buffers are lent to the kernel (io_uring_register_buf_ring(3)).
pub(super) struct BufferEntries {
    pages: Pages,
    mask: u16,
    tail: u16,
}

impl BufferEntries {
    /// Creates entries for `count` buffers.
    ///
    /// # Errors
    /// Those of mmap(2), and `InvalidInput` if `count` is not a power of two of at most 32768.
    pub(super) fn new(count: u16) -> io::Result<Self> {
        if !count.is_power_of_two() || count > ENTRIES_MAX {
            return Err(io::ErrorKind::InvalidInput.into());
        }
        let pages = Pages::new(usize::from(count) * size_of::<types::BufRingEntry>())?;
        Ok(Self {
            pages,
            mask: count - 1,
            tail: 0,
        })
    }

    /// The address of the first entry, for the kernel.
    pub(super) fn address(&self) -> u64 {
        self.pages.start().as_ptr() as u64
    }

    /// Lends every returned buffer to the kernel. There are as many entries as buffers.
    pub(super) fn refill(&mut self, memory: &mut BufferMemory) {
        let base: NonNull<types::BufRingEntry> = self.pages.start().cast();
        let before = self.tail;
        while let Some(lent) = memory.lend() {
            // SAFETY: the index is masked to the number of entries. The kernel reads an entry only after the
            // tail, published below, has passed it, so this reference is the only access to the entry.
            let entry = unsafe { base.add(usize::from(self.tail & self.mask)).as_mut() };
            entry.set_addr(lent.start.as_ptr() as u64);
            entry.set_len(lent.length);
            entry.set_bid(lent.id);
            self.tail = self.tail.wrapping_add(1);
        }
        if self.tail == before {
            return;
        }
        // SAFETY: the tail lies in the first entry's reserved bytes, aligned to 2. The kernel only reads it,
        // and only this thread writes it.
        unsafe {
            let tail = types::BufRingEntry::tail(base.as_ptr())
                .cast_mut()
                .cast::<AtomicU16>();
            (*tail).store(self.tail, Ordering::Release);
        }
    }
}
