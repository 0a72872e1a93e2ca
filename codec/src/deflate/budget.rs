use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

/// Bytes that the streams of connections with context takeover may take together.
#[derive(Clone, Debug)]
pub(crate) struct Budget {
    limit: usize,
    /// Shared with the reservations, which outlive every borrow of the endpoint.
    used: Arc<AtomicUsize>,
}

/// A part of a [`Budget`], given back when it is dropped.
#[derive(Debug)]
pub(super) struct Reservation {
    bytes: usize,
    used: Arc<AtomicUsize>,
}

impl Budget {
    pub(super) fn new(limit: usize) -> Self {
        Self {
            limit,
            used: Arc::default(),
        }
    }

    pub(super) fn has_room_for(&self, bytes: usize) -> bool {
        self.used().saturating_add(bytes) <= self.limit
    }

    /// Takes `bytes`, though they may exceed the limit: ask [`has_room_for`](Self::has_room_for).
    pub(super) fn reserve(&self, bytes: usize) -> Reservation {
        // Relaxed: the number guards no other memory.
        self.used.fetch_add(bytes, Ordering::Relaxed);
        Reservation {
            bytes,
            used: Arc::clone(&self.used),
        }
    }

    pub(crate) fn used(&self) -> usize {
        self.used.load(Ordering::Relaxed)
    }
}

impl Drop for Reservation {
    fn drop(&mut self) {
        self.used.fetch_sub(self.bytes, Ordering::Relaxed);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_dropped_reservation_makes_room() {
        let budget = Budget::new(10);
        let reservation = budget.reserve(6);
        assert!(budget.has_room_for(4) && !budget.has_room_for(5));
        drop(reservation);
        assert!(budget.has_room_for(10) && !budget.has_room_for(11));
    }
}
