//! The simulated kernel: operations in, events in virtual time, completions out.

use std::{
    cmp::Reverse,
    collections::{BTreeMap, BTreeSet, BinaryHeap, HashMap, VecDeque},
    io,
    net::{IpAddr, Ipv4Addr},
    time::Duration,
};

use tidewheel_codec::Time;

use super::{
    super::{Buffer, BufferMemory, Completion, Op, OpCode, SendMode, Socket, Token},
    Event, Simulation, What,
    client::{Client, ClientId},
    socket::{Lent, PeerState, SimSocket},
};

/// Something that is to happen.
#[derive(Debug)]
pub(super) enum Due {
    Completion(Completion),
    /// The FIN of a client's connection goes out.
    Finish(ClientId, Token),
    /// A client's connection is ready to be accepted.
    Connect(ClientId),
    /// From a client to the server.
    ToServer(ClientId, Segment),
    /// From the server to a client.
    ToClient(ClientId, Segment),
}

#[derive(Debug)]
pub(super) enum Segment {
    Bytes(Vec<u8>),
    Finish,
    Reset,
}

#[derive(Debug)]
pub(super) struct Kernel {
    pub(super) simulation: Simulation,
    pub(super) random: fastrand::Rng,
    now_ms: u64,
    /// When something happens, its place among what happens then, and which it is.
    due: BinaryHeap<Reverse<(u64, u64, u64)>>,
    events: BTreeMap<u64, Due>,
    serial: u64,
    ready: VecDeque<Completion>,
    /// Queued since the last enter, and what was lent for it.
    submitted: Vec<(Op, Token, Option<Lent>)>,
    sockets: Vec<Option<SimSocket>>,
    vacant: BTreeSet<u32>,
    accepts: VecDeque<(Token, bool)>,
    backlog: VecDeque<ClientId>,
    /// Whom a single accept has accepted last.
    accepted: HashMap<u64, ClientId>,
    pub(super) clients: Vec<Client>,
    memory: BufferMemory,
    provided: VecDeque<u16>,
    /// Clients that something has reached, so that they may answer, since the test last asked.
    pub(super) arrived: Vec<ClientId>,
    /// How many of them the shard has been woken for.
    woken_for: usize,
    /// The test wants to act then.
    pub(super) alarm_ms: Option<u64>,
    pub(super) trace: Vec<Event>,
}

impl Kernel {
    pub(super) fn new(simulation: Simulation) -> io::Result<Self> {
        Ok(Self {
            random: fastrand::Rng::with_seed(simulation.seed),
            now_ms: 0,
            due: BinaryHeap::new(),
            events: BTreeMap::new(),
            serial: 0,
            ready: VecDeque::new(),
            submitted: Vec::new(),
            sockets: (0..simulation.sockets).map(|_| None).collect(),
            vacant: (0..simulation.sockets).collect(),
            accepts: VecDeque::new(),
            backlog: VecDeque::new(),
            accepted: HashMap::new(),
            clients: Vec::new(),
            memory: BufferMemory::new(simulation.buffers, simulation.buffer_size)?,
            provided: (0..simulation.buffers).collect(),
            arrived: Vec::new(),
            woken_for: 0,
            alarm_ms: None,
            trace: Vec::new(),
            simulation,
        })
    }

    pub(super) fn now(&self) -> Time {
        Time::from_millis(self.now_ms)
    }

    /// Descriptors in use.
    pub(super) fn open_sockets(&self) -> usize {
        self.sockets.len() - self.vacant.len()
    }

    pub(super) fn buffers_free(&self) -> usize {
        self.memory.free()
    }

    pub(super) fn take_arrived(&mut self) -> Vec<ClientId> {
        self.woken_for = 0;
        std::mem::take(&mut self.arrived)
    }

    /// Every client has an address of its own.
    pub(super) fn peer(&self, accept: Token) -> Option<IpAddr> {
        let client = self.accepted.get(&accept.bits())?;
        let number = u32::try_from(client.0).expect("below 2^32 clients");
        Some(Ipv4Addr::from_bits(0x0a00_0000 + number).into())
    }

    pub(super) fn note(&mut self, what: What) {
        self.trace.push(Event {
            at_ms: self.now_ms,
            what,
        });
    }

    fn chance(&mut self, probability: f64) -> bool {
        probability > 0.0 && self.random.f64() < probability
    }

    /// A time for something that travels, not before `after_ms`.
    pub(super) fn arrival_ms(&mut self, after_ms: u64) -> u64 {
        let latency = self.random.u64(0..=self.simulation.latency_ms_max);
        (self.now_ms + latency).max(after_ms)
    }

    pub(super) fn schedule(&mut self, at_ms: u64, place: u64, due: Due) {
        self.serial += 1;
        self.due.push(Reverse((at_ms, place, self.serial)));
        self.events.insert(self.serial, due);
    }

