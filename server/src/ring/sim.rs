//! A simulated kernel and network, in virtual time.
//!
//! [`SimRing`] is the ring of a shard; a test controls the clients by [`Network`]. Time passes only in
//! [`SimRing::enter`](Ring::enter), from one event to the next, and during submission if
//! [`Simulation::operation_ms`] is set. The same seed and the same calls give the same sequence of events,
//! which [`Network::trace`] returns.
//!
//! The simulation is stricter than a kernel. It panics if a shard does something that would leak or corrupt
//! memory: a second receive on a socket, a Close with an armed receive, a change of lent bytes. It also
//! injects the faults that a kernel may produce ([`Faults`]): short sends, receives that end for want of
//! buffers or without reason, completions that come late, out of order, or do not fit into their queue.

mod client;
mod kernel;
mod network;
mod population;
mod settings;
mod socket;
mod trace;

use std::{cell::RefCell, io, net::SocketAddr, rc::Rc, time::Duration};

use bytes::BytesMut;
use tidewheel_codec::Time;

use self::kernel::Kernel;
pub use self::{
    client::{Arrival, ClientId},
    network::Network,
    population::{ClientCounts, ClientMessage, Population, PopulationRing},
    settings::{Faults, Simulation},
    trace::{Event, EventKind},
};
use super::{AckProgress, Completion, Op, Ring, Token, Wait, Waker};

/// A ring on a simulated kernel.
#[derive(Debug)]
pub struct SimRing {
    kernel: Rc<RefCell<Kernel>>,
    waker: Waker,
}

impl SimRing {
    /// Creates a kernel without connections, and its ring.
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

    /// Returns the network of the ring's sockets.
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

// SAFETY: lent bytes are copied when they are pushed, and compared when they are sent, before `enter`
// returns. Buffers have one owner (`BufferMemory`, `Kernel::take_filled`).
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

    fn peer(&self, accept: Token) -> Option<SocketAddr> {
        self.kernel.borrow().peer(accept)
    }

    fn ack_progress(&self, query: Token) -> Option<AckProgress> {
        self.kernel.borrow().ack_progress(query)
    }

    fn waker(&self) -> Waker {
        self.waker.clone()
    }
}
