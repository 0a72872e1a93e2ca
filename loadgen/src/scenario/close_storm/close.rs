//! Mode close: every client sends Close 1000.

use std::time::Duration;

use tidewheel::ring::Wait;

use crate::{
    clock::Moment,
    error::RunError,
    figures::Figures,
    fleet::{Event, NORMAL},
    latency::Latency,
    outcome::Outcome,
    plan::Plan,
    progress::Progress,
    report::{Exposure, Findings, LATENESS},
    scenario::approach_window,
    session::Session,
    status::Failures,
    trial::Trial,
};

/// Closes that are sent before answers are read again. The moment written down for all of them is
/// that before the first; the last goes out about a millisecond later. With fewer the generator
/// spends its time on answers, and the storm becomes a procession.
const BATCH: u32 = 256;

/// The clients that are to close, and what came of it.
#[derive(Debug)]
struct Storm {
    plan: Plan,
    /// The client of each event of the plan.
    clients: Vec<u32>,
    /// The event of each client; of one that is not in the plan, none.
    events: Vec<Option<u32>>,
    /// When each event took place, in the order of the plan.
    sent: Vec<Moment>,
    /// How many of those sent have had their time.
    expired: usize,
    close: Latency,
    fin: Latency,
    lateness: Latency,
}

/// Closes all open clients over `window`, and waits until each has ended, up to `timeout` for each.
pub(in crate::scenario) fn run(
    window: Duration,
    timeout: Duration,
    trial: &mut Trial,
) -> Result<Findings, RunError> {
    let clients = trial.session.open_clients();
    let count = u32::try_from(clients.len()).expect("a fleet's size");
    let (plan, start) = approach_window(trial, window, count)?;
    let session = &mut trial.session;
    let mut storm = Storm::new(plan, clients);
    let mut progress = Progress::start("closed", u64::from(count), plan.start());
    let mut now = session.clock.now();
    while session.live() > 0 {
        storm.send_due(session, now);
        storm.expire(session, now, timeout);
        now = session.turn(storm.wait(now))?;
        for event in &session.events {
            storm.note(event, now);
        }
        progress.set(u64::from(count - session.live()), now);
    }
    progress.finish(u64::from(count), now);
    let usage = start.until(&trial.server.mark(now)?);
    let unread = trial.session.fleet.unread();
    let fin = storm.fin.corrected.percentiles();
    Ok(Findings {
        settings: Vec::new(),
        asked: vec![Outcome::Closed],
        usage,
        lateness: storm.lateness,
        unread: Some(unread),
        latencies: vec![storm.close, storm.fin],
        figures: Figures::default(),
        failures: Failures::default(),
        exposure: if fin.count > 0 {
            Exposure::Lateness(Duration::from_nanos(fin.p99))
        } else {
            Exposure::Cpu
        },
    })
}

impl Storm {
    fn new(plan: Plan, clients: Vec<u32>) -> Self {
        let size = clients.last().map_or(0, |&client| client as usize + 1);
        let mut events = vec![None; size];
        for (event, &client) in (0..).zip(&clients) {
            events[client as usize] = Some(event);
        }
        Self {
            plan,
            sent: Vec::with_capacity(clients.len()),
            clients,
            events,
            expired: 0,
            close: Latency::new("close"),
            fin: Latency::new("fin"),
            lateness: Latency::new(LATENESS),
        }
    }

    /// The event that is next.
    fn next(&self) -> u32 {
        u32::try_from(self.sent.len()).expect("a fleet's size")
    }

    /// Sends the closes that are due, up to a batch of them.
    fn send_due(&mut self, session: &mut Session, now: Moment) {
        let next = self.next();
        let due = self.plan.due_by(now).min(next + BATCH);
        for event in next..due {
            let client = self.clients[event as usize];
            if session.fleet.start_closing(client, NORMAL, now) {
                self.lateness.record_planned(now, self.plan.due(event));
            }
            self.sent.push(now);
        }
    }

    /// Gives up on the clients whose time is over.
    fn expire(&mut self, session: &mut Session, now: Moment, timeout: Duration) {
        while let Some(&sent) = self.sent.get(self.expired)
            && sent + timeout <= now
        {
            session.fleet.give_up(self.clients[self.expired]);
            self.expired += 1;
        }
    }

    /// How long nothing needs to be sent.
    fn wait(&self, now: Moment) -> Wait {
        let next = self.next();
        if next as usize == self.clients.len() {
            return Wait::Forever;
        }
        match self.plan.due(next).since(now) {
            Duration::ZERO => Wait::No,
            wait => Wait::For(wait),
        }
    }

    /// Writes down the latency that an event tells of.
    fn note(&mut self, event: &Event, now: Moment) {
        let (client, latency) = match event {
            Event::CloseReceived { client } => (*client, &mut self.close),
            Event::Ended {
                client,
                outcome: Outcome::Closed | Outcome::OtherCode | Outcome::FinWithoutClose,
                ..
            } => (*client, &mut self.fin),
            Event::Connected { .. }
            | Event::Opened { .. }
            | Event::Message { .. }
            | Event::Ended { .. }
            | Event::Released { .. } => return,
        };
        let Some(Some(event)) = self.events.get(client as usize) else {
            return;
        };
        latency.record(now, self.plan.due(*event), self.sent[*event as usize]);
    }
}
