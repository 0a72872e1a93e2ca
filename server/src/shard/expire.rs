//! Sets the timer of each connection, and handles its expiry.

use tidewheel_codec::Time;

use super::{Shard, visit::Visit};
use crate::{
    Handler,
    connection::{Connection, Phase},
    ring::Ring,
};

impl<R: Ring, H: Handler> Shard<R, H> {
    /// Handles the timers that have expired, within the limits of a turn. Returns whether none is left.
    pub(super) fn expire_timers(&mut self, now: Time) -> bool {
        let deadlines = &mut self.core.deadlines;
        let (mut expired, done) = deadlines.advance(&mut self.connections, now);
        for slot in expired.drain(..) {
            self.visit(slot, now, |visit| visit.handle_timer());
        }
        self.core.deadlines.recycle(expired);
        done
    }
}

impl<R: Ring, H: Handler> Visit<'_, R, H> {
    /// Sets the connection's timer to its next deadline.
    pub(super) fn schedule(&mut self) {
        let first_timer = self.core.later.timers.next(self.slot, self.now);
        let Connection { timer, phase, .. } = &mut *self.connection;
        let deadline = match phase {
            Phase::Handshake { deadline, .. }
            | Phase::Undecided { deadline, .. }
            | Phase::Answered { deadline } => Some(*deadline),
            Phase::Flushing { ack_wait } => Some(ack_wait.next()),
            Phase::Open { protocol, .. } => {
                let timeout = protocol.poll_timeout(self.core.endpoint.config());
                timeout
                    .into_iter()
                    .chain(first_timer.filter(|_| protocol.is_open()))
                    .min()
            }
            Phase::Leaving(_) => None,
        };
        self.core.deadlines.set(self.slot, timer, deadline);
    }
}
