//! What the simulated kernel does when it is asked to.

use std::time::Duration;

use super::{
    super::{
        super::{Completion, Op, OpCode, SendMode, Socket, Taken, Token},
        What,
        client::ClientId,
        socket::{Into, PeerState, Receiving, SimSocket},
    },
    Due, Kernel, Segment,
};

impl Kernel {
    /// Queues an operation for the next enter. A full queue is submitted at once, by chance.
    pub(in crate::ring::sim) fn push(&mut self, op: Op, token: Token) {
        self.note(What::Submitted {
            op: op.code(),
            token,
        });
        let lent = match &op {
            // SAFETY: it is just being pushed.
            Op::Send { data, .. } => unsafe { data.copy() },
            _ => Vec::new(),
        };
        self.submitted.push((op, token, lent));
        let full_queue = self.simulation.faults.full_queue;
        if self.chance(full_queue) {
            self.submit();
        }
    }

    pub(in crate::ring::sim) fn submit(&mut self) {
        self.refill();
        for (op, token, lent) in std::mem::take(&mut self.submitted) {
            self.perform(op, token, &lent);
            if self.simulation.operation_ms > 0 {
                self.pass(self.simulation.operation_ms);
            }
        }
    }

    pub(in crate::ring::sim) fn perform(&mut self, op: Op, token: Token, lent: &[u8]) {
        let code = op.code();
        match op {
            Op::Accept { multishot, .. } => {
                self.accepts.push_back((token, multishot));
                self.accept();
            }
            Op::Receive { socket, multishot } => {
                let into = Into::Provided { multishot };
                self.arm(socket, Receiving { token, into });
                if self.provided.is_empty() {
                    return self.end_receive(socket.0, -libc::ENOBUFS);
                }
                self.pump(socket.0);
            }
            Op::Fill {
                socket,
                buffer,
                limit,
                gather,
            } => {
                self.arm(socket, Receiving::filling(buffer, limit, token));
                let small_pieces = self.simulation.faults.small_pieces;
                if gather && self.chance(small_pieces) {
                    // In vain.
                    return self.end_receive(socket.0, -libc::ECANCELED);
                }
                self.pump(socket.0);
            }
            Op::Send {
                socket,
                data,
                mode,
                finish,
            } => {
                // SAFETY: the send is over only when this has returned.
                let now = unsafe { data.copy() };
                assert!(now == lent, "bytes were changed while they were lent");
                self.send(socket.0, lent, mode, finish, token);
            }
            Op::SendAll { .. } => panic!("a shard waits for no socket"),
            Op::Writable { socket } => {
                let state = self.socket(socket.0);
                assert!(state.poll.is_none(), "a second wait for {socket:?}");
                state.poll = Some(token);
                self.wake_writer(socket.0);
            }
            Op::QueryTcpInfo { socket } => {
                let now_ms = self.now_ms;
                let state = self.socket(socket.0);
                let before = |time_ms: u64| Duration::from_millis(now_ms - time_ms);
                let taken = Taken {
                    acknowledged: before(state.read_ms),
                    sent: before(state.sent_ms),
                    is_awaited: state.unread > 0,
                    has_more: false,
                    total: state.sent_bytes - state.unread as u64,
                };
                let quiet_ms = now_ms - state.heard_ms;
                self.taken.insert(token, taken);
                self.complete(code, token, i32::try_from(quiet_ms).unwrap_or(i32::MAX));
            }
            Op::QueryUnacked { socket } => {
                let unacked = self.socket(socket.0).unread;
                self.complete(code, token, i32::try_from(unacked).expect("below 2 GiB"));
            }
            Op::QueryError { socket } => {
                let state = self.socket(socket.0);
                assert!(
                    state.peer != PeerState::Open && state.finished,
                    "both have sent FIN"
                );
                let error = match state.peer {
                    PeerState::Reset => libc::POLLERR,
                    PeerState::Open | PeerState::Finished => 0,
                };
                self.complete(code, token, i32::from(libc::POLLHUP | error));
            }
            Op::ShutdownWrite { socket } => self.finish_later(socket.0, token),
            Op::Reset { socket } => self.reset(socket.0),
            Op::Cancel { kind, target } => self.cancel(kind, target),
            Op::Close { socket } => self.close(socket, token),
            Op::PollWakeup | Op::Wake { .. } => {}
            // There is no other ring.
            Op::HandOver { .. } => self.complete(code, token, -libc::EBADF),
            Op::Connect { .. } => panic!("a server connects to nobody"),
        }
    }

