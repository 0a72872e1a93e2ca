//! Latencies: their distribution, and their values over time.

use std::time::Duration;

use hdrhistogram::{
    Histogram,
    serialization::{Deserializer, Serializer, V2DeflateSerializer},
};
use serde::{Deserialize, Serialize};

use crate::measure::clock::Moment;

/// Significant digits of a histogram. With three, percentiles are exact to 0.1 %.
const SIGNIFICANT_DIGITS: u8 = 3;

/// Highest latency that a histogram records. Longer ones are recorded as this value.
const LATENCY_MAX: Duration = Duration::from_secs(3600);

/// Length of one entry of the interval log.
const INTERVAL: Duration = Duration::from_secs(1);

/// Highest number of buckets of a time series.
const BUCKETS_MAX: usize = 256;

/// Initial width of a bucket in nanoseconds. It doubles when all buckets are in use.
const BUCKET_NANOS: u64 = 1_000_000;

/// Points of a percentile curve between 90 % and 99 %, between 99 % and 99.9 %, and so on.
const POINTS_PER_NINE: u32 = 10;

/// A histogram of latencies in nanoseconds.
#[derive(Clone, Debug)]
pub(crate) struct Distribution {
    histogram: Histogram<u64>,
}

impl Distribution {
    /// Makes an empty one.
    pub(crate) fn new() -> Self {
        let nanos_max = u64::try_from(LATENCY_MAX.as_nanos()).expect("an hour is 2^42 ns");
        let histogram = Histogram::new_with_bounds(1, nanos_max, SIGNIFICANT_DIGITS)
            .expect("the bounds are in order");
        Self { histogram }
    }

    /// Adds one latency.
    pub(crate) fn record(&mut self, nanos: u64) {
        self.histogram.saturating_record(nanos);
    }

    /// Adds a latency that occurred `count` times.
    fn record_many(&mut self, nanos: u64, count: u64) {
        self.histogram.saturating_record_n(nanos, count);
    }

    /// Returns the reported percentiles.
    pub(crate) fn percentiles(&self) -> Percentiles {
        let at = |quantile| self.histogram.value_at_quantile(quantile);
        let empty = self.histogram.is_empty();
        Percentiles {
            count: self.histogram.len(),
            min: if empty { 0 } else { self.histogram.min() },
            mean: if empty {
                0
            } else {
                self.histogram.mean() as u64
            },
            p50: at(0.5),
            p90: at(0.9),
            p99: at(0.99),
            p99_9: at(0.999),
            p99_99: at(0.9999),
            max: self.histogram.max(),
        }
    }

    /// Returns points of the percentile curve: the number of nines of a percentile (1 is 90 %, 2 is
    /// 99 %), and its latency. The last point is the highest percentile that the number of
    /// latencies supports.
    pub(crate) fn curve(&self) -> Vec<(f64, u64)> {
        let count = self.histogram.len();
        if count == 0 {
            return Vec::new();
        }
        let nines_max = (count as f64).log10();
        (0..)
            .map(|point| f64::from(point) / f64::from(POINTS_PER_NINE))
            .take_while(|nines| *nines <= nines_max)
            .map(|nines| {
                let quantile = 1.0 - 10_f64.powf(-nines);
                (nines, self.histogram.value_at_quantile(quantile))
            })
            .collect()
    }

    /// Returns the histogram.
    pub(crate) const fn histogram(&self) -> &Histogram<u64> {
        &self.histogram
    }
}

/// Percentiles in nanoseconds. All are zero if nothing was recorded.
#[derive(Clone, Copy, Debug, Default, Deserialize, Eq, PartialEq, Serialize)]
pub(crate) struct Percentiles {
    /// Number of latencies.
    pub(crate) count: u64,
    pub(crate) min: u64,
    pub(crate) mean: u64,
    pub(crate) p50: u64,
    pub(crate) p90: u64,
    pub(crate) p99: u64,
    #[serde(rename = "p99.9")]
    pub(crate) p99_9: u64,
    #[serde(rename = "p99.99")]
    pub(crate) p99_99: u64,
    pub(crate) max: u64,
}

