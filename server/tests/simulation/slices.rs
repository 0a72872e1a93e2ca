//! What is to be done for very many goes out in slices, and holds nobody up for more than a few.

use std::{cell::Cell, time::Duration};

use tidewheel::{
    Config,
    ring::{
        OpCode,
        sim::{Event, Faults, Simulation, What},
    },
};

use super::bench::{Bench, PUBLISH, SUBSCRIBE, config};

const SUBSCRIBERS: usize = 100_000;

/// Connections that get what was published in a turn.
const SLICE: u64 = 128;

/// What is published is put behind what waits for so many in a turn.
const INTAKE: u64 = 16_384;

/// Clients that come side by side: more than there are receive buffers would take turns.
const BATCH: usize = 1000;

/// Each operation takes a millisecond, so that what time passes is what was done.
fn simulation() -> Simulation {
    Simulation {
        sockets: SUBSCRIBERS as u32 + 10_000,
        buffers: 1024,
        buffer_size: 1024,
        // Whoever says something says it at any moment of a slice.
        latency_ms_max: 2 * SLICE,
        operation_ms: 1,
        faults: Faults::NONE,
        ..Simulation::default()
    }
}

/// The same, and clients that are close by.
fn near() -> Simulation {
    Simulation {
        latency_ms_max: 1,
        ..simulation()
    }
}

/// No deadline passes, as slow as this is.
fn patient() -> Config {
    Config {
        ping_interval: None,
        ping_timeout: None,
        handshake_timeout: Duration::from_secs(3600),
        ..config()
    }
}

