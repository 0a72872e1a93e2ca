//! The metrics of a server, for a registry of `prometheus-client`.

use std::fmt;

use prometheus_client::{
    collector::Collector,
    encoding::{DescriptorEncoder, EncodeMetric, MetricEncoder, NoLabelSet},
    metrics::{MetricType, counter::ConstCounter, gauge::ConstGauge, info::Info},
    registry::Unit,
};

use crate::{Counters, Durations, Publisher};

/// The metrics of a server, for the application's own registry. They are those of `/metrics` on the admin listener,
/// without the metrics of the process and of the log, and their names begin with `tidewheel_`.
///
/// ```
/// use prometheus_client::registry::Registry;
/// use tidewheel::{Metrics, Publisher};
///
/// fn register(registry: &mut Registry, publisher: &Publisher) {
///     registry.register_collector(Box::new(Metrics::new(publisher.clone())));
/// }
/// ```
///
/// The registry has to be one of `prometheus-client` 0.25. [`Publisher::snapshot`] has the same numbers for another
/// library of metrics.
#[derive(Clone, Debug)]
pub struct Metrics {
    publisher: Publisher,
}

impl Metrics {
    /// The metrics of the server of this handle.
    #[must_use]
    pub fn new(publisher: Publisher) -> Self {
        Self { publisher }
    }
}

/// The name, help, unit and value of a metric that each shard has.
type Family = (
    &'static str,
    &'static str,
    Option<Unit>,
    fn(&Counters) -> u64,
);

const GAUGES: [Family; 7] = [
    (
        "tidewheel_connections",
        "Open connections, in any state",
        None,
        |it| it.connections,
    ),
    (
        "tidewheel_send_queue",
        "Bytes in the send queues of connections",
        Some(Unit::Bytes),
        |it| it.send_queue_bytes,
    ),
    (
        "tidewheel_fanout",
        "Bytes of published messages that are not yet in the send queues of all subscribers",
        Some(Unit::Bytes),
        |it| it.fanout_bytes,
    ),
    (
        "tidewheel_timer_entries",
        "Entries of the timer wheel: deadlines, and entries of past deadlines that are not yet removed",
        None,
        |it| it.timer_entries,
    ),
    (
        "tidewheel_receive_buffers_held",
        "Receive buffers in use by received bytes that are not yet processed, or not yet sent",
        None,
        |it| it.receive_buffers_held,
    ),
    (
        "tidewheel_topics",
        "Topics and patterns with at least one subscriber",
        None,
        |it| it.topics,
    ),
    (
        "tidewheel_subscriptions",
        "Subscriptions of connections to topics and patterns",
        None,
        |it| it.subscriptions,
    ),
];

const COUNTERS: [Family; 17] = [
    ("tidewheel_accepts", "Connections accepted", None, |it| {
        it.accepts
    }),
    (
        "tidewheel_hand_overs",
        "Accepted connections that a full shard handed over to another shard",
        None,
        |it| it.hand_overs,
    ),
    (
        "tidewheel_opens",
        "Opening handshakes completed",
        None,
        |it| it.opens,
    ),
    (
        "tidewheel_http_requests",
        "HTTP requests answered by the handler; those answered with status 426 count as refused",
        None,
        |it| it.http_requests,
    ),
    (
        "tidewheel_messages_received",
        "Messages received",
        None,
        |it| it.messages_received,
    ),
    (
        "tidewheel_messages_sent",
        "Messages queued for sending; a policy for slow consumers may drop them later",
        None,
        |it| it.messages_sent,
    ),
    (
        "tidewheel_received",
        "Payload bytes of the messages received",
        Some(Unit::Bytes),
        |it| it.received_bytes,
    ),
    (
        "tidewheel_sent",
        "Payload bytes of the messages sent",
        Some(Unit::Bytes),
        |it| it.sent_bytes,
    ),
    (
        "tidewheel_receive_pauses",
        "Pauses in reading from a client that did not read its messages",
        None,
        |it| it.receive_pauses,
    ),
    (
        "tidewheel_handshake_timeouts",
        "Connections closed because the opening handshake request was not complete in time",
        None,
        |it| it.handshake_timeouts,
    ),
    (
        "tidewheel_deadline_resets",
        "Connections reset at the close timeout, or at the deadline of a drain or of a refused request",
        None,
        |it| it.deadline_resets,
    ),
    (
        "tidewheel_starvations",
        "Receives that found no free receive buffer",
        None,
        |it| it.starvations,
    ),
    (
        "tidewheel_publishes",
        "Messages published by handlers",
        None,
        |it| it.publishes,
    ),
    (
        "tidewheel_deliveries",
        "Messages queued for a subscriber, counted once for each subscriber",
        None,
        |it| it.deliveries,
    ),
    (
        "tidewheel_publisher_pauses",
        "Pauses in reading from a client because of the messages that it published",
        None,
        |it| it.publisher_pauses,
    ),
    (
        "tidewheel_handler_panics",
        "Caught panics of the handler",
        None,
        |it| it.handler_panics,
    ),
    (
        "tidewheel_accept_pauses",
        "Pauses in accepting because of the maximum accept rate",
        None,
        |it| it.accept_pauses,
    ),
];

