//! A completion queue that is too small for what completes at once.

use std::{
    io,
    net::IpAddr,
    sync::atomic::{AtomicUsize, Ordering},
    time::Duration,
};

use bytes::BytesMut;
use tidewheel::ring::{
    Completion, Op, OpCode, Ring, Taken, Token, Wait, Waker,
    sim::{Event, Faults, Network, SimRing, Simulation, What},
};

use super::{
    bench::{Bench, SECOND, config, each_seed},
    close_storm::nothing_is_left,
    faults,
};

const SEEDS: u64 = 200;

/// Completions of these operations that did not fit, so that the operation, multishot, ended.
fn ended_by_overflow(trace: &[Event], op: OpCode) -> usize {
    let cut = trace.windows(2).filter(|pair| {
        let [before, after] = pair else {
            unreachable!("windows of two")
        };
        let what_ended = match after.what {
            What::Completed { op, result, .. } if result > 0 => Some(op),
            _ => None,
        };
        before.what == What::Overflowed && what_ended == Some(op)
    });
    cut.count()
}

#[test]
fn any_mix_of_ends_leaves_nothing_behind_where_completions_overflow() {
    let receives_ended = AtomicUsize::new(0);
    each_seed(SEEDS, |seed| {
        let simulation = Simulation {
            completions: 1 + seed as usize % 4,
            ..faults::simulation(seed)
        };
        let run = || std::panic::catch_unwind(|| faults::mayhem(simulation));
        let Ok((trace, _)) = run() else {
            panic!("seed {seed} fails")
        };
        let overflowed = |event: &&Event| event.what == What::Overflowed;
        let overflowed = trace.iter().filter(overflowed).count();
        assert!(overflowed > 100, "seed {seed}: {overflowed} completions");
        let ended = ended_by_overflow(&trace, OpCode::Receive);
        receives_ended.fetch_add(ended, Ordering::Relaxed);
    });
    assert!(receives_ended.into_inner() > 1000, "receives end by it");
}

#[test]
fn a_multishot_accept_that_overflow_ends_goes_on() {
    const CLIENTS: usize = 1000;
    let simulation = Simulation {
        // So many that there is ample room for all that come.
        sockets: 10_000,
        buffers: 1024,
        completions: 8,
        faults: Faults::NONE,
        ..Simulation::default()
    };
    let mut bench = Bench::new(simulation, &config());
    for _ in 0..CLIENTS {
        bench.connect();
    }
    bench.run_for(Duration::from_millis(100));
    assert!((0..CLIENTS).all(|at| bench.is_open(at)), "all are open");
    let ended = ended_by_overflow(&bench.network.trace(), OpCode::Accept);
    assert!(ended > 10, "it ended {ended} times");
    assert!(bench.network.overflowed() > ended as u64);
    for at in 0..CLIENTS {
        bench.close(at);
    }
    bench.run_for(SECOND);
    assert_eq!(bench.shard.connections(), 0);
    nothing_is_left(&mut bench);
}

/// A ring that has nothing more to tell as soon as its completion queue is empty, though the kernel
/// has.
struct Forgetful {
    ring: SimRing,
    network: Network,
}

// SAFETY: it does not keep the promise about `reap`, which does no harm here: the simulation reads what is
// lent in `enter` alone.
unsafe impl Ring for Forgetful {
    fn push(&mut self, op: Op, token: Token) {
        self.ring.push(op, token);
    }

    fn enter(&mut self, wait: Wait) -> io::Result<()> {
        self.ring.enter(wait)
    }

    fn reap(&mut self) -> Option<Completion> {
        if self.network.queue_is_empty() {
            return None;
        }
        self.ring.reap()
    }

    fn take_filled(&mut self, fill: Token) -> BytesMut {
        self.ring.take_filled(fill)
    }

    fn buffers_free(&self) -> usize {
        self.ring.buffers_free()
    }

    fn stop_listening(&mut self) {
        self.ring.stop_listening();
    }

    fn peer(&self, accept: Token) -> Option<IpAddr> {
        self.ring.peer(accept)
    }

    fn taken(&self, quiet: Token) -> Option<Taken> {
        self.ring.taken(quiet)
    }

    fn waker(&self) -> Waker {
        self.ring.waker()
    }
}

/// Its shard takes a send for whole that was short.
#[test]
#[should_panic(expected = "a send has a queue")]
fn a_ring_that_leaves_what_overflowed_with_the_kernel_is_found_out() {
    let simulation = Simulation {
        completions: 1,
        send_buffer: 1000,
        faults: Faults::NONE,
        ..Simulation::default()
    };
    let wrap = |ring: SimRing| Forgetful {
        network: ring.network(),
        ring,
    };
    let mut bench = Bench::with_ring(simulation, &config(), wrap);
    for _ in 0..10 {
        bench.connect();
    }
    bench.run_for(SECOND / 10);
    for at in 0..10 {
        bench.say(at, &[7; 3000]);
    }
    bench.run_for(SECOND);
}
