//! Waking a ring from another thread.

use std::{
    io,
    os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd, RawFd},
    sync::{
        Arc, OnceLock,
        atomic::{Ordering, fence},
    },
};

use rustix::event::{EventfdFlags, eventfd};

/// Wakes a ring from another thread: its [`Op::PollWakeup`](super::Op::PollWakeup) completes.
#[derive(Clone, Debug)]
pub struct Waker {
    event: Arc<OwnedFd>,
    /// A descriptor of the ring, by which other rings wake it without a system call of their own.
    ring: Option<Arc<OwnedFd>>,
    /// The eventfd that the ring signals, once its shard waits in an asynchronous runtime.
    signal: Arc<OnceLock<Arc<OwnedFd>>>,
}

impl Waker {
    /// Creates a waker that no ring polls yet.
    ///
    /// # Errors
    /// Those of eventfd(2).
    pub fn new() -> io::Result<Self> {
        let event = eventfd(0, EventfdFlags::CLOEXEC | EventfdFlags::NONBLOCK)?;
        Ok(Self {
            event: Arc::new(event),
            ring: None,
            signal: Arc::default(),
        })
    }

    /// Wakes the ring. Several calls before it wakes count as one.
    pub fn wake(&self) {
        // The only error of an eventfd is EAGAIN: its counter is full, so a wake-up is pending anyway.
        let _ = rustix::io::write(&self.event, &1_u64.to_ne_bytes());
        // Either this thread sees the signal, or the shard, which enters its ring after it has set the signal, sees the
        // completion.
        fence(Ordering::SeqCst);
        if let Some(signal) = self.signal.get() {
            // The kernel does not signal one eventfd from within a write to another: it defers the first such signal,
            // and drops all later ones (`__io_eventfd_signal` in io_uring/eventfd.c of Linux).
            let _ = rustix::io::write(signal, &1_u64.to_ne_bytes());
        }
    }

    /// Makes [`wake`](Self::wake) also signal an eventfd. The caller enters the ring afterwards. A second call has no
    /// effect.
    #[cfg(feature = "tasks")]
    pub(super) fn set_signal(&self, signal: Arc<OwnedFd>) {
        let _ = self.signal.set(signal);
        fence(Ordering::SeqCst);
    }

    /// Clears the calls so far, so that the next one wakes the ring.
    pub(crate) fn clear_calls(&self) {
        let _ = rustix::io::read(&self.event, &mut [0_u8; 8]);
    }

    /// Adds a descriptor of the ring.
    pub(super) fn of_ring(mut self, ring: OwnedFd) -> Self {
        self.ring = Some(Arc::new(ring));
        self
    }

    /// Detaches all clones of this waker from the ring: they neither reach it nor keep it open. Its
    /// descriptor becomes an eventfd, which io_uring refuses as a ring.
    ///
    /// # Errors
    /// Those of dup3(2).
    pub(super) fn detach(&self) -> io::Result<()> {
        let Some(ring) = self.ring_fd() else {
            return Ok(());
        };
        loop {
            // SAFETY: both descriptors are open for as long as this value exists. Replacing the file
            // behind the second is sound because it is only passed to io_uring, as the target of
            // IORING_OP_MSG_RING.
            let result = unsafe { libc::dup3(self.event().as_raw_fd(), ring, libc::O_CLOEXEC) };
            if result >= 0 {
                return Ok(());
            }
            let error = io::Error::last_os_error();
            // EBUSY: another thread is opening a descriptor of this number (dup(2)).
            if !matches!(error.raw_os_error(), Some(libc::EINTR | libc::EBUSY)) {
                return Err(error);
            }
        }
    }

    /// The ring's descriptor, if the waker belongs to an io_uring.
    pub(super) fn ring_fd(&self) -> Option<RawFd> {
        self.ring.as_ref().map(|ring| ring.as_raw_fd())
    }

    /// The eventfd that the ring polls.
    pub(super) fn event(&self) -> BorrowedFd<'_> {
        self.event.as_fd()
    }
}
