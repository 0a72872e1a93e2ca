//! Restart: a second server takes over, and the clients reconnect.

use tidewheel::ring::Wait;

use crate::{
    fleet::outcome::Outcome,
    measure::{clock::Moment, figures::Figures, plan::Plan, usage::UsageMark},
    report::{Exposure, Findings, status::Failures},
    run::{Run, error::RunError},
    scenario::{
        drain::{
            options::Options,
            reconnect_schedule::ReconnectSchedule,
            shutdown::{EXIT_CHECK_INTERVAL, Shutdown},
        },
        phases::close_all,
    },
    server::{
        Server,
        child::{ChildError, ChildServer},
    },
    session::echo_exchange::EchoExchange,
};

/// Largest number of messages that are sent between two turns.
const SEND_BATCH_MAX: u32 = 64;

/// The second server.
#[derive(Debug)]
enum Successor {
    /// It is started at the next step, for the first time or because the address was in use.
    NotStarted,
    /// It was started, and does not listen yet.
    Starting(ChildServer),
    /// It listens; its predecessor may still have connections.
    Serving {
        predecessor: ChildServer,
        from: Moment,
    },
}

impl Successor {
    /// Starts the server, or checks whether it listens.
    fn step(self, server: &mut Server, now: Moment) -> Result<Self, ChildError> {
        Ok(match self {
            Self::NotStarted => Self::Starting(server.spawn_successor()?),
            Self::Starting(mut child) => match child.is_ready() {
                Ok(false) => Self::Starting(child),
                Ok(true) => Self::Serving {
                    predecessor: server.replace_child(child),
                    from: now,
                },
                Err(ChildError::Failed { .. }) => Self::NotStarted,
                Err(error) => return Err(error),
            },
            serving @ Self::Serving { .. } => serving,
        })
    }

    /// Returns the server that shuts down.
    fn predecessor<'a>(&'a mut self, server: &'a mut Server) -> &'a mut ChildServer {
        match self {
            Self::NotStarted | Self::Starting(_) => {
                server.child.as_mut().expect("drain starts the server")
            }
            Self::Serving { predecessor, .. } => predecessor,
        }
    }
}

/// Shuts the server down, starts another at the same address, and waits until all clients have
/// reconnected.
///
/// # Errors
/// If there is no report.
pub(super) fn run(
    options: &Options,
    run: &mut Run,
    mut exchange: EchoExchange,
    answering: &[u32],
    mute: usize,
) -> Result<Findings, RunError> {
    let mut shutdown = Shutdown::start(options.common.timeout, run)?;
    let all = answering.len() + mute;
    let span = shutdown.limit.since(shutdown.at);
    let messages = (f64::from(options.rate) * span.as_secs_f64()) as u32;
    let plan = Plan::new(shutdown.at, span, messages);
    let within = options.back_within;
    let mut reconnects = ReconnectSchedule::new(run.clients, run.opening, within, run.seed);
    let mut successor = Successor::NotStarted;
    let mut next = 0;
    let mut now = shutdown.at;
    let start = UsageMark::set(now, None, run.server.generator_core())?;
    while now < shutdown.limit && (shutdown.exit.is_none() || reconnects.open_again < all) {
        successor = successor.step(&mut run.server, now)?;
        let session = &mut run.session;
        reconnects.connect_due(session, now);
        let due = plan.due_by(now).min(next + SEND_BATCH_MAX);
        for event in next..due {
            if let Some(&client) = answering.get(event as usize % answering.len().max(1)) {
                exchange.send(session, client, plan.due(event), now);
            }
        }
        next = due;
        now = exchange.turn(
            session,
            Wait::For(EXIT_CHECK_INTERVAL),
            |_, _, event, _, now| {
                shutdown.handle(event, now);
                reconnects.handle(event, now);
            },
        )?;
        shutdown.check_exit(successor.predecessor(&mut run.server), run.clock.now())?;
    }
    let usage = start.until(&UsageMark::set(now, None, run.server.generator_core())?);
    let mut figures = Figures::default();
    let mut failures = Failures::default();
    shutdown.report(&exchange, mute, &mut figures, &mut failures);
    match &successor {
        Successor::Serving { from, .. } => {
            figures.seconds("restart.serving_seconds", from.since(shutdown.at));
        }
        Successor::NotStarted | Successor::Starting(_) => {
            failures.push("no other server has taken over".to_owned());
        }
    }
    figures.count("restart.back", reconnects.open_again as u64);
    figures.count("restart.refused", reconnects.refused);
    figures.seconds("restart.seconds", now.since(shutdown.at));
    if reconnects.open_again < all {
        let away = all - reconnects.open_again;
        failures.push(format!("{away} of {all} clients have not reconnected"));
    }
    close_all(run)?;
    Ok(Findings {
        settings: options.settings(),
        expected: vec![
            Outcome::ShutDown,
            Outcome::Released,
            // While no server listens.
            Outcome::Refused,
            Outcome::ConnectFailed,
            Outcome::Closed,
        ],
        usage,
        lateness: exchange.lateness,
        unread: None,
        latencies: vec![
            exchange.echo,
            shutdown.close,
            shutdown.fin,
            reconnects.outage,
        ],
        figures,
        failures,
        exposure: Exposure::Cpu,
    })
}
