//! No runtime, because no task can be started.

use std::time::Duration;

use crate::{
    Handler,
    ring::{Wait, sim::SimRing},
    shard::Shard,
};

/// The runtime of a server without tasks.
pub(super) struct Runtime;

impl Runtime {
    pub(super) fn new() -> Self {
        Self
    }

    pub(super) fn enter<T>(&self, run: impl FnOnce() -> T) -> T {
        run()
    }

    pub(super) fn run_tasks<H: Handler>(&mut self, _: &Shard<SimRing, H>, wait: Wait) -> Wait {
        wait
    }

    pub(super) fn advance(&self, _: Duration) {}

    pub(super) fn limit_patience(&mut self, _: Duration) {}

    pub(super) fn renew_patience(&mut self) {}
}
