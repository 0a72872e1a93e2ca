//! The clients of a run: opening, holding and releasing them, with one outcome for each connection.

pub(crate) mod deliveries;
pub(crate) mod echo_exchange;
pub(crate) mod load_model;
pub(crate) mod template;
pub(crate) mod topology;

use std::{collections::VecDeque, io, ops::Range, time::Duration};

use tidewheel::ring::Wait;

use crate::{
    fleet::{
        Fleet,
        event::{Event, Opening},
        outcome::Tally,
    },
    interrupt::{Interrupt, Interrupted},
    measure::clock::{Clock, Moment},
    progress::Progress,
};

/// Largest number of pending connects. More of them would overflow the server's backlog.
pub(crate) const PENDING_CONNECTS_MAX: usize = 256;

/// Longest wait of a turn, so that interrupts are noticed.
const TURN_WAIT_MAX: Duration = Duration::from_millis(100);

/// A fleet with the state, the deadline and the outcome of each client.
#[derive(Debug)]
pub(crate) struct Session {
    pub(crate) clock: Clock,
    pub(crate) interrupt: Interrupt,
    pub(crate) fleet: Fleet,
    pub(crate) tally: Tally,
    /// Events of the last turn.
    pub(crate) events: Vec<Event>,
    /// Longest time that a client may take to open.
    pub(crate) timeout: Duration,
    clients: Vec<Client>,
    /// Deadlines of opening clients, in order: the client, the number of its connection, the moment.
    deadlines: VecDeque<(u32, u8, Moment)>,
    /// Number of connections so far; each is in the tally when it has ended.
    begun: u64,
    /// Number of clients that are opening.
    opening: usize,
    /// Number of clients that are opening or open.
    live: u32,
    /// Number of sockets that are not closed yet.
    sockets: u32,
    /// Moment at which the last turn ended.
    turned: Moment,
    /// Longest time by which a turn ended later than it was to end.
    stall: Duration,
}

/// State of a client.
#[derive(Clone, Copy, Debug)]
struct Client {
    stage: Stage,
    /// Number of its connections, modulo 256.
    connection: u8,
}

#[derive(Clone, Copy, Debug, Eq, PartialEq)]
enum Stage {
    /// The client has no socket.
    Absent,
    /// The client is connecting, or in a handshake.
    Opening,
    /// The client is open.
    Open,
    /// The connection has ended, and is in the tally; the socket is not closed yet.
    Ended,
}

