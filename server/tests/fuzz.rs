//! The fuzz target over its corpus, over changed inputs of the corpus, and over random bytes.

#[path = "../fuzz/src/lib.rs"]
#[expect(
    unreachable_pub,
    dead_code,
    reason = "cargo fuzz builds it as a separate crate"
)]
mod harness;

use std::{fs, path::PathBuf, sync::Once};

use harness::{
    Action, Behavior, CANCEL_TIMERS, Connect, Course, Outcome, SET_TIMERS, START_TASKS, Step,
    offset,
};

/// Number of random inputs.
const RANDOM_INPUTS: u64 = 400;
/// Number of changed inputs for each input of the corpus.
const CHANGED_INPUTS: u64 = 40;

/// Settings that enable every fault at the second of three rates.
const FAULTY: [(usize, u8); 2] = [(offset::FAULTS, 0b1010_1010), (offset::FAULTS + 1, 0b1010)];

/// Runs an input, and suppresses the messages of the panics that it requests.
fn shard(bytes: &[u8]) -> Outcome {
    static QUIET: Once = Once::new();
    QUIET.call_once(harness::ignore_requested_panics);
    harness::shard(bytes)
}

/// Builds an input.
struct Script(Vec<u8>);

impl Script {
    fn new(settings: &[(usize, u8)]) -> Self {
        let mut setup = vec![0; offset::COUNT];
        for (place, value) in settings {
            setup[*place] = *value;
        }
        Self(setup)
    }

    fn act(mut self, client: u8, act: Action<'_>) -> Self {
        act.write(client, &mut self.0);
        self
    }

    /// Adds the action for all clients below `count`.
    fn each(mut self, count: u8, act: Action<'_>) -> Self {
        for client in 0..count {
            self = self.act(client, act);
        }
        self
    }

    /// Connects all clients below `count`.
    fn connect(self, count: u8, options: u8) -> Self {
        let behavior = 0;
        self.each(count, Action::Connect { options, behavior })
            .pass(30)
    }

    fn pass(self, time: u8) -> Self {
        self.act(0, Action::Pass { time })
    }

    fn echo(self, client: u8, length: u16) -> Self {
        let is_text = length % 2 == 1;
        self.act(client, Action::Echo { length, is_text })
    }

    fn command(self, client: u8, letter: u8, argument: u8, length: u16) -> Self {
        let command = Action::Command {
            letter,
            argument,
            length,
        };
        self.act(client, command)
    }

    fn raw(self, client: u8, piece: u8, bytes: &[u8]) -> Self {
        self.act(client, Action::Raw { piece, bytes })
    }
}

