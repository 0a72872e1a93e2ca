//! A restart: another server takes over, and the clients come back.

use tidewheel::ring::Wait;

use super::{Ending, Options, RESOLUTION, returns::Returns};
use crate::{
    child::{ChildError, ChildServer},
    clock::Moment,
    error::RunError,
    figures::Figures,
    outcome::Outcome,
    plan::Plan,
    report::{Exposure, Findings},
    scenario::close_all,
    server::Server,
    status::Failures,
    talk::Talk,
    trial::Trial,
    usage::UsageMark,
};

/// Messages that are sent before answers are read again.
const BATCH: u32 = 64;

/// The server that takes over.
#[derive(Debug)]
enum Successor {
    /// It is to be started, for the first time or because the address was still taken.
    Due,
    Starting(ChildServer),
    /// It listens; the one before may still have connections.
    Serving {
        before: ChildServer,
        from: Moment,
    },
}

impl Successor {
    /// Does the next step, if it is time for it.
    fn step(self, server: &mut Server, now: Moment) -> Result<Self, ChildError> {
        Ok(match self {
            Self::Due => Self::Starting(server.spawn_successor()?),
            Self::Starting(mut child) => match child.is_ready() {
                Ok(false) => Self::Starting(child),
                Ok(true) => Self::Serving {
                    before: server.succeed(child),
                    from: now,
                },
                Err(ChildError::Failed { .. }) => Self::Due,
                Err(error) => return Err(error),
            },
            serving @ Self::Serving { .. } => serving,
        })
    }

    /// The server that ends.
    fn before<'a>(&'a mut self, server: &'a mut Server) -> &'a mut ChildServer {
        match self {
            Self::Due | Self::Starting(_) => server.child.as_mut().expect("it is yet to end"),
            Self::Serving { before, .. } => before,
        }
    }
}

/// Ends the server, starts another at the same address, and waits until all are back.
///
/// # Errors
/// If there is nothing to report.
pub(super) fn run(
    options: &Options,
    trial: &mut Trial,
    mut talk: Talk,
    answering: &[u32],
    mute: usize,
) -> Result<Findings, RunError> {
    let mut ending = Ending::begin(options, trial)?;
    let all = answering.len() + mute;
    let span = ending.limit.since(ending.at);
    let messages = (f64::from(options.rate) * span.as_secs_f64()) as u32;
    let plan = Plan::new(ending.at, span, messages);
    let within = options.back_within;
    let mut returns = Returns::new(trial.clients, trial.approach, within, trial.seed);
    let mut successor = Successor::Due;
    let mut next = 0;
    let mut now = ending.at;
    let start = UsageMark::set(now, None, trial.server.generator_core())?;
    while now < ending.limit && (ending.exit.is_none() || returns.back < all) {
        successor = successor.step(&mut trial.server, now)?;
        let session = &mut trial.session;
        returns.connect_due(session, now);
        let due = plan.due_by(now).min(next + BATCH);
        for event in next..due {
            if let Some(&client) = answering.get(event as usize % answering.len().max(1)) {
                talk.say(session, client, plan.due(event), now);
            }
        }
        next = due;
        now = talk.turn(session, Wait::For(RESOLUTION), |_, _, event, _, now| {
            ending.note(event, now);
            returns.note(event, now);
        })?;
        ending.look(successor.before(&mut trial.server), trial.clock.now())?;
    }
    let usage = start.until(&UsageMark::set(now, None, trial.server.generator_core())?);
    let mut figures = Figures::default();
    let mut failures = Failures::default();
    ending.tell(&talk, mute, &mut figures, &mut failures);
    match &successor {
        Successor::Serving { from, .. } => {
            figures.seconds("restart.serving_seconds", from.since(ending.at));
        }
        Successor::Due | Successor::Starting(_) => {
            failures.push("no other server has taken over".to_owned());
        }
    }
    figures.count("restart.back", returns.back as u64);
    figures.count("restart.refused", returns.refused);
    figures.seconds("restart.seconds", now.since(ending.at));
    if returns.back < all {
        let away = all - returns.back;
        failures.push(format!("{away} of {all} clients are not back"));
    }
    close_all(trial)?;
    Ok(Findings {
        settings: options.settings(),
        asked: vec![
            Outcome::Dismissed,
            Outcome::LetGo,
            // While nobody listens.
            Outcome::Refused,
            Outcome::ConnectFailed,
            Outcome::Closed,
        ],
        usage,
        lateness: talk.lateness,
        unread: None,
        latencies: vec![talk.echo, ending.goodbye, ending.fin, returns.outage],
        figures,
        failures,
        exposure: Exposure::Cpu,
    })
}
