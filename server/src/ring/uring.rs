//! The io_uring implementation of a [`Ring`].

mod entries;
mod fills;
mod installer;
mod peer;
mod provided;
mod release;
mod user_data;

use std::{
    collections::{HashMap, VecDeque},
    io,
    mem::ManuallyDrop,
    net::{IpAddr, SocketAddr},
    os::fd::{AsRawFd, BorrowedFd, OwnedFd},
};

use bytes::BytesMut;
use io_uring::{IoUring, cqueue, opcode, squeue, types};
use socket2::SockAddr;

use self::{
    entries::{CONNECT_ENTRIES, fixed},
    fills::Fills,
    installer::Installer,
    peer::PeerAddress,
    provided::BufferEntries,
    user_data::Purpose,
};
use super::{
    BufferMemory, Completion, Op, OpCode, Ring, SendMode, Socket, Taken, Token, Wait, Waker,
    probe::{self, RingError},
};

/// The one group of provided buffers in each ring.
const BUFFER_GROUP: u16 = 0;

/// What a ring is made of.
#[derive(Clone, Copy, Debug)]
pub struct Setup {
    /// Submission queue entries; a turn that queues more submits in between.
    pub submissions: u32,
    /// Completion queue entries; what does not fit is kept by the kernel, at a cost.
    pub completions: u32,
    /// The size of the direct descriptor table, at most `RLIMIT_NOFILE`.
    pub sockets: u32,
    /// Receive buffers, a power of two of at most 32768.
    pub buffers: u16,
    /// The bytes in each receive buffer.
    pub buffer_size: u32,
}

impl Default for Setup {
    fn default() -> Self {
        Self {
            submissions: 1024,
            completions: 8192,
            sockets: 1024,
            buffers: 64,
            buffer_size: 16 * 1024,
        }
    }
}

/// An io_uring with direct descriptors and a provided-buffer ring, for the thread that made it.
pub struct Uring {
    ring: IoUring,
    listener: Option<OwnedFd>,
    waker: Waker,
    /// Why the ring cannot be used any more, as an errno, if that is so.
    failure: Option<i32>,
    // Memory that the kernel writes to or takes buffers from: it is freed when no operation is left.
    buffers: ManuallyDrop<BufferMemory>,
    entries: ManuallyDrop<BufferEntries>,
    /// Completions taken early, when the kernel would not accept more submissions before.
    early: VecDeque<Completion>,
    /// Addresses of the connects in the submission queue; the kernel copies them on submission.
    peers: Vec<SockAddr>,
    /// Bells of the rings that entries in the submission queue name by their descriptors.
    wakers: Vec<Waker>,
    installer: Installer,
    fills: ManuallyDrop<Fills>,
    /// The bytes of each [`Op::SendAll`] under way.
    parcels: ManuallyDrop<HashMap<Token, Vec<u8>>>,
    /// Where the kernel writes who was accepted, for each of the single accepts.
    accepted: ManuallyDrop<Box<[PeerAddress; ACCEPTS_MAX]>>,
}

/// Single accepts at a time.
const ACCEPTS_MAX: usize = 64;

/// Enters that take what has arrived, after one that does not wait.
const TASK_WORK_RUNS_MAX: u32 = 256;

/// Attempts to submit of which none takes an entry, before the ring counts as unusable.
const SUBMIT_ATTEMPTS_MAX: u32 = 1 << 16;

impl std::fmt::Debug for Uring {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Uring")
            .field("buffers", &self.buffers)
            .finish_non_exhaustive()
    }
}

