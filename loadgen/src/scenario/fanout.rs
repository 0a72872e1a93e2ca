//! Fan-out: messages of publishers to all subscribers of their topics.

use std::time::Duration;

use clap::Args;
use tidewheel::{cli::units::Span, ring::Wait};

use crate::{
    fleet::{event::Opening, outcome::Outcome},
    measure::{
        clock::Moment,
        figures::{FigureNames, Figures, Unit},
        plan::Plan,
        usage::UsageMark,
    },
    options::{
        common::CommonOptions,
        values::{count, duration, rate, size, span},
    },
    progress::Progress,
    report::{
        Exposure, Findings,
        metric_names::MetricNames,
        status::{Failures, Problem},
    },
    run::{Run, error::RunError, requirements::Requirements},
    scenario::{
        costs::{names_per_million, per_million},
        phases::close_all,
    },
    server::service::Service,
    session::{
        deliveries::{DELIVERY_FIGURES, Deliveries, MESSAGE_ID_BYTES},
        load_model::LoadModel,
        topology::Topology,
    },
};

/// Help text of the scenario.
pub(crate) const ABOUT: &str = "\
Publish messages to topics, and measure the time until each subscriber has each message.

Each connection subscribes to one of --topics by its path. In the path of --url, {topic} stands \
for the topic's number; with a child the path is /fanout/{topic}. The first --publishers \
connections also publish, in turn, each to its own topic. The server is expected to send each \
message to all subscribers of the topic, including the publisher; with --sender-excluded, to all \
except the publisher.

Open loop (--rate, the default): this number of messages a second is planned, over all \
publishers together, and each is sent when it is due. This measures latency. Closed loop \
(--in-flight): this number of messages is in flight, and the next is sent when one has reached \
all its subscribers. This measures throughput.

Latency `delivery` is measured at each subscriber, latency `last` at the last subscriber of each \
message. Both count from the planned moment, in a closed loop from the send. Each message is \
compared byte by byte, and its publisher and number are checked, so lost, duplicate and \
reordered messages are found.

The run passes if there are none of these, and each connection closes with 1000. Messages of the \
warm-up are checked, not measured. Costs are CPU seconds of server and generator for each \
million deliveries.";

/// Names of the latencies to each subscriber, and to the last subscriber of each message.
const LATENCIES: [&str; 2] = ["delivery", "last"];

/// Default number of connections.
const CONNECTIONS: u32 = 1_000;

/// Options of fanout.
#[derive(Args, Clone, Debug)]
#[command(after_long_help = crate::options::after_help::AFTER_HELP)]
pub(crate) struct Options {
    #[command(flatten)]
    pub(crate) common: CommonOptions,

    /// Number of topics. The connections are divided among them
    #[arg(long, value_name = "N", value_parser = count, default_value = "1")]
    topics: u32,

    /// Number of connections that publish [default: one for each topic]
    #[arg(long, value_name = "N", value_parser = count)]
    publishers: Option<u32>,

    /// Expect that the server does not send a message back to its publisher
    #[arg(long)]
    sender_excluded: bool,

    /// Time of the measurement, after the warm-up
    #[arg(long, value_name = "DURATION", value_parser = span, default_value = "10s")]
    duration: Duration,

    /// Time of the warm-up. Its messages are checked, not measured
    #[arg(long, value_name = "DURATION", value_parser = duration, default_value = "1s")]
    warm_up: Duration,

    /// Open loop: messages to publish in a second, over all publishers
    #[arg(long, value_name = "N", value_parser = rate, default_value = "10")]
    rate: u32,

    /// Closed loop: messages in flight, over all publishers
    #[arg(long, value_name = "N", value_parser = count, conflicts_with = "rate")]
    in_flight: Option<u32>,

    /// Bytes of a message, at least 8
    #[arg(long, value_name = "SIZE", value_parser = size, default_value = "64")]
    size: usize,
}

