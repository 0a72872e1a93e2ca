//! How a peer reads whose socket did not take everything.

use std::time::Duration;

use tidewheel_codec::Time;

/// A peer that takes so little in such a time does not read.
pub(crate) const PROGRESS_TIME: Duration = Duration::from_secs(2);
const PROGRESS_BYTES_MIN: usize = 4 << 10;

/// A peer that takes as much as may wait for it in such a time is fast.
pub(crate) const FAST_TIME: Duration = Duration::from_millis(50);

/// The bytes that a peer takes, from the send that was short until everything is taken.
pub(super) struct Stall {
    /// Within the last [`PROGRESS_TIME`].
    progress: Window,
    /// Within the last [`FAST_TIME`].
    pace: Window,
    /// Whether the peer has read fast in the window before `pace`; true in the first.
    is_fast: bool,
}

/// Bytes that were taken since a time.
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
            pace: Window::new(now),
            is_fast: true,
        }
    }

    /// Notes that the peer has taken so many bytes.
    pub(super) fn take(&mut self, bytes: usize) {
        self.progress.taken += bytes;
        self.pace.taken += bytes;
    }

    /// Whether the peer reads: it takes a little in each [`PROGRESS_TIME`]. Until one has passed, it does.
    pub(super) fn is_read(&mut self, now: Time) -> bool {
        if now.since(self.progress.since) < PROGRESS_TIME {
            return true;
        }
        let before = std::mem::replace(&mut self.progress, Window::new(now));
        before.taken >= PROGRESS_BYTES_MIN
    }

    /// Whether the peer reads fast: it takes `bytes` or more in each [`FAST_TIME`]. Until one has passed, it
    /// does.
    pub(super) fn is_read_fast(&mut self, bytes: usize, now: Time) -> bool {
        let elapsed = now.since(self.pace.since);
        if elapsed >= FAST_TIME {
            let windows = elapsed.as_millis() / FAST_TIME.as_millis();
            let before = std::mem::replace(&mut self.pace, Window::new(now));
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
    fn a_peer_reads_while_it_takes_a_little_in_each_window() {
        let mut stall = Stall::new(at(0));
        assert!(stall.is_read(at(1999)), "nobody can tell yet");
        stall.take(PROGRESS_BYTES_MIN);
        assert!(stall.is_read(at(2000)));
        stall.take(PROGRESS_BYTES_MIN - 1);
        assert!(stall.is_read(at(3999)), "the window is not over");
        assert!(!stall.is_read(at(4000)));
    }

    #[test]
    fn a_peer_reads_fast_while_it_takes_as_much_as_may_wait_in_each_window() {
        let mut stall = Stall::new(at(0));
        assert!(stall.is_read_fast(100, at(49)), "nobody can tell yet");
        stall.take(100);
        assert!(stall.is_read_fast(100, at(50)));
        // Two windows and a part have passed.
        stall.take(199);
        assert!(!stall.is_read_fast(100, at(170)));
        stall.take(100);
        assert!(!stall.is_read_fast(100, at(219)), "the window is not over");
        assert!(stall.is_read_fast(100, at(220)));
    }
}
