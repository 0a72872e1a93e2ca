//! Slow consumers: some clients send without reading, and the other clients are measured.

use std::time::Duration;

use clap::Args;
use fastrand::Rng;
use tidewheel::ring::Wait;

use crate::{
    fleet::{
        event::Payload,
        outcome::{Expected, Outcome},
    },
    measure::{
        figures::{FigureNames, Figures, Unit},
        latency_names::{LATENESS, UNREAD},
        plan::Plan,
        usage::{UsageMark, resident_bytes},
    },
    options::{
        common::CommonOptions,
        values::{rate, share, size, span},
    },
    report::{
        Exposure, Findings,
        metric_names::{LatencyForm, MetricNames},
        status::Failures,
    },
    run::{
        Run,
        error::RunError,
        requirements::{MESSAGE_BYTES_DEFAULT, Requirements},
    },
    scenario::phases::close_all,
    server::service::Service,
    session::{
        SessionError,
        echo_exchange::{EXCHANGE_FIGURES, EchoExchange},
        load_model::LoadModel,
    },
};

/// Help text of the scenario.
pub(crate) const ABOUT: &str = "\
Let some clients send without reading, and measure the effect on the server and on the other \
clients.

First all clients except the slow ones (--slow) exchange --rate messages a second for --duration \
(latency `before`). Then each slow client stops reading and sends --flood bytes for the server \
to echo. When this flood has come to a standstill, the other clients continue for another \
--duration (latency `during`). The server's resident memory is read before and after the flood.

The run passes if no message of the other clients is lost; the 99th percentile of `during` is at \
most twice that of `before` plus 20 ms; the server's memory grows by at most --memory-bound for \
each slow client plus 32 MiB, which its allocator may keep; the other clients finally close with \
1000; and the slow ones are reset.";

/// Default number of connections.
const CONNECTIONS: u32 = 400;

/// Size in bytes of each message of a slow client.
const FLOOD_MESSAGE_BYTES: usize = 16 * 1024;

/// Time after which a flood has filled all buffers.
const FLOOD_TIME: Duration = Duration::from_millis(500);

/// Memory of released buffers that an allocator may keep, in bytes.
const ALLOCATOR_SLACK_BYTES: u64 = 32 << 20;

/// Bound of the 99th percentile of the other clients: a factor, and an addend.
const LATENCY_RATIO_MAX: u32 = 2;
const LATENCY_FLOOR: Duration = Duration::from_millis(20);

/// Options of slow-consumers.
#[derive(Args, Clone, Debug)]
#[command(after_long_help = crate::options::after_help::AFTER_HELP)]
pub(crate) struct Options {
    #[command(flatten)]
    pub(crate) common: CommonOptions,

    /// Share of the clients that do not read
    #[arg(long, value_name = "SHARE", value_parser = share, default_value = "5%")]
    slow: f64,

    /// Bytes that each slow client sends
    #[arg(long, value_name = "SIZE", value_parser = size, default_value = "8MiB")]
    flood: usize,

    /// Messages to send in a second, over the other clients
    #[arg(long, value_name = "N", value_parser = rate, default_value = "2000")]
    rate: u32,

    /// Time of each of the two measurements, before and during the flood
    #[arg(long, value_name = "DURATION", value_parser = span, default_value = "5s")]
    duration: Duration,

    /// Highest permitted growth of the server's memory for each slow client
    #[arg(long, value_name = "SIZE", value_parser = size, default_value = "2MiB")]
    memory_bound: usize,
}

/// Figures of slow-consumers.
const FIGURES: FigureNames = &[("slow.clients", Unit::Count)];

/// Further figures of a server that the run starts.
const SERVER: FigureNames = &[
    ("server.resident_bytes", Unit::Bytes),
    ("server.resident_growth", Unit::Bytes),
    ("server.bytes_per_slow_client", Unit::Bytes),
];

impl Options {
    /// Checks that the options do not contradict each other.
    ///
    /// # Errors
    /// A message for the command line.
    pub(crate) fn check(&self) -> Result<(), String> {
        if self.slow >= 1.0 {
            return Err("--slow is below 100%: the other clients are measured".to_owned());
        }
        Ok(())
    }
}

/// Returns the requirements of slow-consumers.
pub(crate) fn requirements(options: &Options) -> Requirements {
    Requirements {
        scenario: "slow-consumers",
        connections: CONNECTIONS,
        service: Service::Echo,
        deadlines: options.common.deadlines,
        message_size: MESSAGE_BYTES_DEFAULT,
        names: MetricNames::of_all(&options.common)
            .server_window(&options.common)
            .server_end(&options.common)
            .latencies(LatencyForm::WithUncorrected, &["before", "during"])
            .latencies(LatencyForm::Corrected, &[LATENESS, UNREAD])
            .figures(EXCHANGE_FIGURES)
            .figures(FIGURES)
            .figures_if(options.common.server_is_started(), SERVER),
    }
}

