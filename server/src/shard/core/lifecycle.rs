//! The lifecycle of a shard, and the progress of its drain.

use std::time::Duration;

use tidewheel_codec::Time;

use crate::config::Drain;

/// The lifecycle of a shard.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(in crate::shard) enum Lifecycle {
    Serving,
    Draining(DrainProgress),
    Stopped,
}

/// The progress of a drain.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(in crate::shard) struct DrainProgress {
    began: Time,
    /// Time at which every connection that is left is reset.
    deadline: Time,
    /// Connections when the drain began.
    total: u64,
    /// Connections to which a Close was sent.
    pub(in crate::shard) closed: u64,
    /// The first slot to which the drain has sent no Close.
    pub(in crate::shard) next_slot: u32,
    /// The first slot that was not reset at the deadline.
    pub(in crate::shard) next_reset: u32,
}

impl DrainProgress {
    pub(in crate::shard) fn new(now: Time, timeout: Duration, connections: usize) -> Self {
        Self {
            began: now,
            deadline: now + timeout,
            total: connections as u64,
            closed: 0,
            next_slot: 0,
            next_reset: 0,
        }
    }

    /// Time at which every connection that is left is reset.
    pub(in crate::shard) fn deadline(&self) -> Time {
        self.deadline
    }

    /// Ends the drain at `time`, if it would end later.
    pub(in crate::shard) fn end_by(&mut self, time: Time) {
        self.deadline = self.deadline.min(time);
    }

    /// Connections to which a Close may have been sent by `now`: one batch in each interval, but all within half
    /// of the time.
    pub(in crate::shard) fn due(&self, drain: &Drain, now: Time) -> u64 {
        let elapsed_ms = now.since(self.began).as_millis() as u64;
        let interval_ms = drain.interval.as_millis().max(1) as u64;
        let batches = (elapsed_ms / interval_ms).saturating_add(1);
        let half_ms = self.deadline.since(self.began).as_millis() as u64 / 2;
        let proportional = self.total.saturating_mul(elapsed_ms) / half_ms.max(1);
        batches
            .saturating_mul(u64::from(drain.batch))
            .max(proportional)
    }
}
