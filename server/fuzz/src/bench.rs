//! A shard, its network, and the clients.

use std::{rc::Rc, time::Duration};

use tidewheel::{
    Cause, CloseCode, Config, Handler, Remote, SlowConsumer, Time,
    ring::{
        Wait,
        sim::{ClientId, Network, SimRing},
    },
    shard::{Capacity, End, Heaviest, Next, Parts, Shard},
};
use tidewheel_codec::{Endpoint, Role, deflate::wire_size_max, handshake::ClientRequest};

use super::{
    Outcome,
    application::{Application, Record, path},
    client::{Client, Phase, frame},
    input::{Act, CLIENTS, Connect, Setup},
};

/// Bytes that all clients of a run send, beside requests.
const INPUT_MAX: usize = 64 << 10;

/// Turns that a shard takes without waiting, and without the passing of time.
const IDLE_TURNS_MAX: usize = 20_000;

/// Long enough that everything arrives that is under way, and all accepts have had their turn.
const SETTLE_TIME: Duration = Duration::from_secs(3);

/// Every run goes on for so long beyond the sum of its deadlines.
const SLACK: Duration = Duration::from_secs(1);

/// Submits what the shard has queued, and waits; not forever, because operations that take time may
/// have taken it until after the bench wanted to act.
fn enter<H: Handler>(shard: &mut Shard<SimRing, H>, wait: Wait) {
    let wait = match wait {
        Wait::Forever => Wait::For(SLACK),
        Wait::No | Wait::For(_) => wait,
    };
    shard.enter(wait).expect("a simulated ring does not fail");
}

/// Everything together.
pub(crate) struct Bench {
    shard: Shard<SimRing, Application>,
    network: Network,
    record: Rc<Record>,
    clients: [Option<Client>; CLIENTS],
    /// Bytes have reached them since they last read.
    reached: [bool; CLIENTS],
    client_endpoint: Endpoint,
    remote: Remote,
    config: Config,
    sockets: u32,
    /// Operations take no time, so that deadlines of clients hold.
    is_prompt: bool,
    /// Bytes that clients may still send.
    input_left: usize,
    is_draining: bool,
    is_finished: bool,
    /// Turns since time has last passed.
    idle_turns: usize,
}

impl Bench {
    pub(crate) fn new(setup: Setup) -> Self {
        let Setup {
            simulation,
            config,
            connections,
            ending: _,
        } = setup;
        let ring = SimRing::new(simulation).expect("memory for a few buffers");
        let network = ring.network();
        let capacity = Capacity {
            places: simulation.sockets,
            connections,
        };
        let parts = Parts::alone(capacity, &config);
        let remote = parts.remote();
        let record = Rc::new(Record::default());
        let handler = Application {
            record: Rc::clone(&record),
            unsent_max: config.max_send_queue,
        };
        let endpoint = Endpoint::with_seed(config.protocol(), simulation.seed);
        let endpoint = endpoint.expect("it is valid");
        let shard = Shard::new(ring, handler, &config, endpoint, parts, network.now())
            .expect("it is valid");
        let mut client = tidewheel_codec::Config::new(Role::Client);
        client.ping_interval = None;
        client.deflate.clone_from(&config.compression);
        let client_endpoint = Endpoint::with_seed(client, simulation.seed).expect("it is valid");
        Self {
            shard,
            network,
            record,
            clients: [const { None }; CLIENTS],
            reached: [false; CLIENTS],
            client_endpoint,
            remote,
            config,
            sockets: simulation.sockets,
            is_prompt: simulation.operation_ms == 0,
            input_left: INPUT_MAX,
            is_draining: false,
            is_finished: false,
            idle_turns: 0,
        }
    }

    /// Takes turns until `until`; clients read and answer whenever the shard has entered.
    fn run(&mut self, until: Time, is_done: impl Fn(&Self) -> bool) {
        self.network.wake_at(until);
        while !self.is_finished && self.network.now() < until && !is_done(self) {
            let now = self.network.now();
            match self.shard.turn(now) {
                Next::Finished => self.is_finished = true,
                Next::Enter(wait) => enter(&mut self.shard, wait),
            }
            self.idle_turns = if self.network.now() == now {
                self.idle_turns + 1
            } else {
                0
            };
            assert!(self.idle_turns < IDLE_TURNS_MAX, "the shard comes to rest");
            for id in self.network.reached() {
                if let Some(index) = self.index_of(id) {
                    self.reached[index] = true;
                }
            }
            self.read();
        }
    }

    fn run_for(&mut self, span: Duration) {
        self.run(self.network.now() + span, |_| false);
    }

    fn index_of(&self, id: ClientId) -> Option<usize> {
        let is_it = |client: &Option<Client>| client.as_ref().is_some_and(|it| it.id == id);
        self.clients.iter().position(is_it)
    }

