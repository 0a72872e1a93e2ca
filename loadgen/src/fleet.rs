//! WebSocket clients: any number of them on one thread, on one or more rings.

mod client;
mod completion;
mod encryption;
pub(crate) mod event;
pub(crate) mod fingerprint;
pub(crate) mod outcome;
pub(crate) mod request;
pub(crate) mod target;
mod termination;
mod tls_sessions;
mod unread;

use std::{io, time::Duration};

use rustix::io::Errno;
use tidewheel::ring::{Completion, Op, OpCode, RingError, Setup, Socket, Wait};
use tidewheel_codec::{Config, Endpoint, Role};

use crate::{
    fleet::{
        client::{Client, State, UnderWay, token},
        event::{Event, Opening, Payload},
        fingerprint::Fingerprint,
        target::Target,
        tls_sessions::TlsSessions,
        unread::{Arrival, RingTurn, UnreadMeter},
    },
    measure::{
        clock::{Clock, Moment},
        latency::Latency,
    },
    tls::Tls,
    wire::{Sending, Wire},
};

/// Bounds of the size of a receive buffer, in bytes. The smallest holds the response to a handshake, or
/// a small message.
const BUFFER_BYTES_MIN: u32 = 1024;
const BUFFER_BYTES_MAX: u32 = 64 * 1024;

/// Further bytes of a receive buffer, for the header of a frame.
const HEADER_BYTES: u32 = 64;

/// Bytes of all receive buffers of a ring: of the only ring, and of each of several.
const SINGLE_RING_BUFFER_BYTES: u32 = 2 << 20;
const RING_BUFFER_BYTES: u32 = 256 << 10;

/// Longest wait in a round of several rings. A round waits only if the round before it was idle: no
/// request was made, and fewer than `IDLE_COMPLETIONS_MAX` operations completed.
const ROUND_WAIT_MAX: Duration = Duration::from_micros(500);
const IDLE_COMPLETIONS_MAX: usize = 64;

/// WebSocket clients `0..capacity`, each with a direct descriptor.
#[derive(Debug)]
pub(crate) struct Fleet {
    wires: Vec<Wire>,
    /// Number of clients of each ring.
    ring_capacity: u32,
    /// Index of the ring that the next turn is about.
    next: usize,
    /// Completions in this round of the rings.
    completed: usize,
    /// Whether a request was made in this round of the rings.
    requested: bool,
    endpoint: Endpoint,
    target: &'static Target,
    /// TLS between `output` and the wires, for a `wss://` URL.
    tls: Option<TlsSessions>,
    clients: Vec<Client>,
    /// Bytes that a client is to send, until the next flush.
    output: Vec<u8>,
    /// The client of the bytes in `output`.
    output_client: Option<u32>,
    /// Events of requests, which the next turn reports.
    early_events: Vec<Event>,
    /// Completions of a turn, except those of sends.
    completions: Vec<Completion>,
    unread_meter: UnreadMeter,
    /// Pings of the server that were answered.
    pings: u64,
    /// The fingerprint that events of received messages have.
    pub(crate) fingerprint: Fingerprint,
}

