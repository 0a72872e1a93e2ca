//! The phases of the benchmark, each with assertions about its outcome.

use std::{fs, time::Duration};

use tidewheel::{
    CloseCode, Time,
    ring::sim::{ClientCounts, ClientMessage},
    shard::{Holdings, TICK_MS},
};

use crate::{
    Options,
    application::{Ends, PUBLISH, SUBSCRIBE, TOPIC},
    memory_accounts,
    report::{EMPTY_WHEEL, Memory, Phase, Report},
    server::Server,
    turn_times::{Overhead, TurnTimes, wall_time},
};

/// Time in milliseconds in which all connections open, an equal number in each millisecond. It is shorter than the time
/// to the first ping.
const OPENING_MS: u32 = 10_000;

/// Messages that are published at the same time.
const BURST_MESSAGES: u64 = 16;

/// Time after which the timer wheel has dropped all old entries: more than one revolution.
const WHEEL_REVOLUTION: Duration = Duration::from_secs(120);

/// Bytes that a shard may keep after all connections have ended: lists that have grown, and pooled queues.
const KEPT_BYTES_MAX: usize = 16 << 20;

/// Runs all phases, and returns the measurements.
///
/// # Panics
/// If a phase has another outcome than expected.
pub(crate) fn run(options: &Options) -> Report {
    let load_before = load_average();
    let published = "p".repeat(usize::from(options.message_size));
    let mut benchmark = Benchmark {
        connections: options.connections,
        server: Server::new(options, &published),
        expected: ClientCounts::default(),
        expected_ends: Ends::default(),
        phases: Vec::new(),
    };
    let empty = Memory::now(&benchmark.server, 0);
    benchmark.open("open");
    let idle = Memory::now(&benchmark.server, options.connections);
    benchmark.keepalive();
    let pinged = Memory::now(&benchmark.server, options.connections);
    benchmark.echo();
    benchmark.subscribe();
    let subscribed = Memory::now(&benchmark.server, options.connections);
    benchmark.broadcast();
    benchmark.burst(&published);
    benchmark.close_storm();
    benchmark.check_nothing_is_left(&empty);
    let left = Memory::now(&benchmark.server, options.connections);
    benchmark.open("open again");
    benchmark.silent_storm();
    benchmark.check_nothing_is_left(&empty);
    benchmark.open("open again");
    benchmark.drain();
    Report {
        options: options.clone(),
        overhead: Overhead::measure(),
        loads: [load_before, load_average()],
        slot_bytes: benchmark.server.slot_bytes,
        buffer_bytes: benchmark.server.buffer_bytes(),
        empty,
        idle,
        pinged,
        subscribed,
        left,
        phases: benchmark.phases,
    }
}

/// The state between two phases.
struct Benchmark {
    connections: u32,
    server: Server,
    /// Events that clients must have seen so far.
    expected: ClientCounts,
    /// Ends of connections that the application must have seen so far.
    expected_ends: Ends,
    phases: Vec<Phase>,
}

impl Benchmark {
    /// Measures a phase, and checks the events of clients and application after it.
    fn phase(&mut self, name: &'static str, act: impl FnOnce(&mut Self)) {
        eprintln!("{name}");
        self.server.turn_times = TurnTimes::default();
        memory_accounts::begin_peak();
        let (began, virtually) = (wall_time(), self.server.now);
        act(self);
        self.phases.push(Phase {
            name,
            turn_times: std::mem::take(&mut self.server.turn_times),
            total: wall_time() - began,
            simulated: self.server.now.since(virtually),
            peak_bytes: memory_accounts::peak_bytes(),
        });
        let mut seen = self.server.tally();
        // The silent storm checks the range of these times.
        seen.silent_ms = None;
        assert_eq!(seen, self.expected, "events of the clients after {name}");
        assert_eq!(
            self.server.ends(),
            self.expected_ends,
            "ends of connections after {name}"
        );
    }

    fn all(&self) -> u64 {
        u64::from(self.connections)
    }

    /// Opens all connections.
    fn open(&mut self, name: &'static str) {
        self.expected.opened += self.all();
        self.phase(name, |benchmark| {
            let by = |ms: u32| {
                let share =
                    u64::from(benchmark.connections) * u64::from(ms) / u64::from(OPENING_MS);
                share as u32
            };
            for ms in 0..OPENING_MS {
                benchmark.server.connect(by(ms), by(ms + 1));
                benchmark
                    .server
                    .run_until(benchmark.server.now + Duration::from_millis(1));
            }
        });
        assert_eq!(
            self.server.holdings().connections as u64,
            self.all(),
            "open connections"
        );
    }

    /// Pings every connection once; the clients answer.
    fn keepalive(&mut self) {
        self.expected.pings += self.all();
        let interval = self
            .server
            .config
            .ping_interval
            .expect("the default has keepalive");
        self.phase("keepalive round", |benchmark| {
            // The last connection has opened just now. The first connection is not pinged again before the end, because
            // the opening took less than an interval less an eighth.
            let end = benchmark.server.now + interval + Duration::from_millis(2 * TICK_MS);
            benchmark.server.run_until(end);
        });
    }

