//! The command line: `tidewheel serve`, `tidewheel echo`, `tidewheel check`.
//!
//! It is a library function, so that other programs can carry a server in themselves.

mod check;
mod echo;
pub(crate) mod log;
mod options;
mod serve;
pub mod units;

use std::{ffi::OsString, io::Write, process::ExitCode};

use clap::{Parser, Subcommand};

use self::{
    log::Log,
    options::{Options, Settled},
};
use crate::{Error, Handler, Origins, Server};

/// A WebSocket server runtime on io_uring.
#[derive(Debug, Parser)]
#[command(name = "tidewheel", version, propagate_version = true)]
struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Fan messages out: who connects to /a/b gets what is published to the topic a/b, and publishes
    /// what it sends; * stands for a level, > for all that follow; ?echo=false leaves the sender out
    Serve(Box<Options>),
    /// Send every message back, on every path: for conformance tests and benchmarks
    Echo(Box<Options>),
    /// Tell what on this host limits or forbids what, and the command that mends it
    Check,
}

/// Exit status for a command line or a configuration file that cannot be followed.
const USAGE: u8 = 2;

/// Runs the program `tidewheel` with these arguments, the first being its name.
///
/// Prints `listening on ADDRESS` on standard output when it serves; logs go to standard error.
/// The status is 0 after a drain, 1 after an error, 2 for a wrong flag or value. `release_memory` is
/// [`Config::release_memory`](crate::Config::release_memory).
pub fn main<I>(args: I, release_memory: Option<fn()>) -> ExitCode
where
    I: IntoIterator<Item: Into<OsString> + Clone>,
{
    let cli = match Cli::try_parse_from(args) {
        Ok(cli) => cli,
        Err(error) => {
            // Standard output may be closed: then nobody reads this anyway.
            let _ = error.print();
            return if error.use_stderr() {
                ExitCode::from(USAGE)
            } else {
                ExitCode::SUCCESS
            };
        }
    };
    match cli.command {
        // Pages of others do not publish with their visitors' connections.
        Command::Serve(options) => settle(options, Origins::SAME, release_memory, serve::run),
        Command::Echo(options) => settle(options, Origins::Any, release_memory, echo::run),
        Command::Check => check::run(),
    }
}

fn settle(
    options: Box<Options>,
    origins: Origins,
    release_memory: Option<fn()>,
    run: impl FnOnce(&Settled) -> Result<(), Error>,
) -> ExitCode {
    let mut options = match options.settle(origins) {
        Ok(options) => options,
        Err(error) => return fail(&error, USAGE),
    };
    options.config.release_memory = release_memory;
    let log = Log::start(options.log_format);
    let result = run(&options);
    drop(log);
    match result {
        Ok(()) => ExitCode::SUCCESS,
        Err(error @ Error::Config(_)) => fail(&error, USAGE),
        Err(error) => fail(&error, 1),
    }
}

/// Serves until a signal, having said on standard output where.
fn run<H: Handler>(
    options: &Settled,
    make: impl Fn(u16) -> H + Clone + Send + 'static,
) -> Result<(), Error> {
    if options.admin.is_none() && options.publish_token.is_some() {
        tracing::warn!(
            "--publish-token has no effect without --admin: the admin listener takes the messages"
        );
    }
    let mut server = Server::bind(options.listen.as_str(), options.config.clone())?;
    if let Some(admin) = &options.admin {
        server = server.with_admin(admin.as_str(), options.publish_token.clone())?;
        server.count_lost_lines(log::lines_lost);
    }
    let (address, admin) = (server.address(), server.admin_address());
    server.start(make)?.until_signal_once_ready(move || {
        // Nobody may read standard output: then the server serves all the same.
        let tell = move || {
            let mut stdout = std::io::stdout().lock();
            // Who closed standard output does not want to know.
            if let Some(admin) = admin {
                let _ = writeln!(stdout, "admin on {admin}");
            }
            let _ = writeln!(stdout, "listening on {address}");
            let _ = stdout.flush();
        };
        if let Err(error) = std::thread::Builder::new().spawn(tell) {
            tracing::warn!(%error, "cannot say on standard output where it listens: {address}");
        }
    })
}

fn fail(error: &dyn std::error::Error, status: u8) -> ExitCode {
    log::say(format!("error: {error}"));
    ExitCode::from(status)
}
