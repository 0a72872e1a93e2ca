//! Queueing and submitting operations.

use std::{io, net::SocketAddr, os::fd::AsRawFd};

use bytes::BytesMut;
use io_uring::{EnterFlags, opcode, squeue, types};

use super::{
    Uring,
    entries::{self, CONNECT_ENTRIES, fixed},
    user_data,
};
use crate::ring::{Completion, Op, OpCode, Outbound, SendMode, Socket, Token, Waker};

/// Successive submissions without progress after which the ring counts as unusable.
const SUBMIT_ATTEMPTS_MAX: u32 = 1 << 16;

/// For operations that complete only if they fail.
const SILENT: squeue::Flags = squeue::Flags::SKIP_SUCCESS;

impl Uring {
    /// Queues the entries of an operation.
    pub(super) fn push_entries(&mut self, op: Op, token: Token) {
        let code = op.code();
        let user_data = user_data::of(code, token);
        match op {
            Op::Accept => self.push_accept(token),
            Op::Receive { socket, multishot } => self.push_receive(socket, multishot, token),
            Op::Fill {
                socket,
                buffer,
                limit,
                coalesce,
            } => self.push_fill(socket, buffer, limit, coalesce, token),
            Op::Send {
                socket,
                data,
                mode,
                finish,
            } => self.push_send(socket, &data, mode, finish, token),
            Op::SendAll { socket, bytes } => self.push_send_all(socket, bytes, token),
            Op::Writable { socket } => {
                // Errors and hang-ups complete every poll.
                let poll = opcode::PollAdd::new(fixed(socket), libc::POLLOUT as u32).build();
                self.queue(&[poll.user_data(user_data)]);
            }
            Op::QueryTcpInfo { socket } => match self.installer.query(socket, token) {
                Some(query) => self.queue(&[query]),
                None => self.complete_early(code, token, -libc::EOPNOTSUPP),
            },
            Op::QueryUnacked { socket } => {
                let query = entries::query_unacked(socket);
                self.queue(&[query.user_data(user_data)]);
            }
            Op::QueryError { socket } => {
                // Errors and hang-ups complete every poll.
                let poll = opcode::PollAdd::new(fixed(socket), 0).build();
                self.queue(&[poll.user_data(user_data)]);
            }
            Op::ShutdownWrite { socket } => {
                let shutdown = self.installer.shutdown(socket, token);
                self.queue(&[shutdown]);
            }
            Op::Reset { socket } => {
                let entry = entries::reset(socket);
                self.queue(&[entry.user_data(user_data).flags(SILENT)]);
            }
            Op::Cancel { kind, target } => {
                let target = user_data::of(kind, target);
                let every = types::CancelBuilder::user_data(target).all();
                let entry = opcode::AsyncCancel2::new(every).build();
                self.queue(&[entry.user_data(user_data).flags(SILENT)]);
            }
            Op::Close { socket } => {
                self.fills.forget_threshold(socket);
                let entry = opcode::Close::new(fixed(socket)).build();
                self.queue(&[entry.user_data(user_data)]);
            }
            Op::PollWakeup => {
                let fd = types::Fd(self.waker.event().as_raw_fd());
                let poll = opcode::PollAdd::new(fd, libc::POLLIN as u32).multi(true);
                self.queue(&[poll.build().user_data(user_data)]);
            }
            Op::Wake { waker } => self.push_wake(waker, token),
            Op::HandOver {
                socket,
                waker,
                arrival,
            } => self.push_hand_over(socket, waker, arrival, token),
            Op::Connect { socket, peer } => self.push_connect(socket, peer, token),
        }
    }

    fn push_accept(&mut self, token: Token) {
        let listener = self
            .listener
            .as_ref()
            .expect("Op::Accept needs a ring with a listener");
        let fd = types::Fd(listener.as_raw_fd());
        let peer = &mut self.accepted_peers[token.generation() as usize];
        let (address, length) = peer.as_mut_pointers();
        let entry = opcode::Accept::new(fd, address, length)
            .file_index(Some(types::DestinationSlot::auto_target()))
            .build();
        self.queue(&[entry.user_data(user_data::of(OpCode::Accept, token))]);
    }

    fn push_receive(&mut self, socket: Socket, multishot: bool, token: Token) {
        if let Some(threshold) = self.fills.reset_threshold(socket, token) {
            self.queue(&[threshold]);
        }
        let entry = entries::receive(socket, multishot);
        self.queue(&[entry.user_data(user_data::of(OpCode::Receive, token))]);
    }

    fn push_fill(
        &mut self,
        socket: Socket,
        buffer: BytesMut,
        limit: usize,
        coalesce: bool,
        token: Token,
    ) {
        let entries = self.fills.begin(socket, buffer, limit, coalesce, token);
        if let Some(threshold) = entries.threshold {
            self.queue(&[threshold]);
        }
        match entries.timeout {
            Some(timeout) => self.queue(&[entries.receive, timeout]),
            None => self.queue(&[entries.receive]),
        }
    }

    fn push_send(
        &mut self,
        socket: Socket,
        data: &Outbound,
        mode: SendMode,
        finish: bool,
        token: Token,
    ) {
        let send = entries::send(socket, data, mode).user_data(user_data::of(OpCode::Send, token));
        if finish {
            let is_silent = mode == SendMode::Silent;
            let both = self
                .installer
                .send_and_shutdown(send, data.len(), is_silent, socket, token);
            self.queue(&both);
        } else {
            self.queue(&[send]);
        }
    }

