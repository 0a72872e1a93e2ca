//! The scenarios: what is asked of a server, and what is measured.
//!
//! Each is a module with its options, the text of its `--help`, and a function `run` that makes
//! [`Findings`](crate::report::Findings) of a [`Trial`](crate::trial::Trial).

pub(crate) mod churn;
pub(crate) mod close_storm;

use std::time::Duration;

use crate::{
    cli::Scenario,
    clock::Moment,
    error::RunError,
    plan::Plan,
    report::Report,
    session::SessionError,
    trial::{Trial, conduct},
    usage::UsageMark,
};

/// From here to the planned moment the server has time to come to rest.
const LEAD: Duration = Duration::from_millis(200);

/// The measured window starts so long after the resources used so far were read.
const MARK_LEAD: Duration = Duration::from_millis(5);

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
    trial.session.turn_until(plan.start())?;
    Ok((plan, mark))
}

/// Takes turns until `moment`, as the session does.
fn rest_until(trial: &mut Trial, moment: Moment) -> Result<(), SessionError> {
    trial.session.turn_until(moment)
}
