//! Latencies, as distributions and in the course of time.

use std::time::Duration;

use hdrhistogram::{
    Histogram,
    serialization::{Deserializer, Serializer, V2DeflateSerializer},
};
use serde::{Deserialize, Serialize};

use crate::clock::Moment;

/// Three significant digits: percentiles are exact to 0.1 %.
const SIGNIFICANT_DIGITS: u8 = 3;

/// The longest latency that is told from longer ones.
const LATENCY_MAX: Duration = Duration::from_secs(3600);

/// Latencies of so long a time make one entry of the interval log.
const INTERVAL: Duration = Duration::from_secs(1);

/// The course of time is kept in at most so many buckets.
const BUCKETS_MAX: usize = 256;

/// The width of the buckets at the start, in nanoseconds; it doubles when they are used up.
const BUCKET_NANOS: u64 = 1_000_000;

/// Points of a percentile curve for each nine.
const POINTS_PER_NINE: u32 = 10;

/// How often each latency occurred, in nanoseconds.
#[derive(Clone, Debug)]
pub(crate) struct Distribution {
    histogram: Histogram<u64>,
}

impl Distribution {
    /// An empty one.
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

    /// What is reported of it.
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

    /// Latencies over the number of nines of their percentile (1 is 90 %, 2 is 99 %), up to the
    /// last that there are enough of them for.
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

    /// The counts themselves.
    pub(crate) const fn histogram(&self) -> &Histogram<u64> {
        &self.histogram
    }
}

/// Percentiles in nanoseconds, all zero if nothing was recorded.
#[derive(Clone, Copy, Debug, Default, Deserialize, Eq, PartialEq, Serialize)]
pub(crate) struct Percentiles {
    /// How many latencies there were.
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
    /// All names that [`Percentiles::get`] knows.
    pub(crate) const NAMES: [&str; 9] = [
        "count", "min", "mean", "p50", "p90", "p99", "p99.9", "p99.99", "max",
    ];

    /// The one of this name, such as `p99.9`.
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

/// A latency with a name, told twice, and in the course of time.
#[derive(Clone, Debug)]
pub(crate) struct Latency {
    /// One word, such as `echo`.
    pub(crate) name: &'static str,
    /// From the planned moment.
    pub(crate) corrected: Distribution,
    /// From the actual send; empty where that is not another moment.
    pub(crate) uncorrected: Distribution,
    /// The corrected ones, as they came.
    pub(crate) course: Course,
    pub(crate) intervals: Intervals,
}

impl Latency {
    /// An empty one.
    pub(crate) fn new(name: &'static str) -> Self {
        Self {
            name,
            corrected: Distribution::new(),
            uncorrected: Distribution::new(),
            course: Course::default(),
            intervals: Intervals::default(),
        }
    }

    /// The same by another name.
    pub(crate) fn named(self, name: &'static str) -> Self {
        Self { name, ..self }
    }

    /// Adds what ended at `at`, was due at `due` and was begun at `begun`.
    pub(crate) fn record(&mut self, at: Moment, due: Moment, begun: Moment) {
        self.uncorrected.record(at.nanos_since(begun));
        self.record_planned(at, due);
    }

    /// Adds what ended at `at` and was due at `due`.
    pub(crate) fn record_planned(&mut self, at: Moment, due: Moment) {
        self.record_many(at, due, 1);
    }

    /// Adds the same for `count` that ended at one moment and were due at one.
    pub(crate) fn record_many(&mut self, at: Moment, due: Moment, count: u64) {
        if count == 0 {
            return;
        }
        let nanos = at.nanos_since(due);
        self.corrected.record_many(nanos, count);
        self.course.record(at, nanos, count);
        self.intervals.record(at, nanos, count);
    }
}

/// The latencies of successive spans of time.
#[derive(Clone, Debug, Default)]
pub(crate) struct Course {
    start: Option<Moment>,
    /// The width of a bucket is that of the first ones, doubled so often.
    doublings: u32,
    buckets: Vec<Bucket>,
    /// The time of the last one since the start, in nanoseconds.
    last: u64,
}

/// The latencies of one span of time.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub(crate) struct Bucket {
    pub(crate) count: u64,
    /// In nanoseconds.
    pub(crate) max: u64,
}

impl Course {
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

    /// The start of each span, counted from the clock's, and what it holds.
    pub(crate) fn spans(&self) -> impl Iterator<Item = (Duration, &Bucket)> {
        let start = self.start.unwrap_or_default().since(Moment::default());
        (0..)
            .zip(&self.buckets)
            .map(move |(index, bucket)| (start + self.width() * index, bucket))
    }

    /// The start of each span, and how many came in a second of it.
    ///
    /// The last span ends with the last latency; less than half of a span is counted with the one
    /// before, as a few latencies in next to no time would be any rate.
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

    /// The length of a span.
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

/// The distribution of each second, compressed: a long run has many.
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

    /// The start of each interval, since the clock's, its length, and its distribution.
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
                .expect("it was encoded here");
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
        .expect("memory takes all that is written to it");
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
    fn each_percentile_has_a_name() {
        let known = |name: &str| Percentiles::default().get(name).is_some();
        assert!(Percentiles::NAMES.into_iter().all(known));
    }

    #[test]
    fn nothing_recorded_is_all_zero() {
        assert_eq!(Distribution::new().percentiles(), Percentiles::default());
        assert!(Distribution::new().curve().is_empty());
    }

    #[test]
    fn what_is_off_the_scale_is_kept() {
        let mut distribution = Distribution::new();
        distribution.record(u64::MAX);
        distribution.record(0);
        assert_eq!(distribution.percentiles().count, 2);
        assert!(distribution.percentiles().max >= 3_600_000_000_000);
    }

    #[test]
    fn a_curve_ends_where_there_is_one_latency_for_each_point() {
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
    fn the_course_loses_no_count_when_its_buckets_grow() {
        let mut course = Course::default();
        for second in 0..1000 {
            let at = Moment::default() + Duration::from_secs(second);
            course.record(at, second, 1);
        }
        assert!(course.buckets.len() <= BUCKETS_MAX);
        let count: u64 = course.spans().map(|(_, bucket)| bucket.count).sum();
        let max = course.spans().map(|(_, bucket)| bucket.max).max();
        assert_eq!((count, max), (1000, Some(999)));
    }

    #[test]
    fn a_steady_rate_is_steady_to_its_end() {
        // Spans are of 1, 2, 4, ... ms; the run ends anywhere within the last.
        for millis in (100..3_000).step_by(7) {
            let mut course = Course::default();
            for tick in 0..=millis * 10 {
                course.record(Moment::from_nanos(tick * 100_000), 1, 1);
            }
            for (start, rate) in course.rates() {
                assert!(
                    (rate - 1e4).abs() < 1.1e3,
                    "{millis} ms: {rate} at {start:?}"
                );
            }
        }
    }

    #[test]
    fn one_span_has_a_rate() {
        let mut course = Course::default();
        course.record(Moment::default(), 1, 5);
        assert_eq!(course.rates(), [(Duration::ZERO, 5_000.0)]);
        assert_eq!(Course::default().rates(), []);
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
