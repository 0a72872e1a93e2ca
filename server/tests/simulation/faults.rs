//! Clients that talk, stall, vanish, reset and close, in any mix, on a kernel at its rudest.

use std::time::Duration;

use tidewheel::{
    Time,
    ring::sim::{Faults, Simulation},
};

use super::{
    bench::{Bench, SECOND, config},
    close_storm::nothing_is_left,
};

const CLIENTS: usize = 60;
const SEEDS: u64 = 300;

const RUDE: Faults = Faults {
    short_send: 0.3,
    no_buffers: 0.2,
    multishot_end: 0.2,
    late: 0.5,
    small_pieces: 0.5,
};

fn simulation(seed: u64) -> Simulation {
    // A table that fills up, few buffers, and sockets that take little.
    Simulation {
        seed,
        sockets: 50,
        buffers: 4,
        buffer_size: 512,
        send_buffer: 2048,
        faults: RUDE,
        ..Simulation::default()
    }
}

fn mayhem(seed: u64) -> Vec<tidewheel::ring::sim::Event> {
    let mut random = fastrand::Rng::with_seed(seed);
    let mut bench = Bench::new(simulation(seed), &config());
    let mut said = vec![Vec::new(); CLIENTS];
    for round in 0..40 {
        if bench.clients.len() < CLIENTS {
            for _ in 0..3 {
                bench.connect();
            }
        }
        for (at, said) in said.iter_mut().enumerate().take(bench.clients.len()) {
            act(&mut bench, at, said, &mut random);
        }
        bench.run(Time::from_millis((round + 1) * 20), |_| false);
    }
    // The rest close, if they still can; those that cannot are cut in time.
    for at in 0..bench.clients.len() {
        bench.close(at);
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

fn act(bench: &mut Bench, at: usize, said: &mut Vec<Vec<u8>>, random: &mut fastrand::Rng) {
    if !bench.is_open(at) {
        return;
    }
    match random.u32(0..100) {
        0..40 => {
            let mut message = vec![0; random.usize(0..6000)];
            random.fill(&mut message);
            bench.say(at, &message);
            said.push(message);
        }
        40..43 => bench.clients[at].silent = true,
        43..46 => bench.clients[at].silent = false,
        46..48 => bench.network.vanish(bench.clients[at].id),
        48..50 => bench.network.reset(bench.clients[at].id),
        50..52 => bench.network.finish(bench.clients[at].id),
        52..54 => bench.close(at),
        54..56 => bench.network.send(bench.clients[at].id, &[0xff; 30]),
        _ => {}
    }
}

#[test]
fn any_mix_of_ends_leaves_nothing_behind() {
    for seed in 0..SEEDS {
        let run = || std::panic::catch_unwind(|| mayhem(seed));
        let Ok(trace) = run() else {
            panic!("seed {seed} fails")
        };
        if seed % 10 == 0 {
            let Ok(again) = run() else {
                panic!("seed {seed} fails the second time")
            };
            assert!(trace == again, "seed {seed} does not replay");
        }
    }
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
