//! Work for many connections is divided into slices, so that it delays others by few operations.

use std::{cell::Cell, time::Duration};

use tidewheel::{
    Config,
    ring::{
        OpCode,
        sim::{Event, EventKind, Faults, Simulation},
    },
};

use super::{
    bench::{Bench, config},
    echo::{PUBLISH, SUBSCRIBE},
};

const SUBSCRIBERS: usize = 100_000;

/// Maximum number of connections that published messages are sent to in a turn.
const FANOUT_PER_TURN: u64 = 128;

/// Maximum number of deliveries of pending messages in a turn.
const DELIVERIES_PER_TURN: u64 = 16_384;

/// Number of clients that connect together, below the number of receive buffers.
const BATCH: usize = 1000;

/// Each operation takes a millisecond, so elapsed milliseconds are operations.
fn simulation() -> Simulation {
    Simulation {
        sockets: SUBSCRIBERS as u32 + 10_000,
        buffers: 1024,
        buffer_size: 1024,
        // A client's message arrives at a random time within a slice.
        latency_ms_max: 2 * FANOUT_PER_TURN,
        operation_ms: 1,
        faults: Faults::NONE,
        ..Simulation::default()
    }
}

/// The same with a latency of at most a millisecond.
fn low_latency_simulation() -> Simulation {
    Simulation {
        latency_ms_max: 1,
        ..simulation()
    }
}

/// A configuration without deadlines, because operations are slow.
fn without_deadlines() -> Config {
    let mut config = config();
    config.ping_interval = None;
    config.ping_timeout = None;
    config.handshake_timeout = Duration::from_secs(3600);
    config
}

fn run_until(bench: &mut Bench, done: impl Fn(&Bench) -> bool) {
    let hour = bench.network.now() + Duration::from_secs(3600);
    bench.run(hour, &done);
    assert!(
        done(bench),
        "the condition holds within an hour of virtual time"
    );
}

/// Connects `count` clients.
fn connect(bench: &mut Bench, count: usize) {
    let first = bench.clients.len();
    for _ in 0..count {
        bench.connect();
    }
    run_until(bench, |bench| {
        (first..first + count).all(|at| bench.is_open(at))
    });
}

/// Connects `count` subscribers of `all`; returns the index of the first.
fn subscribe(bench: &mut Bench, count: usize) -> usize {
    let first = bench.clients.len();
    while bench.clients.len() < first + count {
        let at = bench.clients.len();
        connect(bench, BATCH);
        for at in at..at + BATCH {
            bench.send(at, format!("{SUBSCRIBE}all").as_bytes());
        }
        bench.run_for(Duration::from_secs(1));
    }
    first
}

/// For each message of the connection at `slot`, the number of operations between its arrival and its answer.
fn waits(trace: &[Event], slot: u32) -> Vec<u64> {
    let mut waits = Vec::new();
    let mut arrived_ms = None;
    // Operations that the turn queued before the answer.
    let mut queued = 0;
    for Event { at_ms, kind } in trace {
        match kind {
            EventKind::Completed {
                op, token, result, ..
            } if *op == OpCode::Receive && token.slot() == slot && *result > 0 => {
                assert_eq!(
                    arrived_ms.replace(*at_ms),
                    None,
                    "a message follows the answer to the previous one"
                );
                queued = 0;
            }
            EventKind::Submitted { op, token } if *op == OpCode::Send && token.slot() == slot => {
                let arrived_ms = arrived_ms.take().expect("an answer follows a message");
                waits.push(at_ms - arrived_ms + queued);
            }
            EventKind::Submitted { .. } => queued += 1,
            EventKind::Completed { .. }
            | EventKind::Overflowed
            | EventKind::Client { .. }
            | EventKind::Arrived { .. } => {}
        }
    }
    waits
}

