//! The closing handshake, and bytes behind it.

use std::{io::Write as _, time::Duration};

use crate::{
    many_clients,
    measurements::{assert_gone, assert_within, report},
    network::{Network, with_network},
    support::{
        SLACK,
        client::{CLOSE, Client, End, PING, binary, close, frame, text},
        ms,
        process::Server,
        sock_diag,
        socket_table::{self, State},
        wait,
    },
};

const ECHO_MAX: Duration = ms(100);

#[test]
fn r01_the_server_echoes_a_close_and_sends_fin_although_the_client_sends_none() {
    with_network(|network| {
        let server = network.start("");
        let mut clients = many_clients::open(network, &server, 100);
        let codes = [1000, 1001, 1002, 1003, 1007, 1011, 1014, 3000, 4999];
        let mut echoed = Vec::new();
        let mut finished = Vec::new();
        for (client, &code) in clients.iter_mut().zip(codes.iter().cycle()) {
            let start = wait::now();
            client.send(&close(code, "bye"));
            assert_eq!(client.frame().close_code(), code);
            echoed.push(start.elapsed());
            assert_eq!(client.end(), End::Fin);
            finished.push(start.elapsed());
        }
        for (what, mut times) in [("Close echoed", echoed), ("FIN", finished)] {
            times.sort();
            let slowest = *times.last().expect("100 times");
            let what = format!("{what}, the last of 100:");
            assert_within("R1", &what, slowest, ECHO_MAX);
        }
        assert_eq!(server.closes("peer_close"), 100);
        drop(clients);
        server.until_empty(SLACK);
        assert_time_wait_on_server(network, &server, 100);
    });
}

/// Asserts that TIME_WAIT is on the server, the side that closes TCP first (RFC 9293 3.6).
fn assert_time_wait_on_server(network: &Network, server: &Server, count: usize) {
    let (port, states) = (server.port(), [State::TimeWait, State::FinWait2]);
    // A retransmitted FIN may arrive when the client's socket no longer exists. The RST in response ends
    // TIME_WAIT (RFC 1337).
    let mut reset = 0;
    // Several dumps: one may miss sockets while the kernel's table changes.
    let mut on_server = 0;
    wait::until(ms(10_000), "all sockets are in TIME_WAIT or reset", || {
        on_server = sock_diag::count(port, &states);
        reset = network.clients(socket_table::resets_sent) as usize;
        on_server + reset >= count
    });
    let on_clients = network.clients(|| socket_table::sockets_to(port).len());
    let what =
        format!("TIME_WAIT: {on_server} on the server, {reset} reset, {on_clients} on the clients");
    report(
        "R1",
        &format!("{what} (must be {count} together or more, and 0)"),
    );
    assert!(on_server + reset >= count && on_clients == 0);
}

#[test]
fn r02_bytes_behind_a_close_do_not_cause_a_reset() {
    with_network(|network| {
        let server = network.start("--close-timeout 5s");
        let behind = [
            text("a message"),
            frame(PING, b"a ping"),
            close(1000, "a second close"),
            vec![0xFF; 300_000],
        ];
        let mut clients = many_clients::open(network, &server, 40);
        for (client, behind) in clients.iter_mut().zip(behind.iter().cycle()) {
            client.send(&[close(4000, "done").as_slice(), behind].concat());
            assert_eq!(client.frame().close_code(), 4000);
            assert_eq!(client.end(), End::Fin);
            // The client goes on sending.
            (0..3).for_each(|_| client.send(behind));
        }
        wait::until(ms(5000), "the server reads and discards the bytes", || {
            let on_server = socket_table::sockets(server.port());
            let on_clients = network.clients(|| socket_table::sockets_to(server.port()));
            on_clients.iter().all(|row| row.unsent == 0)
                && on_server.iter().all(|row| row.unread == 0)
        });
        for client in &mut clients {
            let error = client.stream.take_error().expect("SO_ERROR can be read");
            assert!(error.is_none(), "{error:?}");
            client.finish();
        }
        server.until_empty(SLACK);
        let resets = socket_table::resets_sent();
        let what = "40 clients that send behind their Close: RSTs sent by the server:";
        report("R2", &format!("{what} {resets} (must be 0)"));
        assert_eq!(resets, 0);
        assert_eq!(server.metric("tidewheel_deadline_resets_total", ""), 0);
    });
}

#[test]
fn r03_the_descriptor_is_released_within_c_of_fin_whatever_the_peer_does() {
    const C: Duration = ms(1000);
    with_network(|network| {
        let server = network.start("--close-timeout 1s");
        let mut clients = many_clients::open(network, &server, 90);
        let start = wait::now();
        for (kind, client) in (0..3).cycle().zip(&mut clients) {
            if kind == 0 {
                // This client reads neither the echo nor the Close.
                client.send(&binary(&[0; 50_000]));
            }
            client.send(&close(1000, ""));
        }
        let mut sending = Vec::new();
        for (kind, mut client) in (0..3).cycle().zip(clients.drain(..)) {
            if kind > 0 {
                assert_eq!(client.frame().close_code(), 1000);
                assert_eq!(client.end(), End::Fin);
            }
            sending.push((kind == 1, client));
        }
        let limit = C + SLACK;
        wait::until(limit + SLACK, "all connections are reset", || {
            for (sends, client) in &mut sending {
                if *sends {
                    // Fails once the server has reset the connection.
                    let _ = client.stream.write_all(&text("hello"));
                }
            }
            server.connections() == 0
        });
        // The tolerance: the server reads its clock once a turn.
        let done = start.elapsed();
        assert!(
            done >= C - ms(30),
            "connections were reset before C, after {done:?}"
        );
        let what = "30 that do not read, 30 that send, 30 silent after the server's FIN";
        assert_gone("R3", what, &server, start, limit);
        assert_eq!(server.metric("tidewheel_deadline_resets_total", ""), 90);
        assert_eq!(server.closes("peer_close"), 90);
    });
}

#[test]
fn r01_an_empty_close_is_echoed_as_an_empty_close() {
    with_network(|network| {
        let server = network.start("");
        let mut client = network.clients(|| Client::open(&server));
        let start = wait::now();
        client.send(&frame(CLOSE, b""));
        client.expect(CLOSE, b"");
        assert_eq!(client.end(), End::Fin);
        assert_within(
            "R1",
            "an empty Close: echo and FIN",
            start.elapsed(),
            ECHO_MAX,
        );
    });
}
