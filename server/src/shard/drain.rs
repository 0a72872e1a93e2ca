//! The end of a shard: every connection is told, in batches, and reset when the time is over.

use std::time::Duration;

use tidewheel_codec::Time;

use super::{Life, Shard};
use crate::{Handler, config::Drain, ring::Ring};

/// Slots that one turn of a drain looks at.
const SLOTS_PER_TURN: u32 = 4096;

/// The clock counts in these.
const CLOCK_RESOLUTION: Duration = Duration::from_millis(1);

/// How far a drain has come.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) struct Progress {
    began: Time,
    /// The time at which everything that is still open is reset.
    deadline: Time,
    /// Connections when it began.
    total: u64,
    /// How many of them have been told.
    told: u64,
    /// Connections in slots below have been told.
    next: u32,
}

impl Progress {
    pub(super) fn new(now: Time, close_timeout: Duration, connections: usize) -> Self {
        Self {
            began: now,
            deadline: now + close_timeout,
            total: connections as u64,
            told: 0,
            next: 0,
        }
    }

    /// The time at which everything that is still open is reset.
    pub(super) fn deadline(&self) -> Time {
        self.deadline
    }

    /// How many may have been told by `now`: whole batches; but in half of the time, all.
    fn due(&self, drain: &Drain, now: Time) -> u64 {
        let elapsed_ms = now.since(self.began).as_millis() as u64;
        let interval_ms = drain.interval.as_millis().max(1) as u64;
        let batches = (elapsed_ms / interval_ms).saturating_add(1);
        let half_ms = self.deadline.since(self.began).as_millis() as u64 / 2;
        let share = self.total.saturating_mul(elapsed_ms) / half_ms.max(1);
        batches.saturating_mul(u64::from(drain.batch)).max(share)
    }
}

impl<R: Ring, H: Handler> Shard<R, H> {
    /// Goes on with a drain; tells when there is more to do for it, if there is.
    pub(super) fn drain(&mut self, now: Time) -> Option<Duration> {
        let Life::Draining(mut progress) = self.core.life else {
            return None;
        };
        let end = u32::try_from(self.connections.capacity()).unwrap_or(u32::MAX);
        if progress.next == end {
            return None;
        }
        // Who is told late has less time to answer, so that all are gone at the deadline.
        let left = progress.deadline.since(now).max(CLOCK_RESOLUTION);
        self.core.endpoint.set_close_timeout(left);
        let due = progress.due(&self.core.settings.drain, now);
        let upto = progress.next.saturating_add(SLOTS_PER_TURN).min(end);
        while progress.next < upto && progress.told < due {
            if self.connections.contains(progress.next as usize) {
                self.visit(progress.next, now, |visit| visit.say_goodbye());
                progress.told += 1;
            }
            progress.next += 1;
        }
        self.core.life = Life::Draining(progress);
        if progress.next == end {
            None
        } else if progress.told < due {
            Some(Duration::ZERO)
        } else {
            Some(self.core.settings.drain.interval.max(CLOCK_RESOLUTION))
        }
    }
}