impl Options {
    /// Checks that the options do not contradict each other.
    ///
    /// # Errors
    /// A message for the command line.
    pub(crate) fn check(&self) -> Result<(), String> {
        if self.size < MESSAGE_ID_BYTES {
            return Err(
                "--size is at least 8: a message contains its publisher and its number".to_owned(),
            );
        }
        let connections = self.common.connections.unwrap_or(CONNECTIONS);
        for (flag, count) in [
            ("--topics", self.topics),
            ("--publishers", self.publishers.unwrap_or(1)),
        ] {
            if count > connections {
                return Err(format!(
                    "{flag} is {count}, but there are {connections} connections: write at most {connections}, \
                     or raise --connections"
                ));
            }
        }
        Ok(())
    }
}

/// Figures of fanout.
const FIGURES: FigureNames = &[("delivery.rate", Unit::PerSecond)];

/// Returns the requirements of fanout.
pub(crate) fn requirements(options: &Options) -> Requirements {
    Requirements {
        scenario: "fanout",
        connections: CONNECTIONS,
        service: Service::Topics {
            count: options.topics,
            sender_included: !options.sender_excluded,
        },
        deadlines: options.common.deadlines,
        message_size: options.size,
        names: names(options),
    }
}

fn names(options: &Options) -> MetricNames {
    let common = &options.common;
    let names = MetricNames::of_messages(common, options.in_flight.is_none(), &LATENCIES)
        .figures(DELIVERY_FIGURES)
        .figures(FIGURES);
    names_per_million(names, common)
}

/// Runs fanout.
///
/// # Errors
/// If there is no report.
pub(crate) fn run(options: &Options, run: &mut Run) -> Result<Findings, RunError> {
    // Every message goes to all subscribers, so connections are not checked by an echo.
    let opening = Opening::Upgrade { check_echo: false };
    run.session.open_all(opening)?;
    let topology = Topology {
        clients: run.clients,
        // The host may allow fewer connections than publishers.
        publishers: options
            .publishers
            .unwrap_or(options.topics)
            .min(run.clients),
        topics: options.topics,
        sender_included: !options.sender_excluded,
    };
    let load_model = options
        .in_flight
        .map_or(LoadModel::OpenLoop, |_| LoadModel::ClosedLoop);
    let (session, seed) = (&mut run.session, run.seed);
    let mut deliveries =
        Deliveries::new(LATENCIES, topology, load_model, options.size, session, seed);
    let start = match options.in_flight {
        _ if run.session.live() == 0 => run.server.mark(run.clock.now())?,
        Some(in_flight) => closed_loop(options, in_flight, topology, run, &mut deliveries)?,
        None => open_loop(options, run, &mut deliveries)?,
    };
    let usage = start.until(&run.server.mark(run.clock.now())?);
    let unread = run.session.fleet.unread();
    let mut figures = Figures::default();
    let mut failures = Failures::default();
    deliveries.figures(&mut figures);
    deliveries.failures(&mut failures);
    add_hints(options, &mut deliveries, &mut failures);
    let measured = deliveries.counts().measured;
    figures.rate("delivery.rate", measured, usage.window);
    per_million(&mut figures, &usage, measured);
    close_all(run)?;
    let delivery = deliveries.delivery.corrected.percentiles();
    Ok(Findings {
        settings: vec![
            match options.in_flight {
                Some(count) => ("in flight", format!("{count}, closed loop")),
                None => ("rate", format!("{}/s, open loop", options.rate)),
            },
            ("topics", topology.topics.to_string()),
            ("publishers", topology.publishers.to_string()),
            ("size", options.size.to_string()),
            (
                "warm-up",
                format!("{}, not measured", Span(options.warm_up)),
            ),
        ],
        expected: vec![Outcome::Closed],
        usage,
        lateness: deliveries.lateness,
        unread: Some(unread),
        latencies: vec![deliveries.delivery, deliveries.last],
        figures,
        failures,
        exposure: match options.in_flight {
            Some(_) => Exposure::Cpu,
            None => Exposure::Lateness(Duration::from_nanos(delivery.p99)),
        },
    })
}

