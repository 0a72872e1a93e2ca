//! Receive buffers: memory that the kernel fills, and that has one owner at a time.
//!
//! Every buffer is in one of three places: with the kernel, which may write to it; with the owner of a
//! [`Buffer`], or of the [`Kept`] parts of one; or on the list of buffers that were given up and are yet to
//! be lent to the kernel again. Dropping the last owner puts a buffer on that list, so no buffer is lost.

use std::{
    cell::{Cell, RefCell},
    io,
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
    pub(super) fn new(length: usize) -> io::Result<Self> {
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

/// The number of a buffer that the kernel has.
const WITH_KERNEL: u32 = 0;

/// The number of a buffer that nobody has.
const GIVEN_UP: u32 = u32::MAX;

/// The owners of all buffers.
#[derive(Debug)]
struct Pool {
    pages: Pages,
    size: u32,
    /// For each buffer [`WITH_KERNEL`], [`GIVEN_UP`], or the number of its owners.
    owners: Box<[Cell<u32>]>,
    given_up: RefCell<Vec<u16>>,
    /// Buffers that have no owner.
    free: Cell<usize>,
}

impl Pool {
    /// One owner less; the last one gives the buffer up.
    #[inline]
    fn release(&self, id: u16) {
        let owners = &self.owners[usize::from(id)];
        match owners.get() {
            1 => {
                owners.set(GIVEN_UP);
                self.free.set(self.free.get() + 1);
                self.given_up.borrow_mut().push(id);
            }
            count => owners.set(count - 1),
        }
    }
}

/// The memory of all receive buffers of a ring: `count` of `size` bytes each, and as many short ones,
/// in their place.
#[derive(Debug)]
pub struct BufferMemory {
    pool: Rc<Pool>,
    /// Which buffers are lent short.
    short: Vec<bool>,
    /// Buffers that are yet to be filled with little before they are lent short.
    unrest: u32,
}

impl BufferMemory {
    /// Maps memory for `count` buffers of `size` bytes; untouched pages cost nothing. Nobody has any of
    /// them yet.
    ///
    /// # Errors
    /// Those of mmap(2), and `InvalidInput` if there are no bytes, or more than can be addressed.
    pub fn new(count: u16, size: u32) -> io::Result<Self> {
        let each = (size as usize).checked_add(SHORT as usize);
        let length = each.and_then(|each| each.checked_mul(usize::from(count)));
        let length = length.filter(|length| *length > 0 && size > 0);
        let length = length.ok_or(io::ErrorKind::InvalidInput)?;
        let pool = Pool {
            pages: Pages::new(length)?,
            size,
            owners: vec![Cell::new(GIVEN_UP); usize::from(count)].into(),
            given_up: RefCell::new((0..count).rev().collect()),
            free: Cell::new(usize::from(count)),
        };
        Ok(Self {
            pool: Rc::new(pool),
            short: vec![false; usize::from(count)],
            unrest: 0,
        })
    }

    /// The number of buffers.
    #[must_use]
    pub fn count(&self) -> u16 {
        self.short.len() as u16
    }

    /// The bytes in each.
    #[must_use]
    pub fn size(&self) -> u32 {
        self.pool.size
    }

    /// The bytes of all of them, and of the short ones in their place.
    pub(super) fn bytes(&self) -> usize {
        self.pool.pages.length
    }

    /// How many the kernel has, or is about to be lent.
    #[must_use]
    pub fn free(&self) -> usize {
        self.pool.free.get()
    }

    /// Lends a buffer that nobody has to the kernel; `None` if the kernel has all that have no owner.
    pub(super) fn lend(&mut self) -> Option<Lent> {
        let id = self.pool.given_up.borrow_mut().pop()?;
        self.pool.owners[usize::from(id)].set(WITH_KERNEL);
        self.short[usize::from(id)] = self.unrest == 0 && SHORT < self.pool.size;
        Some(Lent {
            id,
            start: self.address(id),
            length: self.length(id),
        })
    }

    /// Lends a buffer that nobody has, of its whole length, whatever has arrived before.
    #[cfg(any(test, feature = "sim"))]
    pub(super) fn lend_long(&mut self) -> Option<Lent> {
        self.unrest = CALM;
        self.lend()
    }

    fn length(&self, id: u16) -> u32 {
        match self.short[usize::from(id)] {
            true => SHORT,
            false => self.pool.size,
        }
    }

    fn address(&self, id: u16) -> NonNull<u8> {
        let (count, id) = (self.short.len(), usize::from(id));
        let size = self.pool.size as usize;
        let offset = match self.short[id] {
            true => count * size + id * SHORT as usize,
            false => id * size,
        };
        // SAFETY: `id` is below `count` (it indexes `short`), so the offset lies within the mapping:
        // `count` buffers of `size` bytes, and as many short ones behind them.
        unsafe { self.pool.pages.start().add(offset) }
    }

    /// Takes buffer `id`, of which the kernel has filled the first `length` bytes.
    ///
    /// # Panics
    /// If the kernel does not have it, or it is shorter than that: then the ring is broken.
    #[inline]
    pub(super) fn take(&mut self, id: u16, length: u32) -> Buffer {
        let owners = &self.pool.owners[usize::from(id)];
        assert!(owners.get() == WITH_KERNEL, "buffer {id} is taken twice");
        let size = self.length(id);
        assert!(length <= size, "{length} bytes in a buffer of {size}");
        self.unrest = match length < SHORT {
            true => self.unrest.saturating_sub(1),
            // There may have been more than fitted.
            false => CALM,
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

    /// A buffer as if the kernel had filled `length` bytes of it, for tests outside the ring.
    #[cfg(test)]
    pub(crate) fn take_for_test(&mut self, length: u32) -> Buffer {
        let lent = self.lend_long().expect("a buffer is free");
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

/// Bytes of a receive buffer, and one of its owners. No byte belongs to two of these.
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

/// A filled receive buffer. The ring has it again when it is dropped, and every part that is kept.
#[derive(Debug)]
pub struct Buffer(Share);

impl Deref for Buffer {
    type Target = [u8];

    fn deref(&self) -> &[u8] {
        // SAFETY: the pages live as long as the pool; the kernel does not write to a buffer that has an
        // owner, and this is the only one of these bytes.
        unsafe { std::slice::from_raw_parts(self.0.start.as_ptr(), self.0.length as usize) }
    }
}

impl DerefMut for Buffer {
    fn deref_mut(&mut self) -> &mut [u8] {
        // SAFETY: as above.
        unsafe { std::slice::from_raw_parts_mut(self.0.start.as_ptr(), self.0.length as usize) }
    }
}

impl Buffer {
    /// Gives the bytes to `read`, which may keep parts of them. The rest is given up.
    pub(crate) fn read<T>(self, read: impl FnOnce(&mut [u8], Keeper<'_>) -> T) -> T {
        let Share { start, length, .. } = &self.0;
        // SAFETY: as above. Nothing else reaches the bytes through this value, which is consumed, but
        // `Keeper::keep`, by its own promise.
        let bytes = unsafe { std::slice::from_raw_parts_mut(start.as_ptr(), *length as usize) };
        read(bytes, Keeper(Some(&self.0)))
    }
}

/// Keeps parts of a receive buffer that is being read.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Keeper<'a>(Option<&'a Share>);

impl Keeper<'_> {
    /// For bytes that lie in no receive buffer: keeps nothing.
    pub(crate) const NONE: Self = Self(None);

    /// Keeps `part`, if it lies within the buffer.
    ///
    /// # Safety
    /// From now on nothing but the [`Kept`] may reach these bytes: whoever had the slice has given it up.
    pub(crate) unsafe fn keep(self, part: &mut [u8]) -> Option<Kept> {
        let share = self.0?;
        let buffer = share.start.addr().get();
        let start = part.as_ptr().addr().checked_sub(buffer)?;
        let end = start.checked_add(part.len())?;
        if end > share.length as usize {
            return None;
        }
        let owners = &share.pool.owners[usize::from(share.id)];
        owners.set(owners.get() + 1);
        let length = part.len() as u32;
        Some(Kept(Share {
            // Of the slice, which may be written through until the closure of `Buffer::read` has returned:
            // a pointer of the buffer's must not be used meanwhile.
            start: NonNull::from(part).cast(),
            length,
            id: share.id,
            pool: Rc::clone(&share.pool),
        }))
    }
}

/// Part of a receive buffer, which the kernel does not get before this is dropped.
#[derive(Debug)]
pub(crate) struct Kept(Share);

impl Deref for Kept {
    type Target = [u8];

    fn deref(&self) -> &[u8] {
        // SAFETY: as for `Buffer`; that nobody else reaches the bytes was promised to `Keeper::keep`.
        unsafe { std::slice::from_raw_parts(self.0.start.as_ptr(), self.0.length as usize) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// All of whose buffers are with the kernel.
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
    fn a_buffer_that_was_given_up_is_not_taken_before_it_is_lent() {
        let mut memory = memory(4, 4096);
        drop(memory.take(1, 1));
        let _ = memory.take(1, 1);
    }

    #[test]
    fn sizes_that_cannot_be_are_errors() {
        for (count, size) in [(0, 4096), (4, 0), (0, 0)] {
            let error = BufferMemory::new(count, size).unwrap_err();
            assert_eq!(error.kind(), io::ErrorKind::InvalidInput);
        }
        // No sum wraps around: it is mapped, or there is no memory for it.
        for size in [u32::MAX, u32::MAX - SHORT, u32::MAX - SHORT + 1] {
            if let Ok(memory) = BufferMemory::new(2, size) {
                assert_eq!(memory.bytes(), 2 * (size as usize + SHORT as usize));
            }
        }
    }

    #[test]
    fn a_buffer_is_free_when_its_last_part_is_dropped() {
        let mut memory = memory(2, 4096);
        let mut buffer = memory.take(0, 8);
        buffer.copy_from_slice(b"abcdefgh");
        let (front, back) = buffer.read(|bytes, keeper| {
            let (front, back) = bytes.split_at_mut(4);
            // SAFETY: neither slice is used again.
            unsafe { (keeper.keep(front).unwrap(), keeper.keep(back).unwrap()) }
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
    fn what_lies_elsewhere_is_not_kept() {
        let mut memory = memory(2, 4096);
        let mut other = memory.take(1, 8);
        memory.take(0, 8).read(|bytes, keeper| {
            // SAFETY: none of the slices is used again.
            unsafe {
                assert!(keeper.keep(&mut [0; 3]).is_none());
                assert!(keeper.keep(&mut other).is_none());
                assert!(Keeper::NONE.keep(&mut bytes[1..]).is_none());
            }
        });
        assert_eq!(memory.free(), 1);
    }

    #[test]
    fn buffers_are_short_until_one_is_full_and_again_when_little_has_come_for_a_while() {
        let mut memory = BufferMemory::new(2, 4096).unwrap();
        let first = memory.lend().unwrap();
        let second = memory.lend().unwrap();
        assert_eq!((first.length, second.length), (SHORT, SHORT));
        memory.take(first.id, SHORT).fill(1);
        assert_eq!(memory.lend().unwrap().length, 4096);
        let little = memory.take(second.id, 3);
        assert_eq!(second.start.as_ptr().cast_const(), little.as_ptr());
        drop(little);
        for _ in 1..CALM {
            assert_eq!(memory.lend().unwrap().length, 4096);
            drop(memory.take(second.id, 1));
        }
        assert_eq!(memory.lend().unwrap().length, SHORT);
    }

    #[test]
    fn buffers_of_a_page_and_short_ones_do_not_overlap() {
        let mut memory = BufferMemory::new(4, 4096).unwrap();
        let mut spans: Vec<(usize, u32)> = Vec::new();
        for unrest in [0, CALM] {
            memory.unrest = unrest;
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
