//! Echo: messages go out, and the same come back.

use std::time::Duration;

use clap::Args;
use tidewheel::{cli::units::Span, ring::Wait};

use super::{RESIDENT, close_all, names_per_million, per_million};
use crate::{
    child::Service,
    cli::{Common, count, duration, rate, size, span},
    error::RunError,
    figures::{Figures, Unit},
    names::{FigureNames, Names},
    outcome::Outcome,
    plan::Plan,
    progress::Progress,
    report::{Exposure, Findings},
    status::Failures,
    talk::{MESSAGES, Pace, Talk},
    template::Template,
    trial::{Needs, Trial},
    usage::resident_bytes,
};

pub(crate) const ABOUT: &str = "\
Send messages that the server echoes, and measure latency, throughput and CPU time.

Closed loop (--in-flight, the default): each connection has this number of messages in flight, \
and sends the next one when an echo arrives. This measures throughput. The latencies say little, \
because a slow server slows the generator down. About 50 connections keep a server of one core \
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

/// Connections where nothing else was said.
const CONNECTIONS: u32 = 100;

/// The options of the echo.
#[derive(Args, Clone, Debug)]
#[command(after_long_help = crate::cli::EXIT_STATUS)]
pub(crate) struct Options {
    #[command(flatten)]
    pub(crate) common: Common,

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

const FIGURES: FigureNames = &[("echo.rate", Unit::PerSecond)];

/// What an echo needs.
pub(crate) fn needs(options: &Options) -> Needs {
    Needs {
        scenario: "echo",
        connections: CONNECTIONS,
        service: Service::Echo,
        deadlines: options.common.deadlines,
        message_size: options.size,
        names: names(options),
    }
}

fn names(options: &Options) -> Names {
    let common = &options.common;
    let names = Names::of_messages(common, options.rate.is_some(), &["echo"])
        .figures(MESSAGES)
        .figures(FIGURES)
        .figures_if(common.server_is_started(), RESIDENT);
    names_per_million(names, common)
}

/// Runs the echo.
///
/// # Errors
/// If there is nothing to report.
pub(crate) fn run(options: &Options, trial: &mut Trial) -> Result<Findings, RunError> {
    trial.session.open_all(trial.approach)?;
    let clients = trial.session.open_clients();
    let pace = options.rate.map_or(Pace::Closed, |_| Pace::Open);
    let mut talk = Talk::new("echo", pace, trial.clients, options.size, trial.seed);
    if let Some(template) = &options.message {
        talk.use_template(template.clone(), &mut trial.session);
    }
    let start = match options.rate {
        _ if clients.is_empty() => trial.server.mark(trial.clock.now())?,
        Some(rate) => open_loop(options, rate, &clients, trial, &mut talk)?,
        None => closed_loop(options, &clients, trial, &mut talk)?,
    };
    let usage = start.until(&trial.server.mark(trial.clock.now())?);
    let unread = trial.session.fleet.unread();
    let mut figures = Figures::default();
    let mut failures = Failures::default();
    let counts = talk.counts();
    talk.figures(&mut figures, &mut failures);
    figures.rate("echo.rate", counts.measured, usage.window);
    per_million(&mut figures, &usage, counts.measured);
    if let Some(pid) = trial.server.pid() {
        figures.bytes("server.resident_bytes", resident_bytes(pid)? as f64);
    }
    close_all(trial)?;
    let echo = talk.echo.corrected.percentiles();
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
        asked: vec![Outcome::Closed],
        usage,
        lateness: talk.lateness,
        unread: Some(unread),
        latencies: vec![talk.echo],
        figures,
        failures,
        exposure: match options.rate {
            Some(_) => Exposure::Lateness(Duration::from_nanos(echo.p99)),
            None => Exposure::Cpu,
        },
    })
}

/// Sends as planned; gives the start of the measured window.
fn open_loop(
    options: &Options,
    rate: u32,
    clients: &[u32],
    trial: &mut Trial,
    talk: &mut Talk,
) -> Result<crate::usage::UsageMark, RunError> {
    let patience = options.common.timeout;
    let messages = |span: Duration| (f64::from(rate) * span.as_secs_f64()) as u32;
    let session = &mut trial.session;
    let warm_up = Plan::new(
        session.clock.now(),
        options.warm_up,
        messages(options.warm_up),
    );
    talk.measure_from(warm_up.start() + options.warm_up);
    talk.follow(session, clients, &warm_up, Duration::ZERO)?;
    // What the warm-up left unanswered is answered in the measured window, and not measured.
    let now = session.clock.now();
    let plan = Plan::new(now, options.duration, messages(options.duration));
    talk.measure_from(plan.start());
    let mark = trial.server.mark(plan.start())?;
    trial.session.fleet.forget_unread();
    talk.follow(&mut trial.session, clients, &plan, patience)?;
    Ok(mark)
}

/// Keeps messages under way; gives the start of the measured window.
fn closed_loop(
    options: &Options,
    clients: &[u32],
    trial: &mut Trial,
    talk: &mut Talk,
) -> Result<crate::usage::UsageMark, RunError> {
    let session = &mut trial.session;
    let begin = session.clock.now();
    let from = begin + options.warm_up;
    let until = from + options.duration;
    talk.measure_from(from);
    for _ in 0..options.in_flight {
        for &client in clients {
            talk.say(session, client, begin, begin);
        }
    }
    let mut mark = None;
    let mut now = begin;
    let whole = options.warm_up + options.duration;
    let mut progress = Progress::start_for("echoed", whole, begin);
    while now < until {
        if mark.is_none() && now >= from {
            mark = Some(trial.server.mark(now)?);
            trial.session.fleet.forget_unread();
        }
        let next = |talk: &mut Talk, session: &mut _, _: &_, answered: Option<u32>, now| {
            if let Some(client) = answered
                && now < until
            {
                talk.say(session, client, now, now);
            }
        };
        now = talk.turn(&mut trial.session, Wait::For(until.since(now)), next)?;
        progress.set(talk.counts().answered, now);
    }
    progress.finish(talk.counts().answered, now);
    let limit = until + options.common.timeout;
    while talk.outstanding() > 0 && now < limit {
        let wait = Wait::For(limit.since(now));
        now = talk.turn(&mut trial.session, wait, |_, _, _, _, _| {})?;
    }
    let mark = match mark {
        Some(mark) => mark,
        None => trial.server.mark(from)?,
    };
    Ok(mark)
}
