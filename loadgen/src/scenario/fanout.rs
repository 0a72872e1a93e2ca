//! Fan-out: what one publishes, all subscribers of its topic get.

use std::time::Duration;

use clap::Args;
use tidewheel::{cli::units::Span, ring::Wait};

use super::{close_all, names_per_million, per_million};
use crate::{
    child::Service,
    cli::{Common, count, duration, rate, size, span},
    clock::Moment,
    error::RunError,
    feed::{DELIVERIES, Feed, STAMP_SIZE, Topology},
    figures::{Figures, Unit},
    fleet::Approach,
    names::{FigureNames, Names},
    outcome::Outcome,
    plan::Plan,
    progress::Progress,
    report::{Exposure, Findings},
    status::{Failures, Sign},
    talk::Pace,
    trial::{Needs, Trial},
    usage::UsageMark,
};

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

/// To each subscriber, and to the last of each message.
const LATENCIES: [&str; 2] = ["delivery", "last"];

/// Connections where nothing else was said.
const CONNECTIONS: u32 = 1_000;

/// The options of the fan-out.
#[derive(Args, Clone, Debug)]
#[command(after_long_help = crate::cli::EXIT_STATUS)]
pub(crate) struct Options {
    #[command(flatten)]
    pub(crate) common: Common,

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
    /// Whether they make sense together.
    pub(crate) fn check(&self) -> Result<(), String> {
        if self.size < STAMP_SIZE {
            return Err(
                "--size is 8 at least: a message tells its publisher and its number".to_owned(),
            );
        }
        let connections = self.common.connections.unwrap_or(CONNECTIONS);
        for (flag, count) in [
            ("--topics", self.topics),
            ("--publishers", self.publishers.unwrap_or(1)),
        ] {
            if count > connections {
                return Err(format!(
                    "{flag} is {count}, and there are {connections} connections: write {connections} at most, \
                     or more --connections"
                ));
            }
        }
        Ok(())
    }
}

const FIGURES: FigureNames = &[("delivery.rate", Unit::PerSecond)];

/// What a fan-out needs.
pub(crate) fn needs(options: &Options) -> Needs {
    Needs {
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

fn names(options: &Options) -> Names {
    let common = &options.common;
    let names = Names::of_messages(common, options.in_flight.is_none(), &LATENCIES)
        .figures(DELIVERIES)
        .figures(FIGURES);
    names_per_million(names, common)
}

/// Runs the fan-out.
///
/// # Errors
/// If there is nothing to report.
pub(crate) fn run(options: &Options, trial: &mut Trial) -> Result<Findings, RunError> {
    // What is sent comes to all, so that no echo tells whether a connection works.
    let approach = Approach::Upgrade { check_echo: false };
    trial.session.open_all(approach)?;
    let topology = Topology {
        clients: trial.clients,
        // All connections publish if the host allows fewer than the default.
        publishers: options
            .publishers
            .unwrap_or(options.topics)
            .min(trial.clients),
        topics: options.topics,
        sender_included: !options.sender_excluded,
    };
    let pace = options.in_flight.map_or(Pace::Open, |_| Pace::Closed);
    let (session, seed) = (&mut trial.session, trial.seed);
    let mut feed = Feed::new(LATENCIES, topology, pace, options.size, session, seed);
    let start = match options.in_flight {
        _ if trial.session.live() == 0 => trial.server.mark(trial.clock.now())?,
        Some(in_flight) => closed_loop(options, in_flight, topology, trial, &mut feed)?,
        None => open_loop(options, trial, &mut feed)?,
    };
    let usage = start.until(&trial.server.mark(trial.clock.now())?);
    let unread = trial.session.fleet.unread();
    let mut figures = Figures::default();
    let mut failures = Failures::default();
    feed.figures(&mut figures);
    feed.failures(&mut failures);
    hint(options, &mut feed, &mut failures);
    let measured = feed.counts().measured;
    figures.rate("delivery.rate", measured, usage.window);
    per_million(&mut figures, &usage, measured);
    close_all(trial)?;
    let delivery = feed.delivery.corrected.percentiles();
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
        asked: vec![Outcome::Closed],
        usage,
        lateness: feed.lateness,
        unread: Some(unread),
        latencies: vec![feed.delivery, feed.last],
        figures,
        failures,
        exposure: match options.in_flight {
            Some(_) => Exposure::Cpu,
            None => Exposure::Lateness(Duration::from_nanos(delivery.p99)),
        },
    })
}