    /// Lets all clients read that do.
    fn read(&mut self) {
        let now = self.network.now();
        for (client, reached) in self.clients.iter_mut().zip(&mut self.reached) {
            if let Some(client) = client
                && client.is_reading
                && std::mem::take(reached)
            {
                client.read(&mut self.client_endpoint, &self.network, now);
            }
        }
    }

    /// Whether clients may send so many bytes more.
    fn may_send(&mut self, bytes: usize) -> bool {
        let left = self.input_left.checked_sub(bytes);
        self.input_left = left.unwrap_or(self.input_left);
        left.is_some()
    }

    /// Does what the input says.
    pub(crate) fn act(&mut self, index: usize, act: Act<'_>) {
        match act {
            Act::Connect { options, habits } => self.connect(index, options, habits),
            Act::ConnectRaw { bytes } => self.connect_raw(index, bytes),
            Act::Remote { what, argument } => self.act_remotely(what, argument),
            Act::Pass { time } => {
                self.run_for(Duration::from_millis(Act::pass_ms(time)));
                self.check_memory();
            }
            _ => self.act_as_client(index, act),
        }
    }

    fn connect(&mut self, index: usize, options: u8, habits: u8) {
        if self.clients[index].is_some() {
            return;
        }
        let nonce = self.client_endpoint.handshake_nonce();
        let mut request = ClientRequest::new("sim", path(index, habits), nonce);
        if options & Connect::DEFLATES != 0
            && let Some(offer) = self.client_endpoint.offer_deflate()
        {
            request = request.with_extension(offer);
        }
        let mut bytes = Vec::new();
        request.write(&mut bytes);
        let id = self.network.connect();
        let head = Vec::new();
        let mut client = Client::new(id, index, Phase::Handshake { head, request });
        client.is_disturbed = habits != 0;
        client.send(&bytes, &self.network);
        if options & Connect::HASTENS != 0 {
            client.hasten(&self.network);
        }
        self.clients[index] = Some(client);
        if options & Connect::WAITS != 0 {
            let until = self.network.now() + Duration::from_millis(30);
            self.run(until, |bench| {
                bench.clients[index].as_ref().is_some_and(Client::is_open)
            });
        }
    }

    fn connect_raw(&mut self, index: usize, bytes: &[u8]) {
        if self.clients[index].is_some() {
            return;
        }
        let mut client = Client::new(self.network.connect(), index, Phase::Ignoring);
        client.is_disturbed = true;
        client.is_raw = true;
        client.send(bytes, &self.network);
        self.clients[index] = Some(client);
    }

    fn act_as_client(&mut self, index: usize, act: Act<'_>) {
        let now = self.network.now();
        let length_max = self.config.max_message_size;
        let sent = match act {
            Act::Echo { length, .. } => usize::from(length),
            // Each frame has a header, and a Ping in front of it.
            Act::Fragments { length, .. } => usize::from(length) * 21,
            Act::Burst { count, length } => (usize::from(count) + 1) * (usize::from(length) + 8),
            Act::Command { length, .. } | Act::Frame { length, .. } => usize::from(length),
            _ => 0,
        };
        let may_send = self.may_send(sent);
        let Some(client) = &mut self.clients[index] else {
            return;
        };
        if !may_send {
            return;
        }
        let (endpoint, network) = (&mut self.client_endpoint, &self.network);
        match act {
            Act::Echo { length, is_text } => {
                let lengths = std::iter::once(usize::from(length).min(length_max));
                client.echo(lengths, is_text, endpoint, network);
            }
            Act::Fragments { length, frame_size } => {
                let frame_size = usize::from(frame_size % 16) + 1;
                let length = usize::from(length).min(length_max);
                client.echo_in_frames(length, frame_size, network);
            }
            Act::Burst { count, length } => {
                let length = usize::from(length).min(length_max);
                let lengths = std::iter::repeat_n(length, usize::from(count) + 1);
                client.echo(lengths, false, endpoint, network);
            }
            Act::Command {
                letter,
                argument,
                length,
            } => {
                let mut message = vec![letter, argument];
                message.resize(usize::from(length).clamp(2, length_max), b'.');
                // A subscription may be too much for the client; the other commands may end its connection.
                client.is_disturbed |= !matches!(letter, b'p' | b'o' | b'u' | b'g');
                client.say(&message, endpoint, network);
            }
            Act::Raw { piece, bytes } => {
                client.is_disturbed = true;
                client.is_raw = true;
                match usize::from(piece) {
                    0 => client.send(bytes, network),
                    size => bytes.chunks(size).for_each(|it| client.send(it, network)),
                }
            }
            Act::Frame { first, length } => {
                client.is_disturbed = true;
                client.is_raw = true;
                let payload = vec![first | 0x20; usize::from(length)];
                let mut out = Vec::new();
                frame(first, &payload, &mut out);
                client.send(&out, network);
            }
            Act::Finish => {
                client.is_disturbed = true;
                client.finish(network);
            }
            Act::Reset => {
                client.is_disturbed = true;
                client.reset(network);
            }
            Act::Vanish => {
                client.is_disturbed = true;
                network.vanish(client.id);
            }
            Act::Read { is_reading } => {
                client.is_disturbed |= !is_reading;
                client.is_reading = is_reading;
                self.read();
            }
            Act::Close => client.close(endpoint, network, now),
            Act::Ping { length } => {
                client.ping(&vec![b'.'; usize::from(length % 126)], endpoint, network);
            }
            Act::Connect { .. }
            | Act::ConnectRaw { .. }
            | Act::Remote { .. }
            | Act::Pass { .. } => {}
        }
    }

