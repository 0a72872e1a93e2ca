//! Clients that do not read what they asked for, under each policy.

use std::time::Duration;

use tidewheel::{
    Cause, Config, SlowConsumer,
    ring::sim::{Faults, Simulation},
};

use super::bench::{Bench, SECOND, config};

/// Messages that a client asks for, each of 100 bytes and its number.
const ASKED: u16 = 4000;
const QUEUE: usize = 64 * 1024;

/// A client asks for far more than may wait for it, and reads late. Gives the numbers that it got,
/// and how many the handler was told of as missed.
fn ask_and_read_late(policy: SlowConsumer, seed: u64) -> (Bench, Vec<u16>, u64) {
    let simulation = Simulation {
        seed,
        send_buffer: 16 * 1024,
        faults: Faults {
            short_send: 0.1,
            ..Faults::NONE
        },
        ..Simulation::default()
    };
    let config = Config {
        slow_consumer: policy,
        max_send_queue: QUEUE,
        ping_timeout: None,
        ..config()
    };
    let mut bench = Bench::new(simulation, &config);
    let client = bench.connect();
    bench.run_for(Duration::from_millis(50));
    assert!(bench.is_open(client));
    bench.clients[client].silent = true;
    bench.ask(client, 0, ASKED);
    bench.run_for(2 * SECOND);
    bench.clients[client].silent = false;
    bench.run_for(SECOND);
    let numbers = bench.clients[client]
        .echoes
        .iter()
        .map(|message| u16::from_be_bytes([message[0], message[1]]))
        .collect();
    let missed = bench.record.borrow().missed;
    (bench, numbers, missed)
}

/// Those that were read are in order and whole, and those that were not are told of.
fn add_up(numbers: &[u16], missed: u64) {
    assert!(numbers.is_sorted_by(|a, b| a < b), "in order: {numbers:?}");
    assert_eq!(
        numbers.len() as u64 + missed,
        u64::from(ASKED),
        "each was read or is told of as missed"
    );
    assert!(missed > 0, "not all had room");
}

#[test]
fn the_oldest_are_dropped() {
    for seed in 0..50 {
        let (_, numbers, missed) = ask_and_read_late(SlowConsumer::DropOldest, seed);
        add_up(&numbers, missed);
        assert_eq!(numbers.last(), Some(&(ASKED - 1)), "the newest is there");
    }
}

#[test]
fn the_newest_are_dropped() {
    for seed in 0..50 {
        let (_, numbers, missed) = ask_and_read_late(SlowConsumer::DropNewest, seed);
        add_up(&numbers, missed);
        let held = numbers.iter().zip(0..).take_while(|(got, at)| *got == at);
        assert_eq!(
            held.count(),
            numbers.len(),
            "the first are there without a gap"
        );
    }
}

#[test]
fn the_latest_is_there_where_each_replaces_what_waits() {
    for seed in 0..50 {
        let (_, numbers, missed) = ask_and_read_late(SlowConsumer::Conflate, seed);
        add_up(&numbers, missed);
        assert_eq!(numbers.last(), Some(&(ASKED - 1)), "the newest is there");
    }
}

#[test]
fn a_slow_reader_is_closed() {
    for (policy, code) in [
        (SlowConsumer::Close, 1008),
        (SlowConsumer::CloseTryAgain, 1013),
    ] {
        let (bench, numbers, _) = ask_and_read_late(policy, 7);
        assert!(numbers.len() < usize::from(ASKED));
        let record = bench.record.borrow();
        let (.., end) = &record.ends[0];
        assert_eq!(end.cause, Cause::SlowConsumer);
        assert_eq!(end.sent.as_ref().unwrap().code.0, code);
        assert_eq!(
            bench.shard.connections(),
            0,
            "and is gone at the close timeout"
        );
    }
}

#[test]
fn r12_a_short_message_that_waits_keeps_no_memory_of_a_long_one_before() {
    const LONG: usize = 500_000;
    const SHORT: usize = 5000;
    let simulation = Simulation {
        send_buffer: 2048,
        faults: Faults::NONE,
        ..Simulation::default()
    };
    let mut bench = Bench::new(simulation, &config());
    let (reads, is_deaf) = (bench.connect(), bench.connect());
    bench.run_for(Duration::from_millis(50));
    // It is assembled in a buffer that is used again when it has been sent.
    bench.say(reads, &[1; LONG]);
    bench.run(bench.network.now() + 5 * SECOND, |bench| {
        !bench.clients[reads].echoes.is_empty()
    });
    assert_eq!(bench.clients[reads].echoes[0].len(), LONG);
    bench.clients[is_deaf].silent = true;
    bench.say(is_deaf, &[2; SHORT]);
    bench.run_for(SECOND / 4);
    let waiting = bench.shard.heaviest().queue;
    assert!(
        (SHORT - 2048..3 * SHORT).contains(&waiting),
        "{waiting} bytes for a message of {SHORT}"
    );
}

#[test]
fn one_ping_waits_for_a_client_that_does_not_read_however_long() {
    let simulation = Simulation {
        send_buffer: 2048,
        faults: Faults::NONE,
        ..Simulation::default()
    };
    let config = Config {
        ping_timeout: None,
        ..config()
    };
    let mut bench = Bench::new(simulation, &config);
    let client = bench.connect();
    bench.run_for(Duration::from_millis(50));
    bench.clients[client].silent = true;
    bench.ask(client, 0, 100);
    bench.run_for(5 * SECOND);
    let waiting = bench.shard.heaviest().queue;
    bench.run_for(1000 * SECOND);
    assert_eq!(bench.shard.heaviest().queue, waiting);
}