impl Uring {
    /// Makes a ring for the calling thread; `listener` is what [`Op::Accept`] accepts from.
    ///
    /// The flags are `SINGLE_ISSUER | DEFER_TASKRUN` (io_uring_setup(2)): no other thread may
    /// submit, and the kernel works for the ring only while it is entered.
    ///
    /// # Errors
    /// [`RingError`] names the cause and the command that mends it.
    pub fn new(setup: &Setup, listener: Option<OwnedFd>) -> Result<Self, RingError> {
        let ring = build(setup).map_err(RingError::setup)?;
        let installs = probe::require(&ring)?.is_supported(opcode::FixedFdInstall::CODE);
        ring.submitter()
            .register_files_sparse(setup.sockets)
            .map_err(|error| RingError::sockets(error, setup.sockets))?;
        let mut buffers =
            BufferMemory::new(setup.buffers, setup.buffer_size).map_err(RingError::memory)?;
        let mut entries = BufferEntries::new(setup.buffers).map_err(RingError::memory)?;
        // SAFETY: the entries are page-aligned, live as long as the ring (it is dropped first),
        // and number `setup.buffers`.
        unsafe {
            ring.submitter().register_buf_ring_with_flags(
                entries.pages.start().as_ptr() as u64,
                setup.buffers,
                BUFFER_GROUP,
                0,
            )
        }
        .map_err(RingError::memory)?;
        entries.refill(&mut buffers);
        // SAFETY: the ring is open, and stays so until this has returned.
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
            early: VecDeque::new(),
            peers: Vec::new(),
            wakers: Vec::new(),
            installer: Installer::new(installs),
            // Linux 6.7 has what it takes, 6.8 what is asked for here.
            fills: ManuallyDrop::new(Fills::new(installs)),
            parcels: ManuallyDrop::default(),
            accepted: ManuallyDrop::new(Box::new([PeerAddress::empty(); ACCEPTS_MAX])),
        })
    }

    /// Queues linked entries so that one submission takes them all; none if the ring has failed, which
    /// the next [`Ring::enter`] reports.
    fn queue(&mut self, entries: &[squeue::Entry]) {
        self.make_room(entries.len());
        if self.failure.is_some() {
            return;
        }
        // SAFETY: what the entries point to stays valid for as long as the kernel needs it:
        // sends by the promise to `Outbound`, buffers to fill and parcels until they have completed,
        // addresses until `submit`, values of options as long as the ring or for ever.
        unsafe { self.ring.submission().push_multiple(entries) }
            .expect("the submission queue has room");
    }

    /// Submits what is queued unless there is room for so many entries behind it.
    fn make_room(&mut self, entries: usize) {
        let queue = self.ring.submission();
        let room = queue.capacity() - queue.len();
        drop(queue);
        if room < entries {
            self.submit();
        }
    }

    /// Submits all that is queued. What has arrived is left for [`Ring::enter`]: else the kernel
    /// would receive for connections that are about to be paused.
    fn submit(&mut self) {
        if self.failure.is_some() {
            // What the entries in the queue point to may be gone.
            return;
        }
        self.entries.refill(&mut self.buffers);
        let mut attempts = 0;
        loop {
            let count = self.ring.submission().len();
            // SAFETY: nothing is pointed to.
            let result = unsafe { self.ring.submitter().enter::<()>(count as u32, 0, 0, None) };
            let left = self.ring.submission().len();
            attempts = if left < count { 0 } else { attempts + 1 };
            match result.map_err(|error| (error.raw_os_error(), error)) {
                Ok(_) if left == 0 => break,
                Ok(_) | Err((Some(libc::EINTR), _)) => {}
                // The completion queue is full: make room, in order.
                Err((Some(libc::EBUSY | libc::EAGAIN), _)) => self.set_aside(),
                Err((_, error)) => return self.fail(&error),
            }
            if attempts == SUBMIT_ATTEMPTS_MAX {
                return self.fail(&io::ErrorKind::WouldBlock.into());
            }
        }
        self.note_submitted();
    }

    /// Drops the memory that only queued entries pointed to.
    fn note_submitted(&mut self) {
        self.peers.clear();
        self.wakers.clear();
    }

    /// Takes everything out of the completion queue, for [`Ring::reap`].
    fn set_aside(&mut self) {
        while let Some(completion) = self.pop() {
            self.early.push_back(completion);
        }
    }

    /// Takes what did not fit into the completion queue, and is with the kernel.
    fn take_overflow(&mut self) {
        while self.ring.submission().cq_overflow() {
            self.set_aside();
            match self.ring.submitter().submit_and_wait(0) {
                Ok(_) => {}
                Err(error) => match error.raw_os_error() {
                    Some(libc::EINTR | libc::EBUSY | libc::EAGAIN) => {}
                    _ => return self.fail(&error),
                },
            }
        }
    }

    /// Notes that the ring is unusable.
    fn fail(&mut self, error: &io::Error) {
        let errno = error.raw_os_error().unwrap_or(libc::EIO);
        self.failure.get_or_insert(errno);
    }

    /// Whether the ring can be used still.
    fn check(&self) -> io::Result<()> {
        match self.failure {
            Some(errno) => Err(io::Error::from_raw_os_error(errno)),
            None => Ok(()),
        }
    }

    /// Takes a completion from the queue that is shared with the kernel.
    fn pop(&mut self) -> Option<Completion> {
        let entry = self.ring.completion().next()?;
        let (purpose, token) = user_data::decode(entry.user_data());
        let op = match purpose {
            Purpose::Op(op) => op,
            Purpose::InstallToShutdown | Purpose::InstallToQuery => {
                return Some(self.installer.installed(purpose, token, entry.result()));
            }
        };
        match op {
            OpCode::Send => self.installer.note_sent(token, entry.result()),
            OpCode::SendAll => drop(self.parcels.remove(&token)),
            OpCode::Fill => self.fills.end(token, entry.result()),
            _ => {}
        }
        let flags = entry.flags();
        let buffer = cqueue::buffer_select(flags)
            .map(|id| self.buffers.take(id, entry.result().max(0) as u32));
        Some(Completion {
            op,
            token,
            result: entry.result(),
            more: cqueue::more(flags),
            buffer,
        })
    }
}

