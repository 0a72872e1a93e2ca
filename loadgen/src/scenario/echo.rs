//! Echo: messages to an echo server, in an open or a closed loop.

use std::time::Duration;

use clap::Args;
use tidewheel::{cli::units::Span, ring::Wait};

use crate::{
    fleet::outcome::Outcome,
    measure::{
        figures::{FigureNames, Figures, Unit},
        plan::Plan,
        usage::{UsageMark, resident_bytes},
    },
    options::{
        common::CommonOptions,
        values::{count, duration, rate, size, span},
    },
    progress::Progress,
    report::{Exposure, Findings, metric_names::MetricNames, status::Failures},
    run::{Run, error::RunError, requirements::Requirements},
    scenario::{
        costs::{RESIDENT, names_per_million, per_million},
        phases::close_all,
    },
    server::service::Service,
    session::{
        echo_exchange::{EXCHANGE_FIGURES, EchoExchange},
        load_model::LoadModel,
        template::Template,
    },
};

/// Help text of the scenario.
pub(crate) const ABOUT: &str = "\
Send messages that the server echoes, and measure latency, throughput and CPU time.

Closed loop (--in-flight, the default): each connection has this number of messages in flight, \
and sends the next one when an echo arrives. This measures throughput. The latencies are less \
useful, because a slow server slows the generator down. About 50 connections keep a server of one core \
busy.

Open loop (--rate): this number of messages a second is planned, over all connections in turn. \
Each is sent when it is due, even if earlier ones are unanswered. This measures latency. `from \
plan` counts from the moment at which the message was due, as for a user who sends at a steady \
pace. `from send` counts from the actual send, and leaves out the time for which a due message \
waited in the generator. That time is the generator's `lateness`. `unread` is an upper bound of \
the time for which an echo had arrived and the generator had not read it.

The first message of each connection is compared byte by byte. Later messages are checked by \
length, client and number or, with --message, by a digest of the whole message.

The run passes if all messages come back, in order, and each connection closes with 1000. \
Messages of the warm-up are checked and count in echo.messages; latencies, echo.rate and costs \
cover only the time after it. Costs are CPU seconds of server and generator for each million \
messages.";

/// Default number of connections.
const CONNECTIONS: u32 = 100;

/// Options of echo.
#[derive(Args, Clone, Debug)]
#[command(after_long_help = crate::options::after_help::AFTER_HELP)]
pub(crate) struct Options {
    #[command(flatten)]
    pub(crate) common: CommonOptions,

    /// Time of the measurement, after the warm-up
    #[arg(long, value_name = "DURATION", value_parser = span, default_value = "10s")]
    duration: Duration,

    /// Time of the warm-up. Its messages are checked, not measured
    #[arg(long, value_name = "DURATION", value_parser = duration, default_value = "1s")]
    warm_up: Duration,

    /// Closed loop: messages in flight on each connection
    #[arg(long, value_name = "N", value_parser = count, default_value = "1", conflicts_with = "rate")]
    in_flight: u32,

    /// Open loop: messages to send in a second, over all connections
    #[arg(long, value_name = "N", value_parser = rate)]
    rate: Option<u32>,

    /// Bytes of a message
    #[arg(long, value_name = "SIZE", value_parser = size, default_value = "64")]
    size: usize,

    /// Text of the messages, with the placeholders {client} and {number}; {{ and }} are literal
    /// braces
    #[arg(long, value_name = "TEMPLATE", conflicts_with = "size")]
    message: Option<Template>,
}

/// Figures of echo.
const FIGURES: FigureNames = &[("echo.rate", Unit::PerSecond)];

/// Returns the requirements of echo.
pub(crate) fn requirements(options: &Options) -> Requirements {
    Requirements {
        scenario: "echo",
        connections: CONNECTIONS,
        service: Service::Echo,
        deadlines: options.common.deadlines,
        message_size: options.size,
        names: names(options),
    }
}

fn names(options: &Options) -> MetricNames {
    let common = &options.common;
    let names = MetricNames::of_messages(common, options.rate.is_some(), &["echo"])
        .figures(EXCHANGE_FIGURES)
        .figures(FIGURES)
        .figures_if(common.server_is_started(), RESIDENT);
    names_per_million(names, common)
}

