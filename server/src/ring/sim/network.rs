//! A test's control of the clients.

use std::{cell::RefCell, rc::Rc};

use tidewheel_codec::Time;

use super::{
    client::{Arrival, ClientId, Segment},
    kernel::Kernel,
    trace::Event,
};

/// The simulated network, by which a test controls the clients.
#[derive(Clone, Debug)]
pub struct Network {
    kernel: Rc<RefCell<Kernel>>,
}

impl Network {
    pub(super) fn new(kernel: Rc<RefCell<Kernel>>) -> Self {
        Self { kernel }
    }

    /// The virtual time.
    #[must_use]
    pub fn now(&self) -> Time {
        self.kernel.borrow().now()
    }

    /// Makes [`enter`](super::super::Ring::enter) return at `time`, so that the test can act.
    pub fn wake_at(&self, time: Time) {
        self.kernel.borrow_mut().set_alarm(time);
    }

    /// Sets [`Simulation::operation_ms`](super::Simulation::operation_ms).
    pub fn set_operation_ms(&self, operation_ms: u64) {
        self.kernel.borrow_mut().set_operation_ms(operation_ms);
    }

    /// Connects a new client.
    #[must_use]
    pub fn connect(&self) -> ClientId {
        self.kernel.borrow_mut().connect_client()
    }

    /// Sends bytes from a client.
    pub fn send(&self, client: ClientId, bytes: &[u8]) {
        if !bytes.is_empty() {
            let segment = Segment::Bytes(bytes.to_vec());
            self.kernel
                .borrow_mut()
                .send_to_server(client, "send", segment);
        }
    }

    /// Shuts down a client's sending direction.
    pub fn finish(&self, client: ClientId) {
        self.kernel
            .borrow_mut()
            .send_to_server(client, "finish", Segment::Finish);
    }

    /// Resets a client's connection.
    pub fn reset(&self, client: ClientId) {
        self.kernel
            .borrow_mut()
            .send_to_server(client, "reset", Segment::Reset);
    }

    /// Drops all later segments between a client and the server, in both directions, without FIN or RST.
    pub fn vanish(&self, client: ClientId) {
        self.kernel.borrow_mut().vanish(client);
    }

    /// Takes the next segment that has reached a client, which frees room in the server's send buffer.
    #[must_use]
    pub fn read(&self, client: ClientId) -> Option<Arrival> {
        self.kernel.borrow_mut().read(client)
    }

    /// Takes the list of clients that segments have reached since the last call, one entry for each segment.
    #[must_use]
    pub fn take_reached(&self) -> Vec<ClientId> {
        self.kernel.borrow_mut().take_reached()
    }

    /// The number of direct descriptors in use.
    #[must_use]
    pub fn open_sockets(&self) -> usize {
        self.kernel.borrow().open_sockets()
    }

    /// The number of receive buffers without an owner.
    #[must_use]
    pub fn buffers_free(&self) -> usize {
        self.kernel.borrow().buffers_free()
    }

    /// The number of completions that did not fit into their queue.
    #[must_use]
    pub fn overflowed(&self) -> u64 {
        self.kernel.borrow().overflowed()
    }

    /// Whether the completion queue is empty, regardless of completions that did not fit.
    #[must_use]
    pub fn queue_is_empty(&self) -> bool {
        self.kernel.borrow().queue_is_empty()
    }

    /// The number of clients that were dropped because the descriptor table was full.
    #[must_use]
    pub fn dropped_clients(&self) -> usize {
        self.kernel.borrow().dropped_clients()
    }

    /// All events so far.
    #[must_use]
    pub fn trace(&self) -> Vec<Event> {
        self.kernel.borrow().trace()
    }
}
