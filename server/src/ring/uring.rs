//! The io_uring implementation of a [`Ring`].

mod accepted_peer;
mod completion_queue;
mod connect_addresses;
mod entries;
mod fills;
mod installer;
mod provided;
mod release;
mod setup;
mod submission_queue;
mod user_data;

use std::{
    collections::{HashMap, VecDeque},
    io,
    mem::ManuallyDrop,
    net::SocketAddr,
    os::fd::{AsRawFd, BorrowedFd, OwnedFd},
    time::Duration,
};

use bytes::BytesMut;
use io_uring::{IoUring, opcode, types};

pub use self::setup::Setup;
use self::{
    accepted_peer::AcceptedPeer, connect_addresses::ConnectAddresses, fills::Fills,
    installer::Installer, provided::BufferEntries,
};
#[cfg(feature = "tasks")]
use super::Signal;
use super::{
    AckProgress, BufferMemory, Completion, Op, Ring, Token, Wait, Waker,
    probe::{self, RingError},
};

/// The id of the ring's only group of provided buffers.
const BUFFER_GROUP: u16 = 0;

/// Maximum number of accepts under way.
const ACCEPTS_MAX: usize = 64;

/// An io_uring with direct descriptors and a provided-buffer ring. Only the thread that created it can
/// use it.
pub struct Uring {
    ring: IoUring,
    listener: Option<OwnedFd>,
    waker: Waker,
    /// The errno of the error that made the ring unusable.
    failure: Option<i32>,
    // The kernel writes to the memory of the fields in `ManuallyDrop`, reads it, or takes buffers from it.
    // `drop` frees it when no operation is left.
    buffers: ManuallyDrop<BufferMemory>,
    entries: ManuallyDrop<BufferEntries>,
    /// Completions taken out of the completion queue before they were reaped, in order.
    early_completions: VecDeque<Completion>,
    connect_addresses: ConnectAddresses,
    /// Wakers whose ring descriptors are named by entries in the submission queue.
    queued_wakers: Vec<Waker>,
    installer: Installer,
    fills: ManuallyDrop<Fills>,
    /// The bytes of each [`Op::SendAll`] under way.
    send_all_bytes: ManuallyDrop<HashMap<Token, Vec<u8>>>,
    /// The peer's address of each accept, by the generation in its token.
    accepted_peers: ManuallyDrop<Box<[AcceptedPeer; ACCEPTS_MAX]>>,
}

impl std::fmt::Debug for Uring {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Uring")
            .field("buffers", &self.buffers)
            .finish_non_exhaustive()
    }
}

impl Uring {
    /// Creates a ring for the calling thread. [`Op::Accept`] accepts connections of `listener`.
    ///
    /// The flags are `SINGLE_ISSUER | DEFER_TASKRUN` (io_uring_setup(2)): no other thread may
    /// submit, and the kernel runs completion work only when this thread enters the ring.
    ///
    /// # Errors
    /// [`RingError`], which names the cause and the command that fixes it.
    pub fn new(setup: &Setup, listener: Option<OwnedFd>) -> Result<Self, RingError> {
        let ring = setup::build(setup).map_err(RingError::setup)?;
        let installs = probe::require(&ring)?.is_supported(opcode::FixedFdInstall::CODE);
        ring.submitter()
            .register_files_sparse(setup.sockets)
            .map_err(|error| RingError::sockets(error, setup.sockets))?;
        let mut buffers =
            BufferMemory::new(setup.buffers, setup.buffer_size).map_err(RingError::memory)?;
        let mut entries = BufferEntries::new(setup.buffers).map_err(RingError::memory)?;
        // SAFETY: the entries are page-aligned, there are `setup.buffers` of them, and they are freed only when
        // no operation is left that may take a buffer.
        unsafe {
            ring.submitter().register_buf_ring_with_flags(
                entries.address(),
                setup.buffers,
                BUFFER_GROUP,
                0,
            )
        }
        .map_err(RingError::memory)?;
        entries.refill(&mut buffers);
        // SAFETY: the ring is open for the time of this call.
        let descriptor = unsafe { BorrowedFd::borrow_raw(ring.as_raw_fd()) };
        let descriptor = descriptor.try_clone_to_owned().map_err(RingError::setup)?;
        let waker = Waker::new().map_err(RingError::setup)?.of_ring(descriptor);
        Ok(Self {
            ring,
            listener,
            waker,
            failure: None,
            buffers: ManuallyDrop::new(buffers),
            entries: ManuallyDrop::new(entries),
            early_completions: VecDeque::new(),
            connect_addresses: ConnectAddresses::default(),
            queued_wakers: Vec::new(),
            installer: Installer::new(installs),
            // Setting a socket option needs Linux 6.7; `installs` implies 6.8.
            fills: ManuallyDrop::new(Fills::new(installs)),
            send_all_bytes: ManuallyDrop::default(),
            accepted_peers: ManuallyDrop::new(Box::new([AcceptedPeer::empty(); ACCEPTS_MAX])),
        })
    }

    /// Sets `signal` whenever an operation has completed. The caller enters the ring afterwards.
    #[cfg(feature = "tasks")]
    pub(crate) fn register(&self, signal: &Signal) -> io::Result<()> {
        self.waker.set_signal(signal.eventfd());
        self.ring.submitter().register_eventfd(signal.as_raw_fd())
    }

    /// Makes the ring unusable.
    fn fail(&mut self, error: &io::Error) {
        let errno = error.raw_os_error().unwrap_or(libc::EIO);
        self.failure.get_or_insert(errno);
    }