/// Runs echo.
///
/// # Errors
/// If there is no report.
pub(crate) fn run(options: &Options, run: &mut Run) -> Result<Findings, RunError> {
    run.session.open_all(run.opening)?;
    let clients = run.session.open_clients();
    let load_model = options
        .rate
        .map_or(LoadModel::ClosedLoop, |_| LoadModel::OpenLoop);
    let mut exchange = EchoExchange::new("echo", load_model, run.clients, options.size, run.seed);
    if let Some(template) = &options.message {
        exchange.use_template(template.clone(), &mut run.session);
    }
    let start = match options.rate {
        _ if clients.is_empty() => run.server.mark(run.clock.now())?,
        Some(rate) => open_loop(options, rate, &clients, run, &mut exchange)?,
        None => closed_loop(options, &clients, run, &mut exchange)?,
    };
    let usage = start.until(&run.server.mark(run.clock.now())?);
    let unread = run.session.fleet.unread();
    let mut figures = Figures::default();
    let mut failures = Failures::default();
    let counts = exchange.counts();
    exchange.figures(&mut figures, &mut failures);
    figures.rate("echo.rate", counts.measured, usage.window);
    per_million(&mut figures, &usage, counts.measured);
    if let Some(pid) = run.server.pid() {
        figures.bytes("server.resident_bytes", resident_bytes(pid)? as f64);
    }
    close_all(run)?;
    let echo = exchange.echo.corrected.percentiles();
    Ok(Findings {
        settings: vec![
            match options.rate {
                Some(rate) => ("rate", format!("{rate}/s, open loop")),
                None => (
                    "in flight",
                    format!("{} each, closed loop", options.in_flight),
                ),
            },
            ("size", options.size.to_string()),
            (
                "warm-up",
                format!("{}, not measured", Span(options.warm_up)),
            ),
        ],
        expected: vec![Outcome::Closed],
        usage,
        lateness: exchange.lateness,
        unread: Some(unread),
        latencies: vec![exchange.echo],
        figures,
        failures,
        exposure: match options.rate {
            Some(_) => Exposure::Lateness(Duration::from_nanos(echo.p99)),
            None => Exposure::Cpu,
        },
    })
}

/// Sends messages as planned; returns the resources used before the measured window.
fn open_loop(
    options: &Options,
    rate: u32,
    clients: &[u32],
    run: &mut Run,
    exchange: &mut EchoExchange,
) -> Result<UsageMark, RunError> {
    let answer_wait_max = options.common.timeout;
    let messages = |span: Duration| (f64::from(rate) * span.as_secs_f64()) as u32;
    let session = &mut run.session;
    let warm_up = Plan::new(
        session.clock.now(),
        options.warm_up,
        messages(options.warm_up),
    );
    exchange.measure_from(warm_up.start() + options.warm_up);
    exchange.run_plan(session, clients, &warm_up, Duration::ZERO)?;
    // Answers to messages of the warm-up arrive in the measured window, and are not measured.
    let now = session.clock.now();
    let plan = Plan::new(now, options.duration, messages(options.duration));
    exchange.measure_from(plan.start());
    let mark = run.server.mark(plan.start())?;
    run.session.fleet.forget_unread();
    exchange.run_plan(&mut run.session, clients, &plan, answer_wait_max)?;
    Ok(mark)
}

/// Keeps a number of messages unanswered; returns the resources used before the measured window.
fn closed_loop(
    options: &Options,
    clients: &[u32],
    run: &mut Run,
    exchange: &mut EchoExchange,
) -> Result<UsageMark, RunError> {
    let session = &mut run.session;
    let begin = session.clock.now();
    let from = begin + options.warm_up;
    let until = from + options.duration;
    exchange.measure_from(from);
    for _ in 0..options.in_flight {
        for &client in clients {
            exchange.send(session, client, begin, begin);
        }
    }
    let mut mark = None;
    let mut now = begin;
    let whole = options.warm_up + options.duration;
    let mut progress = Progress::start_for("echoed", whole, begin);
    while now < until {
        if mark.is_none() && now >= from {
            mark = Some(run.server.mark(now)?);
            run.session.fleet.forget_unread();
        }
        let next =
            |exchange: &mut EchoExchange, session: &mut _, _: &_, answered: Option<u32>, now| {
                if let Some(client) = answered
                    && now < until
                {
                    exchange.send(session, client, now, now);
                }
            };
        now = exchange.turn(&mut run.session, Wait::For(until.since(now)), next)?;
        progress.set(exchange.counts().answered, now);
    }
    progress.finish(exchange.counts().answered, now);
    let limit = until + options.common.timeout;
    while exchange.outstanding() > 0 && now < limit {
        let wait = Wait::For(limit.since(now));
        now = exchange.turn(&mut run.session, wait, |_, _, _, _, _| {})?;
    }
    let mark = match mark {
        Some(mark) => mark,
        None => run.server.mark(from)?,
    };
    Ok(mark)
}
