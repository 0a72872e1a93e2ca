//! Handling of completions.

use std::io;

use rustix::io::Errno;
use tidewheel::ring::{Completion, OpCode};
use tidewheel_codec::{
    Cause, Connection, Disconnect, Event as Received,
    handshake::{Limits, Response},
};

use crate::{
    fleet::{
        Fleet,
        client::{Client, Stage, State, UnderWay, Upgrade},
        event::{Event, Opening},
        outcome::{Expected, Outcome, TransportEnd},
        request::request,
    },
    measure::clock::Moment,
    wire::Sending,
};

/// Longest excerpt, in characters, of the body of a response that refuses a handshake.
const BODY_EXCERPT_CHARS_MAX: usize = 80;

impl Fleet {
    /// Handles one completion of an operation other than a send.
    pub(super) fn complete(
        &mut self,
        completion: Completion,
        now: Moment,
        events: &mut Vec<Event>,
    ) {
        let client = completion.token.slot();
        match completion.op {
            OpCode::Connect => events.extend(self.connected(client, completion.result)),
            OpCode::Receive => self.received(client, completion, now, events),
            OpCode::Close => {
                self.clients[client as usize].state = State::Absent;
                events.push(Event::Released { client });
            }
            // The receive reports a connection that has failed. A cancel or a reset completes only
            // with an error, when there was nothing to end.
            OpCode::ShutdownWrite | OpCode::Cancel => {}
            op @ (OpCode::Accept
            | OpCode::PollWakeup
            | OpCode::Send
            | OpCode::SendAll
            | OpCode::Writable
            | OpCode::QueryTcpInfo
            | OpCode::QueryUnacked
            | OpCode::QueryError
            | OpCode::Wake
            | OpCode::Woken
            | OpCode::Fill
            | OpCode::HandOver
            | OpCode::Arrive) => {
                unreachable!("no client submits {op:?}, or it was handled before")
            }
        }
    }

    /// Handles the completion of a connect: starts TLS or the opening handshake, or ends the client.
    fn connected(&mut self, client: u32, result: i32) -> Option<Event> {
        let Client { state, under_way } = &mut self.clients[client as usize];
        under_way.remove(UnderWay::CONNECT);
        let opening = match state {
            State::Connecting(_) if result < 0 => {
                let (outcome, detail) = match Errno::from_raw_os_error(-result) {
                    Errno::CONNREFUSED => {
                        let address = self.target.address_of(client);
                        (Outcome::Refused, format!("no server listens at {address}"))
                    }
                    error => (Outcome::ConnectFailed, io::Error::from(error).to_string()),
                };
                return Some(self.end(client, outcome, Some(detail)));
            }
            State::Connecting(opening) => *opening,
            State::Leaving => {
                self.close_if_over(client);
                return None;
            }
            state @ (State::Absent
            | State::Securing(_)
            | State::Upgrading(_)
            | State::Bare
            | State::Live { .. }) => unreachable!("connected while {state:?}"),
        };
        self.receive(client);
        let event = if self.tls.is_some() {
            self.clients[client as usize].state = State::Securing(opening);
            self.start_tls(client)
        } else {
            self.open(client, opening)
        };
        self.flush();
        event
    }

    /// Starts the opening handshake of a client that is connected, if it is to have one.
    pub(super) fn open(&mut self, client: u32, opening: Opening) -> Option<Event> {
        let state = &mut self.clients[client as usize].state;
        match opening {
            Opening::TcpOnly => {
                *state = State::Bare;
                Some(Event::Connected { client })
            }
            Opening::Upgrade { check_echo } => {
                let request = request(self.target, client, self.endpoint.handshake_nonce());
                let response = Vec::new();
                self.select_output(client);
                request.write(&mut self.output);
                self.clients[client as usize].state = State::Upgrading(Box::new(Upgrade {
                    request,
                    check_echo,
                    response,
                }));
                None
            }
        }
    }

    /// Handles a completion of a receive: bytes, FIN, or an error.
    fn received(
        &mut self,
        client: u32,
        completion: Completion,
        now: Moment,
        events: &mut Vec<Event>,
    ) {
        let Client { state, under_way } = &mut self.clients[client as usize];
        if !completion.more {
            under_way.remove(UnderWay::RECEIVE);
        }
        let leaving = matches!(state, State::Leaving);
        if let Some(mut bytes) = completion.buffer
            && !leaving
        {
            self.select_output(client);
            self.decrypt(client, &mut bytes, now, events);
            self.flush();
        }
        if completion.more {
            return;
        }
        if leaving {
            self.close_if_over(client);
        } else if !matches!(self.clients[client as usize].state, State::Leaving) {
            match completion.result {
                0 => events.push(self.transport_ended(client, TransportEnd::Fin)),
                1.. => self.receive(client),
                error => match Errno::from_raw_os_error(-error) {
                    // `stop_receiving` cancelled it.
                    Errno::CANCELED => {}
                    // All buffers are in use; the buffers of this turn are free before the next.
                    Errno::NOBUFS => self.receive(client),
                    _ => events.push(self.transport_ended(client, TransportEnd::Reset)),
                },
            }
        }
    }