#[test]
fn an_echo_during_a_fan_out_to_100_000_subscribers_waits_for_at_most_one_slice() {
    const PROBE: usize = 0;
    const PUBLISHER: usize = 1;
    const ROUNDS: usize = 5;
    let mut bench = Bench::new(simulation(), &without_deadlines());
    connect(&mut bench, 1);
    let slot = bench
        .network
        .trace()
        .iter()
        .find_map(|event| match event.kind {
            EventKind::Completed {
                op: OpCode::Receive,
                token,
                ..
            } => Some(token.slot()),
            _ => None,
        });
    let slot = slot.expect("the client's request was received");
    connect(&mut bench, 1);
    let first = subscribe(&mut bench, SUBSCRIBERS);
    let before = bench.network.trace().len();
    let last = first + SUBSCRIBERS - 1;
    let mut random = fastrand::Rng::with_seed(1);
    for round in 0..ROUNDS {
        bench.send(PUBLISHER, format!("{PUBLISH}all first").as_bytes());
        bench.run_for(Duration::from_millis(random.u64(0..SUBSCRIBERS as u64)));
        // Some subscribers have the first message; the others get both together.
        bench.send(PUBLISHER, format!("{PUBLISH}all second").as_bytes());
        while bench.clients[last].echoes.len() < 2 * (round + 1) {
            let echoes = bench.clients[PROBE].echoes.len();
            bench.send(PROBE, b"probe");
            run_until(&mut bench, |bench| {
                bench.clients[PROBE].echoes.len() > echoes
            });
        }
    }
    run_until(&mut bench, |bench| {
        let mut subscribers = bench.clients[first..].iter();
        subscribers.all(|client| client.echoes.len() == 2 * ROUNDS)
    });

    let mut waits = waits(&bench.network.trace()[before..], slot);
    assert!(waits.len() > 100, "{} echoes", waits.len());
    waits.sort_unstable();
    let (median, longest) = (waits[waits.len() / 2], waits[waits.len() - 1]);
    println!(
        "{} echoes waited for {median} deliveries in the median, {longest} at most",
        waits.len()
    );
    assert!(
        median > FANOUT_PER_TURN / 4,
        "the fan-out delays echoes: {median}"
    );
    assert!(longest <= FANOUT_PER_TURN, "{longest} deliveries");
}

/// Runs until `done`; returns the maximum number of deliveries of a turn.
fn run_and_count(bench: &mut Bench, done: impl Fn(&Bench) -> bool) -> u64 {
    let (before, per_turn_max) = (Cell::new(bench.shard.deliveries()), Cell::new(0));
    let count = |bench: &Bench| {
        let deliveries = bench.shard.deliveries();
        per_turn_max.set(
            per_turn_max
                .get()
                .max(deliveries - before.replace(deliveries)),
        );
    };
    run_until(bench, |bench| {
        count(bench);
        done(bench)
    });
    count(bench);
    per_turn_max.get()
}

/// A message is answered in the turn that reads it, after a slice of the fan-out and a slice of deliveries.
#[test]
fn a_turn_makes_a_slice_of_the_deliveries_to_100_000_subscribers() {
    const PROBE: usize = 0;
    const PUBLISHERS: std::ops::Range<usize> = 1..4;
    let mut bench = Bench::new(low_latency_simulation(), &without_deadlines());
    connect(&mut bench, PUBLISHERS.end);
    for at in PUBLISHERS {
        bench.send(at, format!("{SUBSCRIBE}few").as_bytes());
    }
    let first = subscribe(&mut bench, SUBSCRIBERS);
    // The subscriber that is served last.
    bench.send(first, format!("{SUBSCRIBE}few").as_bytes());
    bench.run_for(Duration::from_secs(1));

    let begin = bench.shard.deliveries();
    let pending = |bench: &Bench| begin + 3 * SUBSCRIBERS as u64 - bench.shard.deliveries();
    for at in PUBLISHERS {
        bench.send(at, format!("{PUBLISH}all {at}").as_bytes());
    }
    let most = run_and_count(&mut bench, |bench| bench.shard.deliveries() > begin);
    // A slice of connections gets all three messages, and so do the subscribers of `few`.
    let bound = DELIVERIES_PER_TURN + 3 * FANOUT_PER_TURN + 3 * 4;
    assert!(most <= bound, "{most} deliveries in the first turn");
    assert!(
        pending(&bench) > 10 * DELIVERIES_PER_TURN,
        "most deliveries are pending"
    );
    // A client publishes to the small topic, and sends a message to be echoed.
    bench.send(PROBE, format!("{PUBLISH}few quick").as_bytes());
    bench.send(PROBE, b"probe");
    let most = most.max(run_and_count(&mut bench, |bench| {
        !bench.clients[PROBE].echoes.is_empty() && bench.clients[first].echoes.len() == 4
    }));
    assert!(
        pending(&bench) > 5 * DELIVERIES_PER_TURN,
        "many deliveries are pending"
    );
    let most = most.max(run_and_count(&mut bench, |bench| {
        let mut clients = bench.clients[first..].iter();
        clients.all(|client| client.echoes.len() >= 3)
    }));
    println!("at most {most} deliveries in a turn");
    assert!(most <= bound, "{most} deliveries");
    let (all, small) = bench.clients[first].echoes.split_at(3);
    assert_eq!(
        small,
        [b"quick".to_vec()],
        "the message comes after earlier ones"
    );
    let mut sorted = all.to_vec();
    sorted.sort_unstable();
    assert_eq!(sorted, [b"1", b"2", b"3"], "each message once");
    for client in &bench.clients[first + 1..] {
        assert_eq!(client.echoes, all, "in the same order for all");
    }
}