/// Returns the stored inputs: scenarios that a fuzzer would find only after a long time.
fn scenarios() -> Vec<(&'static str, Script)> {
    let reads = |is_reading| Action::Read { is_reading };
    let remote = |what, argument| Action::Remote { what, argument };
    let later = |course: Course| Connect::later(course as u8);
    let commands = |course: Course, step: Step| course as u8 | (step as u8) << 3;
    let (in_order, many) = (64, 128);
    let small = [
        (offset::BUFFERS, 3),
        (offset::BUFFER_SIZE, 4),
        (offset::SEND_BUFFER, 3),
        (offset::SEND_QUEUE, 3),
    ];
    vec![
        (
            "echo",
            Script::new(&[])
                .connect(3, 0)
                .echo(0, 20)
                .echo(1, 5000)
                .echo(2, 20_001)
                .act(0, Action::Burst { count: 30, length: 40 })
                .act(1, Action::Fragments { length: 60, frame_size: 6 })
                .act(2, Action::Ping { length: 100 })
                .pass(100)
                .act(0, Action::Close)
                .pass(20),
        ),
        (
            "faults",
            Script::new(&[&FAULTY[..], &small, &[(offset::COMPLETIONS, 3)]].concat())
                .connect(5, 0)
                .echo(0, 3000)
                .echo(1, 4001)
                .act(2, Action::Burst { count: 60, length: 10 })
                .act(3, Action::Fragments { length: 40, frame_size: 0 })
                .pass(40)
                .act(4, reads(false))
                .echo(4, 9000)
                .pass(80)
                .echo(0, 600),
        ),
        (
            "fan_out",
            Script::new(&[])
                .connect(6, 0)
                .each(4, Action::Command { letter: b's', argument: 5, length: 2 })
                .command(4, b's', 2, 2)
                .pass(10)
                .command(5, b'p', 6 * 5, 3000)
                .command(5, b'p', 6 * 15 + 1, 100)
                .command(0, b'o', 6 * 3, 500)
                .pass(20)
                .act(0, remote(10, 9))
                .command(1, b'u', 5, 2)
                .command(5, b'p', 2, 200)
                .echo(5, 100)
                .pass(50),
        ),
        (
            "slow_close",
            Script::new(&small)
                .connect(4, 0)
                .each(3, Action::Command { letter: b's', argument: 5, length: 2 })
                .pass(10)
                .act(0, reads(false))
                .act(1, reads(false))
                .command(3, b'p', 6 * 15, 900)
                .command(3, b'p', 6 * 15 + 2, 900)
                .pass(60)
                .act(1, reads(true))
                .pass(200),
        ),
        (
            "slow_conflate",
            Script::new(&[&small[..], &[(offset::SLOW_CONSUMER, 3), (offset::SLOW_CONSUMER_KEPT, 2)]].concat())
                .connect(4, 0)
                .each(3, Action::Command { letter: b's', argument: 5, length: 2 })
                .pass(10)
                .act(0, reads(false))
                .command(3, b'p', 6 * 15, 900)
                .command(3, b'p', 6 * 15 + 2, 900)
                .pass(60)
                .command(3, b'p', 6 * 15, 300)
                .act(0, reads(true))
                .pass(200),
        ),
        (
            "flood",
            Script::new(&[(offset::SLOW_CONSUMER, 2), (offset::SEND_BUFFER, 1), (offset::SEND_QUEUE, 1)])
                .connect(3, 0)
                .each(2, Action::Command { letter: b's', argument: 0, length: 2 })
                .pass(10)
                .act(0, reads(false))
                .command(2, b'p', 6 * 15, 16_000)
                .command(2, b'p', 6 * 15, 16_000)
                .command(2, b'm', 40, 3000)
                .pass(100)
                .echo(2, 50)
                .act(0, reads(true))
                .pass(130),
        ),
        (
            "deflate",
            Script::new(&[(offset::COMPRESSION, 2), (offset::SEED, 3)])
                .connect(3, Connect::DEFLATES)
                .echo(0, 5001)
                .act(1, Action::Burst { count: 10, length: 90 })
                .each(3, Action::Command { letter: b's', argument: 0, length: 2 })
                .pass(20)
                .command(1, b'p', 6 * 4, 2000)
                .pass(30)
                .act(0, Action::Frame { first: 0xc2, length: 40 })
                .pass(20),
        ),
        (
            "takeover",
            Script::new(&[&FAULTY[..], &[(offset::COMPRESSION, 3), (offset::SLOW_CONSUMER, 4)]].concat())
                .connect(3, Connect::DEFLATES)
                .echo(0, 5001)
                .echo(0, 5001)
                .act(1, Action::Burst { count: 10, length: 90 })
                .command(2, b's', 0, 2)
                .pass(20)
                .command(1, b'p', 6 * 4, 2000)
                .pass(30),
        ),
        (
            "ends",
            Script::new(&[(offset::PING_INTERVAL, 1), (offset::PING_TIMEOUT, 1)])
                .connect(10, 0)
                .echo(0, 100)
                .act(0, Action::Finish)
                .echo(1, 100)
                .act(1, Action::Reset)
                .act(2, Action::Vanish)
                .act(3, Action::Close)
                .act(3, Action::Reset)
                .act(4, reads(false))
                .command(5, b'c', 1, 2)
                .echo(5, 30)
                .command(6, b'!', 0, 30)
                .echo(6, 30)
                .act(7, Action::Frame { first: 0x88, length: 1 })
                .act(8, Action::Frame { first: 0x83, length: 5 })
                .act(0, remote(200, 9))
                .pass(170),
        ),
        (
            "panics",
            Script::new(&[])
                .act(0, Action::Connect { options: 0, behavior: Behavior::REJECTS })
                .act(1, Action::Connect { options: 0, behavior: Behavior::UPGRADE_PANICS })
                .act(2, Action::Connect { options: Connect::SENDS_EARLY, behavior: Behavior::OPEN_PANICS | Behavior::GREETS })
                .act(3, Action::Connect { options: Connect::WAITS, behavior: Behavior::CLOSE_PANICS | Behavior::SUBSCRIBES })
                .act(4, Action::Connect { options: Connect::WAITS, behavior: Behavior::DROP_PANICS | Behavior::CLOSE_PANICS })
                .act(5, Action::Connect { options: Connect::SENDS_EARLY, behavior: 0 })
                .pass(30)
                .command(5, b'p', 6, 100)
                .command(3, b'!', 0, 2)
                .act(4, Action::Close)
                .pass(60),
        ),
        (
            "handshakes",
            Script::new(&[(offset::SOCKETS, 12), (offset::CONNECTIONS, 2), (offset::OPTIONS, 0b1_0110), (offset::HANDSHAKE_TIMEOUT, 1)])
                .act(0, Action::ConnectRaw { bytes: b"" })
                .act(1, Action::ConnectRaw { bytes: b"GET / HTTP/1.1\r\nHost: sim\r\nUpgrade: web" })
                .act(2, Action::ConnectRaw { bytes: b"\x16\x03\x01 junk \r\n\r\n" })
                .act(3, Action::ConnectRaw {
                    bytes: b"GET /99/0 HTTP/1.1\r\nHost: s\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\
                        Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: AAAAAAAAAAAAAAAAAAAAAA==\r\n\r\n\
                        \x82\x85\0\0\0\0hello",
                })
                .pass(50)
                .raw(1, 3, b"socket\r\nConnection: Upgrade\r\n")
                .connect(9, Connect::WAITS)
                .pass(200),
        ),
        (
            "deadlines",
            Script::new(&[(offset::IDLE_TIMEOUT, 2), (offset::LIFETIME, 2), (offset::OPTIONS, 0b1001), (offset::CLOSE_TIMEOUT, 1)])
                .connect(6, 0)
                .act(0, Action::Burst { count: 8, length: 5 })
                .pass(150)
                .echo(1, 40)
                .act(2, reads(false))
                .pass(150)
                .act(3, Action::Vanish)
                .pass(160),
        ),
        (
            "drain",
            Script::new(&[(offset::OPTIONS, 0b1000), (offset::PING_INTERVAL, 2)])
                .connect(8, 0)
                .echo(0, 3000)
                .act(1, reads(false))
                .act(2, Action::Vanish)
                .act(9, Action::ConnectRaw { bytes: b"GET /" })
                .act(0, remote(250, 0))
                .act(10, Action::Connect { options: 0, behavior: 0 })
                .pass(60)
                .echo(3, 40)
                .pass(90),
        ),
        (
            "ring_failure",
            Script::new(&[&FAULTY[..], &[(offset::ENDING, 7)]].concat())
                .connect(5, 0)
                .echo(0, 3000)
                .act(1, reads(false))
                .command(2, b's', 0, 2)
                .act(3, Action::Close)
                .act(4, Action::Finish)
                .command(0, b'p', 0, 200)
                .pass(6)
                .echo(0, 4000),
        ),
        (
            "answers_later",
            Script::new(&[(offset::HANDSHAKE_TIMEOUT, 1)])
                .act(0, Action::Connect { options: later(Course::AtOnce), behavior: 0 })
                .act(1, Action::Connect { options: later(Course::Long) | Connect::SENDS_EARLY, behavior: 0 })
                .act(2, Action::Connect { options: later(Course::Never), behavior: 0 })
                .act(3, Action::Connect { options: later(Course::PanicsLater), behavior: 0 })
                .act(4, Action::Connect { options: later(Course::Long), behavior: Behavior::DROP_PANICS })
                .act(5, Action::Connect { options: later(Course::PanicsWhenDropped), behavior: Behavior::REJECTS })
                .act(6, Action::Http { options: 1 | later(Course::Yields), behavior: 50, length: 90 })
                .act(7, Action::Http { options: 2 | later(Course::Long), behavior: 51, length: 0 })
                .act(8, Action::Http { options: later(Course::Never), behavior: 0, length: 0 })
                .act(9, Action::Http { options: 1, behavior: 100, length: 255 })
                .pass(20)
                .act(4, Action::Reset)
                .echo(0, 30)
                .pass(170)
                .echo(1, 50),
        ),
        (
            "tasks",
            Script::new(&[])
                .connect(6, 0)
                .command(0, START_TASKS, commands(Course::Yields, Step::Nothing) | many, 2)
                .echo(0, 30)
                .command(1, START_TASKS, commands(Course::Long, Step::Send) | in_order | many, 2)
                .command(1, START_TASKS, commands(Course::AtOnce, Step::Spawn) | in_order, 2)
                .echo(1, 30)
                .command(2, START_TASKS, commands(Course::Short, Step::Close) | many, 2)
                .command(3, START_TASKS, commands(Course::PanicsLater, Step::Nothing), 2)
                .command(4, START_TASKS, commands(Course::Never, Step::Nothing) | many, 2)
                .echo(4, 30)
                .command(5, START_TASKS, commands(Course::Short, Step::Panic), 2)
                .act(0, remote(41, 0))
                .act(0, remote(40, 3))
                .pass(170)
                .act(1, Action::Reset)
                .pass(170),
        ),
        (
            "tasks_in_order",
            Script::new(&[])
                .connect(2, 0)
                .command(0, START_TASKS, commands(Course::Long, Step::Nothing) | in_order | many, 2)
                .command(0, START_TASKS, commands(Course::Long, Step::Nothing) | in_order | many, 2)
                .echo(0, 30)
                .command(1, START_TASKS, commands(Course::Yields, Step::Spawn) | in_order | many, 2)
                .act(1, Action::Vanish)
                .pass(60),
        ),
        (
            "calls_of_unknown_ids",
            Script::new(&[])
                .act(0, remote(40, 0))
                .act(0, remote(40, 1))
                .connect(1, 0)
                .act(0, remote(40, 0))
                .act(0, Action::Close)
                .act(0, remote(46, 0))
                .pass(30)
                .act(0, remote(41, 0))
                .pass(30),
        ),
        (
            "full_of_tasks",
            Script::new(&[(offset::OPTIONS, 0b110_0000)])
                .connect(3, 0)
                .command(0, START_TASKS, commands(Course::Never, Step::Nothing), 2)
                .command(1, START_TASKS, commands(Course::Long, Step::Send) | in_order | many, 2)
                .echo(1, 30)
                .pass(20)
                .act(4, Action::Connect { options: later(Course::PanicsWhenDropped), behavior: 0 })
                .act(5, Action::Http { options: 1 | later(Course::AtOnce), behavior: 50, length: 20 })
                .pass(170),
        ),
        (
            "timers",
            Script::new(&[])
                .connect(5, 0)
                .command(0, SET_TIMERS, 3 | many, 2)
                .command(0, SET_TIMERS, 7, 2)
                .command(0, CANCEL_TIMERS, 2, 2)
                .each(6, Action::Command { letter: SET_TIMERS, argument: 6 | many, length: 2 })
                .command(1, SET_TIMERS, (Step::SetTimer as u8) << 3, 2)
                .command(1, SET_TIMERS, 4 | (Step::Close as u8) << 3, 2)
                .command(2, SET_TIMERS, 1 | (Step::Panic as u8) << 3, 2)
                .command(3, SET_TIMERS, 2 | 64, 2)
                .command(4, b'a', 0, 2)
                .command(4, b's', 0, 2)
                .pass(60)
                .command(0, CANCEL_TIMERS, 1, 2)
                .command(0, CANCEL_TIMERS, 254, 2)
                .pass(170)
                .echo(0, 20),
        ),
        (
            "large",
            Script::new(&[(offset::BUFFER_SIZE, 4), (offset::BUFFERS, 2), (offset::SEND_BUFFER, 2)])
                .connect(2, 0)
                .echo(0, 20_000)
                .echo(1, 15_001)
                .pass(50)
                .act(1, reads(false))
                .echo(1, 12_000)
                .pass(50)
                .echo(0, 9000)
                .act(0, Action::Finish),
        ),
    ]
}

