//! Load generator for WebSocket servers.
//!
//! It opens many connections, exchanges messages on them and ends them, and measures latency, throughput, memory and CPU
//! time. The program is the function [`main`], so that other programs can contain the generator. This one measures a close
//! storm of 100 connections against a server that it starts:
//!
//! ```no_run
//! use std::process::ExitCode;
//!
//! fn main() -> ExitCode {
//!     loadgen::main(["loadgen", "close-storm", "--connections", "100"].map(Into::into))
//! }
//! ```
//!
//! The README of the package describes the scenarios, the report and the exit status.
#![deny(unsafe_code)]

mod cli;
mod fleet;
mod host;
mod interrupt;
mod measure;
mod options;
mod progress;
mod report;
mod run;
mod scenario;
mod server;
mod session;
mod tls;
#[allow(unsafe_code)]
mod wire;

use std::{ffi::OsString, io::Write, process::ExitCode};

use crate::{
    cli::Cli,
    progress::print_line,
    report::{files::write_files, status::Problem},
    scenario::Scenario,
};

/// Runs the program `loadgen` with these arguments, of which the first is the name of the program.
///
/// Prints the report on standard output, and everything else on standard error. Returns exit status 0
/// if the server did all that was expected, and 1 if not. Status 2 means that the run says nothing
/// about the server, or that the command line is wrong (which ends the process), and 130 that the run
/// was interrupted. A failed gate and wrong messages give 1 even if 2 applies too. The function raises
/// the soft limit of descriptors, handles SIGINT and SIGTERM, and moves the calling thread to another
/// core during the run.
///
/// Without `--url`, it starts the running executable (`/proc/self/exe`) as the server, with a first
/// argument that is reserved for that. A program that contains the generator has to pass all arguments
/// of such a process to this function.
pub fn main(arguments: impl IntoIterator<Item = OsString>) -> ExitCode {
    let arguments: Vec<OsString> = arguments.into_iter().collect();
    if arguments
        .get(1)
        .is_some_and(|first| first == server::launch::SERVER_ARGUMENT)
    {
        return server::child::main(arguments.into_iter().skip(2));
    }
    run_scenario(&Cli::read(arguments))
}

fn run_scenario(scenario: &Scenario) -> ExitCode {
    let common = scenario.common();
    let report = match scenario::run(scenario) {
        Ok(report) => report,
        Err(error) => {
            print_line(format_args!("loadgen: {error}"));
            return report::status::decide([error.problem()]).into();
        }
    };
    let mut problems = report.problems();
    // A report that cannot be written to files is still printed.
    if let Some(directory) = &common.out
        && let Err(error) = write_files(&report, directory)
    {
        print_line(format_args!("loadgen: {error}"));
        problems.push(Problem::Unable);
    }
    let text = match common.json {
        true => report.summary.to_json(),
        false => report.to_string(),
    };
    if let Err(error) = writeln!(std::io::stdout(), "{text}") {
        print_line(format_args!(
            "loadgen: the report cannot be printed: {error}"
        ));
        problems.push(Problem::Unable);
    }
    report::status::decide(problems).into()
}
