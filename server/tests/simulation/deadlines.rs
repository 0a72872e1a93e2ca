//! Deadlines in virtual time: none expires early, and none more than a tick late.
//!
//! The tests over real sockets check the same deadlines with tolerance for scheduling.

use std::{ops::Range, time::Duration};

use tidewheel::{
    Cause, Config,
    ring::sim::{EventKind, Faults, Simulation},
    shard::TICK_MS,
};

use super::bench::{Bench, SECOND, config};

/// Milliseconds of a segment to the server and one back.
const ROUND_TRIP_MS: u64 = 2;

const SECOND_MS: u64 = 1000;

/// A network without latency, and an open client that connects about `offset_ms` after a tick.
fn open(config: &Config, offset_ms: u64) -> (Bench, usize) {
    let mut bench = without_clients(config, offset_ms);
    let client = bench.connect();
    bench.run_for(SECOND / 50);
    assert!(bench.is_open(client));
    (bench, client)
}

/// A network without latency and clients, about `offset_ms` after a tick.
fn without_clients(config: &Config, offset_ms: u64) -> Bench {
    let simulation = Simulation {
        latency_ms_max: 0,
        faults: Faults::NONE,
        ..Simulation::default()
    };
    let mut bench = Bench::new(simulation, config);
    bench.run_for(SECOND / 10 + Duration::from_millis(offset_ms));
    bench
}

/// Time when `count` bytes first reached a client after `begin_ms`.
fn bytes_arrival_ms(bench: &Bench, count: usize, begin_ms: u64) -> u64 {
    arrival_ms(bench, "bytes", count, begin_ms)
}

/// Time when the server's RST reached a client.
fn reset_arrival_ms(bench: &Bench) -> u64 {
    arrival_ms(bench, "reset", 0, 0)
}

fn arrival_ms(bench: &Bench, kind: &str, count: usize, begin_ms: u64) -> u64 {
    let trace = bench.network.trace();
    let arrived = trace.iter().find(|event| match event.kind {
        EventKind::Arrived { segment, bytes, .. } => {
            (segment, bytes) == (kind, count) && event.at_ms > begin_ms
        }
        _ => false,
    });
    arrived
        .unwrap_or_else(|| panic!("{kind} of {count} bytes"))
        .at_ms
}

/// Asserts that `name` arrived `deadline_ms` after `begin_ms`, or at most a tick later.
#[track_caller]
fn assert_due(name: &str, arrival_ms: u64, begin_ms: u64, deadline_ms: u64) {
    let took_ms = arrival_ms - begin_ms;
    let window = deadline_ms..=deadline_ms + TICK_MS + ROUND_TRIP_MS;
    assert!(window.contains(&took_ms), "{name} after {took_ms} ms");
}

/// Size of a Close frame with this reason in bytes.
const fn close_size(reason: &str) -> usize {
    2 + 2 + reason.len()
}

/// The cause of the only `close` call.
fn cause(bench: &Bench) -> Cause {
    let record = bench.record.borrow();
    let [(.., end)] = record.ends.as_slice() else {
        panic!("`close` was not called once: {:?}", record.ends);
    };
    end.cause
}

/// Every millisecond within a tick.
const OFFSETS_MS: Range<u64> = 0..TICK_MS;

#[test]
fn r04_r05_a_silent_client_gets_a_ping_a_close_and_a_reset() {
    const PING_SIZE: usize = 6;
    for offset_ms in OFFSETS_MS {
        let (mut bench, client) = open(&config(), offset_ms);
        bench.clients[client].is_silent = true;
        bench.send(client, b"last words");
        let heard_ms = bench.network.now().as_millis();
        bench.run_for(4 * SECOND);
        let ping_ms = bytes_arrival_ms(&bench, PING_SIZE, heard_ms) - heard_ms;
        let earliest_ms = SECOND_MS - SECOND_MS / 8 - SECOND_MS / 256;
        let latest_ms = SECOND_MS + TICK_MS + ROUND_TRIP_MS;
        assert!((earliest_ms..=latest_ms).contains(&ping_ms), "{ping_ms} ms");
        let close = close_size("keepalive ping timeout");
        let close_ms = bytes_arrival_ms(&bench, close, heard_ms);
        assert_due("1011", close_ms, heard_ms, 2 * SECOND_MS);
        assert_due("reset", reset_arrival_ms(&bench), close_ms, SECOND_MS);
        assert_eq!(cause(&bench), Cause::PingTimeout);
    }
}

