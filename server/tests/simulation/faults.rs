//! Clients that talk, stall, vanish, reset and close, in any mix, on a kernel at its rudest.

use std::time::Duration;

use tidewheel::{
    Config, Time,
    ring::sim::{Event, Faults, Simulation},
    shard::Heaviest,
};

use super::{
    bench::{Bench, SECOND, config, each_seed},
    close_storm::nothing_is_left,
};

const CLIENTS: usize = 60;

/// Bytes of a message.
const MESSAGE_MAX: usize = 6000;

/// Seeds of a run, unless `TIDEWHEEL_SEEDS` says how many.
const SEEDS: u64 = 2000;

const RUDE: Faults = Faults {
    short_send: 0.3,
    no_buffers: 0.2,
    multishot_end: 0.2,
    late: 0.5,
    small_pieces: 0.5,
    full_queue: 0.1,
};

/// A table that fills up, few buffers, sockets that take little, and a completion queue that is
/// too small for what completes at once, or large enough. With the smaller buffers, many messages are
/// large.
pub(crate) fn simulation(seed: u64) -> Simulation {
    let mut random = fastrand::Rng::with_seed(seed);
    let completions = random.choice([1, 2, 4, 16, 8192]);
    let buffer_size = random.choice([256, 512]);
    Simulation {
        seed,
        sockets: 50,
        buffers: 4,
        buffer_size: buffer_size.expect("one of them"),
        completions: completions.expect("one of them"),
        send_buffer: 2048,
        faults: RUDE,
        ..Simulation::default()
    }
}

/// One run; everything that must hold is asserted. Gives the trace.
pub(crate) fn mayhem(simulation: Simulation) -> Vec<Event> {
    let mut random = fastrand::Rng::with_seed(simulation.seed);
    let config = Config {
        max_send_queue: 8192,
        ..config()
    };
    let mut bench = Bench::new(simulation, &config);
    let mut said = vec![Vec::new(); CLIENTS];
    for round in 0..40 {
        if bench.clients.len() < CLIENTS {
            for _ in 0..3 {
                arrive(&mut bench, &mut random);
            }
        }
        for (at, said) in said.iter_mut().enumerate().take(bench.clients.len()) {
            act(&mut bench, at, said, &mut random);
        }
        bench.run(Time::from_millis((round + 1) * 20), |_| false);
        nobody_costs_more(&bench, &config);
    }
    // The rest close, if they still can, or are told to; those that do not are cut in time.
    if random.bool() {
        bench.drain();
    } else {
        // Some have waited for a place, and come in only now.
        for _ in 0..20 {
            for at in 0..bench.clients.len() {
                bench.close(at);
            }
            bench.run_for(SECOND / 10);
        }
    }
    bench.run_for(5 * SECOND);
    assert_eq!(bench.shard.connections(), 0, "every deadline is over");
    for (client, said) in bench.clients.iter().zip(&said) {
        assert!(
            said.starts_with(&client.echoes),
            "echoes in order, and none that was not said"
        );
    }
    {
        let record = bench.record.borrow();
        assert_eq!(
            record.open.len(),
            record.ends.len(),
            "as many ends as beginnings"
        );
        assert!(
            record.open.values().all(|opens| *opens == 1),
            "each opened once"
        );
    }
    nothing_is_left(&mut bench);
    bench.network.trace()
}

/// R12, piece by piece.
fn nobody_costs_more(bench: &Bench, config: &Config) {
    let Heaviest {
        queue,
        unread,
        assembly,
    } = bench.shard.heaviest();
    assert!(unread <= bench.receive_memory, "{unread} bytes unread");
    let arriving = 2 * config.max_message_size + 1024;
    assert!(assembly <= arriving, "{assembly} bytes of a message");
    // As much again for an empty vector that is kept, and the queue's own memory.
    let queue_max = 2 * (config.max_send_queue + 2 * MESSAGE_MAX) + 2048;
    assert!(queue <= queue_max, "{queue} bytes queued");
}

/// A client comes, and completes its request, or does not.
fn arrive(bench: &mut Bench, random: &mut fastrand::Rng) {
    let request: &[u8] = b"GET / HTTP/1.1\r\nHost: sim\r\nUpgrade: web";
    match random.u32(0..12) {
        0 => bench.connect_rudely(b""),
        1 => bench.connect_rudely(&request[..random.usize(1..request.len())]),
        2 => bench.connect_rudely(b"\x16\x03\x01 junk \r\n\r\n"),
        3 => {
            let at = bench.connect();
            vanish_somehow(bench, at, random);
        }
        _ => {
            bench.connect();
        }
    }
}

