//! Acknowledgements of the peer's kernel as signs of life, in virtual time.

mod common;
mod pair;

use std::time::Duration;

use common::server;
use pair::{CLOSE_TIMEOUT_MS, PING_INTERVAL_MS, PING_TIMEOUT_MS, Pair, Side};
use tidewheel_codec::{Acknowledged, Cause, CloseCode, Connection, Endpoint, Time, Transmit};

fn acknowledged_at(last: Time, has_more: bool) -> Acknowledged {
    Acknowledged {
        last,
        total: 5,
        has_more,
    }
}

/// Returns a server's connection whose client has sent nothing, and the time of the ping.
fn pinged() -> (Endpoint, Connection, Time) {
    let mut endpoint = Endpoint::new(server()).expect("the configuration is valid");
    let mut connection = Connection::new(Time::from_millis(0), 0);
    let due = connection.poll_timeout(endpoint.config());
    let ping = due.expect("a ping is due");
    let mut out = Vec::new();
    connection.handle_timeout(&mut endpoint, &mut out, ping);
    assert_eq!(out[0], 0x89, "a Ping");
    (endpoint, connection, ping)
}

#[test]
fn an_acknowledgement_long_after_a_ping_restarts_the_ping_interval() {
    let (mut endpoint, mut connection, ping) = pinged();
    let deadline = connection.poll_timeout(endpoint.config());
    let deadline = deadline.expect("the ping timeout is due");
    let last = ping + Duration::from_millis(101);
    connection.note_acknowledged(acknowledged_at(last, false), last);
    assert!(!connection.is_overdue(endpoint.config(), deadline));
    // Without a pong or another acknowledgement, the next ping times out.
    let again = connection.poll_timeout(endpoint.config());
    let again = again.expect("a ping is due");
    assert!(
        again <= last + Duration::from_millis(PING_INTERVAL_MS),
        "{again:?}"
    );
    let mut out = Vec::new();
    connection.handle_timeout(&mut endpoint, &mut out, again);
    let end = last + Duration::from_millis(PING_INTERVAL_MS + PING_TIMEOUT_MS);
    assert_eq!(connection.poll_timeout(endpoint.config()), Some(end));
    connection.handle_timeout(&mut endpoint, &mut out, end);
    let end = connection.poll_disconnect();
    assert_eq!(
        end.expect("the connection has failed").cause,
        Cause::PingTimeout
    );
}

#[test]
fn an_acknowledgement_of_the_ping_alone_does_not_extend_the_ping_timeout() {
    let (mut endpoint, mut connection, ping) = pinged();
    let deadline = connection.poll_timeout(endpoint.config());
    let deadline = deadline.expect("the ping timeout is due");
    let last = ping + Duration::from_millis(100);
    connection.note_acknowledged(acknowledged_at(last, false), last);
    assert_eq!(connection.poll_timeout(endpoint.config()), Some(deadline));
    connection.handle_timeout(&mut endpoint, &mut Vec::new(), deadline);
    let end = connection.poll_disconnect();
    assert_eq!(
        end.expect("the connection has failed").cause,
        Cause::PingTimeout
    );
}

#[test]
fn an_acknowledgement_with_more_unacknowledged_bytes_restarts_the_ping_interval() {
    // Before the ping, at the time of the ping, and after it: the acknowledgement is not that of the ping.
    for after in [
        PING_INTERVAL_MS - 10_000,
        PING_INTERVAL_MS,
        PING_INTERVAL_MS + 50,
        PING_INTERVAL_MS + 10_000,
    ] {
        let (mut endpoint, mut connection, _) = pinged();
        let last = Time::from_millis(after);
        connection.note_acknowledged(acknowledged_at(last, true), last);
        let mut out = Vec::new();
        while let Some(due) = connection.poll_timeout(endpoint.config()) {
            connection.handle_timeout(&mut endpoint, &mut out, due);
            if let Some(end) = connection.poll_disconnect() {
                assert_eq!(end.cause, Cause::PingTimeout);
                assert_eq!(
                    due,
                    last + Duration::from_millis(PING_INTERVAL_MS + PING_TIMEOUT_MS),
                    "{after}"
                );
                break;
            }
        }
    }
}

