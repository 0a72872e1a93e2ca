//! A histogram of durations.

use std::time::Duration;

use super::Count;

/// The bounds of a decade, as multiples of the first.
const DECADE: [u64; 3] = [1, 2, 5];

/// Durations, counted in buckets with the upper bounds 1, 2, 5, 10, 20 and so on, from `FIRST_US` microseconds.
/// One thread writes it, and any thread reads it.
#[derive(Debug)]
pub(crate) struct Histogram<const FIRST_US: u64, const BOUNDS: usize> {
    buckets: [Count; BOUNDS],
    /// Durations above the last bound.
    beyond: Count,
    sum_ns: Count,
}

impl<const FIRST_US: u64, const BOUNDS: usize> Histogram<FIRST_US, BOUNDS> {
    /// The upper bounds, in nanoseconds.
    const BOUNDS_NS: [u64; BOUNDS] = {
        let mut bounds = [0; BOUNDS];
        let mut at = 0;
        while at < BOUNDS {
            let decade = 10_u64.pow((at / DECADE.len()) as u32);
            bounds[at] = FIRST_US * 1000 * decade * DECADE[at % DECADE.len()];
            at += 1;
        }
        bounds
    };

    /// Counts a duration. Only the owning shard calls it.
    pub(crate) fn record(&self, duration: Duration) {
        let ns = duration.as_nanos() as u64;
        let at = Self::BOUNDS_NS.partition_point(|bound| *bound < ns);
        self.buckets.get(at).unwrap_or(&self.beyond).add(1);
        self.sum_ns.add(ns);
    }

    /// Each upper bound in seconds, with the number of durations up to it and above the bound before.
    pub(crate) fn buckets(&self) -> impl Iterator<Item = (f64, u64)> {
        let bounds = Self::BOUNDS_NS.into_iter().map(seconds);
        bounds
            .chain([f64::INFINITY])
            .zip(self.buckets.iter().chain([&self.beyond]).map(Count::get))
    }

    /// The sum of all durations, in seconds.
    pub(crate) fn sum(&self) -> f64 {
        seconds(self.sum_ns.get())
    }
}

impl<const FIRST_US: u64, const BOUNDS: usize> Default for Histogram<FIRST_US, BOUNDS> {
    fn default() -> Self {
        Self {
            buckets: std::array::from_fn(|_| Count::default()),
            beyond: Count::default(),
            sum_ns: Count::default(),
        }
    }
}

fn seconds(ns: u64) -> f64 {
    ns as f64 / 1e9
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_duration_counts_in_the_first_bucket_whose_bound_it_does_not_exceed() {
        let histogram = Histogram::<1_000, 5>::default();
        for micros in [0, 1_000, 1_001, 20_000, 20_001] {
            histogram.record(Duration::from_micros(micros));
        }
        let buckets: Vec<_> = histogram.buckets().collect();
        let expected = [
            (0.001, 2),
            (0.002, 1),
            (0.005, 0),
            (0.01, 0),
            (0.02, 1),
            (f64::INFINITY, 1),
        ];
        assert_eq!(buckets, expected);
        assert!((histogram.sum() - 0.042_002).abs() < 1e-9);
    }

    #[test]
    fn the_bounds_of_the_metrics_are_as_documented() {
        let stats = super::super::Stats::default();
        let bounds = |buckets: &mut dyn Iterator<Item = (f64, u64)>| {
            let bounds: Vec<_> = buckets.map(|(bound, _)| bound).collect();
            (bounds[0], bounds[bounds.len() - 2])
        };
        let round_trips = bounds(&mut stats.ping_round_trips.buckets());
        assert_eq!(round_trips, (0.001, 20.0));
        assert_eq!(bounds(&mut stats.turns.buckets()), (1e-6, 1.0));
    }
}
