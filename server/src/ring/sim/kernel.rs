//! The simulated kernel: operations in, events in virtual time, completions out.

mod completions;
mod operations;

use std::{
    cmp::Reverse,
    collections::{BTreeMap, BTreeSet, BinaryHeap, HashMap, VecDeque},
    io,
    net::{IpAddr, Ipv4Addr},
    time::Duration,
};

use bytes::BytesMut;
use tidewheel_codec::Time;

use super::{
    super::{BufferMemory, Completion, Op, OpCode, Taken, Token},
    Event, Simulation, What,
    client::{Client, ClientId},
    socket::{PeerState, SimSocket},
};

/// Something that is to happen.
#[derive(Debug)]
pub(super) enum Due {
    Completion(Completion),
    /// What was to happen was taken back.
    Nothing,
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
    /// For each receive that is yet to complete.
    coming: HashMap<(OpCode, Token), completions::Coming>,
    serial: u64,
    /// The completion queue.
    ready: VecDeque<Completion>,
    /// What did not fit into it, and what came behind that.
    overflow: VecDeque<Completion>,
    /// How many did not fit.
    overflowed: u64,
    /// Queued since the last enter; and of a send the bytes, as they were then.
    submitted: Vec<(Op, Token, Vec<u8>)>,
    /// Buffers of receives that have completed, or are about to.
    filled: HashMap<Token, BytesMut>,
    sockets: Vec<Option<SimSocket>>,
    vacant: BTreeSet<u32>,
    accepts: VecDeque<(Token, bool)>,
    backlog: VecDeque<ClientId>,
    listens: bool,
    /// The answers about what clients had taken.
    taken: HashMap<Token, Taken>,
    /// Whom a single accept has accepted last.
    accepted: HashMap<Token, ClientId>,
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
            coming: HashMap::new(),
            serial: 0,
            ready: VecDeque::new(),
            overflow: VecDeque::new(),
            overflowed: 0,
            submitted: Vec::new(),
            filled: HashMap::new(),
            sockets: (0..simulation.sockets).map(|_| None).collect(),
            vacant: (0..simulation.sockets).collect(),
            accepts: VecDeque::new(),
            backlog: VecDeque::new(),
            listens: true,
            taken: HashMap::new(),
            accepted: HashMap::new(),
            clients: Vec::new(),
            memory: BufferMemory::new(simulation.buffers, simulation.buffer_size)?,
            provided: VecDeque::new(),
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
        let client = self.accepted.get(&accept)?;
        let number = u32::try_from(client.0).expect("below 2^32 clients");
        Some(Ipv4Addr::from_bits(0x0a00_0000 + number).into())
    }

    pub(super) fn taken(&self, quiet: Token) -> Option<Taken> {
        self.taken.get(&quiet).copied()
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

    /// Gives the event's number.
    pub(super) fn schedule(&mut self, at_ms: u64, place: u64, due: Due) -> u64 {
        self.serial += 1;
        self.due.push(Reverse((at_ms, place, self.serial)));
        self.events.insert(self.serial, due);
        self.serial
    }

    /// Takes the buffers that were given up.
    fn refill(&mut self) {
        while let Some(lent) = self.memory.lend_long() {
            self.provided.push_back(lent.id);
        }
    }

    /// Lets happen what is due; if nothing completes by it, time passes until something does, but
    /// no longer than `limit`, or until the test's alarm.
    pub(super) fn enter(&mut self, limit: Option<Duration>) {
        self.refill();
        let until = limit.map(|limit| {
            let whole = limit.as_micros().div_ceil(1000);
            self.now_ms + u64::try_from(whole).expect("a wait in milliseconds")
        });
        self.submit();
        loop {
            self.happen();
            self.flush_overflow();
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
                self.flush_overflow();
                return;
            }
        }
    }

    /// Lets time pass, and happen what is due by then.
    fn pass(&mut self, millis: u64) {
        self.now_ms += millis;
        self.happen();
    }

    /// Lets everything happen that is due by now.
    fn happen(&mut self) {
        while let Some(Reverse((at_ms, _, serial))) = self.due.peek().copied() {
            if at_ms > self.now_ms {
                return;
            }
            self.due.pop();
            match self.events.remove(&serial).expect("each is scheduled once") {
                Due::Completion(completion) => self.post(completion),
                Due::Nothing => {}
                Due::Connect(client) if !self.listens => self.refuse(client),
                Due::Connect(client) => {
                    self.backlog.push_back(client);
                    self.accept();
                }
                Due::Finish(client, token) => self.shutdown_now(client, token),
                Due::ToServer(client, segment) => self.reach_server(client, segment),
                Due::ToClient(client, segment) => self.reach_client(client, segment),
            }
        }
    }

    pub(super) fn stop_listening(&mut self) {
        self.listens = false;
        while let Some(client) = self.backlog.pop_front() {
            self.refuse(client);
        }
    }

    fn refuse(&mut self, client: ClientId) {
        self.carry_to_client(client, Segment::Reset);
        self.clients[client.0].gone = true;
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
}