    /// Handles received bytes after decryption; answers are appended to `output`.
    pub(super) fn read(
        &mut self,
        client: u32,
        bytes: &mut [u8],
        now: Moment,
        events: &mut Vec<Event>,
    ) {
        match &mut self.clients[client as usize].state {
            State::Upgrading(upgrade) => {
                upgrade.response.extend_from_slice(bytes);
                let Upgrade {
                    request,
                    check_echo,
                    response,
                } = &mut **upgrade;
                match Response::parse(response, &Limits::default(), request) {
                    Ok(None) => {}
                    Ok(Some((_, size))) => {
                        let (check_echo, mut response) = (*check_echo, std::mem::take(response));
                        self.upgraded(client, check_echo, now, events);
                        self.read(client, &mut response[size..], now, events);
                    }
                    Err(refusal) => {
                        let detail = match first_line_of_body(response) {
                            Some(line) => format!("{refusal}; the server said: {line}"),
                            None => refusal.to_string(),
                        };
                        let detail = Some(detail);
                        events.push(self.end(client, Outcome::HandshakeFailed, detail));
                    }
                }
            }
            State::Live { .. } => self.read_frames(client, bytes, now, events),
            State::Bare | State::Leaving => {}
            state @ (State::Absent | State::Connecting(_) | State::Securing(_)) => {
                unreachable!("read while {state:?}")
            }
        }
    }

    /// Handles the end of the opening handshake: sends the first message, or reports the client as
    /// open.
    fn upgraded(&mut self, client: u32, check_echo: bool, now: Moment, events: &mut Vec<Event>) {
        let mut connection = Connection::new(now.time(), 0);
        let stage = if check_echo {
            connection
                .send_text(&mut self.endpoint, &first_message(client), &mut self.output)
                .expect("the connection was just opened");
            Stage::Checking
        } else {
            events.push(Event::Opened { client });
            Stage::Open(Expected::Nothing)
        };
        self.clients[client as usize].state = State::Live {
            connection,
            stage,
            received: None,
        };
    }

    /// Handles received frames.
    fn read_frames(&mut self, client: u32, bytes: &mut [u8], now: Moment, events: &mut Vec<Event>) {
        let State::Live {
            connection,
            stage,
            received,
        } = &mut self.clients[client as usize].state
        else {
            unreachable!("frames are read from a live connection only");
        };
        let mut failed = None;
        let mut input = connection.receive(bytes, now.time());
        while let Some(event) =
            connection.poll_event(&mut self.endpoint, &mut input, &mut self.output)
        {
            match (event, *stage) {
                (Received::Message(message), Stage::Checking) => {
                    if message.as_text() == Some(&first_message(client)) {
                        *stage = Stage::Open(Expected::Nothing);
                        events.push(Event::Opened { client });
                    } else {
                        let is_text = message.as_text().is_some();
                        let sent = first_message(client).len();
                        let detail = describe_wrong_echo(sent, message.len(), is_text);
                        failed = Some((Outcome::EchoFailed, detail));
                    }
                }
                (
                    Received::Message(message),
                    Stage::Open(Expected::Nothing | Expected::Shutdown(_)),
                ) => {
                    events.push(Event::Message {
                        client,
                        length: u32::try_from(message.len()).unwrap_or(u32::MAX),
                        fingerprint: self.fingerprint.of(message.payload()),
                    });
                }
                (Received::Ping(_), Stage::Checking | Stage::Open(Expected::Nothing)) => {
                    self.pings += 1;
                }
                (Received::Message(_) | Received::Ping(_), Stage::Open(_))
                | (Received::Pong(_), _) => {}
            }
        }
        if let Some(disconnect) = connection.poll_disconnect() {
            *received = disconnect.received.as_ref().map(|close| close.code);
            match (protocol_violation(&disconnect), *stage) {
                (Some(violation), _) => failed = Some((Outcome::ProtocolError, violation)),
                (
                    None,
                    Stage::Open(Expected::Close(_) | Expected::Failure(_) | Expected::Shutdown(_)),
                ) => {
                    events.push(Event::CloseReceived { client });
                }
                (None, Stage::Checking | Stage::Open(Expected::Nothing)) => {
                    let detail = format!("Close {}", disconnect.code());
                    failed = Some((Outcome::EndedEarly, detail));
                }
                (None, Stage::Open(Expected::Silence | Expected::Fin)) => {}
            }
        }
        match stage {
            // Nothing may follow an invalid frame or FIN.
            Stage::Open(Expected::Silence | Expected::Fin) => self.output.clear(),
            Stage::Checking
            | Stage::Open(
                Expected::Nothing
                | Expected::Close(_)
                | Expected::Failure(_)
                | Expected::Shutdown(_),
            ) => {}
        }
        if let Some((outcome, detail)) = failed {
            self.flush();
            events.push(self.end(client, outcome, Some(detail)));
        }
    }

