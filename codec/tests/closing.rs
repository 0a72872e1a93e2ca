//! The end of a connection: closing handshakes, failures, and the end of the transport, in virtual time.

mod common;
mod pair;

use std::time::Duration;

use common::server;
use pair::{CLOSE_TIMEOUT_MS, Pair, SETTLING_TIME, Side, client_without_pings, codes};
use tidewheel_codec::{
    Cause, CloseCode, Closed, Connection, Endpoint, Initiator, PingError, Time, Transmit,
};

#[test]
fn a_server_sends_fin_with_its_answer_to_the_close_of_a_client() {
    let mut pair = Pair::with_server_pings();
    let start = pair.now;
    pair.client
        .close(CloseCode::NORMAL_CLOSURE, Cause::LocalClose, start);
    pair.run_for(SETTLING_TIME);
    let normal = Some(CloseCode::NORMAL_CLOSURE);
    assert_eq!(pair.server.finished, Some(start + pair.latency));
    assert_eq!(
        pair.client.finished, None,
        "the client waits for the server's FIN"
    );
    assert_eq!(pair.server.ended.unwrap().1, Transmit::Release);
    assert_eq!(pair.client.ended.unwrap().1, Transmit::Release);
    let server = pair.server.end();
    assert_eq!(
        (server.initiator, server.cause),
        (Initiator::Peer, Cause::PeerClose)
    );
    assert_eq!(codes(server), (normal, normal));
    let client = pair.client.end();
    assert_eq!(
        (client.initiator, client.cause),
        (Initiator::Local, Cause::LocalClose)
    );
    assert_eq!(codes(client), (normal, normal));
}

#[test]
fn a_server_sends_fin_after_the_answer_to_its_close() {
    let mut pair = Pair::with_server_pings();
    let start = pair.now;
    pair.server
        .close(CloseCode::GOING_AWAY, Cause::Shutdown, start);
    pair.run_for(SETTLING_TIME);
    assert_eq!(pair.server.finished, Some(start + 2 * pair.latency));
    assert_eq!(pair.server.end().cause, Cause::Shutdown);
    assert_eq!(
        codes(pair.server.end()),
        (Some(CloseCode::GOING_AWAY), Some(CloseCode::GOING_AWAY))
    );
    assert_eq!(pair.client.end().cause, Cause::PeerClose);
    assert_eq!(&*pair.client.end().received.as_ref().unwrap().reason, "bye");
}

#[test]
fn both_sides_may_close_at_the_same_time() {
    let mut pair = Pair::with_server_pings();
    let start = pair.now;
    pair.server
        .close(CloseCode::GOING_AWAY, Cause::LocalClose, start);
    pair.client
        .close(CloseCode::NORMAL_CLOSURE, Cause::LocalClose, start);
    pair.run_for(SETTLING_TIME);
    let (away, normal) = (Some(CloseCode::GOING_AWAY), Some(CloseCode::NORMAL_CLOSURE));
    assert_eq!(codes(pair.server.end()), (normal, away));
    assert_eq!(codes(pair.client.end()), (away, normal));
    assert!(pair.server.ended.is_some() && pair.client.ended.is_some());
}

#[test]
fn a_close_without_an_answer_resets_the_connection_at_the_close_timeout() {
    for (cause, reported) in [
        (Cause::LocalClose, Cause::CloseTimeout),
        (Cause::Shutdown, Cause::Shutdown),
    ] {
        let mut pair = Pair::with_server_pings();
        pair.is_cut = true;
        let start = pair.now;
        pair.server.close(CloseCode::GOING_AWAY, cause, start);
        pair.run_for(Duration::from_millis(CLOSE_TIMEOUT_MS));
        let (ended, how) = pair.server.ended.unwrap();
        assert_eq!(
            (Pair::millis_since(start, ended), how),
            (CLOSE_TIMEOUT_MS, Transmit::Reset)
        );
        let disconnect = pair.server.end();
        assert_eq!(
            (disconnect.initiator, disconnect.cause),
            (Initiator::Local, reported)
        );
        assert_eq!(codes(disconnect), (None, Some(CloseCode::GOING_AWAY)));
    }
}

#[test]
fn a_client_that_sends_no_fin_is_reset_at_the_close_timeout() {
    let mut pair = Pair::with_server_pings();
    let start = pair.now;
    pair.client
        .close(CloseCode::NORMAL_CLOSURE, Cause::LocalClose, start);
    pair.turn();
    pair.client.is_suspended = true;
    pair.run_for(Duration::from_secs(60));
    let closed_at = pair.server.finished.unwrap();
    assert_eq!(closed_at, start + pair.latency);
    let (ended, how) = pair.server.ended.unwrap();
    assert_eq!(
        (Pair::millis_since(closed_at, ended), how),
        (CLOSE_TIMEOUT_MS, Transmit::Reset)
    );
    assert_eq!(
        pair.server.end().cause,
        Cause::PeerClose,
        "the end was known before"
    );
}

