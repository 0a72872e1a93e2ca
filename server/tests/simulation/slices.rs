//! A fan-out to very many goes out in slices, and holds nobody up for more than one of them.

use std::time::Duration;

use tidewheel::{
    Config,
    ring::{
        OpCode,
        sim::{Event, Faults, Simulation, What},
    },
};

use super::bench::{Bench, PUBLISH, SUBSCRIBE, config};

const SUBSCRIBERS: usize = 100_000;

/// Deliveries in a turn.
const SLICE: u64 = 128;

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

/// For each message that `slot` has sent since `begin`, the operations between its arrival and its
/// answer.
fn waits(trace: &[Event], slot: u32) -> Vec<u64> {
    let mut waits = Vec::new();
    let mut arrived_ms = None;
    // Queued before the answer, in the same turn.
    let mut queued = 0;
    for Event { at_ms, what } in trace {
        match what {
            What::Completed { token, result, .. }
                if token.op() == OpCode::Receive && token.slot() == slot && *result > 0 =>
            {
                assert_eq!(arrived_ms.replace(*at_ms), None, "one after the other");
                queued = 0;
            }
            What::Submitted { token } if token.op() == OpCode::Send && token.slot() == slot => {
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
            What::Completed { token, .. } if token.op() == OpCode::Receive => Some(token.slot()),
            _ => None,
        });
    let slot = slot.expect("its request has been received");
    connect(&mut bench, 1);
    let first = bench.clients.len();
    while bench.clients.len() < first + SUBSCRIBERS {
        let at = bench.clients.len();
        connect(&mut bench, BATCH);
        for at in at..at + BATCH {
            bench.say(at, format!("{SUBSCRIBE}all").as_bytes());
        }
        bench.run_for(Duration::from_secs(1));
    }

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
