//! Idle: open connections without messages, except pings.

use std::time::Duration;

use clap::Args;
use tidewheel::cli::units::Span;
use tidewheel::ring::Wait;

use crate::{
    fleet::outcome::Outcome,
    measure::{
        figures::{FigureNames, Figures, Unit},
        latency::Latency,
        latency_names::LATENESS,
        memory::{CONNECTION_BYTES, Memory, SERVER_BYTES},
        usage::Usage,
    },
    options::{common::CommonOptions, deadlines::Deadlines, values::duration},
    progress::Progress,
    report::{Exposure, Findings, metric_names::MetricNames, status::Failures},
    run::{
        Run,
        error::RunError,
        requirements::{MESSAGE_BYTES_DEFAULT, Requirements},
    },
    scenario::phases::close_all,
    server::service::Service,
};

/// Help text of the scenario.
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

/// Default number of connections.
const CONNECTIONS: u32 = 10_000;

/// Default ping interval of a child.
const PING_INTERVAL: Duration = Duration::from_secs(5);

/// Time after which buffers of the opening handshakes are free again.
const SETTLE_TIME: Duration = Duration::from_secs(1);

/// Longest time of a ping, its answer, and the rounding of deadlines.
const PING_ROUND_TRIP_MAX: Duration = Duration::from_millis(200);

/// Options of idle.
#[derive(Args, Clone, Debug)]
#[command(after_long_help = crate::options::after_help::AFTER_HELP)]
pub(crate) struct Options {
    #[command(flatten)]
    pub(crate) common: CommonOptions,

    /// Time for which the connections are held
    #[arg(long, value_name = "DURATION", value_parser = duration, default_value = "20s")]
    duration: Duration,
}

/// Figures of held connections, see [`hold`].
pub(super) const HELD: FigureNames = &[("pings", Unit::Count), ("held", Unit::Count)];

/// Further figures of a server that the run starts.
pub(super) const KEEPALIVE: FigureNames = &[
    ("keepalive.server_cpu", Unit::Share),
    ("keepalive.server_cpu_per_ping", Unit::Seconds),
];

/// Returns the requirements of idle.
pub(crate) fn requirements(options: &Options) -> Requirements {
    let deadlines = options.common.deadlines;
    Requirements {
        scenario: "idle",
        connections: CONNECTIONS,
        service: Service::Echo,
        deadlines: Deadlines {
            ping_interval: deadlines.ping_interval.or(Some(PING_INTERVAL)),
            ..deadlines
        },
        message_size: MESSAGE_BYTES_DEFAULT,
        names: MetricNames::of_all(&options.common)
            .server_window(&options.common)
            .server_end(&options.common)
            .figures(CONNECTION_BYTES)
            .figures(HELD)
            .figures_if(options.common.server_is_started(), SERVER_BYTES)
            .figures_if(options.common.server_is_started(), KEEPALIVE),
    }
}

/// Runs idle.
///
/// # Errors
/// If there is no report.
pub(crate) fn run(options: &Options, run: &mut Run) -> Result<Findings, RunError> {
    let mut figures = Figures::default();
    let mut failures = Failures::default();
    // After its first client the server has touched the code and memory that any client needs.
    run.session.open(0..1, run.opening)?;
    run.memory_before
        .set_server_from(&Memory::now(run.server.pid())?);
    run.session.open(1..run.session.capacity(), run.opening)?;
    run.session.turn_until(run.clock.now() + SETTLE_TIME)?;
    let open = run.session.open_clients().len() as u64;
    Memory::now(run.server.pid())?.growth_since(&run.memory_before, open, &mut figures);
    let usage = hold(options.duration, run, &mut figures, &mut failures)?;
    close_all(run)?;
    Ok(Findings {
        settings: vec![("duration", Span(options.duration).to_string())],
        expected: vec![Outcome::Closed],
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

/// Holds the open connections, and adds the figures of their keepalive.
pub(super) fn hold(
    duration: Duration,
    run: &mut Run,
    figures: &mut Figures,
    failures: &mut Failures,
) -> Result<Usage, RunError> {
    let open = u64::from(run.session.live());
    let pings_before = run.session.fleet.pings();
    let begin = run.clock.now();
    let start = run.server.mark(begin)?;
    let end = begin + duration;
    let mut progress = Progress::start_for("pinged", duration, begin);
    let mut now = begin;
    while now < end {
        now = run.session.turn(Wait::For(end.since(now)))?;
        progress.set(run.session.fleet.pings() - pings_before, now);
    }
    let pings = run.session.fleet.pings() - pings_before;
    progress.finish(pings, now);
    let usage = start.until(&run.server.mark(now)?);
    figures.count("pings", pings);
    figures.count("held", u64::from(run.session.live()));
    if usage.server.is_some() {
        let share = usage.server_cpu.as_secs_f64() / usage.window.as_secs_f64();
        figures.share("keepalive.server_cpu", share);
        if pings > 0 {
            let each = usage.server_cpu.div_f64(pings as f64);
            figures.seconds("keepalive.server_cpu_per_ping", each);
        }
    }
    if let Some(interval) = run.server.deadlines.ping_interval {
        // A ping follows one interval after the last received bytes, which are the pong before.
        let round = interval + PING_ROUND_TRIP_MAX;
        let rounds = (duration.as_secs_f64() / round.as_secs_f64()).floor() as u64;
        let pings_min = open * rounds;
        if pings < pings_min {
            failures.push(format!(
                "{pings} pings arrived; at least {pings_min} were expected for {open} connections"
            ));
        }
    }
    Ok(usage)
}
