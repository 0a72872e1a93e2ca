//! Ends of connections, by the client or by the server at its request.

use tidewheel::ring::{Op, OpCode};
use tidewheel_codec::{Cause, CloseCode};

use crate::{
    fleet::{
        Fleet,
        client::{Client, Stage, State, UnderWay, token},
        event::Event,
        outcome::{Expected, Outcome},
    },
    measure::clock::Moment,
};

impl Fleet {
    /// Starts the closing handshake with a code that may be sent; returns whether the client is open.
    pub(crate) fn start_closing(&mut self, client: u32, code: CloseCode, now: Moment) -> bool {
        self.requested = true;
        self.select_output(client);
        let State::Live {
            connection,
            stage: stage @ Stage::Open(Expected::Nothing | Expected::Shutdown(_)),
            ..
        } = &mut self.clients[client as usize].state
        else {
            return false;
        };
        *stage = Stage::Open(Expected::Close(code));
        connection
            .start_closing_handshake(
                &mut self.endpoint,
                code,
                "",
                Cause::LocalClose,
                &mut self.output,
                now.time(),
            )
            .expect("the code may be sent, and an empty reason is short");
        true
    }

    /// Sets what an open client expects of the server from now on.
    pub(crate) fn expect_end(&mut self, client: u32, expected: Expected) {
        if let State::Live {
            stage: stage @ Stage::Open(_),
            ..
        } = &mut self.clients[client as usize].state
        {
            *stage = Stage::Open(expected);
        }
    }

    /// Sends FIN behind all bytes that were sent, by TLS behind close_notify; the server is expected to
    /// end the connection.
    pub(crate) fn finish(&mut self, client: u32) {
        self.requested = true;
        self.flush();
        self.expect_end(client, Expected::Fin);
        match self.clients[client as usize].state {
            State::Live { .. } | State::Upgrading(_) | State::Bare => {
                self.queue_close_notify(client);
                self.flush();
                let socket = self.socket(client);
                self.push(Op::ShutdownWrite { socket }, client);
            }
            State::Absent | State::Connecting(_) | State::Securing(_) | State::Leaving => {}
        }
    }

    /// Stops receiving for a client, so that the kernel's buffers fill up.
    pub(crate) fn stop_receiving(&mut self, client: u32) {
        if self.clients[client as usize]
            .under_way
            .contains(UnderWay::RECEIVE)
        {
            let (kind, target) = (OpCode::Receive, token(client));
            self.push(Op::Cancel { kind, target }, client);
        }
    }

    /// Stops answering for all open clients. As long as no turn is taken, no client reads either.
    pub(crate) fn silence_all(&mut self) {
        for client in 0..self.clients.len() as u32 {
            self.expect_end(client, Expected::Silence);
        }
    }

    /// Resets the connection of a client; returns whether the client has one that is open.
    pub(crate) fn reset(&mut self, client: u32) -> bool {
        self.requested = true;
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
            // Closing the socket alone would send FIN.
            let socket = self.socket(client);
            self.push(Op::Reset { socket }, client);
        }
        let ended = self.end(client, Outcome::Reset, None);
        self.early_events.push(ended);
        true
    }

    /// Ends a client that has waited for too long. The outcome in [`Event::Ended`] says which step
    /// timed out, unless the client has ended before.
    pub(crate) fn give_up(&mut self, client: u32) {
        self.requested = true;
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
                    Stage::Open(
                        Expected::Nothing
                        | Expected::Silence
                        | Expected::Fin
                        | Expected::Shutdown(_),
                    ),
                    _,
                ) => (Outcome::StillHeld, None),
                (Stage::Open(Expected::Close(_) | Expected::Failure(_)), None) => {
                    (Outcome::CloseTimedOut, None)
                }
                (Stage::Open(Expected::Close(_) | Expected::Failure(_)), Some(_)) => {
                    (Outcome::FinTimedOut, None)
                }
            },
        };
        let ended = self.end(client, outcome, detail);
        self.early_events.push(ended);
    }

    /// Ends a client, and returns the event of its end.
    pub(super) fn end(&mut self, client: u32, outcome: Outcome, detail: Option<String>) -> Event {
        self.leave(client);
        Event::Ended {
            client,
            outcome,
            detail,
        }
    }

    /// Ends all operations of a client; the socket is closed when they have completed.
    fn leave(&mut self, client: u32) {
        let Client { state, under_way } = &mut self.clients[client as usize];
        match std::mem::replace(state, State::Leaving) {
            State::Connecting(_)
            | State::Securing(_)
            | State::Upgrading(_)
            | State::Bare
            | State::Live { .. } => {}
            state @ (State::Absent | State::Leaving) => {
                unreachable!("ended in state {state:?}")
            }
        }
        if let Some(sessions) = &mut self.tls {
            sessions.remove(client);
        }
        // The kernel finds an operation by its token at once; by its socket it would search the
        // operations of all sockets.
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

    /// Closes the socket of a client that has ended, if it has no operation in the kernel.
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