fn run_until(bench: &mut Bench, done: impl Fn(&Bench) -> bool) {
    let hour = bench.network.now() + Duration::from_secs(3600);
    bench.run(hour, &done);
    assert!(done(bench), "within an hour of virtual time");
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

/// Connects `count` subscribers of `all`; gives the first.
fn subscribe(bench: &mut Bench, count: usize) -> usize {
    let first = bench.clients.len();
    while bench.clients.len() < first + count {
        let at = bench.clients.len();
        connect(bench, BATCH);
        for at in at..at + BATCH {
            bench.say(at, format!("{SUBSCRIBE}all").as_bytes());
        }
        bench.run_for(Duration::from_secs(1));
    }
    first
}

/// For each message that `slot` has sent since `begin`, the operations between its arrival and its
/// answer.
fn waits(trace: &[Event], slot: u32) -> Vec<u64> {
    let mut waits = Vec::new();
    let mut arrived_ms = None;
    // Queued before the answer, in the same turn.
    let mut queued = 0;
    for Event { at_ms, what } in trace {
        match what {
            What::Completed {
                op, token, result, ..
            } if *op == OpCode::Receive && token.slot() == slot && *result > 0 => {
                assert_eq!(arrived_ms.replace(*at_ms), None, "one after the other");
                queued = 0;
            }
            What::Submitted { op, token } if *op == OpCode::Send && token.slot() == slot => {
                let arrived_ms = arrived_ms.take().expect("an answer to something");
                waits.push(at_ms - arrived_ms + queued);
            }
            What::Submitted { .. } => queued += 1,
            What::Completed { .. }
            | What::Overflowed
            | What::Client { .. }
            | What::Arrived { .. } => {}
        }
    }
    waits
}

#[test]
fn an_echo_beside_a_fan_out_to_a_hundred_thousand_waits_for_one_slice_at_most() {
    const PROBE: usize = 0;
    const PUBLISHER: usize = 1;
    const ROUNDS: usize = 5;
    let mut bench = Bench::new(simulation(), &patient());
    connect(&mut bench, 1);
    let slot = bench
        .network
        .trace()
        .iter()
        .find_map(|event| match event.what {
            What::Completed {
                op: OpCode::Receive,
                token,
                ..
            } => Some(token.slot()),
            _ => None,
        });
    let slot = slot.expect("its request has been received");
    connect(&mut bench, 1);
    let first = subscribe(&mut bench, SUBSCRIBERS);
    let before = bench.network.trace().len();
    let last = first + SUBSCRIBERS - 1;
    let mut random = fastrand::Rng::with_seed(1);
    for round in 0..ROUNDS {
        bench.say(PUBLISHER, format!("{PUBLISH}all first").as_bytes());
        bench.run_for(Duration::from_millis(random.u64(0..SUBSCRIBERS as u64)));
        // Some have the first one by now; to the others both go together.
        bench.say(PUBLISHER, format!("{PUBLISH}all second").as_bytes());
        while bench.clients[last].echoes.len() < 2 * (round + 1) {
            let echoes = bench.clients[PROBE].echoes.len();
            bench.say(PROBE, b"probe");
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
    assert!(median > SLICE / 4, "the fan-out was in the way: {median}");
    assert!(longest <= SLICE, "{longest} deliveries");
}

/// Runs until `done`; gives the most deliveries that a turn made meanwhile.
fn run_and_count(bench: &mut Bench, done: impl Fn(&Bench) -> bool) -> u64 {
    let (before, most) = (Cell::new(bench.shard.deliveries()), Cell::new(0));
    let count = |bench: &Bench| {
        let deliveries = bench.shard.deliveries();
        most.set(most.get().max(deliveries - before.replace(deliveries)));
    };
    run_until(bench, |bench| {
        count(bench);
        done(bench)
    });
    count(bench);
    most.get()
}

/// What is read in a turn is answered in the same, behind a slice of connections (as seen above), and
/// of deliveries.
#[test]
fn a_turn_takes_in_a_slice_of_what_is_published_to_a_hundred_thousand() {
    const PROBE: usize = 0;
    const PUBLISHERS: std::ops::Range<usize> = 1..4;
    let mut bench = Bench::new(near(), &patient());
    connect(&mut bench, PUBLISHERS.end);
    for at in PUBLISHERS {
        bench.say(at, format!("{SUBSCRIBE}few").as_bytes());
    }
    let first = subscribe(&mut bench, SUBSCRIBERS);
    // The last to have its turn.
    bench.say(first, format!("{SUBSCRIBE}few").as_bytes());
    bench.run_for(Duration::from_secs(1));

    let begin = bench.shard.deliveries();
    let owed = |bench: &Bench| begin + 3 * SUBSCRIBERS as u64 - bench.shard.deliveries();
    for at in PUBLISHERS {
        bench.say(at, format!("{PUBLISH}all {at}").as_bytes());
    }
    let most = run_and_count(&mut bench, |bench| bench.shard.deliveries() > begin);
    // A slice of connections whose turn it is have all three, and so have few.
    let most_allowed = INTAKE + 3 * SLICE + 3 * 4;
    assert!(most <= most_allowed, "{most} deliveries in the first turn");
    assert!(owed(&bench) > 10 * INTAKE, "it has just begun");
    // Somebody publishes to few, and asks for an echo.
    bench.say(PROBE, format!("{PUBLISH}few quick").as_bytes());
    bench.say(PROBE, b"probe");
    let most = most.max(run_and_count(&mut bench, |bench| {
        !bench.clients[PROBE].echoes.is_empty() && bench.clients[first].echoes.len() == 4
    }));
    assert!(owed(&bench) > 5 * INTAKE, "it goes on");
    let most = most.max(run_and_count(&mut bench, |bench| {
        let mut clients = bench.clients[first..].iter();
        clients.all(|client| client.echoes.len() >= 3)
    }));
    println!("{most} deliveries in a turn at most");
    assert!(most <= most_allowed, "{most} deliveries");
    let (all, quick) = bench.clients[first].echoes.split_at(3);
    assert_eq!(quick, [b"quick".to_vec()], "behind what came before");
    let mut sorted = all.to_vec();
    sorted.sort_unstable();
    assert_eq!(sorted, [b"1", b"2", b"3"], "each once");
    for client in &bench.clients[first + 1..] {
        assert_eq!(client.echoes, all, "in the same order");
    }
}

/// What a connection is sent comes behind what was published to it before, although it is owed that
/// still; and does not wait until the others have it.
#[test]
fn what_is_sent_comes_behind_what_is_owed() {
    const PUBLISHER: usize = 0;
    const COUNT: usize = 100_000;
    let mut bench = Bench::new(near(), &patient());
    connect(&mut bench, 1);
    let first = subscribe(&mut bench, COUNT);
    let begin = bench.shard.deliveries();
    bench.say(PUBLISHER, format!("{PUBLISH}all news").as_bytes());
    run_until(&mut bench, |bench| bench.shard.deliveries() > begin);
    for at in [first, first + COUNT / 2] {
        let owed = begin + COUNT as u64 - bench.shard.deliveries();
        assert!(owed > COUNT as u64 / 4, "{owed} are owed");
        bench.say(at, b"echo");
        // Comes later.
        let late = format!("{SUBSCRIBE}all");
        bench.say(PUBLISHER, late.as_bytes());
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
    assert_eq!(bench.shard.deliveries(), begin + COUNT as u64, "each once");
}

/// Who gets both does not have to wait until it is its turn with all the others.
#[test]
fn what_is_published_to_few_does_not_wait_for_a_fan_out_to_very_many() {
    const PUBLISHER: usize = 0;
    const ROUNDS: usize = 5;
    const COUNT: usize = 20_000;
    let mut bench = Bench::new(simulation(), &patient());
    connect(&mut bench, 1);
    let last = subscribe(&mut bench, COUNT) + COUNT - 1;
    connect(&mut bench, 1);
    let other = last + 1;
    for at in [last, other] {
        bench.say(at, format!("{SUBSCRIBE}few").as_bytes());
    }
    bench.run_for(Duration::from_secs(1));
    for _ in 0..ROUNDS {
        bench.say(PUBLISHER, format!("{PUBLISH}all news").as_bytes());
        bench.run_for(Duration::from_secs(1));
        assert!(bench.clients[last].echoes.is_empty(), "the fan-out goes on");
        bench.say(PUBLISHER, format!("{PUBLISH}few quick").as_bytes());
        let said = bench.network.now();
        for at in [other, last] {
            run_until(&mut bench, |bench| !bench.clients[at].echoes.is_empty());
        }
        // The message waits for a slice, and so does the delivery; each travels.
        let waited = bench.network.now().since(said).as_millis() as u64;
        let travels = 2 * simulation().latency_ms_max;
        assert!(waited <= 2 * SLICE + travels, "{waited} deliveries");
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

/// The pings of all but one are due within an instant, and all are answered: these answers have to be
/// read as well, and what the one says comes among them.
#[test]
fn r20_an_echo_beside_ten_thousand_pings_at_once_waits_for_few_of_them() {
    const PROBE: usize = 0;
    const COUNT: usize = 10_000;
    const INTERVAL: Duration = Duration::from_secs(80);
    /// A slice of pings, and as many receives to arm again as there are buffers.
    const WAIT_MAX: u64 = 32 + 64;
    let simulation = Simulation {
        buffers: 64,
        latency_ms_max: 2,
        operation_ms: 0,
        ..simulation()
    };
    let config = Config {
        ping_interval: Some(INTERVAL),
        ..patient()
    };
    let mut bench = Bench::new(simulation, &config);
    connect(&mut bench, 1);
    while bench.clients.len() <= COUNT {
        connect(&mut bench, BATCH);
    }
    let begin = bench.network.trace().len();
    // Pings are sent an eighth of the interval early at most. By then all operations have become slow:
    // the pings alone take as long as this eighth.
    bench.run_for(INTERVAL - INTERVAL / 8 - Duration::from_secs(1));
    bench.network.take_for_each_operation(1);

    let mut waits = Vec::new();
    let end = bench.network.now() + INTERVAL / 4;
    while bench.network.now() < end {
        let (echoes, said) = (bench.clients[PROBE].echoes.len(), bench.network.now());
        bench.say(PROBE, b"probe");
        run_until(&mut bench, |bench| {
            bench.clients[PROBE].echoes.len() > echoes
        });
        waits.push(bench.network.now().since(said).as_millis() as u64);
    }
    let trace = bench.network.trace();
    let said = |event: &&Event| matches!(event.what, What::Client { act: "send", .. });
    let pongs = trace[begin..].iter().filter(said).count() - waits.len();
    assert!(pongs >= COUNT, "{pongs} pongs");
    waits.sort_unstable();
    let (median, longest) = (waits[waits.len() / 2], waits[waits.len() - 1]);
    println!(
        "{} echoes waited for {median} operations in the median, {longest} at most",
        waits.len()
    );
    assert!(longest <= WAIT_MAX, "{longest} operations");
}

/// A server that publishes more than its slices work off shuts down all the same.
#[test]
fn a_drain_does_not_wait_until_publishers_leave_room_for_mail() {
    const PUBLISHER: usize = 0;
    /// With half as many, no more mail is read.
    const MESSAGES: u64 = 64;
    let mut bench = Bench::new(near(), &patient());
    connect(&mut bench, 1);
    subscribe(&mut bench, SUBSCRIBERS);
    let begin = bench.shard.deliveries();
    for number in 0..MESSAGES {
        bench.say(PUBLISHER, format!("{PUBLISH}all {number}").as_bytes());
    }
    run_until(&mut bench, |bench| bench.shard.deliveries() > begin);
    bench.drain();
    run_until(&mut bench, |bench| bench.clients[PUBLISHER].end.is_some());
    let owed = begin + MESSAGES * SUBSCRIBERS as u64 - bench.shard.deliveries();
    assert!(owed > MESSAGES / 2 * SUBSCRIBERS as u64, "{owed} are owed");
}
