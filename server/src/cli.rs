//! The command line: `tidewheel serve`, `tidewheel echo`, `tidewheel check`.
//!
//! It is a library function, so that other programs can carry a server in themselves.

mod check;
mod echo;
mod environment;
mod file;
mod given;
pub(crate) mod log;
mod options;
mod serve;
mod text;
pub mod units;
mod values;

use std::{ffi::OsString, io::Write, process::ExitCode};

use clap::{
    CommandFactory as _, FromArgMatches as _, Parser, Subcommand,
    error::{ContextKind, ContextValue, ErrorKind},
};

use self::{
    given::{Given, variable},
    log::Log,
    options::{Address, Options, OptionsError, Settled},
};
use crate::{Error, Handler, Origins, Request, Server, Verdict, host};

/// A WebSocket server runtime on io_uring.
#[derive(Debug, Parser)]
#[command(name = "tidewheel", version, propagate_version = true)]
struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Publish each message to all clients of the same path
    ///
    /// The path is the topic: a client of /orders/eu receives what is published to orders/eu, and publishes
    /// what it sends there. In a path, * stands for one level and > for all that follow: such a client
    /// only receives. With ?echo=false a client does not receive what it sent itself.
    Serve(Box<Options>),
    /// Send every message back, on every path, for conformance tests and benchmarks
    Echo(Box<Options>),
    /// Check the limits of this host, and print the commands that raise them
    Check,
}

/// Texts of the help that are not the same for `serve` and `echo`.
struct Texts {
    origin_default: &'static str,
    publish_token: &'static str,
}

const SERVE: Texts = Texts {
    origin_default: "same",
    publish_token: "Token that POST /publish/TOPIC of the admin listener asks for, as \
                    `Authorization: Bearer TOKEN`. Without it nobody can publish by HTTP. \
                    A variable or the file keeps it out of `ps` [default: not set]",
};

const ECHO: Texts = Texts {
    origin_default: "any",
    publish_token: "Token that POST /publish/all of the admin listener asks for, as \
                    `Authorization: Bearer TOKEN`. With it, all connections receive what is \
                    published to the topic `all`; without it nobody can publish. \
                    A variable or the file keeps it out of `ps` [default: not set]",
};

/// The command line, with the texts of each command.
fn command() -> clap::Command {
    Cli::command()
        .mut_subcommand("serve", |command| {
            with_texts(command, &SERVE).override_usage("tidewheel serve [OPTIONS]")
        })
        .mut_subcommand("echo", |command| {
            with_texts(command, &ECHO).override_usage("tidewheel echo [OPTIONS]")
        })
}

fn with_texts(command: clap::Command, texts: &Texts) -> clap::Command {
    command
        .mut_arg("publish_token", |arg| arg.help(texts.publish_token))
        .mut_arg("origin", |arg| {
            let help = arg.get_help().map(ToString::to_string).unwrap_or_default();
            arg.help(format!("{help} [default: {}]", texts.origin_default))
        })
        .after_help(
            "A DURATION is written as 500ms, 1.5s, 2m or 1h, a SIZE as 65536, 64KiB, 1MiB or 1GiB. Flags \
             come before variables, and variables before the file.",
        )
}

/// Reads the command line.
fn parse(args: impl Iterator<Item = OsString>) -> Result<(Cli, Given), clap::Error> {
    let args = with_negative_values(args);
    let matches = command().try_get_matches_from(&args);
    let read = matches.and_then(|matches| {
        let cli = Cli::from_arg_matches(&matches)?;
        let given = matches.subcommand().map(|(_, matches)| Given::of(matches));
        Ok((cli, given.unwrap_or_default()))
    });
    read.map_err(|error| explain(error, &args))
}

/// Ties a negative number to the flag before it. Otherwise clap takes the number for a flag, and its error does
/// not name the real one.
fn with_negative_values(args: impl Iterator<Item = OsString>) -> Vec<OsString> {
    let mut tied: Vec<OsString> = Vec::new();
    for arg in args {
        let bytes = arg.as_encoded_bytes();
        let is_negative = matches!(bytes, [b'-', digit, ..] if digit.is_ascii_digit());
        match tied.last_mut() {
            Some(flag) if is_negative && flag.as_encoded_bytes().starts_with(b"--") => {
                flag.push("=");
                flag.push(arg);
            }
            Some(_) | None => tied.push(arg),
        }
    }
    tied
}

/// The advice for an unknown flag.
fn flag_meant(name: &str, args: &[OsString]) -> Option<&'static str> {
    let first = args.get(1).map(|arg| arg.to_string_lossy());
    match name {
        "--port" | "-p" => Some("the port is part of --listen, as in --listen 127.0.0.1:8080"),
        "--log-level" | "--log" | "--verbose" | "-v" => {
            Some("the variable TIDEWHEEL_LOG says how much is logged, as in TIDEWHEEL_LOG=debug")
        }
        _ if first.is_some_and(|first| first.starts_with('-')) => Some(
            "options stand behind serve or echo, as in tidewheel serve --listen 127.0.0.1:8080",
        ),
        _ => None,
    }
}

