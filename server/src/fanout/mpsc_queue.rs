//! What threads hand to a shard: a list that any of them may add to, and the shard takes whole.
//!
//! Adding is one allocation and a compare-and-swap, taking is one swap (Treiber, 1986; a list
//! that is only ever taken whole has no ABA). Whoever adds to an empty list is told so, and wakes
//! the shard; who adds to another need not, because somebody else has.
//!
//! Closing replaces the list by a mark that stays: a message is in the list that is dropped then, or it
//! is refused.

use super::sync::atomic::{AtomicPtr, AtomicUsize, Ordering};

struct Node<T> {
    value: T,
    /// What was added before.
    next: *mut Node<T>,
}

/// The mailbox is closed: nobody reads what is added.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) struct Closed;

/// What is in place of a list when the mailbox is closed: no node has an odd address.
fn closed<T>() -> *mut Node<T> {
    const { assert!(align_of::<Node<T>>() > 1) };
    std::ptr::without_provenance_mut(1)
}

/// A list of messages for one reader.
pub(crate) struct MpscQueue<T> {
    /// What was added last; [`closed`] once the mailbox is closed.
    head: AtomicPtr<Node<T>>,
    /// Messages in the list, more or less.
    length: AtomicUsize,
}

// SAFETY: a message is owned by one thread at a time: who adds it, the list, who takes it.
unsafe impl<T: Send> Send for MpscQueue<T> {}
// SAFETY: as above; the list itself changes by atomic operations only.
unsafe impl<T: Send> Sync for MpscQueue<T> {}

impl<T> MpscQueue<T> {
    pub(crate) fn new() -> Self {
        Self {
            head: AtomicPtr::new(std::ptr::null_mut()),
            length: AtomicUsize::new(0),
        }
    }

    /// Adds a message; says whether there was none, so that the reader is to be woken.
    ///
    /// Those of one thread are taken in the order in which they were added.
    ///
    /// # Errors
    /// If the mailbox is closed; the message is dropped.
    pub(crate) fn add(&self, value: T) -> Result<bool, Closed> {
        self.length.fetch_add(1, Ordering::Relaxed);
        let mut head = self.head.load(Ordering::Relaxed);
        let node = Box::into_raw(Box::new(Node { value, next: head }));
        loop {
            if head == closed() {
                self.length.fetch_sub(1, Ordering::Relaxed);
                // SAFETY: the node is not in the list, so nobody else has it.
                drop(unsafe { Box::from_raw(node) });
                return Err(Closed);
            }
            // SAFETY: as above.
            unsafe { (*node).next = head };
            // Acquire and release, as is the swap, which sees what was added last: of a reader that
            // says where it can be woken and then looks here, and a writer that adds and then asks
            // how to wake it, one at least sees the other.
            match self
                .head
                .compare_exchange_weak(head, node, Ordering::AcqRel, Ordering::Relaxed)
            {
                Ok(_) => return Ok(head.is_null()),
                Err(current) => head = current,
            }
        }
    }

    /// Takes all messages, the oldest first, and gives them to `read`. Once it is closed there are none.
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

    /// Refuses messages from now on, and gives those that wait to `read`; says whether it was open.
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
            // SAFETY: whoever took this list has made it ours alone; its nodes were made by `add`.
            let next = unsafe { std::mem::replace(&mut (*newest).next, oldest) };
            oldest = newest;
            newest = next;
            count += 1;
        }
        self.length.fetch_sub(count, Ordering::Relaxed);
        while !oldest.is_null() {
            // SAFETY: as above, and each node is taken once.
            let node = unsafe { Box::from_raw(oldest) };
            oldest = node.next;
            read(node.value);
        }
    }

    /// How many messages wait, more or less.
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
        f.debug_struct("MpscQueue").field("len", &self.len()).finish()
    }
}
