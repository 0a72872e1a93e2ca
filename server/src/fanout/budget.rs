//! The byte budget of a shard's fan-out, and the pressure on publishers.
//!
//! The budget counts the memory of all published messages that are not in the send queues of all their
//! subscribers: frames, their joined and compressed forms, links, and jobs in the inbox. A message that several
//! shards deliver counts on each of them. A full budget slows publishers, but never subscribers.

use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};

/// The pressure on the publishers of a shard, by the share of the budget in use.
#[derive(Clone, Copy, Debug, Eq, Ord, PartialEq, PartialOrd)]
pub(crate) enum Pressure {
    /// Publishers are not limited.
    Free,
    /// Less than half is in use, but a quarter or more, or messages wait. Each connection may have 64 KiB in flight, and all other
    /// threads together [`Budget::remote_window`].
    Behind,
    /// Half of the budget is in use. Connections that publish are not read, and other threads get `Busy`.
    Hold,
    /// Three quarters are in use. Connections that have not sent a message yet are not read either.
    HoldUnknown,
    /// The budget is used up. Publishing fails with `Busy`.
    Full,
}

/// Bytes that the fan-out of one shard holds.
#[derive(Debug)]
pub(crate) struct Budget {
    bytes_max: usize,
    /// Bytes of the jobs in the inbox.
    queued: AtomicUsize,
    /// Bytes that the shard holds. Only the shard writes it.
    held: AtomicUsize,
    /// Whether messages wait for the delivery of earlier ones. Only the shard writes it.
    is_behind: AtomicBool,
    /// Whether the shard has ended, and limits no publisher.
    is_closed: AtomicBool,
}

impl Budget {
    pub(super) fn new(bytes_max: usize) -> Self {
        Self {
            bytes_max,
            queued: AtomicUsize::new(0),
            held: AtomicUsize::new(0),
            is_behind: AtomicBool::new(false),
            is_closed: AtomicBool::new(false),
        }
    }

    /// Bytes in use. All operations in this file are relaxed, because the numbers guard no other memory.
    pub(crate) fn bytes(&self) -> usize {
        let queued = self.queued.load(Ordering::Relaxed);
        queued.saturating_add(self.held.load(Ordering::Relaxed))
    }

    pub(crate) fn pressure(&self) -> Pressure {
        if self.is_closed() {
            return Pressure::Free;
        }
        let quarters = self.bytes() / (self.bytes_max / 4).max(1);
        match quarters {
            0 if !self.is_behind.load(Ordering::Relaxed) => Pressure::Free,
            0 | 1 => Pressure::Behind,
            2 => Pressure::Hold,
            3 => Pressure::HoldUnknown,
            _ => Pressure::Full,
        }
    }

    /// Bytes that other threads may have in flight while messages wait on the shard.
    pub(crate) fn remote_window(&self) -> usize {
        self.bytes_max / 64
    }

    /// Counts a job that is added to the inbox.
    pub(super) fn add_queued(&self, bytes: usize) {
        self.queued.fetch_add(bytes, Ordering::Relaxed);
    }

    /// Removes a job that was taken out of the inbox.
    pub(super) fn remove_queued(&self, bytes: usize) {
        self.queued.fetch_sub(bytes, Ordering::Relaxed);
    }

    /// Notes that the shard has ended.
    pub(super) fn close(&self) {
        self.is_closed.store(true, Ordering::Relaxed);
    }

    /// Returns whether the shard has ended.
    pub(super) fn is_closed(&self) -> bool {
        self.is_closed.load(Ordering::Relaxed)
    }

    /// Sets the bytes that the shard holds, and whether messages wait.
    pub(super) fn set_held(&self, bytes: usize, is_behind: bool) {
        self.held.store(bytes, Ordering::Relaxed);
        self.is_behind.store(is_behind, Ordering::Relaxed);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pressure_rises_by_quarters() {
        let budget = Budget::new(400);
        let expected = [
            (0, Pressure::Free),
            (99, Pressure::Free),
            (100, Pressure::Behind),
            (200, Pressure::Hold),
            (300, Pressure::HoldUnknown),
            (399, Pressure::HoldUnknown),
            (400, Pressure::Full),
        ];
        for (bytes, pressure) in expected {
            budget.set_held(bytes, false);
            assert_eq!(budget.pressure(), pressure, "{bytes} bytes held");
            budget.set_held(0, false);
            budget.add_queued(bytes);
            assert_eq!(budget.pressure(), pressure, "{bytes} bytes in the inbox");
            budget.remove_queued(bytes);
        }
        budget.set_held(0, true);
        assert_eq!(budget.pressure(), Pressure::Behind);
    }
}