impl Percentiles {
    /// The names that [`Percentiles::get`] accepts.
    pub(crate) const NAMES: [&str; 9] = [
        "count", "min", "mean", "p50", "p90", "p99", "p99.9", "p99.99", "max",
    ];

    /// Returns the value of this name, such as `p99.9`.
    pub(crate) fn get(&self, name: &str) -> Option<u64> {
        Some(match name {
            "count" => self.count,
            "min" => self.min,
            "mean" => self.mean,
            "p50" => self.p50,
            "p90" => self.p90,
            "p99" => self.p99,
            "p99.9" => self.p99_9,
            "p99.99" => self.p99_99,
            "max" => self.max,
            _ => return None,
        })
    }
}

/// A named latency: its distributions, and its values over time.
#[derive(Clone, Debug)]
pub(crate) struct Latency {
    /// One word, such as `echo`.
    pub(crate) name: &'static str,
    /// Time from the planned moment.
    pub(crate) corrected: Distribution,
    /// Time from the actual send. Empty if only the planned moment is known.
    pub(crate) uncorrected: Distribution,
    /// Corrected latencies over time.
    pub(crate) time_series: TimeSeries,
    pub(crate) intervals: Intervals,
}

impl Latency {
    /// Makes an empty one.
    pub(crate) fn new(name: &'static str) -> Self {
        Self {
            name,
            corrected: Distribution::new(),
            uncorrected: Distribution::new(),
            time_series: TimeSeries::default(),
            intervals: Intervals::default(),
        }
    }

    /// Returns the same latencies under another name.
    pub(crate) fn named(self, name: &'static str) -> Self {
        Self { name, ..self }
    }

    /// Records an event that was due at `due`, was sent at `begun`, and ended at `at`.
    pub(crate) fn record(&mut self, at: Moment, due: Moment, begun: Moment) {
        self.uncorrected.record(at.nanos_since(begun));
        self.record_planned(at, due);
    }

    /// Records an event that was due at `due` and ended at `at`.
    pub(crate) fn record_planned(&mut self, at: Moment, due: Moment) {
        self.record_many(at, due, 1);
    }

    /// Records `count` events that were due at `due` and ended at `at`.
    pub(crate) fn record_many(&mut self, at: Moment, due: Moment, count: u64) {
        if count == 0 {
            return;
        }
        let nanos = at.nanos_since(due);
        self.corrected.record_many(nanos, count);
        self.time_series.record(at, nanos, count);
        self.intervals.record(at, nanos, count);
    }
}

/// Number and maximum of the latencies in successive spans of time.
#[derive(Clone, Debug, Default)]
pub(crate) struct TimeSeries {
    start: Option<Moment>,
    /// Number of times that the initial width of a bucket was doubled.
    doublings: u32,
    buckets: Vec<Bucket>,
    /// End of the last latency, in nanoseconds since `start`.
    last: u64,
}

/// Number and maximum of the latencies in one span of time.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub(crate) struct Bucket {
    pub(crate) count: u64,
    /// Longest latency in nanoseconds.
    pub(crate) max: u64,
}

impl TimeSeries {
    fn record(&mut self, at: Moment, nanos: u64, count: u64) {
        let since = at.nanos_since(*self.start.get_or_insert(at));
        self.last = self.last.max(since);
        let mut index = ((since / BUCKET_NANOS) >> self.doublings) as usize;
        while index >= BUCKETS_MAX {
            self.doublings += 1;
            index /= 2;
            self.buckets = self.buckets.chunks(2).map(Bucket::sum).collect();
        }
        if self.buckets.len() <= index {
            self.buckets.resize(index + 1, Bucket::default());
        }
        let bucket = &mut self.buckets[index];
        bucket.count += count;
        bucket.max = bucket.max.max(nanos);
    }

