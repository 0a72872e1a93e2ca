//! A shard, its simulated network, and clients that a test controls.

use std::{
    cell::RefCell,
    collections::{BTreeSet, HashMap},
    rc::Rc,
    time::Duration,
};

use tidewheel::{
    Cause, CloseCode, Config, Publisher, Time,
    ring::{
        Ring,
        sim::{ClientId, Network, SimRing, Simulation},
    },
    shard::{Capacity, Next, Parts, Shard},
};
use tidewheel_codec::{Endpoint, Role};

use super::{
    client::Client,
    echo::{Echo, REQUEST_MESSAGES, Record},
};

/// A shard on a simulated ring, its clients, and its record.
pub(crate) struct Bench<R: Ring = SimRing> {
    pub(crate) shard: Shard<R, Echo>,
    pub(crate) network: Network,
    pub(crate) record: Rc<RefCell<Record>>,
    pub(crate) clients: Vec<Client>,
    /// The index of each client in `clients`.
    indices: HashMap<ClientId, usize>,
    /// Indices of clients with unread segments.
    reached: BTreeSet<usize>,
    endpoint: Endpoint,
    pub(crate) publisher: Publisher,
    close_timeout: Duration,
    pub(crate) finished: bool,
    /// Maximum number of messages received in a turn.
    pub(crate) messages_per_turn: usize,
    /// Turns for each enter of the ring; a driver takes one.
    pub(crate) turns_per_enter: u32,
    /// Number of receive buffers.
    pub(crate) buffers: usize,
    /// Size of all receive buffers in bytes.
    pub(crate) receive_memory: usize,
}

/// Calls `run` with each seed below `seeds`, on all cores.
pub(crate) fn each_seed(seeds: u64, run: impl Fn(u64) + Sync) {
    let workers = std::thread::available_parallelism().map_or(1, usize::from);
    std::thread::scope(|scope| {
        for worker in 0..workers as u64 {
            let run = &run;
            scope.spawn(move || (worker..seeds).step_by(workers).for_each(run));
        }
    });
}

/// Number of events of a failed run that are printed.
const TRACE_EVENTS_MAX: usize = 200;

impl<R: Ring> Drop for Bench<R> {
    fn drop(&mut self) {
        if std::thread::panicking() {
            let trace = self.network.trace();
            println!("the last of {} events:", trace.len());
            for event in &trace[trace.len().saturating_sub(TRACE_EVENTS_MAX)..] {
                println!("{:>8} ms {:?}", event.at_ms, event.kind);
            }
        }
    }
}

/// Ping interval, ping timeout, close timeout and handshake timeout of the simulations.
pub(crate) const SECOND: Duration = Duration::from_secs(1);

pub(crate) fn config() -> Config {
    let mut config = Config::default();
    config.ping_interval = Some(SECOND);
    config.ping_timeout = Some(SECOND);
    config.close_timeout = SECOND;
    config.handshake_timeout = SECOND;
    config
}

impl Bench {
    pub(crate) fn new(simulation: Simulation, config: &Config) -> Self {
        Self::with_ring(simulation, config, |ring| ring)
    }
}

impl<R: Ring> Bench<R> {
    /// A bench whose shard uses a wrapper of the simulated ring.
    pub(crate) fn with_ring(
        simulation: Simulation,
        config: &Config,
        wrap: impl FnOnce(SimRing) -> R,
    ) -> Self {
        let capacity = Capacity {
            places: simulation.sockets,
            connections: simulation.sockets,
        };
        let parts = Parts::alone(capacity, config);
        Self::with_parts(simulation, config, parts, wrap)
    }

    /// A bench with the parts of a shard of a larger server.
    pub(crate) fn with_parts(
        simulation: Simulation,
        config: &Config,
        parts: Parts,
        wrap: impl FnOnce(SimRing) -> R,
    ) -> Self {
        let mut config = config.clone();
        config.receive_buffers = simulation.buffers;
        config.receive_buffer_size = simulation.buffer_size;
        let config = &config;
        let ring = SimRing::new(simulation).unwrap();
        let network = ring.network();
        let ring = wrap(ring);
        let record = Rc::new(RefCell::new(Record::default()));
        let endpoint = Endpoint::with_seed(config.protocol(), simulation.seed).unwrap();
        let publisher = parts.publisher();
        let handler = Echo::new(Rc::clone(&record), network.clone(), config.max_send_queue);
        let shard = Shard::new(ring, handler, config, endpoint, parts, network.now()).unwrap();
        let mut client = tidewheel_codec::Config::new(Role::Client);
        client.ping_interval = None;
        let endpoint = Endpoint::with_seed(client, simulation.seed).unwrap();
        let clients = Vec::new();
        let buffers = usize::from(simulation.buffers);
        let receive_memory = buffers * simulation.buffer_size as usize;
        Self {
            shard,
            network,
            record,
            clients,
            indices: HashMap::new(),
            reached: BTreeSet::new(),
            endpoint,
            publisher,
            close_timeout: config.close_timeout,
            finished: false,
            messages_per_turn: 0,
            turns_per_enter: 1,
            buffers,
            receive_memory,
        }
    }

