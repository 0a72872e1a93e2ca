//! Large messages, which the kernel receives into the assembly buffer.

use std::time::Duration;

use tidewheel::{
    Config,
    ring::{
        OpCode,
        sim::{EventKind, Faults, Simulation},
    },
};

use super::{
    bench::{Bench, SECOND, config, each_seed},
    close_storm::assert_nothing_left,
    faults,
};

const SEEDS: u64 = 200;

/// Size of a large message in bytes: hundreds of receive buffers.
const LARGE: usize = 200_000;

const SIMULATION: Simulation = Simulation {
    seed: 1,
    sockets: 50,
    buffers: 4,
    buffer_size: 512,
    completions: 8192,
    send_buffer: 64 * 1024,
    latency_ms_max: 3,
    operation_ms: 0,
    faults: Faults::NONE,
};

/// Number of bytes that were received into assembly buffers.
fn filled(bench: &Bench) -> usize {
    let fills = bench
        .network
        .trace()
        .into_iter()
        .filter_map(|event| match event.kind {
            EventKind::Completed {
                op: OpCode::Fill,
                result,
                ..
            } => Some(result),
            _ => None,
        });
    fills
        .map(|result| usize::try_from(result).unwrap_or(0))
        .sum()
}

/// An open client that has sent the first `sent` bytes of a large message.
fn partly_sent(simulation: Simulation, config: &Config, sent: usize) -> (Bench, usize) {
    let mut bench = Bench::new(simulation, config);
    let client = bench.connect();
    bench.run_for(SECOND / 20);
    assert!(bench.is_open(client));
    let mut frame = b"\x82\xff\0\0\0\0\0\x03\x0d\x40keys".to_vec();
    frame.resize(sent, 7);
    bench.network.send(bench.clients[client].id, &frame);
    bench.run_for(SECOND / 20);
    (bench, client)
}

fn message(seed: u64, length: usize) -> Vec<u8> {
    let mut message = vec![0; length];
    fastrand::Rng::with_seed(seed).fill(&mut message);
    message
}

#[test]
fn large_messages_are_received_into_the_assembly_buffer_except_their_beginning() {
    let mut bench = Bench::new(SIMULATION, &config());
    let client = bench.connect();
    bench.run_for(SECOND / 20);
    let lengths = [100, LARGE, LARGE, 100, LARGE, 5, LARGE];
    for (seed, length) in (0..).zip(lengths) {
        bench.send(client, &message(seed, length));
        bench.run_for(SECOND / 2);
    }
    let echoes: Vec<_> = (0..)
        .zip(lengths)
        .map(|(seed, length)| message(seed, length))
        .collect();
    assert_eq!(bench.clients[client].echoes, echoes);
    // The multishot receive that is armed for the first message takes all bytes that have arrived.
    let large = 4 * LARGE;
    assert!(
        filled(&bench) > large / 2,
        "{} of {large} bytes",
        filled(&bench)
    );
    bench.close(client);
    bench.run_for(SECOND);
    assert_nothing_left(&mut bench);
}

/// Asserts that all messages are echoed in order, also to clients that read late.
fn echo_with_frequent_faults(seed: u64) {
    const CLIENTS: usize = 6;
    let mut config = config();
    config.max_send_queue = 64 * 1024;
    let simulation = Simulation {
        seed,
        buffers: 8,
        send_buffer: 8192,
        latency_ms_max: 20,
        ..faults::simulation(seed)
    };
    let mut random = fastrand::Rng::with_seed(seed);
    let mut bench = Bench::new(simulation, &config);
    for _ in 0..CLIENTS {
        bench.connect();
    }
    bench.run_for(SECOND / 5);
    let mut sent = vec![Vec::new(); CLIENTS];
    for _ in 0..20 {
        for (at, sent) in sent.iter_mut().enumerate() {
            bench.clients[at].is_silent = random.u32(0..4) == 0;
            let length = match random.u32(0..6) {
                0 => random.usize(0..200),
                1 => random.usize(0..50_000),
                _ => continue,
            };
            let message = message(random.u64(..), length);
            bench.send(at, &message);
            sent.push(message);
        }
        bench.run_for(Duration::from_millis(random.u64(1..50)));
    }
    for at in 0..CLIENTS {
        bench.clients[at].is_silent = false;
    }
    bench.run_for(60 * SECOND);
    for (client, sent) in bench.clients.iter().zip(&sent) {
        assert!(client.end.is_none(), "{:?}", client.end);
        assert!(client.echoes == *sent, "all messages are echoed in order");
    }
    for at in 0..CLIENTS {
        bench.close(at);
    }
    bench.run_for(5 * SECOND);
    assert_nothing_left(&mut bench);
}

