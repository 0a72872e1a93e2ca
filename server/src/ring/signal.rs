//! An event that a ring signals, and an asynchronous runtime waits for.

use std::{
    io,
    os::fd::{AsRawFd, OwnedFd, RawFd},
    sync::Arc,
    task::{Context, Poll},
};

use rustix::event::{EventfdFlags, eventfd};
use tokio::io::{Interest, unix::AsyncFd};

/// An eventfd (eventfd(2)) that the tokio runtime of the calling thread watches.
#[derive(Debug)]
pub(crate) struct Signal {
    event: AsyncFd<Arc<OwnedFd>>,
}

impl Signal {
    /// Creates an event.
    ///
    /// # Errors
    /// Those of eventfd(2) and epoll_ctl(2).
    ///
    /// # Panics
    /// Outside of a tokio runtime.
    pub(crate) fn new() -> io::Result<Self> {
        let event = Arc::new(eventfd(0, EventfdFlags::CLOEXEC | EventfdFlags::NONBLOCK)?);
        // SAFETY: the `Arc` keeps the descriptor open, and nothing replaces it.
        let event = unsafe { AsyncFd::register_with_interest(event, Interest::READABLE)? };
        Ok(Self { event })
    }

    /// Signals the event.
    pub(crate) fn set(&self) {
        // The only error is EAGAIN: the counter is full.
        let _ = rustix::io::write(self.event.get_ref(), &1_u64.to_ne_bytes());
    }

    /// Returns the eventfd, for threads that signal it themselves.
    pub(super) fn eventfd(&self) -> Arc<OwnedFd> {
        Arc::clone(self.event.get_ref())
    }

    /// Completes if the event was signalled since the last completion.
    pub(crate) fn poll(&self, context: &mut Context<'_>) -> Poll<()> {
        match self.event.poll_read_ready(context) {
            // The runtime is notified of each signal (epoll(7), EPOLLET), so the counter need not be read.
            Poll::Ready(Ok(mut guard)) => guard.clear_ready(),
            // The runtime shuts down.
            Poll::Ready(Err(_)) => {}
            Poll::Pending => return Poll::Pending,
        }
        Poll::Ready(())
    }
}

impl AsRawFd for Signal {
    fn as_raw_fd(&self) -> RawFd {
        self.event.as_raw_fd()
    }
}
