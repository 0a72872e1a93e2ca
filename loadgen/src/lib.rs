//! Load generator for WebSocket servers.
//!
//! It is a library function, so that other programs can carry the generator in themselves: [`main`].
#![deny(unsafe_code)]

mod child;
mod cli;
mod clock;
mod error;
mod feed;
mod figures;
mod fleet;
mod gate;
mod hiccup;
mod interrupt;
mod judgement;
mod latency;
mod limits;
mod memory;
mod names;
mod outcome;
mod plan;
mod progress;
mod publisher;
mod report;
mod scenario;
mod server;
mod server_report;
mod session;
mod socket_table;
mod status;
mod summary;
mod syscalls;
mod talk;
mod template;
mod tls;
mod trial;
mod usage;
mod watch;
#[allow(unsafe_code)]
mod wire;

use std::{ffi::OsString, io::Write, process::ExitCode};

use crate::{
    cli::{Cli, Scenario},
    progress::say,
    report::write_files,
    status::Sign,
};

/// Runs the program `loadgen` with these arguments, the first being its name.
///
/// Prints the report on standard output, everything else on standard error. The status is 0 if
/// everything was as asked for, 1 if not, 2 if the run says nothing about the server or the
/// command line is wrong (which ends the process), 130 if it was interrupted; a failed gate and
/// wrong messages are 1 even where 2 applies too. It raises the soft limit of descriptors, handles
/// SIGINT and SIGTERM, and moves the calling thread to another core for the time of the run.
///
/// Where the arguments name no server (`--url`), it starts its own program as the server, with a
/// first argument of its own: a program that carries the generator then has to hand that call's
/// arguments over as they are.
pub fn main(arguments: impl IntoIterator<Item = OsString>) -> ExitCode {
    let arguments: Vec<OsString> = arguments.into_iter().collect();
    if arguments
        .get(1)
        .is_some_and(|first| first == child::SERVER_ARGUMENT)
    {
        return child::main(arguments.into_iter().skip(2));
    }
    run(&Cli::read(arguments))
}

fn run(scenario: &Scenario) -> ExitCode {
    let common = scenario.common();
    let report = match scenario::run(scenario) {
        Ok(report) => report,
        Err(error) => {
            say(format_args!("loadgen: {error}"));
            return status::decide([error.sign()]).into();
        }
    };
    let mut signs = report.signs();
    // A report that cannot be kept is printed all the same.
    if let Some(directory) = &common.out
        && let Err(error) = write_files(&report, directory)
    {
        say(format_args!("loadgen: {error}"));
        signs.push(Sign::Unable);
    }
    let text = match common.json {
        true => report.summary.to_json(),
        false => report.to_string(),
    };
    if let Err(error) = writeln!(std::io::stdout(), "{text}") {
        say(format_args!(
            "loadgen: the report cannot be printed: {error}"
        ));
        signs.push(Sign::Unable);
    }
    status::decide(signs).into()
}
