//! The reading speed of a peer whose socket has not taken everything.

use std::time::Duration;

use tidewheel_codec::Time;

/// A peer reads if it takes [`PROGRESS_BYTES_MIN`] in this time.
pub(crate) const PROGRESS_TIME: Duration = Duration::from_secs(2);

/// Bytes that a peer takes in [`PROGRESS_TIME`] if it reads.
const PROGRESS_BYTES_MIN: usize = 4 << 10;

/// A peer reads fast if it takes a full send queue in this time.
pub(crate) const FAST_TIME: Duration = Duration::from_millis(50);

/// Bytes that a peer has taken since a send was short.
pub(super) struct Stall {
    /// The current window of [`PROGRESS_TIME`].
    progress: Window,
    /// The current window of [`FAST_TIME`].
    speed: Window,
    /// Whether the peer read fast in the window before `speed`; true during the first window.
    is_fast: bool,
}

/// Bytes that were taken since a point in time.
struct Window {
    since: Time,
    taken: usize,
}

impl Window {
    fn new(since: Time) -> Self {
        Self { since, taken: 0 }
    }
}

impl Stall {
    pub(super) fn new(now: Time) -> Self {
        Self {
            progress: Window::new(now),
            speed: Window::new(now),
            is_fast: true,
        }
    }

    /// Counts bytes that the peer has taken.
    pub(super) fn take(&mut self, bytes: usize) {
        self.progress.taken += bytes;
        self.speed.taken += bytes;
    }

    /// Returns whether the peer took [`PROGRESS_BYTES_MIN`] in the last window of [`PROGRESS_TIME`]. Returns true
    /// during the first window.
    pub(super) fn is_read(&mut self, now: Time) -> bool {
        if now.since(self.progress.since) < PROGRESS_TIME {
            return true;
        }
        let before = std::mem::replace(&mut self.progress, Window::new(now));
        before.taken >= PROGRESS_BYTES_MIN
    }

    /// Returns whether the peer took `bytes` or more in the last window of [`FAST_TIME`]. Returns true during
    /// the first window.
    pub(super) fn is_read_fast(&mut self, bytes: usize, now: Time) -> bool {
        let elapsed = now.since(self.speed.since);
        if elapsed >= FAST_TIME {
            let windows = elapsed.as_millis() / FAST_TIME.as_millis();
            let before = std::mem::replace(&mut self.speed, Window::new(now));
            self.is_fast = before.taken as u128 >= bytes as u128 * windows;
        }
        self.is_fast
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(millis: u64) -> Time {
        Time::from_millis(millis)
    }

    #[test]
    fn a_peer_reads_while_it_takes_the_minimum_in_each_window() {
        let mut stall = Stall::new(at(0));
        assert!(stall.is_read(at(1999)), "the first window is not over");
        stall.take(PROGRESS_BYTES_MIN);
        assert!(stall.is_read(at(2000)));
        stall.take(PROGRESS_BYTES_MIN - 1);
        assert!(stall.is_read(at(3999)), "the window is not over");
        assert!(!stall.is_read(at(4000)));
    }

    #[test]
    fn a_peer_reads_fast_while_it_takes_a_full_queue_in_each_window() {
        let mut stall = Stall::new(at(0));
        assert!(
            stall.is_read_fast(100, at(49)),
            "the first window is not over"
        );
        stall.take(100);
        assert!(stall.is_read_fast(100, at(50)));
        // More than two windows have passed.
        stall.take(199);
        assert!(!stall.is_read_fast(100, at(170)));
        stall.take(100);
        assert!(!stall.is_read_fast(100, at(219)), "the window is not over");
        assert!(stall.is_read_fast(100, at(220)));
    }
}
