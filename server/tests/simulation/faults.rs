//! Random clients that send, stall, vanish, reset and close, on a kernel with frequent faults.

use std::{
    sync::atomic::{AtomicUsize, Ordering},
    time::Duration,
};

use tidewheel::{
    Config, Time,
    ring::sim::{Event, Faults, Simulation},
    shard::Heaviest,
};

use super::{
    bench::{Bench, SECOND, config, each_seed},
    close_storm::assert_nothing_left,
    oracle::{Drained, History, Undisturbed, assert_end, assert_served},
};

const CLIENTS: usize = 60;

/// Maximum size of a message in bytes.
const MESSAGE_MAX: usize = 6000;

/// Number of messages of a burst.
const BURST: usize = 8;

/// Maximum size of a message of a burst in bytes.
const BURST_MESSAGE_MAX: usize = 500;

/// Number of seeds; `TIDEWHEEL_SEEDS` overrides it.
const SEEDS: u64 = 2000;

/// Virtual time in which every reading client receives all its echoes.
const SERVED_WITHIN: Duration = Duration::from_secs(3);

/// Lower bound of the undisturbed clients of a run, averaged over all seeds.
const UNDISTURBED_MIN: usize = 8;

/// Lower bound of their messages, averaged over all seeds.
const MESSAGES_MIN: usize = 300;

const FREQUENT_FAULTS: Faults = Faults {
    short_send: 0.3,
    no_buffers: 0.2,
    multishot_end: 0.2,
    late: 0.5,
    small_pieces: 0.5,
    full_queue: 0.1,
};

/// A small descriptor table, few buffers, small send buffers, and a completion queue from tiny to large.
/// With the smaller buffers, many messages are received as large messages.
pub(crate) fn simulation(seed: u64) -> Simulation {
    let mut random = fastrand::Rng::with_seed(seed);
    let completions = random.choice([1, 2, 4, 16, 8192]);
    let buffer_size = random.choice([256, 512]);
    Simulation {
        seed,
        sockets: 50,
        buffers: 4,
        buffer_size: buffer_size.expect("the list is not empty"),
        completions: completions.expect("the list is not empty"),
        send_buffer: 2048,
        faults: FREQUENT_FAULTS,
        ..Simulation::default()
    }
}

/// The end of a run, chosen by the seed.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
enum Ending {
    /// Every reading client receives its echoes; then all clients close.
    ServeAndClose,
    /// Every reading client receives its echoes; then the server drains.
    ServeAndDrain,
    /// All clients close while echoes are queued and under way.
    Close,
    /// The server drains while echoes are queued and under way.
    Drain,
}

impl Ending {
    fn of(seed: u64) -> Self {
        match seed % 4 {
            0 => Self::ServeAndClose,
            1 => Self::ServeAndDrain,
            2 => Self::Close,
            _ => Self::Drain,
        }
    }
}

/// Runs one simulation, and asserts the results. Returns the trace and the counts of undisturbed clients.
pub(crate) fn random_run(simulation: Simulation) -> (Vec<Event>, Undisturbed) {
    let mut random = fastrand::Rng::with_seed(simulation.seed);
    // With a short send queue, unread bytes are read in parts. With a short ping interval, pings overtake
    // the queued echoes of clients that do not read.
    let (short_queue, short_interval) = (random.bool(), random.bool());
    let mut config = config();
    config.max_send_queue = if short_queue { 1024 } else { 8192 };
    config.ping_interval = Some(if short_interval { SECOND / 5 } else { SECOND });
    let mut bench = Bench::new(simulation, &config);
    // A shard must not free lent bytes in a second turn without an enter.
    bench.turns_per_enter = 1 + u32::from(random.u8(..8) == 0);
    let mut histories = Vec::new();
    for round in 0..40 {
        if bench.clients.len() < CLIENTS {
            for _ in 0..3 {
                connect_random(&mut bench, &mut histories, &mut random);
            }
        }
        for (at, history) in histories.iter_mut().enumerate() {
            act(&mut bench, at, history, &mut random);
        }
        bench.run(Time::from_millis((round + 1) * 20), |_| false);
        assert_memory_limits(&bench, &config);
    }
    let ending = Ending::of(simulation.seed);
    for (client, history) in bench.clients.iter_mut().zip(&histories) {
        client.is_silent &= !history.is_well_behaved;
    }
    match ending {
        Ending::ServeAndClose | Ending::ServeAndDrain => serve(&mut bench, &histories),
        // Messages and echoes are under way, or queued.
        Ending::Close | Ending::Drain => {
            for (at, history) in histories.iter_mut().enumerate() {
                act(&mut bench, at, history, &mut random);
            }
            bench.run_for(Duration::from_millis(random.u64(1..20)));
        }
    }
    let drained = match ending {
        Ending::ServeAndDrain => Drained::WhenServed,
        Ending::Drain => Drained::AtOnce,
        Ending::ServeAndClose | Ending::Close => Drained::Never,
    };
    // All open clients close, or the server drains; deadlines end the others.
    match drained {
        Drained::Never => close_all(&mut bench, &mut histories),
        Drained::AtOnce | Drained::WhenServed => bench.drain(),
    }
    bench.run_for(5 * SECOND);
    assert_eq!(bench.shard.connections(), 0, "all deadlines have passed");
    let mut undisturbed = Undisturbed::default();
    for (at, history) in histories.iter().enumerate() {
        assert_end(&bench, at, history, drained, &mut undisturbed);
    }
    {
        let record = bench.record.borrow();
        assert_eq!(
            record.open.len(),
            record.ends.len(),
            "`close` is called once for each `open`"
        );
        assert!(
            record.open.values().all(|opens| *opens == 1),
            "each connection opened once"
        );
    }
    assert_nothing_left(&mut bench);
    (bench.network.trace(), undisturbed)
}

