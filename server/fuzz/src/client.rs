//! A simulated client. It reads and answers everything, unless it has stopped reading.

use tidewheel::{
    Cause, CloseCode, Time,
    ring::sim::{Arrival, ClientId, Network},
};
use tidewheel_codec::{
    Connection as Protocol, Disconnect, Endpoint, Event, Transmit,
    handshake::{ClientRequest, Limits, Response},
};

use super::{
    application::{CANCEL_TIMERS, ECHO, SET_TIMERS, START_TASKS},
    later::Step,
    task::Course,
};

/// Minimum size in bytes of a message to be echoed: a letter, two digits of the client, five of a number.
const MESSAGE_SIZE_MIN: usize = 8;

/// The masking key of all frames; it changes every byte.
const KEY: [u8; 4] = [0x81, 0x42, 0x24, 0x18];

/// The state of a client.
#[derive(Debug)]
pub(crate) enum Phase {
    /// The client waits for the response to `request`; `head` is the received part of it.
    Handshake {
        head: Vec<u8>,
        request: ClientRequest<'static>,
    },
    Open(Protocol),
    /// The client has sent an HTTP request, and has received these bytes of the response.
    Http(Vec<u8>),
    /// FIN has arrived behind this response.
    Answered(Vec<u8>),
    /// The client ignores all bytes: its request was refused, or it has sent raw bytes.
    Ignoring,
    /// FIN or RST has arrived, or the client has sent RST.
    Ended,
}

