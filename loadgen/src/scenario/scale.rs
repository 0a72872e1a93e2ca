//! Scale: a million connections on one machine, and what is done with them.

mod broadcast;
mod stall;

use std::time::Duration;

use clap::Args;
use tidewheel::cli::units::Span;

use super::{
    close_storm::close,
    idle::{HELD, KEEPALIVE, hold},
};
use crate::{
    child::Service,
    cli::{Common, Deadlines, duration},
    error::RunError,
    figures::{Figures, Unit},
    hiccup::{HICCUP, HiccupMeter},
    memory::{CONNECTION_BYTES, Memory, SERVER_BYTES},
    names::{Counted, FigureNames, Names},
    plan::Plan,
    report::{Findings, LATENESS, UNREAD},
    status::Failures,
    talk::{MESSAGES, Pace, Talk},
    trial::{Needs, SMALL, Trial},
};

pub(crate) const ABOUT: &str = "\
Hold a million connections, and measure their memory, keepalive, echo, broadcast and close.

First the limits of this host are checked: file descriptors, ports, memory, and kernel settings. \
If one is too low, the error shows the command that raises it. The limits decide the number of \
rings, of shards of the child, and of loopback addresses. Server and generator are one process \
each. To have several addresses, the child listens on all addresses of this host.

The steps are:

  1. Open all connections, and measure their memory as scenario idle does.
  2. Hold them for --hold, and check that the server sends the expected pings.
  3. With --stall: stop the server until the pings of all connections are due. When it \
continues, measure echoes on 100 further connections (latency `probe`, and `hiccup` as in \
close-storm).
  4. Send one message on each connection within --sweep, and check each echo byte by byte \
(latency `sweep`).
  5. Without --url: publish --broadcasts messages to all connections, one after the other, and \
check each delivery byte by byte (latency `broadcast` at each connection, `last` at the last \
one).
  6. Close all connections within --window (latencies `close` and `fin`).

A child sends a ping every 60 s by default. The run passes if each connection opens, stays open, \
echoes, gets each broadcast exactly once, and closes with 1000, then FIN.

The figures server.busy, generator.busy and window_seconds are those of step 6. With many rings \
the generator polls one after the other, and sleeps for at most 0.5 ms between two rounds.";

/// Connections where nothing else was said.
const CONNECTIONS: u32 = 1_000_000;

/// Time for which answers of the sweep may have lain unread.
const SWEEP_UNREAD: &str = "sweep-unread";

/// The deadlines of a child, where none were given.
const PING_INTERVAL: Duration = Duration::from_secs(60);

/// Buffers that were only needed to open connections are free again after so long.
const REST: Duration = Duration::from_secs(2);

/// The options of the scale.
#[derive(Args, Clone, Debug)]
#[command(after_long_help = crate::cli::EXIT_STATUS)]
pub(crate) struct Options {
    #[command(flatten)]
    pub(crate) common: Common,

    /// Time for which the connections are held
    #[arg(long, value_name = "DURATION", value_parser = duration, default_value = "90s")]
    hold: Duration,

    /// Time for which the server is stopped. Has to be above 9/8 of the ping interval [default: no
    /// stall]
    #[arg(long, value_name = "DURATION", value_parser = duration)]
    stall: Option<Duration>,

    /// Time within which one message is sent on each connection
    #[arg(long, value_name = "DURATION", value_parser = duration, default_value = "60s")]
    sweep: Duration,

    /// Number of messages to broadcast
    #[arg(long, value_name = "N", default_value = "3")]
    broadcasts: u32,

    /// Time over which the closes are spread evenly
    #[arg(long, value_name = "DURATION", value_parser = duration, default_value = "100s")]
    window: Duration,
}

const FIGURES: FigureNames = &[("open", Unit::Count), ("open.rate", Unit::PerSecond)];
const STALL: FigureNames = &[("stall.pings", Unit::Count)];

/// Figures of broadcasts by a child.
const BROADCASTS: FigureNames = &[
    ("broadcast.published", Unit::Count),
    ("broadcast.delivered", Unit::Count),
    ("broadcast.rate", Unit::PerSecond),
    ("broadcast.server_cpu_seconds", Unit::Seconds),
];

