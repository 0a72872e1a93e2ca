//! The clients of a test, at their end of the network.

use std::{collections::VecDeque, mem};

use tidewheel_codec::{
    Cause, CloseCode, Connection as Protocol, Disconnect, Endpoint, Event, Role, Time, Transmit,
    handshake::{ClientRequest, Limits, Response, ResponseError},
};

use crate::{
    Outgoing,
    ring::sim::{Arrival, ClientId, Network},
};

/// An HTTP response to a client of a test.
#[derive(Clone, Debug, Eq, PartialEq)]
#[non_exhaustive]
pub struct TestResponse {
    /// The status.
    pub status: u16,
    /// The names and values of the headers, in order.
    pub headers: Vec<(String, String)>,
    /// The body. Bytes that are not UTF-8 are replaced.
    pub body: String,
}

impl TestResponse {
    /// The value of the first header with this name, without case.
    #[must_use]
    pub fn header(&self, name: &str) -> Option<&str> {
        let mut headers = self.headers.iter();
        let found = headers.find(|(it, _)| it.eq_ignore_ascii_case(name));
        found.map(|(_, value)| value.as_str())
    }

    /// Parses a response that has arrived completely; `None` if it is not one.
    fn parse(bytes: &[u8]) -> Option<Self> {
        let text = String::from_utf8_lossy(bytes);
        let (head, body) = text.split_once("\r\n\r\n")?;
        let mut lines = head.split("\r\n");
        let status = lines.next()?.split(' ').nth(1)?.parse().ok()?;
        let headers = lines.filter_map(|line| line.split_once(": "));
        Some(Self {
            status,
            headers: headers
                .map(|(name, value)| (name.to_owned(), value.to_owned()))
                .collect(),
            body: body.to_owned(),
        })
    }
}

/// All clients of a test. They read and answer what reaches them, as long as they are not cut off.
pub(super) struct Clients {
    network: Network,
    endpoint: Endpoint,
    peers: Vec<Peer>,
}

/// A client at its end of the network.
pub(super) struct Peer {
    id: ClientId,
    phase: Phase,
    /// Messages that the test has not taken yet.
    messages: VecDeque<Outgoing<'static>>,
    /// The response, if it did not open a connection.
    response: Option<TestResponse>,
    /// The headers of the response that opened the connection.
    opening: Option<TestResponse>,
    /// The end of the connection.
    end: Option<Disconnect>,
}

enum Phase {
    /// The response has not arrived completely.
    Requested {
        received: Vec<u8>,
        /// The request, if it is for a WebSocket.
        request: Option<ClientRequest<'static>>,
    },
    Open(Protocol),
    /// FIN or RST has arrived.
    Ended,
}

impl Clients {
    pub(super) fn new(network: Network) -> Self {
        let mut config = tidewheel_codec::Config::new(Role::Client);
        config.ping_interval = None;
        config.max_message_size = usize::MAX >> 1;
        config.max_frame_size = config.max_message_size;
        Self {
            network,
            endpoint: Endpoint::with_seed(config, 1).expect("the settings are valid"),
            peers: Vec::new(),
        }
    }

    pub(super) fn network(&self) -> &Network {
        &self.network
    }

    /// The virtual time.
    pub(super) fn now(&self) -> Time {
        self.network.now()
    }

    pub(super) fn nonce(&mut self) -> [u8; 16] {
        self.endpoint.handshake_nonce()
    }

    /// Connects a client, and sends the bytes of its request. `request` is the request, if it is for a WebSocket.
    /// Returns the client's index.
    pub(super) fn connect(
        &mut self,
        bytes: &[u8],
        request: Option<ClientRequest<'static>>,
    ) -> usize {
        let id = self.network.connect();
        self.network.send(id, bytes);
        self.peers.push(Peer {
            id,
            phase: Phase::Requested {
                received: Vec::new(),
                request,
            },
            messages: VecDeque::new(),
            response: None,
            opening: None,
            end: None,
        });
        self.peers.len() - 1
    }

    pub(super) fn peer(&mut self, index: usize) -> &mut Peer {
        &mut self.peers[index]
    }

    /// Reads and answers what has reached the clients.
    pub(super) fn read(&mut self) {
        for id in self.network.take_reached() {
            if let Some(peer) = self.peers.iter_mut().find(|peer| peer.id == id) {
                peer.read(&mut self.endpoint, &self.network);
            }
        }
    }

    /// Sends a message of a client, if its connection is open.
    pub(super) fn say(&mut self, index: usize, message: &Outgoing<'_>) -> bool {
        let (peer, mut out) = (&mut self.peers[index], Vec::new());
        let Phase::Open(protocol) = &mut peer.phase else {
            return false;
        };
        let (opcode, payload) = message.parts();
        let sent = match std::str::from_utf8(payload) {
            Ok(text) if opcode == tidewheel_codec::frame::Opcode::Text => {
                protocol.send_text(&mut self.endpoint, text, &mut out)
            }
            _ => protocol.send_binary(&mut self.endpoint, payload, &mut out),
        };
        self.network.send(peer.id, &out);
        sent.is_ok()
    }

