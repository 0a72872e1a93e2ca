//! Very many WebSocket clients on one thread, and on as many rings as they need.

mod client;
mod completion;
mod ends;
mod reading;
mod secure;

use std::{
    borrow::Cow,
    hash::{DefaultHasher, Hash, Hasher},
    io,
    net::SocketAddr,
    time::Duration,
};

use rustix::io::Errno;
use rustls::pki_types::ServerName;
use tidewheel::ring::{Completion, Op, OpCode, RingError, Setup, Socket, Token, Wait};
use tidewheel_codec::{CloseCode, Config, Endpoint, Role};

use self::{
    client::{Client, State, UnderWay},
    reading::{Found, Reading, Visit},
    secure::Secure,
};
use crate::{
    clock::{Clock, Moment},
    latency::Latency,
    outcome::Outcome,
    tls::Tls,
    wire::{Sending, Wire},
};

pub(crate) use self::ends::request_head;

/// The least size of a receive buffer: a response to a handshake or a small message fits in.
const BUFFER_SIZE_MIN: u32 = 1024;
const BUFFER_SIZE_MAX: u32 = 64 * 1024;

/// What a receive buffer has beyond: a frame's header fits in beside its payload.
const HEADER_ROOM: u32 = 64;

/// Receive buffers of a fleet on one ring, and of each ring of several, in bytes.
const BUFFERS_ALONE: u32 = 2 << 20;
const BUFFERS_EACH: u32 = 256 << 10;

/// Where there are several rings, nothing is waited for longer than this in each round of them, and
/// only when the round before was calm: nobody had asked for anything, and little had happened.
const REST: Duration = Duration::from_micros(500);
const CALM: usize = 64;

/// What stands for the number of a client's topic in a path.
const TOPIC: &str = "{topic}";

/// No operation of a client outlives its socket, so one generation does.
const GENERATION: u32 = 0;

/// Where the clients connect to, and what they ask for.
#[derive(Clone, Debug)]
pub(crate) struct Target {
    /// The server's address.
    pub(crate) address: SocketAddr,
    /// How many addresses, this one and those that follow it, are the server's: from one address
    /// to one other there are only as many connections as ports.
    pub(crate) spread: u32,
    /// Whom its certificate must be for, where it is at a `wss://` URL.
    pub(crate) name: Option<ServerName<'static>>,
    /// The `Host` header.
    pub(crate) host: String,
    /// The request's path and query; `{topic}` stands for the number of a topic.
    pub(crate) path: String,
    /// How many topics there are, over which the clients are spread.
    pub(crate) topics: u32,
    /// Further headers.
    pub(crate) headers: Vec<(String, String)>,
    /// The subprotocol offered.
    pub(crate) protocol: Option<String>,
}

/// What a client does when it is connected.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) enum Approach {
    /// The opening handshake, and then, where `check_echo` is set, one message that must come back.
    Upgrade {
        /// Whether to check one echo.
        check_echo: bool,
    },
    /// Nothing by itself; what arrives is dropped.
    Bare,
}

