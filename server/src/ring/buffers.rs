//! Receive buffers: memory that the kernel fills, with one owner at a time.
//!
//! Every buffer is in one of three states. The kernel owns it and may write to it; or a [`Buffer`] or
//! several [`BufferPart`]s own it; or it was returned and waits on a list to be lent to the kernel again.
//! Dropping the last owner puts a buffer on that list.

use std::{
    cell::{Cell, RefCell},
    io,
    ops::{Deref, DerefMut},
    ptr::NonNull,
    rc::Rc,
};

use rustix::mm::{MapFlags, ProtFlags, mmap_anonymous, munmap};

/// An anonymous memory mapping, unmapped when dropped.
#[derive(Debug)]
pub(super) struct Pages {
    start: NonNull<u8>,
    length: usize,
}

impl Pages {
    pub(super) fn new(length: usize) -> io::Result<Self> {
        // SAFETY: an anonymous private mapping at an address that the kernel chooses aliases nothing.
        let start = unsafe {
            mmap_anonymous(
                std::ptr::null_mut(),
                length,
                ProtFlags::READ | ProtFlags::WRITE,
                MapFlags::PRIVATE,
            )?
        };
        let start = NonNull::new(start.cast()).expect("mmap returns a non-null address");
        Ok(Self { start, length })
    }

    pub(super) fn start(&self) -> NonNull<u8> {
        self.start
    }
}

impl Drop for Pages {
    fn drop(&mut self) {
        // SAFETY: `start` and `length` are those of a mapping that only this value unmaps.
        // It fails only for a range that is not a mapping.
        let _ = unsafe { munmap(self.start.as_ptr().cast(), self.length) };
    }
}

/// Length of a short buffer in bytes. Short buffers are lent while all receives are shorter: they are
/// adjacent, and touch fewer pages and cache lines.
const SHORT_BUFFER_BYTES: u32 = 1024;

/// Number of successive receives below [`SHORT_BUFFER_BYTES`] before short buffers are lent again.
const SHORT_RECEIVES_MIN: u32 = 1024;

/// Owner count of a buffer that the kernel owns.
const OWNED_BY_KERNEL: u32 = 0;

/// Owner count of a buffer that was returned.
const RETURNED: u32 = u32::MAX;

/// The memory of all buffers, and the owner count of each.
#[derive(Debug)]
struct Pool {
    pages: Pages,
    size: u32,
    /// For each buffer [`OWNED_BY_KERNEL`], [`RETURNED`], or its number of owners.
    owners: Box<[Cell<u32>]>,
    returned: RefCell<Vec<u16>>,
    /// Number of buffers that the kernel owns or that were returned.
    free: Cell<usize>,
}

impl Pool {
    /// Removes one owner; removing the last one returns the buffer.
    #[inline]
    fn release(&self, id: u16) {
        let owners = &self.owners[usize::from(id)];
        match owners.get() {
            1 => {
                owners.set(RETURNED);
                self.free.set(self.free.get() + 1);
                self.returned.borrow_mut().push(id);
            }
            count => owners.set(count - 1),
        }
    }
}

/// The memory of all receive buffers of a ring.
///
/// There are `count` buffers of `size` bytes, and `count` short ones. Each buffer id is lent either at full
/// size or short.
#[derive(Debug)]
pub struct BufferMemory {
    pool: Rc<Pool>,
    /// For each buffer whether it is lent short.
    is_short: Vec<bool>,
    /// Number of further short receives before buffers are lent short.
    full_size_receives_left: u32,
}

impl BufferMemory {
    /// Maps memory for `count` buffers of `size` bytes, none of which is lent yet. Untouched pages use no
    /// memory.
    ///
    /// # Errors
    /// Those of mmap(2), and `InvalidInput` if the total is zero or cannot be addressed.
    pub fn new(count: u16, size: u32) -> io::Result<Self> {
        let each = (size as usize).checked_add(SHORT_BUFFER_BYTES as usize);
        let length = each.and_then(|each| each.checked_mul(usize::from(count)));
        let length = length.filter(|length| *length > 0 && size > 0);
        let length = length.ok_or(io::ErrorKind::InvalidInput)?;
        let pool = Pool {
            pages: Pages::new(length)?,
            size,
            owners: vec![Cell::new(RETURNED); usize::from(count)].into(),
            returned: RefCell::new((0..count).rev().collect()),
            free: Cell::new(usize::from(count)),
        };
        Ok(Self {
            pool: Rc::new(pool),
            is_short: vec![false; usize::from(count)],
            full_size_receives_left: 0,
        })
    }