    // ---- completions -----------------------------------------------------------------------

    pub(super) fn reap(&mut self) -> Option<Completion> {
        self.ready.pop_front()
    }

    pub(super) fn provide(&mut self, buffer: Buffer) {
        let id = self.memory.put_back(buffer);
        self.provided.push_back(id);
    }

    /// Completes now or, as a late completion, after what others complete meanwhile.
    fn complete(&mut self, token: Token, result: i32) {
        let late = self.simulation.faults.late;
        let at_ms = if self.chance(late) {
            self.now_ms + self.random.u64(0..=2)
        } else {
            self.now_ms
        };
        let place = self.random.u64(..) >> 1;
        let completion = Completion {
            token,
            result,
            more: false,
            buffer: None,
        };
        self.schedule(at_ms, place, Due::Completion(completion));
    }

    /// Completes a receive: those of one socket keep their order.
    fn complete_receive(&mut self, index: u32, completion: Completion) {
        let late = self.simulation.faults.late;
        let mut at_ms = self.now_ms;
        if self.chance(late) {
            at_ms += self.random.u64(0..=2);
        }
        let random = self.random.u64(..) >> 1;
        let socket = self.socket(index);
        let (newest_ms, newest_place) = socket.newest;
        let at_ms = at_ms.max(newest_ms);
        let place = if at_ms == newest_ms {
            random.max(newest_place + 1)
        } else {
            random
        };
        socket.newest = (at_ms, place);
        self.schedule(at_ms, place, Due::Completion(completion));
    }

    // ---- time ------------------------------------------------------------------------------

    /// Lets happen what is due; if nothing completes by it, time passes until something does, but
    /// no longer than `limit`, or until the test's alarm.
    pub(super) fn enter(&mut self, limit: Option<Duration>) {
        let until = limit.map(|limit| {
            let whole = limit.as_micros().div_ceil(1000);
            self.now_ms + u64::try_from(whole).expect("a wait in milliseconds")
        });
        self.submit();
        loop {
            self.happen();
            let has_arrived = self.arrived.len() > self.woken_for;
            self.woken_for = self.arrived.len();
            if has_arrived
                || !self.ready.is_empty()
                || until.is_some_and(|until| until <= self.now_ms)
            {
                return;
            }
            let next = self.due.peek().map(|Reverse((at_ms, ..))| *at_ms);
            let alarm = self.alarm_ms.filter(|alarm| *alarm > self.now_ms);
            let wake = [next, until, alarm].into_iter().flatten().min();
            let Some(wake) = wake else {
                panic!("the shard waits for what never happens")
            };
            self.now_ms = wake.max(self.now_ms);
            if alarm == Some(wake) {
                self.happen();
                return;
            }
        }
    }

    /// Lets everything happen that is due by now.
    fn happen(&mut self) {
        while let Some(Reverse((at_ms, _, serial))) = self.due.peek().copied() {
            if at_ms > self.now_ms {
                return;
            }
            self.due.pop();
            match self.events.remove(&serial).expect("each is scheduled once") {
                Due::Completion(completion) => {
                    let Completion {
                        token,
                        result,
                        more,
                        ..
                    } = completion;
                    self.note(What::Completed {
                        token,
                        result,
                        more,
                    });
                    self.ready.push_back(completion);
                }
                Due::Connect(client) => {
                    self.backlog.push_back(client);
                    self.accept();
                }
                Due::Finish(client, token) => self.finish_now(client, token),
                Due::ToServer(client, segment) => self.reach_server(client, segment),
                Due::ToClient(client, segment) => self.reach_client(client, segment),
            }
        }
    }

    fn reach_server(&mut self, client: ClientId, segment: Segment) {
        let Some(index) = self.clients[client.0].socket else {
            if !self.clients[client.0].gone {
                // Not accepted yet: the kernel keeps it.
                self.clients[client.0].early.push_back(segment);
            }
            return;
        };
        let now_ms = self.now_ms;
        let socket = self.socket(index);
        match segment {
            Segment::Bytes(bytes) => {
                socket.heard_ms = now_ms;
                socket.inbound.extend(bytes);
            }
            Segment::Finish => socket.peer = PeerState::Finished,
            Segment::Reset => {
                socket.peer = PeerState::Reset;
                socket.inbound.clear();
            }
        }
        self.pump(index);
        self.wake_writer(index);
    }

    // ---- operations ------------------------------------------------------------------------

    /// Queues an operation for the next enter. A full queue is submitted at once, by chance.
    pub(super) fn push(&mut self, op: Op, token: Token) {
        self.note(What::Submitted { token });
        let lent = match &op {
            Op::Send { data, .. } => Some(Lent::new(*data)),
            _ => None,
        };
        self.submitted.push((op, token, lent));
        let full_queue = self.simulation.faults.full_queue;
        if self.chance(full_queue) {
            self.submit();
        }
    }

