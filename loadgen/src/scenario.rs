//! The scenarios: what is asked of a server, and what is measured.
//!
//! Each is a module with its options, the text of its `--help`, and a function `run` that makes
//! [`Findings`](crate::report::Findings) of a [`Trial`].

pub(crate) mod churn;
pub(crate) mod close_storm;
pub(crate) mod connect;
pub(crate) mod drain;
pub(crate) mod echo;
pub(crate) mod fanout;
pub(crate) mod idle;
pub(crate) mod scale;
pub(crate) mod slow_consumers;

use std::time::Duration;

use tidewheel::ring::Wait;

use crate::{
    cli::Scenario,
    error::RunError,
    figures::Figures,
    fleet::NORMAL,
    plan::Plan,
    report::Report,
    session::SessionError,
    trial::{Trial, conduct},
    usage::{Usage, UsageMark},
};

/// From here to the planned moment the server has time to come to rest.
const LEAD: Duration = Duration::from_millis(200);

/// The measured window starts so long after the resources used so far were read.
const MARK_LEAD: Duration = Duration::from_millis(5);

/// Connections that are closed at a time where nobody measures it.
const CLOSED_AT_A_TIME: usize = 1024;

/// Runs a scenario.
///
/// # Errors
/// If there is nothing to report.
pub(crate) fn run(scenario: &Scenario) -> Result<Report, RunError> {
    match scenario {
        Scenario::CloseStorm(options) => {
            let run = |trial: &mut Trial| close_storm::run(options, trial);
            conduct(&options.common, close_storm::needs(options), run)
        }
        Scenario::Churn(options) => {
            let run = |trial: &mut Trial| churn::run(options, trial);
            conduct(&options.common, churn::needs(options), run)
        }
        Scenario::Connect(options) => {
            let run = |trial: &mut Trial| connect::run(options, trial);
            conduct(&options.common, connect::needs(options), run)
        }
        Scenario::Drain(options) => {
            let run = |trial: &mut Trial| drain::run(options, trial);
            conduct(&options.common, drain::needs(options), run)
        }
        Scenario::Echo(options) => {
            let run = |trial: &mut Trial| echo::run(options, trial);
            conduct(&options.common, echo::needs(options), run)
        }
        Scenario::Fanout(options) => {
            let run = |trial: &mut Trial| fanout::run(options, trial);
            conduct(&options.common, fanout::needs(options), run)
        }
        Scenario::Idle(options) => {
            let run = |trial: &mut Trial| idle::run(options, trial);
            conduct(&options.common, idle::needs(options), run)
        }
        Scenario::Scale(options) => {
            let run = |trial: &mut Trial| scale::run(options, trial);
            conduct(&options.common, scale::needs(options), run)
        }
        Scenario::SlowConsumers(options) => {
            let run = |trial: &mut Trial| slow_consumers::run(options, trial);
            conduct(&options.common, slow_consumers::needs(options), run)
        }
    }
}

/// Plans `count` events over `window`, and waits for the first of them: the server comes to rest,
/// and what was used so far is read shortly before the window begins.
fn approach_window(
    trial: &mut Trial,
    window: Duration,
    count: u32,
) -> Result<(Plan, UsageMark), RunError> {
    let session = &mut trial.session;
    let mark_at = session.clock.now() + LEAD;
    let plan = Plan::new(mark_at + MARK_LEAD, window, count);
    session.turn_until(mark_at)?;
    let mark = trial.server.mark(plan.start())?;
    trial.session.fleet.forget_unread();
    trial.session.turn_until(plan.start())?;
    Ok((plan, mark))
}

/// Closes all that is open with 1000, some at a time, and waits until it has ended.
fn close_all(trial: &mut Trial) -> Result<(), SessionError> {
    let session = &mut trial.session;
    let clients = session.open_clients();
    let mut now = session.clock.now();
    for batch in clients.chunks(CLOSED_AT_A_TIME) {
        for &client in batch {
            session.fleet.start_closing(client, NORMAL, now);
        }
        let left = session.live().saturating_sub(batch.len() as u32);
        let limit = now + session.timeout;
        while session.live() > left && now < limit {
            now = session.turn(Wait::For(limit.since(now)))?;
        }
    }
    session.release_all(now + session.timeout)
}

/// What server and generator used for a million messages.
fn per_million(figures: &mut Figures, usage: &Usage, messages: u64) {
    let millions = messages as f64 / 1e6;
    let mut told = |name, cpu: Duration| {
        if messages > 0 {
            figures.seconds(name, cpu.div_f64(millions));
        }
    };
    if usage.server.is_some() {
        told("server.cpu_seconds_per_million", usage.server_cpu);
    }
    told("generator.cpu_seconds_per_million", usage.generator.running);
    if let Some(syscalls) = usage.syscalls
        && messages > 0
    {
        let each = (syscalls as f64 / millions) as u64;
        figures.count("server.syscalls_per_million", each);
    }
}