    /// Starts the closing handshake of a client, if its connection is open.
    pub(super) fn close(&mut self, index: usize, code: CloseCode, reason: &str) {
        let (peer, mut out) = (&mut self.peers[index], Vec::new());
        if let Phase::Open(protocol) = &mut peer.phase {
            let (cause, now) = (Cause::LocalClose, self.network.now());
            let started = protocol.start_closing_handshake(
                &mut self.endpoint,
                code,
                reason,
                cause,
                &mut out,
                now,
            );
            started.unwrap_or_else(|error| panic!("a client cannot close with {code:?}: {error}"));
            self.network.send(peer.id, &out);
        }
    }

    /// Drops everything between a client and the server from now on.
    pub(super) fn cut(&mut self, index: usize) {
        self.network.vanish(self.peers[index].id);
    }

    /// Resets the connection of a client.
    pub(super) fn reset(&mut self, index: usize) {
        let peer = &mut self.peers[index];
        self.network.reset(peer.id);
        peer.phase = Phase::Ended;
    }
}

impl Peer {
    /// Whether the client has answered the request with an open connection.
    pub(super) fn opening(&self) -> Option<&TestResponse> {
        self.opening.as_ref()
    }

    /// Takes the response that did not open a connection.
    pub(super) fn take_response(&mut self) -> Option<TestResponse> {
        self.response.take()
    }

    /// Takes the next message.
    pub(super) fn take_message(&mut self) -> Option<Outgoing<'static>> {
        self.messages.pop_front()
    }

    /// The end of the connection. `None` while it is open.
    pub(super) fn end(&self) -> Option<&Disconnect> {
        self.end.as_ref()
    }

    fn read(&mut self, endpoint: &mut Endpoint, network: &Network) {
        while let Some(arrival) = network.read(self.id) {
            let now = network.now();
            match (arrival, &mut self.phase) {
                (_, Phase::Ended) => return,
                (Arrival::Bytes(bytes), _) => self.read_bytes(bytes, endpoint, network),
                (Arrival::Finish, Phase::Open(protocol)) => {
                    protocol.receive_eof(now);
                    self.finish(network);
                }
                (Arrival::Finish, Phase::Requested { received, .. }) => {
                    self.response = TestResponse::parse(received);
                    self.finish(network);
                }
                (Arrival::Reset, Phase::Open(protocol)) => {
                    protocol.receive_reset(now);
                    self.note_end();
                }
                (Arrival::Reset, Phase::Requested { .. }) => self.phase = Phase::Ended,
            }
        }
    }

    fn finish(&mut self, network: &Network) {
        self.note_end();
        network.finish(self.id);
    }

    fn note_end(&mut self) {
        if let Phase::Open(mut protocol) = mem::replace(&mut self.phase, Phase::Ended) {
            self.end = self.end.take().or_else(|| protocol.poll_disconnect());
        }
    }

    fn read_bytes(&mut self, mut bytes: Vec<u8>, endpoint: &mut Endpoint, network: &Network) {
        let now = network.now();
        if let Phase::Requested { received, request } = &mut self.phase {
            received.extend_from_slice(&bytes);
            let Some(request) = request else {
                return;
            };
            let size = match Response::parse(received, &Limits::default(), request) {
                Ok(Some((_, size))) => size,
                // Of a refusal, the body follows.
                Ok(None) | Err(ResponseError::Status { .. }) => return,
                Err(error) => panic!("the server accepts a connection wrongly: {error}"),
            };
            bytes = received.split_off(size);
            self.opening = TestResponse::parse(received);
            self.phase = Phase::Open(Protocol::new(now, 0));
        }
        let Phase::Open(protocol) = &mut self.phase else {
            return;
        };
        let mut out = Vec::new();
        let mut input = protocol.receive(&mut bytes, now);
        while let Some(event) = protocol.poll_event(endpoint, &mut input, &mut out) {
            match event {
                Event::Message(message) => self.messages.push_back(match message.as_text() {
                    Some(text) => text.to_owned().into(),
                    None => message.payload().to_vec().into(),
                }),
                Event::Ping(_) | Event::Pong(_) => {}
            }
        }
        network.send(self.id, &out);
        if self.end.is_none() {
            self.end = protocol.poll_disconnect();
        }
        match protocol.poll_transmit() {
            Transmit::Nothing | Transmit::Finish | Transmit::Release => {}
            Transmit::Reset => network.reset(self.id),
        }
    }
}
