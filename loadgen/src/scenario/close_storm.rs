//! The close storm: all connections end at the same moment.

pub(super) mod close;
mod departure;

use std::time::Duration;

use clap::{Args, ValueEnum};

use super::LEAD;
use crate::{
    child::Service,
    cli::{Common, Deadlines, duration},
    error::RunError,
    hiccup::HiccupMeter,
    limits,
    report::Findings,
    trial::{Needs, SMALL, Trial},
    usage::resident_bytes,
};

pub(crate) const ABOUT: &str = "\
Open connections, end them all at the same moment, and measure how long the server takes.

Each connection is opened, and counts as open when a first message has come back as it was sent. \
Then a moment in the near future is planned, at which all of them end:

  close   Each sends Close 1000. Measured, for each: until the server's Close arrives, and until \
its FIN does. Asked for: Close 1000, then FIN.
  reset   Each is reset (RST). Measured: until the server's own report shows no connection. \
Bound: 1 s.
  silent  Each stops reading and answering, and stays connected. Measured: until neither the \
server's own report nor the kernel's socket table shows a connection, and how many sockets the \
kernel still keeps half a second later (FIN_WAIT1, CLOSING, LAST_ACK). Bound: ping interval + ping \
timeout + close timeout + 0.8 s, and none. Without other settings each of the three is 1 s.

All latencies are counted from the planned moment, whenever the generator came round to sending, \
so that a slow generator makes them longer and never shorter. Beside them stand the uncorrected \
ones, from the actual send, and the lateness, from the plan to the actual send. With all closes \
planned for one moment lateness is inherent: one thread sends them one after the other. The true \
latency of the server lies between the two. --window spreads the ends over a time that the \
generator can keep to.

Without --url the server is a child process on a core of its own, the generator on another. In mode \
close, with the right to real-time priority, a thread on each of them notes how late it may run, \
every 4 ms (`hiccup`): because the host of a virtual machine let others run, or because the kernel \
did something that it does not interrupt, be it for the server. What the host took is told apart \
(machine.stolen_seconds).";

/// Connections of a run for which nothing else was said.
const CONNECTIONS: u32 = 10_000;

/// The deadlines of a child server in mode silent, where none were given.
const SILENT_DEADLINE: Duration = Duration::from_secs(1);

/// What a server may take beyond its deadlines to let go of silent clients.
const SILENT_SLACK: Duration = Duration::from_millis(800);

/// What a server may take to let go of reset clients.
const RESET_BOUND: Duration = Duration::from_secs(1);

/// The options of the close storm.
#[derive(Args, Clone, Debug)]
#[command(after_long_help = crate::cli::EXIT_STATUS)]
pub(crate) struct Options {
    #[command(flatten)]
    pub(crate) common: Common,

    /// How the connections end
    #[arg(long, value_enum, default_value_t = Mode::Close)]
    pub(crate) mode: Mode,

    /// Spread the ends evenly over this time, instead of all at once
    #[arg(long, value_name = "DURATION", value_parser = duration, default_value = "0s")]
    window: Duration,
}

/// How the connections of a close storm end.
#[derive(Clone, Copy, Debug, Eq, PartialEq, ValueEnum)]
pub(crate) enum Mode {
    /// By the closing handshake, with Close 1000
    Close,
    /// By RST
    Reset,
    /// By the server, after the clients stop answering
    Silent,
}

impl Mode {
    const fn name(self) -> &'static str {
        match self {
            Self::Close => "close",
            Self::Reset => "reset",
            Self::Silent => "silent",
        }
    }
}

impl Options {
    /// Whether the options make sense together.
    pub(crate) fn check(&self) -> Result<(), &'static str> {
        if self.mode == Mode::Silent && !self.window.is_zero() {
            return Err("--window has no meaning with --mode silent: all fall silent at once");
        }
        Ok(())
    }
}

/// What a close storm needs.
pub(crate) fn needs(options: &Options) -> Needs {
    let deadlines = options.common.deadlines;
    Needs {
        scenario: "close-storm",
        connections: CONNECTIONS,
        service: Service::Echo,
        deadlines: match options.mode {
            Mode::Close | Mode::Reset => deadlines,
            Mode::Silent => Deadlines {
                handshake_timeout: deadlines.handshake_timeout,
                ..deadlines.or(SILENT_DEADLINE)
            },
        },
        message_size: SMALL,
    }
}

/// Runs the storm.
///
/// # Errors
/// If there is nothing to report.
pub(crate) fn run(options: &Options, trial: &mut Trial) -> Result<Findings, RunError> {
    let address = trial.target.address;
    match options.mode {
        Mode::Reset | Mode::Silent if !limits::is_local(address) => {
            return Err(RunError::Unknowable(address));
        }
        Mode::Close | Mode::Reset | Mode::Silent => {}
    }
    trial.session.open_all(trial.approach)?;
    trial.session.turn_until(trial.clock.now() + LEAD)?;
    let resident = trial.server.pid().map(resident_bytes).transpose()?;
    let mut findings = match options.mode {
        Mode::Close => {
            let hiccups = HiccupMeter::start(trial.server.cores.as_ref(), trial.clock);
            let mut findings = close::run(options.window, options.common.timeout, trial)?;
            findings.latencies.push(hiccups.stop());
            findings
        }
        Mode::Reset => departure::reset(options, trial)?,
        Mode::Silent => departure::silence(options, trial)?,
    };
    if let Some(resident) = resident {
        findings
            .figures
            .bytes("server.resident_bytes", resident as f64);
    }
    let mode = options.mode.name().to_owned();
    findings.settings.push(("mode", mode));
    if !options.window.is_zero() {
        let window = format!("{:?}", options.window);
        findings.settings.push(("window", window));
    }
    Ok(findings)
}
