//! Closures of the application that a shard calls later: when a timer expires, or when a task has finished.

#[cfg(feature = "tasks")]
mod answer;
#[cfg(feature = "tasks")]
mod tasks;
mod timers;

#[cfg(feature = "tasks")]
pub(crate) use self::answer::Later;
#[cfg(feature = "tasks")]
pub(crate) use self::tasks::{Finished, FinishedQueue, Output, TaskFuture, Tasks};
#[cfg(test)]
pub(crate) use self::timers::TIMERS_MAX;
pub use self::timers::TimerId;
pub(crate) use self::timers::Timers;

use tidewheel_codec::Time;

use crate::Config;

/// The timers and tasks of the connections of a shard.
#[derive(Debug)]
pub(crate) struct Schedule {
    pub(crate) timers: Timers,
    #[cfg(feature = "tasks")]
    pub(crate) tasks: Tasks,
}

impl Schedule {
    pub(crate) fn new(#[cfg_attr(not(feature = "tasks"), expect(unused))] config: &Config) -> Self {
        Self {
            timers: Timers::default(),
            #[cfg(feature = "tasks")]
            tasks: Tasks::new(config),
        }
    }

    /// Cancels the timers of a connection that has ended. Its tasks may finish until `deadline`.
    pub(crate) fn end_connection(
        &mut self,
        slot: u32,
        #[cfg_attr(not(feature = "tasks"), expect(unused))] deadline: Time,
    ) {
        self.timers.forget(slot);
        #[cfg(feature = "tasks")]
        self.tasks.end_connection(slot, deadline);
    }

    /// Returns whether the shard has as many tasks as it may have.
    pub(crate) fn is_full(&self) -> bool {
        #[cfg(feature = "tasks")]
        return self.tasks.count() > 0 && self.tasks.is_shard_full();
        #[cfg(not(feature = "tasks"))]
        return false;
    }

    /// Returns whether a task is unfinished, or its output waits.
    pub(crate) fn has_work(&self) -> bool {
        #[cfg(feature = "tasks")]
        return self.tasks.count() > 0;
        #[cfg(not(feature = "tasks"))]
        return false;
    }

    /// Time at which tasks of connections that have ended are dropped.
    pub(crate) fn next_deadline(&self) -> Option<Time> {
        #[cfg(feature = "tasks")]
        return self.tasks.next_deadline();
        #[cfg(not(feature = "tasks"))]
        return None;
    }

    /// Drops the tasks of connections that have ended.
    pub(crate) fn drop_ended(&mut self) {
        #[cfg(feature = "tasks")]
        self.tasks.drop_ended();
    }

    /// Returns whether a connection has as many tasks as it may have, so that it is not read.
    #[inline]
    pub(crate) fn is_busy(
        &self,
        #[cfg_attr(not(feature = "tasks"), expect(unused))] slot: u32,
    ) -> bool {
        #[cfg(feature = "tasks")]
        return self.tasks.is_full(slot);
        #[cfg(not(feature = "tasks"))]
        return false;
    }
}