    /// The number of buffers.
    #[must_use]
    pub fn count(&self) -> u16 {
        self.is_short.len() as u16
    }

    /// The size of each buffer in bytes.
    #[must_use]
    pub fn size(&self) -> u32 {
        self.pool.size
    }

    /// The size of the mapping in bytes.
    pub(super) fn bytes(&self) -> usize {
        self.pool.pages.length
    }

    /// The number of buffers that the kernel owns or that were returned.
    #[must_use]
    pub fn free(&self) -> usize {
        self.pool.free.get()
    }

    /// Lends a returned buffer to the kernel; `None` if there is none.
    pub(super) fn lend(&mut self) -> Option<Lent> {
        let id = self.pool.returned.borrow_mut().pop()?;
        self.pool.owners[usize::from(id)].set(OWNED_BY_KERNEL);
        self.is_short[usize::from(id)] =
            self.full_size_receives_left == 0 && SHORT_BUFFER_BYTES < self.pool.size;
        Some(Lent {
            id,
            start: self.address(id),
            length: self.length(id),
        })
    }

    /// Lends a returned buffer at full size.
    #[cfg(any(test, feature = "sim"))]
    pub(super) fn lend_full_size(&mut self) -> Option<Lent> {
        self.full_size_receives_left = SHORT_RECEIVES_MIN;
        self.lend()
    }

    fn length(&self, id: u16) -> u32 {
        match self.is_short[usize::from(id)] {
            true => SHORT_BUFFER_BYTES,
            false => self.pool.size,
        }
    }

    fn address(&self, id: u16) -> NonNull<u8> {
        let (count, id) = (self.is_short.len(), usize::from(id));
        let size = self.pool.size as usize;
        let offset = match self.is_short[id] {
            true => count * size + id * SHORT_BUFFER_BYTES as usize,
            false => id * size,
        };
        // SAFETY: `id` is below `count` (it indexes `is_short`), so the offset lies within the mapping:
        // `count` buffers of `size` bytes, and `count` short ones behind them.
        unsafe { self.pool.pages.start().add(offset) }
    }

    /// Takes buffer `id`, whose first `length` bytes the kernel has filled.
    ///
    /// # Panics
    /// If the kernel does not own the buffer, or the buffer is shorter than `length`.
    #[inline]
    pub(super) fn take(&mut self, id: u16, length: u32) -> Buffer {
        let owners = &self.pool.owners[usize::from(id)];
        assert!(
            owners.get() == OWNED_BY_KERNEL,
            "buffer {id} is taken twice"
        );
        let size = self.length(id);
        assert!(
            length <= size,
            "received {length} bytes into a buffer of {size}"
        );
        self.full_size_receives_left = match length < SHORT_BUFFER_BYTES {
            true => self.full_size_receives_left.saturating_sub(1),
            // More bytes may have arrived than fitted.
            false => SHORT_RECEIVES_MIN,
        };
        owners.set(1);
        self.pool.free.set(self.pool.free.get() - 1);
        Buffer(Share {
            start: self.address(id),
            length,
            id,
            pool: Rc::clone(&self.pool),
        })
    }

    /// Returns a buffer as if the kernel had filled `length` bytes of it.
    #[cfg(test)]
    pub(crate) fn take_for_test(&mut self, length: u32) -> Buffer {
        let lent = self.lend_full_size().expect("a buffer is free");
        self.take(lent.id, length)
    }
}

/// A buffer that the kernel may fill.
#[derive(Debug)]
pub(super) struct Lent {
    pub(super) id: u16,
    pub(super) start: NonNull<u8>,
    pub(super) length: u32,
}

/// Bytes of a receive buffer, and one of its owners. No byte belongs to two shares.
#[derive(Debug)]
struct Share {
    start: NonNull<u8>,
    length: u32,
    id: u16,
    pool: Rc<Pool>,
}

