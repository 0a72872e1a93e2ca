//! Drain: shutdown of the server under load, and restart.

pub(crate) mod options;
mod reconnect_schedule;
mod restart;
mod shutdown;

use std::time::Duration;

use fastrand::Rng;
use tidewheel::ring::Wait;
use tidewheel_codec::CloseCode;

use crate::{
    fleet::outcome::{Expected, Outcome},
    measure::{
        figures::{FigureNames, Figures, Unit},
        latency_names::LATENESS,
        plan::Plan,
        usage::UsageMark,
    },
    options::deadlines::Deadlines,
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
    scenario::drain::{
        options::Options,
        shutdown::{EXIT_CHECK_INTERVAL, Shutdown},
    },
    server::service::Service,
    session::{echo_exchange::EchoExchange, load_model::LoadModel},
};

/// Help text of the scenario.
pub(crate) const ABOUT: &str = "\
Shut the server down under load, and measure how it ends its connections.

For --lead, --rate messages a second are sent and echoed. Then a share of the clients (--mute) \
stops answering, and the server gets SIGTERM. Measured from that moment: for each other client \
the time until the server's Close arrives (latency `goodbye`) and until its FIN arrives (latency \
`fin`), and the time until the server's process ends.

With --restart another server is started at the same address while the first one still ends, as \
in a deployment. Each client reconnects at a random moment within --back-within, and retries if \
it is refused. Messages are sent to either server meanwhile. Latency `outage` counts from the \
moment at which a client learns that its connection ends, to the moment at which it is connected \
again.

The run passes if each answering client gets Close 1001 and then FIN; each silent client's \
connection ends; the server exits with status 0 within close timeout + 0.8 s; and, with \
--restart, all clients reconnect. A child's close timeout is 2 s by default. Messages in flight \
may be lost. Because the server is shut down, it has to be a child (no --url) or started by \
--server-cmd.";

/// Default number of connections.
const CONNECTIONS: u32 = 1_000;

/// Default close timeout of a child.
const CLOSE_TIMEOUT: Duration = Duration::from_secs(2);

/// Figures of drain.
const FIGURES: FigureNames = &[
    ("echo.messages", Unit::Count),
    ("echo.answered", Unit::Count),
    ("echo.cut_off", Unit::Count),
    ("drain.mute", Unit::Count),
    ("drain.bound_seconds", Unit::Seconds),
    ("drain.exit_seconds", Unit::Seconds),
];

/// Further figures with `--restart`.
const RESTART: FigureNames = &[
    ("restart.serving_seconds", Unit::Seconds),
    ("restart.back", Unit::Count),
    ("restart.refused", Unit::Count),
    ("restart.seconds", Unit::Seconds),
];

/// Returns the requirements of drain.
pub(crate) fn requirements(options: &Options) -> Requirements {
    let deadlines = options.common.deadlines;
    Requirements {
        scenario: "drain",
        connections: CONNECTIONS,
        service: Service::Echo,
        deadlines: Deadlines {
            close_timeout: deadlines.close_timeout.or(Some(CLOSE_TIMEOUT)),
            ..deadlines
        },
        message_size: MESSAGE_BYTES_DEFAULT,
        names: names(options),
    }
}

fn names(options: &Options) -> MetricNames {
    let common = &options.common;
    let connections = common.connections.unwrap_or(CONNECTIONS);
    let has_answering = options.mute_count(connections as usize) < connections as usize;
    let has_messages = has_answering && (options.restart || !options.lead.is_zero());
    let names = MetricNames::of_all(common)
        .latencies_if(has_messages, LatencyForm::WithUncorrected, &["echo"])
        .latencies_if(has_answering, LatencyForm::Corrected, &["goodbye", "fin"])
        .latencies_if(options.restart, LatencyForm::Corrected, &["outage"])
        .latencies_if(has_messages, LatencyForm::Corrected, &[LATENESS])
        .figures(FIGURES)
        .figures_if(options.restart, RESTART);
    match options.restart {
        true => names.server_end(common),
        false => names,
    }
}

/// Runs drain.
///
/// # Errors
/// If there is no report, or the run does not start the server.
pub(crate) fn run(options: &Options, run: &mut Run) -> Result<Findings, RunError> {
    if run.server.child.is_none() {
        return Err(RunError::NeedsChild("drain"));
    }
    run.session.open_all(run.opening)?;
    let mut clients = run.session.open_clients();
    Rng::with_seed(run.seed).shuffle(&mut clients);
    let mute = options.mute_count(clients.len());
    let (mute, answering) = clients.split_at(mute);
    let mut exchange = EchoExchange::new("echo", LoadModel::OpenLoop, run.clients, 64, run.seed);
    let messages = (f64::from(options.rate) * options.lead.as_secs_f64()) as u32;
    let plan = Plan::new(run.clock.now(), options.lead, messages);
    if !answering.is_empty() {
        let session = &mut run.session;
        exchange.run_plan(session, answering, &plan, Duration::ZERO)?;
    }
    for &client in mute {
        run.session.fleet.expect_end(client, Expected::Silence);
    }
    for &client in answering {
        let going_away = Expected::Shutdown(CloseCode::GOING_AWAY);
        run.session.fleet.expect_end(client, going_away);
    }
    match options.restart {
        true => restart::run(options, run, exchange, answering, mute.len()),
        false => shut_down(options, run, exchange, mute.len()),
    }
}

/// Shuts the server down, and waits until all connections and the process have ended.
fn shut_down(
    options: &Options,
    run: &mut Run,
    mut exchange: EchoExchange,
    mute: usize,
) -> Result<Findings, RunError> {
    let mut shutdown = Shutdown::start(options.common.timeout, run)?;
    let mut now = shutdown.at;
    let start = UsageMark::set(now, None, run.server.generator_core())?;
    while now < shutdown.limit && (shutdown.exit.is_none() || run.session.live() > 0) {
        let session = &mut run.session;
        now = exchange.turn(
            session,
            Wait::For(EXIT_CHECK_INTERVAL),
            |_, _, event, _, now| {
                shutdown.handle(event, now);
            },
        )?;
        let child = run.server.child.as_mut().expect("drain starts the server");
        shutdown.check_exit(child, run.clock.now())?;
    }
    let usage = start.until(&UsageMark::set(now, None, run.server.generator_core())?);
    let mut figures = Figures::default();
    let mut failures = Failures::default();
    shutdown.report(&exchange, mute, &mut figures, &mut failures);
    Ok(Findings {
        settings: options.settings(),
        expected: vec![Outcome::ShutDown, Outcome::Released],
        usage,
        lateness: exchange.lateness,
        unread: None,
        latencies: vec![exchange.echo, shutdown.close, shutdown.fin],
        figures,
        failures,
        exposure: Exposure::Cpu,
    })
}
