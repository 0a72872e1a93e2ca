//! Pings, and deadlines that do not wait for the socket.

use std::time::Duration;

use crate::support::{
    SLACK,
    client::{CLOSE, Client, End, PING, PONG, Received, binary, close, frame, text},
    ms,
    process::Server,
    socket_table, wait,
};

/// Returns the earliest time of a Ping: the server spreads Pings over the last eighth of the interval, and
/// its clock may be 30 ms ahead of the test's.
fn earliest(interval: Duration) -> Duration {
    interval - interval / 8 - ms(30)
}

#[test]
fn r04_the_first_ping_comes_within_p_of_the_last_received_byte() {
    const P: Duration = ms(400);
    let server = Server::start("--ping-interval 400ms");
    let mut client = Client::open(&server);
    // Any bytes count: the handshake, a message, a Pong, half a frame.
    let (half, other_half) = (&text("halves")[..5], &text("halves")[5..]);
    for sent in [b"".as_slice(), &text("hello"), &frame(PONG, b"me"), half] {
        wait::pause(P / 3);
        let start = wait::now();
        client.send(sent);
        if sent.starts_with(&[0x81]) && sent.len() > half.len() {
            client.expect(0x81, "hello");
        }
        let ping = client.frame();
        let elapsed = start.elapsed();
        assert_eq!(ping.first, PING);
        let earliest = if sent.is_empty() {
            Duration::ZERO
        } else {
            earliest(P)
        };
        let what = format!("a Ping after {}", sent.escape_ascii());
        assert!(elapsed >= earliest, "{what}: {elapsed:?} is too early");
        wait::assert_took(start, elapsed, P + SLACK, &what);
        if sent != half {
            client.send(&frame(PONG, &ping.payload));
        }
    }
    client.send(other_half);
    client.expect(0x81, "halves");
}

#[test]
fn r07_clients_whose_pongs_the_server_has_not_read_yet_are_not_closed() {
    use rustix::process::Signal;
    // There are far more clients than receive buffers, and all Pongs come while the server is stopped. When
    // it continues, every deadline has passed, and most Pongs are unread.
    let server =
        Server::start("--shards 1 --ping-interval 500ms --ping-timeout 3s --close-timeout 300ms");
    let mut clients = Client::open_many(&server, 400);
    for client in &mut clients {
        assert_eq!(client.frame().first, PING);
    }
    server.signal(Signal::STOP);
    for client in &mut clients {
        client.send(&frame(PONG, b""));
    }
    wait::pause(ms(4000));
    server.signal(Signal::CONT);
    for client in &mut clients {
        client.send(&text("hello"));
    }
    for client in &mut clients {
        assert_eq!(
            client.frame_except_ping(),
            Received::new(0x81, b"hello"),
            "the server closed the connection"
        );
    }
    assert_eq!(server.closes("ping_timeout"), 0);
    assert_eq!(server.connections(), 400);
}

#[test]
fn r05_a_client_without_a_pong_gets_1011_at_p_plus_t_and_is_reset_at_c() {
    const P: Duration = ms(300);
    const T: Duration = ms(300);
    const C: Duration = ms(400);
    let server = Server::start("--ping-interval 300ms --ping-timeout 300ms --close-timeout 400ms");
    let start = wait::now();
    let mut client = Client::open(&server);
    let opened = wait::now();
    assert_eq!(client.frame().first, PING);
    let payload = [
        &1011_u16.to_be_bytes(),
        b"keepalive ping timeout".as_slice(),
    ]
    .concat();
    client.expect(CLOSE, payload);
    let (early, late) = (start.elapsed(), opened.elapsed());
    assert!(early >= P + T, "the Close came after {early:?}, too early");
    wait::assert_took(opened, late, P + T + SLACK, "the Close");
    assert_eq!(client.end(), End::Fin);
    assert_eq!(
        server.closes("ping_timeout"),
        1,
        "the close is not counted when it is sent"
    );
    assert_eq!(server.connections(), 1, "the connection ended before C");
    server.until_empty_since(opened, P + T + C + SLACK);
    assert!(start.elapsed() >= P + T + C);
    socket_table::assert_no_orphans_soon(server.port());
    let reset = client.stream.take_error().expect("SO_ERROR can be read");
    assert!(
        reset.is_some(),
        "the connection was not reset at the deadline"
    );
}

#[test]
fn r06_a_client_that_answers_the_close_1011_is_released_at_once() {
    let server = Server::start("--ping-interval 200ms --ping-timeout 200ms --close-timeout 10s");
    let mut client = Client::open(&server);
    assert_eq!(client.frame().first, PING);
    assert_eq!(client.frame().close_code(), 1011);
    client.send(&close(1011, ""));
    client.finish();
    server.until_empty(ms(200));
    assert_eq!(client.end(), End::Fin);
    assert_eq!(server.metric("tidewheel_deadline_resets_total", ""), 0);
}