impl Drop for Share {
    fn drop(&mut self) {
        self.pool.release(self.id);
    }
}

/// A filled receive buffer. Dropping it and all parts kept from it returns it to the ring.
#[derive(Debug)]
pub struct Buffer(Share);

impl Deref for Buffer {
    type Target = [u8];

    fn deref(&self) -> &[u8] {
        // SAFETY: the pages live as long as the pool. The kernel does not write to a buffer that has an
        // owner, and this is the only owner of these bytes.
        unsafe { std::slice::from_raw_parts(self.0.start.as_ptr(), self.0.length as usize) }
    }
}

impl DerefMut for Buffer {
    fn deref_mut(&mut self) -> &mut [u8] {
        // SAFETY: as in `deref`.
        unsafe { std::slice::from_raw_parts_mut(self.0.start.as_ptr(), self.0.length as usize) }
    }
}

impl Buffer {
    /// Passes the bytes to `read`, which may keep parts of them. The buffer is returned when no part is left.
    pub(crate) fn read<T>(self, read: impl FnOnce(&mut [u8], BufferRef<'_>) -> T) -> T {
        let Share { start, length, .. } = &self.0;
        // SAFETY: as in `deref`. This value is consumed, so only `BufferRef::keep` can reach the bytes, and
        // its caller guarantees that the slice of the part is not used any more.
        let bytes = unsafe { std::slice::from_raw_parts_mut(start.as_ptr(), *length as usize) };
        read(bytes, BufferRef(Some(&self.0)))
    }
}

/// A reference to a receive buffer that is being read, by which parts of it are kept.
#[derive(Clone, Copy, Debug)]
pub(crate) struct BufferRef<'a>(Option<&'a Share>);

impl BufferRef<'_> {
    /// For bytes outside receive buffers: [`BufferRef::keep`] returns `None`.
    pub(crate) const NONE: Self = Self(None);

    /// Keeps `part`, if it lies within the buffer.
    ///
    /// # Safety
    /// From now on only the [`BufferPart`] may access these bytes: the caller must not access them through the
    /// slice, or through another one, again.
    pub(crate) unsafe fn keep(self, part: &mut [u8]) -> Option<BufferPart> {
        let share = self.0?;
        let base = share.start.addr().get();
        let start = part.as_ptr().addr().checked_sub(base)?;
        let end = start.checked_add(part.len())?;
        if end > share.length as usize {
            return None;
        }
        let owners = &share.pool.owners[usize::from(share.id)];
        owners.set(owners.get() + 1);
        let length = part.len() as u32;
        Some(BufferPart(Share {
            // A pointer from the slice, not from the buffer: the closure of `Buffer::read` has a mutable
            // slice of the whole buffer until it returns.
            start: NonNull::from(part).cast(),
            length,
            id: share.id,
            pool: Rc::clone(&share.pool),
        }))
    }
}

/// Part of a receive buffer. The kernel does not get the buffer before all parts are dropped.
#[derive(Debug)]
pub(crate) struct BufferPart(Share);

impl Deref for BufferPart {
    type Target = [u8];

