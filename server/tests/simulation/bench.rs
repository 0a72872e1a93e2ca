//! A shard, its network, and clients that behave as told.

use std::{
    cell::RefCell,
    collections::{BTreeSet, HashMap},
    rc::Rc,
    time::Duration,
};

use tidewheel::{
    Cause, CloseCode, Config, Conn, ConnectionId, Disconnect, Handler, Message, Remote, Request,
    Sent, Time, Verdict,
    ring::{
        Ring,
        sim::{Arrival, ClientId, Network, SimRing, Simulation},
    },
    shard::{Capacity, Next, Parts, Shard},
};
use tidewheel_codec::{
    Connection as Protocol, Endpoint, Event, Role, Transmit,
    handshake::{ClientRequest, Limits, Response, ResponseError},
};

/// What the server's handler saw.
#[derive(Debug, Default)]
pub(crate) struct Record {
    pub(crate) open: HashMap<ConnectionId, usize>,
    pub(crate) ends: Vec<(ConnectionId, Time, Disconnect)>,
    /// The client of each connection, by its place among the clients.
    pub(crate) clients: HashMap<ConnectionId, usize>,
    /// Echoes that `send` has accepted, by client.
    pub(crate) echoed: HashMap<usize, usize>,
    /// Messages that were dropped because their reader was slow.
    pub(crate) missed: u64,
    /// Messages that have come in the turn under way.
    messages: usize,
}

/// A message that begins so asks for others: from which number on, and how many.
const ASK: [u8; 8] = *b"ask for ";

/// A message that begins so subscribes to what follows.
pub(crate) const SUBSCRIBE: &str = "subscribe ";

/// A message that begins so publishes: a topic, a space, and the message.
pub(crate) const PUBLISH: &str = "publish ";

/// A message that makes the handler panic.
pub(crate) const PANIC: &str = "panic";

fn said<'m>(message: &'m Message<'_>, prefix: &str) -> Option<&'m str> {
    std::str::from_utf8(message.payload())
        .ok()?
        .strip_prefix(prefix)
}

/// Echoes, and keeps a record.
pub(crate) struct Echo {
    record: Rc<RefCell<Record>>,
    network: Network,
    /// What waits for a client at most, when it is its turn.
    unsent_max: usize,
}

impl Handler for Echo {
    /// The client's place among the clients, which is the path of its request.
    type State = Option<usize>;

    fn upgrade(&mut self, request: &Request<'_>) -> Verdict<Option<usize>> {
        let place = request.path().strip_prefix('/');
        Verdict::accept(place.and_then(|place| place.parse().ok()))
    }

    fn open(&mut self, conn: &mut Conn<'_, Option<usize>>) {
        let mut record = self.record.borrow_mut();
        *record.open.entry(conn.id()).or_default() += 1;
        if let Some(client) = *conn.state() {
            record.clients.insert(conn.id(), client);
        }
    }

    fn message(&mut self, conn: &mut Conn<'_, Option<usize>>, message: Message<'_>) {
        assert!(conn.unsent() < self.unsent_max, "the queue is bounded");
        self.record.borrow_mut().messages += 1;
        assert_ne!(message.payload(), PANIC.as_bytes(), "asked to panic");
        if let Some(pattern) = said(&message, SUBSCRIBE) {
            assert!(conn.subscribe(pattern).is_ok());
            return;
        }
        if let Some(rest) = said(&message, PUBLISH) {
            let (topic, rest) = rest.split_once(' ').expect("a topic and a message");
            assert!(conn.publish(topic, rest).is_ok());
            return;
        }
        let Some([first, last, count, more]) = message.payload().strip_prefix(&ASK) else {
            let sent = conn.send(message);
            if let Some(client) = *conn.state()
                && matches!(sent, Sent::Sent | Sent::Queued { .. })
            {
                *self.record.borrow_mut().echoed.entry(client).or_default() += 1;
            }
            return;
        };
        let first = u16::from_be_bytes([*first, *last]);
        let count = u16::from_be_bytes([*count, *more]);
        for number in first..first + count {
            let mut answer = [0; 100];
            answer[..2].copy_from_slice(&number.to_be_bytes());
            let _ = conn.send(answer.as_slice());
        }
    }

