//! The io_uring implementation of a [`Ring`].

mod fills;
mod installer;
mod peer;
mod provided;
mod release;

use std::{
    collections::VecDeque,
    io,
    mem::ManuallyDrop,
    net::{IpAddr, SocketAddr},
    os::fd::{AsRawFd, BorrowedFd, OwnedFd, RawFd},
};

use bytes::BytesMut;
use io_uring::{IoUring, cqueue, opcode, squeue, types};
use socket2::SockAddr;

use self::{fills::Fills, installer::Installer, peer::PeerAddress, provided::BufferEntries};
use super::{
    Bell, Buffer, BufferMemory, Completion, Op, OpCode, Outbound, Ring, SendMode, Socket, Token,
    Wait,
    probe::{self, RingError},
};

/// The one group of provided buffers in each ring.
const BUFFER_GROUP: u16 = 0;

/// Sends never raise SIGPIPE; a short one counts as failed, so that what is linked to it is not
/// done.
const SEND_FLAGS: i32 = libc::MSG_NOSIGNAL | libc::MSG_WAITALL;

/// The value of `TCP_NODELAY`.
static NO_DELAY: libc::c_int = 1;

/// Connecting to no family of addresses dissolves a connection (connect(2)): TCP resets it, and
/// wakes whoever waits for it, at a constant cost. Cancelling by descriptor does as well, but
/// walks every armed operation of the ring; shutting down goes through a thread of the kernel's.
static NOBODY: libc::sa_family_t = libc::AF_UNSPEC as libc::sa_family_t;

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
    bell: Bell,
    /// Why the ring cannot be used any more, as an errno, if that is so.
    failure: Option<i32>,
    // Memory that the kernel writes to or takes buffers from: it is freed when no operation is left.
    buffers: ManuallyDrop<BufferMemory>,
    entries: ManuallyDrop<BufferEntries>,
    /// Completions taken early, when the kernel would not accept more submissions before.
    early: VecDeque<Completion>,
    /// Addresses of the connects in the submission queue; the kernel copies them on submission.
    peers: Vec<SockAddr>,
    installer: Installer,
    fills: ManuallyDrop<Fills>,
    /// Where the kernel writes who was accepted, for each of the single accepts.
    accepted: ManuallyDrop<Box<[PeerAddress; ACCEPTS_MAX]>>,
}

/// Single accepts at a time.
const ACCEPTS_MAX: usize = 64;

/// Enters that take what has arrived, after one that does not wait.
const TASK_WORK_RUNS_MAX: u32 = 256;

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
        for id in 0..setup.buffers {
            entries.add(&mut buffers, id);
        }
        // SAFETY: the ring is open, and stays so until this has returned.
        let descriptor = unsafe { BorrowedFd::borrow_raw(ring.as_raw_fd()) };
        let descriptor = descriptor.try_clone_to_owned().map_err(RingError::setup)?;
        let bell = Bell::new().map_err(RingError::setup)?.of_ring(descriptor);
        let peers = Vec::new();
        Ok(Self {
            ring,
            listener,
            bell,
            failure: None,
            buffers: ManuallyDrop::new(buffers),
            entries: ManuallyDrop::new(entries),
            early: VecDeque::new(),
            peers,
            installer: Installer::new(installs),
            // Linux 6.7 has what it takes, 6.8 what is asked for here.
            fills: ManuallyDrop::new(Fills::new(installs)),
            accepted: ManuallyDrop::new(Box::new([PeerAddress::empty(); ACCEPTS_MAX])),
        })
    }

    /// Queues linked entries so that one submission takes them all; none if the ring has failed, which
    /// the next [`Ring::enter`] reports.
    fn queue(&mut self, entries: &[squeue::Entry]) {
        if self.failure.is_some() {
            return;
        }
        let queue = self.ring.submission();
        let room = queue.capacity() - queue.len();
        drop(queue);
        if room < entries.len() {
            self.submit();
            if self.failure.is_some() {
                return;
            }
        }
        // SAFETY: what the entries point to stays valid for as long as the kernel needs it:
        // sends by the promise behind `Outbound`, buffers to fill until they are taken, addresses
        // until `submit`, statics for ever.
        unsafe { self.ring.submission().push_multiple(entries) }
            .expect("the submission queue has just been emptied");
    }

    /// Submits all that is queued. What has arrived is left for [`Ring::enter`]: else the kernel
    /// would receive for connections that are about to be paused.
    fn submit(&mut self) {
        loop {
            let count = self.ring.submission().len() as u32;
            // SAFETY: nothing is pointed to.
            let result = unsafe { self.ring.submitter().enter::<()>(count, 0, 0, None) };
            match result {
                Ok(_) if self.ring.submission().is_empty() => break,
                Ok(_) => {}
                Err(error) => match error.raw_os_error() {
                    Some(libc::EINTR) => {}
                    // The completion queue is full: make room, in order.
                    Some(libc::EBUSY | libc::EAGAIN) => {
                        while let Some(completion) = self.pop() {
                            self.early.push_back(completion);
                        }
                    }
                    _ => return self.fail(&error),
                },
            }
        }
        self.peers.clear();
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
        let token = Token::from_bits(entry.user_data());
        if let OpCode::InstallToFinish | OpCode::InstallToAsk = token.op() {
            return Some(self.installer.installed(token, entry.result()));
        }
        match token.op() {
            OpCode::Send => self.installer.note_sent(token, entry.result()),
            OpCode::Fill => self.fills.end(token, entry.result()),
            _ => {}
        }
        let flags = entry.flags();
        let buffer = cqueue::buffer_select(flags)
            .map(|id| self.buffers.take(id, entry.result().max(0) as u32));
        Some(Completion {
            token,
            result: entry.result(),
            more: cqueue::more(flags),
            buffer,
        })
    }
}

