//! Closes every connection of a shard that drains, in batches, and resets those that are left at its end.

use std::time::Duration;

use tidewheel_codec::Time;

use super::{Shard, core::Lifecycle};
use crate::{Handler, ring::Ring};

/// Slots that one turn of a drain visits, at most.
const SLOTS_PER_TURN: u32 = 4096;

/// Resolution of the clock.
const CLOCK_RESOLUTION: Duration = Duration::from_millis(1);

impl<R: Ring, H: Handler> Shard<R, H> {
    /// Closes the connections that are due, and at the end of the drain resets those that are left. Returns the time
    /// until the next connection is due, or until the end.
    pub(super) fn drain(&mut self, now: Time) -> Option<Duration> {
        let Lifecycle::Draining(mut progress) = self.core.lifecycle else {
            return None;
        };
        // A client whose Close is sent later has less time to answer, so that all have ended at the deadline.
        let left = progress.deadline().since(now);
        let end = u32::try_from(self.connections.capacity()).unwrap_or(u32::MAX);
        if left.is_zero() {
            let upto = progress.next_reset.saturating_add(SLOTS_PER_TURN).min(end);
            for slot in progress.next_reset..upto {
                self.visit(slot, now, |visit| visit.end_drain());
            }
            progress.next_reset = upto;
            self.core.later.drop_ended();
            self.core.lifecycle = Lifecycle::Draining(progress);
            return (upto < end).then_some(Duration::ZERO);
        }
        if progress.next_slot == end {
            return Some(left);
        }
        self.core.endpoint.set_close_timeout(left);
        let due = progress.due(&self.core.settings.drain, now);
        let upto = progress.next_slot.saturating_add(SLOTS_PER_TURN).min(end);
        while progress.next_slot < upto && progress.closed < due {
            if self.connections.contains(progress.next_slot as usize) {
                self.visit(progress.next_slot, now, |visit| visit.start_shutdown());
                progress.closed += 1;
            }
            progress.next_slot += 1;
        }
        self.core.lifecycle = Lifecycle::Draining(progress);
        if progress.next_slot == end {
            Some(left)
        } else if progress.closed < due {
            Some(Duration::ZERO)
        } else {
            let interval = self.core.settings.drain.interval;
            Some(interval.max(CLOCK_RESOLUTION).min(left))
        }
    }
}