    /// Sends a message from every client at the same time; the server echoes.
    fn echo(&mut self) {
        self.expected.echoes += self.all();
        self.phase("echo sweep", |benchmark| {
            benchmark.server.send_from_all(ClientMessage::Echo);
            benchmark.server.settle();
        });
    }

    /// Subscribes every connection.
    fn subscribe(&mut self) {
        self.phase("subscribe", |benchmark| {
            benchmark
                .server
                .send_from_all(ClientMessage::Text(SUBSCRIBE));
            benchmark.server.settle();
        });
        assert_eq!(self.server.holdings().subscriptions, self.all());
    }

    /// Publishes a message from one connection to all.
    fn broadcast(&mut self) {
        self.expected.published += self.all();
        self.phase("broadcast", |benchmark| {
            benchmark.server.send_from_one(ClientMessage::Text(PUBLISH));
            benchmark.server.settle();
        });
    }

    /// Publishes several messages at the same time, by `Publisher`.
    fn burst(&mut self, published: &str) {
        self.expected.published += BURST_MESSAGES * self.all();
        self.phase("broadcast, 16 at once", |benchmark| {
            for _ in 0..BURST_MESSAGES {
                let result = benchmark.server.publisher.publish(TOPIC, published);
                result.expect("the memory for messages has room");
            }
            benchmark.server.settle();
        });
    }

    /// Sends Close from every client at the same time.
    fn close_storm(&mut self) {
        self.expected.closes += self.all();
        self.expected.ended_in_order += self.all();
        self.expected_ends.by_peer += self.all();
        self.phase("close storm", |benchmark| {
            benchmark
                .server
                .send_from_all(ClientMessage::Close(CloseCode::NORMAL_CLOSURE));
            benchmark.server.settle();
        });
    }

    /// Cuts the network of all clients; every connection ends at its deadline.
    fn silent_storm(&mut self) {
        self.expected.reset_in_silence += self.all();
        // A Ping, and Close 1011.
        self.expected.lost += 2 * self.all();
        self.expected_ends.silent += self.all();
        let config = &self.server.config;
        let deadline = config.ping_interval.expect("the default has keepalive")
            + config.ping_timeout.expect("the default has keepalive")
            + config.close_timeout;
        let tick = Duration::from_millis(TICK_MS);
        self.phase("silent storm", |benchmark| {
            benchmark.server.vanish();
            let end: Time = benchmark.server.now + deadline + tick;
            benchmark.server.run_until(end);
        });
        let silent_ms = self
            .server
            .tally()
            .silent_ms
            .expect("all clients were silent");
        let deadline_ms = deadline.as_millis() as u64;
        assert!(
            *silent_ms.start() >= deadline_ms && *silent_ms.end() <= deadline_ms + TICK_MS,
            "P + T + C is {deadline_ms} ms; connections were reset after {silent_ms:?} ms"
        );
    }

    /// Shuts the server down; the clients answer its Close.
    fn drain(&mut self) {
        self.expected.closes += self.all();
        self.expected.ended_in_order += self.all();
        self.expected_ends.drained += self.all();
        let timeout = self.server.config.close_timeout;
        let limit = timeout / 2;
        self.phase("drain", |benchmark| {
            benchmark.server.publisher.drain(timeout);
            benchmark
                .server
                .run_until_idle(limit + Duration::from_millis(TICK_MS));
        });
        assert!(self.server.is_finished(), "all shards have ended");
        assert_eq!(self.server.in_use(), (0, 0), "descriptors, buffers");
    }

    /// Checks that places, descriptors, buffers, timer entries, subscriptions and queues are free.
    fn check_nothing_is_left(&mut self, empty: &Memory) {
        self.phase(EMPTY_WHEEL, |benchmark| {
            benchmark.server.run_until_idle(WHEEL_REVOLUTION);
        });
        let wheel_bytes = self.server.holdings().wheel_bytes;
        let nothing = Holdings {
            wheel_bytes,
            ..Holdings::default()
        };
        assert_eq!(self.server.holdings(), nothing);
        assert_eq!(self.server.in_use(), (0, 0), "descriptors, buffers");
        let kept = memory_accounts::server_bytes().saturating_sub(empty.allocated);
        let shards = usize::from(self.server.config.shards.unwrap_or(1));
        assert!(
            kept <= KEPT_BYTES_MAX * shards,
            "{shards} shards keep {kept} bytes"
        );
    }
}

/// Returns the load averages of one minute and of five minutes.
fn load_average() -> String {
    let text = fs::read_to_string("/proc/loadavg").expect("proc is mounted");
    text.split(' ').take(2).collect::<Vec<_>>().join(", ")
}