    fn gap(&mut self, _: &mut Conn<'_, Option<usize>>, missed: u64) {
        self.record.borrow_mut().missed += missed;
    }

    fn close(&mut self, conn: &mut Conn<'_, Option<usize>>, end: &Disconnect) {
        self.record
            .borrow_mut()
            .ends
            .push((conn.id(), self.network.now(), end.clone()));
    }
}

/// How far a client has come.
#[derive(Debug)]
enum Phase {
    Handshake {
        head: Vec<u8>,
        request: ClientRequest<'static>,
    },
    Open(Protocol),
    /// The server shuts down, and has said so. Its FIN is to come.
    Refused,
    /// It ended, with the server's Close if there was one; FIN or RST came last.
    Ended,
}

/// A client of the simulation, which answers everything unless it is told to be silent.
#[derive(Debug)]
pub(crate) struct Client {
    pub(crate) id: ClientId,
    phase: Phase,
    /// Collects the echoes, also behind a Close of the client's: a protocol that has sent Close drops
    /// messages, and this one never sends.
    reader: Protocol,
    pub(crate) silent: bool,
    /// When it last sent something.
    pub(crate) last_sent: Time,
    pub(crate) end: Option<Disconnect>,
    pub(crate) got_finish: bool,
    pub(crate) got_reset: bool,
    pub(crate) echoes: Vec<Vec<u8>>,
}

/// Everything together.
pub(crate) struct Bench<R: Ring = SimRing> {
    pub(crate) shard: Shard<R, Echo>,
    pub(crate) network: Network,
    pub(crate) record: Rc<RefCell<Record>>,
    pub(crate) clients: Vec<Client>,
    /// Their places in that list.
    places: HashMap<ClientId, usize>,
    /// Those that have something to read.
    reached: BTreeSet<usize>,
    endpoint: Endpoint,
    pub(crate) remote: Remote,
    pub(crate) finished: bool,
    /// The most messages that came in one turn.
    pub(crate) messages_per_turn: usize,
    /// Turns before the ring is entered; one is what a driver takes.
    pub(crate) turns_per_enter: u32,
    /// Receive buffers in all.
    pub(crate) buffers: usize,
    /// Bytes of them all.
    pub(crate) receive_memory: usize,
}

/// Runs `run` for all seeds below `seeds`, on all cores.
pub(crate) fn each_seed(seeds: u64, run: impl Fn(u64) + Sync) {
    let workers = std::thread::available_parallelism().map_or(1, usize::from);
    std::thread::scope(|scope| {
        for worker in 0..workers as u64 {
            let run = &run;
            scope.spawn(move || (worker..seeds).step_by(workers).for_each(run));
        }
    });
}

/// How much of the trace of a failed run is printed.
const TOLD: usize = 200;

impl<R: Ring> Drop for Bench<R> {
    fn drop(&mut self) {
        if std::thread::panicking() {
            let trace = self.network.trace();
            println!("the last of {} events:", trace.len());
            for event in &trace[trace.len().saturating_sub(TOLD)..] {
                println!("{:>8} ms {:?}", event.at_ms, event.what);
            }
        }
    }
}

/// The keepalive and close timeouts of all simulations.
pub(crate) const SECOND: Duration = Duration::from_secs(1);

pub(crate) fn config() -> Config {
    Config {
        ping_interval: Some(SECOND),
        ping_timeout: Some(SECOND),
        close_timeout: SECOND,
        handshake_timeout: SECOND,
        ..Config::default()
    }
}

impl Bench {
    pub(crate) fn new(simulation: Simulation, config: &Config) -> Self {
        Self::with_ring(simulation, config, |ring| ring)
    }
}