/// A direct send follows the pending messages of its connection, and does not wait for other subscribers.
#[test]
fn a_send_follows_the_pending_messages_of_its_connection() {
    const PUBLISHER: usize = 0;
    const COUNT: usize = 100_000;
    let mut bench = Bench::new(low_latency_simulation(), &without_deadlines());
    connect(&mut bench, 1);
    let first = subscribe(&mut bench, COUNT);
    let begin = bench.shard.deliveries();
    bench.send(PUBLISHER, format!("{PUBLISH}all news").as_bytes());
    run_until(&mut bench, |bench| bench.shard.deliveries() > begin);
    for at in [first, first + COUNT / 2] {
        let pending = begin + COUNT as u64 - bench.shard.deliveries();
        assert!(
            pending > COUNT as u64 / 4,
            "{pending} deliveries are pending"
        );
        bench.send(at, b"echo");
        // A later subscriber does not get the message.
        let late = format!("{SUBSCRIBE}all");
        bench.send(PUBLISHER, late.as_bytes());
        run_until(&mut bench, |bench| bench.clients[at].echoes.len() == 2);
        let expected = [b"news".to_vec(), b"echo".to_vec()];
        assert_eq!(bench.clients[at].echoes, expected);
    }
    run_until(&mut bench, |bench| {
        let mut clients = bench.clients[first..].iter();
        clients.all(|client| !client.echoes.is_empty())
    });
    bench.run_for(Duration::from_secs(1));
    assert!(bench.clients[PUBLISHER].echoes.is_empty());
    assert_eq!(
        bench.shard.deliveries(),
        begin + COUNT as u64,
        "each message once"
    );
}

/// A subscriber of both topics gets both messages before its turn in the large topic.
#[test]
fn a_message_of_a_small_topic_does_not_wait_for_the_fan_out_of_a_large_one() {
    const PUBLISHER: usize = 0;
    const ROUNDS: usize = 5;
    const COUNT: usize = 20_000;
    let mut bench = Bench::new(simulation(), &without_deadlines());
    connect(&mut bench, 1);
    let last = subscribe(&mut bench, COUNT) + COUNT - 1;
    connect(&mut bench, 1);
    let other = last + 1;
    for at in [last, other] {
        bench.send(at, format!("{SUBSCRIBE}few").as_bytes());
    }
    bench.run_for(Duration::from_secs(1));
    for _ in 0..ROUNDS {
        bench.send(PUBLISHER, format!("{PUBLISH}all news").as_bytes());
        bench.run_for(Duration::from_secs(1));
        assert!(
            bench.clients[last].echoes.is_empty(),
            "the fan-out is not complete"
        );
        bench.send(PUBLISHER, format!("{PUBLISH}few quick").as_bytes());
        let sent_at = bench.network.now();
        for at in [other, last] {
            run_until(&mut bench, |bench| !bench.clients[at].echoes.is_empty());
        }
        // The message and the delivery wait for a slice each, and take the latency of a segment each.
        let waited = bench.network.now().since(sent_at).as_millis() as u64;
        let latency_ms = 2 * simulation().latency_ms_max;
        assert!(
            waited <= 2 * FANOUT_PER_TURN + latency_ms,
            "{waited} deliveries"
        );
        run_until(&mut bench, |bench| bench.clients[last].echoes.len() == 2);
        run_until(&mut bench, |bench| {
            let mut others = bench.clients[1..last].iter();
            others.all(|client| client.echoes.len() == 1)
        });
        assert_eq!(
            bench.clients[last].echoes,
            [b"news".to_vec(), b"quick".to_vec()]
        );
        for client in &mut bench.clients {
            client.echoes.clear();
        }
    }
}

