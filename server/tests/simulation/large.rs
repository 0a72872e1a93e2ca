//! Large messages: the kernel receives what is to come of one into the buffer in which it is assembled.

use std::time::Duration;

use tidewheel::{
    Config,
    ring::{
        OpCode,
        sim::{Faults, Simulation, What},
    },
};

use super::{
    bench::{Bench, SECOND, config, each_seed},
    close_storm::nothing_is_left,
    faults,
};

const SEEDS: u64 = 200;

/// Bytes of a large message, which fills hundreds of receive buffers.
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

/// Bytes that were received into messages.
fn filled(bench: &Bench) -> usize {
    let fills = bench
        .network
        .trace()
        .into_iter()
        .filter_map(|event| match event.what {
            What::Completed {
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

/// A client that is open, and has sent so many bytes of a large message.
fn begun(simulation: Simulation, config: &Config, sent: usize) -> (Bench, usize) {
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
fn all_but_the_beginning_is_received_where_it_is_assembled() {
    let mut bench = Bench::new(SIMULATION, &config());
    let client = bench.connect();
    bench.run_for(SECOND / 20);
    let lengths = [100, LARGE, LARGE, 100, LARGE, 5, LARGE];
    for (seed, length) in (0..).zip(lengths) {
        bench.say(client, &message(seed, length));
        bench.run_for(SECOND / 2);
    }
    let echoes: Vec<_> = (0..)
        .zip(lengths)
        .map(|(seed, length)| message(seed, length))
        .collect();
    assert_eq!(bench.clients[client].echoes, echoes);
    // The first one arrived while a multishot receive was armed, which takes what there is.
    let large = 4 * LARGE;
    assert!(
        filled(&bench) > large / 2,
        "{} of {large} bytes",
        filled(&bench)
    );
    bench.close(client);
    bench.run_for(SECOND);
    nothing_is_left(&mut bench);
}

/// Everything that is said comes back, in order, also to those who read late.
fn echoes_at_its_rudest(seed: u64) {
    const CLIENTS: usize = 6;
    let config = Config {
        max_send_queue: 64 * 1024,
        ..config()
    };
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
    let mut said = vec![Vec::new(); CLIENTS];
    for _ in 0..20 {
        for (at, said) in said.iter_mut().enumerate() {
            bench.clients[at].silent = random.u32(0..4) == 0;
            let length = match random.u32(0..6) {
                0 => random.usize(0..200),
                1 => random.usize(0..50_000),
                _ => continue,
            };
            let message = message(random.u64(..), length);
            bench.say(at, &message);
            said.push(message);
        }
        bench.run_for(Duration::from_millis(random.u64(1..50)));
    }
    for at in 0..CLIENTS {
        bench.clients[at].silent = false;
    }
    bench.run_for(60 * SECOND);
    for (client, said) in bench.clients.iter().zip(&said) {
        assert!(client.end.is_none(), "{:?}", client.end);
        assert!(client.echoes == *said, "all of it, in order");
    }
    for at in 0..CLIENTS {
        bench.close(at);
    }
    bench.run_for(5 * SECOND);
    nothing_is_left(&mut bench);
}

#[test]
fn what_was_said_comes_back_whatever_the_kernel_does() {
    each_seed(SEEDS, |seed| {
        assert!(
            std::panic::catch_unwind(|| echoes_at_its_rudest(seed)).is_ok(),
            "seed {seed} fails"
        );
    });
}

#[test]
fn who_ends_in_the_middle_of_a_large_message_leaves_nothing() {
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
            let (mut bench, client) = begun(simulation, &config(), LARGE / 2);
            end(&mut bench, client);
            // Silence for ping interval, ping timeout and close timeout.
            bench.run_for(4 * SECOND);
            assert_eq!(bench.shard.connections(), 0, "seed {seed}");
            assert_eq!(bench.record.borrow().ends.len(), 1, "seed {seed}");
            nothing_is_left(&mut bench);
        }
    }
}

#[test]
fn who_sends_a_large_message_slowly_is_alive() {
    let (mut bench, client) = begun(SIMULATION, &config(), 50_000);
    let before = filled(&bench);
    for _ in 0..10 {
        bench.network.send(bench.clients[client].id, &[7; 1000]);
        // Most of the time after which a silent client is pinged.
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
fn of_a_large_message_behind_another_one_buffer_arrives_elsewhere_however_that_ended() {
    for tail in [1, 100, 5_000] {
        let (mut bench, client) = begun(SIMULATION, &config(), LARGE + 14 - tail);
        bench.network.send(bench.clients[client].id, &vec![7; tail]);
        bench.run_for(SECOND / 20);
        assert_eq!(bench.clients[client].echoes.len(), 1);
        let before = filled(&bench);
        bench.say(client, &message(1, LARGE));
        bench.run_for(SECOND / 2);
        assert_eq!(bench.clients[client].echoes[1], message(1, LARGE));
        let elsewhere = LARGE + 14 - (filled(&bench) - before);
        assert_eq!(elsewhere, SIMULATION.buffer_size as usize, "tail of {tail}");
    }
}

#[test]
fn a_connection_is_closed_in_order_while_a_large_message_arrives() {
    let (mut bench, client) = begun(SIMULATION, &config(), LARGE / 2);
    bench.drain();
    bench.run_for(SECOND / 20);
    assert!(!bench.is_open(client), "the server's Close has come");
    // The rest of the message, which is dropped, and the answer that the client has given already
    // are not what ends it: the deadline is.
    bench.run_for(2 * SECOND);
    assert_eq!(bench.shard.connections(), 0);
    nothing_is_left(&mut bench);
}
