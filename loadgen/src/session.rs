//! A fleet in the course of a run: who is open, and how the others ended.

use std::{collections::VecDeque, io, ops::Range, time::Duration};

use tidewheel::ring::Wait;

use crate::{
    clock::{Clock, Moment},
    fleet::{Approach, Event, Fleet},
    interrupt::{Interrupt, Interrupted},
    outcome::Tally,
    progress::Progress,
};

/// Connects that are under way at the same time: more would overflow the server's backlog.
pub(crate) const CONNECTS_UNDER_WAY_MAX: usize = 256;

/// Progress is shown, and interrupts are noticed, at least so often.
const IDLE_WAIT: Duration = Duration::from_millis(100);

/// Runs a fleet.
#[derive(Debug)]
pub(crate) struct Session {
    pub(crate) clock: Clock,
    pub(crate) interrupt: Interrupt,
    pub(crate) fleet: Fleet,
    pub(crate) tally: Tally,
    /// What happened in the last turn.
    pub(crate) events: Vec<Event>,
    /// How long a client may take to open.
    pub(crate) timeout: Duration,
    places: Vec<Place>,
    /// When those that are opening are given up, in order: the client, its round, the deadline.
    deadlines: VecDeque<(u32, u8, Moment)>,
    /// Connections begun so far; each is in the tally when it has ended.
    begun: u64,
    /// How many clients are opening.
    opening: usize,
    /// How many clients are opening or open.
    live: u32,
    /// How many sockets are yet to be closed.
    sockets: u32,
    /// When the last turn ended.
    turned: Moment,
    /// The longest that a turn came later than it was to.
    stall: Duration,
}

/// A client's place in the run.
#[derive(Clone, Copy, Debug)]
struct Place {
    stage: Stage,
    /// Counts its connections, modulo 256.
    round: u8,
}

#[derive(Clone, Copy, Debug, Eq, PartialEq)]
enum Stage {
    /// It has no socket.
    Absent,
    /// It is on its way.
    Opening,
    /// It is open.
    Open,
    /// It has ended, and is in the tally; its socket is yet to be closed.
    Ended,
}

