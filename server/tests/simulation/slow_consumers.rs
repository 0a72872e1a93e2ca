//! Clients that do not read, under each policy for slow consumers.

use std::time::Duration;

use tidewheel::{
    Cause, SlowConsumer,
    ring::sim::{Faults, Simulation},
};

use super::bench::{Bench, SECOND, config};

/// Number of messages that a client requests, each of 100 bytes.
const MESSAGES: u16 = 4000;
const SEND_QUEUE: usize = 64 * 1024;

/// A client requests far more messages than its send queue holds, and reads late. Returns the numbers of the
/// messages that it got, and the number of messages that `gap` reported.
fn request_and_read_late(policy: SlowConsumer, seed: u64) -> (Bench, Vec<u16>, u64) {
    let simulation = Simulation {
        seed,
        send_buffer: 16 * 1024,
        faults: Faults {
            short_send: 0.1,
            ..Faults::NONE
        },
        ..Simulation::default()
    };
    let mut config = config();
    config.slow_consumer = policy;
    config.max_send_queue = SEND_QUEUE;
    config.ping_timeout = None;
    let mut bench = Bench::new(simulation, &config);
    let client = bench.connect();
    bench.run_for(Duration::from_millis(50));
    assert!(bench.is_open(client));
    bench.clients[client].is_silent = true;
    bench.request_messages(client, 0, MESSAGES);
    bench.run_for(2 * SECOND);
    bench.clients[client].is_silent = false;
    bench.run_for(SECOND);
    let numbers = bench.clients[client]
        .echoes
        .iter()
        .map(|message| u16::from_be_bytes([message[0], message[1]]))
        .collect();
    let missed = bench.record.borrow().missed;
    (bench, numbers, missed)
}

/// Asserts that the received messages are in order, and that all others were reported.
fn assert_complete(numbers: &[u16], missed: u64) {
    assert!(
        numbers.is_sorted_by(|a, b| a < b),
        "messages out of order: {numbers:?}"
    );
    assert_eq!(
        numbers.len() as u64 + missed,
        u64::from(MESSAGES),
        "each message is received or reported as dropped"
    );
    assert!(missed > 0, "some messages were dropped");
}

#[test]
fn drop_oldest_drops_the_oldest_messages() {
    for seed in 0..50 {
        let (_, numbers, missed) = request_and_read_late(SlowConsumer::DropOldest, seed);
        assert_complete(&numbers, missed);
        assert_eq!(
            numbers.last(),
            Some(&(MESSAGES - 1)),
            "the newest message is received"
        );
    }
}

#[test]
fn drop_newest_drops_the_newest_messages() {
    for seed in 0..50 {
        let (_, numbers, missed) = request_and_read_late(SlowConsumer::DropNewest, seed);
        assert_complete(&numbers, missed);
        let first = numbers.iter().zip(0..).take_while(|(got, at)| *got == at);
        assert_eq!(
            first.count(),
            numbers.len(),
            "the first messages are received without a gap"
        );
    }
}

#[test]
fn conflate_keeps_the_latest_message() {
    for seed in 0..50 {
        let (_, numbers, missed) = request_and_read_late(SlowConsumer::Conflate, seed);
        assert_complete(&numbers, missed);
        assert_eq!(
            numbers.last(),
            Some(&(MESSAGES - 1)),
            "the newest message is received"
        );
    }
}

#[test]
fn dropped_messages_are_not_reported_after_the_end_of_the_connection() {
    for seed in 0..20 {
        let simulation = Simulation {
            seed,
            send_buffer: 8 * 1024,
            ..Simulation::default()
        };
        let mut config = config();
        config.slow_consumer = SlowConsumer::Close;
        config.max_send_queue = SEND_QUEUE;
        let mut bench = Bench::new(simulation, &config);
        let client = bench.connect();
        bench.run_for(Duration::from_millis(50));
        // The queue overflows at once, and the client answers the Close.
        bench.request_messages(client, 0, MESSAGES);
        bench.run_for(2 * SECOND);
        let record = bench.record.borrow();
        let (.., end) = &record.ends[0];
        assert_eq!(end.cause, Cause::SlowConsumer, "seed {seed}");
        assert_eq!(record.reports_after_end, 0, "seed {seed}");
    }
}

#[test]
fn the_close_policies_close_a_slow_client() {
    for (policy, code) in [
        (SlowConsumer::Close, 1008),
        (SlowConsumer::CloseTryAgain, 1013),
    ] {
        let (bench, numbers, _) = request_and_read_late(policy, 7);
        assert!(numbers.len() < usize::from(MESSAGES));
        let record = bench.record.borrow();
        let (.., end) = &record.ends[0];
        assert_eq!(end.cause, Cause::SlowConsumer);
        assert_eq!(end.sent.as_ref().unwrap().code.0, code);
        assert_eq!(
            bench.shard.connections(),
            0,
            "the connection has ended at the close timeout"
        );
    }
}

#[test]
fn r12_a_queued_short_message_does_not_keep_the_assembly_buffer_of_a_long_one() {
    const LONG: usize = 500_000;
    const SHORT: usize = 5000;
    let simulation = Simulation {
        send_buffer: 2048,
        faults: Faults::NONE,
        ..Simulation::default()
    };
    let mut bench = Bench::new(simulation, &config());
    let (reading, silent) = (bench.connect(), bench.connect());
    bench.run_for(Duration::from_millis(50));
    // The assembly buffer of this message is reused after the echo was sent.
    bench.send(reading, &[1; LONG]);
    bench.run(bench.network.now() + 5 * SECOND, |bench| {
        !bench.clients[reading].echoes.is_empty()
    });
    assert_eq!(bench.clients[reading].echoes[0].len(), LONG);
    bench.clients[silent].is_silent = true;
    bench.send(silent, &[2; SHORT]);
    bench.run_for(SECOND / 4);
    let queued = bench.shard.heaviest().queue;
    assert!(
        (SHORT - 2048..3 * SHORT).contains(&queued),
        "{queued} bytes for a message of {SHORT}"
    );
}

#[test]
fn at_most_one_ping_is_queued_for_a_client_that_does_not_read() {
    let simulation = Simulation {
        send_buffer: 2048,
        faults: Faults::NONE,
        ..Simulation::default()
    };
    let mut config = config();
    config.ping_timeout = None;
    let mut bench = Bench::new(simulation, &config);
    let client = bench.connect();
    bench.run_for(Duration::from_millis(50));
    bench.clients[client].is_silent = true;
    bench.request_messages(client, 0, 100);
    bench.run_for(5 * SECOND);
    let queued = bench.shard.heaviest().queue;
    bench.run_for(1000 * SECOND);
    assert_eq!(bench.shard.heaviest().queue, queued);
}
