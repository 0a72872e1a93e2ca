//! Waits between the turns of a shard: in its ring, or, if its handler may start tasks, in a runtime.

use std::{
    io,
    pin::pin,
    task::{Context, Poll, Waker},
};

#[cfg(feature = "tasks")]
use super::runtime::{self, RuntimeWaiter};
use crate::{
    Config, Handler,
    ring::{RingError, Uring, Wait},
    shard::Shard,
};

/// The wait between the turns of a shard.
pub(super) enum Waiter {
    /// The shard waits in its ring.
    Ring,
    /// The shard waits in a runtime, beside its tasks.
    #[cfg(feature = "tasks")]
    Runtime(Box<RuntimeWaiter>),
}

/// Runs `future`, which drives a shard: on a new runtime if the handler may start tasks.
///
/// # Errors
/// If the runtime cannot be created.
pub(super) fn run<T>(
    #[cfg_attr(not(feature = "tasks"), expect(unused))] config: &Config,
    future: impl Future<Output = T>,
) -> Result<T, RingError> {
    #[cfg(feature = "tasks")]
    if config.max_tasks > 0 {
        return runtime::run(future);
    }
    let mut context = Context::from_waker(Waker::noop());
    match pin!(future).poll(&mut context) {
        Poll::Ready(result) => Ok(result),
        Poll::Pending => unreachable!("a shard without a runtime waits in its ring only"),
    }
}

impl Waiter {
    pub(super) fn new<H: Handler>(
        #[cfg_attr(not(feature = "tasks"), expect(unused))] shard: &Shard<Uring, H>,
        #[cfg_attr(not(feature = "tasks"), expect(unused))] config: &Config,
    ) -> io::Result<Self> {
        #[cfg(feature = "tasks")]
        if config.max_tasks > 0 {
            return Ok(Self::Runtime(Box::new(RuntimeWaiter::new(shard)?)));
        }
        Ok(Self::Ring)
    }

    /// Enters the ring, and lets tasks run.
    pub(super) async fn enter<H: Handler>(
        &mut self,
        shard: &mut Shard<Uring, H>,
        wait: Wait,
    ) -> io::Result<()> {
        match self {
            Self::Ring => shard.enter(wait),
            #[cfg(feature = "tasks")]
            Self::Runtime(waiter) => waiter.enter(shard, wait).await,
        }
    }
}
