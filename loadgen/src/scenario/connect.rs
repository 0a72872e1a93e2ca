//! Connect: very many opening handshakes at once, and a herd that comes back.

use std::time::Duration;

use clap::Args;
use tidewheel::cli::units::Span;
use tidewheel::ring::Wait;

use super::{approach_window, close_all};
use crate::{
    child::Service,
    cli::{Common, count, duration},
    error::RunError,
    figures::{Figures, Unit},
    fleet::Event,
    latency::Latency,
    names::{Counted, FigureNames, Names},
    outcome::Outcome,
    plan::Plan,
    progress::Progress,
    report::{Exposure, Findings, LATENESS, UNREAD},
    status::Failures,
    trial::{Needs, SMALL, Trial},
    usage::UsageMark,
};

pub(crate) const ABOUT: &str = "\
Open many connections in a short time, and measure how long each takes.

The connects are spread over --window. With 0s all are planned for one moment; a generator on \
the same machine as the server is then the limit, because the kernel does most of the work of a \
TCP handshake on the client's core. At most --under-way connects are in progress at a time, so \
that the server's backlog does not overflow: the kernel would drop connects beyond the backlog, \
and the client's kernel would retry them after a second.

Latency `open` counts from the planned moment to the first echo (with --no-echo: to the end of \
the handshake), so it includes the time before the connect started. `from send` does not.

With --herd, when all connections are open, they are reset at the same moment and opened again \
in the same way, as after the restart of a proxy. Latency `reopen` is measured as `open` is.

The run passes if each connection opens and finally closes with 1000, or was reset because of \
--herd.";

/// Connections where nothing else was said.
const CONNECTIONS: u32 = 10_000;

/// The options of the connect.
#[derive(Args, Clone, Debug)]
#[command(after_long_help = crate::cli::EXIT_STATUS)]
pub(crate) struct Options {
    #[command(flatten)]
    pub(crate) common: Common,

    /// Time over which the connects are spread evenly
    #[arg(long, value_name = "DURATION", value_parser = duration, default_value = "1s")]
    window: Duration,

    /// Highest number of connects in progress at a time
    #[arg(long, value_name = "N", value_parser = count, default_value = "256")]
    under_way: u32,

    /// When all connections are open, reset all of them and connect again
    #[arg(long)]
    herd: bool,
}

const FIGURES: FigureNames = &[("connect.rate", Unit::PerSecond)];
const HERD: FigureNames = &[("herd.rate", Unit::PerSecond)];

/// What a connect needs.
pub(crate) fn needs(options: &Options) -> Needs {
    Needs {
        scenario: "connect",
        connections: CONNECTIONS,
        service: Service::Echo,
        deadlines: options.common.deadlines,
        message_size: SMALL,
        names: Names::of_all(&options.common)
            .server_window(&options.common)
            .server_end(&options.common)
            .latencies(Counted::Twice, &["open"])
            .latencies_if(options.herd, Counted::Twice, &["reopen"])
            .latencies(Counted::Once, &[LATENESS, UNREAD])
            .figures(FIGURES)
            .figures_if(options.herd, HERD),
    }
}

/// Runs the connect.
///
/// # Errors
/// If there is nothing to report.
pub(crate) fn run(options: &Options, trial: &mut Trial) -> Result<Findings, RunError> {
    let mut figures = Figures::default();
    let mut lateness = Latency::new(LATENESS);
    let mut open = Latency::new("open");
    let (plan, start) = approach_window(trial, options.window, trial.clients)?;
    storm(options, &plan, trial, &mut open, &mut lateness)?;
    let mut usage = start.until(&trial.server.mark(trial.clock.now())?);
    figures.rate(
        "connect.rate",
        open.corrected.percentiles().count,
        usage.window,
    );
    let mut latencies = vec![open];
    let mut asked = vec![Outcome::Closed];
    if options.herd {
        let mut reopen = Latency::new("reopen");
        let start = herd(options, trial, &mut reopen, &mut lateness)?;
        usage = start.until(&trial.server.mark(trial.clock.now())?);
        figures.rate(
            "herd.rate",
            reopen.corrected.percentiles().count,
            usage.window,
        );
        latencies.push(reopen);
        asked.push(Outcome::Reset);
    }
    let unread = trial.session.fleet.unread();
    close_all(trial)?;
    Ok(Findings {
        settings: vec![
            ("window", Span(options.window).to_string()),
            ("under way", options.under_way.to_string()),
            ("herd", options.herd.to_string()),
        ],
        asked,
        usage,
        lateness,
        unread: Some(unread),
        latencies,
        figures,
        failures: Failures::default(),
        // To wait for one's turn is lateness too, and it is the server whose turn it is.
        exposure: Exposure::Cpu,
    })
}

/// Connects all clients as planned.
fn storm(
    options: &Options,
    plan: &Plan,
    trial: &mut Trial,
    open: &mut Latency,
    lateness: &mut Latency,
) -> Result<(), RunError> {
    let approach = trial.approach;
    let session = &mut trial.session;
    let count = plan.count();
    let mut progress = Progress::start("opened", u64::from(count), plan.start());
    let mut begun = vec![plan.start(); count as usize];
    let mut next = 0;
    let mut now = session.clock.now();
    while next < count || session.opening() > 0 {
        let due = plan.due_by(now);
        while next < due && session.opening() < options.under_way as usize {
            begun[next as usize] = now;
            lateness.record_planned(now, plan.due(next));
            session.connect(next, approach, now);
            next += 1;
        }
        let wait = match next < count && next == due {
            true => Wait::For(plan.due(next).since(now)),
            false => Wait::Forever,
        };
        now = session.turn(wait)?;
        for event in &session.events {
            if let Event::Opened { client } = *event {
                open.record(now, plan.due(client), begun[client as usize]);
            }
        }
        progress.set(u64::from(next) - session.opening() as u64, now);
    }
    progress.finish(open.corrected.percentiles().count, now);
    Ok(())
}

/// Resets all that is open, at one moment, and connects all clients again; gives that moment.
fn herd(
    options: &Options,
    trial: &mut Trial,
    reopen: &mut Latency,
    lateness: &mut Latency,
) -> Result<UsageMark, RunError> {
    let (_, start) = approach_window(trial, Duration::ZERO, 0)?;
    let session = &mut trial.session;
    for client in session.open_clients() {
        session.fleet.reset(client);
    }
    session.release_all(session.clock.now())?;
    let plan = Plan::new(session.clock.now(), options.window, trial.clients);
    storm(options, &plan, trial, reopen, lateness)?;
    Ok(start)
}
