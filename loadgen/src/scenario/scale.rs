//! Scale: a million connections on one machine.

mod broadcast;
mod stall;

use std::time::Duration;

use clap::Args;
use tidewheel::cli::units::Span;

use crate::{
    measure::{
        figures::{FigureNames, Figures, Unit},
        hiccup::HiccupMeter,
        latency_names::{HICCUP, LATENESS, UNREAD},
        memory::{CONNECTION_BYTES, Memory, SERVER_BYTES},
        plan::Plan,
    },
    options::{common::CommonOptions, deadlines::Deadlines, values::duration},
    report::{
        Findings,
        metric_names::{LatencyForm, MetricNames},
        status::Failures,
    },
    run::{
        Run,
        error::RunError,
        requirements::{MESSAGE_BYTES_DEFAULT, Requirements},
    },
    scenario::{
        close_storm::close,
        idle::{HELD, KEEPALIVE, hold},
    },
    server::service::Service,
    session::{
        echo_exchange::{EXCHANGE_FIGURES, EchoExchange},
        load_model::LoadModel,
    },
};

/// Help text of the scenario.
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

/// Default number of connections.
const CONNECTIONS: u32 = 1_000_000;

/// Name of the latency of unread answers in the sweep.
const SWEEP_UNREAD: &str = "sweep-unread";

/// Default ping interval and ping timeout of a child.
const PING_INTERVAL: Duration = Duration::from_secs(60);

/// Time after which buffers of the opening handshakes are free again.
const SETTLE_TIME: Duration = Duration::from_secs(2);

/// Options of scale.
#[derive(Args, Clone, Debug)]
#[command(after_long_help = crate::options::after_help::AFTER_HELP)]
pub(crate) struct Options {
    #[command(flatten)]
    pub(crate) common: CommonOptions,

    /// Time for which the connections are held
    #[arg(long, value_name = "DURATION", value_parser = duration, default_value = "90s")]
    hold: Duration,

    /// Time for which the server is stopped, so that the pings of all connections are due when it
    /// continues. Above 9/8 of the ping interval [default: no stop]
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

/// Figures of scale.
const FIGURES: FigureNames = &[("open", Unit::Count), ("open.rate", Unit::PerSecond)];
/// Further figure with `--stall`.
const STALL: FigureNames = &[("stall.pings", Unit::Count)];

/// Further figures of broadcasts by a child.
const BROADCASTS: FigureNames = &[
    ("broadcast.published", Unit::Count),
    ("broadcast.delivered", Unit::Count),
    ("broadcast.rate", Unit::PerSecond),
    ("broadcast.server_cpu_seconds", Unit::Seconds),
];

impl Options {
    /// Checks that the options do not contradict each other.
    ///
    /// # Errors
    /// A message for the command line.
    pub(crate) fn check(&self) -> Result<(), String> {
        let interval = self.common.deadlines.ping_interval;
        let interval = interval.unwrap_or(PING_INTERVAL);
        match self.stall {
            Some(_) if self.common.url_is_given() && self.common.server_cmd.is_none() => Err(
                "--stall needs a server that loadgen starts: omit --url, or add --server-cmd"
                    .to_owned(),
            ),
            // Pings may be early or late by an eighth of the interval.
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

/// Returns the requirements of scale.
pub(crate) fn requirements(options: &Options) -> Requirements {
    let deadlines = options.common.deadlines;
    Requirements {
        scenario: "scale",
        connections: CONNECTIONS,
        service: Service::Broadcast,
        deadlines: Deadlines {
            ping_interval: deadlines.ping_interval.or(Some(PING_INTERVAL)),
            ping_timeout: deadlines.ping_timeout.or(Some(PING_INTERVAL)),
            ..deadlines
        },
        message_size: MESSAGE_BYTES_DEFAULT,
        names: names(options),
    }
}

fn names(options: &Options) -> MetricNames {
    let common = &options.common;
    let is_child = !common.url_is_given();
    let is_started = common.server_is_started();
    let has_stall = options.stall.is_some();
    let has_hiccups = has_stall && HiccupMeter::is_possible();
    let broadcasts = is_child && options.broadcasts > 0;
    MetricNames::of_all(common)
        .server_window(common)
        .server_end(common)
        .latencies_if(has_stall, LatencyForm::WithUncorrected, &["probe"])
        .latencies_if(has_hiccups, LatencyForm::Corrected, &[HICCUP])
        .latencies(LatencyForm::WithUncorrected, &["sweep"])
        .latencies(LatencyForm::Corrected, &[SWEEP_UNREAD])
        .latencies_if(broadcasts, LatencyForm::Corrected, &broadcast::LATENCIES)
        .latencies(LatencyForm::WithUncorrected, &["close", "fin"])
        .latencies(LatencyForm::Corrected, &[LATENESS, UNREAD])
        .figures(FIGURES)
        .figures(CONNECTION_BYTES)
        .figures(HELD)
        .figures(EXCHANGE_FIGURES)
        .figures_if(is_started, SERVER_BYTES)
        .figures_if(is_started, KEEPALIVE)
        .figures_if(has_stall, STALL)
        .figures_if(is_child, BROADCASTS)
}

/// Runs scale.
///
/// # Errors
/// If there is no report.
pub(crate) fn run(options: &Options, run: &mut Run) -> Result<Findings, RunError> {
    let mut figures = Figures::default();
    let mut failures = Failures::default();
    let start = run.clock.now();
    run.session.open_all(run.opening)?;
    let opened = run.clock.now().since(start);
    run.session.turn_until(run.clock.now() + SETTLE_TIME)?;
    let clients = run.session.open_clients();
    let open = clients.len() as u64;
    figures.count("open", open);
    figures.rate("open.rate", open, opened);
    Memory::now(run.server.pid())?.growth_since(&run.memory_before, open, &mut figures);
    hold(options.hold, run, &mut figures, &mut failures)?;
    let mut latencies = stall::run(
        options.stall,
        options.common.timeout,
        run,
        &mut figures,
        &mut failures,
    )?;
    let mut exchange = EchoExchange::new("sweep", LoadModel::OpenLoop, run.clients, 64, run.seed);
    let plan = Plan::new(
        run.clock.now(),
        options.sweep,
        u32::try_from(open).expect("a fleet's size"),
    );
    let session = &mut run.session;
    session.fleet.forget_unread();
    exchange.run_plan(session, &clients, &plan, options.common.timeout)?;
    exchange.figures(&mut figures, &mut failures);
    latencies.extend([exchange.echo, session.fleet.unread().named(SWEEP_UNREAD)]);
    drop(clients);
    latencies.extend(broadcast::run(
        options.broadcasts,
        options.common.timeout,
        run,
        &mut figures,
        &mut failures,
    )?);
    let mut findings = close::run(options.window, options.common.timeout, run)?;
    findings.latencies.splice(0..0, latencies);
    figures.append(findings.figures);
    findings.figures = figures;
    findings.failures.append(&mut failures);
    findings.settings.extend([
        ("hold", Span(options.hold).to_string()),
        ("stall", Span(options.stall.unwrap_or_default()).to_string()),
        ("sweep", Span(options.sweep).to_string()),
        ("window", Span(options.window).to_string()),
        ("addresses", run.target.spread.to_string()),
    ]);
    Ok(findings)
}
