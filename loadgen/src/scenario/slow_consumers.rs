//! Slow consumers: some clients do not read, and the others must not notice.

use std::time::Duration;

use clap::Args;
use fastrand::Rng;
use tidewheel::ring::Wait;

use super::close_all;
use crate::{
    child::Service,
    cli::{Common, rate, share, size, span},
    error::RunError,
    figures::{Figures, Unit},
    fleet::Payload,
    names::{Counted, FigureNames, Names},
    outcome::{Asked, Outcome},
    plan::Plan,
    report::{Exposure, Findings, LATENESS, UNREAD},
    session::SessionError,
    status::Failures,
    talk::{MESSAGES, Pace, Talk},
    trial::{Needs, SMALL, Trial},
    usage::{UsageMark, resident_bytes},
};

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

/// Connections where nothing else was said.
const CONNECTIONS: u32 = 400;

/// Bytes of each message of a flood.
const FLOOD_MESSAGE: usize = 16 * 1024;

/// What a flood can move, it has moved in so long.
const STANDSTILL: Duration = Duration::from_millis(500);

/// What an allocator may keep of buffers that have grown.
const ALLOCATOR: u64 = 32 << 20;

/// Others may be slower by so much.
const RATIO_MAX: u32 = 2;
const FLOOR: Duration = Duration::from_millis(20);

/// The options of the slow consumers.
#[derive(Args, Clone, Debug)]
#[command(after_long_help = crate::cli::EXIT_STATUS)]
pub(crate) struct Options {
    #[command(flatten)]
    pub(crate) common: Common,

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

const FIGURES: FigureNames = &[("slow.clients", Unit::Count)];

/// Figures of a server that is started here.
const SERVER: FigureNames = &[
    ("server.resident_bytes", Unit::Bytes),
    ("server.resident_growth", Unit::Bytes),
    ("server.bytes_per_slow_client", Unit::Bytes),
];

impl Options {
    /// Whether they make sense together.
    pub(crate) fn check(&self) -> Result<(), String> {
        if self.slow >= 1.0 {
            return Err("--slow is below 100%: the others are those that are measured".to_owned());
        }
        Ok(())
    }
}

/// What slow consumers need.
pub(crate) fn needs(options: &Options) -> Needs {
    Needs {
        scenario: "slow-consumers",
        connections: CONNECTIONS,
        service: Service::Echo,
        deadlines: options.common.deadlines,
        message_size: SMALL,
        names: Names::of_all(&options.common)
            .server_window(&options.common)
            .server_end(&options.common)
            .latencies(Counted::Twice, &["before", "during"])
            .latencies(Counted::Once, &[LATENESS, UNREAD])
            .figures(MESSAGES)
            .figures(FIGURES)
            .figures_if(options.common.server_is_started(), SERVER),
    }
}

/// Runs the slow consumers.
///
/// # Errors
/// If there is nothing to report.
pub(crate) fn run(options: &Options, trial: &mut Trial) -> Result<Findings, RunError> {
    trial.session.open_all(trial.approach)?;
    let mut clients = trial.session.open_clients();
    Rng::with_seed(trial.seed).shuffle(&mut clients);
    let slow = (clients.len() as f64 * options.slow).ceil() as usize;
    let (slow, others) = clients.split_at(slow.min(clients.len().saturating_sub(1)));
    let resident = |trial: &Trial| trial.server.pid().map(resident_bytes).transpose();
    let (before, _) = talk("before", options, others, trial)?;
    let resident_before = resident(trial)?;
    flood(options.flood, slow, trial)?;
    let (during, start) = talk("during", options, others, trial)?;
    let usage = start.until(&trial.server.mark(trial.clock.now())?);
    let unread = trial.session.fleet.unread();
    let resident_after = resident(trial)?;
    for &client in slow {
        trial.session.fleet.reset(client);
    }
    close_all(trial)?;
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
        let bound = count * options.memory_bound as u64 + ALLOCATOR;
        if grown > bound {
            let mebibytes = |bytes: u64| bytes as f64 / 1048576.0;
            failures.push(format!(
                "the server's resident memory grew by {:.1} MiB; the bound is {:.1} MiB",
                mebibytes(grown),
                mebibytes(bound)
            ));
        }
    }
    let p99 = |talk: &Talk| Duration::from_nanos(talk.echo.corrected.percentiles().p99);
    let bound = p99(&before) * RATIO_MAX + FLOOR;
    // A bound that is kept is kept, however late the generator was.
    let mut exposure = Exposure::None;
    if p99(&during) > bound {
        exposure = Exposure::Lateness(p99(&during));
        failures.push(format!(
            "the others noticed: their 99th percentile is {:.1?}; the bound is {bound:.1?}",
            p99(&during)
        ));
    }
    Ok(Findings {
        settings: vec![
            ("slow", format!("{:.0} %", options.slow * 100.0)),
            ("flood", format!("{} bytes each", options.flood)),
            ("rate", format!("{}/s", options.rate)),
        ],
        asked: vec![Outcome::Closed, Outcome::Reset],
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
fn talk(
    name: &'static str,
    options: &Options,
    clients: &[u32],
    trial: &mut Trial,
) -> Result<(Talk, UsageMark), RunError> {
    let mut talk = Talk::new(name, Pace::Open, trial.clients, 64, trial.seed);
    let now = trial.clock.now();
    let messages = (f64::from(options.rate) * options.duration.as_secs_f64()) as u32;
    let plan = Plan::new(now, options.duration, messages);
    let mark = trial.server.mark(now)?;
    trial.session.fleet.forget_unread();
    if !clients.is_empty() {
        let session = &mut trial.session;
        talk.follow(session, clients, &plan, options.common.timeout)?;
    }
    Ok((talk, mark))
}

/// Lets clients send, and read nothing, until no more can be sent.
fn flood(bytes: usize, clients: &[u32], trial: &mut Trial) -> Result<(), SessionError> {
    let message = vec![0x5a; FLOOD_MESSAGE];
    for &client in clients {
        let fleet = &mut trial.session.fleet;
        fleet.deafen(client);
        fleet.ask(client, Asked::Silence);
        for _ in 0..bytes.div_ceil(FLOOD_MESSAGE) {
            fleet.send_message(client, Payload::Binary(&message));
        }
        trial.session.turn(Wait::No)?;
    }
    trial.session.turn_until(trial.clock.now() + STANDSTILL)
}