impl<R: Ring> Bench<R> {
    /// A bench whose shard has the simulated ring inside another.
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

    /// The same, of a server with several shards.
    pub(crate) fn with_parts(
        simulation: Simulation,
        config: &Config,
        parts: Parts,
        wrap: impl FnOnce(SimRing) -> R,
    ) -> Self {
        let config = &Config {
            receive_buffers: simulation.buffers,
            receive_buffer_size: simulation.buffer_size,
            ..config.clone()
        };
        let ring = SimRing::new(simulation).unwrap();
        let network = ring.network();
        let ring = wrap(ring);
        let record = Rc::new(RefCell::new(Record::default()));
        let endpoint = Endpoint::with_seed(config.protocol(), simulation.seed).unwrap();
        let remote = parts.remote();
        let handler = Echo {
            record: Rc::clone(&record),
            network: network.clone(),
            unsent_max: config.max_send_queue,
        };
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
            places: HashMap::new(),
            reached: BTreeSet::new(),
            endpoint,
            remote,
            finished: false,
            messages_per_turn: 0,
            turns_per_enter: 1,
            buffers,
            receive_memory,
        }
    }

    /// Connects a client, which sends its request at once; gives its place among the clients.
    pub(crate) fn connect(&mut self) -> usize {
        let id = self.network.connect();
        let nonce = self.endpoint.handshake_nonce();
        let path = format!("/{}", self.clients.len());
        let request = ClientRequest::new("sim", path, nonce);
        let mut bytes = Vec::new();
        request.write(&mut bytes);
        self.network.send(id, &bytes);
        self.places.insert(id, self.clients.len());
        self.clients.push(Client {
            id,
            phase: Phase::Handshake {
                head: Vec::new(),
                request,
            },
            reader: Protocol::new(self.network.now(), 0),
            silent: false,
            last_sent: self.network.now(),
            end: None,
            got_finish: false,
            got_reset: false,
            echoes: Vec::new(),
        });
        self.clients.len() - 1
    }

    /// Connects a client that sends these bytes in place of a request, and then nothing.
    pub(crate) fn connect_rudely(&mut self, bytes: &[u8]) {
        let id = self.network.connect();
        self.network.send(id, bytes);
    }

    /// Takes turns until `until`, or until `done`; clients act whenever the shard has entered.
    pub(crate) fn run(&mut self, until: Time, done: impl Fn(&Self) -> bool) {
        self.network.wake_at(until);
        while !self.finished && self.network.now() < until && !done(self) {
            for _ in 1..self.turns_per_enter {
                self.shard.turn(self.network.now());
            }
            let next = self.shard.turn(self.network.now());
            let messages = std::mem::take(&mut self.record.borrow_mut().messages);
            self.messages_per_turn = self.messages_per_turn.max(messages);
            match next {
                Next::Finished => self.finished = true,
                Next::Enter(wait) => self.shard.enter(wait).unwrap(),
            }
            let reached = self.network.reached();
            let known = |id: ClientId| self.places.get(&id).copied();
            self.reached.extend(reached.into_iter().filter_map(known));
            // Who is silent now may read later.
            let (silent, reading) = std::mem::take(&mut self.reached)
                .into_iter()
                .partition::<BTreeSet<_>, _>(|at| self.clients[*at].silent);
            self.reached = silent;
            for at in reading {
                self.play(at);
            }
        }
    }

    /// Takes turns for so long.
    pub(crate) fn run_for(&mut self, span: Duration) {
        self.run(self.network.now() + span, |_| false);
    }

    /// Asks the shard to drain.
    pub(crate) fn drain(&mut self) {
        self.remote.drain();
    }

    pub(crate) fn is_open(&self, at: usize) -> bool {
        matches!(&self.clients[at].phase, Phase::Open(protocol) if protocol.is_open())
    }

    /// The client at `at` starts the closing handshake.
    pub(crate) fn close(&mut self, at: usize) {
        let now = self.network.now();
        let client = &mut self.clients[at];
        let Phase::Open(protocol) = &mut client.phase else {
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
    pub(crate) fn say(&mut self, at: usize, message: &[u8]) {
        let client = &mut self.clients[at];
        let Phase::Open(protocol) = &mut client.phase else {
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

    /// The client at `at` sends binary messages at once.
    pub(crate) fn say_at_once<M: AsRef<[u8]>>(
        &mut self,
        at: usize,
        messages: impl Iterator<Item = M>,
    ) {
        let client = &mut self.clients[at];
        let Phase::Open(protocol) = &mut client.phase else {
            return;
        };
        let mut out = Vec::new();
        for message in messages {
            let sent = protocol.send_binary(&mut self.endpoint, message.as_ref(), &mut out);
            sent.expect("it is open");
        }
        client.last_sent = self.network.now();
        self.network.send(client.id, &out);
    }

    /// The client at `at` asks for messages of these numbers.
    pub(crate) fn ask(&mut self, at: usize, first: u16, count: u16) {
        let numbers = [first.to_be_bytes(), count.to_be_bytes()].concat();
        self.say(at, &[ASK.as_slice(), &numbers].concat());
    }

    /// Lets a client read and answer.
    fn play(&mut self, at: usize) {
        let now = self.network.now();
        let client = &mut self.clients[at];
        if client.silent || matches!(client.phase, Phase::Ended) {
            return;
        }
        while let Some(arrival) = self.network.read(client.id) {
            match arrival {
                Arrival::Bytes(bytes) => client.read(bytes, &mut self.endpoint, &self.network, now),
                Arrival::Finish => {
                    client.got_finish = true;
                    if let Phase::Open(protocol) = &mut client.phase {
                        protocol.receive_eof(now);
                        client.end = client.end.take().or_else(|| protocol.poll_disconnect());
                    }
                    self.network.finish(client.id);
                    client.phase = Phase::Ended;
                    return;
                }
                Arrival::Reset => {
                    client.got_reset = true;
                    if let Phase::Open(protocol) = &mut client.phase {
                        protocol.receive_reset(now);
                        client.end = client.end.take().or_else(|| protocol.poll_disconnect());
                    }
                    client.phase = Phase::Ended;
                    return;
                }
            }
        }
    }
}

impl Client {
    fn read(&mut self, mut bytes: Vec<u8>, endpoint: &mut Endpoint, network: &Network, now: Time) {
        if let Phase::Handshake { head, request } = &mut self.phase {
            head.extend_from_slice(&bytes);
            let size = match Response::parse(head, &Limits::default(), request) {
                Ok(Some((_, size))) => size,
                Ok(None) => return,
                Err(ResponseError::Status { got: 503 }) => {
                    self.phase = Phase::Refused;
                    return;
                }
                Err(refusal) => panic!("the server accepts, but: {refusal:?}"),
            };
            bytes = head.split_off(size);
            self.phase = Phase::Open(Protocol::new(now, 0));
        }
        let Phase::Open(protocol) = &mut self.phase else {
            return;
        };
        let mut copy = bytes.clone();
        let mut input = self.reader.receive(&mut copy, now);
        while let Some(event) = self
            .reader
            .poll_event(endpoint, &mut input, &mut Vec::new())
        {
            match event {
                Event::Message(message) => self.echoes.push(message.payload().to_vec()),
                Event::Ping(_) | Event::Pong(_) => {}
            }
        }
        let mut out = Vec::new();
        let mut input = protocol.receive(&mut bytes, now);
        while protocol
            .poll_event(endpoint, &mut input, &mut out)
            .is_some()
        {}
        if !out.is_empty() {
            self.last_sent = now;
            network.send(self.id, &out);
        }
        if self.end.is_none() {
            self.end = protocol.poll_disconnect();
        }
        match protocol.poll_transmit() {
            Transmit::Nothing | Transmit::Finish | Transmit::Release => {}
            Transmit::Reset => network.reset(self.id),
        }
    }
}
