use std::{collections::VecDeque, fmt};

use super::partial::Partial;

/// Number of newest, and of oldest, free partials that are checked for unshared memory.
const CHECKED_PARTIALS_MAX: usize = 8;

/// The [partials](Partial), with their buffers, that no connection uses now.
pub(crate) struct Pool {
    /// The newest are last. They are in the processor's caches. The messages of the oldest are most likely
    /// sent and dropped.
    free: VecDeque<Box<Partial>>,
    /// The heap memory of `free`.
    bytes: usize,
    /// The limit of `bytes`.
    bytes_max: usize,
}

impl Pool {
    pub(crate) fn new(bytes_max: usize) -> Self {
        Self {
            free: VecDeque::new(),
            bytes: 0,
            bytes_max,
        }
    }

    #[cold]
    pub(super) fn take(&mut self) -> Box<Partial> {
        let count = self.free.len();
        let newest = (count.saturating_sub(CHECKED_PARTIALS_MAX)..count).rev();
        let oldest = 0..CHECKED_PARTIALS_MAX.min(count.saturating_sub(CHECKED_PARTIALS_MAX));
        let unshared = newest
            .chain(oldest)
            .find(|&index| self.free[index].is_unshared());
        match unshared.and_then(|index| self.free.remove(index)) {
            Some(partial) => {
                self.bytes -= partial.size();
                partial
            }
            None => Box::new(Partial::new()),
        }
    }

    pub(super) fn put(&mut self, mut partial: Box<Partial>) {
        partial.reset();
        if self.bytes + partial.size() <= self.bytes_max {
            self.bytes += partial.size();
            self.free.push_back(partial);
        }
    }
}

impl fmt::Debug for Pool {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter
            .debug_struct("Pool")
            .field("free", &self.free.len())
            .field("bytes", &self.bytes)
            .field("bytes_max", &self.bytes_max)
            .finish()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::receiver::buffer::tests::assemble;

    #[test]
    fn take_prefers_a_buffer_whose_message_is_dropped() {
        let mut pool = Pool::new(1 << 20);
        let mut partials = [Box::new(Partial::new()), Box::new(Partial::new())];
        let [kept, dropped] = partials
            .each_mut()
            .map(|partial| assemble(partial.buffer_mut(), 2).0);
        let place = dropped.as_ptr();
        drop(dropped);
        partials.into_iter().for_each(|partial| pool.put(partial));
        let mut taken = pool.take();
        assert_eq!(assemble(taken.buffer_mut(), 2).0.as_ptr(), place);
        assert_eq!(pool.free.len(), 1, "the other buffer stays in the pool");
        assert_eq!(pool.take().size(), Partial::new().size(), "a new one");
        drop(kept);
        assert!(pool.take().is_unshared());
        assert_eq!((pool.free.len(), pool.bytes), (0, 0));
    }
}
