//! Durations of the turns of a server's shards, from its metrics.

use std::{
    collections::BTreeMap,
    fmt,
    io::{Read, Write},
    net::{SocketAddr, TcpStream},
};

/// Name of the buckets of the histogram.
const BUCKET: &str = "tidewheel_turn_seconds_bucket{";

/// Number of turns for each upper bound in nanoseconds, of all shards together.
#[derive(Clone, Default)]
pub(super) struct TurnDurations(BTreeMap<u64, u64>);

/// Upper bound of a bucket, which is shown in milliseconds.
pub(super) struct Bound {
    nanos: u64,
}

impl TurnDurations {
    /// Reads the metrics of an admin listener.
    pub(super) fn read(admin: SocketAddr) -> Self {
        let mut stream = TcpStream::connect(admin).expect("the admin listener accepts");
        let request = "GET /metrics HTTP/1.1\r\nHost: admin\r\nConnection: close\r\n\r\n";
        stream
            .write_all(request.as_bytes())
            .expect("the admin listener reads");
        let mut response = String::new();
        stream
            .read_to_string(&mut response)
            .expect("the admin listener answers");
        let mut shards: BTreeMap<&str, BTreeMap<u64, u64>> = BTreeMap::new();
        for line in response.lines().filter_map(|it| it.strip_prefix(BUCKET)) {
            let (labels, count) = line.rsplit_once(' ').expect("a bucket has a count");
            let label = |name: &str| labels.split(name).nth(1)?.split('"').next();
            let shard = label("shard=\"").expect("a bucket has a shard");
            let bound: f64 = match label("le=\"").expect("a bucket has a bound") {
                "+Inf" => f64::MAX,
                bound => bound.parse().expect("the bound is seconds"),
            };
            let count = count.parse().expect("the count is a number");
            let bounds = shards.entry(shard).or_default();
            bounds.insert((bound * 1e9).round() as u64, count);
        }
        let mut turns = Self::default();
        for bounds in shards.into_values() {
            // The counts of Prometheus are cumulative.
            let mut below = 0;
            for (bound, count) in bounds {
                *turns.0.entry(bound).or_default() += count - below;
                below = count;
            }
        }
        assert!(!turns.0.is_empty(), "no durations of turns in {response}");
        turns
    }

    /// Adds the turns between two reads.
    pub(super) fn add(&mut self, start: &Self, end: &Self) {
        for (bound, count) in &end.0 {
            *self.0.entry(*bound).or_default() += count - start.0[bound];
        }
    }

    /// Returns the smallest bound of a part of the turns, such as 0.99.
    pub(super) fn quantile(&self, part: f64) -> Bound {
        let all: u64 = self.0.values().sum();
        let rank = (all as f64 * part).ceil() as u64;
        let mut below = 0;
        let bound = self.0.iter().find(|(_, count)| {
            below += **count;
            below >= rank
        });
        let (nanos, _) = bound.expect("the last bound is infinite");
        Bound { nanos: *nanos }
    }
}

impl fmt::Display for Bound {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.nanos {
            u64::MAX => f.write_str("above all bounds"),
            nanos => write!(f, "≤ {}", nanos as f64 / 1e6),
        }
    }
}
