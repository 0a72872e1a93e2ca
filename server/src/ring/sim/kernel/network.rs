//! Carrying segments between clients and sockets.

use super::{
    super::{
        client::{Arrival, Client, ClientId, Segment},
        socket::PeerState,
        trace::EventKind,
    },
    Kernel, Scheduled,
};

impl Kernel {
    /// Connects a new client.
    pub(in crate::ring::sim) fn connect_client(&mut self) -> ClientId {
        let client = ClientId(self.clients.len());
        self.clients.push(Client::default());
        self.record_action(client, "connect", 0);
        let at_ms = self.arrival_ms(0);
        self.clients[client.0].to_server_ms = at_ms;
        let order = self.random_order();
        self.events
            .schedule(at_ms, order, Scheduled::Connect(client));
        client
    }

    /// Drops all later segments of a client, in both directions.
    pub(in crate::ring::sim) fn vanish(&mut self, client: ClientId) {
        self.record_action(client, "vanish", 0);
        self.clients[client.0].has_vanished = true;
    }

    /// Takes the next segment that has reached a client, and frees room in the server's send buffer.
    pub(in crate::ring::sim) fn read(&mut self, client: ClientId) -> Option<Arrival> {
        let arrival = self.clients[client.0].inbox.pop_front()?;
        if let (Arrival::Bytes(bytes), Some(index)) = (&arrival, self.clients[client.0].socket) {
            let now_ms = self.now_ms;
            let socket = self.socket(index);
            socket.unread -= bytes.len();
            socket.read_ms = now_ms;
            self.wake_writer(index);
        }
        Some(arrival)
    }

    /// Sends a client's segment; the trace records it as `action`.
    pub(in crate::ring::sim) fn send_to_server(
        &mut self,
        client: ClientId,
        action: &'static str,
        segment: Segment,
    ) {
        let bytes = match &segment {
            Segment::Bytes(bytes) => bytes.len(),
            Segment::Finish | Segment::Reset => 0,
        };
        self.record_action(client, action, bytes);
        if self.clients[client.0].has_vanished {
            return;
        }
        // Segments of one connection keep their order, because no two arrive at the same time.
        let at_ms = self.arrival_ms(self.clients[client.0].to_server_ms) + 1;
        let order = self.random_order();
        self.clients[client.0].to_server_ms = at_ms;
        self.events
            .schedule(at_ms, order, Scheduled::ToServer(client, segment));
    }

    /// Sends a segment of the server.
    pub(super) fn send_to_client(&mut self, client: ClientId, segment: Segment) {
        if self.clients[client.0].has_vanished {
            return;
        }
        let at_ms = self.arrival_ms(self.clients[client.0].to_client_ms) + 1;
        self.clients[client.0].to_client_ms = at_ms;
        let order = self.random_order();
        self.events
            .schedule(at_ms, order, Scheduled::ToClient(client, segment));
    }

    /// A segment reaches the server.
    pub(super) fn arrive_at_server(&mut self, client: ClientId, segment: Segment) {
        let Some(index) = self.clients[client.0].socket else {
            if !self.clients[client.0].is_closed {
                // The connection is in the backlog.
                self.clients[client.0].early.push_back(segment);
            }
            return;
        };
        let now_ms = self.now_ms;
        let socket = self.socket(index);
        match segment {
            Segment::Bytes(bytes) => {
                socket.heard_ms = now_ms;
                socket.inbound.extend(bytes);
            }
            Segment::Finish => socket.peer = PeerState::Finished,
            Segment::Reset => {
                socket.peer = PeerState::Reset;
                socket.inbound.clear();
            }
        }
        self.complete_receives(index);
        self.wake_writer(index);
    }

    /// A segment reaches a client.
    pub(super) fn arrive_at_client(&mut self, client: ClientId, segment: Segment) {
        if self.clients[client.0].has_vanished {
            return;
        }
        let (arrival, segment, bytes) = match segment {
            Segment::Bytes(bytes) => {
                let length = bytes.len();
                (Arrival::Bytes(bytes), "bytes", length)
            }
            Segment::Finish => (Arrival::Finish, "finish", 0),
            Segment::Reset => (Arrival::Reset, "reset", 0),
        };
        self.record(EventKind::Arrived {
            client,
            segment,
            bytes,
        });
        self.clients[client.0].inbox.push_back(arrival);
        self.reached.push(client);
    }

    fn record_action(&mut self, client: ClientId, action: &'static str, bytes: usize) {
        self.record(EventKind::Client {
            client,
            action,
            bytes,
        });
    }

    /// A random arrival time, not before `after_ms`.
    fn arrival_ms(&mut self, after_ms: u64) -> u64 {
        let latency_ms = self.random.u64(0..=self.simulation.latency_ms_max);
        (self.now_ms + latency_ms).max(after_ms)
    }
}
