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
    queued: AtomicUsize,
    /// Held by the shard; only the shard writes it.
    held: AtomicUsize,
    /// Whether messages wait until earlier ones are delivered; only the shard writes it.
    is_behind: AtomicBool,
    /// Whether the shard has ended, and holds up nobody.
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

    /// Bytes in use. Relaxed, as is everything here: the numbers guard no other memory.
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

    /// Bytes that other threads may have under way while a shard is behind.
    pub(crate) fn remote_window(&self) -> usize {
        self.bytes_max / 64
    }

    /// Counts what is put into the mailbox.
    pub(super) fn add_queued(&self, bytes: usize) {
        self.queued.fetch_add(bytes, Ordering::Relaxed);
    }

    /// Counts what was taken out of the mailbox.
    pub(super) fn remove_queued(&self, bytes: usize) {
        self.queued.fetch_sub(bytes, Ordering::Relaxed);
    }

    /// The shard has ended.
    pub(super) fn close(&self) {
        self.is_closed.store(true, Ordering::Relaxed);
    }

    /// Whether the shard has ended.
    pub(super) fn is_closed(&self) -> bool {
        self.is_closed.load(Ordering::Relaxed)
    }

    /// Tells what the shard itself holds.
    pub(super) fn set_held(&self, bytes: usize, is_behind: bool) {
        self.held.store(bytes, Ordering::Relaxed);
        self.is_behind.store(is_behind, Ordering::Relaxed);
    }
}

/// When memory that a burst has needed is given back: when little happens after much has happened.
#[derive(Debug)]
pub(crate) struct BurstDetector {
    was_busy: bool,
    /// When this stretch of time began, and the count of bytes then.
    began: Time,
    bytes: u64,
    /// The most connections since memory was given back last.
    connections_max: usize,
}

/// What a shard has to do with at the end of a turn.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Load {
    /// Whether messages wait until earlier ones are delivered.
    pub(crate) is_behind: bool,
    /// Bytes of all messages so far, both ways.
    pub(crate) bytes: u64,
    pub(crate) connections: usize,
}

/// A stretch of time, and the bytes of messages in it that make it a busy one, or a calm one.
const STRETCH: Duration = Duration::from_millis(250);
const BUSY_BYTES_MIN: u64 = 4 << 20;
const CALM_BYTES_MAX: u64 = 1 << 20;

/// So many connections that have ended make it a busy one, too.
const ENDED_MIN: usize = 64;

impl BurstDetector {
    pub(crate) fn new(now: Time) -> Self {
        Self {
            was_busy: false,
            began: now,
            bytes: 0,
            connections_max: 0,
        }
    }

    /// Takes note of the load at the end of a turn; says whether memory is to be given back now.
    pub(crate) fn note(&mut self, load: &Load, now: Time) -> bool {
        let moved = load.bytes.saturating_sub(self.bytes);
        self.connections_max = self.connections_max.max(load.connections);
        let have_ended = load.connections + ENDED_MIN <= self.connections_max;
        self.was_busy |= load.is_behind || moved >= BUSY_BYTES_MIN || have_ended;
        if now.since(self.began) < STRETCH {
            return false;
        }
        self.began = now;
        self.bytes = load.bytes;
        let is_over = self.was_busy && !load.is_behind && moved <= CALM_BYTES_MAX;
        if is_over {
            self.was_busy = false;
            self.connections_max = load.connections;
        }
        is_over
    }

    /// When the next note is to be taken at the latest.
    pub(crate) fn due(&self) -> Option<Time> {
        self.was_busy.then_some(self.began + STRETCH)
    }
}

/// Bytes that one publisher has under way: published, and not yet in the send queue of the last
/// subscriber on every shard.
#[derive(Debug, Default)]
pub(crate) struct Window {
    bytes: AtomicUsize,
    /// Bytes of the message that was published last.
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

/// A message's part of its publisher's window; dropping it gives the bytes back.
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
            assert_eq!(budget.pressure(), pressure, "{bytes} bytes of mail");
            budget.remove_queued(bytes);
        }
        budget.set_held(0, true);
        assert_eq!(budget.pressure(), Pressure::Behind);
    }

    #[test]
    fn memory_is_given_back_once_when_it_is_calm_after_much_has_happened() {
        let load = |is_behind, bytes, connections| Load {
            is_behind,
            bytes,
            connections,
        };
        for busy in [
            load(true, 0, 100),
            load(false, BUSY_BYTES_MIN, 100),
            load(false, 0, 100 - ENDED_MIN),
        ] {
            let at = Time::from_millis;
            let mut burst_detector = BurstDetector::new(at(0));
            assert!(!burst_detector.note(&load(false, 0, 100), at(300)));
            assert_eq!(burst_detector.due(), None, "nothing has happened");
            assert!(!burst_detector.note(&busy, at(310)), "{busy:?}");
            let calm = Load {
                is_behind: false,
                ..busy
            };
            let mut now = 310;
            let mut released = 0;
            while let Some(due) = burst_detector.due() {
                now = due.as_millis().max(now + 1);
                released += usize::from(burst_detector.note(&calm, at(now)));
                assert!(now < 1500, "it ends: {busy:?}");
            }
            assert_eq!(released, 1, "{busy:?}");
        }
    }

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
