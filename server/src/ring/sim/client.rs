//! The clients' side of the network, for a test to play.

use std::{cell::RefCell, collections::VecDeque, rc::Rc};

use tidewheel_codec::Time;

use super::{
    Event, What,
    kernel::{Due, Kernel, Segment},
};

/// Which client.
#[derive(Clone, Copy, Debug, Eq, PartialEq, Hash)]
pub struct ClientId(pub usize);

/// A client's end of its connection.
#[derive(Debug, Default)]
pub(super) struct Client {
    /// The server's end, once it is accepted.
    pub(super) socket: Option<u32>,
    /// The server's end is closed.
    pub(super) gone: bool,
    /// It was accepted into a full table, and dropped.
    pub(super) dropped: bool,
    /// What reached the server's kernel before the connection was accepted.
    pub(super) early: VecDeque<Segment>,
    inbox: VecDeque<Arrival>,
    /// Nothing passes any more, in either direction.
    vanished: bool,
    to_server_ms: u64,
    to_client_ms: u64,
}

/// What has reached a client.
#[derive(Clone, Debug, Eq, PartialEq)]
pub enum Arrival {
    /// Bytes.
    Bytes(Vec<u8>),
    /// The server's FIN.
    Finish,
    /// The server's RST.
    Reset,
}

/// The network, and the clients on it.
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
        self.kernel.borrow_mut().alarm_ms = Some(time.as_millis());
    }

    /// From now on an operation takes so long: [`Simulation::operation_ms`](super::Simulation).
    pub fn take_for_each_operation(&self, millis: u64) {
        self.kernel.borrow_mut().simulation.operation_ms = millis;
    }

    /// A new client connects.
    #[must_use]
    pub fn connect(&self) -> ClientId {
        let mut kernel = self.kernel.borrow_mut();
        let client = ClientId(kernel.clients.len());
        kernel.clients.push(Client::default());
        kernel.note(What::Client {
            client,
            act: "connect",
            bytes: 0,
        });
        let at_ms = kernel.arrival_ms(0);
        kernel.clients[client.0].to_server_ms = at_ms;
        let place = kernel.random.u64(..) >> 1;
        kernel.schedule(at_ms, place, Due::Connect(client));
        client
    }

    /// A client sends bytes.
    pub fn send(&self, client: ClientId, bytes: &[u8]) {
        if !bytes.is_empty() {
            self.kernel.borrow_mut().carry_to_server(
                client,
                "send",
                Segment::Bytes(bytes.to_vec()),
            );
        }
    }

    /// A client shuts down its sending direction.
    pub fn finish(&self, client: ClientId) {
        self.kernel
            .borrow_mut()
            .carry_to_server(client, "finish", Segment::Finish);
    }

    /// A client resets its connection.
    pub fn reset(&self, client: ClientId) {
        self.kernel
            .borrow_mut()
            .carry_to_server(client, "reset", Segment::Reset);
    }

    /// A client's network is cut: nothing passes any more, and nobody is told.
    pub fn vanish(&self, client: ClientId) {
        let mut kernel = self.kernel.borrow_mut();
        kernel.note(What::Client {
            client,
            act: "vanish",
            bytes: 0,
        });
        kernel.clients[client.0].vanished = true;
    }

    /// A client reads the next thing that has reached it, which makes room for more.
    #[must_use]
    pub fn read(&self, client: ClientId) -> Option<Arrival> {
        let mut kernel = self.kernel.borrow_mut();
        let arrival = kernel.clients[client.0].inbox.pop_front()?;
        if let (Arrival::Bytes(bytes), Some(index)) = (&arrival, kernel.clients[client.0].socket) {
            let now_ms = kernel.now().as_millis();
            let socket = kernel.socket(index);
            socket.unread -= bytes.len();
            socket.read_ms = now_ms;
            kernel.wake_writer(index);
        }
        Some(arrival)
    }

    /// Clients that something has reached since this was last asked, some of them repeatedly.
    #[must_use]
    pub fn reached(&self) -> Vec<ClientId> {
        self.kernel.borrow_mut().take_arrived()
    }

    /// Direct descriptors in use.
    #[must_use]
    pub fn open_sockets(&self) -> usize {
        self.kernel.borrow().open_sockets()
    }

    /// Receive buffers that the kernel holds.
    #[must_use]
    pub fn buffers_free(&self) -> usize {
        self.kernel.borrow().buffers_free()
    }

    /// Completions that did not fit into their queue.
    #[must_use]
    pub fn overflowed(&self) -> u64 {
        self.kernel.borrow().overflowed()
    }

    /// Whether the completion queue is empty, whatever the kernel keeps beside it.
    #[must_use]
    pub fn queue_is_empty(&self) -> bool {
        self.kernel.borrow().queue_is_empty()
    }

    /// Clients that were accepted into a full table, and so dropped.
    #[must_use]
    pub fn dropped_clients(&self) -> usize {
        self.kernel
            .borrow()
            .clients
            .iter()
            .filter(|client| client.dropped)
            .count()
    }

    /// Everything that has happened.
    #[must_use]
    pub fn trace(&self) -> Vec<Event> {
        self.kernel.borrow().trace.clone()
    }
}

impl Kernel {
    fn carry_to_server(&mut self, client: ClientId, act: &'static str, segment: Segment) {
        let bytes = match &segment {
            Segment::Bytes(bytes) => bytes.len(),
            Segment::Finish | Segment::Reset => 0,
        };
        self.note(What::Client { client, act, bytes });
        if self.clients[client.0].vanished {
            return;
        }
        // Segments of one connection keep their order: each has a time of its own.
        let at_ms = self.arrival_ms(self.clients[client.0].to_server_ms) + 1;
        let place = self.random.u64(..) >> 1;
        self.clients[client.0].to_server_ms = at_ms;
        self.schedule(at_ms, place, Due::ToServer(client, segment));
    }

    pub(super) fn carry_to_client(&mut self, client: ClientId, segment: Segment) {
        if self.clients[client.0].vanished {
            return;
        }
        let at_ms = self.arrival_ms(self.clients[client.0].to_client_ms) + 1;
        self.clients[client.0].to_client_ms = at_ms;
        let place = self.random.u64(..) >> 1;
        self.schedule(at_ms, place, Due::ToClient(client, segment));
    }

    pub(super) fn reach_client(&mut self, client: ClientId, segment: Segment) {
        if self.clients[client.0].vanished {
            return;
        }
        let (arrival, what, bytes) = match segment {
            Segment::Bytes(bytes) => {
                let length = bytes.len();
                (Arrival::Bytes(bytes), "bytes", length)
            }
            Segment::Finish => (Arrival::Finish, "finish", 0),
            Segment::Reset => (Arrival::Reset, "reset", 0),
        };
        self.note(What::Arrived {
            client,
            what,
            bytes,
        });
        self.clients[client.0].inbox.push_back(arrival);
        self.arrived.push(client);
    }
}
