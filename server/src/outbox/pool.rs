//! Queues that nobody needs at the moment.

use super::Queue;

/// Queues that the pool keeps for reuse, and bytes of their empty vectors.
const POOLED_QUEUES_MAX: usize = 1024;
pub(crate) const POOLED_MEMORY_MAX: usize = 4 << 20;

/// Empty queues for connections that have something to send: one that has not holds none.
#[derive(Default)]
pub(crate) struct QueuePool {
    #[expect(clippy::vec_box, reason = "a queue keeps its address")]
    queues: Vec<Box<Queue>>,
    /// Bytes of the empty vectors of these.
    memory: usize,
    /// Bytes that wait in the queues that were taken.
    waiting: usize,
    /// Bytes that wait in a queue that counts as long.
    long_min: usize,
    /// How many queues are long.
    long: usize,
}

impl QueuePool {
    /// Queues in which `long_min` bytes or more wait count as long.
    pub(crate) fn new(long_min: usize) -> Self {
        Self {
            long_min: long_min.max(1),
            ..Self::default()
        }
    }

    /// How many queues that were taken are long.
    pub(crate) fn long(&self) -> usize {
        self.long
    }

    #[inline]
    pub(crate) fn take(&mut self) -> Box<Queue> {
        let queue = self.queues.pop().unwrap_or_default();
        self.memory -= queue.spare.capacity();
        queue
    }

    /// Bytes that wait in the queues that were taken, as they were last weighed.
    pub(crate) fn waiting(&self) -> usize {
        self.waiting
    }

    /// Counts so many bytes of `queue` as waiting, instead of what was counted before.
    #[inline]
    pub(crate) fn weigh(&mut self, queue: &mut Queue, bytes: usize) {
        if bytes == queue.weighed {
            return;
        }
        self.waiting = self.waiting + bytes - queue.weighed;
        let is_long = |bytes| usize::from(bytes >= self.long_min);
        self.long = self.long + is_long(bytes) - is_long(queue.weighed);
        queue.weighed = bytes;
    }

    /// Takes back an empty queue.
    pub(crate) fn put_back(&mut self, mut queue: Box<Queue>) {
        self.weigh(&mut queue, 0);
        debug_assert!(
            queue.is_idle() && queue.unsent == 0,
            "a pooled queue is empty"
        );
        if self.queues.len() < POOLED_QUEUES_MAX {
            queue.shrink();
            if self.memory + queue.spare.capacity() > POOLED_MEMORY_MAX {
                queue.spare = Vec::new();
            }
            self.memory += queue.spare.capacity();
            self.queues.push(queue);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::{super::Lane, *};
    use crate::CONNECTION_OVERHEAD;

    #[test]
    fn what_only_a_long_queue_needs_is_given_back() {
        let mut pool = QueuePool::default();
        let mut queue = pool.take();
        for number in 0..10_000 {
            queue.write(Lane::Single(number), |out| out.push(1));
            queue.parked.push(&[1]);
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
        let kept: usize = pool.queues.iter().map(|queue| queue.spare.capacity()).sum();
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
    fn what_waits_is_counted_until_its_queue_is_put_back() {
        let mut pool = QueuePool::new(6);
        let (mut one, mut other) = (pool.take(), pool.take());
        pool.weigh(&mut one, 5);
        pool.weigh(&mut other, 7);
        assert_eq!((pool.waiting(), pool.long()), (12, 1));
        pool.weigh(&mut one, 2);
        assert_eq!(pool.waiting(), 9);
        pool.put_back(other);
        assert_eq!(pool.waiting(), 2);
        pool.put_back(one);
        assert_eq!(
            (pool.waiting(), pool.long(), pool.take().weighed),
            (0, 0, 0)
        );
    }
}
