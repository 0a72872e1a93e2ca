//! Mode close: every client sends Close 1000.

use tidewheel::ring::Wait;

use super::{Findings, LEAD, MARK_LEAD, Server, StormError};
use crate::{
    cli::CloseStorm,
    clock::Moment,
    fleet::Event,
    latency::{Distribution, Latency},
    outcome::Outcome,
    plan::Plan,
    progress::Progress,
    report::{CloseFigures, LatencyFigures},
    session::Session,
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
    lateness: Distribution,
}

/// Closes all open clients as planned, and waits until each has ended.
pub(super) fn run(
    options: &CloseStorm,
    server: &Server,
    session: &mut Session<'_>,
) -> Result<Findings, StormError> {
    let clients = session.open_clients();
    let count = u32::try_from(clients.len()).expect("a fleet's size");
    let mark_at = session.clock.now() + LEAD;
    let plan = Plan::new(mark_at + MARK_LEAD, options.window, count);
    let mut storm = Storm::new(plan, clients);
    session.turn_until(mark_at)?;
    let start = server.mark(plan.start())?;
    session.turn_until(plan.start())?;
    let mut progress = Progress::start("closed", count, plan.start());
    let mut now = session.clock.now();
    while session.live() > 0 {
        storm.send_due(session, now);
        storm.expire(session, now, options);
        now = session.turn(storm.wait(now))?;
        for event in &session.events {
            storm.note(event, now);
        }
        progress.set(count - session.live(), now);
    }
    progress.finish(count, now);
    let usage = start.until(&server.mark(now)?);
    Ok(Findings {
        usage,
        lateness: storm.lateness,
        close: Some(CloseFigures {
            close_nanos: LatencyFigures::of(&storm.close),
            fin_nanos: LatencyFigures::of(&storm.fin),
        }),
        emptied: None,
        failures: Vec::new(),
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
            close: Latency::new(),
            fin: Latency::new(),
            lateness: Distribution::new(),
        }
    }

    /// The event that is next.
    fn next(&self) -> u32 {
        u32::try_from(self.sent.len()).expect("a fleet's size")
    }

    /// Sends the closes that are due, up to a batch of them.
    fn send_due(&mut self, session: &mut Session<'_>, now: Moment) {
        let next = self.next();
        let due = self.plan.due_by(now).min(next + BATCH);
        for event in next..due {
            let client = self.clients[event as usize];
            if session.fleet.start_closing(client, now) {
                self.lateness.record(now.since(self.plan.due(event)));
            }
            self.sent.push(now);
        }
    }

    /// Gives up on the clients whose time is over.
    fn expire(&mut self, session: &mut Session<'_>, now: Moment, options: &CloseStorm) {
        while let Some(&sent) = self.sent.get(self.expired)
            && sent + options.timeout <= now
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
            std::time::Duration::ZERO => Wait::No,
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
            Event::Opened { .. } | Event::Ended { .. } | Event::Released => return,
        };
        let Some(Some(event)) = self.events.get(client as usize) else {
            return;
        };
        latency.corrected.record(now.since(self.plan.due(*event)));
        latency
            .uncorrected
            .record(now.since(self.sent[*event as usize]));
    }
}
