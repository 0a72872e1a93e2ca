//! A client of the simulations.

use tidewheel::{
    Disconnect, Time,
    ring::sim::{Arrival, ClientId, Network},
};
use tidewheel_codec::{
    Connection as Protocol, Endpoint, Event, Transmit,
    handshake::{ClientRequest, Limits, Response, ResponseError},
};

/// The state of a client.
#[derive(Debug)]
enum Phase {
    Handshake {
        head: Vec<u8>,
        request: ClientRequest<'static>,
    },
    Open(Protocol),
    /// The server has answered with 503; its FIN follows.
    Refused,
    /// FIN or RST has arrived.
    Ended,
}

/// A simulated client. It reads and answers everything unless it is silent.
#[derive(Debug)]
pub(crate) struct Client {
    pub(crate) id: ClientId,
    phase: Phase,
    /// Decodes the echoes, also after the client's Close. The protocol in `phase` drops messages after it has
    /// sent Close; this one never sends.
    reader: Protocol,
    /// Whether the client neither reads nor answers.
    pub(crate) is_silent: bool,
    /// Time when the client last sent bytes.
    pub(crate) last_sent: Time,
    pub(crate) end: Option<Disconnect>,
    pub(crate) has_received_fin: bool,
    pub(crate) has_received_rst: bool,
    pub(crate) echoes: Vec<Vec<u8>>,
}

impl Client {
    /// Connects a client, which sends its request; the path is its index.
    pub(crate) fn connect(index: usize, endpoint: &mut Endpoint, network: &Network) -> Self {
        let id = network.connect();
        let nonce = endpoint.handshake_nonce();
        let request = ClientRequest::new("sim", format!("/{index}"), nonce);
        let mut bytes = Vec::new();
        request.write(&mut bytes);
        network.send(id, &bytes);
        let now = network.now();
        Self {
            id,
            phase: Phase::Handshake {
                head: Vec::new(),
                request,
            },
            reader: Protocol::new(now, 0),
            is_silent: false,
            last_sent: now,
            end: None,
            has_received_fin: false,
            has_received_rst: false,
            echoes: Vec::new(),
        }
    }

    pub(crate) fn is_open(&self) -> bool {
        matches!(&self.phase, Phase::Open(protocol) if protocol.is_open())
    }

    /// The client's protocol, from the handshake until FIN or RST arrives.
    pub(crate) fn protocol(&mut self) -> Option<&mut Protocol> {
        match &mut self.phase {
            Phase::Open(protocol) => Some(protocol),
            Phase::Handshake { .. } | Phase::Refused | Phase::Ended => None,
        }
    }

    /// Reads and answers all segments that have arrived, unless the client is silent.
    pub(crate) fn read(&mut self, endpoint: &mut Endpoint, network: &Network, now: Time) {
        if self.is_silent || matches!(self.phase, Phase::Ended) {
            return;
        }
        while let Some(arrival) = network.read(self.id) {
            match arrival {
                Arrival::Bytes(bytes) => self.read_bytes(bytes, endpoint, network, now),
                Arrival::Finish => {
                    self.has_received_fin = true;
                    self.end_by(|protocol| protocol.receive_eof(now));
                    network.finish(self.id);
                    return;
                }
                Arrival::Reset => {
                    self.has_received_rst = true;
                    self.end_by(|protocol| protocol.receive_reset(now));
                    return;
                }
            }
        }
    }

    /// Passes the end of the connection to the protocol, and keeps the first report.
    fn end_by(&mut self, receive: impl FnOnce(&mut Protocol)) {
        if let Phase::Open(protocol) = &mut self.phase {
            receive(protocol);
            self.end = self.end.take().or_else(|| protocol.poll_disconnect());
        }
        self.phase = Phase::Ended;
    }

    fn read_bytes(
        &mut self,
        mut bytes: Vec<u8>,
        endpoint: &mut Endpoint,
        network: &Network,
        now: Time,
    ) {
        if let Phase::Handshake { head, request } = &mut self.phase {
            head.extend_from_slice(&bytes);
            let size = match Response::parse(head, &Limits::default(), request) {
                Ok(Some((_, size))) => size,
                Ok(None) => return,
                Err(ResponseError::Status { got: 503 }) => {
                    self.phase = Phase::Refused;
                    return;
                }
                Err(refusal) => panic!("the server refuses the handshake: {refusal:?}"),
            };
            bytes = head.split_off(size);
            self.phase = Phase::Open(Protocol::new(now, 0));
        }
        let Phase::Open(protocol) = &mut self.phase else {
            return;
        };
        let mut copy = bytes.clone();
        let mut input = self.reader.receive(&mut copy, now);
        while let Some(event) = self
            .reader
            .poll_event(endpoint, &mut input, &mut Vec::new())
        {
            match event {
                Event::Message(message) => self.echoes.push(message.payload().to_vec()),
                Event::Ping(_) | Event::Pong(_) => {}
            }
        }
        let mut out = Vec::new();
        let mut input = protocol.receive(&mut bytes, now);
        while protocol
            .poll_event(endpoint, &mut input, &mut out)
            .is_some()
        {}
        if !out.is_empty() {
            self.last_sent = now;
            network.send(self.id, &out);
        }
        if self.end.is_none() {
            self.end = protocol.poll_disconnect();
        }
        match protocol.poll_transmit() {
            Transmit::Nothing | Transmit::Finish | Transmit::Release => {}
            Transmit::Reset => network.reset(self.id),
        }
    }
}
