//! The byte budget of a shard's fan-out, and the pressure that follows from it.
//!
//! Everything that was published and is not yet in the send queue of its last subscriber counts:
//! frames, their joined and compressed forms, links, and mailboxes. A message that several shards
//! deliver counts on each of them. What is over budget slows publishers, never subscribers.

use std::{
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicUsize, Ordering},
    },
    time::Duration,
};

use tidewheel_codec::Time;

/// How full the fan-out of a shard is, and what publishers may do then.
#[derive(Clone, Copy, Debug, Eq, Ord, PartialEq, PartialOrd)]
pub(crate) enum Pressure {
    /// Publishers go on.
    Free,
    /// Messages wait for their turn: each connection may have 64 KiB under way, and all other threads
    /// together [`Budget::remote_window`].
    Behind,
    /// Half of the budget is used: connections that publish are not read, and other threads get
    /// `Busy`.
    Hold,
    /// Three quarters are used: connections of which it is not known whether they publish are not
    /// read either.
    HoldUnknown,
    /// All of it is used: publishing fails with `Busy`.
    Full,
}

/// Bytes that the fan-out of one shard holds. Other threads add what they hand over.
#[derive(Debug)]
pub(crate) struct Budget {
    bytes_max: usize,
    /// In the mailbox.
    mailed: AtomicUsize,
    /// Held by the shard; only the shard writes it.
    held: AtomicUsize,
    /// Whether messages wait until earlier ones are delivered; only the shard writes it.
    is_behind: AtomicBool,
}

impl Budget {
    pub(super) fn new(bytes_max: usize) -> Self {
        Self {
            bytes_max,
            mailed: AtomicUsize::new(0),
            held: AtomicUsize::new(0),
            is_behind: AtomicBool::new(false),
        }
    }

    /// Bytes in use. Relaxed, as is everything here: the numbers guard no other memory.
    pub(crate) fn bytes(&self) -> usize {
        let mailed = self.mailed.load(Ordering::Relaxed);
        mailed.saturating_add(self.held.load(Ordering::Relaxed))
    }

    pub(crate) fn pressure(&self) -> Pressure {
        let quarters = self.bytes() / (self.bytes_max / 4).max(1);
        match quarters {
            0 if !self.is_behind.load(Ordering::Relaxed) => Pressure::Free,
            0 | 1 => Pressure::Behind,
            2 => Pressure::Hold,
            3 => Pressure::HoldUnknown,
            _ => Pressure::Full,
        }
    }

    /// Bytes that other threads may have under way while a shard is behind.
    pub(crate) fn remote_window(&self) -> usize {
        self.bytes_max / 64
    }

    /// Counts what is put into the mailbox.
    pub(super) fn add_mail(&self, bytes: usize) {
        self.mailed.fetch_add(bytes, Ordering::Relaxed);
    }

    /// Counts what was taken out of the mailbox.
    pub(super) fn remove_mail(&self, bytes: usize) {
        self.mailed.fetch_sub(bytes, Ordering::Relaxed);
    }

    /// The shard has ended, and holds nothing.
    pub(super) fn close(&self) {
        self.set_held(0, false);
    }

    /// Tells what the shard itself holds.
    pub(super) fn set_held(&self, bytes: usize, is_behind: bool) {
        self.held.store(bytes, Ordering::Relaxed);
        self.is_behind.store(is_behind, Ordering::Relaxed);
    }
}

/// When memory that a burst has needed is given back: when the fan-out has been empty for a while after
/// messages had to wait.
#[derive(Debug, Default)]
pub(crate) struct Aftermath {
    was_behind: bool,
    due: Option<Time>,
}

/// So long the fan-out is empty before.
const CALM: Duration = Duration::from_millis(250);

impl Aftermath {
    /// Takes note of the fan-out at the end of a turn; says whether memory is to be given back now.
    pub(crate) fn note(&mut self, is_behind: bool, is_empty: bool, now: Time) -> bool {
        self.was_behind |= is_behind;
        if !is_empty || !self.was_behind {
            self.due = None;
            return false;
        }
        let due = *self.due.get_or_insert(now + CALM);
        if now < due {
            return false;
        }
        *self = Self::default();
        true
    }

    /// When the next note is to be taken at the latest.
    pub(crate) fn due(&self) -> Option<Time> {
        self.due
    }
}

/// Bytes that one publisher has under way: published, and not yet in the send queue of the last
/// subscriber on every shard.
#[derive(Debug, Default)]
pub(crate) struct Window(AtomicUsize);

impl Window {
    pub(crate) fn bytes(&self) -> usize {
        self.0.load(Ordering::Relaxed)
    }
}

/// A message's part of its publisher's window; dropping it gives the bytes back.
#[derive(Debug)]
pub(super) struct UnderWay {
    window: Arc<Window>,
    bytes: usize,
}

impl UnderWay {
    pub(super) fn new(window: &Arc<Window>, bytes: usize) -> Self {
        window.0.fetch_add(bytes, Ordering::Relaxed);
        Self {
            window: Arc::clone(window),
            bytes,
        }
    }
}

impl Drop for UnderWay {
    fn drop(&mut self) {
        self.window.0.fetch_sub(self.bytes, Ordering::Relaxed);
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
            budget.add_mail(bytes);
            assert_eq!(budget.pressure(), pressure, "{bytes} bytes of mail");
            budget.remove_mail(bytes);
        }
        budget.set_held(0, true);
        assert_eq!(budget.pressure(), Pressure::Behind);
    }

    #[test]
    fn memory_is_given_back_once_when_a_burst_has_been_over_for_a_while() {
        let at = Time::from_millis;
        let mut aftermath = Aftermath::default();
        assert!(!aftermath.note(false, false, at(0)));
        assert!(!aftermath.note(false, true, at(1)));
        assert_eq!(aftermath.due(), None, "nothing had to wait");
        assert!(!aftermath.note(true, false, at(2)));
        assert!(!aftermath.note(false, true, at(3)));
        assert!(!aftermath.note(false, false, at(4)));
        assert_eq!(aftermath.due(), None, "it goes on");
        assert!(!aftermath.note(false, true, at(5)));
        assert_eq!(aftermath.due(), Some(at(255)));
        assert!(!aftermath.note(false, true, at(254)));
        assert!(aftermath.note(false, true, at(255)));
        assert!(!aftermath.note(false, true, at(256)));
        assert_eq!(aftermath.due(), None);
    }

    #[test]
    fn a_window_counts_messages_until_they_are_dropped() {
        let window = Arc::default();
        let (one, other) = (UnderWay::new(&window, 3), UnderWay::new(&window, 4));
        assert_eq!(window.bytes(), 7);
        drop(one);
        assert_eq!(window.bytes(), 4);
        drop(other);
        assert_eq!(window.bytes(), 0);
    }
}
