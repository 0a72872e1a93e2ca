//! How long the turns of a server's shards took, by its own account.

use std::{
    collections::BTreeMap,
    fmt,
    io::{Read, Write},
    net::{SocketAddr, TcpStream},
};

/// The name of the histogram's buckets.
const BUCKET: &str = "tidewheel_turn_seconds_bucket{";

/// Turns by the upper bound of their bucket, in nanoseconds, of all shards together.
#[derive(Clone, Default)]
pub(super) struct Turns(BTreeMap<u64, u64>);

/// An upper bound, in milliseconds.
pub(super) struct Bound(u64);

impl Turns {
    /// What the admin listener says.
    pub(super) fn read(admin: SocketAddr) -> Self {
        let mut stream = TcpStream::connect(admin).expect("it listens");
        let request = "GET /metrics HTTP/1.1\r\nHost: admin\r\nConnection: close\r\n\r\n";
        stream.write_all(request.as_bytes()).expect("it reads");
        let mut answer = String::new();
        stream.read_to_string(&mut answer).expect("it answers");
        let mut shards: BTreeMap<&str, BTreeMap<u64, u64>> = BTreeMap::new();
        for line in answer.lines().filter_map(|it| it.strip_prefix(BUCKET)) {
            let (labels, count) = line.rsplit_once(' ').expect("a count");
            let part = |name: &str| labels.split(name).nth(1)?.split('"').next();
            let shard = part("shard=\"").expect("a shard");
            let bound: f64 = match part("le=\"").expect("a bound") {
                "+Inf" => f64::MAX,
                bound => bound.parse().expect("seconds"),
            };
            let count = count.parse().expect("a count");
            let bounds = shards.entry(shard).or_default();
            bounds.insert((bound * 1e9).round() as u64, count);
        }
        let mut turns = Self::default();
        for bounds in shards.into_values() {
            let mut below = 0;
            // They are cumulative.
            for (bound, count) in bounds {
                *turns.0.entry(bound).or_default() += count - below;
                below = count;
            }
        }
        assert!(!turns.0.is_empty(), "turns are told of in {answer}");
        turns
    }

    /// Adds what came between two looks.
    pub(super) fn add(&mut self, start: &Self, end: &Self) {
        for (bound, count) in &end.0 {
            *self.0.entry(*bound).or_default() += count - start.0[bound];
        }
    }

    /// The bound that so large a part of the turns keeps.
    pub(super) fn quantile(&self, part: f64) -> Bound {
        let all: u64 = self.0.values().sum();
        let rank = (all as f64 * part).ceil() as u64;
        let mut below = 0;
        let bound = self.0.iter().find(|(_, count)| {
            below += **count;
            below >= rank
        });
        Bound(*bound.expect("all are within some bound").0)
    }
}

impl fmt::Display for Bound {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.0 {
            u64::MAX => f.write_str("beyond"),
            ns => write!(f, "≤ {}", ns as f64 / 1e6),
        }
    }
}
