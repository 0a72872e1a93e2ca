//! The simulated kernel.

mod completion;
mod completion_queue;
mod event_queue;
mod network;
mod operation;
mod receive;
mod send;

use std::{
    collections::{BTreeSet, HashMap, VecDeque},
    io,
    net::{Ipv4Addr, SocketAddr},
    time::Duration,
};

use bytes::BytesMut;
use tidewheel_codec::Time;

use self::{
    completion_queue::CompletionQueue,
    event_queue::{EventQueue, Scheduled},
};
use super::{
    super::{AckProgress, BufferMemory, Completion, Op, OpCode, Token},
    client::{Client, ClientId, Segment},
    settings::Simulation,
    socket::SimSocket,
    trace::{Event, EventKind},
};

/// The port of every client.
const CLIENT_PORT: u16 = 50_000;

#[derive(Debug)]
pub(super) struct Kernel {
    simulation: Simulation,
    random: fastrand::Rng,
    now_ms: u64,
    events: EventQueue,
    completions: CompletionQueue,
    /// Operations pushed since the last submission, and the bytes of a send at that time.
    submissions: Vec<(Op, Token, Vec<u8>)>,
    sockets: Vec<Option<SimSocket>>,
    vacant: BTreeSet<u32>,
    /// Armed accepts.
    accepts: VecDeque<Token>,
    backlog: VecDeque<ClientId>,
    is_listening: bool,
    /// Receives with scheduled completions.
    pending_receives: HashMap<(OpCode, Token), PendingReceive>,
    /// Buffers of fills that have completed, or whose completion is scheduled.
    filled: HashMap<Token, BytesMut>,
    /// Answers to `QueryTcpInfo`.
    ack_progress: HashMap<Token, AckProgress>,
    /// The client of each accept that has completed.
    accepted: HashMap<Token, ClientId>,
    clients: Vec<Client>,
    memory: BufferMemory,
    /// Ids of the provided buffers that the kernel owns.
    provided: VecDeque<u16>,
    /// The clients of segments that have arrived since the test last took this list.
    reached: Vec<ClientId>,
    /// The length of `reached` at the last return of `enter`.
    reached_before: usize,
    /// The time at which `enter` returns for the test to act.
    alarm_ms: Option<u64>,
    trace: Vec<Event>,
}

/// The scheduled completions of a receive.
#[derive(Debug)]
struct PendingReceive {
    socket: u32,
    /// Event numbers, in order.
    completions: VecDeque<u64>,
}

impl PendingReceive {
    fn new(socket: u32) -> Self {
        Self {
            socket,
            completions: VecDeque::new(),
        }
    }
}

impl Kernel {
    pub(super) fn new(simulation: Simulation) -> io::Result<Self> {
        Ok(Self {
            random: fastrand::Rng::with_seed(simulation.seed),
            now_ms: 0,
            events: EventQueue::default(),
            completions: CompletionQueue::new(simulation.completions),
            submissions: Vec::new(),
            sockets: (0..simulation.sockets).map(|_| None).collect(),
            vacant: (0..simulation.sockets).collect(),
            accepts: VecDeque::new(),
            backlog: VecDeque::new(),
            is_listening: true,
            pending_receives: HashMap::new(),
            filled: HashMap::new(),
            ack_progress: HashMap::new(),
            accepted: HashMap::new(),
            clients: Vec::new(),
            memory: BufferMemory::new(simulation.buffers, simulation.buffer_size)?,
            provided: VecDeque::new(),
            reached: Vec::new(),
            reached_before: 0,
            alarm_ms: None,
            trace: Vec::new(),
            simulation,
        })
    }

    pub(super) fn now(&self) -> Time {
        Time::from_millis(self.now_ms)
    }

    pub(super) fn set_alarm(&mut self, time: Time) {
        self.alarm_ms = Some(time.as_millis());
    }

    pub(super) fn set_operation_ms(&mut self, operation_ms: u64) {
        self.simulation.operation_ms = operation_ms;
    }

    pub(super) fn open_sockets(&self) -> usize {
        self.sockets.len() - self.vacant.len()
    }

    pub(super) fn buffers_free(&self) -> usize {
        self.memory.free()
    }

    pub(super) fn overflowed(&self) -> u64 {
        self.completions.overflowed()
    }

    pub(super) fn queue_is_empty(&self) -> bool {
        self.completions.is_empty()
    }

    pub(super) fn dropped_clients(&self) -> usize {
        let dropped = self.clients.iter().filter(|client| client.is_dropped);
        dropped.count()
    }

    pub(super) fn trace(&self) -> Vec<Event> {
        self.trace.clone()
    }

