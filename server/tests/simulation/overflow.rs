//! A completion queue that is too small for the completions of an enter.

use std::{
    io,
    net::SocketAddr,
    sync::atomic::{AtomicUsize, Ordering},
    time::Duration,
};

use bytes::BytesMut;
use tidewheel::ring::{
    AckProgress, Completion, Op, OpCode, Ring, Token, Wait, Waker,
    sim::{Event, EventKind, Faults, Network, SimRing, Simulation},
};

use super::{
    bench::{Bench, SECOND, config, each_seed},
    close_storm::assert_nothing_left,
    faults,
};

const SEEDS: u64 = 200;

/// Number of multishot operations of kind `op` that ended because a completion did not fit.
fn ended_by_overflow(trace: &[Event], op: OpCode) -> usize {
    let ended = trace.windows(2).filter(|pair| {
        let [before, after] = pair else {
            unreachable!("each window has two events")
        };
        let ended = match after.kind {
            EventKind::Completed { op, result, .. } if result > 0 => Some(op),
            _ => None,
        };
        before.kind == EventKind::Overflowed && ended == Some(op)
    });
    ended.count()
}

#[test]
fn random_ends_leave_no_resources_when_completions_overflow() {
    let receives_ended = AtomicUsize::new(0);
    each_seed(SEEDS, |seed| {
        let simulation = Simulation {
            completions: 1 + seed as usize % 4,
            ..faults::simulation(seed)
        };
        let run = || std::panic::catch_unwind(|| faults::random_run(simulation));
        let Ok((trace, _)) = run() else {
            panic!("seed {seed} fails")
        };
        let overflowed = |event: &&Event| event.kind == EventKind::Overflowed;
        let overflowed = trace.iter().filter(overflowed).count();
        assert!(overflowed > 100, "seed {seed}: {overflowed} completions");
        let ended = ended_by_overflow(&trace, OpCode::Receive);
        receives_ended.fetch_add(ended, Ordering::Relaxed);
    });
    assert!(receives_ended.into_inner() > 1000, "overflow ends receives");
}

#[test]
fn a_multishot_accept_that_overflow_ended_is_armed_again() {
    const CLIENTS: usize = 1000;
    let simulation = Simulation {
        // More than 8,192 free descriptors, for which a shard uses a multishot accept.
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
    assert!(
        (0..CLIENTS).all(|at| bench.is_open(at)),
        "all connections are open"
    );
    let ended = ended_by_overflow(&bench.network.trace(), OpCode::Accept);
    assert!(ended > 10, "the accept ended {ended} times");
    assert!(bench.network.overflowed() > ended as u64);
    for at in 0..CLIENTS {
        bench.close(at);
    }
    bench.run_for(SECOND);
    assert_eq!(bench.shard.connections(), 0);
    assert_nothing_left(&mut bench);
}

/// A ring whose `reap` returns `None` when the completion queue is empty, although the kernel keeps more
/// completions.
struct WithoutOverflow {
    ring: SimRing,
    network: Network,
}

// SAFETY: it violates the guarantee about `reap`. This is sound here, because the simulation reads lent bytes
// only before `enter` returns.
unsafe impl Ring for WithoutOverflow {
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

    fn peer(&self, accept: Token) -> Option<SocketAddr> {
        self.ring.peer(accept)
    }

    fn ack_progress(&self, query: Token) -> Option<AckProgress> {
        self.ring.ack_progress(query)
    }

    fn waker(&self) -> Waker {
        self.ring.waker()
    }
}

/// The shard treats a short send as complete.
#[test]
#[should_panic(expected = "a send has a queue")]
fn a_ring_that_does_not_return_overflowed_completions_is_detected() {
    let simulation = Simulation {
        completions: 1,
        send_buffer: 1000,
        faults: Faults::NONE,
        ..Simulation::default()
    };
    let wrap = |ring: SimRing| WithoutOverflow {
        network: ring.network(),
        ring,
    };
    let mut bench = Bench::with_ring(simulation, &config(), wrap);
    for _ in 0..10 {
        bench.connect();
    }
    bench.run_for(SECOND / 10);
    for at in 0..10 {
        bench.send(at, &[7; 3000]);
    }
    bench.run_for(SECOND);
}
