//! Idle: connections are held, and nothing is said on them but pings.

use std::time::Duration;

use clap::Args;
use tidewheel::cli::units::Span;
use tidewheel::ring::Wait;

use super::close_all;
use crate::{
    child::Service,
    cli::{Common, Deadlines, duration},
    error::RunError,
    figures::{Figures, Unit},
    latency::Latency,
    memory::{CONNECTION_BYTES, Memory, SERVER_BYTES},
    names::{FigureNames, Names},
    outcome::Outcome,
    progress::Progress,
    report::{Exposure, Findings, LATENESS},
    status::Failures,
    trial::{Needs, SMALL, Trial},
};

pub(crate) const ABOUT: &str = "\
Hold idle connections, and measure the memory and the CPU time that they cost.

Memory is read before the first connection and after the last one is open: resident memory of \
the server and of the generator, and memory of the kernel (slabs, page tables, stacks, TCP \
buffers). The kernel's figure covers both ends of each connection if the server is on this host. \
The figure for one connection is the difference, divided by the number of connections, so it is \
meaningful only for many connections. For the server the first reading is taken with one open \
connection, so that code and buffers which any connection needs are left out; \
server.resident_bytes_over_connections counts everything.

Then the connections are held for --duration. The server's CPU time in this period is the cost \
of its keepalive. A child sends a ping every 5 s by default.

The run passes if each connection stays open, the server sends the expected number of pings, and \
finally each connection closes with 1000.";

/// Connections where nothing else was said.
const CONNECTIONS: u32 = 10_000;

/// The ping interval of a child, where none was given.
const PING_INTERVAL: Duration = Duration::from_secs(5);

/// Buffers that were only needed to open connections are free again after so long.
const REST: Duration = Duration::from_secs(1);

/// A ping, its answer and the rounding of deadlines take no longer than this.
const ANSWER: Duration = Duration::from_millis(200);

/// The options of the idle.
#[derive(Args, Clone, Debug)]
#[command(after_long_help = crate::cli::EXIT_STATUS)]
pub(crate) struct Options {
    #[command(flatten)]
    pub(crate) common: Common,

    /// Time for which the connections are held
    #[arg(long, value_name = "DURATION", value_parser = duration, default_value = "20s")]
    duration: Duration,
}

/// Figures of connections that are held, see [`hold`].
pub(super) const HELD: FigureNames = &[("pings", Unit::Count), ("held", Unit::Count)];

/// Figures of their server if it is started here.
pub(super) const KEEPALIVE: FigureNames = &[
    ("keepalive.server_cpu", Unit::Share),
    ("keepalive.server_cpu_per_ping", Unit::Seconds),
];

/// What an idle needs.
pub(crate) fn needs(options: &Options) -> Needs {
    let deadlines = options.common.deadlines;
    Needs {
        scenario: "idle",
        connections: CONNECTIONS,
        service: Service::Echo,
        deadlines: Deadlines {
            ping_interval: deadlines.ping_interval.or(Some(PING_INTERVAL)),
            ..deadlines
        },
        message_size: SMALL,
        names: Names::of_all(&options.common)
            .server_window(&options.common)
            .server_end(&options.common)
            .figures(CONNECTION_BYTES)
            .figures(HELD)
            .figures_if(options.common.server_is_started(), SERVER_BYTES)
            .figures_if(options.common.server_is_started(), KEEPALIVE),
    }
}

/// Runs the idle.
///
/// # Errors
/// If there is nothing to report.
pub(crate) fn run(options: &Options, trial: &mut Trial) -> Result<Findings, RunError> {
    let mut figures = Figures::default();
    let mut failures = Failures::default();
    // With its first client the server has touched what it needs for any, such as its code.
    trial.session.open(0..1, trial.approach)?;
    trial
        .memory_before
        .take_server_of(&Memory::now(trial.server.pid())?);
    trial
        .session
        .open(1..trial.session.capacity(), trial.approach)?;
    trial.session.turn_until(trial.clock.now() + REST)?;
    let open = trial.session.open_clients().len() as u64;
    Memory::now(trial.server.pid())?.since(&trial.memory_before, open, &mut figures);
    let usage = hold(options.duration, trial, &mut figures, &mut failures)?;
    close_all(trial)?;
    Ok(Findings {
        settings: vec![("duration", Span(options.duration).to_string())],
        asked: vec![Outcome::Closed],
        usage,
        lateness: Latency::new(LATENESS),
        unread: None,
        latencies: Vec::new(),
        figures,
        failures,
        // The generator only waits.
        exposure: Exposure::None,
    })
}

/// Holds what is open, and tells what the keepalive costs.
pub(super) fn hold(
    duration: Duration,
    trial: &mut Trial,
    figures: &mut Figures,
    failures: &mut Failures,
) -> Result<crate::usage::Usage, RunError> {
    let open = u64::from(trial.session.live());
    let pings_before = trial.session.fleet.pings();
    let begin = trial.clock.now();
    let start = trial.server.mark(begin)?;
    let end = begin + duration;
    let mut progress = Progress::start_for("pinged", duration, begin);
    let mut now = begin;
    while now < end {
        now = trial.session.turn(Wait::For(end.since(now)))?;
        progress.set(trial.session.fleet.pings() - pings_before, now);
    }
    let pings = trial.session.fleet.pings() - pings_before;
    progress.finish(pings, now);
    let usage = start.until(&trial.server.mark(now)?);
    figures.count("pings", pings);
    figures.count("held", u64::from(trial.session.live()));
    if usage.server.is_some() {
        let share = usage.server_cpu.as_secs_f64() / usage.window.as_secs_f64();
        figures.share("keepalive.server_cpu", share);
        if pings > 0 {
            let each = usage.server_cpu.div_f64(pings as f64);
            figures.seconds("keepalive.server_cpu_per_ping", each);
        }
    }
    if let Some(interval) = trial.server.deadlines.ping_interval {
        // Each comes an interval after what was heard last, which is the answer to the one before.
        let round = interval + ANSWER;
        let rounds = (duration.as_secs_f64() / round.as_secs_f64()).floor() as u64;
        let least = open * rounds;
        if pings < least {
            failures.push(format!(
                "{pings} pings came; {open} connections should have had {least} at least"
            ));
        }
    }
    Ok(usage)
}
