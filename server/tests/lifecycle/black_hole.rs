//! The network vanishes: no FIN, no RST, no carrier loss.

use std::time::Duration;

use rustix::process::Signal;

use crate::{
    crowd,
    figures::assert_gone,
    network::{Network, with_network},
    support::{
        SLACK,
        client::{Client, End, binary, close, frame, text},
        ms,
        process::Server,
        sock_diag,
        socket_table::{self, State},
        wait,
    },
};

const P: Duration = ms(1000);
const T: Duration = ms(1000);
const C: Duration = ms(1000);
const FLAGS: &str = "--ping-interval 1s --ping-timeout 1s --close-timeout 1s";

/// The path to open clients is cut.
fn cut_open(count: usize, what: &str) {
    with_network(|network| {
        let server = network.start(FLAGS);
        let mut clients = crowd::open(network, &server, count);
        crowd::prove_life(&mut clients);
        let cut = network.cut();
        assert_eq!(server.connections(), count as u64, "all are there");
        assert_gone("R8", what, &server, cut, P + T + C + SLACK);
        assert_eq!(server.closes("ping_timeout"), count as u64);
    });
}

#[test]
fn r08_black_hole_of_one() {
    cut_open(1, "black hole, 1 connection");
}

#[test]
fn r08_black_hole_2000_at_once() {
    cut_open(2000, "black hole, 2,000 at once");
}

#[test]
fn r08_black_hole_of_those_already_closing() {
    const EACH: usize = 200;
    with_network(|network| {
        let server = network.start("--close-timeout 1s --handshake-timeout 60s");
        let mut clients = crowd::open(network, &server, 3 * EACH);
        let mut unheard = clients.split_off(2 * EACH);
        let mut refused = network.clients(|| {
            let connect = |_| Client::connect(&server);
            (0..EACH).map(connect).collect::<Vec<_>>()
        });
        // The server's Close and FIN reach these before the cut.
        for (kind, client) in (0..2).cycle().zip(&mut clients) {
            match kind {
                0 => client.send(&close(1000, "")),
                _ => client.send(&frame(0x83, b"")),
            }
        }
        for client in &mut refused {
            client.send(b"GET / HTTP/1.1\r\nHost: a\r\n\r\n");
        }
        for client in clients.iter_mut().chain(&mut refused) {
            assert_eq!(client.rest().1, End::Fin);
        }
        // The server's answer to the others is lost: its kernel waits for an acknowledgement.
        server.signal(Signal::STOP);
        for client in &mut unheard {
            client.send(&close(1000, ""));
        }
        let cut = network.cut();
        server.signal(Signal::CONT);
        wait::until(C, "their FIN waits for an acknowledgement", || {
            sock_diag::count(server.port(), &[State::FinWait1]) >= EACH
        });
        let what = "black hole, 800 already closing";
        assert_gone("R8", what, &server, cut, C + SLACK);
        assert_eq!(server.closes("peer_close"), 2 * EACH as u64);
        assert_eq!(server.closes("protocol_error"), EACH as u64);
    });
}

/// Clients that read nothing, and have sent until the server took no more: its queues for them are
/// full, their windows zero, and both sides stopped within a frame.
fn stuffed(network: &Network, server: &Server, count: usize) -> Vec<Client> {
    let mut clients: Vec<Client> =
        network.clients(|| (0..count).map(|_| Client::open_narrow(server)).collect());
    let message = binary(&[1; 30_000]);
    std::thread::scope(|scope| {
        for client in &mut clients {
            scope.spawn(|| client.stuff(&message));
        }
    });
    for client in &clients {
        let row = socket_table::held(server.port(), client.port());
        assert!(row.unsent > 0, "the zero window is the point: {row:?}");
    }
    clients
}

#[test]
fn r09_black_hole_with_full_queues_zero_windows_and_half_frames() {
    with_network(|network| {
        let server = network.start(FLAGS);
        let _stuffed = stuffed(network, &server, 20);
        let mut half = network.clients(|| Client::open_many(&server, 20));
        for client in &mut half {
            client.send(&text("half a frame")[..9]);
        }
        let cut = network.cut();
        assert_eq!(server.connections(), 40, "all are there");
        let what = "black hole, 20 full send queues and zero windows, 20 half-written frames";
        assert_gone("R9", what, &server, cut, P + T + C + SLACK);
        assert_eq!(server.closes("ping_timeout"), 40);
    });
}

#[test]
fn r09_no_deadline_waits_for_a_socket_that_takes_nothing() {
    with_network(|network| {
        let server = network.start(FLAGS);
        let mut clients = stuffed(network, &server, 20);
        // Nothing is heard of them from now on, and of some nothing was for a while before.
        let silent = wait::now();
        assert_eq!(server.connections(), 20, "all are there");
        let what = "20 full send queues and zero windows";
        assert_gone("R9", what, &server, silent, P + T + C + SLACK);
        assert_eq!(server.closes("ping_timeout"), 20);
        for client in &mut clients {
            assert_eq!(client.rest().1, End::Reset);
        }
    });
}

#[test]
fn r10_no_orphans_whatever_a_connection_was_doing() {
    with_network(|network| {
        let server = network.start(&format!("{FLAGS} --handshake-timeout 1s"));
        let _deaf = stuffed(network, &server, 10);
        let mut clients = network.clients(|| Client::open_many(&server, 30));
        let _connected = network.clients(|| {
            let connect = |_| Client::connect(&server);
            (0..10).map(connect).collect::<Vec<_>>()
        });
        for (kind, client) in (0..3).cycle().zip(&mut clients) {
            match kind {
                0 => client.send(&close(1000, "")),
                1 => client.send(&frame(0x83, b"")),
                _ => client.send(&text("and then nothing")),
            }
        }
        let cut = network.cut();
        let what = "black hole of 50 in five states";
        assert_gone("R10", what, &server, cut, P + T + C + SLACK);
    });
}