// SAFETY: every send has `MSG_DONTWAIT`, so it is over when it is submitted, and `enter` submits
// everything, or fails. Completions that did not fit are taken by `enter` as well, before any is reaped.
// Buffers have one owner (`BufferMemory`, `Fills`). Dropping cancels what is left.
unsafe impl Ring for Uring {
    fn push(&mut self, op: Op, token: Token) {
        let silent = squeue::Flags::SKIP_SUCCESS;
        let code = op.code();
        let user_data = user_data::of(code, token);
        match op {
            Op::Accept {
                multishot,
                addressed,
            } => {
                let listener = self
                    .listener
                    .as_ref()
                    .expect("a ring without listener accepts nothing");
                let fd = types::Fd(listener.as_raw_fd());
                let entry = if multishot {
                    opcode::AcceptMulti::new(fd)
                        .allocate_file_index(true)
                        .build()
                } else {
                    let (address, length) = if addressed {
                        self.accepted[token.generation() as usize].as_mut_pointers()
                    } else {
                        (std::ptr::null_mut(), std::ptr::null_mut())
                    };
                    opcode::Accept::new(fd, address, length)
                        .file_index(Some(types::DestinationSlot::auto_target()))
                        .build()
                };
                self.queue(&[entry.user_data(user_data)]);
            }
            Op::Receive { socket, multishot } => {
                if let Some(threshold) = self.fills.expect_anything(socket, token) {
                    self.queue(&[threshold]);
                }
                let entry = entries::receive(socket, multishot);
                self.queue(&[entry.user_data(user_data)]);
            }
            Op::Fill {
                socket,
                buffer,
                limit,
                gather,
            } => {
                let entries = self.fills.begin(socket, buffer, limit, gather, token);
                if let Some(threshold) = entries.threshold {
                    self.queue(&[threshold]);
                }
                match entries.timeout {
                    Some(timeout) => self.queue(&[entries.receive, timeout]),
                    None => self.queue(&[entries.receive]),
                }
            }
            Op::Send {
                socket,
                data,
                mode,
                finish,
            } => {
                let length = data.len();
                let send = entries::send(socket, &data, mode).user_data(user_data);
                if finish {
                    let is_silent = mode == SendMode::Silent;
                    let installer = &mut self.installer;
                    let both = installer.finish_behind(send, length, is_silent, socket, token);
                    self.queue(&both);
                } else {
                    self.queue(&[send]);
                }
            }
            Op::SendAll { socket, bytes } => {
                let send = entries::send_all(socket, &bytes).user_data(user_data);
                // The kernel may be reading the one before.
                assert!(!self.parcels.contains_key(&token), "one send at a time");
                self.parcels.insert(token, bytes);
                self.queue(&[send]);
            }
            Op::Writable { socket } => {
                // Errors and hang-ups wake it unasked.
                let poll = opcode::PollAdd::new(fixed(socket), libc::POLLOUT as u32).build();
                self.queue(&[poll.user_data(user_data)]);
            }
            Op::QueryTcpInfo { socket } => match self.installer.ask(socket, token) {
                Some(ask) => self.queue(&[ask]),
                None => self
                    .early
                    .push_back(completion(code, token, -libc::EOPNOTSUPP)),
            },
            Op::ShutdownWrite { socket } => {
                let shutdown = self.installer.finish(socket, token);
                self.queue(&[shutdown]);
            }
            Op::Reset { socket } => {
                let entry = entries::reset(socket);
                self.queue(&[entry.user_data(user_data).flags(silent)]);
            }
            Op::Cancel { kind, target } => {
                let target = user_data::of(kind, target);
                let every = types::CancelBuilder::user_data(target).all();
                let entry = opcode::AsyncCancel2::new(every).build();
                self.queue(&[entry.user_data(user_data).flags(silent)]);
            }
            Op::QueryUnacked { socket } => {
                let query = entries::query_unacked(socket);
                self.queue(&[query.user_data(user_data)]);
            }
            Op::QueryError { socket } => {
                // Errors and hang-ups are told unasked.
                let poll = opcode::PollAdd::new(fixed(socket), 0).build();
                self.queue(&[poll.user_data(user_data)]);
            }
            Op::Close { socket } => {
                self.fills.forget(socket);
                let entry = opcode::Close::new(fixed(socket)).build();
                self.queue(&[entry.user_data(user_data)]);
            }
            Op::PollWakeup => {
                let fd = types::Fd(self.waker.event().as_raw_fd());
                let entry = opcode::PollAdd::new(fd, libc::POLLIN as u32)
                    .multi(true)
                    .build();
                self.queue(&[entry.user_data(user_data)]);
            }
            Op::Wake { waker } => match waker.ring_fd() {
                Some(ring) => {
                    let woken = user_data::of(OpCode::Woken, Token::new(0, 0));
                    let entry = opcode::MsgRingData::new(types::Fd(ring), 0, woken, None).build();
                    self.queue(&[entry.user_data(user_data).flags(silent)]);
                    self.wakers.push(waker);
                }
                None => self.early.push_back(completion(code, token, -libc::EBADF)),
            },
            Op::HandOver {
                socket,
                waker,
                arrival,
            } => match waker.ring_fd() {
                Some(ring) => {
                    let arrival = user_data::of(OpCode::Arrive, arrival);
                    self.queue(&entries::hand_over(socket, ring, arrival, user_data));
                    self.wakers.push(waker);
                }
                None => self.early.push_back(completion(code, token, -libc::EBADF)),
            },
            Op::Connect { socket, peer } => self.connect(socket, peer, user_data),
        }
    }

