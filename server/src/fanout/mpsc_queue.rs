//! A queue with many producers and one consumer, which takes all messages at once.
//!
//! Adding takes one allocation and a compare-and-swap, and taking a compare-and-swap (Treiber, 1986). The list
//! is only ever taken as a whole, so the ABA problem does not occur. The producer that adds to an empty queue
//! has to wake the consumer.
//!
//! Closing replaces the list by a mark that stays. A message that is added concurrently is either in the list
//! that is dropped, or is refused.

use super::sync::atomic::{AtomicPtr, AtomicUsize, Ordering};

struct Node<T> {
    value: T,
    /// The node that was added before this one.
    next: *mut Node<T>,
}

/// Error of adding to a queue that is closed.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) struct Closed;

/// The mark in place of the list of a closed queue. No node has an odd address.
fn closed<T>() -> *mut Node<T> {
    const { assert!(align_of::<Node<T>>() > 1) };
    std::ptr::without_provenance_mut(1)
}

/// A queue of messages for one consumer.
pub(crate) struct MpscQueue<T> {
    /// The node that was added last; [`closed`] when the queue is closed.
    head: AtomicPtr<Node<T>>,
    /// Approximate number of messages.
    length: AtomicUsize,
}

// SAFETY: a message is owned by one thread at a time: the thread that adds it, the list, and then the thread
// that takes the list.
unsafe impl<T: Send> Send for MpscQueue<T> {}
// SAFETY: as above. The list itself changes by atomic operations only.
unsafe impl<T: Send> Sync for MpscQueue<T> {}

impl<T> MpscQueue<T> {
    pub(crate) fn new() -> Self {
        Self {
            head: AtomicPtr::new(std::ptr::null_mut()),
            length: AtomicUsize::new(0),
        }
    }

    /// Adds a message. Returns whether the queue was empty, so that the caller has to wake the consumer.
    ///
    /// The messages of one thread are taken in the order in which they were added.
    ///
    /// # Errors
    /// If the queue is closed. The message is dropped.
    pub(crate) fn add(&self, value: T) -> Result<bool, Closed> {
        self.length.fetch_add(1, Ordering::Relaxed);
        let mut head = self.head.load(Ordering::Relaxed);
        let node = Box::into_raw(Box::new(Node { value, next: head }));
        loop {
            if head == closed() {
                self.length.fetch_sub(1, Ordering::Relaxed);
                // SAFETY: the node was never in the list, so this thread owns it.
                drop(unsafe { Box::from_raw(node) });
                return Err(Closed);
            }
            // SAFETY: as above.
            unsafe { (*node).next = head };
            // Acquire and release, as in `take`, which also writes `head`. A consumer publishes its waker and
            // then takes the list; a producer adds and then reads the waker. At least one of them sees the
            // write of the other.
            match self
                .head
                .compare_exchange_weak(head, node, Ordering::AcqRel, Ordering::Relaxed)
            {
                Ok(_) => return Ok(head.is_null()),
                Err(current) => head = current,
            }
        }
    }

    /// Takes all messages, and calls `read` with each, the oldest first. A closed queue has none.
    pub(crate) fn take(&self, read: impl FnMut(T)) {
        let mut head = self.head.load(Ordering::Relaxed);
        while head != closed() {
            let none = std::ptr::null_mut();
            match self
                .head
                .compare_exchange_weak(head, none, Ordering::AcqRel, Ordering::Relaxed)
            {
                Ok(newest) => return self.unpack(newest, read),
                Err(current) => head = current,
            }
        }
    }

    /// Closes the queue, and calls `read` with each message in it. Returns whether the queue was open.
    pub(crate) fn close(&self, read: impl FnMut(T)) -> bool {
        let newest = self.head.swap(closed(), Ordering::AcqRel);
        let was_open = newest != closed();
        if was_open {
            self.unpack(newest, read);
        }
        was_open
    }

    /// Reads a list that was taken, from its end.
    fn unpack(&self, mut newest: *mut Node<T>, mut read: impl FnMut(T)) {
        let mut oldest = std::ptr::null_mut();
        let mut count = 0;
        while !newest.is_null() {
            // SAFETY: this thread has taken the list, so it owns all nodes, which `add` has allocated.
            let next = unsafe { std::mem::replace(&mut (*newest).next, oldest) };
            oldest = newest;
            newest = next;
            count += 1;
        }
        self.length.fetch_sub(count, Ordering::Relaxed);
        while !oldest.is_null() {
            // SAFETY: as above, and each node is freed once.
            let node = unsafe { Box::from_raw(oldest) };
            oldest = node.next;
            read(node.value);
        }
    }

    /// Approximate number of messages.
    pub(crate) fn len(&self) -> usize {
        self.length.load(Ordering::Relaxed)
    }
}

impl<T> Drop for MpscQueue<T> {
    fn drop(&mut self) {
        self.take(drop);
    }
}

impl<T> std::fmt::Debug for MpscQueue<T> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("MpscQueue")
            .field("len", &self.len())
            .finish()
    }
}
