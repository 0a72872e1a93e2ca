//! The grammar of the command line, its help, and its errors.

use std::ffi::OsString;

use clap::{
    CommandFactory as _, FromArgMatches as _, Parser, Subcommand,
    error::{ContextKind, ContextValue, ErrorKind},
};

use super::{
    options::Options,
    sources::{Sources, variable},
};

/// A WebSocket server runtime on io_uring.
#[derive(Debug, Parser)]
#[command(name = "tidewheel", version, propagate_version = true)]
pub(super) struct Cli {
    #[command(subcommand)]
    pub(super) command: Command,
}

#[derive(Debug, Subcommand)]
pub(super) enum Command {
    /// Publish each message to all clients with the same path
    ///
    /// The path is the topic: a client of /orders/eu subscribes to orders/eu, and publishes the messages that
    /// it sends to orders/eu. In a path, * matches one level and > matches all further levels; a client with
    /// such a path can only receive. With ?echo=false, a client does not receive its own messages.
    Serve(Box<Options>),
    /// Send every message back to its client, on every path, for conformance tests and benchmarks
    Echo(Box<Options>),
    /// Check the limits of this host, and print the commands that raise them
    Check,
}

/// The parts of the help that differ between `serve` and `echo`.
struct Texts {
    origin_default: &'static str,
    publish_token: &'static str,
}

const SERVE: Texts = Texts {
    origin_default: "same",
    publish_token: "Token required by POST /publish/TOPIC of the admin listener, in \
                    `Authorization: Bearer TOKEN`. Without a token that request is refused. \
                    A variable or the file keeps the token out of `ps` [default: not set]",
};

const ECHO: Texts = Texts {
    origin_default: "any",
    publish_token: "Token required by POST /publish/all of the admin listener, in \
                    `Authorization: Bearer TOKEN`. With a token, all connections subscribe to the \
                    topic `all`; without one that request is refused. \
                    A variable or the file keeps the token out of `ps` [default: not set]",
};

/// The command line, with the help of each command.
pub(super) fn command() -> clap::Command {
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
            "A DURATION is written as 500ms, 1.5s, 2m or 1h, a SIZE as 65536 (bytes), 64KiB, 1MiB or 1GiB. \
             Flags take precedence over variables, and variables over the file.",
        )
}

/// Parses the command line.
///
/// # Errors
/// If it is wrong, or asks for the help or the version.
pub(super) fn parse(args: impl Iterator<Item = OsString>) -> Result<(Cli, Sources), clap::Error> {
    let args = with_negative_values(args);
    let matches = command().try_get_matches_from(&args);
    let parsed = matches.and_then(|matches| {
        let cli = Cli::from_arg_matches(&matches)?;
        let sources = matches
            .subcommand()
            .map(|(_, matches)| Sources::of(matches));
        Ok((cli, sources.unwrap_or_default()))
    });
    parsed.map_err(|error| explain(error, &args))
}

/// Joins a negative number to the flag before it, as in `--shards=-1`. Otherwise clap takes the number for a
/// flag, and its error does not name the real one.
fn with_negative_values(args: impl Iterator<Item = OsString>) -> Vec<OsString> {
    let mut joined: Vec<OsString> = Vec::new();
    for arg in args {
        let bytes = arg.as_encoded_bytes();
        let is_negative = matches!(bytes, [b'-', digit, ..] if digit.is_ascii_digit());
        match joined.last_mut() {
            Some(flag) if is_negative && flag.as_encoded_bytes().starts_with(b"--") => {
                flag.push("=");
                flag.push(arg);
            }
            Some(_) | None => joined.push(arg),
        }
    }
    joined
}

/// Advice for an unknown flag.
fn advice(name: &str, args: &[OsString]) -> Option<&'static str> {
    let first = args.get(1).map(|arg| arg.to_string_lossy());
    match name {
        "--port" | "-p" => Some("the port is part of --listen, as in --listen 127.0.0.1:8080"),
        "--log-level" | "--log" | "--verbose" | "-v" => {
            Some("the variable TIDEWHEEL_LOG sets the level of the log, as in TIDEWHEEL_LOG=debug")
        }
        _ if first.is_some_and(|first| first.starts_with('-')) => {
            Some("options come after serve or echo, as in tidewheel serve --listen 127.0.0.1:8080")
        }
        _ => None,
    }
}

/// Adds advice to the error for an unknown flag, and the variable to the error for a value that comes from the
/// environment.
fn explain(mut error: clap::Error, args: &[OsString]) -> clap::Error {
    let Some(ContextValue::String(name)) = error.get(ContextKind::InvalidArg).cloned() else {
        return error;
    };
    if error.kind() == ErrorKind::UnknownArgument {
        if let Some(advice) = advice(&name, args) {
            let tips = vec![advice.into()];
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
