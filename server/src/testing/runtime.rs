//! The runtime on which the tasks of a test run.

use std::{
    thread,
    time::{Duration, Instant},
};

use crate::{
    Handler,
    ring::{Wait, sim::SimRing},
    shard::Shard,
};

/// Real time for which the tasks of one wait of a test may wait for something real.
const PATIENCE: Duration = Duration::from_secs(10);

/// Virtual time, and at most the same real time, between two turns while a task is unfinished.
const STEP: Duration = Duration::from_millis(1);

/// Real time between two polls of the tasks.
const POLL_INTERVAL: Duration = Duration::from_micros(50);

/// Number of times that the runtime polls the tasks that are ready.
const POLLS: u32 = 4;

/// A `tokio_uring` runtime whose clock is the virtual time.
pub(super) struct Runtime {
    runtime: tokio_uring::Runtime,
    /// Real time that is left to wait for tasks.
    patience: Duration,
}

impl Runtime {
    pub(super) fn new() -> Self {
        let runtime = tokio_uring::Runtime::new(tokio_uring::builder().entries(64));
        let runtime = runtime.unwrap_or_else(|error| panic!("no runtime for tasks: {error}"));
        runtime.block_on(async { tokio::time::pause() });
        Self {
            runtime,
            patience: PATIENCE,
        }
    }

    /// Calls `run` in the context of the runtime.
    pub(super) fn enter<T>(&self, run: impl FnOnce() -> T) -> T {
        self.runtime.block_on(async { run() })
    }

    /// Runs the tasks of a shard until one has finished, or for a step of real time. Returns the wait of the shard,
    /// which is a step at most if a task is unfinished.
    pub(super) fn run_tasks<H: Handler>(&mut self, shard: &Shard<SimRing, H>, wait: Wait) -> Wait {
        if !shard.uses_tasks() {
            return wait;
        }
        let (tasks, finished) = shard.tasks();
        let began = now();
        loop {
            self.runtime.block_on(tasks.run_until(async {
                for _ in 0..POLLS {
                    tokio::task::yield_now().await;
                }
            }));
            // Tasks that were dropped have given up their futures now.
            if !shard.has_tasks() {
                return wait;
            }
            if finished.has_any() {
                return Wait::No;
            }
            let took = now() - began;
            if wait == Wait::No || took >= STEP.min(self.patience) {
                self.patience = self.patience.saturating_sub(took);
                break;
            }
            pause();
        }
        match wait {
            Wait::No => Wait::No,
            Wait::For(limit) => Wait::For(limit.min(STEP)),
            Wait::Forever => Wait::For(STEP),
        }
    }

    /// Lets virtual time pass on the clock of the runtime.
    pub(super) fn advance(&self, time: Duration) {
        if !time.is_zero() {
            self.runtime.block_on(tokio::time::advance(time));
        }
    }

    pub(super) fn limit_patience(&mut self, patience: Duration) {
        self.patience = patience;
    }

    pub(super) fn renew_patience(&mut self) {
        self.patience = PATIENCE;
    }
}

/// Waits until something real may have happened.
#[expect(
    clippy::disallowed_methods,
    reason = "a task may wait for a thread that notifies nobody else"
)]
fn pause() {
    thread::sleep(POLL_INTERVAL);
}

#[expect(
    clippy::disallowed_methods,
    reason = "tasks may wait for something real"
)]
fn now() -> Instant {
    Instant::now()
}
