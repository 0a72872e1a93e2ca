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

/// The memory of all receive buffers of a ring: `count` of `size` bytes each.
#[derive(Debug)]
pub struct BufferMemory {
    pages: Rc<Pages>,
    size: u32,
    count: u16,
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
        let pages = Rc::new(Pages::new(usize::from(count) * size as usize)?);
        Ok(Self {
            pages,
            size,
            count,
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

    /// How many are not out as a [`Buffer`].
    #[must_use]
    pub fn free(&self) -> usize {
        self.free
    }

    pub(super) fn address(&self, id: u16) -> NonNull<u8> {
        assert!(id < self.count, "buffer {id} of {}", self.count);
        // SAFETY: `id` is below `count`, so the offset lies within the mapping.
        unsafe { self.pages.start().add(usize::from(id) * self.size as usize) }
    }

    /// Takes buffer `id`, of which the first `length` bytes were received.
    ///
    /// # Panics
    /// If it is out already, or shorter than that: then the ring is broken.
    pub(super) fn take(&mut self, id: u16, length: u32) -> Buffer {
        assert!(!self.taken[usize::from(id)], "buffer {id} is taken twice");
        assert!(
            length <= self.size,
            "{length} bytes in a buffer of {}",
            self.size
        );
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
    fn buffers_are_counted() {
        let mut memory = BufferMemory::new(4, 4096).unwrap();
        let buffer = memory.take(1, 1);
        assert_eq!(memory.free(), 3);
        assert_eq!(memory.put_back(buffer), 1);
        assert_eq!(memory.free(), 4);
    }
}
