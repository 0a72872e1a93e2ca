//! `examples/telemetry.rs` publishes to ten thousand clients, each of which gets all that it asked
//! for, in order, and nothing else.
//!
//! The example is the one that `cargo test` has built; with `--test telemetry` alone, `cargo build
//! -p tidewheel --example telemetry` comes first.

mod support;

use std::{
    collections::BTreeMap,
    io::{ErrorKind, Read},
    mem::MaybeUninit,
    os::fd::OwnedFd,
    path::PathBuf,
    process::{Command, Stdio},
    time::Duration,
};

use rustix::event::{
    Timespec,
    epoll::{self, CreateFlags, EventData, EventFlags},
};
use serde::Deserialize;

use self::support::{
    client::{CLOSE, Client, End, FIN, PING, PONG, REQUEST, Received, TEXT, close, frame},
    ms,
    process::Server,
    socket_table::{self, State},
    wait,
};

const CLIENTS: usize = 10_000;

/// Connections that are opened side by side.
const BATCH: usize = 500;

/// The first byte of what is published.
const MESSAGE: u8 = FIN | TEXT;

/// What the clients ask for, in turn, and the sensors that it stands for.
const ASKED: [(&str, &[&str]); 10] = [
    ("/sensors/load", &["load"]),
    ("/sensors/load5", &["load5"]),
    ("/sensors/load15", &["load15"]),
    ("/sensors/load", &["load"]),
    ("/sensors/load5", &["load5"]),
    ("/sensors/load15", &["load15"]),
    ("/sensors/load", &["load"]),
    ("/sensors/load5", &["load5"]),
    ("/sensors/load15", &["load15"]),
    ("/sensors/*", &["load", "load5", "load15"]),
];

/// What each client gets of each of its sensors, at the least.
const READINGS: u64 = 20;

/// The example publishes every 100 ms; on a machine however busy, all have got so many within:
const HEARD_WITHIN: Duration = ms(1500 * READINGS);

/// The program beside this one that cargo has made of the example.
fn telemetry() -> Command {
    let ours = std::env::current_exe().expect("this program is somewhere");
    let profile = ours.ancestors().nth(2).expect("deps lies in it");
    let path: PathBuf = profile.join("examples/telemetry");
    assert!(
        path.exists(),
        "{} is built by `cargo test`, or `cargo build -p tidewheel --example telemetry`",
        path.display()
    );
    let mut command = Command::new(path);
    command.env_clear().stdin(Stdio::null());
    command.args(["127.0.0.1:0", "127.0.0.1:0"]);
    command
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Message<'m> {
    sensor: &'m str,
    reading: u64,
    value: f64,
}

/// A client that checks all that it gets.
struct Listener {
    client: Client,
    sensors: &'static [&'static str],
    /// Of each sensor the first reading and the last one.
    heard: BTreeMap<&'static str, (u64, u64)>,
    /// Bytes of a frame that has not come whole.
    rest: Vec<u8>,
}

impl Listener {
    fn ask(server: &Server, (path, sensors): (&str, &'static [&'static str])) -> Self {
        let mut client = Client::connect(server);
        client.send(REQUEST.replace("/chat", path).as_bytes());
        Self {
            client,
            sensors,
            heard: BTreeMap::new(),
            rest: Vec::new(),
        }
    }

    /// Takes the answer to the request.
    fn accept(&mut self) {
        self.client.accept();
        let nonblocking = self.client.stream.set_nonblocking(true);
        nonblocking.expect("it is a socket");
    }

    /// Reads what is there.
    fn read(&mut self, buffer: &mut [u8]) {
        loop {
            match self.client.stream.read(buffer) {
                Ok(0) => panic!("the server has closed a connection"),
                Ok(length) => self.rest.extend_from_slice(&buffer[..length]),
                Err(error) if error.kind() == ErrorKind::WouldBlock => break,
                Err(error) => panic!("the server has cut a connection: {error}"),
            }
        }
        assert_eq!(self.take_in(), None, "the server has closed a connection");
    }

    /// Takes the frames that have come whole; the code of a Close, which nothing follows.
    fn take_in(&mut self) -> Option<u16> {
        let rest = std::mem::take(&mut self.rest);
        let mut frames = rest.as_slice();
        // All that comes is short (RFC 6455 5.2).
        while let [first, length @ 0..=125, after @ ..] = frames
            && let Some((payload, after)) = after.split_at_checked(usize::from(*length))
        {
            frames = after;
            match *first {
                MESSAGE => self.hear(payload),
                PING => self.client.send(&frame(PONG, payload)),
                CLOSE => {
                    assert!(frames.is_empty(), "nothing follows a Close");
                    return Some(Received::new(CLOSE, payload).close_code());
                }
                first => panic!("nothing else comes, but {first:#04x} has"),
            }
        }
        self.rest.extend_from_slice(frames);
        None
    }

    /// A reading is of a sensor that was asked for, and follows the one before.
    fn hear(&mut self, payload: &[u8]) {
        let message: Message<'_> = serde_json::from_slice(payload).expect("a reading");
        assert!(message.value >= 0.0);
        let asked = self.sensors.iter().find(|it| **it == message.sensor);
        let asked = asked.unwrap_or_else(|| panic!("nobody asked for {}", message.sensor));
        let (_, last) = self
            .heard
            .entry(asked)
            .or_insert((message.reading, message.reading - 1));
        assert_eq!(message.reading, *last + 1, "readings of {asked}");
        *last = message.reading;
    }

    /// Of how many readings it has heard, of the sensor of which it has heard the least.
    fn readings(&self) -> u64 {
        let heard = |sensor| {
            self.heard
                .get(sensor)
                .map_or(0, |(first, last)| last + 1 - first)
        };
        self.sensors.iter().map(heard).min().expect("it has asked")
    }
}