#[test]
fn all_messages_are_echoed_with_frequent_faults() {
    each_seed(SEEDS, |seed| {
        assert!(
            std::panic::catch_unwind(|| echo_with_frequent_faults(seed)).is_ok(),
            "seed {seed} fails"
        );
    });
}

#[test]
fn a_connection_that_ends_during_a_large_message_leaves_no_resources() {
    for seed in 0..SEEDS {
        for end in [
            |bench: &mut Bench, at: usize| bench.network.finish(bench.clients[at].id),
            |bench: &mut Bench, at: usize| bench.network.reset(bench.clients[at].id),
            |bench: &mut Bench, at: usize| bench.network.vanish(bench.clients[at].id),
            |bench: &mut Bench, _: usize| bench.drain(),
        ] {
            let simulation = Simulation {
                seed,
                ..faults::simulation(seed)
            };
            let (mut bench, client) = partly_sent(simulation, &config(), LARGE / 2);
            end(&mut bench, client);
            // Silence for ping interval, ping timeout and close timeout.
            bench.run_for(4 * SECOND);
            assert_eq!(bench.shard.connections(), 0, "seed {seed}");
            assert_eq!(bench.record.borrow().ends.len(), 1, "seed {seed}");
            assert_nothing_left(&mut bench);
        }
    }
}

#[test]
fn a_client_that_sends_a_large_message_slowly_is_not_silent() {
    let (mut bench, client) = partly_sent(SIMULATION, &config(), 50_000);
    let before = filled(&bench);
    for _ in 0..10 {
        bench.network.send(bench.clients[client].id, &[7; 1000]);
        // Most of the ping interval.
        bench.run_for(SECOND * 4 / 5);
        assert!(bench.is_open(client));
    }
    assert_eq!(filled(&bench), before + 10_000);
    let rest = LARGE + 14 - 60_000;
    bench.network.send(bench.clients[client].id, &vec![7; rest]);
    bench.run_for(SECOND / 2);
    assert_eq!(bench.clients[client].echoes.len(), 1);
}

#[test]
fn the_first_buffer_of_a_large_message_after_another_is_not_received_into_the_assembly_buffer() {
    for tail in [1, 100, 5_000] {
        let (mut bench, client) = partly_sent(SIMULATION, &config(), LARGE + 14 - tail);
        bench.network.send(bench.clients[client].id, &vec![7; tail]);
        bench.run_for(SECOND / 20);
        assert_eq!(bench.clients[client].echoes.len(), 1);
        let before = filled(&bench);
        bench.send(client, &message(1, LARGE));
        bench.run_for(SECOND / 2);
        assert_eq!(bench.clients[client].echoes[1], message(1, LARGE));
        let elsewhere = LARGE + 14 - (filled(&bench) - before);
        assert_eq!(elsewhere, SIMULATION.buffer_size as usize, "tail of {tail}");
    }
}

#[test]
fn a_drain_closes_a_connection_during_a_large_message() {
    let (mut bench, client) = partly_sent(SIMULATION, &config(), LARGE / 2);
    bench.drain();
    bench.run_for(SECOND / 20);
    assert!(!bench.is_open(client), "the server's Close has arrived");
    // The client's answer is part of the frame that never ends, so the connection ends at the deadline.
    bench.run_for(2 * SECOND);
    assert_eq!(bench.shard.connections(), 0);
    assert_nothing_left(&mut bench);
}