    /// Returns the start of each span, since the start of the clock, and its bucket.
    pub(crate) fn spans(&self) -> impl Iterator<Item = (Duration, &Bucket)> {
        let start = self.start.unwrap_or_default().since(Moment::default());
        (0..)
            .zip(&self.buckets)
            .map(move |(index, bucket)| (start + self.width() * index, bucket))
    }

    /// Returns the start of each span, and its latencies per second.
    ///
    /// The last span ends with the last latency. If it is shorter than half a span, it is merged
    /// with the one before, because a few latencies in a very short time are not a meaningful rate.
    pub(crate) fn rates(&self) -> Vec<(Duration, f64)> {
        let width = self.width();
        let mut spans: Vec<_> = self
            .spans()
            .map(|(start, bucket)| (start, bucket.count, width))
            .collect();
        if let [.., (_, before, length), (_, count, rest)] = &mut spans[..] {
            let begun = width * (self.buckets.len() as u32 - 1);
            *rest = Duration::from_nanos(self.last).saturating_sub(begun);
            if *rest < width / 2 {
                *before += *count;
                *length += *rest;
                spans.pop();
            }
        }
        let rate = |count: u64, length: Duration| count as f64 / length.as_secs_f64();
        spans
            .into_iter()
            .map(|(start, count, length)| (start, rate(count, length)))
            .collect()
    }

    /// Length of a span.
    const fn width(&self) -> Duration {
        Duration::from_nanos(BUCKET_NANOS << self.doublings)
    }
}

impl Bucket {
    fn sum(buckets: &[Self]) -> Self {
        buckets.iter().fold(Self::default(), |sum, bucket| Self {
            count: sum.count + bucket.count,
            max: sum.max.max(bucket.max),
        })
    }
}

/// The distribution of each second. Complete ones are compressed, because a long run has many.
#[derive(Clone, Debug, Default)]
pub(crate) struct Intervals {
    current: Option<Interval>,
    done: Vec<(Moment, Vec<u8>)>,
}

#[derive(Clone, Debug)]
struct Interval {
    start: Moment,
    end: Moment,
    distribution: Distribution,
}

impl Intervals {
    fn record(&mut self, at: Moment, nanos: u64, count: u64) {
        match &mut self.current {
            Some(interval) if at < interval.end => {
                interval.distribution.record_many(nanos, count);
            }
            current => {
                let start = at.floor(INTERVAL);
                let mut distribution = Distribution::new();
                distribution.record_many(nanos, count);
                let next = Interval {
                    start,
                    end: start + INTERVAL,
                    distribution,
                };
                if let Some(Interval {
                    start,
                    distribution,
                    ..
                }) = current.replace(next)
                {
                    self.done.push((start, encode(&distribution)));
                }
            }
        }
    }

    /// Returns the start of each interval, since the start of the clock, its length, and its
    /// distribution.
    pub(crate) fn iter(
        &self,
    ) -> impl Iterator<Item = (Duration, Duration, Histogram<u64>)> + use<'_> {
        let last = self
            .current
            .iter()
            .map(|interval| (interval.start, interval.distribution.histogram.clone()));
        let done = self.done.iter().map(|(start, bytes)| {
            let histogram = Deserializer::new()
                .deserialize(&mut &bytes[..])
                .expect("encode() made these bytes");
            (*start, histogram)
        });
        done.chain(last)
            .map(|(start, histogram)| (start.since(Moment::default()), INTERVAL, histogram))
    }
}