    fn submit(&mut self) {
        for (op, token, lent) in std::mem::take(&mut self.submitted) {
            self.perform(op, token, lent);
        }
    }

    fn perform(&mut self, op: Op, token: Token, lent: Option<Lent>) {
        match op {
            Op::Accept { multishot, .. } => {
                self.accepts.push_back((token, multishot));
                self.accept();
            }
            Op::Receive { socket } => {
                let state = self.socket(socket.0);
                assert!(state.receive.is_none(), "a second receive on {socket:?}");
                state.receive = Some(token);
                if self.provided.is_empty() {
                    return self.end_receive(socket.0, -libc::ENOBUFS);
                }
                self.pump(socket.0);
            }
            Op::Send {
                socket,
                mode,
                finish,
                ..
            } => {
                let lent = lent.expect("noted when it was lent");
                self.send(socket.0, &lent, mode, finish, token);
            }
            Op::Writable { socket } => {
                let state = self.socket(socket.0);
                assert!(state.poll.is_none(), "a second wait for {socket:?}");
                state.poll = Some(token);
                self.wake_writer(socket.0);
            }
            Op::Quiet { socket } => {
                let quiet_ms = self.now_ms - self.socket(socket.0).heard_ms;
                self.complete(token, i32::try_from(quiet_ms).unwrap_or(i32::MAX));
            }
            Op::Finish { socket } => self.finish_later(socket.0, token),
            Op::Reset { socket } => self.reset(socket.0),
            Op::Cancel { target } => self.cancel(target),
            Op::Close { socket } => self.close(socket, token),
            Op::Listen | Op::Wake { .. } => {}
            Op::Connect { .. } => panic!("a server connects to nobody"),
        }
    }

    pub(super) fn socket(&mut self, index: u32) -> &mut SimSocket {
        self.sockets[index as usize]
            .as_mut()
            .unwrap_or_else(|| panic!("socket {index} is not open"))
    }

    fn accept(&mut self) {
        while !self.backlog.is_empty() && !self.accepts.is_empty() {
            let client = self.backlog.pop_front().expect("just looked at");
            if self.clients[client.0].gone {
                continue;
            }
            let (token, multishot) = self.accepts.pop_front().expect("just looked at");
            // Any free place will do, as far as the shard is concerned.
            let Some(&lowest) = self.vacant.first() else {
                self.clients[client.0].dropped = true;
                self.complete(token, -libc::ENFILE);
                continue;
            };
            let from = self.random.u32(lowest..self.simulation.sockets);
            let index = self.vacant.range(from..).next().copied().unwrap_or(lowest);
            self.vacant.remove(&index);
            self.sockets[index as usize] = Some(SimSocket::new(client, self.now_ms));
            self.clients[client.0].socket = Some(index);
            if !multishot {
                self.accepted.insert(token.bits(), client);
            }
            let end = self.simulation.faults.multishot_end;
            let more = multishot && !self.chance(end);
            if more {
                self.accepts.push_front((token, multishot));
            }
            let result = i32::try_from(index).expect("a small table");
            let place = self.random.u64(..) >> 1;
            let completion = Completion {
                token,
                result,
                more,
                buffer: None,
            };
            // Those of one multishot accept keep their order only in that the last is the last.
            self.schedule(
                self.now_ms,
                if more { place } else { u64::MAX },
                Due::Completion(completion),
            );
            for segment in std::mem::take(&mut self.clients[client.0].early) {
                self.reach_server(client, segment);
            }
        }
    }

    /// Completes the receive of a socket with what there is, for as long as it goes on.
    fn pump(&mut self, index: u32) {
        while let Some(token) = self.socket(index).receive {
            if self.socket(index).peer == PeerState::Reset {
                return self.end_receive(index, -libc::ECONNRESET);
            }
            if self.socket(index).inbound.is_empty() {
                if self.socket(index).peer == PeerState::Finished {
                    self.end_receive(index, 0);
                }
                return;
            }
            let faults = self.simulation.faults;
            if self.provided.is_empty() || self.chance(faults.no_buffers) {
                return self.end_receive(index, -libc::ENOBUFS);
            }
            let id = self.provided.pop_front().expect("just looked at");
            let mut length = self
                .socket(index)
                .inbound
                .len()
                .min(self.memory.size() as usize);
            if self.chance(faults.small_pieces) {
                length = self.random.usize(1..=length);
            }
            let mut buffer = self
                .memory
                .take(id, u32::try_from(length).expect("below a buffer's size"));
            for (byte, received) in buffer
                .iter_mut()
                .zip(self.socket(index).inbound.drain(..length))
            {
                *byte = received;
            }
            let more = !self.chance(faults.multishot_end);
            if !more {
                self.socket(index).receive = None;
            }
            let result = i32::try_from(length).expect("below a buffer's size");
            self.complete_receive(
                index,
                Completion {
                    token,
                    result,
                    more,
                    buffer: Some(buffer),
                },
            );
        }
    }