/// Very many clients, and who of them has something to read.
struct Crowd {
    listeners: Vec<Listener>,
    epoll: OwnedFd,
    buffer: Vec<u8>,
}

impl Crowd {
    fn open(server: &Server) -> Self {
        let mut crowd = Self {
            listeners: Vec::with_capacity(CLIENTS),
            epoll: epoll::create(CreateFlags::CLOEXEC).expect("a descriptor is left"),
            buffer: vec![0; 16 << 10],
        };
        let mut asked = ASKED.into_iter().cycle();
        while crowd.listeners.len() < CLIENTS {
            let opened = crowd.listeners.len();
            let batch = asked.by_ref().take(BATCH.min(CLIENTS - opened));
            crowd
                .listeners
                .extend(batch.map(|asked| Listener::ask(server, asked)));
            for (at, listener) in crowd.listeners.iter_mut().enumerate().skip(opened) {
                listener.accept();
                let data = EventData::new_u64(at as u64);
                let flags = EventFlags::IN | EventFlags::ET;
                epoll::add(&crowd.epoll, &listener.client.stream, data, flags)
                    .expect("it is added once");
            }
        }
        crowd
    }

    /// Reads what comes until all have heard of so many readings.
    fn listen(&mut self, readings: u64) {
        let silence_max = Timespec::try_from(HEARD_WITHIN).expect("it is some seconds");
        let mut missing = self
            .listeners
            .iter()
            .filter(|it| it.readings() < readings)
            .count();
        let start = wait::now();
        while missing > 0 {
            assert!(
                start.elapsed() < HEARD_WITHIN,
                "{missing} clients lack readings"
            );
            let mut events = [MaybeUninit::uninit(); 512];
            let (events, _) = epoll::wait(&self.epoll, &mut events, Some(&silence_max))
                .expect("no signal is handled");
            assert!(!events.is_empty(), "{missing} clients hear nothing");
            for event in events {
                let listener = &mut self.listeners[event.data.u64() as usize];
                let before = listener.readings();
                listener.read(&mut self.buffer);
                missing -= usize::from(before < readings && listener.readings() >= readings);
            }
        }
    }
}

#[test]
fn ten_thousand_clients_get_every_reading_of_what_they_asked_for() {
    support::raise_descriptor_limit();
    let server = Server::spawn(&mut telemetry());
    let mut crowd = Crowd::open(&server);
    server.until_connections(CLIENTS as u64);
    let subscriptions = server.metric("tidewheel_subscriptions", "");
    assert_eq!(subscriptions, CLIENTS as u64, "a pattern is one");

    crowd.listen(READINGS);
    for name in ["tidewheel_drops_total", "tidewheel_send_queue_bytes"] {
        assert_eq!(server.metric(name, ""), 0, "{name}");
    }

    leave(crowd);
    server.until_empty(ms(10_000));
    for name in [
        "tidewheel_subscriptions",
        "tidewheel_topics",
        "tidewheel_send_queue_bytes",
    ] {
        assert_eq!(server.metric(name, ""), 0, "{name}");
    }
    assert_eq!(server.closes("peer_close"), CLIENTS as u64);
    wait::until(ms(10_000), "no ring holds a descriptor", || {
        server.direct_descriptors() == Some(0)
    });
    let held = socket_table::sockets(server.port());
    assert!(
        held.iter()
            .all(|row| row.state == State::TimeWait || row.state == State::Other)
    );
}

/// All close, and read what was on its way to them, then the Close, then the end.
fn leave(mut crowd: Crowd) {
    for Listener { client, .. } in &mut crowd.listeners {
        let blocking = client.stream.set_nonblocking(false);
        blocking.expect("it is a socket");
        client.send(&close(1000, ""));
    }
    for listener in &mut crowd.listeners {
        let (rest, end) = listener.client.rest();
        listener.rest.extend(rest);
        assert_eq!((listener.take_in(), end), (Some(1000), End::Fin));
    }
}
