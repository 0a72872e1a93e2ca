//! Pings, and what becomes of those who do not answer.

use std::{
    sync::mpsc,
    time::{Duration, Instant},
};

use crate::{
    crowd,
    figures::{assert_between, assert_gone, assert_within, tell},
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

/// A ping goes out up to an eighth of the interval early, so that not all go out at once.
const P_EARLIEST: Duration = ms(1000 - 1000 / 8);

/// Runs `client` for each of `clients` on a thread of its own, and gathers what it gives.
fn each<T: Send>(
    clients: &mut [Client],
    client: impl Fn(usize, &mut Client) -> T + Sync,
) -> Vec<T> {
    let (sender, results) = mpsc::channel();
    std::thread::scope(|scope| {
        for (at, it) in clients.iter_mut().enumerate() {
            let (sender, client) = (sender.clone(), &client);
            scope.spawn(move || sender.send(client(at, it)).expect("it is received below"));
        }
    });
    drop(sender);
    results.into_iter().collect()
}

#[test]
fn r04_the_first_ping_comes_within_p_of_the_last_thing_heard() {
    with_network(|network| {
        let server = network.start("--ping-interval 1s");
        // Whatever is heard counts: a message, a pong, half a frame.
        let last = [
            text("hello"),
            frame(PONG, b"me"),
            text("hello")[..5].to_vec(),
        ];
        let mut clients = crowd::open(network, &server, 30);
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
        let what = "first ping after the last thing heard, 30 clients:";
        assert_between("R4", what, &times, (P_EARLIEST, P + SLACK));
    });
}

#[test]
fn r05_without_pong_the_close_comes_at_p_and_t_and_all_is_gone_at_c() {
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
                client.send(&text("last words"));
                client.expect(0x81, "last words");
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
        let what = "no pong: Close 1011 `keepalive ping timeout` after";
        assert_between("R5", what, &times, (P + T, P + T + SLACK));
        assert_eq!(server.closes("ping_timeout"), 20, "it is told at once");
        let last = *starts.last().expect("twenty");
        assert_gone("R5", "no pong, no answer", &server, last, P + T + C + SLACK);
        for client in &clients {
            let reset = client.stream.take_error().expect("an option of sockets");
            assert!(reset.is_some(), "at the deadline it is reset");
        }
    });
}

#[test]
fn r06_a_peer_that_answers_the_timeouts_close_is_gone_at_once() {
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
fn r07_a_client_that_answers_pings_is_never_cut() {
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
        let what = format!("20 clients over {INTERVALS} intervals answer {answered} pings");
        tell("R7", &format!("{what}: {ended} were cut (must be 0)"));
        assert!(answered >= 20 * INTERVALS / 2, "it pings");
        assert_eq!(ended, 0);
        for client in &mut clients {
            client.send(&text("alive"));
            assert_eq!(client.frame_but_ping().payload, b"alive");
        }
    });
}