impl Ring for Uring {
    fn push(&mut self, op: Op, token: Token) {
        let silent = squeue::Flags::SKIP_SUCCESS;
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
                self.queue(&[entry.user_data(token.bits())]);
            }
            Op::Receive { socket, multishot } => {
                if let Some(threshold) = self.fills.expect_anything(socket, token) {
                    self.queue(&[threshold]);
                }
                let entry = receive(socket, multishot);
                self.queue(&[entry.user_data(token.bits())]);
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
                let send = send(socket, data, mode).user_data(token.bits());
                if finish {
                    let is_silent = mode == SendMode::Silent;
                    let installer = &mut self.installer;
                    let both = installer.finish_behind(send, data.len(), is_silent, socket, token);
                    self.queue(&both);
                } else {
                    self.queue(&[send]);
                }
            }
            Op::Writable { socket } => {
                // Errors and hang-ups wake it unasked.
                let poll = opcode::PollAdd::new(fixed(socket), libc::POLLOUT as u32).build();
                self.queue(&[poll.user_data(token.bits())]);
            }
            Op::Quiet { socket } => match self.installer.ask(socket, token) {
                Some(ask) => self.queue(&[ask]),
                None => self.early.push_back(completion(token, -libc::EOPNOTSUPP)),
            },
            Op::Finish { socket } => {
                let shutdown = self.installer.finish(socket, token);
                self.queue(&[shutdown]);
            }
            Op::Reset { socket } => {
                let (address, length) = ((&raw const NOBODY).cast(), size_of_val(&NOBODY) as u32);
                let entry = opcode::Connect::new(fixed(socket), address, length).build();
                self.queue(&[entry.user_data(token.bits()).flags(silent)]);
            }
            Op::Cancel { target } => {
                let every = types::CancelBuilder::user_data(target.bits()).all();
                let entry = opcode::AsyncCancel2::new(every).build();
                self.queue(&[entry.user_data(token.bits()).flags(silent)]);
            }
            Op::Close { socket } => {
                self.fills.forget(socket);
                let entry = opcode::Close::new(fixed(socket)).build();
                self.queue(&[entry.user_data(token.bits())]);
            }
            Op::Listen => {
                let fd = types::Fd(self.bell.raw_fd());
                let entry = opcode::PollAdd::new(fd, libc::POLLIN as u32)
                    .multi(true)
                    .build();
                self.queue(&[entry.user_data(token.bits())]);
            }
            Op::Wake { bell } => match bell.ring_fd() {
                Some(ring) => {
                    let woken = Token::new(OpCode::Woken, 0, 0).bits();
                    let entry = opcode::MsgRingData::new(types::Fd(ring), 0, woken, None).build();
                    self.queue(&[entry.user_data(token.bits()).flags(silent)]);
                }
                None => self.early.push_back(completion(token, -libc::EBADF)),
            },
            Op::HandOver {
                socket,
                bell,
                arrival,
            } => match bell.ring_fd() {
                Some(ring) => self.hand_over(socket, ring, arrival, token),
                None => self.early.push_back(completion(token, -libc::EBADF)),
            },
            Op::Connect { socket, peer } => self.connect(socket, peer, token),
        }
    }

    fn enter(&mut self, wait: Wait) -> io::Result<()> {
        self.check()?;
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
        self.peers.clear();
        self.installer.note_left();
        self.check()
    }

    fn reap(&mut self) -> Option<Completion> {
        if let Some(completion) = self.early.pop_front() {
            return Some(completion);
        }
        if let Some(completion) = self.pop() {
            return Some(completion);
        }
        // What did not fit into the completion queue is with the kernel, which hands it over
        // when it is entered.
        if self.ring.submission().cq_overflow() {
            let _ = self.ring.submit();
            return self.pop();
        }
        None
    }

    fn take_filled(&mut self, fill: Token) -> BytesMut {
        self.fills.take(fill)
    }

    fn provide(&mut self, buffer: Buffer) {
        let id = self.buffers.put_back(buffer);
        self.entries.add(&mut self.buffers, id);
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

    fn bell(&self) -> Bell {
        self.bell.clone()
    }
}

