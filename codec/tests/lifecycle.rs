//! Life and death of a connection, in virtual time.

mod common;
mod pair;

use std::time::Duration;

use common::{client, server};
use pair::{Pair, Side};
use tidewheel_codec::{
    Cause, CloseCode, Closed, Config, Connection, Disconnect, Endpoint, Initiator, PingError,
    Taken, Time, Transmit,
};

const C: u64 = 10_000;
/// A round trip of the pair's link, and a little.
const SOON: Duration = Duration::from_millis(50);

/// A client that leaves keepalive to the server.
fn quiet_client() -> Config {
    let mut config = client();
    config.ping_interval = None;
    config
}

fn pair() -> Pair {
    Pair::new(quiet_client(), server())
}

fn close(side: &mut Side, code: CloseCode, cause: Cause, now: Time) {
    side.connection
        .start_closing_handshake(&mut side.endpoint, code, "bye", cause, &mut side.out, now)
        .unwrap();
}

fn end(side: &Side) -> &Disconnect {
    &side.disconnect.as_ref().expect("the connection ended").1
}

fn codes(disconnect: &Disconnect) -> (Option<CloseCode>, Option<CloseCode>) {
    let code = |frame: &Option<tidewheel_codec::CloseFrame>| frame.as_ref().map(|close| close.code);
    (code(&disconnect.received), code(&disconnect.sent))
}

#[test]
fn the_client_closes_and_the_server_sends_the_first_fin_in_the_same_turn() {
    let mut pair = pair();
    let start = pair.now;
    close(
        &mut pair.client,
        CloseCode::NORMAL_CLOSURE,
        Cause::LocalClose,
        start,
    );
    pair.run_for(SOON);
    let normal = Some(CloseCode::NORMAL_CLOSURE);
    assert_eq!(pair.server.finished, Some(start + pair.latency));
    assert_eq!(
        pair.client.finished, None,
        "the client waits for the server's FIN"
    );
    assert_eq!(pair.server.gone.unwrap().1, Transmit::Release);
    assert_eq!(pair.client.gone.unwrap().1, Transmit::Release);
    let server = end(&pair.server);
    assert_eq!(
        (server.initiator, server.cause),
        (Initiator::Peer, Cause::PeerClose)
    );
    assert_eq!(codes(server), (normal, normal));
    let client = end(&pair.client);
    assert_eq!(
        (client.initiator, client.cause),
        (Initiator::Local, Cause::LocalClose)
    );
    assert_eq!(codes(client), (normal, normal));
}

#[test]
fn the_server_closes_and_waits_for_the_answer_before_its_fin() {
    let mut pair = pair();
    let start = pair.now;
    close(
        &mut pair.server,
        CloseCode::GOING_AWAY,
        Cause::Shutdown,
        start,
    );
    pair.run_for(SOON);
    assert_eq!(pair.server.finished, Some(start + 2 * pair.latency));
    assert_eq!(end(&pair.server).cause, Cause::Shutdown);
    assert_eq!(
        codes(end(&pair.server)),
        (Some(CloseCode::GOING_AWAY), Some(CloseCode::GOING_AWAY))
    );
    assert_eq!(end(&pair.client).cause, Cause::PeerClose);
    assert_eq!(&*end(&pair.client).received.as_ref().unwrap().reason, "bye");
}

#[test]
fn both_close_at_once() {
    let mut pair = pair();
    let start = pair.now;
    close(
        &mut pair.server,
        CloseCode::GOING_AWAY,
        Cause::LocalClose,
        start,
    );
    close(
        &mut pair.client,
        CloseCode::NORMAL_CLOSURE,
        Cause::LocalClose,
        start,
    );
    pair.run_for(SOON);
    let (away, normal) = (Some(CloseCode::GOING_AWAY), Some(CloseCode::NORMAL_CLOSURE));
    assert_eq!(codes(end(&pair.server)), (normal, away));
    assert_eq!(codes(end(&pair.client)), (away, normal));
    assert!(pair.server.gone.is_some() && pair.client.gone.is_some());
}

