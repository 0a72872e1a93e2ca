//! A fleet in the course of a run: who is open, and how the others ended.

use std::{collections::VecDeque, io, time::Duration};

use tidewheel::ring::Wait;

use crate::{
    clock::{Clock, Moment},
    fleet::{Event, Fleet},
    interrupt::{Interrupt, Interrupted},
    outcome::Tally,
    progress::Progress,
};

/// Connects that are under way at the same time: more would overflow the server's backlog.
const CONNECTS_UNDER_WAY_MAX: usize = 256;

/// Progress is shown, and interrupts are noticed, at least so often.
const IDLE_WAIT: Duration = Duration::from_millis(100);

/// Runs a fleet.
#[derive(Debug)]
pub(crate) struct Session<'t> {
    pub(crate) clock: Clock,
    pub(crate) interrupt: Interrupt,
    pub(crate) fleet: Fleet<'t>,
    pub(crate) tally: Tally,
    /// What happened in the last turn.
    pub(crate) events: Vec<Event>,
    stages: Vec<Stage>,
    /// How many clients are opening.
    opening: usize,
    /// How many clients are opening or open.
    live: u32,
    /// How many sockets are yet to be closed.
    sockets: u32,
}

#[derive(Clone, Copy, Debug, Eq, PartialEq)]
enum Stage {
    /// Nothing was done yet.
    Planned,
    /// It is on its way.
    Opening,
    /// It is open.
    Open,
    /// It has ended, and is in the tally.
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

impl<'t> Session<'t> {
    /// A session of `count` clients, none of which is connected.
    pub(crate) fn new(clock: Clock, interrupt: Interrupt, fleet: Fleet<'t>, count: u32) -> Self {
        Self {
            clock,
            interrupt,
            fleet,
            tally: Tally::default(),
            events: Vec::new(),
            stages: vec![Stage::Planned; count as usize],
            opening: 0,
            live: 0,
            sockets: 0,
        }
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
        self.events.clear();
        let now = self.fleet.turn(wait, &self.clock, &mut self.events)?;
        for event in &mut self.events {
            let (client, stage) = match event {
                Event::Opened { client } => (*client, Stage::Open),
                Event::Ended {
                    client,
                    outcome,
                    detail,
                } => {
                    self.tally.record(*outcome, detail.take());
                    self.live -= 1;
                    (*client, Stage::Ended)
                }
                Event::Released => {
                    self.sockets -= 1;
                    continue;
                }
                Event::CloseReceived { .. } => continue,
            };
            let before = std::mem::replace(&mut self.stages[client as usize], stage);
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

    /// Takes turns until each client has ended and its socket is closed, giving up on those that
    /// have not at `limit`.
    ///
    /// # Errors
    /// Those of [`Session::turn`].
    pub(crate) fn release_all(&mut self, limit: Moment) -> Result<(), SessionError> {
        let mut now = self.clock.now();
        while self.live > 0 && now < limit {
            now = self.turn(Wait::For(limit.since(now)))?;
        }
        for client in self.open_clients() {
            self.fleet.give_up(client);
        }
        while self.sockets > 0 {
            self.turn(Wait::Forever)?;
        }
        Ok(())
    }

    /// Closes all sockets of a session that cannot go on, so that the server need not wait for
    /// their clients.
    ///
    /// # Errors
    /// If the ring is unusable.
    pub(crate) fn hang_up(&mut self) -> io::Result<()> {
        for client in 0..u32::try_from(self.stages.len()).expect("a fleet's size") {
            self.fleet.give_up(client);
        }
        while self.sockets > 0 {
            self.events.clear();
            self.fleet
                .turn(Wait::For(IDLE_WAIT), &self.clock, &mut self.events)?;
            let released = self.events.iter();
            let released = released.filter(|event| matches!(event, Event::Released));
            self.sockets -= u32::try_from(released.count()).expect("a fleet's size");
        }
        Ok(())
    }

    /// Connects all clients, a window of them at a time; each is open or has ended then.
    ///
    /// # Errors
    /// Those of [`Session::turn`].
    pub(crate) fn open_all(&mut self, timeout: Duration) -> Result<(), SessionError> {
        let count = u32::try_from(self.stages.len()).expect("a fleet's size");
        let mut now = self.clock.now();
        let mut progress = Progress::start("opened", count, now);
        let mut planned = 0..count;
        let mut deadlines = VecDeque::new();
        while self.opening > 0 || !planned.is_empty() {
            for client in planned.by_ref().take(CONNECTS_UNDER_WAY_MAX - self.opening) {
                self.fleet.connect(client);
                self.stages[client as usize] = Stage::Opening;
                self.opening += 1;
                self.live += 1;
                self.sockets += 1;
                deadlines.push_back((client, now + timeout));
            }
            while let Some((client, _)) = deadlines.pop_front_if(|(_, deadline)| *deadline <= now) {
                if self.stages[client as usize] == Stage::Opening {
                    self.fleet.give_up(client);
                }
            }
            now = self.turn(Wait::Forever)?;
            progress.set(planned.start - self.opening as u32, now);
        }
        progress.finish(self.count(Stage::Open), now);
        Ok(())
    }

    /// How many clients are opening or open.
    pub(crate) const fn live(&self) -> u32 {
        self.live
    }

    /// How many clients are in this stage.
    fn count(&self, stage: Stage) -> u32 {
        let count = self.stages.iter().filter(|each| **each == stage).count();
        u32::try_from(count).expect("a fleet's size")
    }

    /// The clients that are open.
    pub(crate) fn open_clients(&self) -> Vec<u32> {
        (0..)
            .zip(&self.stages)
            .filter(|(_, stage)| **stage == Stage::Open)
            .map(|(client, _)| client)
            .collect()
    }
}
