//! What a fleet does when the kernel has something to tell.

use std::io;

use rustix::io::Errno;
use tidewheel::ring::{Completion, OpCode};
use tidewheel_codec::{
    Cause, Connection, Disconnect, Event as Received,
    handshake::{ClientRequest, Limits, Response},
};

use super::{Client, Event, Fleet, Stage, State, UnderWay, Upgrade};
use crate::{
    clock::Moment,
    outcome::{Asked, Outcome, TransportEnd},
};

impl Fleet<'_> {
    /// Handles one completion.
    pub(super) fn complete(
        &mut self,
        completion: Completion,
        now: Moment,
        events: &mut Vec<Event>,
    ) {
        let client = completion.token.slot();
        match completion.token.op() {
            OpCode::Connect => events.extend(self.connected(client, completion.result)),
            OpCode::Receive => self.received(client, completion, now, events),
            OpCode::Send => events.extend(self.send_failed(client, completion.result)),
            OpCode::Close => {
                self.clients[client as usize].state = State::Absent;
                events.push(Event::Released);
            }
            // Silent on success. A failure says that there was nothing left to cancel.
            OpCode::Cancel => {}
            op @ (OpCode::Accept | OpCode::Listen | OpCode::Finish | OpCode::Install) => {
                unreachable!("no client submits {op:?}")
            }
        }
    }

    /// Begins the opening handshake of a client that is connected, unless it is not or is no longer
    /// wanted.
    fn connected(&mut self, client: u32, result: i32) -> Option<Event> {
        let Client { state, under_way } = &mut self.clients[client as usize];
        *under_way = UnderWay::Nothing;
        match state {
            State::Connecting if result < 0 => {
                let error = io::Error::from_raw_os_error(-result);
                return Some(self.end(client, Outcome::ConnectFailed, Some(error.to_string())));
            }
            State::Connecting => {}
            State::Leaving => {
                self.close(client);
                return None;
            }
            state @ (State::Absent | State::Upgrading(_) | State::Live { .. }) => {
                unreachable!("connected while {state:?}")
            }
        }
        self.receive(client);
        let nonce = self.endpoint.handshake_nonce();
        let request = ClientRequest::new(&*self.target.host, &*self.target.path, nonce);
        request.write(&mut self.out);
        self.send(client);
        self.clients[client as usize].state = State::Upgrading(Box::new(Upgrade {
            request,
            response: Vec::new(),
        }));
        None
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
            *under_way = UnderWay::Nothing;
            self.receiving -= 1;
        }
        let leaving = matches!(state, State::Leaving);
        if let Some(mut bytes) = completion.buffer {
            if !leaving {
                self.read(client, &mut bytes, now, events);
            }
            self.wire.provide(bytes);
        }
        if completion.more {
            return;
        }
        if leaving {
            self.close(client);
        } else if !matches!(self.clients[client as usize].state, State::Leaving) {
            match completion.result {
                0 => events.push(self.transport_ended(client, TransportEnd::Fin)),
                1.. => self.receive(client),
                error => match Errno::from_raw_os_error(-error) {
                    // `deafen` wants no more.
                    Errno::CANCELED => {}
                    // Every buffer is filled; those of this turn are free before the next.
                    Errno::NOBUFS => self.receive(client),
                    _ => events.push(self.transport_ended(client, TransportEnd::Reset)),
                },
            }
        }
    }

    /// Handles received bytes.
    fn read(&mut self, client: u32, bytes: &mut [u8], now: Moment, events: &mut Vec<Event>) {
        match &mut self.clients[client as usize].state {
            State::Upgrading(upgrade) => {
                upgrade.response.extend_from_slice(bytes);
                let Upgrade { request, response } = &mut **upgrade;
                match Response::parse(response, &Limits::default(), request) {
                    Ok(None) => {}
                    Ok(Some((_, size))) => {
                        let mut response = std::mem::take(response);
                        self.upgraded(client, now, events);
                        self.read(client, &mut response[size..], now, events);
                    }
                    Err(refusal) => {
                        let detail = Some(refusal.to_string());
                        events.push(self.end(client, Outcome::HandshakeFailed, detail));
                    }
                }
            }
            State::Live { .. } => self.read_frames(client, bytes, now, events),
            State::Leaving => {}
            state @ (State::Absent | State::Connecting) => unreachable!("read while {state:?}"),
        }
    }

    /// The handshake is done: sends the first message, or counts as open at once.
    fn upgraded(&mut self, client: u32, now: Moment, events: &mut Vec<Event>) {
        let mut connection = Connection::new(now.time(), 0);
        let stage = if self.behaviour.check_echo {
            connection
                .send_text(&mut self.endpoint, &first_message(client), &mut self.out)
                .expect("it was just opened");
            Stage::Checking
        } else {
            events.push(Event::Opened { client });
            Stage::Open
        };
        self.clients[client as usize].state = State::Live {
            connection,
            stage,
            received: None,
        };
        self.send(client);
    }

    /// Handles received frames.
    fn read_frames(&mut self, client: u32, bytes: &mut [u8], now: Moment, events: &mut Vec<Event>) {
        let State::Live {
            connection,
            stage,
            received,
        } = &mut self.clients[client as usize].state
        else {
            unreachable!("only a live connection has frames");
        };
        let mut failed = None;
        let mut input = connection.receive(bytes, now.time());
        while let Some(event) = connection.poll_event(&mut self.endpoint, &mut input, &mut self.out)
        {
            match (event, *stage) {
                (Received::Message(message), Stage::Checking) => {
                    if message.as_text() == Some(&first_message(client)) {
                        *stage = Stage::Open;
                        events.push(Event::Opened { client });
                    } else {
                        let detail = format!("got {message:?}, sent {:?}", first_message(client));
                        failed = Some((Outcome::EchoFailed, detail));
                    }
                }
                (Received::Message(_), Stage::Open | Stage::Closing | Stage::Silent)
                | (Received::Ping(_) | Received::Pong(_), _) => {}
            }
        }
        if let Some(disconnect) = connection.poll_disconnect() {
            *received = disconnect.received.as_ref().map(|close| close.code);
            match (failure(&disconnect), *stage) {
                (Some(violation), _) => failed = Some((Outcome::ProtocolError, violation)),
                (None, Stage::Closing) => events.push(Event::CloseReceived { client }),
                (None, Stage::Checking | Stage::Open) => {
                    let detail = format!("Close {}", disconnect.code());
                    failed = Some((Outcome::EndedEarly, detail));
                }
                (None, Stage::Silent) => {}
            }
        }
        if *stage == Stage::Silent {
            self.out.clear();
        }
        self.send(client);
        if let Some((outcome, detail)) = failed {
            events.push(self.end(client, outcome, Some(detail)));
        }
    }

    fn transport_ended(&mut self, client: u32, end: TransportEnd) -> Event {
        let (outcome, received) = match &self.clients[client as usize].state {
            State::Live {
                stage, received, ..
            } => {
                let outcome = match stage {
                    Stage::Checking => Outcome::EchoFailed,
                    Stage::Open => Outcome::of(Asked::Nothing, *received, end),
                    Stage::Closing => Outcome::of(Asked::Close, *received, end),
                    Stage::Silent => Outcome::of(Asked::Silence, *received, end),
                };
                (outcome, *received)
            }
            State::Absent | State::Connecting | State::Upgrading(_) | State::Leaving => {
                (Outcome::HandshakeFailed, None)
            }
        };
        let detail = match outcome {
            Outcome::HandshakeFailed | Outcome::EchoFailed | Outcome::EndedEarly => {
                Some(end.to_string())
            }
            Outcome::OtherCode => received.map(|code| format!("Close {code}")),
            Outcome::Closed
            | Outcome::Reset
            | Outcome::LetGo
            | Outcome::ConnectFailed
            | Outcome::FinWithoutClose
            | Outcome::ResetByServer
            | Outcome::CloseTimedOut
            | Outcome::FinTimedOut
            | Outcome::StillHeld
            | Outcome::ProtocolError
            | Outcome::SendBlocked => None,
        };
        self.end(client, outcome, detail)
    }

    fn send_failed(&mut self, client: u32, result: i32) -> Option<Event> {
        match &self.clients[client as usize].state {
            // The receive tells of a connection that failed.
            _ if result < 0 && -result != Errno::AGAIN.raw_os_error() => None,
            State::Absent | State::Leaving => None,
            State::Connecting | State::Upgrading(_) | State::Live { .. } => {
                let detail = "its socket took no more bytes".to_owned();
                Some(self.end(client, Outcome::SendBlocked, Some(detail)))
            }
        }
    }
}

/// The first message of a client, which tells it from all others.
fn first_message(client: u32) -> String {
    format!("client {client} of loadgen")
}

/// What the server did wrong, if that is how the connection ended.
fn failure(end: &Disconnect) -> Option<String> {
    match end.cause {
        Cause::ProtocolError(violation) => Some(violation.to_string()),
        Cause::TooBig => Some("message is too big".to_owned()),
        Cause::PeerClose
        | Cause::LocalClose
        | Cause::PingTimeout
        | Cause::IdleTimeout
        | Cause::EofWithoutClose
        | Cause::Reset
        | Cause::SlowConsumer
        | Cause::CloseTimeout
        | Cause::Shutdown
        | Cause::Lifetime => None,
    }
}
