//! The receive buffers that the kernel may fill.

use std::{
    io,
    ptr::NonNull,
    sync::atomic::{AtomicU16, Ordering},
};

use io_uring::types;

use super::super::{BufferMemory, buffers::Pages};

/// Entries of a ring of buffers, at most (io_uring_register_buf_ring(3)).
const ENTRIES_MAX: u16 = 1 << 15;

/// The ring of buffers that the kernel takes from (io_uring_register_buf_ring(3)).
pub(super) struct BufferEntries {
    pub(super) pages: Pages,
    mask: u16,
    tail: u16,
}

impl BufferEntries {
    /// Entries for `count` buffers.
    ///
    /// # Errors
    /// Those of mmap(2), and `InvalidInput` if `count` is not a power of two that the kernel takes.
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

    /// Lends the kernel every buffer that nobody has. There are as many entries as buffers.
    pub(super) fn refill(&mut self, memory: &mut BufferMemory) {
        let base: NonNull<types::BufRingEntry> = self.pages.start().cast();
        let before = self.tail;
        while let Some(lent) = memory.lend() {
            // SAFETY: the index is masked to the number of entries. The kernel reads an entry only
            // once the tail, published below, has passed it, so nobody else looks at this one.
            let entry = unsafe { base.add(usize::from(self.tail & self.mask)).as_mut() };
            entry.set_addr(lent.start.as_ptr() as u64);
            entry.set_len(lent.length);
            entry.set_bid(lent.id);
            self.tail = self.tail.wrapping_add(1);
        }
        if self.tail == before {
            return;
        }
        // SAFETY: the tail lies in the first entry's reserved bytes, aligned to 2; the kernel
        // only reads it, and this thread alone writes it.
        unsafe {
            let tail = types::BufRingEntry::tail(base.as_ptr())
                .cast_mut()
                .cast::<AtomicU16>();
            (*tail).store(self.tail, Ordering::Release);
        }
    }
}
