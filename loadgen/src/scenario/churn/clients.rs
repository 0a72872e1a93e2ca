//! Clients of churn: connects, endings and deadlines.

use std::{cmp::Reverse, collections::BinaryHeap, time::Duration};

use crate::{
    fleet::{
        event::{Event, Opening, Payload},
        outcome::Expected,
    },
    measure::{clock::Moment, latency::Latency, latency_names::LATENESS},
    run::Run,
    scenario::churn::endings::{self, Ending, EndingGenerator, PARTIAL_FRAME},
    session::Session,
};

/// Longest time beyond its deadlines that a server may take.
pub(super) const SLACK: Duration = Duration::from_millis(800);

/// Time after which a slow reader is reset.
const SLOW_READER_TIME: Duration = Duration::from_millis(500);

/// Number of messages of a slow reader, and their size in bytes.
const SLOW_MESSAGES: usize = 64;
const SLOW_MESSAGE_BYTES: usize = 4096;

/// Wait if there is no deadline.
const IDLE_WAIT: Duration = Duration::from_millis(100);

/// The connection of a client, which has not ended.
#[derive(Clone, Copy, Debug)]
struct ActiveConnection {
    ending: Ending,
    due: Moment,
    started: Moment,
}

/// Action at the deadline of a client.
#[derive(Clone, Copy, Debug, Eq, Ord, PartialEq, PartialOrd)]
enum DeadlineAction {
    /// Reset the connection.
    Reset,
    /// Give the client up, because the server has not ended the connection.
    GiveUp,
}

/// Result of a connect that is due.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) enum ConnectResult {
    Started,
    /// No client is free.
    AllInUse,
    /// The number of pending connects is at its limit.
    ConnectsPending,
}

/// All clients of churn.
#[derive(Debug)]
pub(super) struct Clients {
    endings: EndingGenerator,
    opening: Opening,
    /// Longest waits for the server to end a connection: of a silent client, without a handshake, and
    /// otherwise.
    silence: Duration,
    handshake: Duration,
    timeout: Duration,
    free: Vec<u32>,
    clients: Vec<Option<ActiveConnection>>,
    /// Number of connections of each client, by which deadlines of earlier ones are recognised.
    connections: Vec<u32>,
    deadlines: BinaryHeap<Reverse<(Moment, u32, u32, DeadlineAction)>>,
    counts: [u64; endings::COUNT],
    message: Vec<u8>,
    pub(super) open: Latency,
    pub(super) lateness: Latency,
}

impl Clients {
    pub(super) fn new(run: &Run, endings: EndingGenerator, timeout: Duration) -> Self {
        let deadlines = run.server.deadlines;
        let handshake = deadlines.handshake_timeout.map(|limit| limit + SLACK);
        let count = run.clients as usize;
        Self {
            endings,
            opening: run.opening,
            silence: deadlines.silence_timeout(SLACK).unwrap_or(timeout),
            handshake: handshake.unwrap_or(timeout),
            timeout,
            free: (0..run.clients).rev().collect(),
            clients: vec![None; count],
            connections: vec![0; count],
            deadlines: BinaryHeap::new(),
            counts: [0; endings::COUNT],
            message: vec![0; SLOW_MESSAGE_BYTES],
            open: Latency::new("open"),
            lateness: Latency::new(LATENESS),
        }
    }

    /// Returns the number of connections by ending, with the name of its figure.
    pub(super) fn counts(&self) -> impl Iterator<Item = (&'static str, u64)> {
        endings::names().zip(self.counts)
    }

    /// Starts a connect that is due, if a client is free and the number of pending connects allows it.
    pub(super) fn connect(
        &mut self,
        session: &mut Session,
        due: Moment,
        now: Moment,
    ) -> ConnectResult {
        if self.free.is_empty() {
            return ConnectResult::AllInUse;
        }
        if session.connects_allowed() == 0 {
            return ConnectResult::ConnectsPending;
        }
        let Some(client) = self.free.pop() else {
            return ConnectResult::AllInUse;
        };
        let ending = self.endings.choose();
        self.counts[ending.index()] += 1;
        self.lateness.record_planned(now, due);
        self.clients[client as usize] = Some(ActiveConnection {
            ending,
            due,
            started: now,
        });
        let opening = if ending.has_no_handshake() {
            Opening::TcpOnly
        } else {
            self.opening
        };
        session.connect(client, opening, now);
        ConnectResult::Started
    }

    /// Handles an event, and starts the ending of an open connection.
    pub(super) fn handle(&mut self, session: &mut Session, event: &Event, now: Moment) {
        match *event {
            Event::Opened { client } => {
                let ActiveConnection {
                    ending,
                    due,
                    started,
                } = self.connection_of(client);
                self.open.record(now, due, started);
                self.end(session, client, ending, now);
            }
            Event::Connected { client } => {
                let ending = self.connection_of(client).ending;
                self.end_without_handshake(session, client, ending, now);
            }
            Event::Ended { client, .. } => {
                self.clients[client as usize] = None;
                self.connections[client as usize] += 1;
            }
            Event::Released { client } => self.free.push(client),
            Event::CloseReceived { .. } | Event::Message { .. } => {}
        }
    }

