//! The metrics of all shards and of the process, in the text formats of Prometheus.

use std::{fmt, sync::Arc};

use prometheus_client::{
    collector::Collector,
    encoding::{DescriptorEncoder, EncodeMetric, MetricEncoder, NoLabelSet, text},
    metrics::{MetricType, counter::ConstCounter, gauge::ConstGauge, info::Info},
    registry::{Registry, Unit},
};

use super::{media::MetricsFormat, process::ProcessMetrics};
use crate::{
    fanout::Readiness,
    stats::{Count, Histogram, Stats},
};

/// Values of the whole server.
pub(super) struct Totals {
    /// Messages published by HTTP and by [`Publisher`](crate::Publisher).
    pub(super) remote_publishes: u64,
    /// Log lines that were lost.
    pub(super) log_lines_lost: u64,
    pub(super) readiness: Readiness,
}

/// Encodes all metrics in this format.
pub(super) fn encode(stats: &[Arc<Stats>], totals: &Totals, format: MetricsFormat) -> String {
    let open_metrics = open_metrics(stats, totals);
    match format {
        MetricsFormat::OpenMetrics => open_metrics,
        MetricsFormat::Prometheus => prometheus(&open_metrics),
    }
}

/// Converts OpenMetrics to the Prometheus text format 0.0.4. Samples are the same in both. The metadata of the
/// Prometheus format names the samples and not the metric family, and the format has no units, no type `info`
/// and no end mark.
fn prometheus(open_metrics: &str) -> String {
    let mut out = String::with_capacity(open_metrics.len());
    let mut help = "";
    for line in open_metrics.lines() {
        let mut words = line.splitn(4, ' ');
        let words = [(); 4].map(|()| words.next().unwrap_or_default());
        match words {
            // Written with the type, which is in the next line.
            ["#", "HELP", _, text] => help = text,
            ["#", "TYPE", family, kind] => {
                let (suffix, kind) = match kind {
                    "counter" => ("_total", kind),
                    "info" => ("_info", "gauge"),
                    "unknown" => ("", "untyped"),
                    _ => ("", kind),
                };
                out += &format!("# HELP {family}{suffix} {help}\n# TYPE {family}{suffix} {kind}\n");
            }
            ["#", "UNIT" | "EOF", ..] => {}
            _ => {
                out += line;
                out.push('\n');
            }
        }
    }
    out
}

fn open_metrics(stats: &[Arc<Stats>], totals: &Totals) -> String {
    let mut all = Registry::default();
    all.register_collector(Box::new(ProcessMetrics));
    let registry = all.sub_registry_with_prefix("tidewheel");
    let version = Info::new([("version", env!("CARGO_PKG_VERSION"))]);
    registry.register("build", "Version of the program", version);
    let draining = ConstGauge::new(i64::from(totals.readiness != Readiness::Serving));
    registry.register(
        "draining",
        "1 while the server drains, otherwise 0",
        draining,
    );
    registry.register(
        "remote_publishes",
        "Messages published by HTTP and by other threads, not included in tidewheel_publishes",
        ConstCounter::new(totals.remote_publishes),
    );
    registry.register(
        "log_lines_lost",
        "Log lines lost because the log was full or could not be written",
        ConstCounter::new(totals.log_lines_lost),
    );
    registry.register_collector(Box::new(Shards(stats.to_vec())));
    let mut out = String::new();
    text::encode(&mut out, &all).expect("writing to a string cannot fail");
    out
}

#[derive(Debug)]
struct Shards(Vec<Arc<Stats>>);

/// The name, help, unit and value of a metric that each shard has.
type Family = (
    &'static str,
    &'static str,
    Option<Unit>,
    fn(&Stats) -> &Count,
);

const GAUGES: [Family; 7] = [
    (
        "connections",
        "Open connections, in any state",
        None,
        |stats| &stats.connections,
    ),
    (
        "send_queue",
        "Bytes in the send queues of connections",
        Some(Unit::Bytes),
        |stats| &stats.send_queue_bytes,
    ),
    (
        "fanout",
        "Bytes of published messages that are not yet in the send queues of all subscribers",
        Some(Unit::Bytes),
        |stats| &stats.fanout_bytes,
    ),
    (
        "timer_entries",
        "Entries of the timer wheel: deadlines, and entries of past deadlines that are not yet removed",
        None,
        |stats| &stats.timer_entries,
    ),
    (
        "receive_buffers_held",
        "Receive buffers in use by received bytes that are not yet processed, or not yet sent",
        None,
        |stats| &stats.receive_buffers_held,
    ),
    (
        "topics",
        "Topics and patterns with at least one subscriber",
        None,
        |stats| &stats.topics,
    ),
    (
        "subscriptions",
        "Subscriptions of connections to topics and patterns",
        None,
        |stats| &stats.subscriptions,
    ),
];

