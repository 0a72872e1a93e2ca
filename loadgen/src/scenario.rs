//! Scenarios: load on a server, measurements, and expectations.
//!
//! Each scenario is a module with its options, its help text, its requirements, and a function `run` that
//! returns the [`Findings`](crate::report::Findings) of a [`Run`](crate::run::Run).

pub(crate) mod churn;
pub(crate) mod close_storm;
pub(crate) mod connect;
mod costs;
pub(crate) mod drain;
pub(crate) mod echo;
pub(crate) mod fanout;
pub(crate) mod idle;
mod phases;
pub(crate) mod scale;
pub(crate) mod slow_consumers;

use clap::Subcommand;

use crate::{
    interrupt::Interrupt,
    options::{after_help::AFTER_HELP, common::CommonOptions},
    report::Report,
    run::{error::RunError, execute, requirements::Requirements},
};

/// A scenario with its options.
#[derive(Debug, Subcommand)]
pub(crate) enum Scenario {
    /// End all connections at the same moment, and measure how long the server takes
    #[command(long_about = close_storm::ABOUT, after_long_help = AFTER_HELP)]
    CloseStorm(close_storm::Options),
    /// Open and end connections in many ways, and check that the server keeps nothing of them
    #[command(long_about = churn::ABOUT, after_long_help = AFTER_HELP)]
    Churn(churn::Options),
    /// Open many connections in a short time, and measure how long each takes
    #[command(long_about = connect::ABOUT, after_long_help = AFTER_HELP)]
    Connect(connect::Options),
    /// Shut the server down under load, and measure how it ends its connections
    #[command(long_about = drain::ABOUT, after_long_help = AFTER_HELP)]
    Drain(drain::options::Options),
    /// Send messages that the server echoes, and measure latency, throughput and CPU time
    #[command(long_about = echo::ABOUT, after_long_help = AFTER_HELP)]
    Echo(echo::Options),
    /// Publish to topics, and measure the time until each subscriber has each message
    #[command(long_about = fanout::ABOUT, after_long_help = AFTER_HELP)]
    Fanout(fanout::Options),
    /// Hold idle connections, and measure the memory and the CPU time that they cost
    #[command(long_about = idle::ABOUT, after_long_help = AFTER_HELP)]
    Idle(idle::Options),
    /// Hold a million connections: memory, keepalive, echo, broadcast and close
    #[command(long_about = scale::ABOUT, after_long_help = AFTER_HELP)]
    Scale(scale::Options),
    /// Let some clients send without reading, and measure the effect on the others
    #[command(long_about = slow_consumers::ABOUT, after_long_help = AFTER_HELP)]
    SlowConsumers(slow_consumers::Options),
}

impl Scenario {
    /// Returns the options that all scenarios have.
    pub(crate) const fn common(&self) -> &CommonOptions {
        match self {
            Self::CloseStorm(options) => &options.common,
            Self::Churn(options) => &options.common,
            Self::Connect(options) => &options.common,
            Self::Drain(options) => &options.common,
            Self::Echo(options) => &options.common,
            Self::Fanout(options) => &options.common,
            Self::Idle(options) => &options.common,
            Self::Scale(options) => &options.common,
            Self::SlowConsumers(options) => &options.common,
        }
    }

    /// Checks that the options do not contradict each other.
    ///
    /// # Errors
    /// A message for the command line.
    pub(crate) fn check(&self) -> Result<(), String> {
        self.common().check()?;
        requirements(self).names.check(&self.common().gates)?;
        match self {
            Self::CloseStorm(options) => options.check(),
            Self::Drain(options) => options.check(),
            Self::Fanout(options) => options.check(),
            Self::Scale(options) => options.check(),
            Self::SlowConsumers(options) => options.check(),
            Self::Churn(_) | Self::Connect(_) | Self::Echo(_) | Self::Idle(_) => Ok(()),
        }
    }
}

/// Returns the requirements of a scenario.
pub(crate) fn requirements(scenario: &Scenario) -> Requirements {
    match scenario {
        Scenario::CloseStorm(options) => close_storm::requirements(options),
        Scenario::Churn(options) => churn::requirements(options),
        Scenario::Connect(options) => connect::requirements(options),
        Scenario::Drain(options) => drain::requirements(options),
        Scenario::Echo(options) => echo::requirements(options),
        Scenario::Fanout(options) => fanout::requirements(options),
        Scenario::Idle(options) => idle::requirements(options),
        Scenario::Scale(options) => scale::requirements(options),
        Scenario::SlowConsumers(options) => slow_consumers::requirements(options),
    }
}

/// Runs a scenario; a close storm may be repeated if the generator was the limit.
///
/// # Errors
/// If there is no report.
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
    let (common, requirements) = (scenario.common(), requirements(scenario));
    execute(common, requirements, interrupt, |run| match scenario {
        Scenario::CloseStorm(options) => close_storm::run(options, run),
        Scenario::Churn(options) => churn::run(options, run),
        Scenario::Connect(options) => connect::run(options, run),
        Scenario::Drain(options) => drain::run(options, run),
        Scenario::Echo(options) => echo::run(options, run),
        Scenario::Fanout(options) => fanout::run(options, run),
        Scenario::Idle(options) => idle::run(options, run),
        Scenario::Scale(options) => scale::run(options, run),
        Scenario::SlowConsumers(options) => slow_consumers::run(options, run),
    })
}
