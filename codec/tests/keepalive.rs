//! Keepalive pings and the other deadlines of an open connection, in virtual time.

mod common;
mod pair;

use std::time::Duration;

use common::{client, server};
use pair::{
    CLOSE_TIMEOUT_MS, PING_INTERVAL_MS, PING_TIMEOUT_MS, Pair, SETTLING_TIME, client_without_pings,
    codes,
};
use tidewheel_codec::{Cause, CloseCode, Connection, Endpoint, Initiator, Time, Transmit};

#[test]
fn an_idle_connection_stays_open_with_pings() {
    let mut pair = Pair::with_server_pings();
    pair.run_for(Duration::from_secs(3600));
    assert!(pair.server.connection.is_open() && pair.client.connection.is_open());
}

#[test]
fn both_sides_may_ping() {
    let mut pair = Pair::new(client(), server());
    pair.run_for(Duration::from_secs(3600));
    assert!(pair.server.connection.is_open() && pair.client.connection.is_open());
}

#[test]
fn a_ping_without_an_answer_fails_the_connection_with_1011_and_resets_it() {
    let mut pair = Pair::with_server_pings();
    pair.is_cut = true;
    let start = pair.now;
    pair.run_for(Duration::from_millis(
        PING_INTERVAL_MS + PING_TIMEOUT_MS + CLOSE_TIMEOUT_MS,
    ));
    let (at, disconnect) = pair.server.disconnect.as_ref().unwrap();
    assert_eq!(
        Pair::millis_since(start, *at),
        PING_INTERVAL_MS + PING_TIMEOUT_MS
    );
    assert_eq!(
        (disconnect.initiator, disconnect.cause),
        (Initiator::Local, Cause::PingTimeout)
    );
    assert_eq!(codes(disconnect), (None, Some(CloseCode::INTERNAL_ERROR)));
    assert_eq!(
        &*disconnect.sent.as_ref().unwrap().reason,
        "keepalive ping timeout"
    );
    assert_eq!(disconnect.code(), CloseCode::ABNORMAL_CLOSURE);
    assert_eq!(
        disconnect.lived,
        Duration::from_millis(PING_INTERVAL_MS + PING_TIMEOUT_MS)
    );
    assert_eq!(
        pair.server.finished,
        Some(start + Duration::from_millis(PING_INTERVAL_MS + PING_TIMEOUT_MS))
    );
    let (ended, how) = pair.server.ended.unwrap();
    assert_eq!(
        (Pair::millis_since(start, ended), how),
        (
            PING_INTERVAL_MS + PING_TIMEOUT_MS + CLOSE_TIMEOUT_MS,
            Transmit::Reset
        )
    );
}

#[test]
fn idle_timeout_and_lifetime_close_with_1001() {
    let mut idle = server();
    idle.idle_timeout = Some(Duration::from_secs(60));
    let mut short_lived = server();
    short_lived.max_lifetime = Some(Duration::from_secs(60));
    for (config, cause) in [(idle, Cause::IdleTimeout), (short_lived, Cause::Lifetime)] {
        let mut pair = Pair::new(client_without_pings(), config);
        pair.run_for(Duration::from_secs(60) - Duration::from_millis(1));
        assert!(pair.server.connection.is_open());
        pair.run_for(SETTLING_TIME);
        let disconnect = pair.server.end();
        assert_eq!(
            (disconnect.initiator, disconnect.cause),
            (Initiator::Local, cause)
        );
        assert_eq!(
            codes(disconnect),
            (Some(CloseCode::GOING_AWAY), Some(CloseCode::GOING_AWAY))
        );
        assert!(!disconnect.sent.as_ref().unwrap().reason.is_empty());
    }
}

#[test]
fn a_message_restarts_the_idle_timeout_and_a_pong_does_not() {
    let mut idle = server();
    idle.idle_timeout = Some(Duration::from_secs(60));
    let mut pair = Pair::new(client_without_pings(), idle);
    pair.run_for(Duration::from_secs(50));
    let client = &mut pair.client;
    client
        .connection
        .send_text(&mut client.endpoint, "here", &mut client.out)
        .unwrap();
    pair.run_for(Duration::from_secs(59));
    assert!(pair.server.connection.is_open());
    pair.run_for(Duration::from_secs(2));
    assert_eq!(pair.server.end().cause, Cause::IdleTimeout);
}