/// Adds hints at possible reasons of failures.
fn add_hints(options: &Options, deliveries: &mut Deliveries, failures: &mut Failures) {
    if deliveries.only_own_messages_are_missing() {
        let hint = "exactly the messages to their own senders are missing: if the server excludes \
                    the sender, add --sender-excluded";
        failures.add(Problem::MessagesWrong, hint.to_owned());
    }
    if deliveries.has_altered() && options.common.url_is_given() {
        let hint = "is the path of --url right? A client subscribes by its path, in which {topic} \
                    stands for the number of the topic";
        failures.add(Problem::MessagesWrong, hint.to_owned());
    }
}

/// Publishes messages as planned; returns the resources used before the measured window.
fn open_loop(
    options: &Options,
    run: &mut Run,
    deliveries: &mut Deliveries,
) -> Result<UsageMark, RunError> {
    let messages = |span: Duration| (f64::from(options.rate) * span.as_secs_f64()) as u32;
    let warm_up = Plan::new(run.clock.now(), options.warm_up, messages(options.warm_up));
    let from = warm_up.start() + options.warm_up;
    deliveries.measure_from(from);
    publish_plan("published to warm up", &warm_up, from, run, deliveries)?;
    let plan = Plan::new(from, options.duration, messages(options.duration));
    let mark = run.server.mark(from)?;
    run.session.fleet.forget_unread();
    let end = from + options.duration;
    let mut now = publish_plan("published", &plan, end, run, deliveries)?;
    let limit = end + options.common.timeout;
    while deliveries.outstanding() > 0 && now < limit {
        now = deliveries.turn(&mut run.session, Wait::For(limit.since(now)))?;
    }
    Ok(mark)
}

/// Publishes the messages of a plan, and takes turns until `end`.
fn publish_plan(
    verb: &'static str,
    plan: &Plan,
    end: Moment,
    run: &mut Run,
    deliveries: &mut Deliveries,
) -> Result<Moment, RunError> {
    let mut progress = Progress::start(verb, plan.count().into(), plan.start());
    let mut now = run.clock.now();
    let mut next = 0;
    while next < plan.count() || now < end {
        next = deliveries.publish_due(&mut run.session, next, plan, now);
        let until = match next < plan.count() {
            true => plan.due(next),
            false => end,
        };
        let wait = match until.since(now) {
            Duration::ZERO => Wait::No,
            wait => Wait::For(wait),
        };
        now = deliveries.turn(&mut run.session, wait)?;
        progress.set(next.into(), now);
    }
    progress.finish(next.into(), now);
    Ok(now)
}

/// Keeps a number of messages undelivered; returns the resources used before the measured window.
fn closed_loop(
    options: &Options,
    in_flight: u32,
    topology: Topology,
    run: &mut Run,
    deliveries: &mut Deliveries,
) -> Result<UsageMark, RunError> {
    let begin = run.clock.now();
    let from = begin + options.warm_up;
    let until = from + options.duration;
    deliveries.measure_from(from);
    let mut publishers = (0..topology.publishers).cycle();
    let mut mark = None;
    let mut now = begin;
    let whole = options.warm_up + options.duration;
    let mut progress = Progress::start_for("delivered", whole, begin);
    while now < until {
        if mark.is_none() && now >= from {
            mark = Some(run.server.mark(now)?);
            run.session.fleet.forget_unread();
        }
        // Bounded, because an ended publisher sends nothing, and a message without subscribers is
        // complete at once.
        for publisher in publishers
            .by_ref()
            .take(in_flight.max(topology.publishers) as usize)
        {
            if deliveries.in_flight() >= in_flight.into() {
                break;
            }
            deliveries.publish(&mut run.session, publisher, now, now);
        }
        now = deliveries.turn(&mut run.session, Wait::For(until.since(now)))?;
        progress.set(deliveries.counts().delivered, now);
    }
    progress.finish(deliveries.counts().delivered, now);
    let limit = until + options.common.timeout;
    while deliveries.outstanding() > 0 && now < limit {
        now = deliveries.turn(&mut run.session, Wait::For(limit.since(now)))?;
    }
    match mark {
        Some(mark) => Ok(mark),
        None => Ok(run.server.mark(from)?),
    }
}