    fn connection_of(&self, client: u32) -> ActiveConnection {
        self.clients[client as usize].expect("the client has a connection")
    }

    /// Starts the ending of an open connection.
    fn end(&mut self, session: &mut Session, client: u32, ending: Ending, now: Moment) {
        for size in self.endings.message_sizes() {
            let message = Payload::Binary(&self.message[..size]);
            session.fleet.send_message(client, message);
        }
        let fleet = &mut session.fleet;
        let (limit, action) = match ending {
            Ending::Close => {
                fleet.start_closing(client, self.endings.close_code(), now);
                (self.timeout, DeadlineAction::GiveUp)
            }
            Ending::Reset => {
                fleet.reset(client);
                return;
            }
            Ending::MidFrameReset => {
                fleet.send_raw(client, PARTIAL_FRAME);
                fleet.reset(client);
                return;
            }
            Ending::Fin => {
                fleet.finish(client);
                (self.timeout, DeadlineAction::GiveUp)
            }
            Ending::MidFrameFin => {
                fleet.send_raw(client, PARTIAL_FRAME);
                fleet.finish(client);
                (self.timeout, DeadlineAction::GiveUp)
            }
            Ending::Silent => {
                fleet.expect_end(client, Expected::Silence);
                (self.silence, DeadlineAction::GiveUp)
            }
            Ending::BadFrame => {
                let (frame, code) = self.endings.bad_frame();
                fleet.send_raw(client, frame);
                fleet.expect_end(client, Expected::Failure(code));
                (self.timeout, DeadlineAction::GiveUp)
            }
            Ending::Slow => {
                fleet.stop_receiving(client);
                for _ in 0..SLOW_MESSAGES {
                    fleet.send_message(client, Payload::Binary(&self.message));
                }
                (SLOW_READER_TIME, DeadlineAction::Reset)
            }
            Ending::NoFin => {
                fleet.stop_receiving(client);
                fleet.start_closing(client, self.endings.close_code(), now);
                (self.silence, DeadlineAction::Reset)
            }
            Ending::HandshakeReset
            | Ending::HandshakeFin
            | Ending::HandshakeSilent
            | Ending::InvalidRequest => {
                unreachable!("a connection without a handshake is never open")
            }
        };
        self.set_deadline(client, now + limit, action);
    }

    /// Starts the ending of a connection without a handshake.
    fn end_without_handshake(
        &mut self,
        session: &mut Session,
        client: u32,
        ending: Ending,
        now: Moment,
    ) {
        let fleet = &mut session.fleet;
        let limit = match ending {
            Ending::HandshakeReset => {
                fleet.send_raw(client, self.endings.partial_request());
                fleet.reset(client);
                return;
            }
            Ending::HandshakeFin => {
                fleet.send_raw(client, self.endings.partial_request());
                fleet.finish(client);
                self.timeout
            }
            Ending::HandshakeSilent => {
                fleet.send_raw(client, self.endings.partial_request());
                self.handshake
            }
            Ending::InvalidRequest => {
                fleet.send_raw(client, self.endings.invalid_request());
                self.timeout
            }
            Ending::Close
            | Ending::Reset
            | Ending::Fin
            | Ending::MidFrameReset
            | Ending::MidFrameFin
            | Ending::Silent
            | Ending::BadFrame
            | Ending::Slow
            | Ending::NoFin => unreachable!("this ending needs an open connection"),
        };
        self.set_deadline(client, now + limit, DeadlineAction::GiveUp);
    }

    fn set_deadline(&mut self, client: u32, at: Moment, action: DeadlineAction) {
        let connection = self.connections[client as usize];
        self.deadlines
            .push(Reverse((at, client, connection, action)));
    }

    /// Takes the actions whose deadline has passed.
    pub(super) fn expire(&mut self, session: &mut Session, now: Moment) {
        while let Some(&Reverse((at, client, connection, action))) = self.deadlines.peek()
            && at <= now
        {
            self.deadlines.pop();
            if self.connections[client as usize] != connection {
                continue;
            }
            match action {
                DeadlineAction::Reset => {
                    session.fleet.reset(client);
                }
                DeadlineAction::GiveUp => session.fleet.give_up(client),
            }
        }
    }

    /// Returns the time until the next deadline.
    pub(super) fn next_deadline(&self, now: Moment) -> Duration {
        let next = self.deadlines.peek();
        next.map_or(IDLE_WAIT, |Reverse((at, ..))| at.since(now))
    }

    /// Marks all clients as free, between two phases.
    pub(super) fn reset(&mut self) {
        self.free = (0..self.clients.len() as u32).rev().collect();
        self.deadlines.clear();
    }
}