/// What a client sends.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Payload<'a> {
    Binary(&'a [u8]),
    Text(&'a str),
}

/// What a received message is known by.
#[derive(Clone, Debug, Eq, PartialEq)]
pub(crate) enum Stamp {
    /// Its first eight bytes, little-endian; zeros stand for those that it has not.
    Head,
    /// Its first eight bytes where these follow, and `u64::MAX` where they do not.
    Tailed(Box<[u8]>),
    /// A digest of all its bytes.
    Digest,
}

impl Stamp {
    /// That of a message.
    pub(crate) fn of(&self, message: &[u8]) -> u64 {
        match (self, message.first_chunk()) {
            (Self::Head, Some(bytes)) => u64::from_le_bytes(*bytes),
            (Self::Head, None) => {
                let mut bytes = [0; 8];
                bytes[..message.len()].copy_from_slice(message);
                u64::from_le_bytes(bytes)
            }
            (Self::Tailed(tail), _) => match message.split_first_chunk() {
                Some((head, rest)) if rest == &**tail => u64::from_le_bytes(*head),
                Some(_) | None => u64::MAX,
            },
            (Self::Digest, _) => {
                let mut hasher = DefaultHasher::new();
                message.hash(&mut hasher);
                hasher.finish()
            }
        }
    }
}

/// What happened to a client; `client` is the number that it was connected with.
#[derive(Debug)]
pub(crate) enum Event {
    /// A bare client is connected.
    Connected {
        /// Which.
        client: u32,
    },
    /// The handshake is done, and the echo has come back where one was asked for.
    Opened {
        /// Which.
        client: u32,
    },
    /// A message arrived.
    Message {
        /// Whose.
        client: u32,
        /// Its bytes.
        length: u32,
        /// What it is known by, as [`Stamp`] says.
        stamp: u64,
    },
    /// The server's Close frame arrived.
    CloseReceived {
        /// Whose.
        client: u32,
    },
    /// It is known how the connection ended; nothing more is received or sent. Once a connection.
    Ended {
        /// Which.
        client: u32,
        /// How.
        outcome: Outcome,
        /// What else there is to say.
        detail: Option<String>,
    },
    /// The socket is closed, and the client may connect again. Once a connection, after `Ended`.
    Released {
        /// Which.
        client: u32,
    },
}

/// Clients `0..capacity`, each with a direct descriptor.
#[derive(Debug)]
pub(crate) struct Fleet {
    wires: Vec<Wire>,
    /// Clients of each ring.
    ring_capacity: u32,
    /// The ring whose turn is next.
    next: usize,
    /// Completions since the first ring had its turn.
    seen: usize,
    /// Whether anything was asked for since then.
    asked: bool,
    endpoint: Endpoint,
    target: &'static Target,
    /// What lies between `out` and the wires, if anything does.
    secure: Option<Secure>,
    clients: Vec<Client>,
    /// What a client has to say, while it says it.
    out: Vec<u8>,
    /// Whose messages are in `out`.
    speaker: Option<u32>,
    /// What has happened outside of a turn, for the next.
    early: Vec<Event>,
    /// Those of a turn, while they are handled.
    completions: Vec<Completion>,
    reading: Reading,
    /// Pings of the server that were answered.
    pings: u64,
    /// What received messages are known by.
    pub(crate) stamp: Stamp,
}

impl Fleet {
    /// A fleet of up to `capacity` clients, for the calling thread; each ring has at most
    /// `ring_capacity` of them, which `RLIMIT_NOFILE` limits. What is mostly received is of
    /// `message_size` bytes.
    ///
    /// # Errors
    /// Those of the rings.
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
        let alone = rings == 1;
        let buffers = if alone { BUFFERS_ALONE } else { BUFFERS_EACH };
        let buffer_size = u32::try_from(message_size).unwrap_or(u32::MAX);
        let buffer_size = buffer_size
            .clamp(BUFFER_SIZE_MIN, BUFFER_SIZE_MAX)
            .next_power_of_two();
        let setup = Setup {
            submissions: 1024,
            completions: if alone { 16 * 1024 } else { 4096 },
            sockets: ring_capacity,
            buffers: (buffers / buffer_size) as u16,
            buffer_size: buffer_size + HEADER_ROOM,
        };
        let mut config = Config::new(Role::Client);
        config.ping_interval = None;
        // An echo is as long as what was sent.
        config.max_message_size = usize::MAX >> 1;
        config.max_frame_size = usize::MAX >> 1;
        let endpoint = Endpoint::with_seed(config, seed).expect("the settings are valid");
        let wires = (0..rings).map(|_| Wire::new(&setup));
        Ok(Self {
            wires: wires.collect::<Result<_, _>>()?,
            ring_capacity,
            next: 0,
            seen: 0,
            asked: false,
            endpoint,
            target,
            secure: tls.map(|tls| Secure::new(tls, capacity)),
            clients: std::iter::repeat_with(Client::absent)
                .take(capacity as usize)
                .collect(),
            out: Vec::new(),
            speaker: None,
            early: Vec::new(),
            completions: Vec::new(),
            reading: Reading::new(rings as usize),
            pings: 0,
            stamp: Stamp::Head,
        })
    }

    /// How many rings there are; after as many turns, each client has had its turn.
    pub(crate) const fn rings(&self) -> usize {
        self.wires.len()
    }

    /// How many pings of the server were answered so far.
    pub(crate) const fn pings(&self) -> u64 {
        self.pings
    }

    /// How long what was read may have lain unread, since that was last [forgotten](Self::forget_unread).
    pub(crate) fn unread(&self) -> Latency {
        self.reading.unread().clone()
    }

    /// Begins to note that anew.
    pub(crate) fn forget_unread(&mut self) {
        self.reading.forget();
    }

    /// Starts to connect an absent client. [`Event::Opened`] or [`Event::Connected`], and
    /// [`Event::Ended`] follow, the latter at the latest when [`Fleet::give_up`] is called.
    pub(crate) fn connect(&mut self, client: u32, approach: Approach) {
        self.asked = true;
        let Client { state, under_way } = &mut self.clients[client as usize];
        assert!(matches!(state, State::Absent), "client {client} is in use");
        self.reading.begin(client);
        *state = State::Connecting(approach);
        under_way.insert(UnderWay::CONNECT);
        let connect = Op::Connect {
            socket: self.socket(client),
            peer: self.target.address_of(client),
        };
        self.push(connect, client);
    }

    /// Sends a message, if the client is open; says whether it was. Messages to one client that
    /// follow each other leave in one piece.
    pub(crate) fn send_message(&mut self, client: u32, message: Payload<'_>) -> bool {
        self.asked = true;
        self.speak(client);
        let (endpoint, out) = (&mut self.endpoint, &mut self.out);
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

    /// Sends bytes as they are, to whatever there is.
    pub(crate) fn send_raw(&mut self, client: u32, bytes: &[u8]) {
        self.asked = true;
        self.speak(client);
        self.out.extend_from_slice(bytes);
    }

    /// Submits what is queued, waits, and handles what has completed, on one of the rings. The
    /// moment returned is that of all events added to `events`.
    ///
    /// # Errors
    /// Those of [`Wire::enter`].
    pub(crate) fn turn(
        &mut self,
        wait: Wait,
        clock: &Clock,
        events: &mut Vec<Event>,
    ) -> io::Result<Moment> {
        events.append(&mut self.early);
        self.flush();
        let ring = self.next;
        let calm = ring == 0 && self.seen < CALM && !self.asked;
        if ring == 0 {
            (self.seen, self.asked) = (0, false);
        }
        let wait = match wait {
            _ if !events.is_empty() => Wait::No,
            wait if self.wires.len() == 1 => wait,
            _ if !calm => Wait::No,
            Wait::No => Wait::No,
            Wait::For(limit) => Wait::For(limit.min(REST)),
            Wait::Forever => Wait::For(REST),
        };
        let from = clock.now();
        let has_waited = wait != Wait::No && !self.wires[ring].has_news();
        self.wires[ring].enter(wait)?;
        let has_caught_up = self.wires[ring].catch_up();
        let now = clock.now();
        self.next = (ring + 1) % self.wires.len();
        // Those of sends come first: what follows a short send must not be sent before its rest.
        let mut completions = std::mem::take(&mut self.completions);
        while let Some(completion) = self.wires[ring].reap() {
            match completion.op {
                OpCode::Send | OpCode::SendAll => self.sent(&completion),
                _ => completions.push(completion),
            }
        }
        self.seen += completions.len();
        let visit = Visit {
            ring,
            from,
            to: now,
            has_waited,
            has_caught_up,
        };
        self.reading
            .note(visit, completions.iter().filter_map(found));
        for completion in completions.drain(..) {
            self.complete(completion, now, events);
        }
        self.completions = completions;
        Ok(now)
    }

    /// Makes `client` the one whose bytes are in `out`.
    fn speak(&mut self, client: u32) {
        if self.speaker != Some(client) {
            self.flush();
            self.speaker = Some(client);
        }
    }

    /// Sends what is in `out`.
    fn flush(&mut self) {
        let Some(client) = self.speaker.take() else {
            return;
        };
        if self.out.is_empty() && self.secure.is_none() {
            return;
        }
        let socket = self.socket(client);
        let Client { state, under_way } = &mut self.clients[client as usize];
        match state {
            // A socket that has been closed is another's soon.
            State::Absent | State::Connecting(_) | State::Leaving => {}
            State::Securing(_) | State::Upgrading(_) | State::Bare | State::Live { .. } => {
                let bytes = match &mut self.secure {
                    None => &mut self.out,
                    Some(secure) => secure.seal(client, &self.out),
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
        self.out.clear();
        if let Some(secure) = &mut self.secure {
            secure.clear();
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

impl Target {
    /// The path that a client asks for.
    fn path_of(&self, client: u32) -> Cow<'_, str> {
        match self.path.contains(TOPIC) {
            true => (self
                .path
                .replace(TOPIC, &(client % self.topics).to_string()))
            .into(),
            false => (&*self.path).into(),
        }
    }

    /// The address that a client connects to.
    fn address_of(&self, client: u32) -> SocketAddr {
        let offset = client % self.spread;
        match self.address {
            SocketAddr::V4(address) => {
                let ip = address.ip().to_bits().wrapping_add(offset);
                SocketAddr::from((std::net::Ipv4Addr::from_bits(ip), address.port()))
            }
            SocketAddr::V6(address) => {
                let ip = address.ip().to_bits().wrapping_add(u128::from(offset));
                SocketAddr::from((std::net::Ipv6Addr::from_bits(ip), address.port()))
            }
        }
    }
}

/// Whose bytes have arrived, be it that there was no buffer for them.
fn found(completion: &Completion) -> Option<(u32, Found)> {
    let no_buffer = completion.result == -Errno::NOBUFS.raw_os_error();
    let found = match &completion.buffer {
        Some(_) => Found::Bytes,
        None if no_buffer => Found::NoBuffer,
        None => return None,
    };
    Some((completion.token.slot(), found))
}

const fn token(client: u32) -> Token {
    Token::new(GENERATION, client)
}

/// A code that is sent in a Close when nothing else is asked for.
pub(crate) const NORMAL: CloseCode = CloseCode::NORMAL_CLOSURE;