    pub(in crate::ring::sim) fn socket(&mut self, index: u32) -> &mut SimSocket {
        self.sockets[index as usize]
            .as_mut()
            .unwrap_or_else(|| panic!("socket {index} is not open"))
    }

    pub(in crate::ring::sim) fn accept(&mut self) {
        while !self.backlog.is_empty() && !self.accepts.is_empty() {
            let client = self.backlog.pop_front().expect("just looked at");
            if self.clients[client.0].gone {
                continue;
            }
            let (token, multishot) = self.accepts.pop_front().expect("just looked at");
            // Any free place will do, as far as the shard is concerned.
            let Some(&lowest) = self.vacant.first() else {
                self.clients[client.0].dropped = true;
                self.complete(OpCode::Accept, token, -libc::ENFILE);
                continue;
            };
            let from = self.random.u32(lowest..self.simulation.sockets);
            let index = self.vacant.range(from..).next().copied().unwrap_or(lowest);
            self.vacant.remove(&index);
            self.sockets[index as usize] = Some(SimSocket::new(client, self.now_ms));
            self.clients[client.0].socket = Some(index);
            if !multishot {
                self.accepted.insert(token, client);
            }
            let end = self.simulation.faults.multishot_end;
            let more = multishot && !self.chance(end);
            if more {
                self.accepts.push_front((token, multishot));
            }
            let result = i32::try_from(index).expect("a small table");
            self.post(Completion {
                op: OpCode::Accept,
                token,
                result,
                more,
                buffer: None,
            });
            for segment in std::mem::take(&mut self.clients[client.0].early) {
                self.reach_server(client, segment);
            }
        }
    }

    fn arm(&mut self, socket: Socket, receive: Receiving) {
        let state = self.socket(socket.0);
        assert!(state.receive.is_none(), "a second receive on {socket:?}");
        state.received_by = Some(receive.token);
        state.receive = Some(receive);
    }

    /// Completes the receive of a socket with what there is, for as long as it goes on.
    pub(in crate::ring::sim) fn pump(&mut self, index: u32) {
        while let socket = self.socket(index)
            && let Some(receive) = socket.receive.take()
        {
            let result = match socket.peer {
                PeerState::Reset => -libc::ECONNRESET,
                PeerState::Finished if socket.inbound.is_empty() => 0,
                PeerState::Open if socket.inbound.is_empty() => {
                    socket.receive = Some(receive);
                    return;
                }
                PeerState::Open | PeerState::Finished => {
                    self.receive(index, receive);
                    continue;
                }
            };
            self.complete_without_bytes(index, receive, result);
        }
    }

    /// Completes a receive with bytes, of which there are some, and arms it again if it goes on.
    fn receive(&mut self, index: u32, receive: Receiving) {
        let op = receive.op();
        let Receiving { token, into } = receive;
        let (length, more, buffer) = match into {
            Into::Own { mut buffer, limit } => {
                let bytes = self.take_received(index, limit);
                let place = buffer.as_ptr();
                buffer.extend_from_slice(&bytes);
                assert_eq!(buffer.as_ptr(), place, "there was room");
                self.filled.insert(token, buffer);
                (bytes.len(), false, None)
            }
            Into::Provided { multishot } => {
                let faults = self.simulation.faults;
                if self.provided.is_empty() || self.chance(faults.no_buffers) {
                    return self.complete_without_bytes(
                        index,
                        Receiving { token, into },
                        -libc::ENOBUFS,
                    );
                }
                let id = self.provided.pop_front().expect("just looked at");
                let bytes = self.take_received(index, self.memory.size() as usize);
                let length = u32::try_from(bytes.len()).expect("below a buffer's size");
                let mut buffer = self.memory.take(id, length);
                buffer.copy_from_slice(&bytes);
                let more = multishot && !self.chance(faults.multishot_end);
                if more {
                    self.socket(index).receive = Some(Receiving { token, into });
                }
                (bytes.len(), more, Some(buffer))
            }
        };
        let completion = Completion {
            op,
            token,
            result: i32::try_from(length).expect("below 2 GiB"),
            more,
            buffer,
        };
        self.complete_receive(index, completion);
    }

