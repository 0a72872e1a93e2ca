//! Load generator for WebSocket servers.
#![deny(unsafe_code)]

mod child;
mod cli;
mod clock;
mod close_storm;
mod fleet;
mod interrupt;
mod judgement;
mod latency;
mod limits;
mod outcome;
mod plan;
mod progress;
mod report;
mod server_report;
mod session;
mod socket_table;
mod usage;
mod watch;
#[allow(unsafe_code)]
mod wire;

use std::{env, io::Write, process::ExitCode};

use mimalloc::MiMalloc;

use crate::{
    child::ChildError,
    cli::{Cli, CloseStorm, Scenario},
    close_storm::StormError,
    interrupt::Interrupt,
    watch::WatchError,
};

#[global_allocator]
static ALLOCATOR: MiMalloc = MiMalloc;

/// Exit status after SIGINT, as shells tell it.
const INTERRUPTED: u8 = 130;

fn main() -> ExitCode {
    let mut arguments = env::args_os().skip(1);
    if arguments
        .next()
        .is_some_and(|first| first == child::SERVER_ARGUMENT)
    {
        return child::main(arguments);
    }
    match Cli::read() {
        Scenario::CloseStorm(options) => run_close_storm(&options),
    }
}

fn run_close_storm(options: &CloseStorm) -> ExitCode {
    let report = Interrupt::install()
        .map_err(StormError::from)
        .and_then(|interrupt| close_storm::run(options, &interrupt));
    let report = match report {
        Ok(report) => report,
        Err(error) => {
            eprintln!("loadgen: {error}");
            return ExitCode::from(status(&error));
        }
    };
    let text = if options.json {
        serde_json::to_string_pretty(&report).expect("a report has text keys only")
    } else {
        report.to_string()
    };
    if let Err(error) = writeln!(std::io::stdout(), "{text}") {
        eprintln!("loadgen: the report cannot be printed: {error}");
    }
    ExitCode::from(report.judgement.verdict)
}

/// 1 where the server is at fault; 2 where this host or the command line is.
fn status(error: &StormError) -> u8 {
    match error {
        StormError::Interrupted(_)
        | StormError::Child(ChildError::Interrupted(_))
        | StormError::Watch(WatchError::Interrupted(_)) => INTERRUPTED,
        StormError::Child(_)
        | StormError::Report(_)
        | StormError::Watch(_)
        | StormError::NotCovered { .. } => 1,
        StormError::Limit(_)
        | StormError::Reset(_)
        | StormError::Unknowable(_)
        | StormError::Ring(_)
        | StormError::System(_)
        | StormError::Session(_) => 2,
    }
}