#[test]
fn acknowledgements_after_a_ping_timeout_do_not_extend_the_deadline() {
    let (mut endpoint, mut connection, _) = pinged();
    let timeout = connection.poll_timeout(endpoint.config());
    let timeout = timeout.expect("the ping timeout is due");
    connection.handle_timeout(&mut endpoint, &mut Vec::new(), timeout);
    let deadline = timeout + endpoint.config().close_timeout;
    assert_eq!(connection.poll_timeout(endpoint.config()), Some(deadline));
    assert!(!connection.is_overdue(endpoint.config(), deadline));
    let close_by = deadline + Duration::from_secs(1);
    connection.note_acknowledged(
        acknowledged_at(timeout + Duration::from_secs(1), true),
        close_by,
    );
    assert_eq!(connection.poll_timeout(endpoint.config()), Some(deadline));
}

/// Acknowledgements on a closing connection: the time in milliseconds after the Close, whether more bytes are
/// unacknowledged, and the deadline in milliseconds after the Close.
const ACKNOWLEDGEMENTS: [(u64, bool, u64); 7] = [
    (0, true, CLOSE_TIMEOUT_MS),
    // Possibly the acknowledgement of the Close alone.
    (5, false, CLOSE_TIMEOUT_MS),
    (100, false, CLOSE_TIMEOUT_MS),
    (101, false, CLOSE_TIMEOUT_MS + 101),
    (5, true, CLOSE_TIMEOUT_MS + 5),
    (9_999, true, CLOSE_TIMEOUT_MS + 9_999),
    (9_999, false, CLOSE_TIMEOUT_MS + 9_999),
];

/// Returns a server whose connection the peer or the application has closed, and the time of its Close.
fn closing(peer_closes: bool) -> (Side, Time) {
    let mut pair = Pair::with_server_pings();
    let begin = pair.now;
    let server = &mut pair.server;
    if peer_closes {
        let mut bytes = [0x88, 0x80, 0, 0, 0, 0];
        let mut input = server.connection.receive(&mut bytes, begin);
        let (endpoint, out) = (&mut server.endpoint, &mut server.out);
        let event = server.connection.poll_event(endpoint, &mut input, out);
        assert!(event.is_none());
    } else {
        server.close(CloseCode::NORMAL_CLOSURE, Cause::LocalClose, begin);
    }
    (pair.server, begin)
}

/// Notes an acknowledgement of `total` bytes at `last`. Returns the deadline.
fn acknowledge(server: &mut Side, last: Time, total: u64, has_more: bool) -> Option<Time> {
    let acknowledged = Acknowledged {
        last,
        total,
        has_more,
    };
    let config = server.endpoint.config();
    server
        .connection
        .note_acknowledged(acknowledged, last + config.close_timeout);
    server.connection.poll_timeout(config)
}

#[test]
fn acknowledgements_extend_the_deadline_of_a_closing_connection() {
    for (after, has_more, expected) in ACKNOWLEDGEMENTS {
        for peer_closes in [false, true] {
            let (mut server, begin) = closing(peer_closes);
            let last = begin + Duration::from_millis(after);
            let deadline = begin + Duration::from_millis(expected);
            assert_eq!(
                acknowledge(&mut server, last, 10, has_more),
                Some(deadline),
                "{after}"
            );
            // An earlier acknowledgement changes nothing.
            assert_eq!(
                acknowledge(&mut server, begin, 20, true),
                Some(deadline),
                "{after}"
            );
            let config = server.endpoint.config();
            let before = begin + Duration::from_millis(expected - 1);
            assert!(!server.connection.is_overdue(config, before));
            assert!(server.connection.is_overdue(config, deadline));
            let (endpoint, out) = (&mut server.endpoint, &mut server.out);
            server.connection.handle_timeout(endpoint, out, deadline);
            assert_eq!(server.connection.poll_transmit(), Transmit::Reset);
        }
    }
}

#[test]
fn repeated_acknowledgements_do_not_extend_the_deadline_of_a_closing_connection() {
    let second = Duration::from_secs(1);
    for peer_closes in [false, true] {
        let (mut server, begin) = closing(peer_closes);
        let close_timeout = server.endpoint.config().close_timeout;
        let first = Some(begin + second + close_timeout);
        assert_eq!(acknowledge(&mut server, begin + second, 10, true), first);
        assert_eq!(
            acknowledge(&mut server, begin + 2 * second, 10, true),
            first
        );
        let more = Some(begin + 3 * second + close_timeout);
        assert_eq!(acknowledge(&mut server, begin + 3 * second, 11, true), more);
    }
}