impl Fleet {
    /// Creates a fleet of up to `capacity` clients for the calling thread. Each ring has at most
    /// `ring_capacity` clients, which `RLIMIT_NOFILE` limits. Receive buffers fit messages of
    /// `message_size` bytes.
    ///
    /// # Errors
    /// Errors of io_uring_setup(2) and of the registration of buffers and descriptors.
    pub(crate) fn new(
        capacity: u32,
        ring_capacity: u32,
        target: &'static Target,
        tls: Option<Tls>,
        message_size: usize,
        seed: u64,
    ) -> Result<Self, RingError> {
        let rings = capacity.div_ceil(ring_capacity).max(1);
        let ring_capacity = capacity.div_ceil(rings).max(1);
        let is_single = rings == 1;
        let buffers = if is_single {
            SINGLE_RING_BUFFER_BYTES
        } else {
            RING_BUFFER_BYTES
        };
        let buffer_size = u32::try_from(message_size).unwrap_or(u32::MAX);
        let buffer_size = buffer_size
            .clamp(BUFFER_BYTES_MIN, BUFFER_BYTES_MAX)
            .next_power_of_two();
        let mut setup = Setup::default();
        setup.submissions = 1024;
        setup.completions = if is_single { 16 * 1024 } else { 4096 };
        setup.sockets = ring_capacity;
        setup.buffers = (buffers / buffer_size) as u16;
        setup.buffer_size = buffer_size + HEADER_BYTES;
        let mut config = Config::new(Role::Client);
        config.ping_interval = None;
        // An echo is as long as the message that was sent.
        config.max_message_size = usize::MAX >> 1;
        config.max_frame_size = usize::MAX >> 1;
        let endpoint = Endpoint::with_seed(config, seed).expect("the settings are valid");
        let wires = (0..rings).map(|_| Wire::new(&setup));
        Ok(Self {
            wires: wires.collect::<Result<_, _>>()?,
            ring_capacity,
            next: 0,
            completed: 0,
            requested: false,
            endpoint,
            target,
            tls: tls.map(|tls| TlsSessions::new(tls, capacity)),
            clients: std::iter::repeat_with(Client::absent)
                .take(capacity as usize)
                .collect(),
            output: Vec::new(),
            output_client: None,
            early_events: Vec::new(),
            completions: Vec::new(),
            unread_meter: UnreadMeter::new(rings as usize),
            pings: 0,
            fingerprint: Fingerprint::Prefix,
        })
    }

    /// Returns the number of rings; after as many turns, each client has had its turn.
    pub(crate) const fn rings(&self) -> usize {
        self.wires.len()
    }

    /// Returns the number of pings of the server that were answered so far.
    pub(crate) const fn pings(&self) -> u64 {
        self.pings
    }

    /// Returns upper bounds of the time that received bytes lay unread, since
    /// [`forget_unread`](Self::forget_unread).
    pub(crate) fn unread(&self) -> Latency {
        self.unread_meter.unread().clone()
    }

    /// Starts the measurement of [`unread`](Self::unread) anew.
    pub(crate) fn forget_unread(&mut self) {
        self.unread_meter.forget();
    }

    /// Starts to connect a client that has no socket. [`Event::Opened`] or [`Event::Connected`]
    /// follows, and then [`Event::Ended`], at the latest after [`Fleet::give_up`].
    pub(crate) fn connect(&mut self, client: u32, opening: Opening) {
        self.requested = true;
        let Client { state, under_way } = &mut self.clients[client as usize];
        assert!(matches!(state, State::Absent), "client {client} is in use");
        self.unread_meter.reset_client(client);
        *state = State::Connecting(opening);
        under_way.insert(UnderWay::CONNECT);
        let connect = Op::Connect {
            socket: self.socket(client),
            peer: self.target.address_of(client),
        };
        self.push(connect, client);
    }

    /// Sends a message, and returns whether the client is open. Consecutive messages of one client
    /// are sent by one operation.
    pub(crate) fn send_message(&mut self, client: u32, message: Payload<'_>) -> bool {
        self.requested = true;
        self.select_output(client);
        let (endpoint, out) = (&mut self.endpoint, &mut self.output);
        match &mut self.clients[client as usize].state {
            State::Live { connection, .. } => match message {
                Payload::Binary(bytes) => connection.send_binary(endpoint, bytes, out).is_ok(),
                Payload::Text(text) => connection.send_text(endpoint, text, out).is_ok(),
            },
            State::Absent
            | State::Connecting(_)
            | State::Securing(_)
            | State::Upgrading(_)
            | State::Bare
            | State::Leaving => false,
        }
    }

    /// Sends bytes as they are, whatever the state of the connection.
    pub(crate) fn send_raw(&mut self, client: u32, bytes: &[u8]) {
        self.requested = true;
        self.select_output(client);
        self.output.extend_from_slice(bytes);
    }

