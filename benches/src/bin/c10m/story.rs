//! What happens to the connections, phase by phase, and what must have come of it.

use std::{fs, time::Duration};

use tidewheel::{
    CloseCode, Time,
    ring::sim::{ClientCounts, ClientMessage},
    shard::{Holdings, TICK_MS},
};

use crate::{
    Options,
    application::{Ends, PUBLISH, SUBSCRIBE, TOPIC},
    ledger,
    meter::{Meter, Overhead, wall_time},
    report::{Memory, Phase, Report},
    world::World,
};

/// Within so long all connections open, in even steps of a millisecond; short enough that all are
/// open before the first of them is pinged.
const OPENING_MS: u32 = 10_000;

/// Messages that are published at once.
const BURST: u64 = 16;

/// Until the wheel has dropped the entries of what is gone: more than one turn of it.
const WHEEL_TURN: Duration = Duration::from_secs(120);

/// What a server may keep when all connections are gone: lists that have grown, queues in the pool.
/// For each shard.
const KEPT_BYTES_MAX: usize = 16 << 20;

/// Runs all phases.
///
/// # Panics
/// If one of them does not come to what it should.
pub(crate) fn tell(options: &Options) -> Report {
    let load_before = load_average();
    let published = "p".repeat(usize::from(options.message_size));
    let mut story = Story {
        connections: options.connections,
        world: World::new(options, &published),
        expected: ClientCounts::default(),
        expected_ends: Ends::default(),
        phases: Vec::new(),
    };
    let empty = Memory::now(&story.world, 0);
    story.open("open");
    let idle = Memory::now(&story.world, options.connections);
    story.keepalive();
    let pinged = Memory::now(&story.world, options.connections);
    story.echo();
    story.subscribe();
    let subscribed = Memory::now(&story.world, options.connections);
    story.broadcast();
    story.burst(&published);
    story.close_storm();
    story.nothing_is_left(&empty);
    let left = Memory::now(&story.world, options.connections);
    story.open("open again");
    story.silent_storm();
    story.nothing_is_left(&empty);
    story.open("open again");
    story.drain();
    Report {
        options: options.clone(),
        overhead: Overhead::measure(),
        loads: [load_before, load_average()],
        slot_bytes: story.world.slot_bytes,
        buffer_bytes: story.world.buffer_bytes(),
        empty,
        idle,
        pinged,
        subscribed,
        left,
        phases: story.phases,
    }
}

struct Story {
    connections: u32,
    world: World,
    /// What the clients must have seen so far.
    expected: ClientCounts,
    /// What the application must have been told so far.
    expected_ends: Ends,
    phases: Vec<Phase>,
}

impl Story {
    /// Measures a phase, at whose end everything that was expected must have come.
    fn phase(&mut self, name: &'static str, act: impl FnOnce(&mut Self)) {
        eprintln!("{name}");
        self.world.meter = Meter::default();
        ledger::begin_peak();
        let (began, virtually) = (wall_time(), self.world.now);
        act(self);
        self.phases.push(Phase {
            name,
            meter: std::mem::take(&mut self.world.meter),
            total: wall_time() - began,
            simulated: self.world.now.since(virtually),
            peak_bytes: ledger::peak_bytes(),
        });
        let mut seen = self.world.tally();
        // Their range is looked at where it arises.
        seen.silent_ms = None;
        assert_eq!(seen, self.expected, "after {name}: what the clients saw");
        assert_eq!(
            self.world.ends(),
            self.expected_ends,
            "after {name}: what the application was told"
        );
    }

    fn all(&self) -> u64 {
        u64::from(self.connections)
    }

    fn open(&mut self, name: &'static str) {
        self.expected.opened += self.all();
        self.phase(name, |story| {
            let by = |ms: u32| {
                let share = u64::from(story.connections) * u64::from(ms) / u64::from(OPENING_MS);
                share as u32
            };
            for ms in 0..OPENING_MS {
                story.world.connect(by(ms), by(ms + 1));
                story
                    .world
                    .run_until(story.world.now + Duration::from_millis(1));
            }
        });
        assert_eq!(
            self.world.holdings().connections as u64,
            self.all(),
            "all are open"
        );
    }