/// An error that ends a session.
#[derive(Debug, thiserror::Error)]
pub(crate) enum SessionError {
    /// The ring is unusable.
    #[error("io_uring_enter: {0}")]
    Ring(#[from] io::Error),
    /// The run was interrupted.
    #[error(transparent)]
    Interrupted(#[from] Interrupted),
}

impl Session {
    /// Creates a session of `count` clients without connections. A client that is not open within
    /// `timeout` is given up.
    pub(crate) fn new(
        clock: Clock,
        interrupt: Interrupt,
        fleet: Fleet,
        count: u32,
        timeout: Duration,
    ) -> Self {
        let client = Client {
            stage: Stage::Absent,
            connection: 0,
        };
        Self {
            clock,
            interrupt,
            fleet,
            tally: Tally::default(),
            events: Vec::new(),
            timeout,
            clients: vec![client; count as usize],
            deadlines: VecDeque::new(),
            begun: 0,
            opening: 0,
            live: 0,
            sockets: 0,
            turned: clock.now(),
            stall: Duration::ZERO,
        }
    }

    /// Starts to connect a client that has no socket.
    pub(crate) fn connect(&mut self, client: u32, opening: Opening, now: Moment) {
        let state = &mut self.clients[client as usize];
        assert_eq!(state.stage, Stage::Absent, "client {client} has a socket");
        state.stage = Stage::Opening;
        state.connection = state.connection.wrapping_add(1);
        self.deadlines
            .push_back((client, state.connection, now + self.timeout));
        self.fleet.connect(client, opening);
        self.begun += 1;
        self.opening += 1;
        self.live += 1;
        self.sockets += 1;
    }

    /// Takes one turn of the fleet, and replaces `events` by the events of this turn.
    ///
    /// # Errors
    /// If io_uring_enter(2) fails, or the run was interrupted.
    pub(crate) fn turn(&mut self, wait: Wait) -> Result<Moment, SessionError> {
        self.interrupt.check()?;
        let wait = match wait {
            Wait::No => Wait::No,
            Wait::For(limit) => Wait::For(limit.min(TURN_WAIT_MAX)),
            Wait::Forever => Wait::For(TURN_WAIT_MAX),
        };
        let begun = self.turned;
        let now = self.take_turn(wait)?;
        let wait = match wait {
            Wait::No => Duration::ZERO,
            Wait::For(limit) => limit,
            Wait::Forever => unreachable!("the wait is bounded above"),
        };
        self.stall = self.stall.max(now.since(begun + wait));
        while let Some((client, connection, _)) = self
            .deadlines
            .pop_front_if(|(_, _, deadline)| *deadline <= now)
        {
            let state = self.clients[client as usize];
            if state.stage == Stage::Opening && state.connection == connection {
                self.fleet.give_up(client);
            }
        }
        Ok(now)
    }

    fn take_turn(&mut self, wait: Wait) -> io::Result<Moment> {
        self.events.clear();
        let now = self.fleet.turn(wait, &self.clock, &mut self.events)?;
        self.turned = now;
        for event in &mut self.events {
            let (client, stage) = match event {
                Event::Opened { client } | Event::Connected { client } => (*client, Stage::Open),
                Event::Ended {
                    client,
                    outcome,
                    detail,
                } => {
                    self.tally.record(*outcome, detail.take());
                    self.live -= 1;
                    (*client, Stage::Ended)
                }
                Event::Released { client } => {
                    self.sockets -= 1;
                    (*client, Stage::Absent)
                }
                Event::CloseReceived { .. } | Event::Message { .. } => continue,
            };
            let before = std::mem::replace(&mut self.clients[client as usize].stage, stage);
            if before == Stage::Opening {
                self.opening -= 1;
            }
        }
        Ok(now)
    }

    /// Takes turns until `moment`.
    ///
    /// # Errors
    /// Errors of [`Session::turn`].
    pub(crate) fn turn_until(&mut self, moment: Moment) -> Result<(), SessionError> {
        let mut now = self.clock.now();
        while now < moment {
            now = self.turn(Wait::For(moment.since(now)))?;
        }
        Ok(())
    }

    /// Takes turns until no client is opening or open, or until `limit`; returns how many are.
    ///
    /// # Errors
    /// Errors of [`Session::turn`].
    pub(crate) fn turn_until_ended(&mut self, limit: Moment) -> Result<u32, SessionError> {
        let mut now = self.clock.now();
        while self.live > 0 && now < limit {
            now = self.turn(Wait::For(limit.since(now)))?;
        }
        Ok(self.live)
    }

    /// Takes turns until all connections have ended and their sockets are closed. Clients that have
    /// not ended at `limit` are given up.
    ///
    /// # Errors
    /// Errors of [`Session::turn`].
    pub(crate) fn release_all(&mut self, limit: Moment) -> Result<(), SessionError> {
        self.turn_until_ended(limit)?;
        for client in 0..self.clients.len() as u32 {
            self.fleet.give_up(client);
        }
        while self.sockets > 0 {
            self.turn(Wait::Forever)?;
        }
        assert_eq!(
            self.tally.total(),
            self.begun,
            "each connection has one outcome"
        );
        Ok(())
    }

    /// Closes all sockets, also after an interrupt, so that the server does not wait for the clients.
    ///
    /// # Errors
    /// If io_uring_enter(2) fails.
    pub(crate) fn close_sockets(&mut self) -> io::Result<()> {
        for client in 0..self.clients.len() as u32 {
            self.fleet.give_up(client);
        }
        while self.sockets > 0 {
            self.take_turn(Wait::For(TURN_WAIT_MAX))?;
        }
        Ok(())
    }

    /// [Connects](Self::open) all clients.
    ///
    /// # Errors
    /// Errors of [`Session::turn`].
    pub(crate) fn open_all(&mut self, opening: Opening) -> Result<(), SessionError> {
        self.open(0..self.capacity(), opening)
    }

    /// Connects clients, up to [`PENDING_CONNECTS_MAX`] at a time, until each is open or has ended.
    ///
    /// # Errors
    /// Errors of [`Session::turn`].
    pub(crate) fn open(
        &mut self,
        clients: Range<u32>,
        opening: Opening,
    ) -> Result<(), SessionError> {
        let mut now = self.clock.now();
        let mut progress = Progress::start("opened", u64::from(clients.end), now);
        let mut planned = clients;
        while self.opening > 0 || !planned.is_empty() {
            for client in planned.by_ref().take(self.connects_allowed()) {
                self.connect(client, opening, now);
            }
            now = self.turn(Wait::Forever)?;
            progress.set(u64::from(planned.start) - self.opening as u64, now);
        }
        let open = self.open_clients().len();
        progress.finish(open as u64, now);
        Ok(())
    }

    /// Starts the measurement of [`stall`](Self::stall) anew.
    pub(crate) fn reset_stall(&mut self) {
        self.turned = self.clock.now();
        self.stall = Duration::ZERO;
    }

    /// Returns the longest time by which a turn ended later than it was to end, since
    /// [`reset_stall`](Self::reset_stall).
    pub(crate) const fn stall(&self) -> Duration {
        self.stall
    }

    /// Returns how many more clients may start to connect now.
    pub(crate) const fn connects_allowed(&self) -> usize {
        PENDING_CONNECTS_MAX.saturating_sub(self.opening)
    }

    /// Returns the number of clients.
    pub(crate) fn capacity(&self) -> u32 {
        u32::try_from(self.clients.len()).expect("a fleet's size")
    }

    /// Returns the number of connections so far.
    pub(crate) const fn begun(&self) -> u64 {
        self.begun
    }

    /// Returns the number of clients that are opening.
    pub(crate) const fn opening(&self) -> usize {
        self.opening
    }

    /// Returns the number of clients that are opening or open.
    pub(crate) const fn live(&self) -> u32 {
        self.live
    }

    /// Returns the clients that are open.
    pub(crate) fn open_clients(&self) -> Vec<u32> {
        (0..)
            .zip(&self.clients)
            .filter(|(_, client)| client.stage == Stage::Open)
            .map(|(client, _)| client)
            .collect()
    }
}
