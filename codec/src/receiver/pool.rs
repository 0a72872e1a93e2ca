use std::{collections::VecDeque, fmt};

use super::partial::Partial;

/// So many of the newest that are free, and of the oldest, are looked at for one whose memory is all
/// there.
const LOOKED_AT_MAX: usize = 8;

/// The partials, with their buffers, of connections that do not need one now.
pub(crate) struct Pool {
    /// The newest last: they are in the processor's caches. Of the oldest it is most likely that their
    /// messages have been sent.
    free: VecDeque<Box<Partial>>,
    /// What `free` holds.
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
        let newest = (count.saturating_sub(LOOKED_AT_MAX)..count).rev();
        let oldest = 0..LOOKED_AT_MAX.min(count.saturating_sub(LOOKED_AT_MAX));
        let whole = newest.chain(oldest).find(|&at| self.free[at].is_whole());
        match whole.and_then(|at| self.free.remove(at)) {
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
    use crate::receiver::partial::tests::assemble;

    #[test]
    fn a_buffer_is_taken_whose_message_is_gone() {
        let mut pool = Pool::new(1 << 20);
        let mut partials = [Box::new(Partial::new()), Box::new(Partial::new())];
        let [kept, gone] = partials.each_mut().map(|partial| assemble(partial, 2).0);
        let place = gone.as_ptr();
        drop(gone);
        partials.into_iter().for_each(|partial| pool.put(partial));
        let mut taken = pool.take();
        assert_eq!(assemble(&mut taken, 2).0.as_ptr(), place);
        assert_eq!(pool.free.len(), 1, "the other is kept for later");
        assert_eq!(pool.take().size(), Partial::new().size(), "a new one");
        drop(kept);
        assert!(pool.take().is_whole());
        assert_eq!((pool.free.len(), pool.bytes), (0, 0));
    }
}