fn folder() -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("fuzz/corpus/shard")
}

/// Returns all stored inputs, in order of their names.
fn corpus() -> Vec<Vec<u8>> {
    let folder = folder();
    let mut paths: Vec<_> = fs::read_dir(&folder)
        .unwrap_or_else(|error| panic!("{}: {error}", folder.display()))
        .map(|entry| entry.unwrap().path())
        .collect();
    paths.sort();
    assert!(!paths.is_empty(), "{} is empty", folder.display());
    paths.iter().map(|path| fs::read(path).unwrap()).collect()
}

/// With `TIDEWHEEL_WRITE_CORPUS` in the environment, the files are written.
#[test]
fn the_corpus_contains_the_scenarios() {
    for (name, Script(bytes)) in scenarios() {
        let path = folder().join(name);
        if std::env::var_os("TIDEWHEEL_WRITE_CORPUS").is_some() {
            fs::write(&path, &bytes).unwrap();
        }
        let stored = fs::read(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display()));
        assert!(
            stored == bytes,
            "{name} differs: run again with TIDEWHEEL_WRITE_CORPUS=1"
        );
    }
}

#[test]
fn scenarios_run_deterministically_and_cover_each_kind_of_work() {
    let mut all = Outcome::default();
    for (name, Script(bytes)) in scenarios() {
        let outcome = shard(&bytes);
        assert!(outcome.connections > 0, "{name}: {outcome:?}");
        all.connections += outcome.connections;
        all.echoes += outcome.echoes;
        all.deliveries += outcome.deliveries;
        all.missed += outcome.missed;
        all.tasks += outcome.tasks;
        all.timers += outcome.timers;
        all.calls += outcome.calls;
        all.responses += outcome.responses;
        assert_eq!(shard(&bytes), outcome, "{name} is not deterministic");
    }
    assert!(
        all.echoes > 100 && all.deliveries > 200 && all.missed > 10,
        "{all:?}"
    );
    assert!(
        all.tasks > 40 && all.timers > 200 && all.calls >= 2 && all.responses >= 4,
        "{all:?}"
    );
}