    /// Every connection is pinged once, and answers.
    fn keepalive(&mut self) {
        self.expected.pings += self.all();
        let interval = self.world.config.ping_interval.expect("it is on");
        self.phase("keepalive round", |story| {
            // The last opened a moment ago. Before the first are pinged again, a further interval
            // less an eighth must pass since their ping, which the opening leaves room for.
            let end = story.world.now + interval + Duration::from_millis(2 * TICK_MS);
            story.world.run_until(end);
        });
    }

    /// Everybody sends a message at the same moment, and gets it back.
    fn echo(&mut self) {
        self.expected.echoes += self.all();
        self.phase("echo sweep", |story| {
            story.world.say(ClientMessage::Echo);
            story.world.settle();
        });
    }

    fn subscribe(&mut self) {
        self.phase("subscribe", |story| {
            story.world.say(ClientMessage::Text(SUBSCRIBE));
            story.world.settle();
        });
        assert_eq!(self.world.holdings().subscriptions, self.all());
    }

    /// One connection publishes, and all get it.
    fn broadcast(&mut self) {
        self.expected.published += self.all();
        self.phase("broadcast", |story| {
            story.world.say_one(ClientMessage::Text(PUBLISH));
            story.world.settle();
        });
    }

    /// Another thread publishes several messages at once, and all get all.
    fn burst(&mut self, published: &str) {
        self.expected.published += BURST * self.all();
        self.phase("broadcast, 16 at once", |story| {
            for _ in 0..BURST {
                let result = story.world.remote.publish(TOPIC, published);
                result.expect("the shards are not busy");
            }
            story.world.settle();
        });
    }

    /// All close at the same moment.
    fn close_storm(&mut self) {
        self.expected.closes += self.all();
        self.expected.ended_in_order += self.all();
        self.expected_ends.by_peer += self.all();
        self.phase("close storm", |story| {
            story
                .world
                .say(ClientMessage::Close(CloseCode::NORMAL_CLOSURE));
            story.world.settle();
        });
    }

    /// The network is cut at one moment, and every connection ends at its deadline.
    fn silent_storm(&mut self) {
        self.expected.reset_in_silence += self.all();
        // A ping, and Close 1011.
        self.expected.lost += 2 * self.all();
        self.expected_ends.silent += self.all();
        let config = &self.world.config;
        let patience = config.ping_interval.expect("it is on")
            + config.ping_timeout.expect("it is on")
            + config.close_timeout;
        let tick = Duration::from_millis(TICK_MS);
        self.phase("silent storm", |story| {
            story.world.vanish();
            let end: Time = story.world.now + patience + tick;
            story.world.run_until(end);
        });
        let silent_ms = self.world.tally().silent_ms.expect("all have been");
        let patience_ms = patience.as_millis() as u64;
        assert!(
            *silent_ms.start() >= patience_ms && *silent_ms.end() <= patience_ms + TICK_MS,
            "P + T + C is {patience_ms} ms; they were let go of after {silent_ms:?} ms"
        );
    }

    /// The server shuts down: it closes all, and they answer.
    fn drain(&mut self) {
        self.expected.closes += self.all();
        self.expected.ended_in_order += self.all();
        self.expected_ends.drained += self.all();
        let limit = self.world.config.close_timeout / 2;
        self.phase("drain", |story| {
            story.world.remote.drain();
            story.world.run_dry(limit + Duration::from_millis(TICK_MS));
        });
        assert!(self.world.is_finished(), "the shards have ended");
        assert_eq!(self.world.in_use(), (0, 0), "descriptors, buffers");
    }

    /// Places, descriptors, buffers, entries of the wheel, subscriptions, bytes to send.
    fn nothing_is_left(&mut self, empty: &Memory) {
        self.phase("until the wheel is empty", |story| {
            story.world.run_dry(WHEEL_TURN);
        });
        let wheel_bytes = self.world.holdings().wheel_bytes;
        let nothing = Holdings {
            wheel_bytes,
            ..Holdings::default()
        };
        assert_eq!(self.world.holdings(), nothing);
        assert_eq!(self.world.in_use(), (0, 0), "descriptors, buffers");
        let kept = ledger::server_bytes().saturating_sub(empty.allocated);
        let shards = usize::from(self.world.config.shards.unwrap_or(1));
        assert!(
            kept <= KEPT_BYTES_MAX * shards,
            "{kept} bytes are kept on {shards} shards"
        );
    }
}

/// Of the last minute, of the last five.
fn load_average() -> String {
    let text = fs::read_to_string("/proc/loadavg").expect("proc is mounted");
    text.split(' ').take(2).collect::<Vec<_>>().join(", ")
}