/// Says what may be the reason of what failed.
fn hint(options: &Options, feed: &mut Feed, failures: &mut Failures) {
    if feed.only_senders_lack_their_own() {
        let hint = "exactly the messages to their own senders are missing: if the server leaves out \
                    the sender, add --sender-excluded";
        failures.add(Sign::MessagesWrong, hint.to_owned());
    }
    if feed.has_altered() && options.common.url_is_given() {
        let hint = "is the path of --url right? A client subscribes by its path, in which {topic} \
                    stands for the number of the topic";
        failures.add(Sign::MessagesWrong, hint.to_owned());
    }
}

/// Publishes as planned; gives the start of the measured window.
fn open_loop(options: &Options, trial: &mut Trial, feed: &mut Feed) -> Result<UsageMark, RunError> {
    let messages = |span: Duration| (f64::from(options.rate) * span.as_secs_f64()) as u32;
    let warm_up = Plan::new(
        trial.clock.now(),
        options.warm_up,
        messages(options.warm_up),
    );
    let from = warm_up.start() + options.warm_up;
    feed.measure_from(from);
    follow("published to warm up", &warm_up, from, trial, feed)?;
    let plan = Plan::new(from, options.duration, messages(options.duration));
    let mark = trial.server.mark(from)?;
    trial.session.fleet.forget_unread();
    let end = from + options.duration;
    let mut now = follow("published", &plan, end, trial, feed)?;
    let limit = end + options.common.timeout;
    while feed.outstanding() > 0 && now < limit {
        now = feed.turn(&mut trial.session, Wait::For(limit.since(now)))?;
    }
    Ok(mark)
}

/// Publishes what is planned until `end`.
fn follow(
    verb: &'static str,
    plan: &Plan,
    end: Moment,
    trial: &mut Trial,
    feed: &mut Feed,
) -> Result<Moment, RunError> {
    let mut progress = Progress::start(verb, plan.count().into(), plan.start());
    let mut now = trial.clock.now();
    let mut next = 0;
    while next < plan.count() || now < end {
        next = feed.publish_due(&mut trial.session, next, plan, now);
        let until = match next < plan.count() {
            true => plan.due(next),
            false => end,
        };
        let wait = match until.since(now) {
            Duration::ZERO => Wait::No,
            wait => Wait::For(wait),
        };
        now = feed.turn(&mut trial.session, wait)?;
        progress.set(next.into(), now);
    }
    progress.finish(next.into(), now);
    Ok(now)
}

/// Keeps messages under way; gives the start of the measured window.
fn closed_loop(
    options: &Options,
    in_flight: u32,
    topology: Topology,
    trial: &mut Trial,
    feed: &mut Feed,
) -> Result<UsageMark, RunError> {
    let begin = trial.clock.now();
    let from = begin + options.warm_up;
    let until = from + options.duration;
    feed.measure_from(from);
    let mut publishers = (0..topology.publishers).cycle();
    let mut mark = None;
    let mut now = begin;
    let whole = options.warm_up + options.duration;
    let mut progress = Progress::start_for("delivered", whole, begin);
    while now < until {
        if mark.is_none() && now >= from {
            mark = Some(trial.server.mark(now)?);
            trial.session.fleet.forget_unread();
        }
        // Bounded, for who has ended publishes nothing, and what nobody is to get is nowhere.
        for publisher in publishers
            .by_ref()
            .take(in_flight.max(topology.publishers) as usize)
        {
            if feed.in_flight() >= in_flight.into() {
                break;
            }
            feed.publish(&mut trial.session, publisher, now, now);
        }
        now = feed.turn(&mut trial.session, Wait::For(until.since(now)))?;
        progress.set(feed.counts().delivered, now);
    }
    progress.finish(feed.counts().delivered, now);
    let limit = until + options.common.timeout;
    while feed.outstanding() > 0 && now < limit {
        now = feed.turn(&mut trial.session, Wait::For(limit.since(now)))?;
    }
    match mark {
        Some(mark) => Ok(mark),
        None => Ok(trial.server.mark(from)?),
    }
}