#[test]
fn any_byte_restarts_the_ping_interval() {
    let mut endpoint = Endpoint::with_seed(server(), 1).unwrap();
    let mut connection = Connection::new(Time::from_millis(0), 0);
    let mut out = Vec::new();
    connection.handle_timeout(&mut endpoint, &mut out, Time::from_millis(PING_INTERVAL_MS));
    assert_eq!(out[..2], *b"\x89\x04");
    assert_eq!(
        connection.poll_timeout(endpoint.config()),
        Some(Time::from_millis(PING_INTERVAL_MS + PING_TIMEOUT_MS))
    );
    // The first byte of a frame, one millisecond before the timeout.
    let now = Time::from_millis(PING_INTERVAL_MS + PING_TIMEOUT_MS - 1);
    let mut byte = *b"\x81";
    let mut input = connection.receive(&mut byte, now);
    assert!(
        connection
            .poll_event(&mut endpoint, &mut input, &mut out)
            .is_none()
    );
    assert_eq!(
        connection.poll_timeout(endpoint.config()),
        Some(align(now + Duration::from_millis(PING_INTERVAL_MS)))
    );
}

/// Rounds the time of a ping down, as the codec does for an interval of 20 s.
fn align(time: Time) -> Time {
    const STEP_MS: u64 = 64;
    Time::from_millis(time.as_millis() / STEP_MS * STEP_MS)
}

#[test]
fn the_phase_makes_a_ping_early_but_not_the_ping_timeout() {
    for (phase, ping_due) in [
        (0, PING_INTERVAL_MS),
        (u16::MAX / 2, PING_INTERVAL_MS - PING_INTERVAL_MS / 16 + 1),
        (u16::MAX, PING_INTERVAL_MS - PING_INTERVAL_MS / 8 + 1),
    ] {
        let mut endpoint = Endpoint::with_seed(server(), 1).unwrap();
        let mut connection = Connection::new(Time::from_millis(0), phase);
        let mut out = Vec::new();
        let due = connection.poll_timeout(endpoint.config()).unwrap();
        assert_eq!(due, align(Time::from_millis(ping_due)), "phase {phase}");
        let early = Time::from_millis(due.as_millis() - 1);
        connection.handle_timeout(&mut endpoint, &mut out, early);
        assert!(out.is_empty(), "nothing is due");
        connection.handle_timeout(&mut endpoint, &mut out, due);
        assert_eq!(out.len(), 6);
        assert_eq!(
            connection.poll_timeout(endpoint.config()),
            Some(Time::from_millis(PING_INTERVAL_MS + PING_TIMEOUT_MS))
        );
    }
}

#[test]
fn a_late_ping_has_the_whole_ping_timeout() {
    let mut endpoint = Endpoint::with_seed(server(), 1).unwrap();
    let mut connection = Connection::new(Time::from_millis(0), 0);
    let mut out = Vec::new();
    connection.handle_timeout(
        &mut endpoint,
        &mut out,
        Time::from_millis(PING_INTERVAL_MS + 500),
    );
    assert_eq!(
        connection.poll_timeout(endpoint.config()),
        Some(Time::from_millis(PING_INTERVAL_MS + 500 + PING_TIMEOUT_MS))
    );
}

#[test]
fn without_a_ping_timeout_pings_repeat() {
    let mut config = server();
    config.ping_timeout = None;
    let mut endpoint = Endpoint::with_seed(config, 1).unwrap();
    let mut connection = Connection::new(Time::from_millis(0), 0);
    let mut out = Vec::new();
    let mut last = Time::from_millis(0);
    for _ in 0..10 {
        let due = connection.poll_timeout(endpoint.config()).unwrap();
        assert_eq!(due, align(last + Duration::from_millis(PING_INTERVAL_MS)));
        last = due;
        connection.handle_timeout(&mut endpoint, &mut out, due);
    }
    assert_eq!(out.len(), 60);
    assert!(connection.is_open());
}

#[test]
fn no_deadline_closes_with_1000() {
    let mut config = server();
    config.idle_timeout = Some(Duration::from_secs(3));
    config.max_lifetime = Some(Duration::from_secs(5));
    for (idle, lifetime, ping) in [
        (true, false, false),
        (false, true, false),
        (false, false, true),
    ] {
        let mut config = config.clone();
        if !idle {
            config.idle_timeout = None;
        }
        if !lifetime {
            config.max_lifetime = None;
        }
        if !ping {
            config.ping_interval = None;
        }
        let mut pair = Pair::new(client_without_pings(), config);
        pair.is_cut = true;
        pair.run_for(Duration::from_millis(
            PING_INTERVAL_MS + PING_TIMEOUT_MS + CLOSE_TIMEOUT_MS,
        ));
        let sent = pair.server.end().sent.as_ref().unwrap().code;
        assert_ne!(sent, CloseCode::NORMAL_CLOSURE);
        assert!(pair.server.ended.is_some());
    }
}

#[test]
fn without_timeouts_a_connection_has_no_deadline() {
    let mut config = server();
    config.ping_interval = None;
    let connection = Connection::new(Time::from_millis(0), 7);
    assert_eq!(connection.poll_timeout(&config), None);
}