#[test]
fn stored_inputs_and_their_prefixes_pass() {
    for input in corpus() {
        shard(&input);
        for size in (0..input.len()).step_by(7) {
            shard(&input[..size]);
        }
    }
}

#[test]
fn stored_inputs_with_changed_bytes_pass() {
    for (input, seed) in corpus().into_iter().zip(0..) {
        let mut random = fastrand::Rng::with_seed(seed);
        for _ in 0..CHANGED_INPUTS {
            let mut changed = input.clone();
            for _ in 0..random.usize(1..5) {
                let at = random.usize(0..changed.len());
                changed[at] = random.u8(..);
            }
            shard(&changed);
        }
    }
}

#[test]
fn random_inputs_pass() {
    for seed in 0..RANDOM_INPUTS {
        let mut random = fastrand::Rng::with_seed(seed);
        let mut input = vec![0; random.usize(0..400)];
        random.fill(&mut input);
        shard(&input);
    }
}

#[test]
fn concatenated_stored_inputs_pass() {
    let corpus = corpus();
    let mut random = fastrand::Rng::with_seed(1);
    for _ in 0..RANDOM_INPUTS / 4 {
        let (first, second) = (random.choice(&corpus), random.choice(&corpus));
        let (first, second) = (first.expect("at least one"), second.expect("some"));
        let from = offset::COUNT.min(second.len());
        shard(&[&first[..], &second[from..]].concat());
    }
}
