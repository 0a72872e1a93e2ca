//! A thousand clients close at the same time; a tenth of them are silent.

use std::time::Duration;

use tidewheel::{
    Cause, CloseCode, Initiator, Time,
    ring::sim::{Event, Faults, Simulation},
    shard::TICK_MS,
};

use super::bench::{Bench, SECOND, config, each_seed};

const CLIENTS: usize = 1000;
const SEEDS: u64 = 200;

/// Maximum time between a client's send and the server's completion of it, plus that of the query of the
/// time of arrival.
const DELAY_MAX: Duration = Duration::from_millis(16 + 2);

fn simulation(seed: u64) -> Simulation {
    Simulation {
        seed,
        sockets: 1100,
        buffers: 16,
        buffer_size: 1024,
        ..Simulation::default()
    }
}

/// Runs one seed, and asserts the results. Returns the trace.
fn run_close_storm(seed: u64) -> Vec<Event> {
    let mut bench = Bench::new(simulation(seed), &config());
    for _ in 0..CLIENTS {
        bench.connect();
    }
    bench.run(Time::from_millis(800), |bench| {
        (0..CLIENTS).all(|at| bench.is_open(at))
    });
    assert!(
        (0..CLIENTS).all(|at| bench.is_open(at)),
        "all connections are open in time"
    );

    let begin = bench.network.now();
    for at in 0..CLIENTS {
        if at % 10 == 0 {
            bench.clients[at].is_silent = true;
        } else {
            bench.close(at);
        }
    }
    // Silent clients do not delay the end of the others.
    bench.run_for(Duration::from_millis(200));
    assert_eq!(
        bench.shard.connections(),
        CLIENTS / 10,
        "only silent clients are left"
    );
    bench.run(begin + 3 * SECOND + Duration::from_millis(100), |bench| {
        bench.shard.connections() == 0
    });
    assert_eq!(
        bench.shard.connections(),
        0,
        "ping interval, ping timeout and close timeout have passed"
    );

    assert_each_ended_once(&bench);
    assert_nothing_left(&mut bench);
    bench.network.trace()
}

fn assert_each_ended_once(bench: &Bench) {
    let record = bench.record.borrow();
    assert_eq!(record.open.len(), CLIENTS, "each connection opened");
    assert!(
        record.open.values().all(|opens| *opens == 1),
        "each connection opened once"
    );
    let mut ended: Vec<_> = record.ends.iter().map(|(id, ..)| *id).collect();
    ended.sort_by_key(ToString::to_string);
    ended.dedup();
    assert_eq!(
        (ended.len(), record.ends.len()),
        (CLIENTS, CLIENTS),
        "each connection ended once"
    );
    assert!(ended.iter().all(|id| record.open.contains_key(id)));

    let (silent, closing): (Vec<_>, Vec<_>) = record
        .ends
        .iter()
        .partition(|(.., end)| end.cause == Cause::PingTimeout);
    assert_eq!(silent.len(), CLIENTS / 10);
    let last = bench
        .clients
        .iter()
        .filter(|client| client.is_silent)
        .map(|client| client.last_sent);
    let (first, last) = (last.clone().min().unwrap(), last.max().unwrap());
    for (_, at, end) in silent {
        assert_eq!(end.initiator, Initiator::Local);
        assert_eq!(end.sent.as_ref().unwrap().code, CloseCode::INTERNAL_ERROR);
        assert_eq!(end.received, None);
        assert!(*at >= first + 2 * SECOND, "the timeout is early: {at:?}");
        let latest = last + 2 * SECOND + DELAY_MAX + Duration::from_millis(TICK_MS);
        assert!(
            *at <= latest,
            "the timeout is more than a tick late: {at:?}, {latest:?}"
        );
    }
    for (_, _, end) in closing {
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
    for client in bench.clients.iter().filter(|client| !client.is_silent) {
        let end = client
            .end
            .as_ref()
            .expect("a client that closed gets a report");
        assert_eq!(
            end.received.as_ref().unwrap().code,
            CloseCode::NORMAL_CLOSURE
        );
        assert!(
            client.has_received_fin && !client.has_received_rst,
            "FIN follows the Close, without RST"
        );
    }
}

/// Asserts that the shard has released every resource, and that it drains at once.
pub(crate) fn assert_nothing_left(bench: &mut Bench) {
    assert_eq!(bench.network.open_sockets(), 0, "open descriptors");
    assert_eq!(bench.network.dropped_clients(), 0, "dropped clients");
    if !bench.finished {
        bench.drain();
        bench.run_for(SECOND);
    }
    assert!(bench.finished, "a shard without connections drains at once");
    assert_eq!(
        bench.network.buffers_free(),
        bench.buffers,
        "free receive buffers"
    );
}

#[test]
fn a_thousand_clients_close_while_a_tenth_is_silent_over_200_seeds() {
    each_seed(SEEDS, |seed| {
        let run = || std::panic::catch_unwind(|| run_close_storm(seed));
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
fn r08_a_hundred_thousand_connections_end_in_time_after_their_network_is_cut() {
    const CLIENTS_CUT: usize = 100_000;
    let simulation = Simulation {
        sockets: CLIENTS_CUT as u32 + 10_000,
        buffers: 4096,
        faults: Faults::NONE,
        ..simulation(1)
    };
    let mut bench = Bench::new(simulation, &config());
    for _ in 0..CLIENTS_CUT {
        bench.connect();
    }
    bench.run_for(Duration::from_millis(900));
    assert_eq!(
        bench.record.borrow().open.len(),
        CLIENTS_CUT,
        "all connections are open"
    );
    let cut = bench.network.now();
    for at in 0..CLIENTS_CUT {
        bench.network.vanish(bench.clients[at].id);
        bench.clients[at].is_silent = true;
    }
    bench.run(cut + 3 * SECOND + Duration::from_millis(300), |bench| {
        bench.shard.connections() == 0
    });
    assert_eq!(bench.shard.connections(), 0, "within P + T + C + S");
    let record = bench.record.borrow();
    assert_eq!(record.ends.len(), CLIENTS_CUT, "each connection ended once");
    let is_timeout = |(_, _, end): &(_, _, tidewheel::Disconnect)| end.cause == Cause::PingTimeout;
    assert!(record.ends.iter().all(is_timeout));
    drop(record);
    assert_nothing_left(&mut bench);
}
