//! Drives a shard on a `tokio_uring` runtime, so that its tasks run between its turns.
//!
//! Until the first task starts, the shard waits in its ring, as without a runtime. From then on it waits in the
//! runtime. The kernel signals an eventfd when an operation of the ring has completed (io_uring_register(2),
//! `IORING_REGISTER_EVENTFD`); the descriptor of the ring itself would not become readable, because the kernel defers
//! completions until the shard enters the ring. Threads that wake the shard signal the eventfd themselves.

use std::{future::poll_fn, io, pin::Pin, rc::Rc, task::Poll, time::Duration};

use tokio::time::{Instant, Sleep, sleep_until};

use crate::{
    Handler, host,
    later::FinishedQueue,
    ring::{RingError, Signal, Uring, Wait},
    shard::Shard,
};

/// Number of submission queue entries of a runtime's ring, which has the operations of `tokio_uring`.
const SUBMISSION_ENTRIES: u32 = 64;

/// Number of descriptors that a runtime opens. It panics if it cannot open them, so they are reserved first.
const DESCRIPTORS: usize = 10;

/// Takes from the ring what a wait would take. [`Wait::No`] takes all there is: larger batches, which use up the receive
/// buffers, so that receives have to be armed again.
const TAKE: Wait = Wait::For(Duration::ZERO);

/// Runs `future` on a new runtime of the calling thread.
///
/// # Errors
/// If the runtime cannot be created.
pub(super) fn run<T>(future: impl Future<Output = T>) -> Result<T, RingError> {
    host::reserve_descriptors(DESCRIPTORS).map_err(RingError::Other)?;
    let runtime = tokio_uring::Runtime::new(tokio_uring::builder().entries(SUBMISSION_ENTRIES))
        .map_err(RingError::setup)?;
    Ok(runtime.block_on(future))
}

/// The wait of a shard on the runtime of the calling thread.
pub(super) struct RuntimeWaiter {
    /// Signalled when an operation of the shard's ring has completed.
    signal: Signal,
    is_registered: bool,
    finished: Rc<FinishedQueue>,
}

impl RuntimeWaiter {
    pub(super) fn new<H: Handler>(shard: &Shard<Uring, H>) -> io::Result<Self> {
        let (_, finished) = shard.tasks();
        Ok(Self {
            signal: Signal::new()?,
            is_registered: false,
            finished,
        })
    }

    /// Enters the ring, and lets the tasks run.
    pub(super) async fn enter<H: Handler>(
        &mut self,
        shard: &mut Shard<Uring, H>,
        wait: Wait,
    ) -> io::Result<()> {
        if !shard.uses_tasks() {
            return shard.enter(wait);
        }
        if !self.is_registered {
            shard.ring().register(&self.signal)?;
            self.is_registered = true;
        }
        shard.enter(match wait {
            Wait::No => Wait::No,
            Wait::For(_) | Wait::Forever => TAKE,
        })?;
        if wait == Wait::No || shard.has_pending_completions() {
            // The runtime submits operations of `tokio_uring`, and looks for events, only when it waits.
            self.signal.set();
            self.wait(None).await;
            return Ok(());
        }
        let limit = match wait {
            Wait::For(limit) => Instant::now().checked_add(limit),
            Wait::No | Wait::Forever => None,
        };
        let mut sleep = limit.map(|limit| Box::pin(sleep_until(limit)));
        loop {
            let is_over = self.wait(sleep.as_mut()).await;
            shard.enter(TAKE)?;
            // An earlier completion may have signalled the event.
            if is_over || shard.has_pending_completions() {
                return Ok(());
            }
        }
    }

    /// Waits for a signal, or until `sleep` is over or a task has finished. Returns whether it was one of the latter.
    async fn wait(&self, mut sleep: Option<&mut Pin<Box<Sleep>>>) -> bool {
        poll_fn(|context| {
            let is_over = sleep
                .as_mut()
                .is_some_and(|sleep| sleep.as_mut().poll(context).is_ready());
            if is_over || self.finished.poll_any(context).is_ready() {
                return Poll::Ready(true);
            }
            self.signal.poll(context).map(|()| false)
        })
        .await
    }
}