    fn enter(&mut self, wait: Wait) -> io::Result<()> {
        self.check()?;
        self.entries.refill(&mut self.buffers);
        let result = match wait {
            _ if !self.early.is_empty() => self.ring.submit(),
            Wait::No if self.is_quiet() => Ok(0),
            Wait::No => self.ring.submit(),
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
            self.catch_up();
        }
        if !self.ring.submission().is_empty() {
            // All of it, or what was lent for silent sends would count as sent.
            self.submit();
        }
        self.take_overflow();
        self.note_submitted();
        self.installer.note_left();
        self.check()
    }

    fn reap(&mut self) -> Option<Completion> {
        self.early.pop_front().or_else(|| self.pop())
    }

    fn take_filled(&mut self, fill: Token) -> BytesMut {
        self.fills.take(fill)
    }

    fn buffers_free(&self) -> usize {
        self.buffers.free()
    }

    fn stop_listening(&mut self) {
        if let Some(listener) = &self.listener {
            // It fails only if that was done before. Closing would not do: whatever the kernel still
            // has under way on a listener keeps it open.
            let _ = rustix::net::shutdown(listener, rustix::net::Shutdown::Read);
        }
    }

    fn peer(&self, accept: Token) -> Option<IpAddr> {
        self.accepted.get(accept.generation() as usize)?.ip()
    }

