//! The counts of all shards in the OpenMetrics text format.

use std::{fmt, sync::Arc};

use prometheus_client::{
    collector::Collector,
    encoding::{DescriptorEncoder, EncodeMetric, text},
    metrics::{MetricType, counter::ConstCounter, gauge::ConstGauge},
    registry::Registry,
};

use crate::stats::{Count, Stats};

pub(super) const CONTENT_TYPE: &str = "application/openmetrics-text; version=1.0.0; charset=utf-8";

/// Everything that is counted, as text.
pub(super) fn encode(stats: &[Arc<Stats>]) -> String {
    let mut registry = Registry::with_prefix("tidewheel");
    registry.register_collector(Box::new(Shards(stats.to_vec())));
    let mut out = String::new();
    text::encode(&mut out, &registry).expect("a string takes all that is written to it");
    out
}

#[derive(Debug)]
struct Shards(Vec<Arc<Stats>>);

type Pick = fn(&Stats) -> &Count;

const GAUGES: [(&str, &str, Pick); 3] = [
    (
        "connections",
        "Connections that hold a descriptor, in whatever state",
        |stats| &stats.connections,
    ),
    ("topics", "Topics and patterns with a subscriber", |stats| {
        &stats.topics
    }),
    (
        "subscriptions",
        "Subscriptions of connections to topics and patterns",
        |stats| &stats.subscriptions,
    ),
];

const COUNTERS: [(&str, &str, Pick); 8] = [
    ("accepts", "Connections accepted", |stats| &stats.accepts),
    ("opens", "Opening handshakes completed", |stats| {
        &stats.opens
    }),
    (
        "handshake_timeouts",
        "Connections ended because no request came in time",
        |stats| &stats.handshake_timeouts,
    ),
    (
        "deadline_resets",
        "Connections reset at the deadline of their closing",
        |stats| &stats.deadline_resets,
    ),
    (
        "starvations",
        "Receives that found no free buffer",
        |stats| &stats.starvations,
    ),
    ("publishes", "Messages published", |stats| &stats.publishes),
    (
        "deliveries",
        "Messages on their way to a subscriber",
        |stats| &stats.deliveries,
    ),
    (
        "accept_pauses",
        "Times that accepting stood still because of its rate",
        |stats| &stats.accept_pauses,
    ),
];

impl Collector for Shards {
    fn encode(&self, mut encoder: DescriptorEncoder<'_>) -> Result<(), fmt::Error> {
        for (name, help, pick) in GAUGES {
            let mut family = encoder.encode_descriptor(name, help, None, MetricType::Gauge)?;
            for (shard, stats) in self.0.iter().enumerate() {
                let value = i64::try_from(pick(stats).get()).unwrap_or(i64::MAX);
                let labels = [("shard", shard.to_string())];
                ConstGauge::new(value).encode(family.encode_family(&labels)?)?;
            }
        }
        for (name, help, pick) in COUNTERS {
            let mut family = encoder.encode_descriptor(name, help, None, MetricType::Counter)?;
            for (shard, stats) in self.0.iter().enumerate() {
                let labels = [("shard", shard.to_string())];
                ConstCounter::new(pick(stats).get()).encode(family.encode_family(&labels)?)?;
            }
        }
        let help = "Opening handshakes refused, by reason";
        let mut family =
            encoder.encode_descriptor("rejections", help, None, MetricType::Counter)?;
        for (shard, stats) in self.0.iter().enumerate() {
            for (reason, count) in stats.rejections() {
                let labels = [("shard", shard.to_string()), ("reason", reason.to_owned())];
                ConstCounter::new(count).encode(family.encode_family(&labels)?)?;
            }
        }
        let help = "Messages dropped because their reader was slow, by policy";
        let mut family = encoder.encode_descriptor("drops", help, None, MetricType::Counter)?;
        for (shard, stats) in self.0.iter().enumerate() {
            for (policy, count) in stats.drops() {
                let labels = [("shard", shard.to_string()), ("policy", policy.to_owned())];
                ConstCounter::new(count).encode(family.encode_family(&labels)?)?;
            }
        }
        let help = "Connections ended, by cause";
        let mut family = encoder.encode_descriptor("closes", help, None, MetricType::Counter)?;
        for (shard, stats) in self.0.iter().enumerate() {
            for (cause, count) in stats.closes() {
                let labels = [("shard", shard.to_string()), ("cause", cause.to_owned())];
                ConstCounter::new(count).encode(family.encode_family(&labels)?)?;
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn counts_are_told_by_shard_and_cause() {
        let stats = [Arc::new(Stats::default()), Arc::new(Stats::default())];
        stats[1].connections.set(7);
        stats[0].closed(tidewheel_codec::Cause::PingTimeout);
        let text = encode(&stats);
        for line in [
            "# TYPE tidewheel_connections gauge",
            "tidewheel_connections{shard=\"1\"} 7",
            "tidewheel_closes_total{shard=\"0\",cause=\"ping_timeout\"} 1",
            "tidewheel_closes_total{shard=\"1\",cause=\"ping_timeout\"} 0",
            "tidewheel_opens_total{shard=\"0\"} 0",
            "# EOF",
        ] {
            assert!(
                text.lines().any(|got| got == line),
                "{line} is missing in:\n{text}"
            );
        }
    }
}