const COUNTERS: [Family; 17] = [
    ("accepts", "Connections accepted", None, |stats| {
        &stats.accepts
    }),
    (
        "hand_overs",
        "Accepted connections that a full shard handed over to another shard",
        None,
        |stats| &stats.hand_overs,
    ),
    ("opens", "Opening handshakes completed", None, |stats| {
        &stats.opens
    }),
    (
        "http_requests",
        "HTTP requests answered by the handler; those answered with status 426 count as refused",
        None,
        |stats| &stats.http_requests,
    ),
    ("messages_received", "Messages received", None, |stats| {
        &stats.messages_received
    }),
    (
        "messages_sent",
        "Messages queued for sending; a policy for slow consumers may drop them later",
        None,
        |stats| &stats.messages_sent,
    ),
    (
        "received",
        "Payload bytes of the messages received",
        Some(Unit::Bytes),
        |stats| &stats.received_bytes,
    ),
    (
        "sent",
        "Payload bytes of the messages sent",
        Some(Unit::Bytes),
        |stats| &stats.sent_bytes,
    ),
    (
        "receive_pauses",
        "Pauses in reading from a client that did not read its messages",
        None,
        |stats| &stats.receive_pauses,
    ),
    (
        "handshake_timeouts",
        "Connections closed because the opening handshake request was not complete in time",
        None,
        |stats| &stats.handshake_timeouts,
    ),
    (
        "deadline_resets",
        "Connections reset at the close timeout, or at the deadline of a drain or of a refused request",
        None,
        |stats| &stats.deadline_resets,
    ),
    (
        "starvations",
        "Receives that found no free receive buffer",
        None,
        |stats| &stats.starvations,
    ),
    (
        "publishes",
        "Messages published by handlers",
        None,
        |stats| &stats.publishes,
    ),
    (
        "deliveries",
        "Messages queued for a subscriber, counted once for each subscriber",
        None,
        |stats| &stats.deliveries,
    ),
    (
        "publisher_pauses",
        "Pauses in reading from a client because of the messages that it published",
        None,
        |stats| &stats.publisher_pauses,
    ),
    (
        "handler_panics",
        "Caught panics of the handler",
        None,
        |stats| &stats.handler_panics,
    ),
    (
        "accept_pauses",
        "Pauses in accepting because of the maximum accept rate",
        None,
        |stats| &stats.accept_pauses,
    ),
];

impl Collector for Shards {
    fn encode(&self, mut encoder: DescriptorEncoder<'_>) -> Result<(), fmt::Error> {
        for (name, help, unit, pick) in &GAUGES {
            let family = encoder.encode_descriptor(name, help, unit.as_ref(), MetricType::Gauge)?;
            self.each(family, |stats, metric| {
                ConstGauge::new(i64::try_from(pick(stats).get()).unwrap_or(i64::MAX)).encode(metric)
            })?;
        }
        for (name, help, unit, pick) in &COUNTERS {
            let family =
                encoder.encode_descriptor(name, help, unit.as_ref(), MetricType::Counter)?;
            self.each(family, |stats, metric| {
                ConstCounter::new(pick(stats).get()).encode(metric)
            })?;
        }
        let help = "Refused requests, by reason";
        let family = encoder.encode_descriptor("rejections", help, None, MetricType::Counter)?;
        self.each_labelled(family, "reason", |stats| stats.rejections().collect())?;
        let help = "Messages dropped because a client read too slowly, by policy";
        let family = encoder.encode_descriptor("drops", help, None, MetricType::Counter)?;
        self.each_labelled(family, "policy", |stats| stats.drops().collect())?;
        let help = "Closed connections, by cause";
        let family = encoder.encode_descriptor("closes", help, None, MetricType::Counter)?;
        self.each_labelled(family, "cause", |stats| stats.closes().collect())?;
        let help = "Time from a ping to its pong, with a resolution of 1 ms";
        let (unit, kind) = (Some(&Unit::Seconds), MetricType::Histogram);
        let family = encoder.encode_descriptor("ping_round_trip", help, unit, kind)?;
        self.each(family, |stats, metric| {
            histogram(&stats.ping_round_trips, metric)
        })?;
        let help = "Duration of a turn of a shard, without the system call that submits and waits";
        let family = encoder.encode_descriptor("turn", help, unit, kind)?;
        self.each(family, |stats, metric| histogram(&stats.turns, metric))
    }
}

