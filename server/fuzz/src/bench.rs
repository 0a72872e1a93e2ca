//! A shard, its simulated network, and the clients.

mod invariants;

use std::{rc::Rc, time::Duration};

use tidewheel::{
    Answer, CloseCode, Config, Conn, ConnectionId, Remote, RemoteError, Time,
    ring::{
        Wait,
        sim::{ClientId, Network, SimRing},
    },
    shard::{Capacity, End, Next, Parts, Shard},
};
use tidewheel_codec::{Endpoint, Role, handshake::ClientRequest};

use self::invariants::{check_answers, check_nothing_captured, check_record};
use super::{
    Outcome,
    application::{Application, path},
    client::{Client, Phase, frame},
    input::{Action, CLIENTS, Connect, Setup},
    later::Step,
    record::{Record, count},
    task::Course,
};

/// Maximum number of bytes that the clients of a run send, beside requests.
const INPUT_BYTES_MAX: usize = 64 << 10;

/// Maximum number of successive turns at the same time.
const TURNS_WITHOUT_TIME_MAX: usize = 20_000;

/// Time in which all segments under way arrive, and all clients are accepted. It exceeds the sum of the largest ping
/// interval, ping timeout and close timeout: a publisher may have to wait until a vanished subscriber is released.
const SETTLE_TIME: Duration = Duration::from_secs(4);

/// Time in which all tasks have finished that ever finish.
const TASKS_TIME: Duration = Duration::from_secs(600);

/// Time that a run continues after the sum of its deadlines.
const SLACK: Duration = Duration::from_secs(1);

/// A shard on a simulated ring, its clients, and its record.
pub(crate) struct Bench {
    shard: Shard<SimRing, Application>,
    network: Network,
    record: Rc<Record>,
    clients: [Option<Client>; CLIENTS],
    /// Whether segments have reached each client since it last read.
    has_unread: [bool; CLIENTS],
    client_endpoint: Endpoint,
    remote: Remote<Application>,
    /// The results of the closures of other threads.
    answers: Vec<Answer<()>>,
    config: Config,
    sockets: u32,
    /// Whether operations take no time, so that clients answer before their deadlines.
    operations_take_no_time: bool,
    /// Number of bytes that clients may still send.
    input_bytes_left: usize,
    is_draining: bool,
    is_finished: bool,
    /// Number of turns since time last advanced.
    turns_without_time: usize,
}