    /// Takes some of what a socket has received, or all.
    fn take_received(&mut self, index: u32, limit: usize) -> Vec<u8> {
        let small_pieces = self.simulation.faults.small_pieces;
        let mut length = self.socket(index).inbound.len().min(limit);
        if self.chance(small_pieces) {
            length = self.random.usize(1..=length);
        }
        let inbound = &mut self.socket(index).inbound;
        let (first, second) = inbound.as_slices();
        let of_first = first.len().min(length);
        let bytes = [&first[..of_first], &second[..length - of_first]].concat();
        inbound.drain(..length);
        bytes
    }

    pub(in crate::ring::sim) fn end_receive(&mut self, index: u32, result: i32) {
        if let Some(receive) = self.socket(index).receive.take() {
            self.complete_without_bytes(index, receive, result);
        }
    }

    fn complete_without_bytes(&mut self, index: u32, receive: Receiving, result: i32) {
        let op = receive.op();
        let Receiving { token, into } = receive;
        match into {
            Into::Own { buffer, .. } => {
                self.filled.insert(token, buffer);
            }
            Into::Provided { .. } => {}
        }
        let completion = Completion {
            op,
            token,
            result,
            more: false,
            buffer: None,
        };
        self.complete_receive(index, completion);
    }

    /// Takes what there is room for, and tells of it if it must.
    pub(in crate::ring::sim) fn send(
        &mut self,
        index: u32,
        bytes: &[u8],
        mode: SendMode,
        finish: bool,
        token: Token,
    ) {
        let (send_buffer, short_send) = (
            self.simulation.send_buffer,
            self.simulation.faults.short_send,
        );
        assert!(!bytes.is_empty(), "a send of nothing");
        let is_short = self.chance(short_send);
        let random = self.random.u64(..);
        let now_ms = self.now_ms;
        let socket = self.socket(index);
        assert!(!socket.finished, "a send behind FIN on socket {index}");
        if socket.peer == PeerState::Reset {
            return self.tell_now(OpCode::Send, token, -libc::EPIPE);
        }
        let mut length = bytes.len().min(send_buffer.saturating_sub(socket.unread));
        if is_short && length > 0 {
            length = usize::try_from(random % length as u64).expect("below a length");
        }
        let client = socket.client;
        socket.unread += length;
        socket.sent_bytes += length as u64;
        if length > 0 {
            socket.sent_ms = now_ms;
            self.carry_to_client(client, Segment::Bytes(bytes[..length].to_vec()));
        }
        let taken = i32::try_from(length).expect("a send below 2 GiB");
        if length < bytes.len() {
            let result = if taken == 0 { -libc::EAGAIN } else { taken };
            return self.tell_now(OpCode::Send, token, result);
        }
        if mode == SendMode::Told {
            self.tell_now(OpCode::Send, token, taken);
        }
        if finish {
            self.finish_later(index, token);
        }
    }

    /// Completes in the enter that is under way.
    pub(in crate::ring::sim) fn tell_now(&mut self, op: OpCode, token: Token, result: i32) {
        self.post(Completion {
            op,
            token,
            result,
            more: false,
            buffer: None,
        });
    }