/// Closes every open client, repeatedly: some are in the backlog until others have ended.
fn close_all(bench: &mut Bench, histories: &mut [History]) {
    for _ in 0..20 {
        for (at, history) in histories.iter_mut().enumerate() {
            history.close(bench, at);
        }
        bench.run_for(SECOND / 10);
    }
}

/// Runs until every reading client has received all its echoes.
fn serve(bench: &mut Bench, histories: &[History]) {
    let limit = bench.network.now() + SERVED_WITHIN;
    bench.run(limit, |bench| {
        let mut clients = bench.clients.iter().zip(histories);
        clients.all(|(client, history)| history.is_served(client))
    });
    for (client, history) in bench.clients.iter().zip(histories) {
        assert_served(client, history);
    }
}

/// Asserts the memory limits of a connection (R12).
fn assert_memory_limits(bench: &Bench, config: &Config) {
    let Heaviest {
        queue,
        unread,
        assembly,
    } = bench.shard.heaviest();
    assert!(unread <= bench.receive_memory, "{unread} bytes unread");
    let arriving = 2 * config.max_message_size + 1024;
    assert!(
        assembly <= arriving,
        "{assembly} bytes in an assembly buffer"
    );
    // Twice, because an empty vector may be kept, and the queue's own memory.
    let queue_max = 2 * (config.max_send_queue + 2 * MESSAGE_MAX) + 2048;
    assert!(queue <= queue_max, "{queue} bytes queued");
}

/// Connects a client that sends a whole request, part of one, or other bytes.
fn connect_random(bench: &mut Bench, histories: &mut Vec<History>, random: &mut fastrand::Rng) {
    let request: &[u8] = b"GET / HTTP/1.1\r\nHost: sim\r\nUpgrade: web";
    match random.u32(0..12) {
        0 => bench.connect_raw(b""),
        1 => bench.connect_raw(&request[..random.usize(1..request.len())]),
        2 => bench.connect_raw(b"\x16\x03\x01 junk \r\n\r\n"),
        kind => {
            let at = bench.connect();
            histories.resize_with(at, History::default);
            let mut history = History::new(random.bool());
            if kind == 3 {
                end_abruptly(bench, at, &mut history, random);
            }
            histories.push(history);
        }
    }
}

/// Ends a connection by silence, RST or FIN, without Close.
fn end_abruptly(bench: &Bench, at: usize, history: &mut History, random: &mut fastrand::Rng) {
    history.is_gone = true;
    let id = bench.clients[at].id;
    match random.u32(0..3) {
        0 => bench.network.vanish(id),
        1 => bench.network.reset(id),
        _ => bench.network.finish(id),
    }
}

fn send(
    bench: &mut Bench,
    at: usize,
    history: &mut History,
    size_max: usize,
    random: &mut fastrand::Rng,
) {
    let mut message = vec![0; random.usize(0..size_max)];
    random.fill(&mut message);
    history.send(bench, at, message);
}

