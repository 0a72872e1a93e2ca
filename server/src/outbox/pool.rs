//! The pool of send queues of a shard.

use super::Queue;

/// Empty queues that the pool keeps, at most.
const POOLED_QUEUES_MAX: usize = 1024;

/// Memory in bytes of the spare vectors of all pooled queues, at most.
pub(crate) const POOLED_MEMORY_MAX: usize = 4 << 20;

/// Empty queues, and counters of the queues in use. A connection with nothing to send has no queue.
#[derive(Default)]
pub(crate) struct QueuePool {
    #[expect(clippy::vec_box, reason = "a queue keeps its address")]
    queues: Vec<Box<Queue>>,
    /// Bytes of the spare vectors of the pooled queues.
    memory: usize,
    /// Bytes in the queues in use.
    waiting: usize,
    /// Size in bytes from which a queue is long.
    long_min: usize,
    /// Number of long queues.
    long: usize,
}

impl QueuePool {
    /// Creates an empty pool. A queue of `long_min` bytes or more is long.
    pub(crate) fn new(long_min: usize) -> Self {
        Self {
            long_min: long_min.max(1),
            ..Self::default()
        }
    }

    /// Number of long queues in use.
    pub(crate) fn long(&self) -> usize {
        self.long
    }

    /// Takes an empty queue.
    #[inline]
    pub(crate) fn take(&mut self) -> Box<Queue> {
        let queue = self.queues.pop().unwrap_or_default();
        self.memory -= queue.spare_bytes();
        queue
    }

    /// Bytes that wait in the queues that were taken, as they were last counted.
    pub(crate) fn waiting(&self) -> usize {
        self.waiting
    }

    /// Counts `bytes` for `queue`, in place of the bytes that were counted for it before.
    #[inline]
    pub(crate) fn count_queued(&mut self, queue: &mut Queue, bytes: usize) {
        let counted = queue.counted();
        if bytes == counted {
            return;
        }
        self.waiting = self.waiting + bytes - counted;
        let is_long = |bytes| usize::from(bytes >= self.long_min);
        self.long = self.long + is_long(bytes) - is_long(counted);
        queue.set_counted(bytes);
    }

    /// Takes back an empty queue.
    pub(crate) fn put_back(&mut self, mut queue: Box<Queue>) {
        self.count_queued(&mut queue, 0);
        debug_assert!(
            queue.is_idle() && queue.unsent() == 0,
            "a pooled queue is empty"
        );
        if self.queues.len() < POOLED_QUEUES_MAX {
            queue.shrink();
            if self.memory + queue.spare_bytes() > POOLED_MEMORY_MAX {
                queue.drop_spare();
            }
            self.memory += queue.spare_bytes();
            self.queues.push(queue);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::{super::Lane, *};
    use crate::CONNECTION_OVERHEAD;

    #[test]
    fn the_memory_of_a_long_queue_is_freed_when_it_returns_to_the_pool() {
        let mut pool = QueuePool::default();
        let mut queue = pool.take();
        for number in 0..10_000 {
            queue.write(Lane::Single(number), |out| out.push(1));
            queue.unread.push(&[1]);
        }
        queue.clear();
        pool.put_back(queue);
        let kept = pool.take().allocation();
        assert!(kept <= CONNECTION_OVERHEAD, "{kept} bytes");
    }

    #[test]
    fn the_memory_of_pooled_queues_is_bounded() {
        let mut pool = QueuePool::default();
        let mut queues: Vec<_> = (0..POOLED_QUEUES_MAX).map(|_| pool.take()).collect();
        for queue in &mut queues {
            queue.write(Lane::Kept, |out| out.resize(32 << 10, 0));
            queue.clear();
        }
        queues.into_iter().for_each(|queue| pool.put_back(queue));
        let kept: usize = pool.queues.iter().map(|queue| queue.spare_bytes()).sum();
        assert!(
            kept <= POOLED_MEMORY_MAX && kept > POOLED_MEMORY_MAX / 2,
            "{kept}"
        );
        for _ in 0..POOLED_QUEUES_MAX {
            drop(pool.take());
        }
        assert_eq!(pool.memory, 0);
    }

    #[test]
    fn queued_bytes_are_counted_until_their_queue_returns_to_the_pool() {
        let mut pool = QueuePool::new(6);
        let (mut one, mut other) = (pool.take(), pool.take());
        pool.count_queued(&mut one, 5);
        pool.count_queued(&mut other, 7);
        assert_eq!((pool.waiting(), pool.long()), (12, 1));
        pool.count_queued(&mut one, 2);
        assert_eq!(pool.waiting(), 9);
        pool.put_back(other);
        assert_eq!(pool.waiting(), 2);
        pool.put_back(one);
        assert_eq!(
            (pool.waiting(), pool.long(), pool.take().counted()),
            (0, 0, 0)
        );
    }
}
