//! Mode close: every client sends Close 1000.

use std::time::Duration;

use tidewheel::ring::Wait;
use tidewheel_codec::CloseCode;

use crate::{
    fleet::{event::Event, outcome::Outcome},
    measure::{
        clock::Moment, figures::Figures, latency::Latency, latency_names::LATENESS, plan::Plan,
    },
    progress::Progress,
    report::{Exposure, Findings, status::Failures},
    run::{Run, error::RunError},
    scenario::phases::plan_window,
    session::Session,
};

/// Largest number of closes that are sent between two turns. The recorded moment of all of them is that
/// of the first; the last is sent about a millisecond later. With a smaller batch the generator would
/// spend its time on answers, and the closes would not be simultaneous.
const CLOSE_BATCH_MAX: u32 = 256;

/// The planned closes of all clients, and their latencies.
#[derive(Debug)]
struct Storm {
    plan: Plan,
    /// The client of each event of the plan.
    clients: Vec<u32>,
    /// The event of each client that is in the plan.
    events: Vec<Option<u32>>,
    /// The actual moment of each event, in the order of the plan.
    sent: Vec<Moment>,
    /// Number of sent closes whose timeout has passed.
    expired: usize,
    close: Latency,
    fin: Latency,
    lateness: Latency,
}

/// Closes all open clients over `window`, and waits until each has ended, up to `timeout` for each.
pub(crate) fn run(
    window: Duration,
    timeout: Duration,
    run: &mut Run,
) -> Result<Findings, RunError> {
    let clients = run.session.open_clients();
    let count = u32::try_from(clients.len()).expect("a fleet's size");
    let (plan, start) = plan_window(run, window, count)?;
    let session = &mut run.session;
    let mut storm = Storm::new(plan, clients);
    let mut progress = Progress::start("closed", u64::from(count), plan.start());
    let mut now = session.clock.now();
    while session.live() > 0 {
        storm.send_due(session, now);
        storm.expire(session, now, timeout);
        now = session.turn(storm.wait(now))?;
        for event in &session.events {
            storm.handle(event, now);
        }
        progress.set(u64::from(count - session.live()), now);
    }
    progress.finish(u64::from(count), now);
    let usage = start.until(&run.server.mark(now)?);
    let unread = run.session.fleet.unread();
    let fin = storm.fin.corrected.percentiles();
    Ok(Findings {
        settings: Vec::new(),
        expected: vec![Outcome::Closed],
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

    /// Returns the next event.
    fn next(&self) -> u32 {
        u32::try_from(self.sent.len()).expect("a fleet's size")
    }

    /// Sends the closes that are due, up to [`CLOSE_BATCH_MAX`].
    fn send_due(&mut self, session: &mut Session, now: Moment) {
        let next = self.next();
        let due = self.plan.due_by(now).min(next + CLOSE_BATCH_MAX);
        for event in next..due {
            let client = self.clients[event as usize];
            if session
                .fleet
                .start_closing(client, CloseCode::NORMAL_CLOSURE, now)
            {
                self.lateness.record_planned(now, self.plan.due(event));
            }
            self.sent.push(now);
        }
    }

    /// Gives up the clients whose timeout has passed.
    fn expire(&mut self, session: &mut Session, now: Moment, timeout: Duration) {
        while let Some(&sent) = self.sent.get(self.expired)
            && sent + timeout <= now
        {
            session.fleet.give_up(self.clients[self.expired]);
            self.expired += 1;
        }
    }

    /// Returns the wait until the next close is due.
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

    /// Records the latency of an event.
    fn handle(&mut self, event: &Event, now: Moment) {
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