impl Shards {
    /// Encodes one metric for each shard.
    fn each(
        &self,
        mut family: MetricEncoder<'_>,
        encode: impl Fn(&Stats, MetricEncoder<'_>) -> fmt::Result,
    ) -> fmt::Result {
        for (shard, stats) in self.0.iter().enumerate() {
            encode(
                stats,
                family.encode_family(&[("shard", shard.to_string())])?,
            )?;
        }
        Ok(())
    }

    /// Encodes one counter for each shard and each value of a label.
    fn each_labelled(
        &self,
        mut family: MetricEncoder<'_>,
        label: &'static str,
        counts: impl Fn(&Stats) -> Vec<(&'static str, u64)>,
    ) -> fmt::Result {
        for (shard, stats) in self.0.iter().enumerate() {
            for (value, count) in counts(stats) {
                let labels = [("shard", shard.to_string()), (label, value.to_owned())];
                ConstCounter::new(count).encode(family.encode_family(&labels)?)?;
            }
        }
        Ok(())
    }
}

fn histogram<const FIRST_US: u64, const BOUNDS: usize>(
    histogram: &Histogram<FIRST_US, BOUNDS>,
    mut metric: MetricEncoder<'_>,
) -> fmt::Result {
    let buckets: Vec<_> = histogram.buckets().collect();
    let count = buckets.iter().map(|(_, count)| count).sum();
    metric.encode_histogram::<NoLabelSet>(histogram.sum(), count, &buckets, None)
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    #[test]
    fn metrics_have_labels_for_the_shard_and_the_cause() {
        let stats = [Arc::new(Stats::default()), Arc::new(Stats::default())];
        stats[1].connections.set(7);
        stats[0].closed(tidewheel_codec::Cause::PingTimeout);
        stats[0].received_bytes.set(1 << 40);
        for ms in [1, 3, 4, 30_000] {
            let round_trip = Duration::from_millis(ms);
            stats[1].ping_round_trips.record(round_trip);
        }
        let totals = Totals {
            remote_publishes: 5,
            log_lines_lost: 6,
            readiness: Readiness::Draining,
        };
        let text = encode(&stats, &totals, MetricsFormat::OpenMetrics);
        let other = encode(&stats, &totals, MetricsFormat::Prometheus);
        let samples = |text: &str| {
            let lines = text.lines().filter(|line| line.starts_with("tidewheel_"));
            lines.map(str::to_owned).collect::<Vec<_>>()
        };
        assert_eq!(
            samples(&other),
            samples(&text),
            "both formats have the same samples"
        );
        for line in [
            concat!(
                "tidewheel_build_info{version=\"",
                env!("CARGO_PKG_VERSION"),
                "\"} 1"
            ),
            "tidewheel_draining 1",
            "tidewheel_remote_publishes_total 5",
            "tidewheel_log_lines_lost_total 6",
            "# TYPE tidewheel_connections gauge",
            "tidewheel_connections{shard=\"1\"} 7",
            "# UNIT tidewheel_send_queue_bytes bytes",
            "tidewheel_send_queue_bytes{shard=\"0\"} 0",
            "tidewheel_closes_total{shard=\"0\",cause=\"ping_timeout\"} 1",
            "tidewheel_closes_total{shard=\"1\",cause=\"ping_timeout\"} 0",
            "tidewheel_opens_total{shard=\"0\"} 0",
            "tidewheel_received_bytes_total{shard=\"0\"} 1099511627776",
            "# TYPE tidewheel_ping_round_trip_seconds histogram",
            "tidewheel_ping_round_trip_seconds_sum{shard=\"1\"} 30.008",
            "tidewheel_ping_round_trip_seconds_count{shard=\"1\"} 4",
            "tidewheel_ping_round_trip_seconds_bucket{le=\"0.001\",shard=\"1\"} 1",
            "tidewheel_ping_round_trip_seconds_bucket{le=\"0.005\",shard=\"1\"} 3",
            "tidewheel_ping_round_trip_seconds_bucket{le=\"+Inf\",shard=\"1\"} 4",
            "tidewheel_turn_seconds_count{shard=\"0\"} 0",
            "# EOF",
        ] {
            assert!(
                text.lines().any(|got| got == line),
                "{line} is missing in:\n{text}"
            );
        }
    }

    /// One metric of each type, against the specification of the format 0.0.4.
    #[test]
    fn the_metadata_of_the_prometheus_format_names_the_samples() {
        let open_metrics = "\
            # HELP a_bytes All the bytes.\n\
            # TYPE a_bytes counter\n\
            # UNIT a_bytes bytes\n\
            a_bytes_total{shard=\"0\"} 1\n\
            # HELP b The program.\n\
            # TYPE b info\n\
            b_info{version=\"# TYPE 1\"} 1\n\
            # HELP c A gauge.\n\
            # TYPE c gauge\n\
            c 2\n\
            # HELP d_seconds Times.\n\
            # TYPE d_seconds histogram\n\
            # UNIT d_seconds seconds\n\
            d_seconds_sum 0.5\n\
            # HELP e Whatever.\n\
            # TYPE e unknown\n\
            e 3\n\
            # EOF\n";
        let expected = "\
            # HELP a_bytes_total All the bytes.\n\
            # TYPE a_bytes_total counter\n\
            a_bytes_total{shard=\"0\"} 1\n\
            # HELP b_info The program.\n\
            # TYPE b_info gauge\n\
            b_info{version=\"# TYPE 1\"} 1\n\
            # HELP c A gauge.\n\
            # TYPE c gauge\n\
            c 2\n\
            # HELP d_seconds Times.\n\
            # TYPE d_seconds histogram\n\
            d_seconds_sum 0.5\n\
            # HELP e Whatever.\n\
            # TYPE e untyped\n\
            e 3\n";
        assert_eq!(prometheus(open_metrics), expected);
    }
}
