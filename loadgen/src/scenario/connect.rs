//! Connect: many opening handshakes in a short time, and many reconnects at once.

use std::time::Duration;

use clap::Args;
use tidewheel::cli::units::Span;
use tidewheel::ring::Wait;

use crate::{
    fleet::{event::Event, outcome::Outcome},
    measure::{
        figures::{FigureNames, Figures, Unit},
        latency::Latency,
        latency_names::{LATENESS, UNREAD},
        plan::Plan,
        usage::UsageMark,
    },
    options::{
        common::CommonOptions,
        values::{count, duration},
    },
    progress::Progress,
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
    scenario::phases::{close_all, plan_window},
    server::service::Service,
};

/// Help text of the scenario.
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

/// Default number of connections.
const CONNECTIONS: u32 = 10_000;

/// Options of connect.
#[derive(Args, Clone, Debug)]
#[command(after_long_help = crate::options::after_help::AFTER_HELP)]
pub(crate) struct Options {
    #[command(flatten)]
    pub(crate) common: CommonOptions,

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

/// Figures of connect.
const FIGURES: FigureNames = &[("connect.rate", Unit::PerSecond)];
/// Further figure with `--herd`.
const HERD: FigureNames = &[("herd.rate", Unit::PerSecond)];

/// Returns the requirements of connect.
pub(crate) fn requirements(options: &Options) -> Requirements {
    Requirements {
        scenario: "connect",
        connections: CONNECTIONS,
        service: Service::Echo,
        deadlines: options.common.deadlines,
        message_size: MESSAGE_BYTES_DEFAULT,
        names: MetricNames::of_all(&options.common)
            .server_window(&options.common)
            .server_end(&options.common)
            .latencies(LatencyForm::WithUncorrected, &["open"])
            .latencies_if(options.herd, LatencyForm::WithUncorrected, &["reopen"])
            .latencies(LatencyForm::Corrected, &[LATENESS, UNREAD])
            .figures(FIGURES)
            .figures_if(options.herd, HERD),
    }
}

/// Runs connect.
///
/// # Errors
/// If there is no report.
pub(crate) fn run(options: &Options, run: &mut Run) -> Result<Findings, RunError> {
    let mut figures = Figures::default();
    let mut lateness = Latency::new(LATENESS);
    let mut open = Latency::new("open");
    let (plan, start) = plan_window(run, options.window, run.clients)?;
    connect_all(options, &plan, run, &mut open, &mut lateness)?;
    let mut usage = start.until(&run.server.mark(run.clock.now())?);
    figures.rate(
        "connect.rate",
        open.corrected.percentiles().count,
        usage.window,
    );
    let mut latencies = vec![open];
    let mut expected = vec![Outcome::Closed];
    if options.herd {
        let mut reopen = Latency::new("reopen");
        let start = reconnect_all(options, run, &mut reopen, &mut lateness)?;
        usage = start.until(&run.server.mark(run.clock.now())?);
        figures.rate(
            "herd.rate",
            reopen.corrected.percentiles().count,
            usage.window,
        );
        latencies.push(reopen);
        expected.push(Outcome::Reset);
    }
    let unread = run.session.fleet.unread();
    close_all(run)?;
    Ok(Findings {
        settings: vec![
            ("window", Span(options.window).to_string()),
            ("under way", options.under_way.to_string()),
            ("herd", options.herd.to_string()),
        ],
        expected,
        usage,
        lateness,
        unread: Some(unread),
        latencies,
        figures,
        failures: Failures::default(),
        // A connect that waits for --under-way is late too, and the server is the cause of that.
        exposure: Exposure::Cpu,
    })
}

/// Connects all clients as planned.
fn connect_all(
    options: &Options,
    plan: &Plan,
    run: &mut Run,
    open: &mut Latency,
    lateness: &mut Latency,
) -> Result<(), RunError> {
    let opening = run.opening;
    let session = &mut run.session;
    let count = plan.count();
    let mut progress = Progress::start("opened", u64::from(count), plan.start());
    let mut started = vec![plan.start(); count as usize];
    let mut next = 0;
    let mut now = session.clock.now();
    while next < count || session.opening() > 0 {
        let due = plan.due_by(now);
        while next < due && session.opening() < options.under_way as usize {
            started[next as usize] = now;
            lateness.record_planned(now, plan.due(next));
            session.connect(next, opening, now);
            next += 1;
        }
        let wait = match next < count && next == due {
            true => Wait::For(plan.due(next).since(now)),
            false => Wait::Forever,
        };
        now = session.turn(wait)?;
        for event in &session.events {
            if let Event::Opened { client } = *event {
                open.record(now, plan.due(client), started[client as usize]);
            }
        }
        progress.set(u64::from(next) - session.opening() as u64, now);
    }
    progress.finish(open.corrected.percentiles().count, now);
    Ok(())
}

/// Resets all open clients at one moment, and connects all clients again; returns the resources used
/// before that moment.
fn reconnect_all(
    options: &Options,
    run: &mut Run,
    reopen: &mut Latency,
    lateness: &mut Latency,
) -> Result<UsageMark, RunError> {
    let (_, start) = plan_window(run, Duration::ZERO, 0)?;
    let session = &mut run.session;
    for client in session.open_clients() {
        session.fleet.reset(client);
    }
    session.release_all(session.clock.now())?;
    let plan = Plan::new(session.clock.now(), options.window, run.clients);
    connect_all(options, &plan, run, reopen, lateness)?;
    Ok(start)
}
