use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

/// A limit on the memory of all connections with context takeover, in bytes.
#[derive(Clone, Debug)]
pub(crate) struct Budget {
    limit: usize,
    /// Shared with the reservations, which connections own.
    used: Arc<AtomicUsize>,
}

/// A part of a [`Budget`], which is returned when the reservation is dropped.
#[derive(Debug)]
pub(crate) struct Reservation {
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

    /// Reserves `bytes` without a check of the limit: call [`has_room_for`](Self::has_room_for) first.
    pub(super) fn reserve(&self, bytes: usize) -> Reservation {
        // Relaxed: no other memory depends on the number.
        self.used.fetch_add(bytes, Ordering::Relaxed);
        Reservation {
            bytes,
            used: Arc::clone(&self.used),
        }
    }

    /// Returns the reserved bytes.
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
    fn a_dropped_reservation_returns_its_bytes() {
        let budget = Budget::new(10);
        let reservation = budget.reserve(6);
        assert!(budget.has_room_for(4) && !budget.has_room_for(5));
        drop(reservation);
        assert!(budget.has_room_for(10) && !budget.has_room_for(11));
    }
}
