//! Calls the application when a topic gets its first subscriber, and when it loses its last one.

use super::Shard;
use crate::{
    Handler,
    contain::{self, Callback},
    fanout::PresenceChange,
    ring::Ring,
};

/// Topics whose change is reported in one turn, at most. Changes that were undone count.
pub(crate) const TOPICS_REPORTED_PER_TURN: usize = 1024;

impl<R: Ring, H: Handler> Shard<R, H> {
    /// Reports changes of topics to the application, within the limit of a turn.
    pub(super) fn report_presence(&mut self) {
        let mut left = TOPICS_REPORTED_PER_TURN;
        while let Some(report) = self.core.fanout.next_report(&mut left) {
            let (handler, name) = (&mut self.core.handler, report.name());
            let (callback, called) = match report.change {
                PresenceChange::Active => (
                    Callback::TopicActive,
                    contain::catch(|| handler.topic_active(name)),
                ),
                PresenceChange::Idle => (
                    Callback::TopicIdle,
                    contain::catch(|| handler.topic_idle(name)),
                ),
            };
            self.core.fanout.end_report(report);
            if let Err(panic) = called {
                self.core.note_panic(None, callback, panic);
            }
        }
    }
}
