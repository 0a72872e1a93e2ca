//! Carrying out operations.

use std::time::Duration;

use super::{
    super::{
        super::{AckProgress, Completion, Op, OpCode, Socket, Token},
        client::Segment,
        socket::{PeerState, Receiving, SimSocket, Target},
        trace::EventKind,
    },
    Kernel, Scheduled,
};

impl Kernel {
    /// Queues an operation. The fault `full_queue` submits the queue at once.
    pub(in crate::ring::sim) fn push(&mut self, op: Op, token: Token) {
        self.record(EventKind::Submitted {
            op: op.code(),
            token,
        });
        let lent = match &op {
            // SAFETY: the send has not ended, because it was not submitted.
            Op::Send { data, .. } => unsafe { data.copy() },
            _ => Vec::new(),
        };
        self.submissions.push((op, token, lent));
        let full_queue = self.simulation.faults.full_queue;
        if self.chance(full_queue) {
            self.submit();
        }
    }

    /// Carries out the queued operations.
    pub(super) fn submit(&mut self) {
        self.refill();
        for (op, token, lent) in std::mem::take(&mut self.submissions) {
            self.perform(op, token, &lent);
            if self.simulation.operation_ms > 0 {
                self.advance(self.simulation.operation_ms);
            }
        }
    }

    /// Carries out an operation. `lent` are the bytes of a send when it was pushed.
    fn perform(&mut self, op: Op, token: Token, lent: &[u8]) {
        let code = op.code();
        match op {
            Op::Accept => {
                self.accepts.push_back(token);
                self.accept();
            }
            Op::Receive { socket, multishot } => {
                let target = Target::Provided { multishot };
                self.arm_receive(socket, Receiving { token, target });
                if self.provided.is_empty() {
                    return self.end_receive(socket.0, -libc::ENOBUFS);
                }
                self.complete_receives(socket.0);
            }
            Op::Fill {
                socket,
                buffer,
                limit,
                coalesce,
            } => {
                self.arm_receive(socket, Receiving::filling(buffer, limit, token));
                let small_pieces = self.simulation.faults.small_pieces;
                if coalesce && self.chance(small_pieces) {
                    // The wait has expired.
                    return self.end_receive(socket.0, -libc::ECANCELED);
                }
                self.complete_receives(socket.0);
            }
            Op::Send {
                socket,
                data,
                mode,
                finish,
            } => {
                // SAFETY: the send ends only when this function has returned.
                let now = unsafe { data.copy() };
                assert!(now == lent, "lent bytes were changed during a send");
                self.send(socket.0, lent, mode, finish, token);
            }
            Op::SendAll { .. } => panic!("a shard does not use SendAll"),
            Op::Writable { socket } => {
                let state = self.socket(socket.0);
                assert!(state.poll.is_none(), "a second Writable on {socket:?}");
                state.poll = Some(token);
                self.wake_writer(socket.0);
            }
            Op::QueryTcpInfo { socket } => self.query_tcp_info(socket, token),
            Op::QueryUnacked { socket } => {
                let unacked = self.socket(socket.0).unread;
                let unacked = i32::try_from(unacked).expect("a send buffer is below 2 GiB");
                self.complete(code, token, unacked);
            }
            Op::QueryError { socket } => self.query_error(socket, token),
            Op::ShutdownWrite { socket } => self.finish_later(socket.0, token),
            Op::Reset { socket } => self.reset(socket.0),
            Op::Cancel { kind, target } => self.cancel(kind, target),
            Op::Close { socket } => self.close(socket, token),
            Op::PollWakeup | Op::Wake { .. } => {}
            // There is no other ring.
            Op::HandOver { .. } => self.complete(code, token, -libc::EBADF),
            Op::Connect { .. } => panic!("a shard does not use Connect"),
        }
    }

    fn query_tcp_info(&mut self, socket: Socket, token: Token) {
        let now_ms = self.now_ms;
        let state = self.socket(socket.0);
        let since = |time_ms: u64| Duration::from_millis(now_ms - time_ms);
        let progress = AckProgress {
            acknowledged: since(state.read_ms),
            sent: since(state.sent_ms),
            is_awaited: state.unread > 0,
            has_more: false,
            total: state.sent_bytes - state.unread as u64,
        };
        let silence_ms = i32::try_from(now_ms - state.heard_ms).unwrap_or(i32::MAX);
        self.ack_progress.insert(token, progress);
        self.complete(OpCode::QueryTcpInfo, token, silence_ms);
    }

