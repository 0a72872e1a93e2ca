//! Deadlines in virtual time: none expires early, and none more than a tick late.
//!
//! The tests over real sockets hold the same deadlines to bounds that leave room for scheduling.

use std::{ops::Range, time::Duration};

use tidewheel::{
    Cause, Config,
    ring::sim::{Faults, Simulation, What},
    shard::TICK_MS,
};

use super::bench::{Bench, SECOND, config};

/// Milliseconds that a segment to the server and one back take together.
const TRAVEL_MS: u64 = 2;

const SECOND_MS: u64 = 1000;

/// A network without delays and an open client, which connects `moment_ms` after a tick, more or less.
fn open(config: &Config, moment_ms: u64) -> (Bench, usize) {
    let mut bench = quiet(config, moment_ms);
    let client = bench.connect();
    bench.run_for(SECOND / 50);
    assert!(bench.is_open(client));
    (bench, client)
}

/// The same without a client.
fn quiet(config: &Config, moment_ms: u64) -> Bench {
    let simulation = Simulation {
        latency_ms_max: 0,
        faults: Faults::NONE,
        ..Simulation::default()
    };
    let mut bench = Bench::new(simulation, config);
    bench.run_for(SECOND / 10 + Duration::from_millis(moment_ms));
    bench
}

/// When `count` bytes first reached a client after `begin_ms`.
fn bytes_came_at(bench: &Bench, count: usize, begin_ms: u64) -> u64 {
    came_at(bench, "bytes", count, begin_ms)
}

/// When the server's RST reached a client.
fn reset_came_at(bench: &Bench) -> u64 {
    came_at(bench, "reset", 0, 0)
}

fn came_at(bench: &Bench, kind: &str, count: usize, begin_ms: u64) -> u64 {
    let trace = bench.network.trace();
    let came = trace.iter().find(|event| match event.what {
        What::Arrived { what, bytes, .. } => {
            (what, bytes) == (kind, count) && event.at_ms > begin_ms
        }
        _ => false,
    });
    came.unwrap_or_else(|| panic!("{kind} of {count} bytes"))
        .at_ms
}

/// Asserts that `what` came `deadline_ms` after `begin_ms`, and at most a tick later.
#[track_caller]
fn assert_due(what: &str, came_ms: u64, begin_ms: u64, deadline_ms: u64) {
    let took_ms = came_ms - begin_ms;
    let window = deadline_ms..=deadline_ms + TICK_MS + TRAVEL_MS;
    assert!(window.contains(&took_ms), "{what} after {took_ms} ms");
}

/// Bytes of a Close with this reason.
const fn close_size(reason: &str) -> usize {
    2 + 2 + reason.len()
}

/// The cause that `close` was called with, once.
fn cause(bench: &Bench) -> Cause {
    let record = bench.record.borrow();
    let [(.., end)] = record.ends.as_slice() else {
        panic!("one end, not {:?}", record.ends);
    };
    end.cause
}

/// Every millisecond of a tick.
const MOMENTS_MS: Range<u64> = 0..TICK_MS;

#[test]
fn r04_r05_ping_then_close_then_reset() {
    const PING_SIZE: usize = 6;
    for moment_ms in MOMENTS_MS {
        let (mut bench, client) = open(&config(), moment_ms);
        bench.clients[client].silent = true;
        bench.say(client, b"last words");
        let heard_ms = bench.network.now().as_millis();
        bench.run_for(4 * SECOND);
        let ping_ms = bytes_came_at(&bench, PING_SIZE, heard_ms) - heard_ms;
        let earliest_ms = SECOND_MS - SECOND_MS / 8 - SECOND_MS / 256;
        let latest_ms = SECOND_MS + TICK_MS + TRAVEL_MS;
        assert!((earliest_ms..=latest_ms).contains(&ping_ms), "{ping_ms} ms");
        let close = close_size("keepalive ping timeout");
        let close_ms = bytes_came_at(&bench, close, heard_ms);
        assert_due("1011", close_ms, heard_ms, 2 * SECOND_MS);
        assert_due("reset", reset_came_at(&bench), close_ms, SECOND_MS);
        assert_eq!(cause(&bench), Cause::PingTimeout);
    }
}