    /// Another thread publishes, sends or closes; or, seldom, drains.
    fn act_remotely(&mut self, what: u8, argument: u8) {
        let visits = self.record.visits.borrow();
        let whom = visits.get(usize::from(argument) % visits.len().max(1));
        let whom = whom.map(|visit| (visit.id, visit.client));
        drop(visits);
        let message = vec![b'r'; usize::from(argument) * 16];
        match (what, whom) {
            (0..80, _) => {
                let topic = ["a", "a/b", "kept/x", ""][usize::from(argument) % 4];
                let _ = self.remote.publish(topic, &message[..]);
            }
            (80..160, Some((id, client))) => {
                self.disturb(client);
                let _ = self.remote.send(id, &message[..]);
            }
            (160..240, Some((id, client))) => {
                self.disturb(client);
                let code = CloseCode(if argument < 250 { 4000 } else { 1006 });
                let _ = self.remote.close(id, code, "from outside");
            }
            (240.., _) => {
                self.is_draining = true;
                self.remote.drain();
            }
            (_, None) => {}
        }
    }

    fn disturb(&mut self, client: Option<usize>) {
        if let Some(client) = client.and_then(|index| self.clients.get_mut(index)?.as_mut()) {
            client.is_disturbed = true;
        }
    }

    /// No connection keeps more than the limits allow.
    fn check_memory(&self) {
        let Heaviest {
            queue: _,
            unread,
            assembly,
        } = self.shard.heaviest();
        let receive_memory =
            usize::from(self.config.receive_buffers) * self.config.receive_buffer_size as usize;
        assert!(unread <= receive_memory, "{unread} bytes unread");
        let arriving = 2 * wire_size_max(self.config.max_message_size) + 1024;
        assert!(assembly <= arriving, "{assembly} bytes of a message");
    }

    /// All clients go, every deadline passes, and the shard drains.
    pub(crate) fn end_quietly(mut self) -> Outcome {
        self.run_for(SETTLE_TIME);
        self.check_memory();
        self.check_echoes();
        if !self.is_draining {
            self.check_undisturbed();
        }
        self.dismiss();
        // A client that has vanished is never missed without keepalive.
        let is_kept_alive = self.config.ping_interval.and(self.config.ping_timeout);
        if is_kept_alive.is_none() {
            self.remote.drain();
        }
        let longest = self.longest();
        self.run_for(longest);
        self.check_echoes();
        self.check_nothing_is_left();
        if !self.is_finished {
            self.remote.drain();
            self.run_for(SLACK);
        }
        assert!(
            self.is_finished,
            "a shard without connections drains at once"
        );
        self.check_nothing_is_left();
        let (now, outcome) = (self.network.now(), self.outcome());
        let Self { shard, record, .. } = self;
        shard.end(&End::Finished, now);
        check_record(&record);
        outcome
    }

    /// The ring fails, now.
    pub(crate) fn fail_ring(self) -> Outcome {
        self.check_echoes();
        let (now, outcome) = (self.network.now(), self.outcome());
        let Self { shard, record, .. } = self;
        shard.end(&End::RingFailed, now);
        check_record(&record);
        outcome
    }

    fn outcome(&self) -> Outcome {
        let clients = self.clients.iter().flatten();
        Outcome {
            connections: self.record.visits.borrow().len(),
            echoes: clients.map(|client| client.echoes.len()).sum(),
            deliveries: self.shard.deliveries(),
            missed: self.record.missed.get(),
        }
    }

    /// Each client ends its connection in some way, or falls silent; all read.
    fn dismiss(&mut self) {
        let now = self.network.now();
        for (index, client) in self.clients.iter_mut().enumerate() {
            let Some(client) = client else {
                continue;
            };
            match (index + self.sockets as usize) % 4 {
                0 => client.finish(&self.network),
                1 => client.reset(&self.network),
                2 => self.network.vanish(client.id),
                _ if client.is_open() => {
                    client.close(&mut self.client_endpoint, &self.network, now);
                    client.is_reading = true;
                }
                _ => client.finish(&self.network),
            }
        }
        self.read();
    }

