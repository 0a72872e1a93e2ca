//! The ways in which a client ends its connection, or has it ended.

use tidewheel::ring::{Op, OpCode};
use tidewheel_codec::{Cause, CloseCode, handshake::ClientRequest};

use super::{
    Event, Fleet, Target,
    client::{Client, Stage, State, UnderWay},
    token,
};
use crate::{
    clock::Moment,
    outcome::{Asked, Outcome},
};

impl Fleet {
    /// Sends Close with a code that may be sent, if the client is open; says whether it was.
    pub(crate) fn start_closing(&mut self, client: u32, code: CloseCode, now: Moment) -> bool {
        self.asked = true;
        self.speak(client);
        let State::Live {
            connection,
            stage: stage @ Stage::Open(Asked::Nothing | Asked::Goodbye(_)),
            ..
        } = &mut self.clients[client as usize].state
        else {
            return false;
        };
        *stage = Stage::Open(Asked::Close(code));
        connection
            .start_closing_handshake(
                &mut self.endpoint,
                code,
                "",
                Cause::LocalClose,
                &mut self.out,
                now.time(),
            )
            .expect("the code may be sent, and an empty reason is short");
        true
    }

    /// Notes what an open client asks of the server from now on.
    pub(crate) fn ask(&mut self, client: u32, asked: Asked) {
        if let State::Live {
            stage: stage @ Stage::Open(_),
            ..
        } = &mut self.clients[client as usize].state
        {
            *stage = Stage::Open(asked);
        }
    }

    /// Sends FIN behind what was sent, and behind close_notify by TLS; the server is to end the connection.
    pub(crate) fn finish(&mut self, client: u32) {
        self.asked = true;
        self.flush();
        self.ask(client, Asked::Fin);
        match self.clients[client as usize].state {
            State::Live { .. } | State::Upgrading(_) | State::Bare => {
                self.say_close_notify(client);
                self.flush();
                let socket = self.socket(client);
                self.push(Op::ShutdownWrite { socket }, client);
            }
            State::Absent | State::Connecting(_) | State::Securing(_) | State::Leaving => {}
        }
    }

    /// Stops to receive for a client, so that the kernel's buffers fill up.
    pub(crate) fn deafen(&mut self, client: u32) {
        if self.clients[client as usize]
            .under_way
            .contains(UnderWay::RECEIVE)
        {
            let (kind, target) = (OpCode::Receive, token(client));
            self.push(Op::Cancel { kind, target }, client);
        }
    }

    /// Answers nothing from now on, for all open clients. As long as no turn is taken, nothing
    /// is read from their sockets either.
    pub(crate) fn fall_silent(&mut self) {
        for client in 0..self.clients.len() as u32 {
            self.ask(client, Asked::Silence);
        }
    }

    /// Resets the connection of a client that has one; says whether it had.
    pub(crate) fn reset(&mut self, client: u32) -> bool {
        self.asked = true;
        match self.clients[client as usize].state {
            State::Live {
                stage: Stage::Open(_),
                ..
            }
            | State::Bare => {}
            State::Live {
                stage: Stage::Checking,
                ..
            }
            | State::Absent
            | State::Connecting(_)
            | State::Securing(_)
            | State::Upgrading(_)
            | State::Leaving => return false,
        }
        self.flush();
        if self.clients[client as usize].under_way == UnderWay::NOTHING {
            // Closing alone would send FIN.
            let socket = self.socket(client);
            self.push(Op::Reset { socket }, client);
        }
        let ended = self.end(client, Outcome::Reset, None);
        self.early.push(ended);
        true
    }

    /// Ends a client that has waited for too long. [`Event::Ended`] tells what for, unless it
    /// has ended before.
    pub(crate) fn give_up(&mut self, client: u32) {
        self.asked = true;
        let late = || Some("timed out".to_owned());
        let (outcome, detail) = match &self.clients[client as usize].state {
            State::Absent | State::Leaving => return,
            State::Connecting(_) => (Outcome::ConnectFailed, late()),
            State::Securing(_) => {
                let detail = "TLS: timed out in the handshake";
                (Outcome::HandshakeFailed, Some(detail.to_owned()))
            }
            State::Upgrading(_) => (Outcome::HandshakeFailed, late()),
            State::Bare => (Outcome::StillHeld, late()),
            State::Live {
                stage, received, ..
            } => match (stage, received) {
                (Stage::Checking, _) => (Outcome::EchoFailed, late()),
                (
                    Stage::Open(Asked::Nothing | Asked::Silence | Asked::Fin | Asked::Goodbye(_)),
                    _,
                ) => (Outcome::StillHeld, None),
                (Stage::Open(Asked::Close(_) | Asked::Failure(_)), None) => {
                    (Outcome::CloseTimedOut, None)
                }
                (Stage::Open(Asked::Close(_) | Asked::Failure(_)), Some(_)) => {
                    (Outcome::FinTimedOut, None)
                }
            },
        };
        let ended = self.end(client, outcome, detail);
        self.early.push(ended);
    }

    pub(super) fn end(&mut self, client: u32, outcome: Outcome, detail: Option<String>) -> Event {
        self.leave(client);
        Event::Ended {
            client,
            outcome,
            detail,
        }
    }

    /// Ends what is under way, and closes the socket when it is over.
    fn leave(&mut self, client: u32) {
        let Client { state, under_way } = &mut self.clients[client as usize];
        match std::mem::replace(state, State::Leaving) {
            State::Connecting(_)
            | State::Securing(_)
            | State::Upgrading(_)
            | State::Bare
            | State::Live { .. } => {}
            state @ (State::Absent | State::Leaving) => {
                unreachable!("{state:?} is no way to leave")
            }
        }
        if let Some(secure) = &mut self.secure {
            secure.forget(client);
        }
        // By its token the kernel finds an operation at once; by its socket it would look through
        // those of all sockets.
        let under_way = *under_way;
        if under_way == UnderWay::NOTHING {
            return self.close(client);
        }
        if under_way.contains(UnderWay::CONNECT) {
            let (kind, target) = (OpCode::Connect, token(client));
            self.push(Op::Cancel { kind, target }, client);
        } else {
            let socket = self.socket(client);
            self.push(Op::Reset { socket }, client);
        }
    }

    /// Closes the socket of a client that leaves, if nothing is under way on it any more.
    pub(super) fn close_if_over(&mut self, client: u32) {
        let Client { state, under_way } = &self.clients[client as usize];
        if matches!(state, State::Leaving) && *under_way == UnderWay::NOTHING {
            self.close(client);
        }
    }

    fn close(&mut self, client: u32) {
        let socket = self.socket(client);
        self.push(Op::Close { socket }, client);
    }
}

/// A client's request.
pub(super) fn request(
    target: &'static Target,
    client: u32,
    nonce: [u8; 16],
) -> ClientRequest<'static> {
    let mut request = ClientRequest::new(&*target.host, target.path_of(client), nonce);
    for (name, value) in &target.headers {
        request = request.with_header(&**name, &**value);
    }
    if let Some(protocol) = &target.protocol {
        request = request.with_protocol(&**protocol);
    }
    request
}

/// The bytes of a client's request.
pub(crate) fn request_head(target: &'static Target) -> Vec<u8> {
    let mut bytes = Vec::new();
    request(target, 0, [7; 16]).write(&mut bytes);
    bytes
}