impl Options {
    /// Whether they make sense together.
    pub(crate) fn check(&self) -> Result<(), String> {
        let interval = self.common.deadlines.ping_interval;
        let interval = interval.unwrap_or(PING_INTERVAL);
        match self.stall {
            Some(_) if self.common.url_is_given() && self.common.server_cmd.is_none() => Err(
                "--stall needs a server that is started here: leave --url out, or add --server-cmd"
                    .to_owned(),
            ),
            // Pings may be an eighth of the interval early or late.
            Some(stall) if stall <= interval + interval / 8 => Err(format!(
                "--stall {} is too short for all pings to be due: write more than {}, or a shorter \
                 --ping-interval",
                Span(stall),
                Span(interval + interval / 8)
            )),
            Some(_) | None => Ok(()),
        }
    }
}

/// What scale needs.
pub(crate) fn needs(options: &Options) -> Needs {
    let deadlines = options.common.deadlines;
    Needs {
        scenario: "scale",
        connections: CONNECTIONS,
        service: Service::Broadcast,
        deadlines: Deadlines {
            ping_interval: deadlines.ping_interval.or(Some(PING_INTERVAL)),
            ping_timeout: deadlines.ping_timeout.or(Some(PING_INTERVAL)),
            ..deadlines
        },
        message_size: SMALL,
        names: names(options),
    }
}

fn names(options: &Options) -> Names {
    let common = &options.common;
    let is_child = !common.url_is_given();
    let is_started = common.server_is_started();
    let has_stall = options.stall.is_some();
    let has_hiccups = has_stall && HiccupMeter::is_possible();
    let broadcasts = is_child && options.broadcasts > 0;
    Names::of_all(common)
        .server_window(common)
        .server_end(common)
        .latencies_if(has_stall, Counted::Twice, &["probe"])
        .latencies_if(has_hiccups, Counted::Once, &[HICCUP])
        .latencies(Counted::Twice, &["sweep"])
        .latencies(Counted::Once, &[SWEEP_UNREAD])
        .latencies_if(broadcasts, Counted::Once, &broadcast::LATENCIES)
        .latencies(Counted::Twice, &["close", "fin"])
        .latencies(Counted::Once, &[LATENESS, UNREAD])
        .figures(FIGURES)
        .figures(CONNECTION_BYTES)
        .figures(HELD)
        .figures(MESSAGES)
        .figures_if(is_started, SERVER_BYTES)
        .figures_if(is_started, KEEPALIVE)
        .figures_if(has_stall, STALL)
        .figures_if(is_child, BROADCASTS)
}

/// Runs it.
///
/// # Errors
/// If there is nothing to report.
pub(crate) fn run(options: &Options, trial: &mut Trial) -> Result<Findings, RunError> {
    let mut figures = Figures::default();
    let mut failures = Failures::default();
    let begin = trial.clock.now();
    trial.session.open_all(trial.approach)?;
    let opened = trial.clock.now().since(begin);
    trial.session.turn_until(trial.clock.now() + REST)?;
    let clients = trial.session.open_clients();
    let open = clients.len() as u64;
    figures.count("open", open);
    figures.rate("open.rate", open, opened);
    Memory::now(trial.server.pid())?.since(&trial.memory_before, open, &mut figures);
    hold(options.hold, trial, &mut figures, &mut failures)?;
    let mut latencies = stall::run(options, trial, &mut figures, &mut failures)?;
    let mut talk = Talk::new("sweep", Pace::Open, trial.clients, 64, trial.seed);
    let plan = Plan::new(
        trial.clock.now(),
        options.sweep,
        u32::try_from(open).expect("a fleet's size"),
    );
    let session = &mut trial.session;
    session.fleet.forget_unread();
    talk.follow(session, &clients, &plan, options.common.timeout)?;
    talk.figures(&mut figures, &mut failures);
    latencies.extend([talk.echo, session.fleet.unread().named(SWEEP_UNREAD)]);
    drop(clients);
    latencies.extend(broadcast::run(options, trial, &mut figures, &mut failures)?);
    let mut findings = close::run(options.window, options.common.timeout, trial)?;
    findings.latencies.splice(0..0, latencies);
    figures.append(findings.figures);
    findings.figures = figures;
    findings.failures.append(&mut failures);
    findings.settings.extend([
        ("hold", Span(options.hold).to_string()),
        ("stall", Span(options.stall.unwrap_or_default()).to_string()),
        ("sweep", Span(options.sweep).to_string()),
        ("window", Span(options.window).to_string()),
        ("addresses", trial.target.spread.to_string()),
    ]);
    Ok(findings)
}
