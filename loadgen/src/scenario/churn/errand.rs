//! What each client of the churn is about.

use std::{cmp::Reverse, collections::BinaryHeap, time::Duration};

use super::{
    SLACK,
    way::{self, HALF_A_FRAME, Way, Ways},
};
use crate::{
    clock::Moment,
    fleet::{Approach, Event, Payload},
    latency::Latency,
    outcome::Asked,
    report::LATENESS,
    session::Session,
    trial::Trial,
};

/// A slow reader is reset after so long.
const SLOW_FOR: Duration = Duration::from_millis(500);

/// What it sends to be echoed, in one message each.
const SLOW_MESSAGES: usize = 64;
const SLOW_MESSAGE_SIZE: usize = 4096;

/// Nothing is due: look again after so long.
const IDLE: Duration = Duration::from_millis(100);

/// What a client is about.
#[derive(Clone, Copy, Debug)]
struct Errand {
    way: Way,
    due: Moment,
    begun: Moment,
}

/// What happens when a client's time is over.
#[derive(Clone, Copy, Debug, Eq, Ord, PartialEq, PartialOrd)]
enum Then {
    /// It resets its connection.
    Reset,
    /// The server should have ended it.
    GiveUp,
}

/// The result of opening a connection that is due.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) enum Begin {
    Begun,
    /// No client is free.
    AllInUse,
    /// As many connects are under way as there may be.
    ConnectsUnderWay,
}

/// All clients of the churn.
#[derive(Debug)]
pub(super) struct Errands {
    ways: Ways,
    approach: Approach,
    /// The longest wait for the server to end a connection, by timeouts and otherwise.
    silence: Duration,
    handshake: Duration,
    timeout: Duration,
    free: Vec<u32>,
    clients: Vec<Option<Errand>>,
    /// Counts the connections of each client, so that a deadline is of one of them.
    rounds: Vec<u32>,
    deadlines: BinaryHeap<Reverse<(Moment, u32, u32, Then)>>,
    counts: [u64; way::COUNT],
    message: Vec<u8>,
    pub(super) open: Latency,
    pub(super) lateness: Latency,
}

impl Errands {
    pub(super) fn new(trial: &Trial, ways: Ways, timeout: Duration) -> Self {
        let deadlines = trial.server.deadlines;
        let handshake = deadlines.handshake_timeout.map(|limit| limit + SLACK);
        let count = trial.clients as usize;
        Self {
            ways,
            approach: trial.approach,
            silence: deadlines.silence(SLACK).unwrap_or(timeout),
            handshake: handshake.unwrap_or(timeout),
            timeout,
            free: (0..trial.clients).rev().collect(),
            clients: vec![None; count],
            rounds: vec![0; count],
            deadlines: BinaryHeap::new(),
            counts: [0; way::COUNT],
            message: vec![0; SLOW_MESSAGE_SIZE],
            open: Latency::new("open"),
            lateness: Latency::new(LATENESS),
        }
    }

    /// How many took each way, by its name.
    pub(super) fn counts(&self) -> impl Iterator<Item = (&'static str, u64)> {
        way::names().zip(self.counts)
    }

    /// Begins a connection that is due, if a client is free and the server keeps up.
    pub(super) fn begin(&mut self, session: &mut Session, due: Moment, now: Moment) -> Begin {
        if self.free.is_empty() {
            return Begin::AllInUse;
        }
        if session.connects_free() == 0 {
            return Begin::ConnectsUnderWay;
        }
        let Some(client) = self.free.pop() else {
            return Begin::AllInUse;
        };
        let way = self.ways.choose();
        self.counts[way.index()] += 1;
        self.lateness.record_planned(now, due);
        self.clients[client as usize] = Some(Errand {
            way,
            due,
            begun: now,
        });
        let approach = if way.is_bare() {
            Approach::Bare
        } else {
            self.approach
        };
        session.connect(client, approach, now);
        Begin::Begun
    }

    /// Takes note of what happened, and goes on.
    pub(super) fn note(&mut self, session: &mut Session, event: &Event, now: Moment) {
        match *event {
            Event::Opened { client } => {
                let Errand { way, due, begun } = self.errand(client);
                self.open.record(now, due, begun);
                self.end(session, client, way, now);
            }
            Event::Connected { client } => {
                let way = self.errand(client).way;
                self.end_bare(session, client, way, now);
            }
            Event::Ended { client, .. } => {
                self.clients[client as usize] = None;
                self.rounds[client as usize] += 1;
            }
            Event::Released { client } => self.free.push(client),
            Event::CloseReceived { .. } | Event::Message { .. } => {}
        }
    }