    fn query_error(&mut self, socket: Socket, token: Token) {
        let state = self.socket(socket.0);
        let is_ready = match state.peer {
            PeerState::Open => false,
            PeerState::Finished => state.is_finished,
            // Also before our FIN.
            PeerState::Reset => true,
        };
        assert!(
            is_ready,
            "QueryError needs a socket that is reset, or whose directions are both shut down"
        );
        let error = match state.peer {
            PeerState::Reset => libc::POLLERR,
            PeerState::Open | PeerState::Finished => 0,
        };
        let events = i32::from(libc::POLLHUP | error);
        self.complete(OpCode::QueryError, token, events);
    }

    /// Accepts connections of the backlog, as long as an accept is armed.
    pub(super) fn accept(&mut self) {
        while !self.backlog.is_empty() && !self.accepts.is_empty() {
            let client = self.backlog.pop_front().expect("the backlog is not empty");
            if self.clients[client.0].is_closed {
                continue;
            }
            let token = self.accepts.pop_front().expect("an accept is armed");
            // A random vacant descriptor: a shard must not rely on the choice.
            let Some(&lowest) = self.vacant.first() else {
                self.clients[client.0].is_dropped = true;
                self.complete(OpCode::Accept, token, -libc::ENFILE);
                continue;
            };
            let from = self.random.u32(lowest..self.simulation.sockets);
            let index = self.vacant.range(from..).next().copied().unwrap_or(lowest);
            self.vacant.remove(&index);
            self.sockets[index as usize] = Some(SimSocket::new(client, self.now_ms));
            self.clients[client.0].socket = Some(index);
            self.accepted.insert(token, client);
            let result = i32::try_from(index).expect("a descriptor is below 2^31");
            self.post_result(OpCode::Accept, token, result);
            for segment in std::mem::take(&mut self.clients[client.0].early) {
                self.arrive_at_server(client, segment);
            }
        }
    }

    fn reset(&mut self, index: u32) {
        self.end_receive(index, -libc::ECONNRESET);
        self.end_poll(index);
        let socket = self.socket(index);
        let client = socket.client;
        let in_order = socket.peer == PeerState::Finished && socket.is_finished;
        if !in_order && socket.peer != PeerState::Reset {
            socket.peer = PeerState::Reset;
            self.send_to_client(client, Segment::Reset);
        }
    }

    fn cancel(&mut self, kind: OpCode, target: Token) {
        while kind == OpCode::Accept
            && let Some(at) = self.accepts.iter().position(|token| *token == target)
        {
            let token = self.accepts.remove(at).expect("the position is valid");
            let completion = Completion::last(kind, token, -libc::ECANCELED);
            // Behind the completions of accepted connections.
            self.events
                .schedule(self.now_ms, u64::MAX, Scheduled::Completion(completion));
        }
        if kind == OpCode::Receive {
            let is_armed = |socket: &Option<SimSocket>| {
                let receive = socket.as_ref().and_then(|socket| socket.receive.as_ref());
                receive.is_some_and(|receive| receive.op() == kind && receive.token == target)
            };
            if let Some(index) = self.sockets.iter().position(is_armed) {
                let index = u32::try_from(index).expect("a descriptor is below 2^32");
                self.end_receive(index, -libc::ECANCELED);
            }
        }
    }

    /// Closes a descriptor. The listener's linger time is zero, so this resets the connection unless
    /// everything is delivered and both sides have sent FIN.
    fn close(&mut self, socket: Socket, token: Token) {
        let state = self.sockets[socket.0 as usize].take();
        let state = state.unwrap_or_else(|| panic!("{socket:?} is closed twice"));
        assert!(
            state.receive.is_none(),
            "{socket:?} is closed with an armed receive: it leaks"
        );
        assert!(
            state.poll.is_none(),
            "{socket:?} is closed with an armed Writable: it leaks"
        );
        self.vacant.insert(socket.0);
        let client = state.client;
        self.clients[client.0].socket = None;
        self.clients[client.0].is_closed = true;
        let in_order = state.peer == PeerState::Finished && state.is_finished && state.unread == 0;
        if !in_order && state.peer != PeerState::Reset {
            self.send_to_client(client, Segment::Reset);
        }
        self.complete(OpCode::Close, token, 0);
    }
}
