//! One client of the simulation, which answers everything as long as it reads.

use tidewheel::{
    Cause, CloseCode, Time,
    ring::sim::{Arrival, ClientId, Network},
};
use tidewheel_codec::{
    Connection as Protocol, Disconnect, Endpoint, Event, Transmit,
    handshake::{ClientRequest, Limits, Response},
};

use super::application::ECHO;

/// Bytes of the shortest message to be echoed: a letter, a client, a number.
const MESSAGE_SIZE_MIN: usize = 8;

/// A key that changes every byte.
const KEY: [u8; 4] = [0x81, 0x42, 0x24, 0x18];

/// How far a client has come.
#[derive(Debug)]
pub(crate) enum Phase {
    /// The response to this request is awaited; `head` is what has come of it.
    Handshake {
        head: Vec<u8>,
        request: ClientRequest<'static>,
    },
    Open(Protocol),
    /// Ignores everything that comes: its request was refused, or it has sent none.
    Ignoring,
    /// FIN or RST came last, or it sent RST.
    Ended,
}

/// A client.
#[derive(Debug)]
pub(crate) struct Client {
    pub(crate) id: ClientId,
    index: usize,
    pub(crate) phase: Phase,
    pub(crate) is_reading: bool,
    /// Its sending direction is open.
    can_send: bool,
    /// It did something that may end its connection, or keep echoes from it.
    pub(crate) is_disturbed: bool,
    /// It sent bytes that may have been messages.
    pub(crate) is_raw: bool,
    /// It has begun to close.
    pub(crate) closes: bool,
    pub(crate) end: Option<Disconnect>,
    /// Messages to be echoed, and those that were.
    pub(crate) said: Vec<Vec<u8>>,
    pub(crate) echoes: Vec<Vec<u8>>,
}

impl Client {
    pub(crate) fn new(id: ClientId, index: usize, phase: Phase) -> Self {
        Self {
            id,
            index,
            phase,
            is_reading: true,
            can_send: true,
            is_disturbed: false,
            is_raw: false,
            closes: false,
            end: None,
            said: Vec::new(),
            echoes: Vec::new(),
        }
    }

    pub(crate) fn is_open(&self) -> bool {
        matches!(&self.phase, Phase::Open(protocol) if protocol.is_open())
    }

    /// The next message to be echoed: no other is like it.
    fn next_echo(&self, length: usize) -> Vec<u8> {
        let mut message = self.echo_prefix().into_bytes();
        message.extend_from_slice(format!("{:05}", self.said.len()).as_bytes());
        let letters = b"the quick brown fox jumps over the lazy dog ";
        message.extend(letters.repeat(length / letters.len() + 1));
        message.truncate(length.max(MESSAGE_SIZE_MIN));
        message
    }

    fn echo_prefix(&self) -> String {
        format!("{}{:02}", char::from(ECHO), self.index)
    }

    /// Sends bytes, unless it has shut down its sending direction.
    pub(crate) fn send(&self, bytes: &[u8], network: &Network) {
        if self.can_send {
            network.send(self.id, bytes);
        }
    }

    /// Sends by its protocol.
    fn send_with(
        &mut self,
        network: &Network,
        encode: impl FnOnce(&mut Protocol, &mut Vec<u8>),
    ) -> bool {
        let is_able = self.can_send && self.is_open();
        if let Phase::Open(protocol) = &mut self.phase
            && is_able
        {
            let mut out = Vec::new();
            encode(protocol, &mut out);
            self.send(&out, network);
        }
        is_able
    }

    pub(crate) fn echo(
        &mut self,
        lengths: impl Iterator<Item = usize>,
        is_text: bool,
        endpoint: &mut Endpoint,
        network: &Network,
    ) {
        let mut said = Vec::new();
        for length in lengths {
            self.said.push(self.next_echo(length));
            said.push(self.said.len() - 1);
        }
        let messages: Vec<Vec<u8>> = said.iter().map(|at| self.said[*at].clone()).collect();
        let is_sent = self.send_with(network, |protocol, out| {
            for message in &messages {
                let sent = if is_text {
                    let text = std::str::from_utf8(message).expect("letters");
                    protocol.send_text(endpoint, text, out)
                } else {
                    protocol.send_binary(endpoint, message, out)
                };
                sent.expect("it is open");
            }
        });
        if !is_sent {
            self.said.truncate(self.said.len() - said.len());
        }
    }

    /// Sends a message to be echoed in frames, with a Ping between any two.
    pub(crate) fn echo_in_frames(&mut self, length: usize, frame_size: usize, network: &Network) {
        let message = self.next_echo(length);
        let mut out = Vec::new();
        let count = message.len().div_ceil(frame_size);
        for (at, fragment) in message.chunks(frame_size).enumerate() {
            let opcode = if at == 0 { 2 } else { 0 };
            let fin = if at + 1 == count { 0x80 } else { 0 };
            if at > 0 {
                frame(0x89, b"between", &mut out);
            }
            frame(fin | opcode, fragment, &mut out);
        }
        if self.send_with(network, |_, bytes| bytes.extend_from_slice(&out)) {
            self.said.push(message);
        }
    }