/// Says what clap does not: what an unknown flag means, and that a value comes from the environment.
fn explain(mut error: clap::Error, args: &[OsString]) -> clap::Error {
    let Some(ContextValue::String(name)) = error.get(ContextKind::InvalidArg).cloned() else {
        return error;
    };
    if error.kind() == ErrorKind::UnknownArgument {
        if let Some(meant) = flag_meant(&name, args) {
            let tips = vec![meant.into()];
            error.insert(ContextKind::Suggested, ContextValue::StyledStrs(tips));
        }
        return error;
    }
    let mut args = args.iter().map(|arg| arg.to_string_lossy());
    let flag = name.split(' ').next().unwrap_or_default();
    let variable = variable(flag.trim_start_matches('-'));
    let is_flag = |arg: &str| {
        let rest = arg.strip_prefix(flag);
        rest.is_some_and(|rest| rest.is_empty() || rest.starts_with('='))
    };
    if flag.starts_with("--")
        && !args.any(|arg| is_flag(&arg))
        && std::env::var_os(&variable).is_some()
    {
        let name = format!("{name} ({variable})");
        error.insert(ContextKind::InvalidArg, ContextValue::String(name));
    }
    error
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
    let (cli, given) = match parse(args.into_iter().map(Into::into)) {
        Ok(read) => read,
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
        Command::Serve(options) => {
            let options = options.settle(Origins::SAME, &given);
            start(options, release_memory, serve::run)
        }
        Command::Echo(options) => {
            let options = options.settle(Origins::Any, &given);
            start(options, release_memory, echo::run)
        }
        Command::Check => check::run(),
    }
}

fn start(
    options: Result<Settled, OptionsError>,
    release_memory: Option<fn()>,
    run: impl FnOnce(&Settled) -> Result<(), RunError>,
) -> ExitCode {
    let mut options = match options {
        Ok(options) => options,
        Err(error) => return fail(&error, USAGE),
    };
    options.config.release_memory = release_memory;
    let log = match Log::start(options.log_format) {
        Ok(log) => log,
        Err(error) => return fail(&error, USAGE),
    };
    if let Some(told) = environment::unknown(std::env::vars_os().map(|(name, _)| name)) {
        tracing::warn!("{told}");
    }
    let result = run(&options);
    drop(log);
    match result {
        Ok(()) => ExitCode::SUCCESS,
        Err(error @ RunError::Server(Error::Config(_))) => fail(&error, USAGE),
        Err(error) => fail(&error, 1),
    }
}

/// An error of the server, with the option that leads to it if there is one.
#[derive(Debug, thiserror::Error)]
enum RunError {
    /// It cannot listen on an address.
    #[error("{place}: {error}")]
    Address {
        /// The flag, variable or entry of the file that sets it.
        place: String,
        error: Error,
    },
    #[error(transparent)]
    Server(#[from] Error),
}

impl Address {
    /// An error of the server that listens here, with what sets the address if that is why.
    fn error(&self, error: Error) -> RunError {
        match error {
            Error::Resolve { .. }
            | Error::PortTaken { .. }
            | Error::PortReserved { .. }
            | Error::NotOfThisHost { .. }
            | Error::Listen { .. } => RunError::Address {
                place: self.place.clone(),
                error,
            },
            other => other.into(),
        }
    }
}

/// Accepts a client, with the first of these subprotocols that it offers, if it offers one.
fn accept<S>(request: &Request<'_>, subprotocols: &[String], state: S) -> Verdict<S> {
    let mut names = subprotocols.iter();
    match names.find_map(|name| request.choose_protocol(&[name])) {
        Some(name) => Verdict::accept_protocol(state, name),
        None => Verdict::accept(state),
    }
}

/// Serves until a signal, having said on standard output where.
fn run<H: Handler>(
    options: &Settled,
    make: impl Fn(u16) -> H + Clone + Send + 'static,
) -> Result<(), RunError> {
    if options.admin.is_none() && options.publish_token.is_some() {
        tracing::warn!(
            "--publish-token has no effect without --admin: the admin listener takes the messages"
        );
    }
    let cores = host::cores();
    if let Some(shards) = options.config.shards.filter(|&shards| shards > cores) {
        tracing::warn!(
            "a shard has a core of its own; there are {cores} cores for {shards} shards"
        );
    }
    let listen = &options.listen;
    let server = Server::bind(listen.text.as_str(), options.config.clone());
    let mut server = server.map_err(|error| listen.error(error))?;
    if let Some(admin) = &options.admin {
        let with_admin = server.with_admin(admin.text.as_str(), options.publish_token.clone());
        server = with_admin.map_err(|error| admin.error(error))?;
        server.count_lost_lines(log::lines_lost);
    }
    let (address, admin) = (server.address(), server.admin_address());
    let ended = server.start(make)?.until_signal_once_ready(move || {
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
    });
    Ok(ended?)
}

fn fail(error: &dyn std::error::Error, status: u8) -> ExitCode {
    log::say(format!("error: {error}"));
    ExitCode::from(status)
}