/// A client.
#[derive(Debug)]
pub(crate) struct Client {
    pub(crate) id: ClientId,
    index: usize,
    pub(crate) phase: Phase,
    pub(crate) is_reading: bool,
    /// Whether the client's sending direction is open.
    can_send: bool,
    /// Whether the client did something that may end its connection, or prevent echoes.
    pub(crate) is_disturbed: bool,
    /// Whether the client has started a task.
    pub(crate) has_task: bool,
    /// Whether the client has started a task that never ends, so that the server may stop reading.
    pub(crate) has_endless_task: bool,
    /// Whether the client sent raw bytes, which may contain messages.
    pub(crate) has_sent_raw_bytes: bool,
    /// Whether the client has started the closing handshake.
    pub(crate) is_closing: bool,
    /// When all later segments began to be dropped.
    pub(crate) vanished: Option<Time>,
    pub(crate) end: Option<Disconnect>,
    /// Sent messages that the handler echoes.
    pub(crate) sent_messages: Vec<Vec<u8>>,
    /// Received echoes.
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
            has_task: false,
            has_endless_task: false,
            has_sent_raw_bytes: false,
            is_closing: false,
            vanished: None,
            end: None,
            sent_messages: Vec::new(),
            echoes: Vec::new(),
        }
    }

    pub(crate) fn is_open(&self) -> bool {
        matches!(&self.phase, Phase::Open(protocol) if protocol.is_open())
    }

    /// The next message to be echoed, distinct from all others.
    fn next_echo(&self, length: usize) -> Vec<u8> {
        let mut message = self.echo_prefix().into_bytes();
        message.extend_from_slice(format!("{:05}", self.sent_messages.len()).as_bytes());
        let letters = b"the quick brown fox jumps over the lazy dog ";
        message.extend(letters.repeat(length / letters.len() + 1));
        message.truncate(length.max(MESSAGE_SIZE_MIN));
        message
    }

    fn echo_prefix(&self) -> String {
        format!("{}{:02}", char::from(ECHO), self.index)
    }

    /// Sends bytes, unless the sending direction is shut down.
    pub(crate) fn send(&self, bytes: &[u8], network: &Network) {
        if self.can_send {
            network.send(self.id, bytes);
        }
    }

    /// Sends bytes that may violate the protocol or contain messages.
    pub(crate) fn send_raw(&mut self, bytes: &[u8], network: &Network) {
        self.is_disturbed = true;
        self.has_sent_raw_bytes = true;
        self.send(bytes, network);
    }

    /// Sends a command of `length` bytes to the handler.
    pub(crate) fn command(
        &mut self,
        [letter, argument]: [u8; 2],
        length: usize,
        endpoint: &mut Endpoint,
        network: &Network,
    ) {
        let mut message = vec![letter, argument];
        message.resize(length, b'.');
        let (course, step) = (Course::from_bits(argument), Step::from_bits(argument >> 3));
        let is_harmless = match letter {
            b'p' | b'o' | b'u' | b'g' | b'a' | CANCEL_TIMERS => true,
            START_TASKS => step == Step::Nothing && (course.ends() || course == Course::Never),
            SET_TIMERS => step == Step::Nothing && argument & 64 == 0,
            // A subscription may overflow the client's send queue; other commands may end its connection.
            _ => false,
        };
        self.is_disturbed |= !is_harmless;
        self.has_task |= letter == START_TASKS;
        self.has_endless_task |= letter == START_TASKS && course == Course::Never;
        self.send_with(network, |protocol, out| {
            let sent = match std::str::from_utf8(&message) {
                Ok(text) => protocol.send_text(endpoint, text, out),
                Err(_) => protocol.send_binary(endpoint, &message, out),
            };
            sent.expect("the connection is open");
        });
    }

    /// Sends frames that `encode` writes, if the connection is open; returns whether it is.
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

    /// Sends messages to be echoed in one segment.
    pub(crate) fn echo(
        &mut self,
        lengths: impl Iterator<Item = usize>,
        is_text: bool,
        endpoint: &mut Endpoint,
        network: &Network,
    ) {
        let first = self.sent_messages.len();
        for length in lengths {
            self.sent_messages.push(self.next_echo(length));
        }
        let messages = self.sent_messages[first..].to_vec();
        let is_sent = self.send_with(network, |protocol, out| {
            for message in &messages {
                let sent = if is_text {
                    let text = std::str::from_utf8(message).expect("the message is ASCII");
                    protocol.send_text(endpoint, text, out)
                } else {
                    protocol.send_binary(endpoint, message, out)
                };
                sent.expect("the connection is open");
            }
        });
        if !is_sent {
            self.sent_messages.truncate(first);
        }
    }

    /// Sends a message to be echoed as frames of `frame_size` bytes, with a Ping between two frames.
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
            self.sent_messages.push(message);
        }
    }

    /// Sends a message to be echoed before the response to the request has arrived.
    pub(crate) fn send_early(&mut self, network: &Network) {
        let message = self.next_echo(0);
        let mut out = Vec::new();
        frame(0x82, &message, &mut out);
        self.send(&out, network);
        self.sent_messages.push(message);
    }

    pub(crate) fn ping(&mut self, payload: &[u8], endpoint: &mut Endpoint, network: &Network) {
        self.send_with(network, |protocol, out| {
            let sent = protocol.ping(endpoint, payload, out);
            sent.expect("the connection is open, and the payload has at most 125 bytes");
        });
    }

    /// Starts the closing handshake.
    pub(crate) fn close(&mut self, endpoint: &mut Endpoint, network: &Network, now: Time) {
        self.is_closing |= self.send_with(network, |protocol, out| {
            let (code, cause) = (CloseCode::NORMAL_CLOSURE, Cause::LocalClose);
            protocol
                .start_closing_handshake(endpoint, code, "", cause, out, now)
                .expect("the code is valid");
        });
    }

    /// Whether FIN or RST has arrived, or the client has sent RST.
    fn has_ended(&self) -> bool {
        matches!(self.phase, Phase::Ended | Phase::Answered(_))
    }

    pub(crate) fn finish(&mut self, network: &Network) {
        if self.can_send && !self.has_ended() {
            network.finish(self.id);
        }
        self.can_send = false;
    }

    pub(crate) fn reset(&mut self, network: &Network) {
        if !self.has_ended() {
            network.reset(self.id);
            self.phase = Phase::Ended;
        }
        self.can_send = false;
    }

    /// Reads and answers all segments that have arrived.
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
                    self.phase = match std::mem::replace(&mut self.phase, Phase::Ended) {
                        Phase::Http(response) => Phase::Answered(response),
                        _ => Phase::Ended,
                    };
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
        if let Phase::Http(response) = &mut self.phase {
            return response.extend_from_slice(&bytes);
        }
        if let Phase::Handshake { head, request } = &mut self.phase {
            head.extend_from_slice(&bytes);
            match Response::parse(head, &Limits::default(), request) {
                Ok(None) => return,
                // A refusal. Raw bytes may have completed the request in another manner.
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
                    if let Some(agreement) = agreement.expect("the response fits the offer") {
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
