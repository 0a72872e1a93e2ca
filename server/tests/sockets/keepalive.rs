//! Pings, and the deadlines that never wait for the socket.

use std::time::Duration;

use crate::support::{
    SLACK,
    client::{CLOSE, Client, End, PING, PONG, Received, binary, close, frame, text},
    ms,
    process::Server,
    socket_table, wait,
};

/// Pings are early by up to an eighth of the interval, so that they are not all at once; and our
/// clock starts when theirs has.
fn earliest(interval: Duration) -> Duration {
    interval - interval / 8 - ms(30)
}

#[test]
fn r04_the_first_ping_comes_within_p_of_the_last_thing_heard() {
    const P: Duration = ms(400);
    let server = Server::start("--ping-interval 400ms");
    let mut client = Client::open(&server);
    // Whatever is heard counts: the handshake, a message, a pong, half a frame.
    let (half, other_half) = (&text("halves")[..5], &text("halves")[5..]);
    for heard in [b"".as_slice(), &text("hello"), &frame(PONG, b"me"), half] {
        wait::pause(P / 3);
        let start = wait::now();
        client.send(heard);
        if heard.starts_with(&[0x81]) && heard.len() > half.len() {
            client.expect(0x81, "hello");
        }
        let ping = client.frame();
        let elapsed = start.elapsed();
        assert_eq!(ping.first, PING);
        let least = if heard.is_empty() {
            Duration::ZERO
        } else {
            earliest(P)
        };
        let what = format!("ping after {}", heard.escape_ascii());
        assert!(elapsed >= least, "{what}: {elapsed:?} is early");
        wait::assert_took(start, elapsed, P + SLACK, &what);
        if heard != half {
            client.send(&frame(PONG, &ping.payload));
        }
    }
    client.send(other_half);
    client.expect(0x81, "halves");
}

#[test]
fn r07_a_server_that_has_fallen_behind_cuts_nobody_who_has_answered() {
    use rustix::process::Signal;
    // Far more clients than receive buffers, and all their pongs come while the server stands
    // still. When it goes on, every deadline is over, and most of the pongs are still unread.
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
        client.send(&text("still here"));
    }
    for client in &mut clients {
        assert_eq!(
            client.frame_but_ping(),
            Received::new(0x81, b"still here"),
            "it is not cut"
        );
    }
    assert_eq!(server.closes("ping_timeout"), 0);
    assert_eq!(server.connections(), 400);
}

#[test]
fn r05_without_pong_the_close_comes_at_p_and_t_and_all_is_gone_at_c() {
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
    assert!(early >= P + T, "the close came early, after {early:?}");
    wait::assert_took(opened, late, P + T + SLACK, "the close comes");
    assert_eq!(client.end(), End::Fin);
    assert_eq!(server.closes("ping_timeout"), 1, "it is told at once");
    assert_eq!(server.connections(), 1, "the client has C to answer");
    server.until_empty_since(opened, P + T + C + SLACK);
    assert!(start.elapsed() >= P + T + C);
    socket_table::assert_no_orphans_soon(server.port());
    let reset = client.stream.take_error().expect("an option of sockets");
    assert!(reset.is_some(), "at the deadline it is reset");
}

#[test]
fn r06_a_peer_that_answers_the_timeouts_close_is_gone_at_once() {
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
fn r07_a_client_that_answers_pings_is_never_cut() {
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
    assert!(pings >= 15, "{pings} pings in 2.5 s");
    client.send(&text("alive"));
    assert_eq!(client.frame_but_ping(), Received::new(0x81, b"alive"));
}

#[test]
fn r07_an_empty_pong_or_any_message_proves_life_as_well() {
    let server = Server::start("--ping-interval 100ms --ping-timeout 400ms");
    let mut client = Client::open(&server);
    for _ in 0..5 {
        assert_eq!(client.frame().first, PING);
        client.send(&frame(PONG, b""));
        assert_eq!(client.frame().first, PING);
        client.send(&text("alive"));
        assert_eq!(client.frame_but_ping(), Received::new(0x81, b"alive"));
    }
}

#[test]
fn r07_a_large_message_that_arrives_slowly_proves_life() {
    const PARTS: usize = 12;
    let server = Server::start("--ping-interval 300ms --ping-timeout 500ms");
    let mut client = Client::open(&server);
    let message = vec![7; 600_000];
    // It cannot answer pings meanwhile. What is to come of the message is waited for as a whole.
    for part in binary(&message).chunks(message.len().div_ceil(PARTS)) {
        client.send(part);
        wait::pause(ms(200));
    }
    assert_eq!(client.frame_but_ping(), Received::new(0x82, &message));
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
        assert_eq!(client.frame_but_ping().close_code(), code, "{flags}");
        wait::assert_within(start, ms(200) + SLACK, flags);
        client.send(&close(code, ""));
        client.finish();
        server.until_empty(SLACK);
        assert_eq!(server.closes(cause), 1, "{flags}");
    }
}

#[test]
fn r07_pings_do_not_keep_an_idle_connection() {
    let server = Server::start("--idle-timeout 500ms --ping-interval 100ms");
    let mut client = Client::open(&server);
    let start = wait::now();
    let end = loop {
        match client.frame() {
            Received {
                first: PING,
                payload,
            } => client.send(&frame(PONG, &payload)),
            frame => break frame,
        }
    };
    assert_eq!(end.close_code(), 1001);
    assert!(start.elapsed() >= ms(450), "{:?}", start.elapsed());
    wait::assert_within(start, ms(500) + SLACK, "the idle timeout");
}

#[test]
fn r09_no_deadline_waits_for_a_socket_that_takes_nothing() {
    const P: Duration = ms(500);
    const T: Duration = ms(400);
    const C: Duration = ms(400);
    let server = Server::start("--ping-interval 500ms --ping-timeout 400ms --close-timeout 400ms");
    // Two that read not a byte, each stopped somewhere in a frame.
    let message = binary(&[1; 30_000]);
    let mut clients = [Client::open_narrow(&server), Client::open_narrow(&server)];
    for client in &mut clients {
        client.stuff(&message);
        let row = socket_table::held(server.port(), client.port());
        assert!(row.unsent > 0, "the zero window is the point: {row:?}");
    }
    // What they wrote last has been heard; from now on nothing is.
    let cut = wait::now();
    server.until_empty(P + T + C + SLACK);
    socket_table::assert_no_orphans_soon(server.port());
    wait::assert_within(cut, P + T + C + SLACK + ms(500), "all is over");
    assert_eq!(server.closes("ping_timeout"), 2);
    for client in &mut clients {
        assert_eq!(client.rest().1, End::Reset);
    }
}