/// Why a session cannot go on.
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
    /// A session of `count` clients, none of which is connected. One that is not open within
    /// `timeout` is given up.
    pub(crate) fn new(
        clock: Clock,
        interrupt: Interrupt,
        fleet: Fleet,
        count: u32,
        timeout: Duration,
    ) -> Self {
        let place = Place {
            stage: Stage::Absent,
            round: 0,
        };
        Self {
            clock,
            interrupt,
            fleet,
            tally: Tally::default(),
            events: Vec::new(),
            timeout,
            places: vec![place; count as usize],
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
    pub(crate) fn connect(&mut self, client: u32, approach: Approach, now: Moment) {
        let place = &mut self.places[client as usize];
        assert_eq!(place.stage, Stage::Absent, "client {client} is in use");
        place.stage = Stage::Opening;
        place.round = place.round.wrapping_add(1);
        self.deadlines
            .push_back((client, place.round, now + self.timeout));
        self.fleet.connect(client, approach);
        self.begun += 1;
        self.opening += 1;
        self.live += 1;
        self.sockets += 1;
    }

    /// Takes one turn of the fleet; `events` are those of this turn.
    ///
    /// # Errors
    /// If the ring is unusable, or the run was interrupted.
    pub(crate) fn turn(&mut self, wait: Wait) -> Result<Moment, SessionError> {
        self.interrupt.check()?;
        let wait = match wait {
            Wait::No => Wait::No,
            Wait::For(limit) => Wait::For(limit.min(IDLE_WAIT)),
            Wait::Forever => Wait::For(IDLE_WAIT),
        };
        let begun = self.turned;
        let now = self.take_turn(wait)?;
        let wait = match wait {
            Wait::No => Duration::ZERO,
            Wait::For(limit) => limit,
            Wait::Forever => unreachable!("it is bounded above"),
        };
        self.stall = self.stall.max(now.since(begun + wait));
        while let Some((client, round, _)) = self
            .deadlines
            .pop_front_if(|(_, _, deadline)| *deadline <= now)
        {
            let place = self.places[client as usize];
            if place.stage == Stage::Opening && place.round == round {
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
            let before = std::mem::replace(&mut self.places[client as usize].stage, stage);
            if before == Stage::Opening {
                self.opening -= 1;
            }
        }
        Ok(now)
    }

    /// Takes turns until `moment`.
    ///
    /// # Errors
    /// Those of [`Session::turn`].
    pub(crate) fn turn_until(&mut self, moment: Moment) -> Result<(), SessionError> {
        let mut now = self.clock.now();
        while now < moment {
            now = self.turn(Wait::For(moment.since(now)))?;
        }
        Ok(())
    }

    /// Takes turns until no client is opening or open, or `limit`; gives how many are.
    ///
    /// # Errors
    /// Those of [`Session::turn`].
    pub(crate) fn turn_until_ended(&mut self, limit: Moment) -> Result<u32, SessionError> {
        let mut now = self.clock.now();
        while self.live > 0 && now < limit {
            now = self.turn(Wait::For(limit.since(now)))?;
        }
        Ok(self.live)
    }

    /// Takes turns until each client has ended and its socket is closed, giving up on those that
    /// have not at `limit`.
    ///
    /// # Errors
    /// Those of [`Session::turn`].
    pub(crate) fn release_all(&mut self, limit: Moment) -> Result<(), SessionError> {
        self.turn_until_ended(limit)?;
        for client in 0..self.places.len() as u32 {
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

    /// Closes all sockets of a session that cannot go on, so that the server need not wait for
    /// their clients.
    ///
    /// # Errors
    /// If the ring is unusable.
    pub(crate) fn hang_up(&mut self) -> io::Result<()> {
        for client in 0..self.places.len() as u32 {
            self.fleet.give_up(client);
        }
        while self.sockets > 0 {
            self.take_turn(Wait::For(IDLE_WAIT))?;
        }
        Ok(())
    }

    /// [Connects](Self::open) all clients.
    ///
    /// # Errors
    /// Those of [`Session::turn`].
    pub(crate) fn open_all(&mut self, approach: Approach) -> Result<(), SessionError> {
        self.open(0..self.capacity(), approach)
    }

    /// Connects clients, a window of them at a time; each is open or has ended then.
    ///
    /// # Errors
    /// Those of [`Session::turn`].
    pub(crate) fn open(
        &mut self,
        clients: Range<u32>,
        approach: Approach,
    ) -> Result<(), SessionError> {
        let mut now = self.clock.now();
        let mut progress = Progress::start("opened", u64::from(clients.end), now);
        let mut planned = clients;
        while self.opening > 0 || !planned.is_empty() {
            for client in planned.by_ref().take(self.connects_free()) {
                self.connect(client, approach, now);
            }
            now = self.turn(Wait::Forever)?;
            progress.set(u64::from(planned.start) - self.opening as u64, now);
        }
        let open = self.open_clients().len();
        progress.finish(open as u64, now);
        Ok(())
    }

    /// Forgets how late turns were before now.
    pub(crate) fn forget_stalls(&mut self) {
        self.turned = self.clock.now();
        self.stall = Duration::ZERO;
    }

    /// The longest that a turn came later than it was to, since that was forgotten.
    pub(crate) const fn stall(&self) -> Duration {
        self.stall
    }

    /// How many more clients may start to connect now.
    pub(crate) const fn connects_free(&self) -> usize {
        CONNECTS_UNDER_WAY_MAX.saturating_sub(self.opening)
    }

    /// How many clients there may be.
    pub(crate) fn capacity(&self) -> u32 {
        u32::try_from(self.places.len()).expect("a fleet's size")
    }

    /// Connections begun so far.
    pub(crate) const fn begun(&self) -> u64 {
        self.begun
    }

    /// How many clients are opening.
    pub(crate) const fn opening(&self) -> usize {
        self.opening
    }

    /// How many clients are opening or open.
    pub(crate) const fn live(&self) -> u32 {
        self.live
    }

    /// The clients that are open.
    pub(crate) fn open_clients(&self) -> Vec<u32> {
        (0..)
            .zip(&self.places)
            .filter(|(_, place)| place.stage == Stage::Open)
            .map(|(client, _)| client)
            .collect()
    }
}
