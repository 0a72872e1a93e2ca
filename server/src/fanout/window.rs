//! Bytes in flight of one publisher.

use std::sync::{
    Arc,
    atomic::{AtomicUsize, Ordering},
};

/// Bytes in flight of one publisher: bytes of messages that are not in the send queues of all their subscribers
/// yet.
#[derive(Debug, Default)]
pub(crate) struct Window {
    bytes: AtomicUsize,
    /// Bytes of the last message that was published.
    last_bytes: AtomicUsize,
}

impl Window {
    pub(crate) fn bytes(&self) -> usize {
        self.bytes.load(Ordering::Relaxed)
    }

    pub(super) fn last_bytes(&self) -> usize {
        self.last_bytes.load(Ordering::Relaxed)
    }
}

/// The bytes in flight of one message. Dropping it removes them from the publisher's window.
#[derive(Debug)]
pub(super) struct InFlight {
    window: Arc<Window>,
    bytes: usize,
}

impl InFlight {
    pub(super) fn new(window: &Arc<Window>, bytes: usize) -> Self {
        window.bytes.fetch_add(bytes, Ordering::Relaxed);
        window.last_bytes.store(bytes, Ordering::Relaxed);
        Self {
            window: Arc::clone(window),
            bytes,
        }
    }
}

impl Drop for InFlight {
    fn drop(&mut self) {
        self.window.bytes.fetch_sub(self.bytes, Ordering::Relaxed);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_window_counts_messages_until_they_are_dropped() {
        let window = Arc::default();
        let (one, other) = (InFlight::new(&window, 3), InFlight::new(&window, 4));
        assert_eq!(window.bytes(), 7);
        drop(one);
        assert_eq!(window.bytes(), 4);
        drop(other);
        assert_eq!(window.bytes(), 0);
    }
}