#[test]
fn a_close_that_is_cut_off_is_reset_at_the_close_timeout() {
    for (cause, reported) in [
        (Cause::LocalClose, Cause::CloseTimeout),
        (Cause::Shutdown, Cause::Shutdown),
    ] {
        let mut pair = pair();
        pair.cut = true;
        let start = pair.now;
        close(&mut pair.server, CloseCode::GOING_AWAY, cause, start);
        pair.run_for(Duration::from_millis(C));
        let (gone, how) = pair.server.gone.unwrap();
        assert_eq!((Pair::millis_since(start, gone), how), (C, Transmit::Reset));
        let disconnect = end(&pair.server);
        assert_eq!(
            (disconnect.initiator, disconnect.cause),
            (Initiator::Local, reported)
        );
        assert_eq!(codes(disconnect), (None, Some(CloseCode::GOING_AWAY)));
    }
}

#[test]
fn a_peer_that_never_sends_fin_is_reset_at_the_close_timeout() {
    let mut pair = pair();
    let start = pair.now;
    close(
        &mut pair.client,
        CloseCode::NORMAL_CLOSURE,
        Cause::LocalClose,
        start,
    );
    pair.turn();
    pair.client.mute = true;
    pair.run_for(Duration::from_secs(60));
    let closed_at = pair.server.finished.unwrap();
    assert_eq!(closed_at, start + pair.latency);
    let (gone, how) = pair.server.gone.unwrap();
    assert_eq!(
        (Pair::millis_since(closed_at, gone), how),
        (C, Transmit::Reset)
    );
    assert_eq!(
        end(&pair.server).cause,
        Cause::PeerClose,
        "the end was known before"
    );
}

#[test]
fn a_client_whose_server_never_sends_fin_resets_at_the_close_timeout() {
    let mut endpoint = Endpoint::with_seed(quiet_client(), 1).unwrap();
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
    assert_eq!(deadline.as_millis(), C);
    connection.handle_timeout(&mut endpoint, &mut out, deadline);
    assert_eq!(connection.poll_transmit(), Transmit::Reset);
}

