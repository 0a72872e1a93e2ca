//! A thousand connections, closed at the same moment, with a tenth of the peers silent.

use std::time::Duration;

use tidewheel::{
    Cause, CloseCode, Initiator, Time,
    ring::sim::{Event, Faults, Simulation},
    shard::TICK_MS,
};

use super::bench::{Bench, SECOND, config, each_seed};

const CLIENTS: usize = 1000;
const SEEDS: u64 = 200;

/// What travels, and completes late, before the server has heard of it; and what the kernel takes to
/// tell when that was.
const TRAVEL: Duration = Duration::from_millis(16 + 2);

fn simulation(seed: u64) -> Simulation {
    Simulation {
        seed,
        sockets: 1100,
        buffers: 16,
        buffer_size: 1024,
        ..Simulation::default()
    }
}

/// One storm; everything that must hold is asserted. Gives the trace.
fn storm(seed: u64) -> Vec<Event> {
    let mut bench = Bench::new(simulation(seed), &config());
    for _ in 0..CLIENTS {
        bench.connect();
    }
    bench.run(Time::from_millis(800), |bench| {
        (0..CLIENTS).all(|at| bench.is_open(at))
    });
    assert!(
        (0..CLIENTS).all(|at| bench.is_open(at)),
        "all are open in time"
    );

    let begin = bench.network.now();
    for at in 0..CLIENTS {
        if at % 10 == 0 {
            bench.clients[at].silent = true;
        } else {
            bench.close(at);
        }
    }
    // Those that answer are gone at once, although the others are silent.
    bench.run_for(Duration::from_millis(200));
    assert_eq!(
        bench.shard.connections(),
        CLIENTS / 10,
        "only the silent are left"
    );
    bench.run(begin + 3 * SECOND + Duration::from_millis(100), |bench| {
        bench.shard.connections() == 0
    });
    assert_eq!(
        bench.shard.connections(),
        0,
        "ping interval, ping timeout and close timeout are over"
    );

    each_ended_once(&bench);
    nothing_is_left(&mut bench);
    bench.network.trace()
}

fn each_ended_once(bench: &Bench) {
    let record = bench.record.borrow();
    assert_eq!(record.open.len(), CLIENTS, "each opened");
    assert!(
        record.open.values().all(|opens| *opens == 1),
        "each opened once"
    );
    let mut ended: Vec<_> = record.ends.iter().map(|(id, ..)| *id).collect();
    ended.sort_by_key(ToString::to_string);
    ended.dedup();
    assert_eq!(
        (ended.len(), record.ends.len()),
        (CLIENTS, CLIENTS),
        "each ended, once"
    );
    assert!(ended.iter().all(|id| record.open.contains_key(id)));

    let (silent, polite): (Vec<_>, Vec<_>) = record
        .ends
        .iter()
        .partition(|(.., end)| end.cause == Cause::PingTimeout);
    assert_eq!(silent.len(), CLIENTS / 10);
    let last = bench
        .clients
        .iter()
        .filter(|client| client.silent)
        .map(|client| client.last_sent);
    let (first, last) = (last.clone().min().unwrap(), last.max().unwrap());
    for (_, at, end) in silent {
        assert_eq!(end.initiator, Initiator::Local);
        assert_eq!(end.sent.as_ref().unwrap().code, CloseCode::INTERNAL_ERROR);
        assert_eq!(end.received, None);
        assert!(*at >= first + 2 * SECOND, "never early: {at:?}");
        let latest = last + 2 * SECOND + TRAVEL + Duration::from_millis(TICK_MS);
        assert!(*at <= latest, "one tick late at most: {at:?}, {latest:?}");
    }
    for (_, _, end) in polite {
        assert_eq!(
            (end.initiator, end.cause),
            (Initiator::Peer, Cause::PeerClose)
        );
        assert_eq!(
            end.received.as_ref().unwrap().code,
            CloseCode::NORMAL_CLOSURE
        );
        assert_eq!(end.sent.as_ref().unwrap().code, CloseCode::NORMAL_CLOSURE);
    }
    for client in bench.clients.iter().filter(|client| !client.silent) {
        let end = client.end.as_ref().expect("a client that closed has ended");
        assert_eq!(
            end.received.as_ref().unwrap().code,
            CloseCode::NORMAL_CLOSURE
        );
        assert!(
            client.got_finish && !client.got_reset,
            "Close, then FIN, and no RST"
        );
    }
}

pub(crate) fn nothing_is_left(bench: &mut Bench) {
    assert_eq!(bench.network.open_sockets(), 0, "descriptors");
    assert_eq!(bench.network.dropped_clients(), 0, "clients dropped");
    if !bench.finished {
        bench.drain();
        bench.run_for(SECOND);
    }
    assert!(bench.finished, "a shard without connections drains at once");
    assert_eq!(
        bench.network.buffers_free(),
        bench.buffers,
        "receive buffers"
    );
}

#[test]
fn a_thousand_closes_with_a_tenth_silent_over_200_seeds() {
    each_seed(SEEDS, |seed| {
        let run = || std::panic::catch_unwind(|| storm(seed));
        let Ok(trace) = run() else {
            panic!("seed {seed} fails")
        };
        let Ok(again) = run() else {
            panic!("seed {seed} fails the second time")
        };
        assert!(trace == again, "seed {seed} does not replay");
    });
}

#[test]
fn r08_a_hundred_thousand_in_a_black_hole_are_gone_in_time() {
    const MANY: usize = 100_000;
    let simulation = Simulation {
        sockets: MANY as u32 + 10_000,
        buffers: 4096,
        faults: Faults::NONE,
        ..simulation(1)
    };
    let mut bench = Bench::new(simulation, &config());
    for _ in 0..MANY {
        bench.connect();
    }
    bench.run_for(Duration::from_millis(900));
    assert_eq!(bench.record.borrow().open.len(), MANY, "all are open");
    let cut = bench.network.now();
    for at in 0..MANY {
        bench.network.vanish(bench.clients[at].id);
        bench.clients[at].silent = true;
    }
    bench.run(cut + 3 * SECOND + Duration::from_millis(300), |bench| {
        bench.shard.connections() == 0
    });
    assert_eq!(bench.shard.connections(), 0, "within P + T + C + S");
    let record = bench.record.borrow();
    assert_eq!(record.ends.len(), MANY, "each ended, once");
    let is_timeout = |(_, _, end): &(_, _, tidewheel::Disconnect)| end.cause == Cause::PingTimeout;
    assert!(record.ends.iter().all(is_timeout));
    drop(record);
    nothing_is_left(&mut bench);
}