    /// Completes the wait for room, if a third of the buffer is free.
    pub(in crate::ring::sim) fn wake_writer(&mut self, index: u32) {
        let send_buffer = self.simulation.send_buffer;
        let socket = self.socket(index);
        let has_room = socket.unread <= send_buffer - send_buffer / 3;
        if has_room || socket.peer == PeerState::Reset {
            self.end_poll(index);
        }
    }

    pub(in crate::ring::sim) fn end_poll(&mut self, index: u32) {
        if let Some(token) = self.socket(index).poll.take() {
            self.complete(OpCode::Writable, token, i32::from(libc::POLLOUT));
        }
    }

    /// FIN goes out a little later, as from a kernel worker: a Close may come before it.
    pub(in crate::ring::sim) fn finish_later(&mut self, index: u32, token: Token) {
        let client = self.socket(index).client;
        let late = self.simulation.faults.late;
        let delay_ms = if self.chance(late) {
            self.random.u64(0..=2)
        } else {
            0
        };
        let place = self.random.u64(..) >> 1;
        self.schedule(self.now_ms + delay_ms, place, Due::Finish(client, token));
    }

    pub(in crate::ring::sim) fn shutdown_now(&mut self, client: ClientId, token: Token) {
        let result = match self.clients[client.0].socket {
            Some(index) => {
                self.finish(index);
                0
            }
            None => -libc::EBADF,
        };
        self.tell_now(OpCode::ShutdownWrite, token, result);
    }

    pub(in crate::ring::sim) fn finish(&mut self, index: u32) {
        let socket = self.socket(index);
        if socket.finished || socket.peer == PeerState::Reset {
            return;
        }
        socket.finished = true;
        let client = socket.client;
        self.carry_to_client(client, Segment::Finish);
    }

    pub(in crate::ring::sim) fn reset(&mut self, index: u32) {
        self.end_receive(index, -libc::ECONNRESET);
        self.end_poll(index);
        let socket = self.socket(index);
        let client = socket.client;
        let in_order = socket.peer == PeerState::Finished && socket.finished;
        if !in_order && socket.peer != PeerState::Reset {
            socket.peer = PeerState::Reset;
            self.carry_to_client(client, Segment::Reset);
        }
    }

    pub(in crate::ring::sim) fn cancel(&mut self, kind: OpCode, target: Token) {
        while kind == OpCode::Accept
            && let Some(at) = self.accepts.iter().position(|(token, _)| *token == target)
        {
            let (token, _) = self.accepts.remove(at).expect("just found");
            // After every connection that it has accepted.
            let completion = Completion {
                op: kind,
                token,
                result: -libc::ECANCELED,
                more: false,
                buffer: None,
            };
            self.schedule(self.now_ms, u64::MAX, Due::Completion(completion));
        }
        if kind == OpCode::Receive {
            let armed = |socket: &Option<SimSocket>| {
                let receive = socket.as_ref().and_then(|socket| socket.receive.as_ref());
                receive.is_some_and(|receive| receive.op() == kind && receive.token == target)
            };
            if let Some(index) = self.sockets.iter().position(armed) {
                self.end_receive(
                    u32::try_from(index).expect("a small table"),
                    -libc::ECANCELED,
                );
            }
        }
    }

    /// Closes a descriptor: before everything is delivered and both have sent FIN, that resets (the listener's
    /// linger is zero).
    pub(in crate::ring::sim) fn close(&mut self, socket: Socket, token: Token) {
        let state = self.sockets[socket.0 as usize]
            .take()
            .expect("a descriptor is closed once");
        assert!(
            state.receive.is_none(),
            "{socket:?} is closed over an armed receive: it leaks"
        );
        assert!(
            state.poll.is_none(),
            "{socket:?} is closed over a wait for room: it leaks"
        );
        self.vacant.insert(socket.0);
        let client = state.client;
        self.clients[client.0].socket = None;
        self.clients[client.0].gone = true;
        let in_order = state.peer == PeerState::Finished && state.finished && state.unread == 0;
        if !in_order && state.peer != PeerState::Reset {
            self.carry_to_client(client, Segment::Reset);
        }
        self.complete(OpCode::Close, token, 0);
    }
}