/// The pings of all connections but one are due at the same time. The messages of that one arrive among the
/// pongs.
#[test]
fn r20_an_echo_during_ten_thousand_simultaneous_pings_waits_for_at_most_96_operations() {
    const PROBE: usize = 0;
    const COUNT: usize = 10_000;
    const INTERVAL: Duration = Duration::from_secs(80);
    /// Operations: a slice of pings, and one receive for each buffer.
    const WAIT_MAX: u64 = 32 + 64;
    let simulation = Simulation {
        buffers: 64,
        latency_ms_max: 2,
        operation_ms: 0,
        ..simulation()
    };
    let mut config = without_deadlines();
    config.ping_interval = Some(INTERVAL);
    let mut bench = Bench::new(simulation, &config);
    connect(&mut bench, 1);
    while bench.clients.len() <= COUNT {
        connect(&mut bench, BATCH);
    }
    let begin = bench.network.trace().len();
    // Pings are sent up to an eighth of the interval early. Operations become slow before that, so that the
    // pings take as long as this eighth.
    bench.run_for(INTERVAL - INTERVAL / 8 - Duration::from_secs(1));
    bench.network.set_operation_ms(1);

    let mut waits = Vec::new();
    let end = bench.network.now() + INTERVAL / 4;
    while bench.network.now() < end {
        let (echoes, sent_at) = (bench.clients[PROBE].echoes.len(), bench.network.now());
        bench.send(PROBE, b"probe");
        run_until(&mut bench, |bench| {
            bench.clients[PROBE].echoes.len() > echoes
        });
        waits.push(bench.network.now().since(sent_at).as_millis() as u64);
    }
    let trace = bench.network.trace();
    let is_send = |event: &&Event| matches!(event.kind, EventKind::Client { action: "send", .. });
    let pongs = trace[begin..].iter().filter(is_send).count() - waits.len();
    assert!(pongs >= COUNT, "{pongs} pongs");
    waits.sort_unstable();
    let (median, longest) = (waits[waits.len() / 2], waits[waits.len() - 1]);
    println!(
        "{} echoes waited for {median} operations in the median, {longest} at most",
        waits.len()
    );
    assert!(longest <= WAIT_MAX, "{longest} operations");
}

/// A drain proceeds while more messages are pending than the shard can deliver.
#[test]
fn a_drain_starts_while_jobs_of_other_threads_are_deferred() {
    const PUBLISHER: usize = 0;
    /// Half as many pending messages defer the jobs of other threads.
    const MESSAGES: u64 = 64;
    let mut bench = Bench::new(low_latency_simulation(), &without_deadlines());
    connect(&mut bench, 1);
    subscribe(&mut bench, SUBSCRIBERS);
    let begin = bench.shard.deliveries();
    for number in 0..MESSAGES {
        bench.send(PUBLISHER, format!("{PUBLISH}all {number}").as_bytes());
    }
    run_until(&mut bench, |bench| bench.shard.deliveries() > begin);
    bench.drain();
    run_until(&mut bench, |bench| bench.clients[PUBLISHER].end.is_some());
    let pending = begin + MESSAGES * SUBSCRIBERS as u64 - bench.shard.deliveries();
    let bound = MESSAGES / 2 * SUBSCRIBERS as u64;
    assert!(pending > bound, "{pending} deliveries are pending");
}
