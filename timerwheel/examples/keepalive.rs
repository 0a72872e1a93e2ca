//! Keepalive for a million connections, in virtual time: `cargo run --release --example keepalive`.
//!
//! A connection that nothing was heard of for 20 s is sent a ping, and is given up 20 s after that. Every one is heard
//! of each 2 s or so, but for one in a thousand, which has gone silent.

use tidewheel_timerwheel::{Tick, Timer, Timers, Wheel};

const CONNECTIONS: u32 = 1_000_000;
const SILENT_EACH: u32 = 1000;

/// What is advanced in one go before I/O has its turn again.
const BUDGET: usize = 8192;

const TICK_MS: u32 = 16;
const PING_INTERVAL: u32 = 20_000_u32.div_ceil(TICK_MS);
const PING_TIMEOUT: u32 = 20_000_u32.div_ceil(TICK_MS);
const HEARD_EACH: u32 = 2_000 / TICK_MS;
const MINUTE: u32 = 60_000 / TICK_MS;

#[derive(Default)]
struct Connection {
    timer: Timer,
    state: State,
}

#[derive(Default)]
enum State {
    #[default]
    Open,
    /// A ping is out; the connection is given up at its deadline.
    Pinged,
    Gone,
}

struct Server {
    connections: Vec<Connection>,
    pings: usize,
    gone: usize,
}

impl Server {
    /// Something arrived: the deadline moves, which is one store.
    fn heard(&mut self, wheel: &mut Wheel, id: u32) {
        let connection = &mut self.connections[id as usize];
        connection.state = State::Open;
        wheel.set(
            id,
            &mut connection.timer,
            wheel.now().wrapping_add(1 + PING_INTERVAL),
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
                    wheel.now().wrapping_add(1 + PING_TIMEOUT),
                );
            }
            State::Pinged => {
                connection.state = State::Gone;
                self.gone += 1;
            }
            State::Gone => unreachable!("what is gone has no deadline"),
        }
    }
}

fn main() {
    let mut wheel = Wheel::new(Tick::new(0));
    let mut server = Server {
        connections: (0..CONNECTIONS).map(|_| Connection::default()).collect(),
        pings: 0,
        gone: 0,
    };
    let (mut moved, mut steps) = (0_u64, 0_u64);
    for tick in 0..MINUTE {
        let from = tick % HEARD_EACH;
        for id in (from..CONNECTIONS).step_by(HEARD_EACH as usize) {
            // The silent ones are heard of once, when they connect.
            if tick < HEARD_EACH || id % SILENT_EACH != 0 {
                server.heard(&mut wheel, id);
                moved += 1;
            }
        }
        steps += 1;
        while !wheel.advance(Tick::new(tick), BUDGET, &mut server) {
            steps += 1;
        }
    }
    println!(
        "{CONNECTIONS} connections for a minute: {moved} deadlines set or moved, {} pings, {} connections given up,\n\
         {:.1} bytes a connection beside its record, {steps} steps of at most {BUDGET} entries",
        server.pings,
        server.gone,
        wheel.memory() as f64 / f64::from(CONNECTIONS),
    );
    assert_eq!(server.gone, (CONNECTIONS / SILENT_EACH) as usize);
    assert_eq!(server.pings, server.gone);
}
