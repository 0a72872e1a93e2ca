//! Pings, timeouts and other deadlines of an open connection, in virtual time.

mod common;
mod pair;

use std::time::Duration;

use common::{client, server};
use pair::{Pair, Side};
use tidewheel_codec::{
    Cause, CloseCode, Config, Connection, Disconnect, Endpoint, Initiator, Taken, Time, Transmit,
};

const P: u64 = 20_000;
const T: u64 = 20_000;
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

fn end(side: &Side) -> &Disconnect {
    &side.disconnect.as_ref().expect("the connection ended").1
}

fn codes(disconnect: &Disconnect) -> (Option<CloseCode>, Option<CloseCode>) {
    let code = |frame: &Option<tidewheel_codec::CloseFrame>| frame.as_ref().map(|close| close.code);
    (code(&disconnect.received), code(&disconnect.sent))
}

#[test]
fn an_idle_connection_is_pinged_and_stays() {
    let mut pair = pair();
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
fn after_a_cut_the_connection_fails_with_1011_and_is_reset() {
    let mut pair = pair();
    pair.cut = true;
    let start = pair.now;
    pair.run_for(Duration::from_millis(P + T + C));
    let (at, disconnect) = pair.server.disconnect.as_ref().unwrap();
    assert_eq!(Pair::millis_since(start, *at), P + T);
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
    assert_eq!(disconnect.lived, Duration::from_millis(P + T));
    assert_eq!(
        pair.server.finished,
        Some(start + Duration::from_millis(P + T))
    );
    let (gone, how) = pair.server.gone.unwrap();
    assert_eq!(
        (Pair::millis_since(start, gone), how),
        (P + T + C, Transmit::Reset)
    );
}

#[test]
fn idle_timeout_and_lifetime_close_with_1001() {
    let mut idle = server();
    idle.idle_timeout = Some(Duration::from_secs(60));
    let mut short_lived = server();
    short_lived.max_lifetime = Some(Duration::from_secs(60));
    for (config, cause) in [(idle, Cause::IdleTimeout), (short_lived, Cause::Lifetime)] {
        let mut pair = Pair::new(quiet_client(), config);
        pair.run_for(Duration::from_secs(60) - Duration::from_millis(1));
        assert!(pair.server.connection.is_open());
        pair.run_for(SOON);
        let disconnect = end(&pair.server);
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
fn a_message_puts_the_idle_timeout_off_and_a_pong_does_not() {
    let mut idle = server();
    idle.idle_timeout = Some(Duration::from_secs(60));
    let mut pair = Pair::new(quiet_client(), idle);
    pair.run_for(Duration::from_secs(50));
    let client = &mut pair.client;
    client
        .connection
        .send_text(&mut client.endpoint, "here", &mut client.out)
        .unwrap();
    pair.run_for(Duration::from_secs(59));
    assert!(pair.server.connection.is_open());
    pair.run_for(Duration::from_secs(2));
    assert_eq!(end(&pair.server).cause, Cause::IdleTimeout);
}

#[test]
fn any_byte_puts_the_ping_timeout_off() {
    let mut endpoint = Endpoint::with_seed(server(), 1).unwrap();
    let mut connection = Connection::new(Time::from_millis(0), 0);
    let mut out = Vec::new();
    connection.handle_timeout(&mut endpoint, &mut out, Time::from_millis(P));
    assert_eq!(out[..2], *b"\x89\x04");
    assert_eq!(
        connection.poll_timeout(endpoint.config()),
        Some(Time::from_millis(P + T))
    );
    // One byte of a frame that never ends, as late as can be.
    let now = Time::from_millis(P + T - 1);
    let mut byte = *b"\x81";
    let mut input = connection.receive(&mut byte, now);
    assert!(
        connection
            .poll_event(&mut endpoint, &mut input, &mut out)
            .is_none()
    );
    assert_eq!(
        connection.poll_timeout(endpoint.config()),
        Some(in_step(now + Duration::from_millis(P)))
    );
}

/// Pings fall together, at the times that are so many milliseconds apart.
fn in_step(time: Time) -> Time {
    const STEP: u64 = 64;
    Time::from_millis(time.as_millis() / STEP * STEP)
}

#[test]
fn the_phase_makes_a_ping_early_and_the_deadline_no_earlier() {
    for (phase, ping_due) in [
        (0, P),
        (u16::MAX / 2, P - P / 16 + 1),
        (u16::MAX, P - P / 8 + 1),
    ] {
        let mut endpoint = Endpoint::with_seed(server(), 1).unwrap();
        let mut connection = Connection::new(Time::from_millis(0), phase);
        let mut out = Vec::new();
        let due = connection.poll_timeout(endpoint.config()).unwrap();
        assert_eq!(due, in_step(Time::from_millis(ping_due)), "phase {phase}");
        let early = Time::from_millis(due.as_millis() - 1);
        connection.handle_timeout(&mut endpoint, &mut out, early);
        assert!(out.is_empty(), "nothing is due");
        connection.handle_timeout(&mut endpoint, &mut out, due);
        assert_eq!(out.len(), 6);
        assert_eq!(
            connection.poll_timeout(endpoint.config()),
            Some(Time::from_millis(P + T))
        );
    }
}

#[test]
fn a_ping_that_went_out_late_has_the_whole_timeout() {
    let mut endpoint = Endpoint::with_seed(server(), 1).unwrap();
    let mut connection = Connection::new(Time::from_millis(0), 0);
    let mut out = Vec::new();
    connection.handle_timeout(&mut endpoint, &mut out, Time::from_millis(P + 500));
    assert_eq!(
        connection.poll_timeout(endpoint.config()),
        Some(Time::from_millis(P + 500 + T))
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
        assert_eq!(due, in_step(last + Duration::from_millis(P)));
        last = due;
        connection.handle_timeout(&mut endpoint, &mut out, due);
    }
    assert_eq!(out.len(), 60);
    assert!(connection.is_open());
}

#[test]
fn no_timer_closes_with_1000() {
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
        let mut pair = Pair::new(quiet_client(), config);
        pair.cut = true;
        pair.run_for(Duration::from_millis(P + T + C));
        let sent = end(&pair.server).sent.as_ref().unwrap().code;
        assert_ne!(sent, CloseCode::NORMAL_CLOSURE);
        assert!(pair.server.gone.is_some());
    }
}

#[test]
fn with_all_timers_off_there_is_no_deadline() {
    let mut config = server();
    config.ping_interval = None;
    let connection = Connection::new(Time::from_millis(0), 7);
    assert_eq!(connection.poll_timeout(&config), None);
}

fn taken_at(last: Time, has_more: bool) -> Taken {
    Taken {
        last,
        total: 5,
        has_more,
    }
}

/// A server whose peer has said nothing, and the time of the ping that it was sent.
fn pinged() -> (Endpoint, Connection, Time) {
    let mut endpoint = Endpoint::new(server()).expect("a configuration");
    let mut connection = Connection::new(Time::from_millis(0), 0);
    let due = connection.poll_timeout(endpoint.config());
    let ping = due.expect("a ping is due");
    let mut out = Vec::new();
    connection.handle_timeout(&mut endpoint, &mut out, ping);
    assert_eq!(out[0], 0x89, "a Ping");
    (endpoint, connection, ping)
}

#[test]
fn a_peer_that_takes_bytes_long_after_a_ping_is_alive() {
    let (mut endpoint, mut connection, ping) = pinged();
    let deadline = connection.poll_timeout(endpoint.config());
    let deadline = deadline.expect("the ping's answer is due");
    let taken = ping + Duration::from_millis(101);
    connection.note_taken(taken_at(taken, false), taken);
    assert!(!connection.is_overdue(endpoint.config(), deadline));
    // It is pinged again, and cut if neither comes.
    let again = connection.poll_timeout(endpoint.config());
    let again = again.expect("a ping is due");
    assert!(again <= taken + Duration::from_millis(P), "{again:?}");
    let mut out = Vec::new();
    connection.handle_timeout(&mut endpoint, &mut out, again);
    let end = taken + Duration::from_millis(P + T);
    assert_eq!(connection.poll_timeout(endpoint.config()), Some(end));
    connection.handle_timeout(&mut endpoint, &mut out, end);
    let end = connection.poll_disconnect();
    assert_eq!(end.expect("it is cut").cause, Cause::PingTimeout);
}

#[test]
fn a_peer_whose_kernel_took_no_more_than_the_ping_is_cut() {
    let (mut endpoint, mut connection, ping) = pinged();
    let deadline = connection.poll_timeout(endpoint.config());
    let deadline = deadline.expect("the ping's answer is due");
    let last = ping + Duration::from_millis(100);
    connection.note_taken(taken_at(last, false), last);
    assert_eq!(connection.poll_timeout(endpoint.config()), Some(deadline));
    connection.handle_timeout(&mut endpoint, &mut Vec::new(), deadline);
    let end = connection.poll_disconnect();
    assert_eq!(end.expect("it is cut").cause, Cause::PingTimeout);
}

#[test]
fn a_peer_that_has_more_to_take_was_alive_when_it_took_something() {
    // Before the ping, at the time of the ping, and after it: whatever it took was not the ping.
    for after in [P - 10_000, P, P + 50, P + 10_000] {
        let (mut endpoint, mut connection, _) = pinged();
        let taken = Time::from_millis(after);
        connection.note_taken(taken_at(taken, true), taken);
        let mut out = Vec::new();
        while let Some(due) = connection.poll_timeout(endpoint.config()) {
            connection.handle_timeout(&mut endpoint, &mut out, due);
            if let Some(end) = connection.poll_disconnect() {
                assert_eq!(end.cause, Cause::PingTimeout);
                assert_eq!(due, taken + Duration::from_millis(P + T), "{after}");
                break;
            }
        }
    }
}

#[test]
fn a_silent_peer_that_takes_bytes_after_its_cut_is_waited_for_no_longer() {
    let (mut endpoint, mut connection, _) = pinged();
    let cut = connection.poll_timeout(endpoint.config());
    let cut = cut.expect("the ping's answer is due");
    connection.handle_timeout(&mut endpoint, &mut Vec::new(), cut);
    let deadline = cut + endpoint.config().close_timeout;
    assert_eq!(connection.poll_timeout(endpoint.config()), Some(deadline));
    assert!(!connection.is_overdue(endpoint.config(), deadline));
    let close_by = deadline + Duration::from_secs(1);
    connection.note_taken(taken_at(cut + Duration::from_secs(1), true), close_by);
    assert_eq!(connection.poll_timeout(endpoint.config()), Some(deadline));
}