    fn push_send_all(&mut self, socket: Socket, bytes: Vec<u8>, token: Token) {
        let send = entries::send_all(socket, &bytes);
        // Replacing an entry would free bytes that the kernel may be reading.
        assert!(
            !self.send_all_bytes.contains_key(&token),
            "a second SendAll with {token:?}"
        );
        self.send_all_bytes.insert(token, bytes);
        self.queue(&[send.user_data(user_data::of(OpCode::SendAll, token))]);
    }

    fn push_wake(&mut self, waker: Waker, token: Token) {
        let Some(ring) = waker.ring_fd() else {
            return self.complete_early(OpCode::Wake, token, -libc::EBADF);
        };
        let woken = user_data::of(OpCode::Woken, Token::new(0, 0));
        let entry = opcode::MsgRingData::new(types::Fd(ring), 0, woken, None).build();
        let user_data = user_data::of(OpCode::Wake, token);
        self.queue(&[entry.user_data(user_data).flags(SILENT)]);
        self.queued_wakers.push(waker);
    }

    fn push_hand_over(&mut self, socket: Socket, waker: Waker, arrival: Token, token: Token) {
        let Some(ring) = waker.ring_fd() else {
            return self.complete_early(OpCode::HandOver, token, -libc::EBADF);
        };
        let arrival = user_data::of(OpCode::Arrive, arrival);
        let user_data = user_data::of(OpCode::HandOver, token);
        self.queue(&entries::hand_over(socket, ring, arrival, user_data));
        self.queued_wakers.push(waker);
    }

    fn push_connect(&mut self, socket: Socket, peer: SocketAddr, token: Token) {
        // Before the address is stored, because submitting drops the stored addresses.
        self.make_room(CONNECT_ENTRIES);
        if self.connect_addresses.is_full() {
            // Adding one more would move the addresses that queued entries point to.
            self.submit();
            if self.failure.is_some() {
                return;
            }
            let count = self.ring.params().sq_entries() as usize;
            self.connect_addresses.reserve(count);
        }
        let address = self.connect_addresses.push(peer);
        let user_data = user_data::of(OpCode::Connect, token);
        let entries = entries::connect(socket, address, user_data);
        self.queue(&entries);
    }

    /// Adds a completion that does not come from the kernel.
    fn complete_early(&mut self, op: OpCode, token: Token, result: i32) {
        self.early_completions
            .push_back(Completion::last(op, token, result));
    }

    /// Queues linked entries, all in the same submission. If the ring has failed, it queues nothing; the
    /// next [`Ring::enter`](super::Ring::enter) reports the failure.
    pub(super) fn queue(&mut self, entries: &[squeue::Entry]) {
        self.make_room(entries.len());
        if self.failure.is_some() {
            return;
        }
        // SAFETY: the memory that the entries point to stays valid for as long as the kernel needs it. The
        // caller of `Outbound::bytes` or `Outbound::message` guarantees this for sends. Buffers of `Fills`
        // and bytes of `SendAll` are kept until the completion, addresses until `submit`, option values as
        // long as the ring or in statics.
        unsafe { self.ring.submission().push_multiple(entries) }
            .expect("the submission queue has room");
    }

    /// Submits the queue if it has no room for `entries` more.
    fn make_room(&mut self, entries: usize) {
        let queue = self.ring.submission();
        let room = queue.capacity() - queue.len();
        drop(queue);
        if room < entries {
            self.submit();
        }
    }

    /// Submits, and runs as much task work as an enter that waits, in one system call.
    pub(super) fn submit_and_take(&mut self) -> io::Result<usize> {
        let entries = u32::try_from(self.ring.submission().len()).unwrap_or(u32::MAX);
        let flags = EnterFlags::GETEVENTS.bits();
        // SAFETY: the entries are valid, as for every other submission, and there is no argument.
        unsafe { self.ring.submitter().enter::<()>(entries, 0, flags, None) }
    }

    /// Submits all queued entries, without running deferred task work: the kernel would receive for
    /// connections that are about to be paused. [`Ring::enter`](super::Ring::enter) runs it.
    pub(super) fn submit(&mut self) {
        if self.failure.is_some() {
            // The memory that the queued entries point to may have been freed.
            return;
        }
        self.entries.refill(&mut self.buffers);
        let mut attempts = 0;
        loop {
            let count = self.ring.submission().len();
            // SAFETY: the call passes no pointer.
            let result = unsafe { self.ring.submitter().enter::<()>(count as u32, 0, 0, None) };
            let left = self.ring.submission().len();
            attempts = if left < count { 0 } else { attempts + 1 };
            match result.map_err(|error| (error.raw_os_error(), error)) {
                Ok(_) if left == 0 => break,
                Ok(_) | Err((Some(libc::EINTR), _)) => {}
                // The completion queue is full.
                Err((Some(libc::EBUSY | libc::EAGAIN), _)) => self.set_completions_aside(),
                Err((_, error)) => return self.fail(&error),
            }
            if attempts == SUBMIT_ATTEMPTS_MAX {
                return self.fail(&io::ErrorKind::WouldBlock.into());
            }
        }
        self.drop_submitted();
    }

    /// Drops the memory that only entries in the submission queue pointed to.
    pub(super) fn drop_submitted(&mut self) {
        self.connect_addresses.clear();
        self.queued_wakers.clear();
    }
}