    /// Returns the error that made the ring unusable, if there was one.
    fn check(&self) -> io::Result<()> {
        match self.failure {
            Some(errno) => Err(io::Error::from_raw_os_error(errno)),
            None => Ok(()),
        }
    }
}

// SAFETY: every `Op::Send` has `MSG_DONTWAIT`, so it has ended when it is submitted; `Op::SendAll` owns its bytes. `enter` submits
// all entries, or fails. `enter` also takes the completions that did not fit into the queue, before any is
// reaped. Buffers have one owner (`BufferMemory`, `Fills`). Dropping the ring cancels all operations.
unsafe impl Ring for Uring {
    fn push(&mut self, op: Op, token: Token) {
        self.push_entries(op, token);
    }

    fn enter(&mut self, wait: Wait) -> io::Result<()> {
        self.check()?;
        self.entries.refill(&mut self.buffers);
        let result = match wait {
            _ if !self.early_completions.is_empty() => self.ring.submit(),
            Wait::No | Wait::For(Duration::ZERO) if self.is_idle() => Ok(0),
            Wait::No => self.ring.submit(),
            Wait::For(Duration::ZERO) => self.submit_and_take(),
            Wait::Forever => self.ring.submit_and_wait(1),
            Wait::For(limit) => {
                let timespec = types::Timespec::from(limit);
                let args = types::SubmitArgs::new().timespec(&timespec);
                self.ring.submitter().submit_with_args(1, &args)
            }
        };
        match result.map_err(|error| (error.raw_os_error(), error)) {
            Ok(_) | Err((Some(libc::ETIME | libc::EINTR | libc::EBUSY | libc::EAGAIN), _)) => {}
            Err((_, error)) => {
                self.fail(&error);
                return Err(error);
            }
        }
        if wait == Wait::No {
            self.run_task_work();
        }
        if !self.ring.submission().is_empty() {
            // An entry left here would count as a silent send that has ended.
            self.submit();
        }
        self.take_overflow();
        self.drop_submitted();
        self.installer.note_left();
        self.check()
    }

    fn reap(&mut self) -> Option<Completion> {
        self.early_completions
            .pop_front()
            .or_else(|| self.pop_completion())
    }

    fn take_filled(&mut self, fill: Token) -> BytesMut {
        self.fills.take(fill)
    }

    fn buffers_free(&self) -> usize {
        self.buffers.free()
    }

    fn stop_listening(&mut self) {
        if let Some(listener) = &self.listener {
            // Fails only if it was done before. Closing is not enough: accepts under way keep the
            // listener open.
            let _ = rustix::net::shutdown(listener, rustix::net::Shutdown::Read);
        }
    }

    fn peer(&self, accept: Token) -> Option<SocketAddr> {
        let peer = self.accepted_peers.get(accept.generation() as usize)?;
        peer.address()
    }

    fn ack_progress(&self, query: Token) -> Option<AckProgress> {
        self.installer.ack_progress(query)
    }

    fn waker(&self) -> Waker {
        self.waker.clone()
    }
}

#[cfg(test)]
mod tests {
    use std::{net::TcpListener, os::fd::FromRawFd};

    use super::{entries::fixed, *};
    use crate::ring::{OpCode, Socket};

    #[test]
    fn a_connected_socket_has_tcp_nodelay() {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let setup = Setup {
            submissions: 8,
            completions: 8,
            sockets: 1,
            buffers: 1,
            buffer_size: 256,
        };
        let mut ring = Uring::new(&setup, None).unwrap();
        let (socket, peer) = (Socket(0), listener.local_addr().unwrap());
        ring.push(Op::Connect { socket, peer }, Token::new(0, 0));
        ring.enter(Wait::For(Duration::from_secs(10))).unwrap();
        let connected = ring.reap().expect("the connect completes");
        assert!(connected.result >= 0, "{connected:?}");
        // getsockopt(2) needs a descriptor of the process.
        ring.queue(&[opcode::FixedFdInstall::new(fixed(socket), 0).build()]);
        ring.ring.submit_and_wait(1).unwrap();
        let installed = ring.ring.completion().next().unwrap().result();
        assert!(installed >= 0, "{installed}");
        // SAFETY: the kernel has just created this descriptor, and nothing else owns it.
        let installed = unsafe { OwnedFd::from_raw_fd(installed) };
        assert!(rustix::net::sockopt::tcp_nodelay(&installed).unwrap());
    }

    #[test]
    fn a_ring_that_has_failed_submits_nothing() {
        let setup = Setup {
            submissions: 8,
            completions: 64,
            sockets: 16,
            buffers: 1,
            buffer_size: 256,
        };
        let mut ring = Uring::new(&setup, None).expect("io_uring is available");
        let (kind, target) = (OpCode::Accept, Token::new(0, 0));
        ring.push(Op::Cancel { kind, target }, target);
        ring.fail(&io::Error::from_raw_os_error(libc::ENOMEM));
        let queued = ring.ring.submission().len();
        assert!(queued > 0);
        for socket in 0..setup.sockets {
            let peer = SocketAddr::from(([127, 0, 0, 1], 9));
            let connect = Op::Connect {
                socket: Socket(socket),
                peer,
            };
            ring.push(connect, Token::new(0, socket));
            ring.push(Op::Cancel { kind, target }, target);
        }
        assert!(!ring.run_task_work());
        assert!(ring.enter(Wait::No).is_err());
        assert_eq!(ring.ring.submission().len(), queued);
        // A ring that has failed does not free its memory.
        ring.failure = None;
    }
}
