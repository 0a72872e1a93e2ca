//! Load generator for WebSocket servers.
#![deny(unsafe_code)]

mod child;
mod cli;
mod clock;
mod error;
mod figures;
mod fleet;
mod gate;
mod interrupt;
mod judgement;
mod latency;
mod limits;
mod memory;
mod outcome;
mod plan;
mod progress;
mod report;
mod scenario;
mod server;
mod server_report;
mod session;
mod socket_table;
mod summary;
mod talk;
mod template;
mod tls;
mod trial;
mod usage;
mod watch;
#[allow(unsafe_code)]
mod wire;

use std::{env, io::Write, process::ExitCode};

use mimalloc::MiMalloc;

use crate::cli::{Cli, Scenario};

#[global_allocator]
static ALLOCATOR: MiMalloc = MiMalloc;

fn main() -> ExitCode {
    let mut arguments = env::args_os().skip(1);
    if arguments
        .next()
        .is_some_and(|first| first == child::SERVER_ARGUMENT)
    {
        return child::main(arguments);
    }
    run(&Cli::read())
}

fn run(scenario: &Scenario) -> ExitCode {
    let report = match scenario::run(scenario) {
        Ok(report) => report,
        Err(error) => {
            eprintln!("loadgen: {error}");
            return ExitCode::from(error.status());
        }
    };
    let text = if scenario.common().json {
        report.summary.to_json()
    } else {
        report.to_string()
    };
    if let Err(error) = writeln!(std::io::stdout(), "{text}") {
        eprintln!("loadgen: the report cannot be printed: {error}");
    }
    ExitCode::from(report.summary.verdict)
}