/// Runs slow-consumers.
///
/// # Errors
/// If there is no report.
pub(crate) fn run(options: &Options, run: &mut Run) -> Result<Findings, RunError> {
    run.session.open_all(run.opening)?;
    let mut clients = run.session.open_clients();
    Rng::with_seed(run.seed).shuffle(&mut clients);
    let slow = (clients.len() as f64 * options.slow).ceil() as usize;
    let (slow, others) = clients.split_at(slow.min(clients.len().saturating_sub(1)));
    let resident = |run: &Run| run.server.pid().map(resident_bytes).transpose();
    let (before, _) = measure_phase("before", options, others, run)?;
    let resident_before = resident(run)?;
    flood(options.flood, slow, run)?;
    let (during, start) = measure_phase("during", options, others, run)?;
    let usage = start.until(&run.server.mark(run.clock.now())?);
    let unread = run.session.fleet.unread();
    let resident_after = resident(run)?;
    for &client in slow {
        run.session.fleet.reset(client);
    }
    close_all(run)?;
    let mut figures = Figures::default();
    let mut failures = Failures::default();
    during.figures(&mut figures, &mut failures);
    before.figures(&mut Figures::default(), &mut failures);
    figures.count("slow.clients", slow.len() as u64);
    if let (Some(before), Some(after)) = (resident_before, resident_after) {
        let grown = after.saturating_sub(before);
        let count = slow.len().max(1) as u64;
        figures.bytes("server.resident_bytes", after as f64);
        figures.bytes("server.resident_growth", grown as f64);
        figures.bytes("server.bytes_per_slow_client", (grown / count) as f64);
        let bound = count * options.memory_bound as u64 + ALLOCATOR_SLACK_BYTES;
        if grown > bound {
            let mebibytes = |bytes: u64| bytes as f64 / 1048576.0;
            failures.push(format!(
                "the server's resident memory grew by {:.1} MiB; the bound is {:.1} MiB",
                mebibytes(grown),
                mebibytes(bound)
            ));
        }
    }
    let p99 =
        |exchange: &EchoExchange| Duration::from_nanos(exchange.echo.corrected.percentiles().p99);
    let bound = p99(&before) * LATENCY_RATIO_MAX + LATENCY_FLOOR;
    // A kept bound stays valid however late the generator was.
    let mut exposure = Exposure::None;
    if p99(&during) > bound {
        exposure = Exposure::Lateness(p99(&during));
        failures.push(format!(
            "the 99th percentile of the other clients is {:.1?}; the bound is {bound:.1?}",
            p99(&during)
        ));
    }
    Ok(Findings {
        settings: vec![
            ("slow", format!("{:.0} %", options.slow * 100.0)),
            ("flood", format!("{} bytes each", options.flood)),
            ("rate", format!("{}/s", options.rate)),
        ],
        expected: vec![Outcome::Closed, Outcome::Reset],
        usage,
        lateness: during.lateness,
        unread: Some(unread),
        latencies: vec![before.echo, during.echo],
        figures,
        failures,
        exposure,
    })
}

/// Exchanges messages for one phase.
fn measure_phase(
    name: &'static str,
    options: &Options,
    clients: &[u32],
    run: &mut Run,
) -> Result<(EchoExchange, UsageMark), RunError> {
    let mut exchange = EchoExchange::new(name, LoadModel::OpenLoop, run.clients, 64, run.seed);
    let now = run.clock.now();
    let messages = (f64::from(options.rate) * options.duration.as_secs_f64()) as u32;
    let plan = Plan::new(now, options.duration, messages);
    let mark = run.server.mark(now)?;
    run.session.fleet.forget_unread();
    if !clients.is_empty() {
        let session = &mut run.session;
        exchange.run_plan(session, clients, &plan, options.common.timeout)?;
    }
    Ok((exchange, mark))
}

/// Lets clients send without reading, until no more can be sent.
fn flood(bytes: usize, clients: &[u32], run: &mut Run) -> Result<(), SessionError> {
    let message = vec![0x5a; FLOOD_MESSAGE_BYTES];
    for &client in clients {
        let fleet = &mut run.session.fleet;
        fleet.stop_receiving(client);
        fleet.expect_end(client, Expected::Silence);
        for _ in 0..bytes.div_ceil(FLOOD_MESSAGE_BYTES) {
            fleet.send_message(client, Payload::Binary(&message));
        }
        run.session.turn(Wait::No)?;
    }
    run.session.turn_until(run.clock.now() + FLOOD_TIME)
}
