//! A network that drops all packets: no FIN, no RST, no carrier loss.

use std::time::Duration;

use rustix::process::Signal;

use crate::{
    many_clients,
    measurements::assert_gone,
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

/// R8: cuts the network of `count` open clients.
fn cut_open_clients(count: usize, what: &str) {
    with_network(|network| {
        let server = network.start(FLAGS);
        let mut clients = many_clients::open(network, &server, count);
        many_clients::send_pongs(&mut clients);
        let cut = network.cut();
        assert_eq!(server.connections(), count as u64, "connections at the cut");
        assert_gone("R8", what, &server, cut, P + T + C + SLACK);
        assert_eq!(server.closes("ping_timeout"), count as u64);
    });
}

#[test]
fn r08_one_connection_without_a_network_is_gone_after_p_plus_t_plus_c() {
    cut_open_clients(1, "black hole, 1 connection");
}

#[test]
fn r08_2_000_connections_without_a_network_are_gone_after_p_plus_t_plus_c() {
    cut_open_clients(2000, "black hole, 2,000 at once");
}

#[test]
fn r08_closing_connections_without_a_network_are_gone_after_c() {
    const EACH: usize = 200;
    with_network(|network| {
        let server = network.start("--close-timeout 1s --handshake-timeout 60s");
        let mut clients = many_clients::open(network, &server, 3 * EACH);
        let mut unanswered = clients.split_off(2 * EACH);
        let mut rejected = network.clients(|| {
            let connect = |_| Client::connect(&server);
            (0..EACH).map(connect).collect::<Vec<_>>()
        });
        // The server's Close and FIN reach these clients before the cut.
        for (kind, client) in (0..2).cycle().zip(&mut clients) {
            match kind {
                0 => client.send(&close(1000, "")),
                _ => client.send(&frame(0x83, b"")),
            }
        }
        for client in &mut rejected {
            client.send(b"GET / HTTP/1.1\r\nHost: a\r\n\r\n");
        }
        for client in clients.iter_mut().chain(&mut rejected) {
            assert_eq!(client.rest().1, End::Fin);
        }
        // The server's answer to these clients is lost, so its kernel waits for an acknowledgement.
        server.signal(Signal::STOP);
        for client in &mut unanswered {
            client.send(&close(1000, ""));
        }
        let cut = network.cut();
        server.signal(Signal::CONT);
        wait::until(C, "FINs wait for an acknowledgement", || {
            sock_diag::count(server.port(), &[State::FinWait1]) >= EACH
        });
        let what = "black hole, 800 already closing";
        assert_gone("R8", what, &server, cut, C + SLACK);
        assert_eq!(server.closes("peer_close"), 2 * EACH as u64);
        assert_eq!(server.closes("protocol_error"), EACH as u64);
    });
}

/// Opens clients that send without reading until the server stops reading: its send queues are full, the
/// clients' windows are zero, and both sides have stopped within a frame.
fn open_blocked(network: &Network, server: &Server, count: usize) -> Vec<Client> {
    let mut clients: Vec<Client> = network.clients(|| {
        (0..count)
            .map(|_| Client::open_with_small_buffer(server))
            .collect()
    });
    let message = binary(&[1; 30_000]);
    std::thread::scope(|scope| {
        for client in &mut clients {
            scope.spawn(|| client.send_until_blocked(&message));
        }
    });
    for client in &clients {
        let row = socket_table::socket(server.port(), client.port());
        assert!(row.unsent > 0, "the window is not closed: {row:?}");
    }
    clients
}

#[test]
fn r09_connections_with_full_queues_zero_windows_or_half_frames_are_gone_after_p_plus_t_plus_c() {
    with_network(|network| {
        let server = network.start(FLAGS);
        let _blocked = open_blocked(network, &server, 20);
        let mut half = network.clients(|| Client::open_many(&server, 20));
        for client in &mut half {
            client.send(&text("half a frame")[..9]);
        }
        let cut = network.cut();
        assert_eq!(server.connections(), 40, "connections at the cut");
        let what = "black hole, 20 full send queues and zero windows, 20 half-written frames";
        assert_gone("R9", what, &server, cut, P + T + C + SLACK);
        assert_eq!(server.closes("ping_timeout"), 40);
    });
}

#[test]
fn r09_deadlines_hold_although_the_socket_is_not_writable() {
    with_network(|network| {
        let server = network.start(FLAGS);
        let mut clients = open_blocked(network, &server, 20);
        // The server receives nothing from now on.
        let silent = wait::now();
        assert_eq!(server.connections(), 20, "connections at the cut");
        let what = "20 full send queues and zero windows";
        assert_gone("R9", what, &server, silent, P + T + C + SLACK);
        assert_eq!(server.closes("ping_timeout"), 20);
        for client in &mut clients {
            assert_eq!(client.rest().1, End::Reset);
        }
    });
}

#[test]
fn r10_no_orphans_are_left_of_connections_in_five_states() {
    with_network(|network| {
        let server = network.start(&format!("{FLAGS} --handshake-timeout 1s"));
        let _blocked = open_blocked(network, &server, 10);
        let mut clients = network.clients(|| Client::open_many(&server, 30));
        let _connected = network.clients(|| {
            let connect = |_| Client::connect(&server);
            (0..10).map(connect).collect::<Vec<_>>()
        });
        for (kind, client) in (0..3).cycle().zip(&mut clients) {
            match kind {
                0 => client.send(&close(1000, "")),
                1 => client.send(&frame(0x83, b"")),
                _ => client.send(&text("hello")),
            }
        }
        let cut = network.cut();
        let what = "black hole of 50 in five states";
        assert_gone("R10", what, &server, cut, P + T + C + SLACK);
    });
}