#[test]
fn eof_and_reset_are_told_apart() {
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
fn an_end_of_the_transport_after_our_close_keeps_the_cause() {
    let mut pair = pair();
    let now = pair.now;
    close(
        &mut pair.server,
        CloseCode::NORMAL_CLOSURE,
        Cause::LocalClose,
        now,
    );
    pair.server.connection.receive_eof(now);
    pair.turn();
    assert_eq!(end(&pair.server).cause, Cause::LocalClose);
    assert_eq!(
        codes(end(&pair.server)),
        (None, Some(CloseCode::NORMAL_CLOSURE))
    );
}

#[test]
fn no_message_is_delivered_or_sent_after_our_close() {
    let mut pair = pair();
    let now = pair.now;
    let client = &mut pair.client;
    client
        .connection
        .send_text(&mut client.endpoint, "one", &mut client.out)
        .unwrap();
    pair.run_for(SOON);
    let now = now + SOON;
    let client = &mut pair.client;
    client
        .connection
        .send_text(&mut client.endpoint, "two", &mut client.out)
        .unwrap();
    let server = &mut pair.server;
    close(server, CloseCode::NORMAL_CLOSURE, Cause::LocalClose, now);
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
    pair.run_for(SOON);
    assert_eq!(pair.server.texts, ["one"]);
    assert_eq!(end(&pair.server).traffic.received_messages, 1);
    assert_eq!(end(&pair.client).traffic.sent_messages, 2);
}

#[test]
fn a_close_in_the_middle_of_a_received_message_still_completes() {
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
fn closing_again_changes_nothing() {
    let mut pair = pair();
    let start = pair.now;
    close(
        &mut pair.server,
        CloseCode::NORMAL_CLOSURE,
        Cause::LocalClose,
        start,
    );
    let out = pair.server.out.clone();
    let later = start + Duration::from_secs(5);
    close(
        &mut pair.server,
        CloseCode::GOING_AWAY,
        Cause::Shutdown,
        later,
    );
    assert_eq!(pair.server.out, out);
    let deadline = pair
        .server
        .connection
        .poll_timeout(pair.server.endpoint.config());
    assert_eq!(
        deadline,
        Some(start + Duration::from_millis(C)),
        "the deadline is absolute"
    );
}

#[test]
fn a_failure_reports_and_finishes_at_once() {
    let mut pair = pair();
    let now = pair.now;
    let Side {
        connection,
        endpoint,
        out,
        ..
    } = &mut pair.server;
    connection.fail(
        endpoint,
        CloseCode::POLICY_VIOLATION,
        Cause::SlowConsumer,
        out,
        now,
    );
    pair.turn();
    assert_eq!(pair.server.finished, Some(now));
    assert_eq!(end(&pair.server).cause, Cause::SlowConsumer);
    pair.run_for(SOON);
    assert_eq!(
        pair.server.gone.unwrap().1,
        Transmit::Release,
        "the client answered and ended"
    );
    assert_eq!(
        &*end(&pair.client).received.as_ref().unwrap().reason,
        "slow consumer"
    );
}

#[test]
fn a_failure_while_closing_sends_no_second_close() {
    let mut pair = pair();
    let now = pair.now;
    close(
        &mut pair.server,
        CloseCode::NORMAL_CLOSURE,
        Cause::LocalClose,
        now,
    );
    let Side {
        connection,
        endpoint,
        out,
        ..
    } = &mut pair.server;
    let close_size = out.len();
    connection.fail(
        endpoint,
        CloseCode::POLICY_VIOLATION,
        Cause::SlowConsumer,
        out,
        now,
    );
    assert_eq!(out.len(), close_size);
    assert_eq!(connection.poll_transmit(), Transmit::Finish);
    let disconnect = connection.poll_disconnect().unwrap();
    assert_eq!(disconnect.cause, Cause::SlowConsumer);
    assert_eq!(disconnect.sent.unwrap().code, CloseCode::NORMAL_CLOSURE);
}

#[test]
fn a_ping_of_the_application_has_a_limit() {
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
fn a_close_that_must_not_be_sent_is_refused() {
    let mut pair = pair();
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

/// Bytes that the peer takes while the connection is closing move the deadline: milliseconds after the Close, whether
/// there is more to take, and the deadline.
const TAKEN: [(u64, bool, u64); 7] = [
    (0, true, C),
    // The Close alone, perhaps.
    (5, false, C),
    (100, false, C),
    (101, false, C + 101),
    (5, true, C + 5),
    (9_999, true, C + 9_999),
    (9_999, false, C + 9_999),
];

/// A server whose connection is closing, as the peer wished or as its application did; and the time of its
/// Close.
fn closing(peer_closes: bool) -> (Side, Time) {
    let mut pair = pair();
    let begin = pair.now;
    let server = &mut pair.server;
    if peer_closes {
        let mut bytes = [0x88, 0x80, 0, 0, 0, 0];
        let mut input = server.connection.receive(&mut bytes, begin);
        let (endpoint, out) = (&mut server.endpoint, &mut server.out);
        let event = server.connection.poll_event(endpoint, &mut input, out);
        assert!(event.is_none());
    } else {
        close(server, CloseCode::NORMAL_CLOSURE, Cause::LocalClose, begin);
    }
    (pair.server, begin)
}

/// Notes that the peer took bytes at `last`, `total` in all; gives the deadline.
fn take(server: &mut Side, last: Time, total: u64, has_more: bool) -> Option<Time> {
    let taken = Taken {
        last,
        total,
        has_more,
    };
    let config = server.endpoint.config();
    server
        .connection
        .note_taken(taken, last + config.close_timeout);
    server.connection.poll_timeout(config)
}

#[test]
fn a_closing_connection_is_waited_for_while_its_peer_takes_what_was_sent() {
    for (after, has_more, expected) in TAKEN {
        for peer_closes in [false, true] {
            let (mut server, begin) = closing(peer_closes);
            let last = begin + Duration::from_millis(after);
            let deadline = begin + Duration::from_millis(expected);
            assert_eq!(
                take(&mut server, last, 10, has_more),
                Some(deadline),
                "{after}"
            );
            // Bytes that it took before count for nothing.
            assert_eq!(
                take(&mut server, begin, 20, true),
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
fn acknowledgements_that_are_repeated_hold_a_closing_connection_no_longer() {
    let second = Duration::from_secs(1);
    for peer_closes in [false, true] {
        let (mut server, begin) = closing(peer_closes);
        let close_timeout = server.endpoint.config().close_timeout;
        let first = Some(begin + second + close_timeout);
        assert_eq!(take(&mut server, begin + second, 10, true), first);
        assert_eq!(take(&mut server, begin + 2 * second, 10, true), first);
        let more = Some(begin + 3 * second + close_timeout);
        assert_eq!(take(&mut server, begin + 3 * second, 11, true), more);
    }
}