    /// Sends a message to be echoed behind a request that is not yet answered.
    pub(crate) fn hasten(&mut self, network: &Network) {
        let message = self.next_echo(0);
        let mut out = Vec::new();
        frame(0x82, &message, &mut out);
        self.send(&out, network);
        self.said.push(message);
    }

    pub(crate) fn say(&mut self, message: &[u8], endpoint: &mut Endpoint, network: &Network) {
        self.send_with(network, |protocol, out| {
            let sent = match std::str::from_utf8(message) {
                Ok(text) => protocol.send_text(endpoint, text, out),
                Err(_) => protocol.send_binary(endpoint, message, out),
            };
            sent.expect("it is open");
        });
    }

    pub(crate) fn ping(&mut self, payload: &[u8], endpoint: &mut Endpoint, network: &Network) {
        self.send_with(network, |protocol, out| {
            let sent = protocol.ping(endpoint, payload, out);
            sent.expect("it is open, and the payload is short");
        });
    }

    /// Starts the closing handshake.
    pub(crate) fn close(&mut self, endpoint: &mut Endpoint, network: &Network, now: Time) {
        self.closes |= self.send_with(network, |protocol, out| {
            let (code, cause) = (CloseCode::NORMAL_CLOSURE, Cause::LocalClose);
            protocol
                .start_closing_handshake(endpoint, code, "", cause, out, now)
                .expect("a code that may be sent");
        });
    }

    pub(crate) fn finish(&mut self, network: &Network) {
        if self.can_send && !matches!(self.phase, Phase::Ended) {
            network.finish(self.id);
        }
        self.can_send = false;
    }

    pub(crate) fn reset(&mut self, network: &Network) {
        if !matches!(self.phase, Phase::Ended) {
            network.reset(self.id);
        }
        self.can_send = false;
        self.phase = Phase::Ended;
    }

    /// Reads everything that has come, and answers it.
    pub(crate) fn read(&mut self, endpoint: &mut Endpoint, network: &Network, now: Time) {
        while let Some(arrival) = network.read(self.id) {
            match arrival {
                Arrival::Bytes(bytes) => self.read_bytes(bytes, endpoint, network, now),
                Arrival::Finish => {
                    if let Phase::Open(protocol) = &mut self.phase {
                        protocol.receive_eof(now);
                        self.end = self.end.take().or_else(|| protocol.poll_disconnect());
                    }
                    self.finish(network);
                    self.phase = Phase::Ended;
                }
                Arrival::Reset => {
                    if let Phase::Open(protocol) = &mut self.phase {
                        protocol.receive_reset(now);
                        self.end = self.end.take().or_else(|| protocol.poll_disconnect());
                    }
                    self.can_send = false;
                    self.phase = Phase::Ended;
                }
            }
        }
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
            match Response::parse(head, &Limits::default(), request) {
                Ok(None) => return,
                // It is refused; raw bytes may have ended its request in another way.
                Err(_) => {
                    self.phase = Phase::Ignoring;
                    return;
                }
                Ok(Some((response, size))) => {
                    let mut protocol = Protocol::new(now, 0);
                    let agreement = if request.extensions().next().is_some() {
                        endpoint.confirm_deflate(response.extensions())
                    } else {
                        Ok(None)
                    };
                    if let Some(agreement) = agreement.expect("the answer fits the offer") {
                        protocol = protocol.with_deflate(agreement);
                    }
                    bytes = head.split_off(size);
                    self.phase = Phase::Open(protocol);
                }
            }
        }
        let prefix = self.echo_prefix().into_bytes();
        let Phase::Open(protocol) = &mut self.phase else {
            return;
        };
        let mut out = Vec::new();
        let mut input = protocol.receive(&mut bytes, now);
        while let Some(event) = protocol.poll_event(endpoint, &mut input, &mut out) {
            match event {
                Event::Message(message) if message.payload().starts_with(&prefix) => {
                    self.echoes.push(message.payload().to_vec());
                }
                Event::Message(_) | Event::Ping(_) | Event::Pong(_) => {}
            }
        }
        if self.end.is_none() {
            self.end = protocol.poll_disconnect();
        }
        let transmit = protocol.poll_transmit();
        self.send(&out, network);
        match transmit {
            Transmit::Nothing | Transmit::Finish | Transmit::Release => {}
            Transmit::Reset => self.reset(network),
        }
    }
}

/// Appends a masked frame.
pub(crate) fn frame(first: u8, payload: &[u8], out: &mut Vec<u8>) {
    out.push(first);
    match payload.len() {
        length @ 0..126 => out.push(0x80 | length as u8),
        length @ 126..=0xffff => {
            out.push(0xfe);
            out.extend_from_slice(&(length as u16).to_be_bytes());
        }
        length => {
            out.push(0xff);
            out.extend_from_slice(&(length as u64).to_be_bytes());
        }
    }
    out.extend_from_slice(&KEY);
    out.extend(
        payload
            .iter()
            .zip(KEY.iter().cycle())
            .map(|(byte, key)| byte ^ key),
    );
}