    fn deref(&self) -> &[u8] {
        // SAFETY: as for `Buffer`; the caller of `BufferRef::keep` guaranteed that nothing else accesses the
        // bytes.
        unsafe { std::slice::from_raw_parts(self.0.start.as_ptr(), self.0.length as usize) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Memory whose buffers are all lent to the kernel.
    fn memory(count: u16, size: u32) -> BufferMemory {
        let mut memory = BufferMemory::new(count, size).unwrap();
        while memory.lend().is_some() {}
        memory
    }

    #[test]
    fn a_buffer_outlives_its_ring() {
        let mut memory = memory(4, 4096);
        let mut buffer = memory.take(3, 5);
        drop(memory);
        buffer.copy_from_slice(b"hello");
        assert_eq!(&*buffer, b"hello");
    }

    #[test]
    #[should_panic(expected = "taken twice")]
    fn a_buffer_is_taken_once() {
        let mut memory = memory(4, 4096);
        let _first = memory.take(1, 1);
        let _second = memory.take(1, 1);
    }

    #[test]
    #[should_panic(expected = "taken twice")]
    fn a_returned_buffer_is_not_taken_before_it_is_lent() {
        let mut memory = memory(4, 4096);
        drop(memory.take(1, 1));
        let _ = memory.take(1, 1);
    }

    #[test]
    fn impossible_sizes_are_errors() {
        for (count, size) in [(0, 4096), (4, 0), (0, 0)] {
            let error = BufferMemory::new(count, size).unwrap_err();
            assert_eq!(error.kind(), io::ErrorKind::InvalidInput);
        }
        // No sum wraps around: the memory is mapped, or mmap fails.
        for size in [
            u32::MAX,
            u32::MAX - SHORT_BUFFER_BYTES,
            u32::MAX - SHORT_BUFFER_BYTES + 1,
        ] {
            if let Ok(memory) = BufferMemory::new(2, size) {
                assert_eq!(
                    memory.bytes(),
                    2 * (size as usize + SHORT_BUFFER_BYTES as usize)
                );
            }
        }
    }

    #[test]
    fn a_buffer_is_free_when_its_last_part_is_dropped() {
        let mut memory = memory(2, 4096);
        let mut buffer = memory.take(0, 8);
        buffer.copy_from_slice(b"abcdefgh");
        let (front, back) = buffer.read(|bytes, buffer| {
            let (front, back) = bytes.split_at_mut(4);
            // SAFETY: neither slice is used again.
            unsafe { (buffer.keep(front).unwrap(), buffer.keep(back).unwrap()) }
        });
        assert_eq!((&*front, &*back), (&b"abcd"[..], &b"efgh"[..]));
        assert_eq!(memory.free(), 1);
        drop(back);
        assert_eq!(memory.free(), 1);
        assert!(memory.lend().is_none());
        drop(front);
        assert_eq!(memory.free(), 2);
        assert_eq!(memory.lend().unwrap().id, 0);
    }

    #[test]
    fn bytes_outside_the_buffer_are_not_kept() {
        let mut memory = memory(2, 4096);
        let mut other = memory.take(1, 8);
        memory.take(0, 8).read(|bytes, buffer| {
            // SAFETY: none of the slices is used again.
            unsafe {
                assert!(buffer.keep(&mut [0; 3]).is_none());
                assert!(buffer.keep(&mut other).is_none());
                assert!(BufferRef::NONE.keep(&mut bytes[1..]).is_none());
            }
        });
        assert_eq!(memory.free(), 1);
    }

    #[test]
    fn buffers_are_short_until_one_is_full_and_again_after_many_short_receives() {
        let mut memory = BufferMemory::new(2, 4096).unwrap();
        let first = memory.lend().unwrap();
        let second = memory.lend().unwrap();
        assert_eq!(
            (first.length, second.length),
            (SHORT_BUFFER_BYTES, SHORT_BUFFER_BYTES)
        );
        memory.take(first.id, SHORT_BUFFER_BYTES).fill(1);
        assert_eq!(memory.lend().unwrap().length, 4096);
        let few_bytes = memory.take(second.id, 3);
        assert_eq!(second.start.as_ptr().cast_const(), few_bytes.as_ptr());
        drop(few_bytes);
        for _ in 1..SHORT_RECEIVES_MIN {
            assert_eq!(memory.lend().unwrap().length, 4096);
            drop(memory.take(second.id, 1));
        }
        assert_eq!(memory.lend().unwrap().length, SHORT_BUFFER_BYTES);
    }

    #[test]
    fn full_size_and_short_buffers_do_not_overlap() {
        let mut memory = BufferMemory::new(4, 4096).unwrap();
        let mut spans: Vec<(usize, u32)> = Vec::new();
        for full_size_receives_left in [0, SHORT_RECEIVES_MIN] {
            memory.full_size_receives_left = full_size_receives_left;
            while let Some(lent) = memory.lend() {
                spans.push((lent.start.addr().get(), lent.length));
            }
            (0..4).for_each(|id| drop(memory.take(id, 1)));
        }
        spans.sort_unstable();
        let start = memory.pool.pages.start().addr().get();
        assert_eq!(spans[0].0, start);
        for pair in spans.windows(2) {
            assert_eq!(pair[0].0 + pair[0].1 as usize, pair[1].0);
        }
        let last = spans[7];
        assert_eq!(last.0 + last.1 as usize, start + memory.bytes());
    }
}
