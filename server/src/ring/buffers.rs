//! Receive buffers: memory that the kernel fills, one owner at a time.

use std::{
    ops::{Deref, DerefMut},
    ptr::NonNull,
    rc::Rc,
};

use rustix::mm::{MapFlags, ProtFlags, mmap_anonymous, munmap};

/// Pages that the kernel may write to, unmapped when the last owner is gone.
#[derive(Debug)]
pub(super) struct Pages {
    start: NonNull<u8>,
    length: usize,
}

impl Pages {
    pub(super) fn new(length: usize) -> std::io::Result<Self> {
        // SAFETY: an anonymous private mapping at an address of the kernel's choosing aliases
        // nothing.
        let start = unsafe {
            mmap_anonymous(
                std::ptr::null_mut(),
                length,
                ProtFlags::READ | ProtFlags::WRITE,
                MapFlags::PRIVATE,
            )?
        };
        let start = NonNull::new(start.cast()).expect("mmap gives no null");
        Ok(Self { start, length })
    }

    pub(super) fn start(&self) -> NonNull<u8> {
        self.start
    }
}

impl Drop for Pages {
    fn drop(&mut self) {
        // SAFETY: `start` and `length` are those of a mapping that only this value unmaps.
        // It fails only for a range that is no mapping, which this is.
        let _ = unsafe { munmap(self.start.as_ptr().cast(), self.length) };
    }
}

/// As long as all that arrives is shorter, buffers are lent so short: they lie close together, in
/// fewer pages and in less of the cache.
const SHORT: u32 = 1024;

/// Buffers that were filled with no more than that before they are lent short again.
const CALM: u32 = 1024;

/// The memory of all receive buffers of a ring: `count` of `size` bytes each, and as many short ones,
/// in their place.
#[derive(Debug)]
pub struct BufferMemory {
    pages: Rc<Pages>,
    size: u32,
    count: u16,
    /// Which buffers are lent short.
    short: Vec<bool>,
    /// Buffers that are yet to be filled with little before they are lent short.
    unrest: u32,
    /// Which buffers are out as a [`Buffer`]: none is ever out twice.
    taken: Vec<bool>,
    free: usize,
}

impl BufferMemory {
    /// Maps memory for `count` buffers of `size` bytes; untouched pages cost nothing.
    ///
    /// # Errors
    /// Those of mmap(2).
    pub fn new(count: u16, size: u32) -> std::io::Result<Self> {
        let pages = Rc::new(Pages::new(usize::from(count) * (size + SHORT) as usize)?);
        Ok(Self {
            pages,
            size,
            count,
            short: vec![false; usize::from(count)],
            unrest: 0,
            taken: vec![false; usize::from(count)],
            free: usize::from(count),
        })
    }

    /// The number of buffers.
    #[must_use]
    pub fn count(&self) -> u16 {
        self.count
    }

    /// The bytes in each.
    #[must_use]
    pub fn size(&self) -> u32 {
        self.size
    }

    /// The bytes of all of them, and of the short ones in their place.
    pub(super) fn bytes(&self) -> usize {
        self.pages.length
    }

    /// How many are not out as a [`Buffer`].
    #[must_use]
    pub fn free(&self) -> usize {
        self.free
    }

    /// Lends a buffer to the kernel: where it begins, and how long it is.
    pub(super) fn lend(&mut self, id: u16) -> (NonNull<u8>, u32) {
        let is_short = self.unrest == 0 && SHORT < self.size;
        self.short[usize::from(id)] = is_short;
        (self.address(id), self.length(id))
    }

    fn length(&self, id: u16) -> u32 {
        match self.short[usize::from(id)] {
            true => SHORT,
            false => self.size,
        }
    }

    fn address(&self, id: u16) -> NonNull<u8> {
        assert!(id < self.count, "buffer {id} of {}", self.count);
        let (count, id, size) = (usize::from(self.count), usize::from(id), self.size as usize);
        let offset = match self.short[id] {
            true => count * size + id * SHORT as usize,
            false => id * size,
        };
        // SAFETY: `id` is below `count`, so the offset lies within the mapping: `count` buffers of
        // `size` bytes, and as many short ones behind them.
        unsafe { self.pages.start().add(offset) }
    }

