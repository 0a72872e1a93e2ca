//! The completion queue.

use std::collections::VecDeque;

use super::super::super::Completion;

/// A completion queue of fixed capacity, and the completions that do not fit
/// (io_uring_setup(2), `IORING_FEAT_NODROP`).
#[derive(Debug)]
pub(super) struct CompletionQueue {
    capacity: usize,
    ready: VecDeque<Completion>,
    /// Completions that did not fit, and all that came after them.
    overflow: VecDeque<Completion>,
    overflowed: u64,
}

impl CompletionQueue {
    pub(super) fn new(capacity: usize) -> Self {
        Self {
            capacity,
            ready: VecDeque::new(),
            overflow: VecDeque::new(),
            overflowed: 0,
        }
    }

    /// Whether the next completion fits into the queue, in order.
    pub(super) fn has_room(&self) -> bool {
        self.overflow.is_empty() && self.ready.len() < self.capacity
    }

    /// Adds a completion, behind the queue if it does not fit.
    pub(super) fn push(&mut self, completion: Completion) {
        if self.has_room() {
            self.ready.push_back(completion);
        } else {
            self.overflow.push_back(completion);
            self.overflowed += 1;
        }
    }

    /// Moves completions that did not fit into the queue, as far as there is room.
    pub(super) fn flush(&mut self) {
        let room = self.capacity - self.ready.len();
        let count = room.min(self.overflow.len());
        self.ready.extend(self.overflow.drain(..count));
    }

    /// Takes the next completion. If the queue is empty, it is flushed first.
    pub(super) fn pop(&mut self) -> Option<Completion> {
        if self.ready.is_empty() {
            self.flush();
        }
        self.ready.pop_front()
    }

    /// Whether the queue is empty, regardless of completions that did not fit.
    pub(super) fn is_empty(&self) -> bool {
        self.ready.is_empty()
    }

    /// The number of completions that did not fit so far.
    pub(super) fn overflowed(&self) -> u64 {
        self.overflowed
    }
}
