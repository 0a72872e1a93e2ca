//! `examples/telemetry.rs` with 10,000 clients: each receives the readings of its sensors, in order.
//!
//! `cargo test` builds the example. For `cargo test --test telemetry`, run `cargo build -p tidewheel
//! --example telemetry` before.

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
    client::{CLOSE, Client, End, FIN, PING, PONG, Received, TEXT, close, frame},
    ms,
    process::Server,
    socket_table::{self, State},
    wait,
};

const CLIENTS: usize = 10_000;

/// Number of connections that are opened at once.
const BATCH: usize = 500;

/// The first byte of a published message.
const MESSAGE: u8 = FIN | TEXT;

/// The paths of the clients, in turn, and the sensors that each path matches.
const PATHS: [(&str, &[&str]); 10] = [
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

/// Number of readings of each sensor that the test waits for.
const READINGS: u64 = 20;

/// Longest time until all clients have the readings; the example publishes every 100 ms.
const READINGS_TIMEOUT: Duration = ms(1500 * READINGS);

/// Returns a command that runs the example, which cargo builds next to this test.
fn telemetry() -> Command {
    let test = std::env::current_exe().expect("the path of this test");
    let profile = test.ancestors().nth(2).expect("the folder of the profile");
    let path: PathBuf = profile.join("examples/telemetry");
    assert!(
        path.exists(),
        "{} does not exist; run `cargo build -p tidewheel --example telemetry`",
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

/// A client that checks the readings that it receives.
struct Subscriber {
    client: Client,
    sensors: &'static [&'static str],
    /// The first and the last reading of each sensor.
    readings: BTreeMap<&'static str, (u64, u64)>,
    /// Bytes of an incomplete frame.
    rest: Vec<u8>,
}

impl Subscriber {
    fn request(server: &Server, (path, sensors): (&str, &'static [&'static str])) -> Self {
        let mut client = Client::connect(server);
        client.send_request(path);
        Self {
            client,
            sensors,
            readings: BTreeMap::new(),
            rest: Vec::new(),
        }
    }

    /// Reads the response to the request.
    fn accept(&mut self) {
        self.client.accept();
        let nonblocking = self.client.stream.set_nonblocking(true);
        nonblocking.expect("O_NONBLOCK can be set");
    }

    /// Reads until the socket has no more bytes.
    fn read(&mut self, buffer: &mut [u8]) {
        loop {
            match self.client.stream.read(buffer) {
                Ok(0) => panic!("the server has closed a connection"),
                Ok(length) => self.rest.extend_from_slice(&buffer[..length]),
                Err(error) if error.kind() == ErrorKind::WouldBlock => break,
                Err(error) => panic!("a connection has failed: {error}"),
            }
        }
        assert_eq!(
            self.take_frames(),
            None,
            "the server has closed a connection"
        );
    }

    /// Handles all complete frames, and returns the code of a Close.
    fn take_frames(&mut self) -> Option<u16> {
        let rest = std::mem::take(&mut self.rest);
        let mut frames = rest.as_slice();
        // All frames are short (RFC 6455 5.2).
        while let [first, length @ 0..=125, after @ ..] = frames
            && let Some((payload, after)) = after.split_at_checked(usize::from(*length))
        {
            frames = after;
            match *first {
                MESSAGE => self.check(payload),
                PING => self.client.send(&frame(PONG, payload)),
                CLOSE => {
                    assert!(frames.is_empty(), "bytes follow the Close");
                    return Some(Received::new(CLOSE, payload).close_code());
                }
                first => panic!("unexpected frame {first:#04x}"),
            }
        }
        self.rest.extend_from_slice(frames);
        None
    }

    /// Asserts that a reading belongs to a sensor of this client, and follows the reading before.
    fn check(&mut self, payload: &[u8]) {
        let message: Message<'_> = serde_json::from_slice(payload).expect("a reading");
        assert!(message.value >= 0.0);
        let sensor = self.sensors.iter().find(|it| **it == message.sensor);
        let sensor = sensor.unwrap_or_else(|| panic!("not subscribed to {}", message.sensor));
        let (_, last) = self
            .readings
            .entry(sensor)
            .or_insert((message.reading, message.reading - 1));
        assert_eq!(message.reading, *last + 1, "reading of {sensor}");
        *last = message.reading;
    }

    /// Returns the lowest number of readings that one of the sensors has.
    fn readings_min(&self) -> u64 {
        let count = |sensor| {
            self.readings
                .get(sensor)
                .map_or(0, |(first, last)| last + 1 - first)
        };
        self.sensors.iter().map(count).min().expect("a sensor")
    }
}

/// Subscribers, and an epoll instance over their sockets.
struct Subscribers {
    subscribers: Vec<Subscriber>,
    epoll: OwnedFd,
    buffer: Vec<u8>,
}

impl Subscribers {
    fn open(server: &Server) -> Self {
        let mut all = Self {
            subscribers: Vec::with_capacity(CLIENTS),
            epoll: epoll::create(CreateFlags::CLOEXEC).expect("a descriptor is free"),
            buffer: vec![0; 16 << 10],
        };
        let mut paths = PATHS.into_iter().cycle();
        while all.subscribers.len() < CLIENTS {
            let opened = all.subscribers.len();
            let batch = paths.by_ref().take(BATCH.min(CLIENTS - opened));
            all.subscribers
                .extend(batch.map(|path| Subscriber::request(server, path)));
            for (at, subscriber) in all.subscribers.iter_mut().enumerate().skip(opened) {
                subscriber.accept();
                let data = EventData::new_u64(at as u64);
                let flags = EventFlags::IN | EventFlags::ET;
                epoll::add(&all.epoll, &subscriber.client.stream, data, flags)
                    .expect("the socket can be polled");
            }
        }
        all
    }

    /// Reads until each subscriber has `readings` readings of each of its sensors.
    fn read_until(&mut self, readings: u64) {
        let timeout = Timespec::try_from(READINGS_TIMEOUT).expect("the timeout is short");
        let mut missing = self
            .subscribers
            .iter()
            .filter(|it| it.readings_min() < readings)
            .count();
        let start = wait::now();
        while missing > 0 {
            assert!(
                start.elapsed() < READINGS_TIMEOUT,
                "{missing} clients lack readings"
            );
            let mut events = [MaybeUninit::uninit(); 512];
            let (events, _) = epoll::wait(&self.epoll, &mut events, Some(&timeout))
                .expect("no signal is handled");
            assert!(!events.is_empty(), "{missing} clients receive nothing");
            for event in events {
                let subscriber = &mut self.subscribers[event.data.u64() as usize];
                let before = subscriber.readings_min();
                subscriber.read(&mut self.buffer);
                missing -= usize::from(before < readings && subscriber.readings_min() >= readings);
            }
        }
    }
}

#[test]
fn each_of_10_000_clients_receives_every_reading_of_its_sensors() {
    support::raise_descriptor_limit();
    let server = Server::spawn(&mut telemetry());
    let mut subscribers = Subscribers::open(&server);
    server.until_connections(CLIENTS as u64);
    let subscriptions = server.metric("tidewheel_subscriptions", "");
    assert_eq!(
        subscriptions, CLIENTS as u64,
        "each path is one subscription"
    );

    subscribers.read_until(READINGS);
    for name in ["tidewheel_drops_total", "tidewheel_send_queue_bytes"] {
        assert_eq!(server.metric(name, ""), 0, "{name}");
    }

    close_all(subscribers);
    server.until_empty(ms(10_000));
    for name in [
        "tidewheel_subscriptions",
        "tidewheel_topics",
        "tidewheel_send_queue_bytes",
    ] {
        assert_eq!(server.metric(name, ""), 0, "{name}");
    }
    assert_eq!(server.closes("peer_close"), CLIENTS as u64);
    wait::until(ms(10_000), "no direct descriptor is left", || {
        server.direct_descriptors() == Some(0)
    });
    let held = socket_table::sockets(server.port());
    assert!(
        held.iter()
            .all(|row| row.state == State::TimeWait || row.state == State::Other)
    );
}

/// Closes all connections, and reads the remaining messages, the Close and FIN.
fn close_all(mut all: Subscribers) {
    for Subscriber { client, .. } in &mut all.subscribers {
        let blocking = client.stream.set_nonblocking(false);
        blocking.expect("O_NONBLOCK can be cleared");
        client.send(&close(1000, ""));
    }
    for subscriber in &mut all.subscribers {
        let (rest, end) = subscriber.client.rest();
        subscriber.rest.extend(rest);
        assert_eq!((subscriber.take_frames(), end), (Some(1000), End::Fin));
    }
}
