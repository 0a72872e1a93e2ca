//! The command line: `tidewheel serve`, `tidewheel echo` and `tidewheel check`.
//!
//! It is a library function, so that another program can offer the same commands.

mod address;
mod check;
mod choice;
mod command;
mod echo;
mod environment;
mod error;
mod file;
mod file_value;
pub(crate) mod log;
mod options;
mod run;
mod serve;
mod settings;
mod sources;
pub mod units;
mod values;

use std::{ffi::OsString, process::ExitCode};

use self::{
    command::Command,
    error::{OptionsError, RunError},
    log::Log,
    settings::Settings,
};
use crate::{Error, Origins};

/// Exit status for a wrong command line, variable or configuration file.
const USAGE: u8 = 2;

/// Runs the program `tidewheel` with these arguments; the first is the name of the program.
///
/// Prints `listening on ADDRESS` on standard output when the server accepts connections, and logs to standard
/// error. The exit status is 0 after a drain, 1 after an error, and 2 for a wrong option or value.
/// `release_memory` is [`Config::release_memory`](crate::Config::release_memory).
pub fn main<I>(args: I, release_memory: Option<fn()>) -> ExitCode
where
    I: IntoIterator<Item: Into<OsString> + Clone>,
{
    let (cli, sources) = match command::parse(args.into_iter().map(Into::into)) {
        Ok(parsed) => parsed,
        Err(error) => {
            // Ignored, because standard output may be closed.
            let _ = error.print();
            return if error.use_stderr() {
                ExitCode::from(USAGE)
            } else {
                ExitCode::SUCCESS
            };
        }
    };
    match cli.command {
        // By default, pages of other sites cannot publish through the browsers of their visitors.
        Command::Serve(options) => {
            let settings = Settings::resolve(*options, Origins::SAME, &sources);
            start(settings, release_memory, serve::run)
        }
        Command::Echo(options) => {
            let settings = Settings::resolve(*options, Origins::Any, &sources);
            start(settings, release_memory, echo::run)
        }
        Command::Check => check::run(),
    }
}

fn start(
    settings: Result<Settings, OptionsError>,
    release_memory: Option<fn()>,
    run: impl FnOnce(&Settings) -> Result<(), RunError>,
) -> ExitCode {
    let mut settings = match settings {
        Ok(settings) => settings,
        Err(error) => return fail(&error, USAGE),
    };
    settings.config.release_memory = release_memory;
    let log = match Log::start(settings.log_format) {
        Ok(log) => log,
        Err(error) => return fail(&error, USAGE),
    };
    if let Some(warning) = environment::unknown(std::env::vars_os().map(|(name, _)| name)) {
        tracing::warn!("{warning}");
    }
    let result = run(&settings);
    drop(log);
    match result {
        Ok(()) => ExitCode::SUCCESS,
        Err(error @ RunError::Server(Error::Config(_))) => fail(&error, USAGE),
        Err(error) => fail(&error, 1),
    }
}

fn fail(error: &dyn std::error::Error, status: u8) -> ExitCode {
    log::print(format!("error: {error}"));
    ExitCode::from(status)
}