fn act(bench: &mut Bench, at: usize, history: &mut History, random: &mut fastrand::Rng) {
    if !bench.is_open(at) || history.is_gone {
        return;
    }
    let id = bench.clients[at].id;
    match random.u32(0..100) {
        0..30 => send(bench, at, history, MESSAGE_MAX, random),
        // Several of these messages fit into one receive buffer.
        30..40 => (0..BURST).for_each(|_| send(bench, at, history, BURST_MESSAGE_MAX, random)),
        40..43 => bench.clients[at].is_silent = true,
        43..46 => bench.clients[at].is_silent = false,
        46..48 => bench.network.send(id, &b"\x89\x80keys".repeat(200)),
        // Well-behaved clients neither end the connection nor violate the protocol.
        _ if history.is_well_behaved => {}
        48..52 => end_abruptly(bench, at, history, random),
        52..54 => {
            // During the closing handshake.
            history.close(bench, at);
            end_abruptly(bench, at, history, random);
        }
        54..56 => history.close(bench, at),
        56..58 => {
            history.violated |= history.unfinished.is_none();
            bench.network.send(id, &[0xff; 30]);
        }
        58..60 => {
            // The beginning of a long frame, whose rest never follows.
            history
                .unfinished
                .get_or_insert(history.sent_messages.len());
            bench.network.send(id, b"\x82\xff\0\0\0\0\0\x0f\0\0keys");
        }
        _ => {}
    }
}

#[test]
fn random_ends_leave_no_resources_and_undisturbed_clients_get_every_echo() {
    let seeds = std::env::var("TIDEWHEEL_SEEDS").map_or(SEEDS, |seeds| {
        seeds.parse().expect("TIDEWHEEL_SEEDS is a number")
    });
    let (clients, messages) = (AtomicUsize::new(0), AtomicUsize::new(0));
    each_seed(seeds, |seed| {
        let run = || std::panic::catch_unwind(|| random_run(simulation(seed)));
        let Ok((trace, undisturbed)) = run() else {
            panic!("seed {seed} fails")
        };
        clients.fetch_add(undisturbed.clients, Ordering::Relaxed);
        messages.fetch_add(undisturbed.messages, Ordering::Relaxed);
        if seed % 10 == 0 {
            let Ok(again) = run() else {
                panic!("seed {seed} fails the second time")
            };
            assert!((trace, undisturbed) == again, "seed {seed} does not replay");
        }
    });
    let (clients, messages) = (clients.into_inner(), messages.into_inner());
    println!("{clients} clients undisturbed, {messages} messages, over {seeds} seeds");
    // With fewer undisturbed clients, the test would check too little.
    let seeds = usize::try_from(seeds).expect("the number of seeds fits usize");
    assert!(clients >= UNDISTURBED_MIN * seeds, "{clients} clients");
    assert!(messages >= MESSAGES_MIN * seeds, "{messages} messages");
}

#[test]
fn r19_a_thousand_rounds_on_one_shard_leave_no_more_resources_than_the_first() {
    const GROUPS: usize = 100;
    const ROUNDS: usize = 10;
    let mut random = fastrand::Rng::with_seed(19);
    let simulation = Simulation {
        completions: 8,
        ..simulation(19)
    };
    let mut bench = Bench::new(simulation, &config());
    let mut first = None;
    for group in 0..GROUPS {
        let begin = bench.clients.len();
        let mut histories = Vec::new();
        for _ in 0..ROUNDS {
            (0..3).for_each(|_| connect_random(&mut bench, &mut histories, &mut random));
            for (at, history) in histories.iter_mut().enumerate().skip(begin) {
                act(&mut bench, at, history, &mut random);
            }
            bench.run_for(SECOND / 50);
        }
        bench.run_for(SECOND);
        (begin..bench.clients.len()).for_each(|at| bench.close(at));
        bench.run_for(5 * SECOND);
        let left = bench.shard.holdings();
        let counts = (left.connections, left.wheel_entries, left.queued_bytes);
        assert_eq!(counts, (0, 0, 0), "group {group}");
        assert_eq!(bench.shard.heaviest(), Heaviest::default());
        assert_eq!(bench.network.open_sockets(), 0);
        assert_eq!(bench.network.buffers_free(), bench.buffers);
        assert_eq!(left, *first.get_or_insert(left), "group {group}");
    }
    assert_nothing_left(&mut bench);
}

#[test]
fn a_client_that_sends_nothing_is_reset_at_the_handshake_timeout() {
    let mut bench = Bench::new(Simulation::default(), &config());
    let _ = bench.network.connect();
    bench.run_for(Duration::from_millis(990));
    assert_eq!(bench.shard.connections(), 1, "the timeout is not early");
    bench.run_for(Duration::from_millis(60));
    assert_eq!(bench.shard.connections(), 0, "the timeout is not late");
    assert_nothing_left(&mut bench);
}