impl Uring {
    /// Takes what else has arrived; says whether nothing is left. An enter takes 20 of it at most (the
    /// kernel's `IO_LOCAL_TW_DEFAULT_MAX`), in order: turns that do not wait, and queue more work than
    /// that each, would put off the network until the last of them, so [`Ring::enter`] does this for them.
    pub fn catch_up(&mut self) -> bool {
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

    /// Queues MSG_RING and CLOSE as a chain, of which one completes: the first if it fails, for which the
    /// kernel says nothing of the other (io_uring_enter(2), `IOSQE_CQE_SKIP_SUCCESS`).
    fn hand_over(&mut self, socket: Socket, ring: RawFd, arrival: Token, token: Token) {
        let anywhere = types::DestinationSlot::auto_target();
        let give =
            opcode::MsgRingSendFd::new(types::Fd(ring), fixed(socket), anywhere, arrival.bits());
        let quiet = squeue::Flags::SKIP_SUCCESS | squeue::Flags::IO_LINK;
        let give = give.build().user_data(token.bits()).flags(quiet);
        let close = opcode::Close::new(fixed(socket)).build();
        self.queue(&[give, close.user_data(token.bits())]);
    }

    /// Queues SOCKET, the socket option, and CONNECT as a chain.
    fn connect(&mut self, socket: Socket, peer: SocketAddr, token: Token) {
        if self.peers.len() == self.peers.capacity() {
            // A vector that grew would move the addresses that queued entries point to.
            self.submit();
            self.peers
                .reserve_exact(self.ring.params().sq_entries() as usize);
        }
        self.peers.push(SockAddr::from(peer));
        let address = self.peers.last().expect("just pushed");
        let domain = if peer.is_ipv4() {
            libc::AF_INET
        } else {
            libc::AF_INET6
        };
        let slot = types::DestinationSlot::try_from_slot_target(socket.0)
            .expect("a direct descriptor is below 2^32 - 2");
        let quiet = squeue::Flags::SKIP_SUCCESS | squeue::Flags::IO_LINK;
        let open = opcode::Socket::new(domain, libc::SOCK_STREAM, 0)
            .file_index(Some(slot))
            .build();
        let open = open.user_data(token.bits()).flags(quiet);
        let connect = opcode::Connect::new(fixed(socket), address.as_ptr().cast(), address.len());
        let connect = connect.build().user_data(token.bits());
        let no_delay = set_option(
            socket,
            libc::IPPROTO_TCP,
            libc::TCP_NODELAY,
            &raw const NO_DELAY,
        );
        let no_delay = no_delay.user_data(token.bits()).flags(quiet);
        self.queue(&[open, no_delay, connect]);
    }
}

fn fixed(socket: Socket) -> types::Fixed {
    types::Fixed(socket.0)
}

/// Sets a socket's option to a number, which is read when this is submitted.
fn set_option(
    socket: Socket,
    level: libc::c_int,
    option: libc::c_int,
    value: *const libc::c_int,
) -> squeue::Entry {
    let size = size_of::<libc::c_int>() as u32;
    opcode::SetSockOpt::new(
        fixed(socket),
        level as u32,
        option as u32,
        value.cast(),
        size,
    )
    .build()
}

/// Receives into provided buffers, as much as fits in one, once or any number of times.
fn receive(socket: Socket, multishot: bool) -> squeue::Entry {
    if multishot {
        return opcode::RecvMulti::new(fixed(socket), BUFFER_GROUP).build();
    }
    opcode::Recv::new(fixed(socket), std::ptr::null_mut(), 0)
        .buf_group(BUFFER_GROUP)
        .build()
        .flags(squeue::Flags::BUFFER_SELECT)
}

fn send(socket: Socket, data: Outbound, mode: SendMode) -> squeue::Entry {
    let now = SEND_FLAGS | libc::MSG_DONTWAIT;
    let (flags, options) = match mode {
        SendMode::Silent => (now, squeue::Flags::SKIP_SUCCESS),
        SendMode::Told => (now, squeue::Flags::empty()),
        SendMode::Waiting => (SEND_FLAGS, squeue::Flags::empty()),
    };
    let entry = match data {
        Outbound::Bytes { start, length } => opcode::Send::new(fixed(socket), start, length)
            .flags(flags)
            .build(),
        Outbound::Message(header) => opcode::SendMsg::new(fixed(socket), header)
            .flags(flags as u32)
            .build(),
    };
    entry.flags(options)
}

fn completion(token: Token, result: i32) -> Completion {
    Completion {
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
        ring.push(
            Op::Connect { socket, peer },
            Token::new(OpCode::Connect, 0, 0),
        );
        ring.enter(Wait::For(std::time::Duration::from_secs(10)))
            .unwrap();
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
}