#[test]
fn r07_a_client_that_answers_pings_is_never_closed() {
    let server = Server::start("--ping-interval 100ms --ping-timeout 1s");
    let mut client = Client::open(&server);
    let start = wait::now();
    let mut pings = 0;
    while start.elapsed() < ms(2500) {
        let ping = client.frame();
        assert_eq!(ping.first, PING);
        client.send(&frame(PONG, &ping.payload));
        pings += 1;
    }
    assert!(pings >= 15, "only {pings} Pings in 2.5 s");
    client.send(&text("alive"));
    assert_eq!(client.frame_except_ping(), Received::new(0x81, b"alive"));
}

#[test]
fn r07_an_empty_pong_or_a_message_answers_a_ping() {
    let server = Server::start("--ping-interval 100ms --ping-timeout 400ms");
    let mut client = Client::open(&server);
    for _ in 0..5 {
        assert_eq!(client.frame().first, PING);
        client.send(&frame(PONG, b""));
        assert_eq!(client.frame().first, PING);
        client.send(&text("alive"));
        assert_eq!(client.frame_except_ping(), Received::new(0x81, b"alive"));
    }
}

#[test]
fn r07_a_client_is_alive_while_a_large_message_arrives_slowly() {
    const PARTS: usize = 12;
    let server = Server::start("--ping-interval 300ms --ping-timeout 500ms");
    let mut client = Client::open(&server);
    let message = vec![7; 600_000];
    // The client cannot send a Pong within the frame.
    for part in binary(&message).chunks(message.len().div_ceil(PARTS)) {
        client.send(part);
        wait::pause(ms(200));
    }
    assert_eq!(client.frame_except_ping(), Received::new(0x82, &message));
}

#[test]
fn r07_no_timer_closes_with_1000() {
    for (flags, code, cause) in [
        (
            "--ping-interval 50ms --ping-timeout 50ms",
            1011,
            "ping_timeout",
        ),
        (
            "--idle-timeout 200ms --ping-interval off",
            1001,
            "idle_timeout",
        ),
        ("--max-lifetime 200ms --ping-interval off", 1001, "lifetime"),
    ] {
        let server = Server::start(flags);
        let mut client = Client::open(&server);
        let start = wait::now();
        assert_eq!(client.frame_except_ping().close_code(), code, "{flags}");
        wait::assert_within(start, ms(200) + SLACK, flags);
        client.send(&close(code, ""));
        client.finish();
        server.until_empty(SLACK);
        assert_eq!(server.closes(cause), 1, "{flags}");
    }
}

#[test]
fn r07_pings_and_pongs_do_not_extend_the_idle_timeout() {
    let server = Server::start("--idle-timeout 500ms --ping-interval 100ms");
    let mut client = Client::open(&server);
    let start = wait::now();
    let close = loop {
        match client.frame() {
            Received {
                first: PING,
                payload,
            } => client.send(&frame(PONG, &payload)),
            frame => break frame,
        }
    };
    assert_eq!(close.close_code(), 1001);
    assert!(start.elapsed() >= ms(450), "{:?}", start.elapsed());
    wait::assert_within(start, ms(500) + SLACK, "the Close of the idle timeout");
}

#[test]
fn r09_deadlines_hold_although_the_socket_is_not_writable() {
    const P: Duration = ms(500);
    const T: Duration = ms(400);
    const C: Duration = ms(400);
    let server = Server::start("--ping-interval 500ms --ping-timeout 400ms --close-timeout 400ms");
    // Neither client reads; each has stopped within a frame.
    let message = binary(&[1; 30_000]);
    let mut clients = [
        Client::open_with_small_buffer(&server),
        Client::open_with_small_buffer(&server),
    ];
    for client in &mut clients {
        client.send_until_blocked(&message);
        let row = socket_table::socket(server.port(), client.port());
        assert!(row.unsent > 0, "the window is not closed: {row:?}");
    }
    // The server receives nothing from now on.
    let silent = wait::now();
    server.until_empty(P + T + C + SLACK);
    socket_table::assert_no_orphans_soon(server.port());
    wait::assert_within(
        silent,
        P + T + C + SLACK + ms(500),
        "the end of both connections",
    );
    assert_eq!(server.closes("ping_timeout"), 2);
    for client in &mut clients {
        assert_eq!(client.rest().1, End::Reset);
    }
}