#[test]
fn r03_a_client_that_sends_no_fin_behind_its_close_is_reset_at_c() {
    for moment_ms in MOMENTS_MS {
        let (mut bench, client) = open(&config(), moment_ms);
        bench.close(client);
        bench.clients[client].silent = true;
        let begin_ms = bench.network.now().as_millis();
        bench.run_for(4 * SECOND);
        let fin_ms = came_at(&bench, "finish", 0, begin_ms);
        assert_due("FIN", fin_ms, begin_ms, 0);
        assert_due("reset", reset_came_at(&bench), begin_ms, SECOND_MS);
        assert_eq!(cause(&bench), Cause::PeerClose);
    }
}

#[test]
fn r14_a_client_that_breaks_the_protocol_and_stays_is_reset_at_c() {
    for moment_ms in MOMENTS_MS {
        let (mut bench, client) = open(&config(), moment_ms);
        bench.clients[client].silent = true;
        bench.network.send(bench.clients[client].id, &[0xff; 30]);
        let begin_ms = bench.network.now().as_millis();
        bench.run_for(4 * SECOND);
        let fin_ms = came_at(&bench, "finish", 0, begin_ms);
        assert_due("FIN", fin_ms, begin_ms, 0);
        assert_due("reset", reset_came_at(&bench), begin_ms, SECOND_MS);
        assert!(matches!(cause(&bench), Cause::ProtocolError(_)));
    }
}

#[test]
fn r13_half_a_request_is_reset_at_h_and_a_refused_one_at_c() {
    for (bytes, timeout) in [
        (b"GET / HTTP/1.1\r\nHo".as_slice(), 300),
        (b"GET / HTTP/1.1\r\nHost: a\r\n\r\n", 700),
    ] {
        let config = Config {
            handshake_timeout: Duration::from_millis(300),
            close_timeout: Duration::from_millis(700),
            ..config()
        };
        for moment_ms in MOMENTS_MS {
            let mut bench = quiet(&config, moment_ms);
            bench.connect_rudely(bytes);
            let begin_ms = bench.network.now().as_millis();
            bench.run_for(4 * SECOND);
            assert_due("reset", reset_came_at(&bench), begin_ms, timeout);
            assert!(bench.record.borrow().ends.is_empty(), "it never opened");
        }
    }
}

#[test]
fn r07_idle_and_old_connections_are_closed_with_1001() {
    let patient = Config {
        ping_interval: None,
        ping_timeout: None,
        ..config()
    };
    let idle = Config {
        idle_timeout: Some(Duration::from_millis(500)),
        ..patient.clone()
    };
    let old = Config {
        max_lifetime: Some(Duration::from_millis(500)),
        ..patient
    };
    for (config, reason, is_it) in [
        (idle, "idle timeout", Cause::IdleTimeout),
        (old, "maximum lifetime reached", Cause::Lifetime),
    ] {
        for moment_ms in MOMENTS_MS {
            let (mut bench, client) = open(&config, moment_ms);
            let begin_ms = bench.clients[client].last_sent.as_millis();
            bench.run_for(4 * SECOND);
            let close_ms = bytes_came_at(&bench, close_size(reason), begin_ms);
            assert_due(reason, close_ms, begin_ms, 500);
            assert_eq!(cause(&bench), is_it);
        }
    }
}

#[test]
fn r16_a_client_that_does_not_answer_a_drain_is_reset_at_c() {
    for moment_ms in MOMENTS_MS {
        let (mut bench, client) = open(&config(), moment_ms);
        bench.clients[client].silent = true;
        let begin_ms = bench.network.now().as_millis();
        bench.drain();
        bench.run_for(4 * SECOND);
        let close_ms = bytes_came_at(&bench, close_size("server shutting down"), begin_ms);
        assert_due("1001", close_ms, begin_ms, 0);
        // The shard ends with its last connection, and with it the simulation: no RST gets anywhere.
        assert!(bench.finished);
        let ended_ms = bench.network.now().as_millis();
        assert_due("the end", ended_ms, begin_ms, SECOND_MS);
        assert_eq!(cause(&bench), Cause::Shutdown);
    }
}