    fn taken(&self, quiet: Token) -> Option<Taken> {
        self.installer.taken(quiet)
    }

    fn waker(&self) -> Waker {
        self.waker.clone()
    }
}

impl Uring {
    /// Takes what else has arrived; says whether nothing is left. An enter takes 20 of it at most (the
    /// kernel's `IO_LOCAL_TW_DEFAULT_MAX`), in order: turns that do not wait, and queue more work than
    /// that each, would put off the network until the last of them, so [`Ring::enter`] does this for them.
    pub fn catch_up(&mut self) -> bool {
        if self.failure.is_some() {
            return false;
        }
        for _ in 0..TASK_WORK_RUNS_MAX {
            if !self.ring.submission().taskrun() {
                return true;
            }
            if self.ring.submit().is_err() {
                break;
            }
        }
        false
    }

    /// Whether anything has arrived that is yet to be taken, so that [`Ring::enter`] would not wait.
    pub fn has_news(&mut self) -> bool {
        let submission = self.ring.submission();
        let is_pending = submission.taskrun() || submission.cq_overflow();
        drop(submission);
        is_pending || !self.early.is_empty() || !self.ring.completion().is_empty()
    }

    /// Whether the kernel, if it was entered without waiting, would have nothing to do for this ring.
    fn is_quiet(&mut self) -> bool {
        let submission = self.ring.submission();
        submission.is_empty() && !submission.taskrun() && !submission.cq_overflow()
    }

    /// Queues what makes a socket and connects it.
    fn connect(&mut self, socket: Socket, peer: SocketAddr, user_data: u64) {
        // First, because it lets go of the addresses so far.
        self.make_room(CONNECT_ENTRIES);
        if self.peers.len() == self.peers.capacity() {
            // A vector that grew would move the addresses that queued entries point to.
            self.submit();
            if self.failure.is_some() {
                return;
            }
            self.peers
                .reserve_exact(self.ring.params().sq_entries() as usize);
        }
        self.peers.push(SockAddr::from(peer));
        let address = self.peers.last().expect("just pushed");
        self.queue(&entries::connect(socket, address, user_data));
    }
}

fn completion(op: OpCode, token: Token, result: i32) -> Completion {
    Completion {
        op,
        token,
        result,
        more: false,
        buffer: None,
    }
}

/// Builds the ring, without what is new where the kernel is too old for it.
fn build(setup: &Setup) -> io::Result<IoUring> {
    let build = |no_array: bool| {
        let mut builder = IoUring::builder();
        builder
            .setup_single_issuer()
            .setup_defer_taskrun()
            .setup_taskrun_flag()
            .setup_clamp()
            .setup_submit_all()
            .setup_cqsize(setup.completions);
        if no_array {
            builder.setup_no_sqarray(); // Linux 6.6
        }
        builder.build(setup.submissions)
    };
    match build(true) {
        Err(error) if error.raw_os_error() == Some(libc::EINVAL) => build(false),
        result => result,
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;
    use std::{
        net::TcpListener,
        os::fd::{FromRawFd, OwnedFd},
    };

    use super::*;

    #[test]
    fn what_a_connected_socket_sends_does_not_wait() {
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
        let connected = ring.reap().expect("it is connected");
        assert!(connected.result >= 0, "{connected:?}");
        // A process descriptor for it, because socket options are asked for by such only.
        ring.queue(&[opcode::FixedFdInstall::new(fixed(socket), 0).build()]);
        ring.ring.submit_and_wait(1).unwrap();
        let installed = ring.ring.completion().next().unwrap().result();
        assert!(installed >= 0, "{installed}");
        // SAFETY: the kernel has just made this descriptor for us, and nobody else knows it.
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
        let mut ring = Uring::new(&setup, None).expect("a ring");
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
        assert!(!ring.catch_up());
        assert!(ring.enter(Wait::No).is_err());
        assert_eq!(ring.ring.submission().len(), queued);
        // So that it frees its memory, which one that has failed does not do.
        ring.failure = None;
    }
}
