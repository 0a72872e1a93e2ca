//! The harness of the fuzz target: a shard with an application, a simulated kernel, and clients. The input
//! determines their actions. The tests of the crate `tidewheel` run the same function with the stored corpus
//! and with random bytes.

mod application;
mod bench;
mod client;
mod input;
mod later;
mod record;
mod task;

pub use application::{Behavior, CANCEL_TIMERS, SET_TIMERS, START_TASKS};
pub use input::{Action, Connect, offset};
pub use later::Step;
pub use task::Course;

use bench::Bench;
use input::{Ending, Script};
use record::RequestedPanic;

/// Hides the panics that an input requests from the panic hook, which would end the fuzzer.
pub fn ignore_requested_panics() {
    let previous = std::panic::take_hook();
    std::panic::set_hook(Box::new(move |info| {
        if !info.payload().is::<RequestedPanic>() {
            previous(info);
        }
    }));
}

/// Counts of a run, by which a test checks that an input had an effect.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub struct Outcome {
    /// Number of connections that were opened.
    pub connections: usize,
    /// Number of echoes that clients received.
    pub echoes: usize,
    /// Number of deliveries of published messages to subscribers.
    pub deliveries: u64,
    /// Number of dropped messages that `gap` reported.
    pub missed: u64,
    /// Number of closures that were called after a task.
    pub tasks: usize,
    /// Number of timers that expired.
    pub timers: usize,
    /// Number of closures of other threads that were called.
    pub calls: usize,
    /// Number of complete HTTP responses.
    pub responses: usize,
}

/// Runs a shard with the actions of an input.
///
/// # Panics
/// If one of these invariants is violated:
///
/// - Neither the shard nor the simulation panics. The handler panics only when an input requests it.
/// - `close` is called once for each `open`, and no other callback or closure follows it, or a panic.
/// - The closures of tasks in order are called in order. A timer is called once, not before its time, at most a tick
///   after it, and not after it was cancelled.
/// - No timer of an open connection is missing. A connection that has as many tasks as it may have is not read. All
///   closures of a client's tasks are called if it only sends messages, and its tasks end.
/// - A closure of another thread is called or dropped. It is not called with a connection that has ended.
/// - The connection of a client that vanishes ends in the time of keepalive and the closing handshake.
/// - A client whose connection waits for a task that never ends stays connected while it answers pings.
/// - The server's output is valid, and echoes are in order. A client that only sends messages within the
///   limits, and reads, gets every echo.
/// - After all clients have ended and every deadline has passed, the shard holds no connection,
///   subscription, timer, task, queued byte, byte to fan out, or receive buffer.
/// - After that, a drain ends at once. Any other drain ends in time.
pub fn shard(bytes: &[u8]) -> Outcome {
    let Script { setup, actions } = Script::read(bytes);
    let ending = setup.ending;
    let mut bench = Bench::new(setup);
    for (client, action) in actions {
        bench.act(client, action);
    }
    match ending {
        Ending::Quiet => bench.end_quietly(),
        Ending::RingFailure => bench.fail_ring(),
    }
}