fn encode(distribution: &Distribution) -> Vec<u8> {
    let mut bytes = Vec::new();
    V2DeflateSerializer::new()
        .serialize(&distribution.histogram, &mut bytes)
        .expect("writing to a Vec cannot fail");
    bytes
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn percentiles_are_exact_to_a_thousandth() {
        let mut distribution = Distribution::new();
        for micros in 1..=10_000 {
            distribution.record(micros * 1_000);
        }
        let percentiles = distribution.percentiles();
        assert_eq!(percentiles.count, 10_000);
        let table = [
            ("min", 1),
            ("p50", 5_000),
            ("p90", 9_000),
            ("p99", 9_900),
            ("p99.9", 9_990),
            ("p99.99", 9_999),
            ("max", 10_000),
        ];
        for (name, micros) in table {
            let (nanos, expected) = (percentiles.get(name).unwrap(), micros * 1_000);
            assert!(
                nanos.abs_diff(expected) <= expected / 1_000 + 1,
                "{name}: {nanos} {expected}"
            );
        }
    }

    #[test]
    fn every_name_of_a_percentile_is_known() {
        let known = |name: &str| Percentiles::default().get(name).is_some();
        assert!(Percentiles::NAMES.into_iter().all(known));
    }

    #[test]
    fn the_percentiles_of_no_latencies_are_zero() {
        assert_eq!(Distribution::new().percentiles(), Percentiles::default());
        assert!(Distribution::new().curve().is_empty());
    }

    #[test]
    fn a_latency_beyond_the_histogram_counts_as_its_highest_value() {
        let mut distribution = Distribution::new();
        distribution.record(u64::MAX);
        distribution.record(0);
        assert_eq!(distribution.percentiles().count, 2);
        assert!(distribution.percentiles().max >= 3_600_000_000_000);
    }

    #[test]
    fn a_curve_of_a_thousand_latencies_ends_at_three_nines() {
        let mut distribution = Distribution::new();
        for micros in 1..=1_000 {
            distribution.record(micros * 1_000);
        }
        let curve = distribution.curve();
        assert_eq!(curve.first().unwrap().0, 0.0);
        assert_eq!(curve.last().unwrap().0, 3.0);
        assert!(curve.is_sorted_by_key(|(_, nanos)| *nanos));
    }

    #[test]
    fn a_time_series_keeps_all_counts_when_its_buckets_grow() {
        let mut series = TimeSeries::default();
        for second in 0..1000 {
            let at = Moment::default() + Duration::from_secs(second);
            series.record(at, second, 1);
        }
        assert!(series.buckets.len() <= BUCKETS_MAX);
        let count: u64 = series.spans().map(|(_, bucket)| bucket.count).sum();
        let max = series.spans().map(|(_, bucket)| bucket.max).max();
        assert_eq!((count, max), (1000, Some(999)));
    }

    #[test]
    fn a_steady_rate_is_steady_to_its_end() {
        // Spans are 1, 2, 4, ... ms long. The run ends anywhere within the last span.
        for millis in (100..3_000).step_by(7) {
            let mut series = TimeSeries::default();
            for tick in 0..=millis * 10 {
                series.record(Moment::from_nanos(tick * 100_000), 1, 1);
            }
            for (start, rate) in series.rates() {
                assert!(
                    (rate - 1e4).abs() < 1.1e3,
                    "{millis} ms: {rate} at {start:?}"
                );
            }
        }
    }

    #[test]
    fn a_time_series_of_one_span_has_a_rate() {
        let mut series = TimeSeries::default();
        series.record(Moment::default(), 1, 5);
        assert_eq!(series.rates(), [(Duration::ZERO, 5_000.0)]);
        assert_eq!(TimeSeries::default().rates(), []);
    }

    #[test]
    fn each_second_has_its_own_distribution() {
        let mut latency = Latency::new("echo");
        for millis in [100, 200, 1_500, 3_900] {
            let at = Moment::default() + Duration::from_millis(millis);
            latency.record_planned(at, Moment::default());
        }
        let intervals: Vec<_> = latency
            .intervals
            .iter()
            .map(|(start, _, histogram)| (start.as_secs(), histogram.len()))
            .collect();
        assert_eq!(intervals, [(0, 2), (1, 1), (3, 1)]);
    }
}
