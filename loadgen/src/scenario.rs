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
    cli::{Common, Scenario},
    error::RunError,
    figures::{Figures, Unit},
    fleet::NORMAL,
    interrupt::Interrupt,
    names::{FigureNames, Names},
    plan::Plan,
    report::Report,
    session::SessionError,
    trial::{Needs, Trial, conduct},
    usage::{Usage, UsageMark},
};

/// From here to the planned moment the server has time to come to rest.
const LEAD: Duration = Duration::from_millis(200);

/// The measured window starts so long after the resources used so far were read.
const MARK_LEAD: Duration = Duration::from_millis(5);

/// Connections that are closed at a time where nobody measures it.
const CLOSED_AT_A_TIME: usize = 1024;

/// The needs of a scenario.
pub(crate) fn needs(scenario: &Scenario) -> Needs {
    match scenario {
        Scenario::CloseStorm(options) => close_storm::needs(options),
        Scenario::Churn(options) => churn::needs(options),
        Scenario::Connect(options) => connect::needs(options),
        Scenario::Drain(options) => drain::needs(options),
        Scenario::Echo(options) => echo::needs(options),
        Scenario::Fanout(options) => fanout::needs(options),
        Scenario::Idle(options) => idle::needs(options),
        Scenario::Scale(options) => scale::needs(options),
        Scenario::SlowConsumers(options) => slow_consumers::needs(options),
    }
}

/// Runs a scenario; one of which the generator was the limit may be repeated.
///
/// # Errors
/// If there is nothing to report.
pub(crate) fn run(scenario: &Scenario) -> Result<Report, RunError> {
    // A signal between two runs ends the next one.
    let interrupt = Interrupt::install()?;
    match scenario {
        Scenario::CloseStorm(options) if options.may_be_repeated() => {
            close_storm::repeat(options, |options| {
                run_once(&Scenario::CloseStorm(options.clone()), &interrupt)
            })
        }
        other => run_once(other, &interrupt),
    }
}

fn run_once(scenario: &Scenario, interrupt: &Interrupt) -> Result<Report, RunError> {
    let (common, needs) = (scenario.common(), needs(scenario));
    conduct(common, needs, interrupt, |trial| match scenario {
        Scenario::CloseStorm(options) => close_storm::run(options, trial),
        Scenario::Churn(options) => churn::run(options, trial),
        Scenario::Connect(options) => connect::run(options, trial),
        Scenario::Drain(options) => drain::run(options, trial),
        Scenario::Echo(options) => echo::run(options, trial),
        Scenario::Fanout(options) => fanout::run(options, trial),
        Scenario::Idle(options) => idle::run(options, trial),
        Scenario::Scale(options) => scale::run(options, trial),
        Scenario::SlowConsumers(options) => slow_consumers::run(options, trial),
    })
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

/// The resident memory of a server that is started here.
const RESIDENT: FigureNames = &[("server.resident_bytes", Unit::Bytes)];

/// See [`per_million`].
const PER_MILLION: FigureNames = &[("generator.cpu_seconds_per_million", Unit::Seconds)];

/// The same for a server that is started here.
const SERVER_PER_MILLION: FigureNames = &[("server.cpu_seconds_per_million", Unit::Seconds)];

/// The same where its system calls are counted.
const SYSCALLS_PER_MILLION: FigureNames = &[("server.syscalls_per_million", Unit::Count)];

/// The names of the figures of [`per_million`].
fn names_per_million(names: Names, common: &Common) -> Names {
    names
        .figures(PER_MILLION)
        .figures_if(common.server_is_started(), SERVER_PER_MILLION)
        .figures_if(common.count_syscalls, SYSCALLS_PER_MILLION)
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
