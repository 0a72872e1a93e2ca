//! The file formats of HdrHistogram, for its plotters and for tools that merge runs.

use std::{fmt::Write, time::Duration};

use hdrhistogram::{
    Histogram,
    serialization::{V2DeflateSerializer, interval_log::IntervalLogWriterBuilder},
};

use crate::measure::latency::Latency;

/// Lines of the percentile file for each halving of the distance to 100 %.
const TICKS_PER_HALF: u32 = 5;

const NANOS_PER_MILLI: f64 = 1e6;

/// Formats the percentile distribution (`.hgrm`), in milliseconds.
pub(super) fn percentiles(histogram: &Histogram<u64>) -> String {
    let mut text = String::from("       Value     Percentile TotalCount 1/(1-Percentile)\n\n");
    let mut line = |line: std::fmt::Arguments<'_>| {
        text.write_fmt(line)
            .expect("writing to a String cannot fail");
    };
    for value in histogram.iter_quantiles(TICKS_PER_HALF) {
        let millis = value.value_iterated_to() as f64 / NANOS_PER_MILLI;
        let quantile = value.quantile_iterated_to();
        let count = histogram.count_between(0, value.value_iterated_to());
        if quantile < 1.0 {
            let share = 1.0 / (1.0 - quantile);
            line(format_args!(
                "{millis:12.6} {quantile:2.12} {count:10} {share:14.2}\n"
            ));
        } else {
            line(format_args!("{millis:12.6} {quantile:2.12} {count:10}\n"));
        }
    }
    let scaled = |nanos: f64| nanos / NANOS_PER_MILLI;
    line(format_args!(
        "#[Mean    = {:12.6}, StdDeviation   = {:12.6}]\n",
        scaled(histogram.mean()),
        scaled(histogram.stdev())
    ));
    line(format_args!(
        "#[Max     = {:12.6}, Total count    = {:12}]\n",
        scaled(histogram.max() as f64),
        histogram.len()
    ));
    line(format_args!(
        "#[Buckets = {:12}, SubBuckets     = {:12}]\n",
        histogram.buckets(),
        2 * 10_u64
            .pow(u32::from(histogram.sigfig()))
            .next_power_of_two()
    ));
    text
}

/// Formats the interval log (`.hlog`): a compressed histogram for each second, in nanoseconds.
pub(super) fn interval_log(latency: &Latency) -> Vec<u8> {
    let mut bytes = Vec::new();
    let mut serializer = V2DeflateSerializer::new();
    let mut log = IntervalLogWriterBuilder::new()
        .add_comment("[Nanoseconds, from the planned moment; times count from the run's start]")
        .begin_log_with(&mut bytes, &mut serializer)
        .expect("writing to a Vec cannot fail");
    for (start, length, histogram) in latency.intervals.iter() {
        let length = length.max(Duration::from_millis(1));
        log.write_histogram(&histogram, start, length, None)
            .expect("writing to a Vec cannot fail");
    }
    drop(log);
    bytes
}

#[cfg(test)]
mod tests {
    use hdrhistogram::serialization::interval_log::{IntervalLogIterator, LogEntry};

    use super::*;
    use crate::measure::clock::Moment;

    fn latency() -> Latency {
        let mut latency = Latency::new("echo");
        for millis in 1..=2_000 {
            let at = Moment::default() + Duration::from_millis(millis);
            let due = at.earlier(Duration::from_micros(millis));
            latency.record_planned(at, due);
        }
        latency
    }

    #[test]
    fn the_last_line_of_the_percentile_file_counts_all_latencies() {
        let text = percentiles(latency().corrected.histogram());
        let last = text.lines().rfind(|line| !line.starts_with('#')).unwrap();
        let words: Vec<_> = last.split_whitespace().collect();
        assert_eq!(words[1..], ["1.000000000000", "2000"], "{text}");
        assert!(text.contains("Total count    =         2000"), "{text}");
    }

    #[test]
    fn the_interval_log_has_an_entry_for_each_second() {
        let log = interval_log(&latency());
        let intervals = IntervalLogIterator::new(&log)
            .filter(|entry| matches!(entry, Ok(LogEntry::Interval(_))))
            .count();
        assert_eq!(intervals, 3, "{}", String::from_utf8_lossy(&log));
    }
}
