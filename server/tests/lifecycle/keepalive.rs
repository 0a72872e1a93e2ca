//! Pings, and clients that do not answer them.

use std::{
    sync::mpsc,
    time::{Duration, Instant},
};

use crate::{
    many_clients,
    measurements::{assert_between, assert_gone, assert_within, report},
    network::with_network,
    support::{
        SLACK,
        client::{CLOSE, Client, End, PING, PONG, close, frame, text},
        ms, wait,
    },
};

const P: Duration = ms(1000);
const T: Duration = ms(1000);
const C: Duration = ms(1000);

/// Earliest time of a Ping: the server spreads Pings over the last eighth of the interval.
const P_EARLIEST: Duration = ms(1000 - 1000 / 8);

/// Runs `client` for each of `clients`, each on its own thread, and returns the results.
fn each<T: Send>(
    clients: &mut [Client],
    client: impl Fn(usize, &mut Client) -> T + Sync,
) -> Vec<T> {
    let (sender, results) = mpsc::channel();
    std::thread::scope(|scope| {
        for (at, it) in clients.iter_mut().enumerate() {
            let (sender, client) = (sender.clone(), &client);
            scope.spawn(move || sender.send(client(at, it)).expect("results are read below"));
        }
    });
    drop(sender);
    results.into_iter().collect()
}

#[test]
fn r04_the_first_ping_comes_within_p_of_the_last_received_byte() {
    with_network(|network| {
        let server = network.start("--ping-interval 1s");
        // Any bytes count: a message, a Pong, half a frame.
        let last = [
            text("hello"),
            frame(PONG, b"me"),
            text("hello")[..5].to_vec(),
        ];
        let mut clients = many_clients::open(network, &server, 30);
        let times = each(&mut clients, |at, client| {
            wait::pause(ms(10 * at as u64));
            let start = wait::now();
            client.send(&last[at % last.len()]);
            if at % last.len() == 0 {
                client.expect(0x81, "hello");
            }
            assert_eq!(client.frame().first, PING);
            start.elapsed()
        });
        let what = "first Ping after the last byte, 30 clients:";
        assert_between("R4", what, &times, (P_EARLIEST, P + SLACK));
    });
}

#[test]
fn r05_a_client_without_a_pong_gets_1011_at_p_plus_t_and_is_reset_at_c() {
    with_network(|network| {
        let server = network.start("--ping-interval 1s --ping-timeout 1s --close-timeout 1s");
        let mut clients = network.clients(|| Client::open_many(&server, 20));
        let payload = [
            &1011_u16.to_be_bytes(),
            b"keepalive ping timeout".as_slice(),
        ]
        .concat();
        let starts: Vec<Instant> = clients
            .iter_mut()
            .map(|client| {
                let start = wait::now();
                client.send(&text("hello"));
                client.expect(0x81, "hello");
                start
            })
            .collect();
        let times = each(&mut clients, |at, client| {
            assert_eq!(client.frame().first, PING);
            client.expect(CLOSE, &payload);
            let closed = starts[at].elapsed();
            assert_eq!(client.end(), End::Fin);
            closed
        });
        let what = "no Pong: Close 1011 `keepalive ping timeout` after";
        assert_between("R5", what, &times, (P + T, P + T + SLACK));
        assert_eq!(
            server.closes("ping_timeout"),
            20,
            "closes are not counted when they are sent"
        );
        let last = *starts.last().expect("20 times");
        assert_gone("R5", "no Pong, no answer", &server, last, P + T + C + SLACK);
        for client in &clients {
            let reset = client.stream.take_error().expect("SO_ERROR can be read");
            assert!(
                reset.is_some(),
                "the connection was not reset at the deadline"
            );
        }
    });
}

#[test]
fn r06_a_client_that_answers_the_close_1011_is_released_at_once() {
    with_network(|network| {
        let server =
            network.start("--ping-interval 300ms --ping-timeout 300ms --close-timeout 10s");
        let mut slowest = Duration::ZERO;
        for _ in 0..3 {
            let mut client = network.clients(|| Client::open(&server));
            assert_eq!(client.frame().first, PING);
            assert_eq!(client.frame().close_code(), 1011);
            let start = wait::now();
            client.send(&close(1011, ""));
            client.finish();
            server.until_empty(ms(5000));
            slowest = slowest.max(start.elapsed());
            assert_eq!(client.end(), End::Fin);
        }
        let what = "Close 1011 answered: gone after";
        assert_within("R6", what, slowest, ms(200));
        assert_eq!(server.metric("tidewheel_deadline_resets_total", ""), 0);
    });
}

#[test]
fn r07_a_client_that_answers_pings_is_never_closed() {
    const INTERVALS: u32 = 30;
    with_network(|network| {
        let server = network.start("--ping-interval 100ms --ping-timeout 300ms");
        let mut clients = network.clients(|| Client::open_many(&server, 20));
        let pings = each(&mut clients, |_, client| {
            let start = wait::now();
            let mut pings = 0;
            while start.elapsed() < ms(100) * INTERVALS {
                let ping = client.frame();
                assert_eq!(ping.first, PING);
                client.send(&frame(PONG, &ping.payload));
                pings += 1;
            }
            pings
        });
        let answered: u32 = pings.iter().sum();
        let ended = server.metric("tidewheel_closes_total", "");
        let what = format!("20 clients over {INTERVALS} intervals answer {answered} Pings");
        report("R7", &format!("{what}: {ended} closed (must be 0)"));
        assert!(answered >= 20 * INTERVALS / 2, "only {answered} Pings");
        assert_eq!(ended, 0);
        for client in &mut clients {
            client.send(&text("alive"));
            assert_eq!(client.frame_except_ping().payload, b"alive");
        }
    });
}