    fn end_receive(&mut self, index: u32, result: i32) {
        if let Some(token) = self.socket(index).receive.take() {
            self.complete_receive(
                index,
                Completion {
                    token,
                    result,
                    more: false,
                    buffer: None,
                },
            );
        }
    }

    /// Takes what there is room for, and tells of it if it must.
    fn send(&mut self, index: u32, lent: &Lent, mode: SendMode, finish: bool, token: Token) {
        let (send_buffer, short_send) = (
            self.simulation.send_buffer,
            self.simulation.faults.short_send,
        );
        let bytes = lent.bytes();
        assert!(!bytes.is_empty(), "a send of nothing");
        assert!(mode != SendMode::Waiting, "a shard waits for no socket");
        let is_short = self.chance(short_send);
        let random = self.random.u64(..);
        let socket = self.socket(index);
        assert!(!socket.finished, "a send behind FIN on socket {index}");
        if socket.peer == PeerState::Reset {
            return self.tell_now(token, -libc::EPIPE);
        }
        let mut length = bytes.len().min(send_buffer.saturating_sub(socket.unread));
        if is_short && length > 0 {
            length = usize::try_from(random % length as u64).expect("below a length");
        }
        let client = socket.client;
        socket.unread += length;
        if length > 0 {
            self.carry_to_client(client, Segment::Bytes(bytes[..length].to_vec()));
        }
        let taken = i32::try_from(length).expect("a send below 2 GiB");
        if length < bytes.len() {
            return self.tell_now(token, if taken == 0 { -libc::EAGAIN } else { taken });
        }
        if mode == SendMode::Told {
            self.tell_now(token, taken);
        }
        if finish {
            self.finish_later(index, token);
        }
    }

    /// Completes in the enter that is under way.
    fn tell_now(&mut self, token: Token, result: i32) {
        self.note(What::Completed {
            token,
            result,
            more: false,
        });
        self.ready.push_back(Completion {
            token,
            result,
            more: false,
            buffer: None,
        });
    }

    /// Completes the wait for room, if a third of the buffer is free.
    pub(super) fn wake_writer(&mut self, index: u32) {
        let send_buffer = self.simulation.send_buffer;
        let socket = self.socket(index);
        let has_room = socket.unread <= send_buffer - send_buffer / 3;
        if has_room || socket.peer == PeerState::Reset {
            self.end_poll(index);
        }
    }

    fn end_poll(&mut self, index: u32) {
        if let Some(token) = self.socket(index).poll.take() {
            self.complete(token, i32::from(libc::POLLOUT));
        }
    }

    /// FIN goes out a little later, as from a kernel worker: a Close may come before it.
    fn finish_later(&mut self, index: u32, token: Token) {
        let token = Token::new(OpCode::Finish, token.generation(), token.slot());
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

    fn finish_now(&mut self, client: ClientId, token: Token) {
        let result = match self.clients[client.0].socket {
            Some(index) => {
                self.finish(index);
                0
            }
            None => -libc::EBADF,
        };
        self.tell_now(token, result);
    }

    fn finish(&mut self, index: u32) {
        let socket = self.socket(index);
        if socket.finished || socket.peer == PeerState::Reset {
            return;
        }
        socket.finished = true;
        let client = socket.client;
        self.carry_to_client(client, Segment::Finish);
    }

    fn reset(&mut self, index: u32) {
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

    fn cancel(&mut self, target: Token) {
        while let Some(at) = self.accepts.iter().position(|(token, _)| *token == target) {
            let (token, _) = self.accepts.remove(at).expect("just found");
            // After every connection that it has accepted.
            let completion = Completion {
                token,
                result: -libc::ECANCELED,
                more: false,
                buffer: None,
            };
            self.schedule(self.now_ms, u64::MAX, Due::Completion(completion));
        }
        if target.op() == OpCode::Receive {
            let armed = |socket: &Option<SimSocket>| {
                socket
                    .as_ref()
                    .is_some_and(|socket| socket.receive == Some(target))
            };
            if let Some(index) = self.sockets.iter().position(armed) {
                self.end_receive(
                    u32::try_from(index).expect("a small table"),
                    -libc::ECANCELED,
                );
            }
        }
    }

    /// Closes a descriptor: before the peer's FIN that resets (the listener's linger is zero).
    fn close(&mut self, socket: Socket, token: Token) {
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
        let in_order = state.peer == PeerState::Finished && state.finished;
        if !in_order && state.peer != PeerState::Reset {
            self.carry_to_client(client, Segment::Reset);
        }
        self.complete(token, 0);
    }
}
