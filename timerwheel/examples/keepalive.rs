//! The keepalive of a million connections, in virtual time.
//!
//! `cargo run --release -p tidewheel-timerwheel --example keepalive`
//!
//! After 20 s without a byte, a connection gets a ping. After 20 s more, it is closed. Each connection is active every
//! 2 s, except for one in a thousand, which stays silent.

use tidewheel_timerwheel::{Tick, Timer, Timers, Wheel};

const CONNECTIONS: u32 = 1_000_000;
/// One connection in this number is silent.
const SILENT_CONNECTIONS_DIVISOR: u32 = 1000;

/// Entries that one call of `advance` checks at most, so that I/O is not delayed.
const BUDGET_ENTRIES: usize = 8192;

const TICK_MS: u32 = 16;
const PING_INTERVAL_TICKS: u32 = 20_000_u32.div_ceil(TICK_MS);
const PING_TIMEOUT_TICKS: u32 = 20_000_u32.div_ceil(TICK_MS);
const ACTIVITY_INTERVAL_TICKS: u32 = 2_000 / TICK_MS;
const SIMULATION_TICKS: u32 = 60_000 / TICK_MS;

#[derive(Default)]
struct Connection {
    timer: Timer,
    state: State,
}

#[derive(Default)]
enum State {
    #[default]
    Open,
    /// A ping is sent. The connection is closed at its deadline.
    Pinged,
    Closed,
}

struct Server {
    connections: Vec<Connection>,
    pings: usize,
    closed: usize,
}

impl Server {
    /// Handles received bytes: the deadline moves, which is one store.
    fn receive(&mut self, wheel: &mut Wheel, id: u32) {
        let connection = &mut self.connections[id as usize];
        connection.state = State::Open;
        wheel.set(
            id,
            &mut connection.timer,
            wheel.now().wrapping_add(1 + PING_INTERVAL_TICKS),
        );
    }
}

impl Timers for Server {
    fn timer(&mut self, id: u32) -> Option<&mut Timer> {
        self.connections
            .get_mut(id as usize)
            .map(|connection| &mut connection.timer)
    }

    fn expire(&mut self, wheel: &mut Wheel, id: u32) {
        let connection = &mut self.connections[id as usize];
        match connection.state {
            State::Open => {
                connection.state = State::Pinged;
                self.pings += 1;
                wheel.set(
                    id,
                    &mut connection.timer,
                    wheel.now().wrapping_add(1 + PING_TIMEOUT_TICKS),
                );
            }
            State::Pinged => {
                connection.state = State::Closed;
                self.closed += 1;
            }
            State::Closed => unreachable!("a closed connection has no deadline"),
        }
    }
}

fn main() {
    let mut wheel = Wheel::new(Tick::new(0));
    let mut server = Server {
        connections: (0..CONNECTIONS).map(|_| Connection::default()).collect(),
        pings: 0,
        closed: 0,
    };
    let (mut moved, mut steps) = (0_u64, 0_u64);
    for tick in 0..SIMULATION_TICKS {
        let from = tick % ACTIVITY_INTERVAL_TICKS;
        for id in (from..CONNECTIONS).step_by(ACTIVITY_INTERVAL_TICKS as usize) {
            // A silent connection sends bytes once, at its beginning.
            if tick < ACTIVITY_INTERVAL_TICKS || id % SILENT_CONNECTIONS_DIVISOR != 0 {
                server.receive(&mut wheel, id);
                moved += 1;
            }
        }
        steps += 1;
        while !wheel.advance(Tick::new(tick), BUDGET_ENTRIES, &mut server) {
            steps += 1;
        }
    }
    println!(
        "{CONNECTIONS} connections for a minute: {moved} deadlines set or moved, {} pings, {} connections closed,\n\
         {:.1} bytes a connection beside its record, {steps} steps of at most {BUDGET_ENTRIES} entries",
        server.pings,
        server.closed,
        wheel.memory() as f64 / f64::from(CONNECTIONS),
    );
    assert_eq!(
        server.closed,
        (CONNECTIONS / SILENT_CONNECTIONS_DIVISOR) as usize
    );
    assert_eq!(server.pings, server.closed);
}