impl Bench {
    pub(crate) fn new(setup: Setup) -> Self {
        let Setup {
            simulation,
            config,
            connections,
            ending: _,
        } = setup;
        let ring = SimRing::new(simulation).expect("there is memory for the buffers");
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
            tasks_max: config.max_tasks_per_connection as usize,
            is_punctual: simulation.operation_ms == 0,
        };
        let endpoint = Endpoint::with_seed(config.protocol(), simulation.seed);
        let endpoint = endpoint.expect("the configuration is valid");
        let shard = Shard::new(ring, handler, &config, endpoint, parts, network.now())
            .expect("the configuration is valid");
        let mut client = tidewheel_codec::Config::new(Role::Client);
        client.ping_interval = None;
        client.deflate.clone_from(&config.compression);
        let client_endpoint =
            Endpoint::with_seed(client, simulation.seed).expect("the configuration is valid");
        Self {
            shard,
            network,
            record,
            clients: [const { None }; CLIENTS],
            has_unread: [false; CLIENTS],
            client_endpoint,
            remote,
            answers: Vec::new(),
            config,
            sockets: simulation.sockets,
            operations_take_no_time: simulation.operation_ms == 0,
            input_bytes_left: INPUT_BYTES_MAX,
            is_draining: false,
            is_finished: false,
            turns_without_time: 0,
        }
    }

    /// Runs the shard until `until`, or until `is_done` returns true; clients read after each enter.
    fn run(&mut self, until: Time, is_done: impl Fn(&Self) -> bool) {
        self.network.wake_at(until);
        while !self.is_finished && self.network.now() < until && !is_done(self) {
            let now = self.network.now();
            self.record.set_now(now);
            self.shard.poll_tasks();
            match self.shard.turn(now) {
                Next::Finished => self.is_finished = true,
                Next::Enter(wait) => self.enter(wait),
            }
            self.turns_without_time = if self.network.now() == now {
                self.turns_without_time + 1
            } else {
                0
            };
            assert!(
                self.turns_without_time < TURNS_WITHOUT_TIME_MAX,
                "the shard waits when it has no work"
            );
            for id in self.network.take_reached() {
                if let Some(index) = self.index_of(id) {
                    self.has_unread[index] = true;
                }
            }
            self.read();
            self.check_step();
        }
    }

    /// Lets the tasks run, and enters the ring.
    fn enter(&mut self, wait: Wait) {
        let wait = if self.shard.poll_tasks() {
            Wait::No
        } else {
            // Limited, because slow operations may have advanced the time beyond the alarm of the network.
            let limit = self.record.next_in().unwrap_or(SLACK);
            match wait {
                Wait::No => Wait::No,
                Wait::For(time) => Wait::For(time.min(limit)),
                Wait::Forever => Wait::For(limit),
            }
        };
        let entered = self.shard.enter(wait);
        entered.expect("a simulated ring does not fail");
    }

    fn run_for(&mut self, span: Duration) {
        self.run(self.network.now() + span, |_| false);
    }

    fn index_of(&self, id: ClientId) -> Option<usize> {
        let is_it = |client: &Option<Client>| client.as_ref().is_some_and(|it| it.id == id);
        self.clients.iter().position(is_it)
    }

    /// Lets all clients that have not stopped reading read.
    fn read(&mut self) {
        let now = self.network.now();
        for (client, reached) in self.clients.iter_mut().zip(&mut self.has_unread) {
            if let Some(client) = client
                && client.is_reading
                && std::mem::take(reached)
            {
                client.read(&mut self.client_endpoint, &self.network, now);
            }
        }
    }

    /// Counts `bytes` of input, unless that exceeds the limit; returns whether they may be sent.
    fn take_quota(&mut self, bytes: usize) -> bool {
        let left = self.input_bytes_left.checked_sub(bytes);
        self.input_bytes_left = left.unwrap_or(self.input_bytes_left);
        left.is_some()
    }

    /// Carries out an action.
    pub(crate) fn act(&mut self, index: usize, action: Action<'_>) {
        match action {
            Action::Connect { options, behavior } => self.connect(index, options, behavior),
            Action::ConnectRaw { bytes } => self.connect_raw(index, bytes),
            Action::Remote { what, argument } => self.act_remotely(what, argument),
            Action::Http {
                options,
                behavior,
                length,
            } => self.request(index, options, behavior, usize::from(length)),
            Action::Pass { time } => {
                self.run_for(Duration::from_millis(Action::pass_ms(time)));
                self.check_memory();
            }
            _ => self.act_as_client(index, action),
        }
    }

    fn connect(&mut self, index: usize, options: u8, behavior: u8) {
        if self.clients[index].is_some() {
            return;
        }
        let later = Connect::later_number(options);
        let nonce = self.client_endpoint.handshake_nonce();
        let mut request = ClientRequest::new("sim", path(index, behavior, later), nonce);
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
        let is_answered = later == 0 || Course::from_bits(later - 1).ends();
        client.is_disturbed = behavior != 0 || !is_answered;
        client.send(&bytes, &self.network);
        if options & Connect::SENDS_EARLY != 0 {
            client.send_early(&self.network);
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
        client.send_raw(bytes, &self.network);
        self.clients[index] = Some(client);
    }

    /// Sends an HTTP request.
    fn request(&mut self, index: usize, options: u8, behavior: u8, length: usize) {
        if self.clients[index].is_some() {
            return;
        }
        let method = ["GET", "POST", "HEAD", "POST"][usize::from(options & 3)];
        let path = path(index, behavior, Connect::later_number(options));
        let body = if method == "POST" { length } else { 0 };
        let head =
            format!("{method} {path} HTTP/1.1\r\nHost: sim\r\nContent-Length: {body}\r\n\r\n");
        let id = self.network.connect();
        let client = Client::new(id, index, Phase::Http(Vec::new()));
        client.send(head.as_bytes(), &self.network);
        client.send(&vec![b'.'; body], &self.network);
        self.clients[index] = Some(client);
    }

    fn act_as_client(&mut self, index: usize, action: Action<'_>) {
        let now = self.network.now();
        let length_max = self.config.max_message_size;
        let is_within_limit = self.take_quota(action.client_bytes());
        let Some(client) = &mut self.clients[index] else {
            return;
        };
        if !is_within_limit {
            return;
        }
        let (endpoint, network) = (&mut self.client_endpoint, &self.network);
        match action {
            Action::Echo { length, is_text } => {
                let lengths = std::iter::once(usize::from(length).min(length_max));
                client.echo(lengths, is_text, endpoint, network);
            }
            Action::Fragments { length, frame_size } => {
                let frame_size = usize::from(frame_size % 16) + 1;
                let length = usize::from(length).min(length_max);
                client.echo_in_frames(length, frame_size, network);
            }
            Action::Burst { count, length } => {
                let length = usize::from(length).min(length_max);
                let lengths = std::iter::repeat_n(length, usize::from(count) + 1);
                client.echo(lengths, false, endpoint, network);
            }
            Action::Command {
                letter,
                argument,
                length,
            } => {
                let length = usize::from(length).clamp(2, length_max);
                client.command([letter, argument], length, endpoint, network);
            }
            Action::Raw { piece, bytes } => match usize::from(piece) {
                0 => client.send_raw(bytes, network),
                size => bytes
                    .chunks(size)
                    .for_each(|it| client.send_raw(it, network)),
            },
            Action::Frame { first, length } => {
                let payload = vec![first | 0x20; usize::from(length)];
                let mut out = Vec::new();
                frame(first, &payload, &mut out);
                client.send_raw(&out, network);
            }
            Action::Finish => {
                client.is_disturbed = true;
                client.finish(network);
            }
            Action::Reset => {
                client.is_disturbed = true;
                client.reset(network);
            }
            Action::Vanish => {
                client.is_disturbed = true;
                client.vanished = client.vanished.or(Some(now));
                network.vanish(client.id);
            }
            Action::Read { is_reading } => {
                client.is_disturbed |= !is_reading;
                client.is_reading = is_reading;
                self.read();
            }
            Action::Close => client.close(endpoint, network, now),
            Action::Ping { length } => {
                client.ping(&vec![b'.'; usize::from(length % 126)], endpoint, network);
            }
            Action::Connect { .. }
            | Action::ConnectRaw { .. }
            | Action::Remote { .. }
            | Action::Http { .. }
            | Action::Pass { .. } => {}
        }
    }

    /// Another thread publishes, calls a closure, sends, closes or drains.
    fn act_remotely(&mut self, what: u8, argument: u8) {
        let connections = self.record.connections.borrow();
        let target = connections.get(usize::from(argument) % connections.len().max(1));
        let target = target.map(|connection| (connection.id, connection.client));
        drop(connections);
        let message = vec![b'r'; usize::from(argument) * 16];
        match (what, target) {
            (0..40, _) => {
                let topic = ["a", "a/b", "kept/x", ""][usize::from(argument) % 4];
                let _ = self.remote.publish(topic, &message[..]);
            }
            (40..80, Some((id, client))) => {
                let step = Step::from_bits(what);
                if step != Step::Nothing {
                    self.mark_disturbed(client);
                }
                self.call(id, move |app, conn| {
                    count(&app.record.calls);
                    app.take_step(conn, step, 0);
                });
            }
            (40..80, None) => self.call_nobody(argument),
            (80..160, Some((id, client))) => {
                self.mark_disturbed(client);
                let _ = self.remote.send(id, &message[..]);
            }
            (160..240, Some((id, client))) => {
                self.mark_disturbed(client);
                let code = CloseCode(if argument < 250 { 4000 } else { 1006 });
                let _ = self.remote.close(id, code, "by another thread");
            }
            (240.., _) => {
                self.is_draining = true;
                self.remote.drain(self.config.close_timeout);
            }
            (_, None) => {}
        }
    }

    /// Another thread calls a closure with the connection of an id, if it is open.
    fn call(
        &mut self,
        id: ConnectionId,
        call: impl FnOnce(&Application, &mut Conn<'_, Application>) + Send + 'static,
    ) {
        let answer = self.remote.with(id, move |app: &mut Application, conn| {
            let record = Rc::clone(&app.record);
            record.watch(|| {
                assert_eq!(conn.id(), id, "the connection of the call");
                conn.state().check_may_be_called();
                assert!(conn.is_open(), "the connection is open");
                call(app, conn);
            });
        });
        // The shard may be busy.
        self.answers.extend(answer);
    }

    /// Calls a closure with the connection of an id that no connection has.
    fn call_nobody(&self, argument: u8) {
        let (shard, slot) = (u16::from(argument % 2), u32::from(argument / 2 % 32));
        let id = ConnectionId::of(shard, slot, 1 << 23);
        let answer = self
            .remote
            .with(id, |_, _| unreachable!("no connection has this id"));
        let is_gone = matches!(answer, Err(RemoteError::Gone));
        assert_eq!(is_gone, shard > 0, "the shard of {id}");
    }

    fn mark_disturbed(&mut self, client: Option<usize>) {
        if let Some(client) = client.and_then(|index| self.clients.get_mut(index)?.as_mut()) {
            client.is_disturbed = true;
        }
    }

    /// Ends all clients, waits for every deadline, and drains the shard.
    pub(crate) fn end_quietly(mut self) -> Outcome {
        self.run_for(SETTLE_TIME);
        // Tasks in order may take longer together.
        self.run(self.network.now() + TASKS_TIME, |bench| {
            !bench.record.has_sleepers()
        });
        let connections = self.record.connections.borrow();
        let ids: Vec<ConnectionId> = connections.iter().map(|it| it.id).collect();
        drop(connections);
        for id in ids {
            self.call(id, Application::check_no_timer_is_missing);
        }
        self.run_for(SLACK);
        self.check_memory();
        self.check_echoes();
        if !self.is_draining {
            self.check_undisturbed();
        }
        self.end_all();
        // Without keepalive, the shard does not detect vanished clients.
        let is_kept_alive = self.config.ping_interval.and(self.config.ping_timeout);
        // Nor does it detect the end of a client behind messages that wait for a task that never ends.
        let mut clients = self.clients.iter().flatten();
        let may_wait = clients.any(|it| it.has_endless_task || it.has_sent_raw_bytes);
        if is_kept_alive.is_none() || may_wait {
            self.remote.drain(self.config.close_timeout);
        }
        let deadlines_total = self.deadlines_total();
        self.run_for(deadlines_total);
        self.check_echoes();
        self.check_nothing_is_left();
        if !self.is_finished {
            self.remote.drain(self.config.close_timeout);
            self.run_for(SLACK);
        }
        assert!(
            self.is_finished,
            "a shard without connections drains at once"
        );
        self.check_nothing_is_left();
        let (now, outcome) = (self.network.now(), self.outcome());
        let Self {
            shard,
            record,
            answers,
            ..
        } = self;
        shard.end(&End::Finished, now);
        check_record(&record);
        check_answers(answers);
        check_nothing_captured(&record);
        outcome
    }

    /// Ends the shard as after a failure of the ring.
    pub(crate) fn fail_ring(self) -> Outcome {
        self.check_echoes();
        let (now, outcome) = (self.network.now(), self.outcome());
        let Self {
            shard,
            record,
            answers,
            ..
        } = self;
        shard.end(&End::RingFailed, now);
        check_record(&record);
        check_answers(answers);
        check_nothing_captured(&record);
        outcome
    }

    fn outcome(&self) -> Outcome {
        let (clients, record) = (self.clients.iter().flatten(), &self.record);
        let is_answered = |client: &&Client| matches!(client.phase, Phase::Answered(_));
        Outcome {
            connections: record.connections.borrow().len(),
            echoes: clients.clone().map(|client| client.echoes.len()).sum(),
            deliveries: self.shard.deliveries(),
            missed: record.missed.get(),
            tasks: record.tasks.get(),
            timers: record.timers.get(),
            calls: record.calls.get(),
            responses: clients.filter(is_answered).count(),
        }
    }

    /// Ends each client by FIN, RST, Close or silence.
    fn end_all(&mut self) {
        let now = self.network.now();
        for (index, client) in self.clients.iter_mut().enumerate() {
            let Some(client) = client else {
                continue;
            };
            client.is_disturbed = true;
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

    /// The time after which all clients that end now are gone.
    fn deadlines_total(&self) -> Duration {
        let config = &self.config;
        let one = config.handshake_timeout
            + config.ping_interval.unwrap_or_default()
            + config.ping_timeout.unwrap_or_default()
            // For the closing handshake, the peer's FIN, and the tasks of connections that have ended.
            + 3 * config.close_timeout;
        // Clients in the backlog are accepted when others have ended.
        let rounds = CLIENTS as u32 / self.sockets + 1;
        let slow = if self.operations_take_no_time {
            Duration::ZERO
        } else {
            20 * SLACK
        };
        one * rounds + 2 * SLACK + slow
    }
}