fn vanish_somehow(bench: &Bench, at: usize, random: &mut fastrand::Rng) {
    let id = bench.clients[at].id;
    match random.u32(0..3) {
        0 => bench.network.vanish(id),
        1 => bench.network.reset(id),
        _ => bench.network.finish(id),
    }
}

fn act(bench: &mut Bench, at: usize, said: &mut Vec<Vec<u8>>, random: &mut fastrand::Rng) {
    if !bench.is_open(at) {
        return;
    }
    match random.u32(0..100) {
        0..40 => {
            let mut message = vec![0; random.usize(0..MESSAGE_MAX)];
            random.fill(&mut message);
            bench.say(at, &message);
            said.push(message);
        }
        40..43 => bench.clients[at].silent = true,
        43..46 => bench.clients[at].silent = false,
        46..50 => vanish_somehow(bench, at, random),
        50..52 => {
            // In the middle of a closing handshake.
            bench.close(at);
            vanish_somehow(bench, at, random);
        }
        52..54 => bench.close(at),
        54..56 => bench.network.send(bench.clients[at].id, &[0xff; 30]),
        56..58 => {
            // The beginning of a long frame, and no more.
            bench
                .network
                .send(bench.clients[at].id, b"\x82\xff\0\0\0\0\0\x0f\0\0keys");
        }
        58..60 => bench
            .network
            .send(bench.clients[at].id, &b"\x89\x80keys".repeat(200)),
        _ => {}
    }
}

#[test]
fn any_mix_of_ends_leaves_nothing_behind() {
    let seeds = std::env::var("TIDEWHEEL_SEEDS").map_or(SEEDS, |seeds| {
        seeds.parse().expect("TIDEWHEEL_SEEDS is a number")
    });
    each_seed(seeds, |seed| {
        let run = || std::panic::catch_unwind(|| mayhem(simulation(seed)));
        let Ok(trace) = run() else {
            panic!("seed {seed} fails")
        };
        if seed % 10 == 0 {
            let Ok(again) = run() else {
                panic!("seed {seed} fails the second time")
            };
            assert!(trace == again, "seed {seed} does not replay");
        }
    });
}

#[test]
fn r19_a_thousand_rounds_on_one_shard_leave_what_the_first_left() {
    const LAPS: usize = 100;
    const ROUNDS: usize = 10;
    let mut random = fastrand::Rng::with_seed(19);
    let simulation = Simulation {
        completions: 8,
        ..simulation(19)
    };
    let mut bench = Bench::new(simulation, &config());
    let mut first = None;
    for lap in 0..LAPS {
        let begin = bench.clients.len();
        for _ in 0..ROUNDS {
            (0..3).for_each(|_| arrive(&mut bench, &mut random));
            for at in begin..bench.clients.len() {
                act(&mut bench, at, &mut Vec::new(), &mut random);
            }
            bench.run_for(SECOND / 50);
        }
        bench.run_for(SECOND);
        (begin..bench.clients.len()).for_each(|at| bench.close(at));
        bench.run_for(5 * SECOND);
        let left = bench.shard.holdings();
        let counts = (left.connections, left.wheel_entries, left.queued_bytes);
        assert_eq!(counts, (0, 0, 0), "lap {lap}");
        assert_eq!(bench.shard.heaviest(), Heaviest::default());
        assert_eq!(bench.network.open_sockets(), 0);
        assert_eq!(bench.network.buffers_free(), bench.buffers);
        assert_eq!(left, *first.get_or_insert(left), "lap {lap}");
    }
    nothing_is_left(&mut bench);
}

#[test]
fn a_client_that_never_speaks_is_cut_at_the_handshake_timeout() {
    let mut bench = Bench::new(Simulation::default(), &config());
    let _ = bench.network.connect();
    bench.run_for(Duration::from_millis(990));
    assert_eq!(bench.shard.connections(), 1, "not early");
    bench.run_for(Duration::from_millis(60));
    assert_eq!(bench.shard.connections(), 0, "not late");
    nothing_is_left(&mut bench);
}
