//! Latencies, as distributions.

use std::time::Duration;

use hdrhistogram::Histogram;
use serde::Serialize;

/// Three significant digits: percentiles are exact to 0.1 %.
const SIGNIFICANT_DIGITS: u8 = 3;

/// The longest latency that is told from longer ones.
const LATENCY_MAX: Duration = Duration::from_secs(3600);

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
    pub(crate) fn record(&mut self, latency: Duration) {
        let nanos = u64::try_from(latency.as_nanos()).unwrap_or(u64::MAX);
        self.histogram.saturating_record(nanos);
    }

    /// What is reported of it.
    pub(crate) fn percentiles(&self) -> Percentiles {
        let at = |quantile| self.histogram.value_at_quantile(quantile);
        Percentiles {
            count: self.histogram.len(),
            p50: at(0.5),
            p90: at(0.9),
            p99: at(0.99),
            p99_9: at(0.999),
            max: self.histogram.max(),
        }
    }
}

/// Percentiles in nanoseconds, all zero if nothing was recorded.
#[derive(Clone, Copy, Debug, Eq, PartialEq, Serialize)]
pub(crate) struct Percentiles {
    /// How many latencies there were.
    pub(crate) count: u64,
    pub(crate) p50: u64,
    pub(crate) p90: u64,
    pub(crate) p99: u64,
    #[serde(rename = "p99.9")]
    pub(crate) p99_9: u64,
    pub(crate) max: u64,
}

/// One latency, told twice.
#[derive(Clone, Debug)]
pub(crate) struct Latency {
    /// From the planned moment.
    pub(crate) corrected: Distribution,
    /// From the actual send.
    pub(crate) uncorrected: Distribution,
}

impl Latency {
    pub(crate) fn new() -> Self {
        Self {
            corrected: Distribution::new(),
            uncorrected: Distribution::new(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn percentiles_are_exact_to_a_thousandth() {
        let mut distribution = Distribution::new();
        for micros in 1..=10_000 {
            distribution.record(Duration::from_micros(micros));
        }
        let percentiles = distribution.percentiles();
        assert_eq!(percentiles.count, 10_000);
        let table = [
            (percentiles.p50, 5_000),
            (percentiles.p90, 9_000),
            (percentiles.p99, 9_900),
            (percentiles.p99_9, 9_990),
            (percentiles.max, 10_000),
        ];
        for (nanos, micros) in table {
            let expected = micros * 1_000;
            assert!(
                nanos.abs_diff(expected) <= expected / 1_000,
                "{nanos} {expected}"
            );
        }
    }

    #[test]
    fn nothing_recorded_is_all_zero() {
        let percentiles = Distribution::new().percentiles();
        assert_eq!(
            (percentiles.count, percentiles.p50, percentiles.max),
            (0, 0, 0)
        );
    }

    #[test]
    fn what_is_off_the_scale_is_kept() {
        let mut distribution = Distribution::new();
        distribution.record(Duration::from_secs(100_000));
        distribution.record(Duration::ZERO);
        assert_eq!(distribution.percentiles().count, 2);
        assert!(distribution.percentiles().max >= 3_600_000_000_000);
    }
}
