//! The closing handshake, and bytes behind it.

use std::io::Write;

use crate::support::{
    SLACK,
    client::{CLOSE, Client, End, PING, binary, close, frame, text},
    ms,
    process::Server,
    socket_table::{self, State},
    wait,
};

/// R1: time until Close and FIN.
const ECHO_MS_MAX: u64 = 100;

#[test]
fn r01_the_server_echoes_a_close_and_sends_fin_although_the_client_sends_none() {
    let server = Server::start("--close-timeout 5s");
    for code in [1000, 1001, 1002, 1003, 1007, 1011, 1014, 3000, 4999] {
        let mut client = Client::open(&server);
        let start = wait::now();
        client.send(&close(code, "so long"));
        assert_eq!(client.frame().close_code(), code);
        assert_eq!(client.end(), End::Fin);
        let what = format!("echo of Close {code}, and FIN");
        wait::assert_within(start, ms(ECHO_MS_MAX), &what);
    }
    let mut client = Client::open(&server);
    client.send(&frame(CLOSE, b""));
    client.expect(CLOSE, b"");
    assert_eq!(client.end(), End::Fin);
    assert_eq!(server.closes("peer_close"), 10);
}

#[test]
fn r01_time_wait_is_on_the_server() {
    let server = Server::start("--close-timeout 5s");
    let mut client = Client::open(&server);
    let (client_port, server_port) = (client.port(), server.port());
    client.send(&close(1000, ""));
    client.expect(CLOSE, 1000_u16.to_be_bytes());
    assert_eq!(client.end(), End::Fin);
    wait::until(SLACK, "the server's socket is in FIN_WAIT2", || {
        socket_table::state(server_port, client_port) == Some(State::FinWait2)
    });
    drop(client);
    server.until_empty(SLACK);
    assert_eq!(
        socket_table::state(server_port, client_port),
        Some(State::TimeWait),
        "the side that closes first is in TIME_WAIT"
    );
    assert_eq!(socket_table::state(client_port, server_port), None);
}

#[test]
fn r02_bytes_behind_a_close_do_not_cause_a_reset() {
    let server = Server::start("--close-timeout 5s --shards 1");
    let behind = [
        text("a message"),
        frame(PING, b"a ping"),
        close(1000, "a second close"),
        vec![0xFF; 300_000],
    ];
    for behind in &behind {
        let mut client = Client::open(&server);
        let port = client.port();
        client.send(&[close(4000, "done").as_slice(), behind].concat());
        assert_eq!(client.frame().close_code(), 4000);
        assert_eq!(client.end(), End::Fin);
        // The client goes on sending.
        for _ in 0..3 {
            client.send(behind);
        }
        wait::until(ms(5000), "the server reads and discards the bytes", || {
            let sockets = socket_table::sockets(server.port());
            let server_side = sockets.iter().find(|row| row.remote_port == port);
            let client_side = socket_table::sockets(port);
            server_side.is_some_and(|row| row.unread == 0 && row.state == State::FinWait2)
                && client_side.iter().all(|row| row.unsent == 0)
        });
        let error = client.stream.take_error().expect("SO_ERROR can be read");
        assert!(error.is_none(), "{error:?}");
        client.finish();
        server.until_empty(SLACK);
        assert_eq!(
            socket_table::state(server.port(), port),
            Some(State::TimeWait)
        );
    }
    assert_eq!(server.metric("tidewheel_deadline_resets_total", ""), 0);
}

#[test]
fn r03_the_descriptor_is_released_within_c_of_fin_whatever_the_peer_does() {
    let server = Server::start("--close-timeout 400ms --shards 1");
    let mut silent = Client::open(&server);
    let mut sending = Client::open(&server);
    let mut non_reading = Client::open(&server);
    let start = wait::now();
    // This client does not read the echo.
    non_reading.send(&binary(&[0; 50_000]));
    for client in [&mut silent, &mut sending, &mut non_reading] {
        client.send(&close(1000, ""));
    }
    for client in [&mut silent, &mut sending] {
        assert_eq!(client.frame().close_code(), 1000);
        assert_eq!(client.end(), End::Fin);
    }
    let mut sending = sending.stream;
    let send = std::thread::spawn(move || {
        let mut count = 0;
        while sending.write_all(&text("hello")).is_ok() {
            count += 1;
            wait::pause(ms(10));
        }
        count
    });
    let limit = ms(400) + SLACK;
    server.until_empty(limit);
    // The tolerance: the server reads its clock once a turn.
    assert!(
        start.elapsed() >= ms(400 - 30),
        "a client was reset before C had passed"
    );
    socket_table::assert_no_orphans_soon(server.port());
    assert!(send.join().expect("the thread only writes") > 1);
    let reset = silent.stream.take_error().expect("SO_ERROR can be read");
    assert!(
        reset.is_some(),
        "the connection was not reset at the deadline"
    );
    assert_eq!(server.metric("tidewheel_deadline_resets_total", ""), 3);
    assert_eq!(server.closes("peer_close"), 3);
    assert_eq!(server.closes("close_timeout"), 0);
}

#[test]
fn r10_no_orphans_half_a_second_after_any_deadline() {
    let server = Server::start(
        "--ping-interval 300ms --ping-timeout 200ms --close-timeout 300ms \
         --handshake-timeout 300ms",
    );
    // Ten clients in each of five states; none of them sends FIN.
    let clients: Vec<Client> = (0..10)
        .flat_map(|_| {
            let connected = Client::connect(&server);
            let silent = Client::open(&server);
            let mut closing = Client::open(&server);
            closing.send(&close(1000, ""));
            let mut invalid = Client::open(&server);
            invalid.send(&[0x83, 0x80, 0, 0, 0, 0]);
            let mut non_reading = Client::open_with_small_buffer(&server);
            non_reading.send_until_blocked(&binary(&[7; 60_000]));
            [connected, silent, closing, invalid, non_reading]
        })
        .collect();
    server.until_empty(ms(300 + 200 + 300) + SLACK);
    socket_table::assert_no_orphans_soon(server.port());
    for client in &clients {
        let state = socket_table::state(server.port(), client.port());
        assert!(matches!(state, None | Some(State::TimeWait)), "{state:?}");
    }
    assert_eq!(server.closes("ping_timeout"), 20);
}
