//! Timers that an application sets for its connections.

use std::time::Duration;

use tidewheel::{
    CloseCode, Conn, Disconnect, Handler, Message, Request, TimerId, Verdict,
    ring::sim::{Faults, Simulation},
    shard::TICK_MS,
    testing::TestServer,
};

use super::{
    bench::{Bench, SECOND, config, each_seed},
    echo::{CANCEL, PANIC},
};

/// A bench with clients that have opened.
fn bench(seed: u64, clients: usize) -> Bench {
    let simulation = Simulation {
        seed,
        faults: Faults::NONE,
        ..Simulation::default()
    };
    let mut bench = Bench::new(simulation, &config());
    for _ in 0..clients {
        bench.connect();
    }
    bench.run_for(SECOND / 10);
    assert!((0..clients).all(|at| bench.is_open(at)));
    bench
}

#[test]
fn a_timer_expires_not_before_its_delay_and_at_most_a_tick_after_it() {
    each_seed(20, |seed| {
        let mut bench = bench(seed, 10);
        let mut delays = Vec::new();
        for at in 0..10 {
            for number in 0..5_u64 {
                let delay = (seed * 7919 + at as u64 * 1009 + number * 313) % 2500;
                bench.send(at, format!("timer {delay}").as_bytes());
                delays.push(Duration::from_millis(delay));
            }
        }
        let began = bench.network.now();
        bench.run_for(4 * SECOND);
        let timers = std::mem::take(&mut bench.record.borrow_mut().timers);
        // The network delays a message by some milliseconds.
        let latency = Duration::from_millis(50 + TICK_MS);
        let mut took: Vec<_> = timers.iter().map(|(_, time)| time.since(began)).collect();
        took.sort_unstable();
        delays.sort_unstable();
        assert_eq!(took.len(), delays.len());
        for (took, delay) in took.into_iter().zip(delays) {
            assert!(
                took >= delay && took <= delay + latency,
                "{took:?} for {delay:?}"
            );
        }
        assert_eq!(bench.shard.holdings().timers, 0);
    });
}

#[test]
fn the_timers_of_a_connection_are_cancelled_with_it() {
    let mut bench = bench(1, 3);
    for at in 0..3 {
        bench.send(at, b"timer 500");
        bench.send(at, b"timer 60000");
    }
    bench.run_for(SECOND / 10);
    assert_eq!(bench.shard.holdings().timers, 6);
    // One client closes, one connection fails, and one stays.
    bench.close(0);
    bench.send(1, PANIC.as_bytes());
    bench.run_for(SECOND);
    assert_eq!(bench.record.borrow().timers.len(), 1);
    assert_eq!(bench.shard.holdings().timers, 1);
    assert!(bench.is_open(2));
}

#[test]
fn a_timer_of_a_closing_connection_does_not_expire() {
    let mut bench = bench(2, 1);
    bench.send(0, b"timer 300");
    bench.run_for(SECOND / 10);
    bench.clients[0].is_silent = true;
    let id = *bench
        .record
        .borrow()
        .open
        .keys()
        .next()
        .expect("a connection is open");
    bench
        .publisher
        .close(id, CloseCode::NORMAL_CLOSURE, "")
        .unwrap();
    bench.run_for(SECOND / 2);
    assert_eq!(
        bench.record.borrow().ends.len(),
        0,
        "the client has not answered the Close"
    );
    bench.run_for(2 * SECOND);
    assert_eq!(bench.record.borrow().ends.len(), 1);
    assert_eq!(bench.record.borrow().timers, []);
    assert_eq!(bench.shard.holdings().timers, 0);
}

#[test]
fn a_cancelled_timer_does_not_expire() {
    let mut bench = bench(3, 1);
    for message in ["timer 200", "timer 100", "timer 300"] {
        bench.send(0, message.as_bytes());
    }
    bench.send(0, CANCEL.as_bytes());
    bench.run_for(SECOND);
    assert_eq!(bench.record.borrow().timers.len(), 2);
    assert_eq!(bench.shard.holdings().timers, 0);
}

#[test]
fn timers_do_not_delay_pings_and_pings_do_not_delay_timers() {
    let mut bench = bench(4, 1);
    bench.clients[0].is_silent = true;
    // More often than a ping is due. The timers send messages, which count for nothing.
    for number in 1..=40 {
        bench.send(0, format!("timer {}", number * 100).as_bytes());
    }
    let began = bench.network.now();
    bench.run(began + 10 * SECOND, |bench| {
        !bench.record.borrow().ends.is_empty()
    });
    let record = bench.record.borrow();
    let [(_, ended, _)] = record.ends.as_slice() else {
        panic!("the silent connection has not ended");
    };
    let took = ended.since(began);
    assert!(
        took <= Duration::from_millis(2000 + 50 + 2 * TICK_MS),
        "{took:?}"
    );
}

/// A handler that sets a timer, closes, and counts the timers that it could cancel after that.
#[derive(Default)]
struct CancelsLate {
    cancelled: usize,
}

impl Handler for CancelsLate {
    type State = Option<TimerId>;

    fn upgrade(&mut self, _: &Request<'_>) -> Verdict<Option<TimerId>> {
        Verdict::accept(None)
    }

    fn open(&mut self, conn: &mut Conn<'_, Self>) {
        let timer = conn.after(SECOND, |_, _| ()).expect("the first timer");
        *conn.state() = Some(timer);
        let closed = conn.close(CloseCode::NORMAL_CLOSURE, "");
        assert!(closed.is_ok(), "the code may be sent");
        self.cancelled += usize::from(conn.cancel(timer));
    }

    fn message(&mut self, _: &mut Conn<'_, Self>, _: Message<'_>) {}

    fn close(&mut self, conn: &mut Conn<'_, Self>, _: &Disconnect) {
        let timer = conn.state().expect("a timer was set");
        self.cancelled += usize::from(conn.cancel(timer));
    }
}

#[test]
fn a_connection_that_closes_has_no_timer_to_cancel() {
    let server = TestServer::new(|_| Ok(CancelsLate::default()));
    let client = server.connect("/");
    client.expect_close(CloseCode::NORMAL_CLOSURE);
    server.advance(SECOND / 10);
    assert_eq!(server.connections(), 0);
    assert_eq!(server.with_handler(|handler| handler.cancelled), 0);
}
