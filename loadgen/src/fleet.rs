//! Very many WebSocket clients on one ring and one thread.

mod completion;

use std::{io, net::SocketAddr};

use tidewheel::ring::{Op, OpCode, RingError, Setup, Socket, Token, Wait};
use tidewheel_codec::{
    Cause, CloseCode, Config, Connection, Endpoint, Role, handshake::ClientRequest,
};

use crate::{
    clock::{Clock, Moment},
    outcome::Outcome,
    wire::Wire,
};

/// Receive buffers of the ring: a response to a handshake or a small message fits into one.
const BUFFERS: u16 = 4096;
const BUFFER_SIZE: u32 = 2048;

/// No client is connected twice in a run, so one generation does.
const GENERATION: u32 = 0;

/// Where the clients connect to, and what they ask for.
#[derive(Clone, Debug)]
pub(crate) struct Target {
    /// The server's address.
    pub(crate) address: SocketAddr,
    /// The `Host` header.
    pub(crate) host: String,
    /// The request's path and query.
    pub(crate) path: String,
}

/// How the clients of a fleet behave.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Behaviour {
    /// Whether each sends one message when it is connected, and counts as open when the same
    /// message has come back.
    pub(crate) check_echo: bool,
    /// Whether closing a socket resets the connection.
    pub(crate) abortive: bool,
}

/// What happened to a client; `client` is the number that it was connected with.
#[derive(Debug)]
pub(crate) enum Event {
    /// The handshake is done, and the echo has come back where one was asked for.
    Opened {
        /// Which.
        client: u32,
    },
    /// The server's Close frame arrived, in answer to ours.
    CloseReceived {
        /// Which.
        client: u32,
    },
    /// It is known how the connection ended; nothing more is received or sent. Once a client.
    Ended {
        /// Which.
        client: u32,
        /// How.
        outcome: Outcome,
        /// What else there is to say.
        detail: Option<String>,
    },
    /// The socket is closed. Once a client, after `Ended`.
    Released,
}

/// Clients `0..capacity`, each with a direct descriptor of the same number.
#[derive(Debug)]
pub(crate) struct Fleet<'t> {
    wire: Wire,
    endpoint: Endpoint,
    target: &'t Target,
    behaviour: Behaviour,
    clients: Vec<Client<'t>>,
    /// Clients whose receive is under way.
    receiving: u32,
    /// What a client has to say, while it says it.
    out: Vec<u8>,
    /// What has happened outside of a turn, for the next.
    early: Vec<Event>,
}

#[derive(Debug)]
struct Client<'t> {
    state: State<'t>,
    under_way: UnderWay,
}

/// What the kernel does for a client; the descriptor is not closed before it is over.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
enum UnderWay {
    Nothing,
    Connect,
    Receive,
}

#[derive(Debug)]
enum State<'t> {
    /// There is no socket, not yet or no longer.
    Absent,
    /// SOCKET and CONNECT are with the kernel.
    Connecting,
    /// The request is out, and the response is awaited (RFC 6455 4.1).
    Upgrading(Box<Upgrade<'t>>),
    /// The handshake is done.
    Live {
        connection: Connection,
        stage: Stage,
        /// The code of the server's Close.
        received: Option<CloseCode>,
    },
    /// The outcome is known. The socket is closed as soon as nothing is under way on it.
    Leaving,
}

/// An opening handshake that waits for its response.
#[derive(Debug)]
struct Upgrade<'t> {
    request: ClientRequest<'t>,
    /// All that was received so far.
    response: Vec<u8>,
}

#[derive(Clone, Copy, Debug, Eq, PartialEq)]
enum Stage {
    /// The first message is out, and must come back.
    Checking,
    /// Nothing is asked of the server.
    Open,
    /// Close 1000 is out.
    Closing,
    /// Nothing is answered any more.
    Silent,
}

impl<'t> Fleet<'t> {
    /// A fleet of up to `capacity` clients, for the calling thread.
    ///
    /// # Errors
    /// Those of the ring; `capacity` is limited by `RLIMIT_NOFILE`.
    pub(crate) fn new(
        capacity: u32,
        target: &'t Target,
        behaviour: Behaviour,
    ) -> Result<Self, RingError> {
        let setup = Setup {
            submissions: 1024,
            completions: 16 * 1024,
            sockets: capacity,
            buffers: BUFFERS,
            buffer_size: BUFFER_SIZE,
        };
        let mut config = Config::new(Role::Client);
        config.ping_interval = None;
        let endpoint = Endpoint::new(config).expect("the defaults are valid");
        let absent = || Client {
            state: State::Absent,
            under_way: UnderWay::Nothing,
        };
        Ok(Self {
            wire: Wire::new(&setup)?,
            endpoint,
            target,
            behaviour,
            clients: std::iter::repeat_with(absent)
                .take(capacity as usize)
                .collect(),
            receiving: 0,
            out: Vec::new(),
            early: Vec::new(),
        })
    }

    /// Starts to connect an absent client. [`Event::Opened`] or [`Event::Ended`] follows, the
    /// latter at the latest when [`Fleet::give_up`] is called.
    pub(crate) fn connect(&mut self, client: u32) {
        let Client { state, under_way } = &mut self.clients[client as usize];
        assert!(matches!(state, State::Absent), "client {client} is in use");
        *state = State::Connecting;
        *under_way = UnderWay::Connect;
        let connect = Op::Connect {
            socket: Socket(client),
            peer: self.target.address,
            abortive: self.behaviour.abortive,
        };
        self.wire.push(connect, token(OpCode::Connect, client));
    }