    /// Connects a client, which sends its request; returns its index.
    pub(crate) fn connect(&mut self) -> usize {
        let index = self.clients.len();
        let client = Client::connect(index, &mut self.endpoint, &self.network);
        self.indices.insert(client.id, index);
        self.clients.push(client);
        index
    }

    /// Connects a client that sends these bytes instead of a request. It has no index.
    pub(crate) fn connect_raw(&mut self, bytes: &[u8]) {
        let id = self.network.connect();
        self.network.send(id, bytes);
    }

    /// Runs the shard until `until`, or until `done` returns true; clients read after each enter.
    pub(crate) fn run(&mut self, until: Time, done: impl Fn(&Self) -> bool) {
        self.network.wake_at(until);
        while !self.finished && self.network.now() < until && !done(self) {
            for _ in 1..self.turns_per_enter {
                self.shard.turn(self.network.now());
            }
            let next = self.shard.turn(self.network.now());
            let messages = self.record.borrow_mut().take_messages();
            self.messages_per_turn = self.messages_per_turn.max(messages);
            match next {
                Next::Finished => self.finished = true,
                Next::Enter(wait) => self.shard.enter(wait).unwrap(),
            }
            let reached = self.network.take_reached();
            let known = |id: ClientId| self.indices.get(&id).copied();
            self.reached.extend(reached.into_iter().filter_map(known));
            // A silent client may read later.
            let (silent, reading) = std::mem::take(&mut self.reached)
                .into_iter()
                .partition::<BTreeSet<_>, _>(|at| self.clients[*at].is_silent);
            self.reached = silent;
            let now = self.network.now();
            for at in reading {
                self.clients[at].read(&mut self.endpoint, &self.network, now);
            }
        }
    }

    /// Runs the shard for `span`.
    pub(crate) fn run_for(&mut self, span: Duration) {
        self.run(self.network.now() + span, |_| false);
    }

    /// Starts a drain.
    pub(crate) fn drain(&mut self) {
        self.publisher.drain(self.close_timeout);
    }

    pub(crate) fn is_open(&self, at: usize) -> bool {
        self.clients[at].is_open()
    }

    /// The client at `at` starts the closing handshake.
    pub(crate) fn close(&mut self, at: usize) {
        let now = self.network.now();
        let client = &mut self.clients[at];
        let Some(protocol) = client.protocol() else {
            return;
        };
        let mut out = Vec::new();
        protocol
            .start_closing_handshake(
                &mut self.endpoint,
                CloseCode::NORMAL_CLOSURE,
                "",
                Cause::LocalClose,
                &mut out,
                now,
            )
            .unwrap();
        client.last_sent = now;
        self.network.send(client.id, &out);
    }

    /// The client at `at` sends a binary message.
    pub(crate) fn send(&mut self, at: usize, message: &[u8]) {
        let client = &mut self.clients[at];
        let Some(protocol) = client.protocol() else {
            return;
        };
        let mut out = Vec::new();
        if protocol
            .send_binary(&mut self.endpoint, message, &mut out)
            .is_ok()
        {
            client.last_sent = self.network.now();
            self.network.send(client.id, &out);
        }
    }

    /// The client at `at` sends binary messages in one segment.
    pub(crate) fn send_together<M: AsRef<[u8]>>(
        &mut self,
        at: usize,
        messages: impl Iterator<Item = M>,
    ) {
        let client = &mut self.clients[at];
        let Some(protocol) = client.protocol() else {
            return;
        };
        let mut out = Vec::new();
        for message in messages {
            let sent = protocol.send_binary(&mut self.endpoint, message.as_ref(), &mut out);
            sent.expect("the connection is open");
        }
        client.last_sent = self.network.now();
        self.network.send(client.id, &out);
    }

    /// The client at `at` requests `count` messages, numbered from `first`.
    pub(crate) fn request_messages(&mut self, at: usize, first: u16, count: u16) {
        let numbers = [first.to_be_bytes(), count.to_be_bytes()].concat();
        self.send(at, &[REQUEST_MESSAGES.as_slice(), &numbers].concat());
    }
}