    /// Submits the queued operations of one ring, waits, and handles its completions. Returns the
    /// moment of all events that were added to `events`.
    ///
    /// # Errors
    /// Errors of io_uring_enter(2).
    pub(crate) fn turn(
        &mut self,
        wait: Wait,
        clock: &Clock,
        events: &mut Vec<Event>,
    ) -> io::Result<Moment> {
        events.append(&mut self.early_events);
        self.flush();
        let ring = self.next;
        let is_idle = ring == 0 && self.completed < IDLE_COMPLETIONS_MAX && !self.requested;
        if ring == 0 {
            (self.completed, self.requested) = (0, false);
        }
        let wait = match wait {
            _ if !events.is_empty() => Wait::No,
            wait if self.wires.len() == 1 => wait,
            _ if !is_idle => Wait::No,
            Wait::No => Wait::No,
            Wait::For(limit) => Wait::For(limit.min(ROUND_WAIT_MAX)),
            Wait::Forever => Wait::For(ROUND_WAIT_MAX),
        };
        let from = clock.now();
        let has_waited = wait != Wait::No && !self.wires[ring].has_news();
        self.wires[ring].enter(wait)?;
        let has_caught_up = self.wires[ring].catch_up();
        let now = clock.now();
        self.next = (ring + 1) % self.wires.len();
        // Completions of sends come first, because bytes behind a short send follow its rest.
        let mut completions = std::mem::take(&mut self.completions);
        while let Some(completion) = self.wires[ring].reap() {
            match completion.op {
                OpCode::Send | OpCode::SendAll => self.sent(&completion),
                _ => completions.push(completion),
            }
        }
        self.completed += completions.len();
        let turn = RingTurn {
            ring,
            from,
            to: now,
            has_waited,
            has_caught_up,
        };
        self.unread_meter
            .record(turn, completions.iter().filter_map(arrival));
        for completion in completions.drain(..) {
            self.complete(completion, now, events);
        }
        self.completions = completions;
        Ok(now)
    }

    /// Makes `output` the output of `client`, and sends the output of another client before.
    fn select_output(&mut self, client: u32) {
        if self.output_client != Some(client) {
            self.flush();
            self.output_client = Some(client);
        }
    }

    /// Sends the bytes in `output`.
    fn flush(&mut self) {
        let Some(client) = self.output_client.take() else {
            return;
        };
        if self.output.is_empty() && self.tls.is_none() {
            return;
        }
        let socket = self.socket(client);
        let Client { state, under_way } = &mut self.clients[client as usize];
        match state {
            // The descriptor of a closed socket is soon that of another client.
            State::Absent | State::Connecting(_) | State::Leaving => {}
            State::Securing(_) | State::Upgrading(_) | State::Bare | State::Live { .. } => {
                let bytes = match &mut self.tls {
                    None => &mut self.output,
                    Some(sessions) => sessions.seal(client, &self.output),
                };
                if !bytes.is_empty() {
                    let wire = &mut self.wires[(client / self.ring_capacity) as usize];
                    match wire.send(socket, client, bytes) {
                        Sending::UnderWay => under_way.insert(UnderWay::SEND),
                        Sending::Silent | Sending::Done => {}
                    }
                }
            }
        }
        self.output.clear();
        if let Some(sessions) = &mut self.tls {
            sessions.clear();
        }
    }

    fn receive(&mut self, client: u32) {
        self.clients[client as usize]
            .under_way
            .insert(UnderWay::RECEIVE);
        let socket = self.socket(client);
        self.push(
            Op::Receive {
                socket,
                multishot: true,
            },
            client,
        );
    }

    fn push(&mut self, op: Op, client: u32) {
        self.wire(client).push(op, token(client));
    }

    fn wire(&mut self, client: u32) -> &mut Wire {
        &mut self.wires[(client / self.ring_capacity) as usize]
    }

    const fn socket(&self, client: u32) -> Socket {
        Socket(client % self.ring_capacity)
    }
}

/// Returns the client whose bytes have arrived, and whether there was a buffer for them.
fn arrival(completion: &Completion) -> Option<(u32, Arrival)> {
    let no_buffer = completion.result == -Errno::NOBUFS.raw_os_error();
    let arrival = match &completion.buffer {
        Some(_) => Arrival::Bytes,
        None if no_buffer => Arrival::NoBuffer,
        None => return None,
    };
    Some((completion.token.slot(), arrival))
}
