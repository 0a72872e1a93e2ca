//! A simulated kernel and network, in virtual time and from one seed.
//!
//! [`SimRing`] is what a shard runs on; [`Network`] is where a test plays the clients. Time
//! passes only in [`SimRing::enter`](Ring::enter), from one event to the next, and while it
//! submits, if operations are to take time. The same seed and
//! the same calls give the same run, event for event: [`Network::trace`] tells it.
//!
//! The simulation is stricter than a kernel. It panics when the shard does what would leak or
//! corrupt under a real one: a second receive on a socket, two sends at once, a Close over an
//! armed receive, bytes changed while they are lent. And it is as rude as a kernel may be: sends
//! fall short, receives end for want of buffers or for no reason, completions come late and in
//! another order, or do not fit into their queue.

mod client;
mod crowd;
mod kernel;
mod socket;

use std::{cell::RefCell, io, net::IpAddr, rc::Rc, time::Duration};

use bytes::BytesMut;
use tidewheel_codec::Time;

use self::kernel::Kernel;
pub use self::{
    client::{Arrival, ClientId, Network},
    crowd::{CrowdRing, Population, Tally, Word},
};
use super::{Completion, Op, OpCode, Ring, Taken, Token, Wait, Waker};

/// What a simulation is made of.
#[derive(Clone, Copy, Debug)]
pub struct Simulation {
    /// Decides everything that is left to chance.
    pub seed: u64,
    /// Direct descriptors.
    pub sockets: u32,
    /// Receive buffers.
    pub buffers: u16,
    /// Bytes in each.
    pub buffer_size: u32,
    /// Completion queue entries, one at least. What does not fit is kept by the kernel, which moves
    /// it to the queue when it is entered, and ends the multishot operation that it is of.
    pub completions: usize,
    /// Bytes that a socket takes before its peer has read them.
    pub send_buffer: usize,
    /// A segment takes up to so many milliseconds.
    pub latency_ms_max: u64,
    /// Milliseconds that an operation takes when it is submitted. Others have to wait for it, and
    /// what arrives meanwhile is told of when all have been submitted.
    pub operation_ms: u64,
    /// How often what a kernel may do, but seldom does, is done.
    pub faults: Faults,
}

impl Default for Simulation {
    fn default() -> Self {
        Self {
            seed: 1,
            sockets: 1024,
            buffers: 16,
            buffer_size: 4096,
            completions: 8192,
            send_buffer: 64 * 1024,
            latency_ms_max: 3,
            operation_ms: 0,
            faults: Faults::default(),
        }
    }
}

/// Chances, each from 0 (never) to 1 (always).
#[derive(Clone, Copy, Debug)]
pub struct Faults {
    /// A send takes less than there is room for.
    pub short_send: f64,
    /// A receive ends with `ENOBUFS` though there are buffers.
    pub no_buffers: f64,
    /// A multishot operation ends with a success.
    pub multishot_end: f64,
    /// A completion comes late, by up to two milliseconds.
    pub late: f64,
    /// Received bytes come in smaller pieces than they might.
    pub small_pieces: f64,
    /// The submission queue is full, and is submitted before the shard enters.
    pub full_queue: f64,
}

impl Default for Faults {
    fn default() -> Self {
        Self {
            short_send: 0.05,
            no_buffers: 0.02,
            multishot_end: 0.02,
            late: 0.2,
            small_pieces: 0.1,
            full_queue: 0.01,
        }
    }
}

impl Faults {
    /// A kernel at its best.
    pub const NONE: Self = Self {
        short_send: 0.0,
        no_buffers: 0.0,
        multishot_end: 0.0,
        late: 0.0,
        small_pieces: 0.0,
        full_queue: 0.0,
    };
}

/// One thing that happened, in the order in which it did.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Event {
    /// When, in milliseconds.
    pub at_ms: u64,
    /// What.
    pub what: What,
}

/// What happened.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum What {
    /// The shard submitted an operation.
    Submitted {
        /// Its kind.
        op: OpCode,
        /// Its token.
        token: Token,
    },
    /// An operation completed.
    Completed {
        /// Its kind.
        op: OpCode,
        /// Its token.
        token: Token,
        /// Its result.
        result: i32,
        /// Whether it goes on.
        more: bool,
    },
    /// The completion that comes next did not fit into the queue.
    Overflowed,
    /// A client did something.
    Client {
        /// Which.
        client: ClientId,
        /// `connect`, `send`, `finish`, `reset`, `vanish`.
        act: &'static str,
        /// Bytes, where there are any.
        bytes: usize,
    },
    /// Something reached a client: bytes, FIN or RST.
    Arrived {
        /// Which client.
        client: ClientId,
        /// `bytes`, `finish`, `reset`.
        what: &'static str,
        /// Bytes, where there are any.
        bytes: usize,
    },
}

/// A ring on a simulated kernel.
#[derive(Debug)]
pub struct SimRing {
    kernel: Rc<RefCell<Kernel>>,
    waker: Waker,
}

impl SimRing {
    /// A kernel with nothing open, and its ring.
    ///
    /// # Errors
    /// If there is no memory for buffers, or no eventfd.
    pub fn new(simulation: Simulation) -> io::Result<Self> {
        let kernel = Rc::new(RefCell::new(Kernel::new(simulation)?));
        Ok(Self {
            kernel,
            waker: Waker::new()?,
        })
    }

    /// The network that the ring's sockets are on.
    #[must_use]
    pub fn network(&self) -> Network {
        Network::new(Rc::clone(&self.kernel))
    }

    /// The virtual time.
    #[must_use]
    pub fn now(&self) -> Time {
        self.kernel.borrow().now()
    }
}

// SAFETY: what is lent is copied when it is pushed, and compared when it is sent, in `enter` or before.
// Buffers have one owner, as everywhere.
unsafe impl Ring for SimRing {
    fn push(&mut self, op: Op, token: Token) {
        self.kernel.borrow_mut().push(op, token);
    }

    fn enter(&mut self, wait: Wait) -> io::Result<()> {
        let limit = match wait {
            Wait::No => Some(Duration::ZERO),
            Wait::For(limit) => Some(limit),
            Wait::Forever => None,
        };
        self.kernel.borrow_mut().enter(limit);
        Ok(())
    }

    fn reap(&mut self) -> Option<Completion> {
        self.kernel.borrow_mut().reap()
    }

    fn take_filled(&mut self, fill: Token) -> BytesMut {
        self.kernel.borrow_mut().take_filled(fill)
    }

    fn buffers_free(&self) -> usize {
        self.kernel.borrow().buffers_free()
    }

    fn stop_listening(&mut self) {
        self.kernel.borrow_mut().stop_listening();
    }

    fn peer(&self, accept: Token) -> Option<IpAddr> {
        self.kernel.borrow().peer(accept)
    }

    fn taken(&self, quiet: Token) -> Option<Taken> {
        self.kernel.borrow().taken(quiet)
    }

    fn waker(&self) -> Waker {
        self.waker.clone()
    }
}