    /// Takes buffer `id`, of which the first `length` bytes were received.
    ///
    /// # Panics
    /// If it is out already, or shorter than that: then the ring is broken.
    pub(super) fn take(&mut self, id: u16, length: u32) -> Buffer {
        assert!(!self.taken[usize::from(id)], "buffer {id} is taken twice");
        let size = self.length(id);
        assert!(length <= size, "{length} bytes in a buffer of {size}");
        self.unrest = match length < SHORT {
            true => self.unrest.saturating_sub(1),
            // There may have been more than fitted.
            false => CALM,
        };
        self.taken[usize::from(id)] = true;
        self.free -= 1;
        Buffer {
            start: self.address(id),
            length,
            id,
            _pages: Rc::clone(&self.pages),
        }
    }

    /// [`BufferMemory::take`], for tests outside the ring.
    #[cfg(test)]
    pub(crate) fn take_for_test(&mut self, id: u16, length: u32) -> Buffer {
        self.take(id, length)
    }

    /// Takes a buffer back, so that it may be filled anew.
    pub(super) fn put_back(&mut self, buffer: Buffer) -> u16 {
        assert!(
            Rc::ptr_eq(&self.pages, &buffer._pages),
            "a buffer of another ring"
        );
        self.taken[usize::from(buffer.id)] = false;
        self.free += 1;
        buffer.id
    }
}

/// A filled receive buffer, owned until it is [provided](super::Ring::provide) again.
#[derive(Debug)]
pub struct Buffer {
    start: NonNull<u8>,
    length: u32,
    id: u16,
    _pages: Rc<Pages>,
}

impl Deref for Buffer {
    type Target = [u8];

    fn deref(&self) -> &[u8] {
        // SAFETY: the pages live as long as this value; the kernel does not write to a buffer
        // that it has handed over, and `BufferMemory` hands out each once.
        unsafe { std::slice::from_raw_parts(self.start.as_ptr(), self.length as usize) }
    }
}

impl DerefMut for Buffer {
    fn deref_mut(&mut self) -> &mut [u8] {
        // SAFETY: as above.
        unsafe { std::slice::from_raw_parts_mut(self.start.as_ptr(), self.length as usize) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_buffer_outlives_its_ring() {
        let mut memory = BufferMemory::new(4, 4096).unwrap();
        let mut buffer = memory.take(3, 5);
        drop(memory);
        buffer.copy_from_slice(b"hello");
        assert_eq!(&*buffer, b"hello");
    }

    #[test]
    #[should_panic(expected = "taken twice")]
    fn a_buffer_is_taken_once() {
        let mut memory = BufferMemory::new(4, 4096).unwrap();
        let _first = memory.take(1, 1);
        let _second = memory.take(1, 1);
    }

    #[test]
    fn buffers_are_short_until_one_is_full_and_again_when_little_has_come_for_a_while() {
        let mut memory = BufferMemory::new(2, 4096).unwrap();
        assert_eq!(memory.lend(0).1, SHORT);
        let (second, length) = memory.lend(1);
        assert_eq!(length, SHORT);
        let mut first = memory.take(0, SHORT);
        first.fill(1);
        memory.put_back(first);
        assert_eq!(memory.lend(0).1, 4096);
        let second = (second, memory.take(1, 3));
        assert_eq!(second.0.as_ptr().cast_const(), second.1.as_ptr());
        memory.put_back(second.1);
        for _ in 1..CALM {
            assert_eq!(memory.lend(1).1, 4096);
            let little = memory.take(1, 1);
            memory.put_back(little);
        }
        assert_eq!(memory.lend(1).1, SHORT);
    }

    #[test]
    fn buffers_of_a_page_and_short_ones_do_not_overlap() {
        let mut memory = BufferMemory::new(4, 4096).unwrap();
        let mut spans: Vec<(usize, u32)> = Vec::new();
        for unrest in [0, CALM] {
            memory.unrest = unrest;
            for id in 0..4 {
                let (start, length) = memory.lend(id);
                spans.push((start.addr().get(), length));
            }
        }
        spans.sort_unstable();
        let start = memory.pages.start().addr().get();
        assert_eq!(spans[0].0, start);
        for pair in spans.windows(2) {
            assert_eq!(pair[0].0 + pair[0].1 as usize, pair[1].0);
        }
        let last = spans[7];
        assert_eq!(last.0 + last.1 as usize, start + memory.pages.length);
    }

    #[test]
    fn buffers_are_counted() {
        let mut memory = BufferMemory::new(4, 4096).unwrap();
        let buffer = memory.take(1, 1);
        assert_eq!(memory.free(), 3);
        assert_eq!(memory.put_back(buffer), 1);
        assert_eq!(memory.free(), 4);
    }
}