    /// The time after which no client is left that goes now.
    fn longest(&self) -> Duration {
        let config = &self.config;
        let one = config.handshake_timeout
            + config.ping_interval.unwrap_or_default()
            + config.ping_timeout.unwrap_or_default()
            // For the handshake and for the peer's FIN.
            + 2 * config.close_timeout;
        // Those that have found no place come in when others have gone.
        let waves = CLIENTS as u32 / self.sockets + 1;
        let slow = if self.is_prompt {
            Duration::ZERO
        } else {
            20 * SLACK
        };
        one * waves + 2 * SLACK + slow
    }

    /// Echoes come in order, and nothing comes that is not valid.
    fn check_echoes(&self) {
        let drops = match self.config.slow_consumer {
            SlowConsumer::Close | SlowConsumer::CloseTryAgain => false,
            SlowConsumer::DropOldest | SlowConsumer::Conflate | SlowConsumer::DropNewest => true,
        };
        for client in self.clients.iter().flatten() {
            if let Some(end) = &client.end {
                let is_valid = !matches!(end.cause, Cause::ProtocolError(_) | Cause::TooBig);
                assert!(is_valid, "the server sent: {end:?}");
            }
            if client.is_raw {
                continue;
            }
            let Client { said, echoes, .. } = client;
            if drops {
                let mut said = said.iter();
                let is_said = echoes.iter().all(|echo| said.any(|it| it == echo));
                assert!(is_said, "echoes in order");
            } else {
                assert!(said.starts_with(echoes), "echoes in order, and no gap");
            }
        }
    }

    /// Clients that did nothing but send messages, and read, are still there, or were closed for a
    /// reason that the configuration gives; and they got all echoes.
    fn check_undisturbed(&self) {
        let visits = self.record.visits.borrow();
        for (index, client) in self.clients.iter().enumerate() {
            let Some(client) = client.as_ref().filter(|client| !client.is_disturbed) else {
                continue;
            };
            let mut own = visits.iter().filter(|visit| visit.client == Some(index));
            // Bytes that another has sent may look like this client's request.
            let (Some(visit), None, true) = (own.next(), own.next(), self.is_prompt) else {
                continue;
            };
            let is_allowed = |cause: Cause| match cause {
                Cause::PeerClose => client.closes,
                Cause::IdleTimeout => self.config.idle_timeout.is_some(),
                Cause::Lifetime => self.config.max_lifetime.is_some(),
                Cause::MessageRate => self.config.max_message_rate.is_some(),
                Cause::LocalClose
                | Cause::PingTimeout
                | Cause::EofWithoutClose
                | Cause::Reset
                | Cause::ProtocolError(_)
                | Cause::TooBig
                | Cause::SlowConsumer
                | Cause::CloseTimeout
                | Cause::Shutdown
                | Cause::HandlerPanic => false,
            };
            for end in &visit.ends {
                assert!(is_allowed(end.cause), "client {index} was closed: {end:?}");
            }
            if visit.ends.is_empty() {
                assert!(
                    client.is_open(),
                    "client {index} has ended: {:?}",
                    client.end
                );
                let (said, echoes) = (client.said.len(), client.echoes.len());
                assert_eq!(said, echoes, "echoes to client {index}");
            }
        }
    }

    fn check_nothing_is_left(&self) {
        let left = self.shard.holdings();
        assert_eq!(left.connections, 0, "every deadline is over");
        if !self.is_finished {
            // A shard that has ended does not wait for what has been superseded, and does not read what
            // was published since: `Shard::end` drops it.
            assert_eq!(left.wheel_entries, 0, "timers");
            assert_eq!(left.fanout_bytes, 0, "bytes to fan out");
        }
        assert_eq!(left.subscriptions, 0, "subscriptions");
        assert_eq!(left.queued_bytes, 0, "queued bytes");
        assert_eq!(self.shard.heaviest(), Heaviest::default());
        assert_eq!(self.network.open_sockets(), 0, "descriptors");
        assert_eq!(self.network.dropped_clients(), 0, "clients dropped");
        let buffers = usize::from(self.config.receive_buffers);
        assert_eq!(self.network.buffers_free(), buffers, "receive buffers");
        check_record(&self.record);
    }
}

/// Every connection that was opened has ended, once.
fn check_record(record: &Record) {
    for visit in record.visits.borrow().iter() {
        let counts = (visit.opens, visit.ends.len());
        assert_eq!(counts, (1, 1), "opens and ends of {}: {visit:?}", visit.id);
    }
    assert_eq!(record.unexpected_panics.get(), 0, "panics in callbacks");
}