    pub(super) fn take_reached(&mut self) -> Vec<ClientId> {
        self.reached_before = 0;
        std::mem::take(&mut self.reached)
    }

    /// The address of an accepted client: 10.0.0.0 plus the client's number, and a port.
    pub(super) fn peer(&self, accept: Token) -> Option<SocketAddr> {
        let client = self.accepted.get(&accept)?;
        let number = u32::try_from(client.0).expect("a client's number is below 2^32");
        let address = Ipv4Addr::from_bits(0x0a00_0000 + number);
        Some(SocketAddr::new(address.into(), CLIENT_PORT))
    }

    pub(super) fn ack_progress(&self, query: Token) -> Option<AckProgress> {
        self.ack_progress.get(&query).copied()
    }

    /// Takes the next completion.
    pub(super) fn reap(&mut self) -> Option<Completion> {
        self.completions.pop()
    }

    /// Takes the buffer of a fill that has completed.
    pub(super) fn take_filled(&mut self, fill: Token) -> BytesMut {
        let is_pending = self.pending_receives.contains_key(&(OpCode::Fill, fill));
        assert!(
            !is_pending,
            "the kernel owns the buffer until the Fill has completed"
        );
        self.filled
            .remove(&fill)
            .expect("take_filled follows the completion of a Fill")
    }

    /// Submits the queued operations, and processes the events that are due. If nothing completes, time
    /// advances until something does, `limit` has passed, or the alarm is due.
    pub(super) fn enter(&mut self, limit: Option<Duration>) {
        self.refill();
        let until = limit.map(|limit| {
            let limit_ms = limit.as_micros().div_ceil(1000);
            self.now_ms + u64::try_from(limit_ms).expect("a wait fits into 64 bits")
        });
        self.submit();
        loop {
            self.process_due();
            self.completions.flush();
            let is_reached = self.reached.len() > self.reached_before;
            self.reached_before = self.reached.len();
            if is_reached
                || !self.completions.is_empty()
                || until.is_some_and(|until| until <= self.now_ms)
            {
                return;
            }
            let alarm = self.alarm_ms.filter(|alarm| *alarm > self.now_ms);
            let next = [self.events.next_ms(), until, alarm].into_iter();
            let next = next.flatten().min();
            let next = next.expect("a shard that waits forever has an operation under way");
            self.now_ms = next.max(self.now_ms);
            if alarm == Some(next) {
                self.process_due();
                self.completions.flush();
                return;
            }
        }
    }

    /// Advances the time, and processes the events that are due.
    fn advance(&mut self, millis: u64) {
        self.now_ms += millis;
        self.process_due();
    }

    fn process_due(&mut self) {
        while let Some(event) = self.events.pop_due(self.now_ms) {
            match event {
                Scheduled::Completion(completion) => self.post(completion),
                Scheduled::Cancelled => {}
                Scheduled::Connect(client) if !self.is_listening => self.refuse(client),
                Scheduled::Connect(client) => {
                    self.backlog.push_back(client);
                    self.accept();
                }
                Scheduled::Finish(client, token) => self.shutdown_now(client, token),
                Scheduled::ToServer(client, segment) => self.arrive_at_server(client, segment),
                Scheduled::ToClient(client, segment) => self.arrive_at_client(client, segment),
            }
        }
    }

    pub(super) fn stop_listening(&mut self) {
        self.is_listening = false;
        while let Some(client) = self.backlog.pop_front() {
            self.refuse(client);
        }
    }

    fn refuse(&mut self, client: ClientId) {
        self.send_to_client(client, Segment::Reset);
        self.clients[client.0].is_closed = true;
    }

    /// Takes the receive buffers that were returned.
    fn refill(&mut self) {
        while let Some(lent) = self.memory.lend_full_size() {
            self.provided.push_back(lent.id);
        }
    }

    fn socket(&mut self, index: u32) -> &mut SimSocket {
        self.sockets[index as usize]
            .as_mut()
            .unwrap_or_else(|| panic!("socket {index} is not open"))
    }

    fn record(&mut self, kind: EventKind) {
        self.trace.push(Event {
            at_ms: self.now_ms,
            kind,
        });
    }

    /// Returns true with this probability.
    fn chance(&mut self, probability: f64) -> bool {
        probability > 0.0 && self.random.f64() < probability
    }

    /// The delay of an operation: zero, or up to two milliseconds if the fault `late` occurs.
    fn random_delay_ms(&mut self) -> u64 {
        let late = self.simulation.faults.late;
        if self.chance(late) {
            self.random.u64(0..=2)
        } else {
            0
        }
    }

    /// A random order among the events of the same time, below 2^63.
    fn random_order(&mut self) -> u64 {
        self.random.u64(..) >> 1
    }
}
