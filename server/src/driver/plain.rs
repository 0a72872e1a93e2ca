//! Drives a shard without a runtime: the shard waits in its ring.

use std::{
    io,
    pin::pin,
    task::{Context, Poll, Waker},
};

use crate::{
    Handler,
    ring::{RingError, Uring, Wait},
    shard::Shard,
};

/// Drives a shard on a thread without a runtime.
pub(super) struct Host;

/// Runs `future`, which never waits.
pub(super) fn run<T>(future: impl Future<Output = T>) -> Result<T, RingError> {
    let mut context = Context::from_waker(Waker::noop());
    match pin!(future).poll(&mut context) {
        Poll::Ready(result) => Ok(result),
        Poll::Pending => unreachable!("a shard without a runtime waits in its ring only"),
    }
}

/// The tasks of a shard: none.
pub(super) struct TaskSet;

impl TaskSet {
    /// Polls `drive` until it is done.
    pub(super) async fn run_until<T>(&self, drive: impl Future<Output = T>) -> T {
        drive.await
    }
}

impl Host {
    #[expect(clippy::unnecessary_wraps, reason = "with a runtime it may fail")]
    pub(super) fn new<H: Handler>(_: &Shard<Uring, H>) -> io::Result<(Self, TaskSet)> {
        Ok((Self, TaskSet))
    }

    /// Enters the ring.
    #[expect(clippy::unused_async, reason = "with a runtime it waits")]
    pub(super) async fn enter<H: Handler>(
        &mut self,
        shard: &mut Shard<Uring, H>,
        wait: Wait,
    ) -> io::Result<()> {
        shard.enter(wait)
    }
}
