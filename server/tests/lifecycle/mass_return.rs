//! 10,000 clients that are reset at once, and connect again at once.

use std::{
    sync::atomic::{AtomicBool, Ordering},
    time::Duration,
};

use crate::{
    measurements::{check_within, report, time},
    network::{Network, with_network},
    support::{
        client::{Client, REQUEST, text},
        ms,
        process::Server,
        retry, wait,
    },
};

const COUNT: usize = 10_000;

/// Number of threads that connect.
const THREADS: usize = 2;

/// Number of other clients, which exchange messages meanwhile.
const OTHERS: usize = 100;

/// Opens `COUNT` connections at once: each thread sends all its requests before it reads the first response.
fn connect_all(network: &Network, server: &Server) -> Vec<Client> {
    let connect = || {
        let mut clients: Vec<Client> = network.clients(|| {
            let clients = (0..COUNT / THREADS).map(|_| Client::connect(server));
            let mut clients: Vec<Client> = clients.collect();
            clients
                .iter_mut()
                .for_each(|it| it.send(REQUEST.as_bytes()));
            clients
        });
        // Panics if a response is not 101.
        clients.iter_mut().for_each(Client::accept);
        clients
    };
    std::thread::scope(|scope| {
        let threads = [(); THREADS].map(|()| scope.spawn(connect));
        let clients = threads.map(|it| it.join().expect("all clients are accepted"));
        clients.into_iter().flatten().collect()
    })
}

/// Sends a message from each client in turn until `end` is set, and returns the round trips.
fn exchange(mut clients: Vec<Client>, end: &AtomicBool) -> Vec<Duration> {
    let mut round_trips = Vec::new();
    while !end.load(Ordering::Relaxed) {
        for client in &mut clients {
            let start = wait::now();
            client.send(&text("hello"));
            client.expect(0x81, "hello");
            round_trips.push(start.elapsed());
        }
    }
    round_trips
}

/// Durations of one measurement.
struct Durations {
    /// Time of 10,000 handshakes on a server without other connections.
    plain: Duration,
    /// Time from the resets of 10,000 connections until 10,000 are open again.
    reconnect: Duration,
    /// 99th percentile of the round trips of the other clients.
    round_trip_p99: Duration,
}

fn reset_and_reconnect(network: &Network) -> Durations {
    let server = network.start("");
    let end = AtomicBool::new(false);
    let others = (0..OTHERS).map(|_| Client::open(&server)).collect();
    // The first connections make the server allocate memory, which costs time.
    let clients = connect_all(network, &server);
    clients.into_iter().for_each(Client::reset);
    wait::until(ms(5000), "only the other clients are left", || {
        server.connections() == OTHERS as u64
    });
    let durations = std::thread::scope(|scope| {
        let others = scope.spawn(|| exchange(others, &end));
        let start = wait::now();
        let clients = connect_all(network, &server);
        let plain = start.elapsed();
        clients.into_iter().for_each(Client::reset);
        let start = wait::now();
        let _clients = connect_all(network, &server);
        let reconnect = start.elapsed();
        end.store(true, Ordering::Relaxed);
        let mut round_trips = others.join().expect("every message is echoed");
        round_trips.sort_unstable();
        Durations {
            plain,
            reconnect,
            round_trip_p99: round_trips[round_trips.len() * 99 / 100],
        }
    });
    assert_eq!(server.metric("tidewheel_rejections_total", ""), 0);
    durations
}

#[test]
fn r27_10_000_clients_reset_at_once_reconnect_within_1_2_times_a_plain_handshake() {
    retry::until_ok(|| {
        let mut result = Ok(());
        with_network(|network| result = check(&reset_and_reconnect(network)));
        result
    });
}

fn check(durations: &Durations) -> Result<(), String> {
    let plain = durations.plain;
    report("R27", &format!("10,000 plain handshakes: {}", time(plain)));
    let what = "10,000 reset, and open again after";
    check_within("R27", what, durations.reconnect, plain * 6 / 5)?;
    let what = "round trips of 100 other clients, 99th percentile:";
    check_within("R27", what, durations.round_trip_p99, ms(20))
}