#[test]
fn a_server_that_sends_no_fin_is_reset_at_the_close_timeout() {
    let mut endpoint = Endpoint::with_seed(client_without_pings(), 1).unwrap();
    let start = Time::from_millis(0);
    let mut connection = Connection::new(start, 0);
    let mut out = Vec::new();
    let mut close = *b"\x88\x02\x03\xe8";
    let mut input = connection.receive(&mut close, start);
    assert!(
        connection
            .poll_event(&mut endpoint, &mut input, &mut out)
            .is_none()
    );
    assert_eq!(connection.poll_transmit(), Transmit::Nothing);
    let deadline = connection.poll_timeout(endpoint.config()).unwrap();
    assert_eq!(deadline.as_millis(), CLOSE_TIMEOUT_MS);
    connection.handle_timeout(&mut endpoint, &mut out, deadline);
    assert_eq!(connection.poll_transmit(), Transmit::Reset);
}

#[test]
fn eof_and_reset_are_different_causes() {
    type End = fn(&mut Connection, Time);
    let ends: [(End, Cause); 2] = [
        (Connection::receive_eof, Cause::EofWithoutClose),
        (Connection::receive_reset, Cause::Reset),
    ];
    for (end, cause) in ends {
        let mut connection = Connection::new(Time::from_millis(10), 0);
        end(&mut connection, Time::from_millis(30));
        assert_eq!(connection.poll_transmit(), Transmit::Release);
        let disconnect = connection.poll_disconnect().unwrap();
        assert_eq!(
            (disconnect.initiator, disconnect.cause),
            (Initiator::Network, cause)
        );
        assert_eq!(codes(&disconnect), (None, None));
        assert_eq!(disconnect.code(), CloseCode::ABNORMAL_CLOSURE);
        assert_eq!(disconnect.lived, Duration::from_millis(20));
        end(&mut connection, Time::from_millis(40));
        assert_eq!(connection.poll_disconnect(), None);
        assert_eq!(connection.poll_timeout(&server()), None);
    }
}

#[test]
fn the_end_of_the_transport_after_our_close_keeps_the_cause_of_the_close() {
    let mut pair = Pair::with_server_pings();
    let now = pair.now;
    pair.server
        .close(CloseCode::NORMAL_CLOSURE, Cause::LocalClose, now);
    pair.server.connection.receive_eof(now);
    pair.turn();
    assert_eq!(pair.server.end().cause, Cause::LocalClose);
    assert_eq!(
        codes(pair.server.end()),
        (None, Some(CloseCode::NORMAL_CLOSURE))
    );
}

#[test]
fn no_message_is_delivered_or_sent_after_our_close() {
    let mut pair = Pair::with_server_pings();
    let now = pair.now;
    let client = &mut pair.client;
    client
        .connection
        .send_text(&mut client.endpoint, "one", &mut client.out)
        .unwrap();
    pair.run_for(SETTLING_TIME);
    let now = now + SETTLING_TIME;
    let client = &mut pair.client;
    client
        .connection
        .send_text(&mut client.endpoint, "two", &mut client.out)
        .unwrap();
    let server = &mut pair.server;
    server.close(CloseCode::NORMAL_CLOSURE, Cause::LocalClose, now);
    assert_eq!(
        server
            .connection
            .send_text(&mut server.endpoint, "x", &mut server.out),
        Err(Closed)
    );
    assert_eq!(
        server
            .connection
            .send_binary(&mut server.endpoint, b"x", &mut server.out),
        Err(Closed)
    );
    let ping = server
        .connection
        .ping(&mut server.endpoint, b"x", &mut server.out);
    assert_eq!(ping, Err(PingError::Closed(Closed)));
    pair.run_for(SETTLING_TIME);
    assert_eq!(pair.server.texts, ["one"]);
    assert_eq!(pair.server.end().traffic.received_messages, 1);
    assert_eq!(pair.client.end().traffic.sent_messages, 2);
}