/// The name, help, label and values of a counter that each shard has for each value of the label.
type LabelledFamily = (
    &'static str,
    &'static str,
    &'static str,
    fn(&Counters) -> &[(&'static str, u64)],
);

const LABELLED_COUNTERS: [LabelledFamily; 3] = [
    (
        "tidewheel_rejections",
        "Refused opening handshakes, by reason",
        "reason",
        |it| &it.rejections,
    ),
    (
        "tidewheel_drops",
        "Messages dropped because a client read too slowly, by policy",
        "policy",
        |it| &it.drops,
    ),
    (
        "tidewheel_closes",
        "Closed connections, by cause",
        "cause",
        |it| &it.closes,
    ),
];

/// The name, help and value of a histogram of seconds that each shard has.
type HistogramFamily = (&'static str, &'static str, fn(&Counters) -> &Durations);

const HISTOGRAMS: [HistogramFamily; 2] = [
    (
        "tidewheel_ping_round_trip",
        "Time from a ping to its pong, with a resolution of 1 ms",
        |it| &it.ping_round_trips,
    ),
    (
        "tidewheel_turn",
        "Duration of a turn of a shard, without the system call that submits and waits",
        |it| &it.turns,
    ),
];

impl Collector for Metrics {
    fn encode(&self, mut encoder: DescriptorEncoder<'_>) -> Result<(), fmt::Error> {
        let snapshot = self.publisher.snapshot();
        let help = "Version of the program";
        let metric = encoder.encode_descriptor("tidewheel_build", help, None, MetricType::Info)?;
        Info::new([("version", env!("CARGO_PKG_VERSION"))]).encode(metric)?;
        let help = "1 while the server drains, otherwise 0";
        let name = "tidewheel_draining";
        let metric = encoder.encode_descriptor(name, help, None, MetricType::Gauge)?;
        ConstGauge::new(i64::from(snapshot.is_draining)).encode(metric)?;
        let help =
            "Messages published by HTTP and by other threads, not included in tidewheel_publishes";
        let name = "tidewheel_remote_publishes";
        let metric = encoder.encode_descriptor(name, help, None, MetricType::Counter)?;
        ConstCounter::new(snapshot.remote_publishes).encode(metric)?;
        let shards = &snapshot.shards;
        for (name, help, unit, value) in &GAUGES {
            let family = encoder.encode_descriptor(name, help, unit.as_ref(), MetricType::Gauge)?;
            each(shards, family, |shard, metric| {
                ConstGauge::new(i64::try_from(value(shard)).unwrap_or(i64::MAX)).encode(metric)
            })?;
        }
        for (name, help, unit, value) in &COUNTERS {
            let family =
                encoder.encode_descriptor(name, help, unit.as_ref(), MetricType::Counter)?;
            each(shards, family, |shard, metric| {
                ConstCounter::new(value(shard)).encode(metric)
            })?;
        }
        for (name, help, label, values) in &LABELLED_COUNTERS {
            let family = encoder.encode_descriptor(name, help, None, MetricType::Counter)?;
            each_labelled(shards, family, label, *values)?;
        }
        for (name, help, value) in &HISTOGRAMS {
            let (unit, kind) = (Some(&Unit::Seconds), MetricType::Histogram);
            let family = encoder.encode_descriptor(name, help, unit, kind)?;
            each(shards, family, |shard, mut metric| {
                let durations = value(shard);
                let (sum, count) = (durations.sum_seconds, durations.count());
                metric.encode_histogram::<NoLabelSet>(sum, count, &durations.buckets, None)
            })?;
        }
        Ok(())
    }
}

/// Encodes one metric for each shard.
fn each(
    shards: &[Counters],
    mut family: MetricEncoder<'_>,
    encode: impl Fn(&Counters, MetricEncoder<'_>) -> fmt::Result,
) -> fmt::Result {
    for (number, shard) in shards.iter().enumerate() {
        encode(
            shard,
            family.encode_family(&[("shard", number.to_string())])?,
        )?;
    }
    Ok(())
}

/// Encodes one counter for each shard and each value of a label.
fn each_labelled(
    shards: &[Counters],
    mut family: MetricEncoder<'_>,
    label: &'static str,
    values: impl Fn(&Counters) -> &[(&'static str, u64)],
) -> fmt::Result {
    for (number, shard) in shards.iter().enumerate() {
        for (value, count) in values(shard) {
            let labels = [("shard", number.to_string()), (label, (*value).to_owned())];
            ConstCounter::new(*count).encode(family.encode_family(&labels)?)?;
        }
    }
    Ok(())
}
