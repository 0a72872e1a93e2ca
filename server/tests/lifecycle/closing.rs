//! The closing handshake, and what may follow it.

use std::{io::Write as _, time::Duration};

use crate::{
    crowd,
    figures::{assert_gone, assert_within, tell},
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

const ECHO_WITHIN: Duration = ms(100);

#[test]
fn r01_a_close_is_echoed_and_fin_follows_though_the_client_sends_none() {
    with_network(|network| {
        let server = network.start("");
        let mut clients = crowd::open(network, &server, 100);
        let codes = [1000, 1001, 1002, 1003, 1007, 1011, 1014, 3000, 4999];
        let mut echoed = Vec::new();
        let mut finished = Vec::new();
        for (client, &code) in clients.iter_mut().zip(codes.iter().cycle()) {
            let start = wait::now();
            client.send(&close(code, "so long"));
            assert_eq!(client.frame().close_code(), code);
            echoed.push(start.elapsed());
            assert_eq!(client.end(), End::Fin);
            finished.push(start.elapsed());
        }
        for (what, mut times) in [("Close echoed", echoed), ("FIN", finished)] {
            times.sort();
            let slowest = *times.last().expect("a hundred");
            let what = format!("{what}, the slowest of 100:");
            assert_within("R1", &what, slowest, ECHO_WITHIN);
        }
        assert_eq!(server.closes("peer_close"), 100);
        drop(clients);
        server.until_empty(SLACK);
        assert_time_wait_is_the_servers(network, &server, 100);
    });
}

/// Who closes TCP first keeps TIME_WAIT (RFC 9293 3.6).
fn assert_time_wait_is_the_servers(network: &Network, server: &Server, count: usize) {
    let (port, states) = (server.port(), [State::TimeWait, State::FinWait2]);
    // A FIN that is sent again, because its acknowledgement was late, may find the client's socket gone: the
    // answer is a reset, and that ends TIME_WAIT (RFC 1337).
    let mut killed = 0;
    // A dump that is taken while others change the kernel's table may miss some.
    let mut ours = 0;
    wait::until(ms(10_000), "the kernel lists each of them", || {
        ours = sock_diag::count(port, &states);
        killed = network.clients(socket_table::resets_sent) as usize;
        ours + killed >= count
    });
    let theirs = network.clients(|| socket_table::sockets_to(port).len());
    let what =
        format!("TIME_WAIT: {ours} with the server, {killed} reset, {theirs} with the clients");
    tell(
        "R1",
        &format!("{what} (must be {count} together or more, and 0)"),
    );
    assert!(ours + killed >= count && theirs == 0);
}

#[test]
fn r02_bytes_behind_a_close_do_not_become_a_reset() {
    with_network(|network| {
        let server = network.start("--close-timeout 5s");
        let behind = [
            text("a message"),
            frame(PING, b"a ping"),
            close(1000, "a second close"),
            vec![0xFF; 300_000],
        ];
        let mut clients = crowd::open(network, &server, 40);
        for (client, behind) in clients.iter_mut().zip(behind.iter().cycle()) {
            client.send(&[close(4000, "done").as_slice(), behind].concat());
            assert_eq!(client.frame().close_code(), 4000);
            assert_eq!(client.end(), End::Fin);
            // It sends on, as if it had not heard.
            (0..3).for_each(|_| client.send(behind));
        }
        wait::until(ms(5000), "the server reads what it ignores", || {
            let ours = socket_table::sockets(server.port());
            let theirs = network.clients(|| socket_table::sockets_to(server.port()));
            theirs.iter().all(|row| row.unsent == 0) && ours.iter().all(|row| row.unread == 0)
        });
        for client in &mut clients {
            let error = client.stream.take_error().expect("an option of sockets");
            assert!(error.is_none(), "{error:?}");
            client.finish();
        }
        server.until_empty(SLACK);
        let resets = socket_table::resets_sent();
        let what = "40 who send on behind their Close: resets sent by the server:";
        tell("R2", &format!("{what} {resets} (must be 0)"));
        assert_eq!(resets, 0);
        assert_eq!(server.metric("tidewheel_deadline_resets_total", ""), 0);
    });
}

#[test]
fn r03_after_fin_the_descriptor_is_released_within_c_whatever_the_peer_does() {
    const C: Duration = ms(1000);
    with_network(|network| {
        let server = network.start("--close-timeout 1s");
        let mut clients = crowd::open(network, &server, 90);
        let start = wait::now();
        for (kind, client) in (0..3).cycle().zip(&mut clients) {
            if kind == 0 {
                // Its answer is not read, nor the echo of the Close.
                client.send(&binary(&[0; 50_000]));
            }
            client.send(&close(1000, ""));
        }
        let mut talking = Vec::new();
        for (kind, mut client) in (0..3).cycle().zip(clients.drain(..)) {
            if kind > 0 {
                assert_eq!(client.frame().close_code(), 1000);
                assert_eq!(client.end(), End::Fin);
            }
            talking.push((kind == 1, client));
        }
        let limit = C + SLACK;
        wait::until(limit + SLACK, "all are reset", || {
            for (talks, client) in &mut talking {
                if *talks {
                    // It is to fail in the end.
                    let _ = client.stream.write_all(&text("still here"));
                }
            }
            server.connections() == 0
        });
        // The server reads its clock once a turn, so that it may be some milliseconds ahead.
        let done = start.elapsed();
        assert!(done >= C - ms(30), "they have all of C, not {done:?}");
        let what = "30 deaf, 30 talking, 30 silent after the server's FIN";
        assert_gone("R3", what, &server, start, limit);
        assert_eq!(server.metric("tidewheel_deadline_resets_total", ""), 90);
        assert_eq!(server.closes("peer_close"), 90);
    });
}

/// An empty Close is echoed as one.
#[test]
fn r01_an_empty_close_is_echoed_empty() {
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
            ECHO_WITHIN,
        );
    });
}