    /// Sends Close 1000, if the client is open; says whether it was.
    pub(crate) fn start_closing(&mut self, client: u32, now: Moment) -> bool {
        let State::Live {
            connection,
            stage: stage @ Stage::Open,
            ..
        } = &mut self.clients[client as usize].state
        else {
            return false;
        };
        *stage = Stage::Closing;
        connection
            .start_closing_handshake(
                &mut self.endpoint,
                CloseCode::NORMAL_CLOSURE,
                "",
                Cause::LocalClose,
                &mut self.out,
                now.time(),
            )
            .expect("1000 may be sent, and an empty reason is short");
        self.send(client);
        true
    }

    /// Stops receiving, for all clients; [`Fleet::is_deaf`] tells when that is done.
    pub(crate) fn deafen(&mut self) {
        for (client, Client { under_way, .. }) in (0..).zip(&self.clients) {
            if *under_way == UnderWay::Receive {
                let target = token(OpCode::Receive, client);
                let cancel = Op::Cancel { target };
                self.wire.push(cancel, token(OpCode::Cancel, client));
            }
        }
    }

    /// Whether nothing is received by any client, and nothing will be.
    pub(crate) const fn is_deaf(&self) -> bool {
        self.receiving == 0
    }

    /// Answers nothing from now on, for all open clients. As long as no turn is taken, nothing
    /// is read from their sockets either.
    pub(crate) fn fall_silent(&mut self) {
        for client in &mut self.clients {
            if let State::Live {
                stage: stage @ Stage::Open,
                ..
            } = &mut client.state
            {
                *stage = Stage::Silent;
            }
        }
    }

    /// Closes the socket of an open client, which resets the connection of an abortive fleet;
    /// says whether it was open.
    pub(crate) fn reset(&mut self, client: u32) -> bool {
        let state = &self.clients[client as usize].state;
        let open = matches!(
            state,
            State::Live {
                stage: Stage::Open,
                ..
            }
        );
        if open {
            let ended = self.end(client, Outcome::Reset, None);
            self.early.push(ended);
        }
        open
    }

    /// Ends a client that has waited for too long. [`Event::Ended`] tells what for, unless it
    /// has ended before.
    pub(crate) fn give_up(&mut self, client: u32) {
        let late = || Some("timed out".to_owned());
        let (outcome, detail) = match &self.clients[client as usize].state {
            State::Absent | State::Leaving => return,
            State::Connecting => (Outcome::ConnectFailed, late()),
            State::Upgrading(_) => (Outcome::HandshakeFailed, late()),
            State::Live {
                stage, received, ..
            } => match (stage, received) {
                (Stage::Checking, _) => (Outcome::EchoFailed, late()),
                (Stage::Open | Stage::Silent, _) => (Outcome::StillHeld, None),
                (Stage::Closing, None) => (Outcome::CloseTimedOut, None),
                (Stage::Closing, Some(_)) => (Outcome::FinTimedOut, None),
            },
        };
        let ended = self.end(client, outcome, detail);
        self.early.push(ended);
    }

    /// Submits what is queued, waits, and handles what has completed. The moment returned is
    /// that of all events added to `events`.
    ///
    /// # Errors
    /// Those of [`Wire::enter`].
    pub(crate) fn turn(
        &mut self,
        wait: Wait,
        clock: &Clock,
        events: &mut Vec<Event>,
    ) -> io::Result<Moment> {
        events.append(&mut self.early);
        self.wire
            .enter(if events.is_empty() { wait } else { Wait::No })?;
        let now = clock.now();
        while let Some(completion) = self.wire.reap() {
            self.complete(completion, now, events);
        }
        Ok(now)
    }

    fn end(&mut self, client: u32, outcome: Outcome, detail: Option<String>) -> Event {
        self.leave(client);
        Event::Ended {
            client,
            outcome,
            detail,
        }
    }

    /// Closes the socket as soon as nothing is under way on it.
    fn leave(&mut self, client: u32) {
        let Client { state, under_way } = &mut self.clients[client as usize];
        match std::mem::replace(state, State::Leaving) {
            State::Connecting | State::Upgrading(_) | State::Live { .. } => {}
            state @ (State::Absent | State::Leaving) => {
                unreachable!("{state:?} is no way to leave")
            }
        }
        // By its token the kernel finds an operation at once; by its socket it would look through
        // those of all sockets.
        let target = match under_way {
            UnderWay::Nothing => return self.close(client),
            UnderWay::Connect => token(OpCode::Connect, client),
            UnderWay::Receive => token(OpCode::Receive, client),
        };
        self.wire
            .push(Op::Cancel { target }, token(OpCode::Cancel, client));
    }

    fn close(&mut self, client: u32) {
        let socket = Socket(client);
        self.wire
            .push(Op::Close { socket }, token(OpCode::Close, client));
    }

    fn receive(&mut self, client: u32) {
        self.clients[client as usize].under_way = UnderWay::Receive;
        self.receiving += 1;
        let socket = Socket(client);
        self.wire
            .push(Op::Receive { socket }, token(OpCode::Receive, client));
    }

    /// Sends what was appended to `out`.
    fn send(&mut self, client: u32) {
        if !self.out.is_empty() {
            self.wire
                .send(Socket(client), &self.out, token(OpCode::Send, client));
            self.out.clear();
        }
    }
}

const fn token(op: OpCode, client: u32) -> Token {
    Token::new(op, GENERATION, client)
}