    fn transport_ended(&mut self, client: u32, end: TransportEnd) -> Event {
        let end = self.transport_end(client, end);
        if end == TransportEnd::Fin && !self.is_silent(client) {
            self.queue_close_notify(client);
            self.flush();
        }
        let (outcome, received) = match &self.clients[client as usize].state {
            State::Live {
                stage, received, ..
            } => {
                let outcome = match stage {
                    Stage::Checking => Outcome::EchoFailed,
                    Stage::Open(expected) => Outcome::of(*expected, *received, end),
                };
                (outcome, *received)
            }
            State::Bare => (Outcome::TurnedAway, None),
            State::Absent
            | State::Connecting(_)
            | State::Securing(_)
            | State::Upgrading(_)
            | State::Leaving => (Outcome::HandshakeFailed, None),
        };
        let detail = match outcome {
            Outcome::HandshakeFailed | Outcome::EchoFailed | Outcome::EndedEarly => {
                Some(self.describe_end(client, end))
            }
            Outcome::OtherCode => received.map(|code| format!("Close {code}")),
            Outcome::ResetByServer => received.map(|code| format!("behind Close {code}")),
            Outcome::Closed
            | Outcome::Reset
            | Outcome::Released
            | Outcome::Finished
            | Outcome::Failed
            | Outcome::TurnedAway
            | Outcome::ShutDown
            | Outcome::Refused
            | Outcome::ConnectFailed
            | Outcome::FinWithoutClose
            | Outcome::CloseTimedOut
            | Outcome::FinTimedOut
            | Outcome::StillHeld
            | Outcome::ProtocolError => None,
        };
        self.end(client, outcome, detail)
    }

    /// Handles the completion of a send.
    pub(super) fn sent(&mut self, completion: &Completion) {
        let client = completion.token.slot();
        let socket = self.socket(client);
        let Client { state, under_way } = &mut self.clients[client as usize];
        let left = matches!(state, State::Absent | State::Leaving);
        let wire = &mut self.wires[(client / self.ring_capacity) as usize];
        match wire.sent(socket, completion, left) {
            Sending::Silent => {}
            Sending::UnderWay => under_way.insert(UnderWay::SEND),
            Sending::Done => {
                under_way.remove(UnderWay::SEND);
                self.close_if_over(client);
            }
        }
    }
}

/// Returns the printable characters of the first line in the body of an HTTP response.
fn first_line_of_body(answer: &[u8]) -> Option<String> {
    const END_OF_HEAD: &[u8] = b"\r\n\r\n";
    let mut windows = answer.windows(END_OF_HEAD.len());
    let head = windows.position(|window| window == END_OF_HEAD)?;
    let body = String::from_utf8_lossy(&answer[head + END_OF_HEAD.len()..]);
    let line = body.trim_start().lines().next()?;
    let is_shown = |character: &char| character.is_ascii_graphic() || *character == ' ';
    let line: String = line
        .chars()
        .filter(is_shown)
        .take(BODY_EXCERPT_CHARS_MAX)
        .collect();
    (!line.trim().is_empty()).then(|| line.trim().to_owned())
}

/// Returns the first message of a client, which no other client sends.
fn first_message(client: u32) -> String {
    format!("client {client} of loadgen")
}

/// Describes a message that is not the echo of a text of `sent` bytes.
fn describe_wrong_echo(sent: usize, got: usize, is_text: bool) -> String {
    match is_text {
        true if got == sent => format!("got another text of {got} bytes than was sent"),
        true => format!("got a text of {got} bytes, sent one of {sent}"),
        false => format!("got {got} bytes of binary, sent a text of {sent}"),
    }
}

/// Returns the violation of the protocol that ended a connection.
fn protocol_violation(end: &Disconnect) -> Option<String> {
    match end.cause {
        Cause::ProtocolError(violation) => Some(violation.to_string()),
        Cause::TooBig => Some("message is too big".to_owned()),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_excerpt_of_a_refusal_is_bounded_and_printable() {
        let head = "HTTP/1.1 503 Service Unavailable\r\n\r\n";
        let long = "x".repeat(500);
        for (body, expected) in [
            ("", None),
            ("\r\n", None),
            ("server is full\nmore", Some("server is full")),
            ("a\x1b[31mb\u{e9}\n", Some("a[31mb")),
            (long.as_str(), Some(&long[..BODY_EXCERPT_CHARS_MAX])),
        ] {
            let line = first_line_of_body(format!("{head}{body}").as_bytes());
            assert_eq!(line.as_deref(), expected, "{body}");
        }
        assert_eq!(first_line_of_body(b"SSH-2.0\r\n"), None);
    }

    #[test]
    fn a_wrong_echo_is_described_by_kind_and_length() {
        for (got, is_text, expected) in [
            (19, true, "got another text of 19 bytes than was sent"),
            (5, true, "got a text of 5 bytes, sent one of 19"),
            (19, false, "got 19 bytes of binary, sent a text of 19"),
        ] {
            assert_eq!(describe_wrong_echo(19, got, is_text), expected);
        }
    }
}