#[test]
fn r03_a_client_that_sends_no_fin_after_its_close_is_reset_at_the_close_timeout() {
    for offset_ms in OFFSETS_MS {
        let (mut bench, client) = open(&config(), offset_ms);
        bench.close(client);
        bench.clients[client].is_silent = true;
        let begin_ms = bench.network.now().as_millis();
        bench.run_for(4 * SECOND);
        let fin_ms = arrival_ms(&bench, "finish", 0, begin_ms);
        assert_due("FIN", fin_ms, begin_ms, 0);
        assert_due("reset", reset_arrival_ms(&bench), begin_ms, SECOND_MS);
        assert_eq!(cause(&bench), Cause::PeerClose);
    }
}

#[test]
fn r14_a_client_that_stays_after_a_protocol_error_is_reset_at_the_close_timeout() {
    for offset_ms in OFFSETS_MS {
        let (mut bench, client) = open(&config(), offset_ms);
        bench.clients[client].is_silent = true;
        bench.network.send(bench.clients[client].id, &[0xff; 30]);
        let begin_ms = bench.network.now().as_millis();
        bench.run_for(4 * SECOND);
        let fin_ms = arrival_ms(&bench, "finish", 0, begin_ms);
        assert_due("FIN", fin_ms, begin_ms, 0);
        assert_due("reset", reset_arrival_ms(&bench), begin_ms, SECOND_MS);
        assert!(matches!(cause(&bench), Cause::ProtocolError(_)));
    }
}

#[test]
fn r13_half_a_request_is_reset_at_the_handshake_timeout_and_a_refused_one_at_the_close_timeout() {
    for (bytes, timeout) in [
        (b"GET / HTTP/1.1\r\nHo".as_slice(), 300),
        (b"GET / HTTP/1.1\r\nHost: a\r\n\r\n", 700),
    ] {
        let mut config = config();
        config.handshake_timeout = Duration::from_millis(300);
        config.close_timeout = Duration::from_millis(700);
        for offset_ms in OFFSETS_MS {
            let mut bench = without_clients(&config, offset_ms);
            bench.connect_raw(bytes);
            let begin_ms = bench.network.now().as_millis();
            bench.run_for(4 * SECOND);
            assert_due("reset", reset_arrival_ms(&bench), begin_ms, timeout);
            assert!(
                bench.record.borrow().ends.is_empty(),
                "`close` follows only `open`"
            );
        }
    }
}

#[test]
fn r07_connections_are_closed_with_1001_at_the_idle_timeout_and_the_maximum_lifetime() {
    let mut no_pings = config();
    no_pings.ping_interval = None;
    no_pings.ping_timeout = None;
    let mut idle = no_pings.clone();
    idle.idle_timeout = Some(Duration::from_millis(500));
    let mut old = no_pings;
    old.max_lifetime = Some(Duration::from_millis(500));
    for (config, reason, cause_expected) in [
        (idle, "idle timeout", Cause::IdleTimeout),
        (old, "maximum lifetime reached", Cause::Lifetime),
    ] {
        for offset_ms in OFFSETS_MS {
            let (mut bench, client) = open(&config, offset_ms);
            let begin_ms = bench.clients[client].last_sent.as_millis();
            bench.run_for(4 * SECOND);
            let close_ms = bytes_arrival_ms(&bench, close_size(reason), begin_ms);
            assert_due(reason, close_ms, begin_ms, 500);
            assert_eq!(cause(&bench), cause_expected);
        }
    }
}

#[test]
fn r16_a_client_that_does_not_answer_a_drain_is_reset_at_the_close_timeout() {
    for offset_ms in OFFSETS_MS {
        let (mut bench, client) = open(&config(), offset_ms);
        bench.clients[client].is_silent = true;
        let begin_ms = bench.network.now().as_millis();
        bench.drain();
        bench.run_for(4 * SECOND);
        let close_ms = bytes_arrival_ms(&bench, close_size("server shutting down"), begin_ms);
        assert_due("1001", close_ms, begin_ms, 0);
        // The shard ends with its last connection, before the RST arrives.
        assert!(bench.finished);
        let ended_ms = bench.network.now().as_millis();
        assert_due("the end", ended_ms, begin_ms, SECOND_MS);
        assert_eq!(cause(&bench), Cause::Shutdown);
    }
}