#[test]
fn a_close_within_a_received_message_completes() {
    let mut endpoint = Endpoint::with_seed(server(), 1).unwrap();
    let now = Time::from_millis(0);
    let mut connection = Connection::new(now, 0);
    let mut out = Vec::new();
    let bytes = [
        common::masked(0x01, b"begun"),
        common::masked(0x80, b"done"),
        common::masked(0x88, b"\x03\xe8"),
    ];
    let bytes = bytes.concat();
    for split in 0..11 {
        let mut connection_of_split = std::mem::replace(&mut connection, Connection::new(now, 0));
        let (head, tail) = bytes.split_at(split);
        for (piece, close_after) in [(head, true), (tail, false)] {
            let mut buffer = piece.to_vec();
            let mut input = connection_of_split.receive(&mut buffer, now);
            assert!(
                connection_of_split
                    .poll_event(&mut endpoint, &mut input, &mut out)
                    .is_none()
            );
            if close_after {
                let code = CloseCode::NORMAL_CLOSURE;
                connection_of_split
                    .start_closing_handshake(
                        &mut endpoint,
                        code,
                        "",
                        Cause::LocalClose,
                        &mut out,
                        now,
                    )
                    .unwrap();
            }
        }
        assert_eq!(
            connection_of_split.poll_disconnect().unwrap().cause,
            Cause::LocalClose,
            "split at {split}"
        );
    }
}

#[test]
fn a_second_close_changes_nothing() {
    let mut pair = Pair::with_server_pings();
    let start = pair.now;
    pair.server
        .close(CloseCode::NORMAL_CLOSURE, Cause::LocalClose, start);
    let out = pair.server.out.clone();
    let later = start + Duration::from_secs(5);
    pair.server
        .close(CloseCode::GOING_AWAY, Cause::Shutdown, later);
    assert_eq!(pair.server.out, out);
    let deadline = pair
        .server
        .connection
        .poll_timeout(pair.server.endpoint.config());
    assert_eq!(
        deadline,
        Some(start + Duration::from_millis(CLOSE_TIMEOUT_MS)),
        "the deadline is absolute"
    );
}

#[test]
fn a_failure_is_reported_and_sends_fin_at_once() {
    let mut pair = Pair::with_server_pings();
    let now = pair.now;
    pair.server
        .fail(CloseCode::POLICY_VIOLATION, Cause::SlowConsumer, now);
    pair.turn();
    assert_eq!(pair.server.finished, Some(now));
    assert_eq!(pair.server.end().cause, Cause::SlowConsumer);
    pair.run_for(SETTLING_TIME);
    assert_eq!(
        pair.server.ended.unwrap().1,
        Transmit::Release,
        "the client answered and ended"
    );
    assert_eq!(
        &*pair.client.end().received.as_ref().unwrap().reason,
        "slow consumer"
    );
}

#[test]
fn a_failure_while_closing_sends_no_second_close() {
    let mut pair = Pair::with_server_pings();
    let now = pair.now;
    pair.server
        .close(CloseCode::NORMAL_CLOSURE, Cause::LocalClose, now);
    let server = &mut pair.server;
    let close_size = server.out.len();
    server.fail(CloseCode::POLICY_VIOLATION, Cause::SlowConsumer, now);
    assert_eq!(server.out.len(), close_size);
    assert_eq!(server.connection.poll_transmit(), Transmit::Finish);
    let disconnect = server.connection.poll_disconnect().unwrap();
    assert_eq!(disconnect.cause, Cause::SlowConsumer);
    assert_eq!(disconnect.sent.unwrap().code, CloseCode::NORMAL_CLOSURE);
}

#[test]
fn a_ping_above_125_bytes_is_an_error() {
    let mut endpoint = Endpoint::with_seed(server(), 1).unwrap();
    let mut connection = Connection::new(Time::from_millis(0), 0);
    let mut out = Vec::new();
    connection.ping(&mut endpoint, &[0; 125], &mut out).unwrap();
    let error = connection
        .ping(&mut endpoint, &[0; 126], &mut out)
        .unwrap_err();
    assert_eq!(error.to_string(), "ping payload is 126 bytes; limit is 125");
}

#[test]
fn an_invalid_close_is_an_error() {
    let mut pair = Pair::with_server_pings();
    let now = pair.now;
    let Side {
        connection,
        endpoint,
        out,
        ..
    } = &mut pair.server;
    for code in [
        CloseCode::NO_STATUS_RECEIVED,
        CloseCode::ABNORMAL_CLOSURE,
        CloseCode::TLS_HANDSHAKE,
        CloseCode(999),
    ] {
        connection
            .start_closing_handshake(endpoint, code, "", Cause::LocalClose, out, now)
            .unwrap_err();
    }
    let reason = "x".repeat(124);
    let code = CloseCode::NORMAL_CLOSURE;
    connection
        .start_closing_handshake(endpoint, code, &reason, Cause::LocalClose, out, now)
        .unwrap_err();
    assert!(connection.is_open() && out.is_empty());
    connection
        .start_closing_handshake(endpoint, code, &reason[1..], Cause::LocalClose, out, now)
        .unwrap();
}
