//! The metrics of all shards and of the process, in the text formats of Prometheus.

use prometheus_client::{encoding::text, metrics::counter::ConstCounter, registry::Registry};

use super::{media::MetricsFormat, process::ProcessMetrics};
use crate::{Metrics, Publisher};

/// Encodes all metrics in this format.
pub(super) fn encode(publisher: &Publisher, log_lines_lost: u64, format: MetricsFormat) -> String {
    let open_metrics = open_metrics(publisher, log_lines_lost);
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

fn open_metrics(publisher: &Publisher, log_lines_lost: u64) -> String {
    let mut registry = Registry::default();
    registry.register_collector(Box::new(ProcessMetrics));
    registry.register_collector(Box::new(Metrics::new(publisher.clone())));
    registry.register(
        "tidewheel_log_lines_lost",
        "Log lines lost because the log was full or could not be written",
        ConstCounter::new(log_lines_lost),
    );
    let mut out = String::new();
    text::encode(&mut out, &registry).expect("writing to a string cannot fail");
    out
}

#[cfg(test)]
mod tests {
    use std::{sync::Arc, time::Duration};

    use super::*;
    use crate::{Config, shard::Parts};

    #[test]
    fn metrics_have_labels_for_the_shard_and_the_cause() {
        let parts = Parts::of_server(
            &Config {
                shards: Some(2),
                ..Config::default()
            },
            100,
        );
        let publisher = parts[0].publisher();
        let stats: Vec<_> = parts.iter().map(|parts| Arc::clone(&parts.stats)).collect();
        stats[1].connections.set(7);
        stats[0].closed(tidewheel_codec::Cause::PingTimeout);
        stats[0].received_bytes.set(1 << 40);
        for ms in [1, 3, 4, 30_000] {
            let round_trip = Duration::from_millis(ms);
            stats[1].ping_round_trips.record(round_trip);
        }
        for _ in 0..5 {
            assert_eq!(publisher.publish("all", "hello"), Ok(()));
        }
        publisher.drain_within_close_timeout();
        let text = encode(&publisher, 6, MetricsFormat::OpenMetrics);
        let other = encode(&publisher, 6, MetricsFormat::Prometheus);
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

    #[test]
    fn a_registry_of_the_application_has_the_samples_of_the_admin_listener() {
        let parts = Parts::of_server(&Config::default(), 100);
        parts[0].stats.opens.add(7);
        let publisher = parts[0].publisher();
        let mut registry = Registry::default();
        registry.register_collector(Box::new(Metrics::new(publisher.clone())));
        let mut text = String::new();
        text::encode(&mut text, &registry).expect("writing to a string cannot fail");
        assert!(text.contains("\ntidewheel_opens_total{shard=\"0\"} 7\n"));
        let admin = encode(&publisher, 0, MetricsFormat::OpenMetrics);
        let is_other = |line: &&str| {
            line.starts_with("process_") || line.starts_with("tidewheel_log_lines_lost_total ")
        };
        let samples = |text: &str| {
            let lines = text
                .lines()
                .filter(|line| !line.starts_with('#') && !is_other(line));
            lines.map(str::to_owned).collect::<Vec<_>>()
        };
        assert_eq!(samples(&text), samples(&admin));
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
