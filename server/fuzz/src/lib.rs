//! The harness of the fuzz target: a whole shard with an application, a simulated kernel, and clients
//! that do whatever the bytes say. The crate's tests run the same function over the stored corpus
//! and over random bytes.

mod application;
mod bench;
mod client;
mod input;

pub use application::Habit;
pub use input::{Act, Connect, place};

use application::Requested;
use bench::Bench;
use input::{Ending, Script};

/// Keeps panics that an input has asked the handler for from the panic hook, which ends a fuzzer.
pub fn ignore_requested_panics() {
    let previous = std::panic::take_hook();
    std::panic::set_hook(Box::new(move |info| {
        if !info.payload().is::<Requested>() {
            previous(info);
        }
    }));
}

/// Counts of a run, by which a test sees that something has happened.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub struct Outcome {
    /// Connections that were opened.
    pub connections: usize,
    /// Messages that were echoed to their clients.
    pub echoes: usize,
    /// How often a published message was put behind what waits for a subscriber.
    pub deliveries: u64,
    /// Messages that the handler was told of as dropped.
    pub missed: u64,
}

/// Runs a shard as the bytes say.
///
/// # Panics
/// If something does not hold that must hold of every run:
///
/// - Neither the shard nor the simulation panics; of the handler's panics only those that were
///   asked for reach the shard.
/// - `close` is called once for each `open`.
/// - What the server sends is valid, and echoes come in order. A client that did nothing else than
///   send messages within the limits, and read, gets all of them.
/// - When all clients are gone and every deadline has passed, the shard holds no connection, no
///   subscription, no timer, no queued byte, no byte to fan out, and no receive buffer.
/// - Then it drains at once. A drain ends in time, whatever the clients do.
pub fn shard(bytes: &[u8]) -> Outcome {
    let Script { setup, acts } = Script::read(bytes);
    let ending = setup.ending;
    let mut bench = Bench::new(setup);
    for (client, act) in acts {
        bench.act(client, act);
    }
    match ending {
        Ending::Quiet => bench.end_quietly(),
        Ending::RingFailure => bench.fail_ring(),
    }
}