    fn errand(&self, client: u32) -> Errand {
        self.clients[client as usize].expect("it is about something")
    }

    /// Ends an open connection.
    fn end(&mut self, session: &mut Session, client: u32, way: Way, now: Moment) {
        for size in self.ways.messages() {
            let message = Payload::Binary(&self.message[..size]);
            session.fleet.send_message(client, message);
        }
        let fleet = &mut session.fleet;
        let (limit, then) = match way {
            Way::Close => {
                fleet.start_closing(client, self.ways.code(), now);
                (self.timeout, Then::GiveUp)
            }
            Way::Reset => {
                fleet.reset(client);
                return;
            }
            Way::MidFrameReset => {
                fleet.send_raw(client, HALF_A_FRAME);
                fleet.reset(client);
                return;
            }
            Way::Fin => {
                fleet.finish(client);
                (self.timeout, Then::GiveUp)
            }
            Way::MidFrameFin => {
                fleet.send_raw(client, HALF_A_FRAME);
                fleet.finish(client);
                (self.timeout, Then::GiveUp)
            }
            Way::Silent => {
                fleet.ask(client, Asked::Silence);
                (self.silence, Then::GiveUp)
            }
            Way::BadFrame => {
                let (frame, code) = self.ways.bad_frame();
                fleet.send_raw(client, frame);
                fleet.ask(client, Asked::Failure(code));
                (self.timeout, Then::GiveUp)
            }
            Way::Slow => {
                fleet.deafen(client);
                for _ in 0..SLOW_MESSAGES {
                    fleet.send_message(client, Payload::Binary(&self.message));
                }
                (SLOW_FOR, Then::Reset)
            }
            Way::NoFin => {
                fleet.deafen(client);
                fleet.start_closing(client, self.ways.code(), now);
                (self.silence, Then::Reset)
            }
            Way::BareReset | Way::BareFin | Way::BareSilent | Way::BareJunk => {
                unreachable!("such a connection is never open")
            }
        };
        self.set_deadline(client, now + limit, then);
    }

    /// Ends a connection that was to have no handshake.
    fn end_bare(&mut self, session: &mut Session, client: u32, way: Way, now: Moment) {
        let fleet = &mut session.fleet;
        let limit = match way {
            Way::BareReset => {
                fleet.send_raw(client, self.ways.part_of_request());
                fleet.reset(client);
                return;
            }
            Way::BareFin => {
                fleet.send_raw(client, self.ways.part_of_request());
                fleet.finish(client);
                self.timeout
            }
            Way::BareSilent => {
                fleet.send_raw(client, self.ways.part_of_request());
                self.handshake
            }
            Way::BareJunk => {
                fleet.send_raw(client, self.ways.junk());
                self.timeout
            }
            Way::Close
            | Way::Reset
            | Way::Fin
            | Way::MidFrameReset
            | Way::MidFrameFin
            | Way::Silent
            | Way::BadFrame
            | Way::Slow
            | Way::NoFin => unreachable!("such a connection has a handshake"),
        };
        self.set_deadline(client, now + limit, Then::GiveUp);
    }

    fn set_deadline(&mut self, client: u32, at: Moment, then: Then) {
        let round = self.rounds[client as usize];
        self.deadlines.push(Reverse((at, client, round, then)));
    }

    /// Ends the clients whose time is over.
    pub(super) fn pass_deadlines(&mut self, session: &mut Session, now: Moment) {
        while let Some(&Reverse((at, client, round, then))) = self.deadlines.peek()
            && at <= now
        {
            self.deadlines.pop();
            if self.rounds[client as usize] != round {
                continue;
            }
            match then {
                Then::Reset => {
                    session.fleet.reset(client);
                }
                Then::GiveUp => session.fleet.give_up(client),
            }
        }
    }

    /// How long until the next deadline.
    pub(super) fn next_deadline(&self, now: Moment) -> Duration {
        let next = self.deadlines.peek();
        next.map_or(IDLE, |Reverse((at, ..))| at.since(now))
    }

    /// Between two phases every client is free.
    pub(super) fn all_are_free(&mut self) {
        self.free = (0..self.clients.len() as u32).rev().collect();
        self.deadlines.clear();
    }
}
