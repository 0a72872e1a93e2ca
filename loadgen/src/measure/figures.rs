//! Figures of a run: name, value and unit.

use std::{fmt, time::Duration};

use serde::{Deserialize, Serialize};

/// The unit of a figure.
#[derive(Clone, Copy, Debug, Deserialize, Eq, PartialEq, Serialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Unit {
    Seconds,
    Bytes,
    /// A fraction from 0 to 1.
    Share,
    Count,
    PerSecond,
}

/// The figures of one part of a run, with their units.
pub(crate) type FigureNames = &'static [(&'static str, Unit)];

/// One figure.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Figure {
    /// Name of words and dots, such as `server.cpu_seconds`.
    pub(crate) name: &'static str,
    pub(crate) value: f64,
    pub(crate) unit: Unit,
}

/// Figures in the order of the report.
#[derive(Clone, Debug, Default)]
pub(crate) struct Figures(Vec<Figure>);

impl Figures {
    /// Adds a duration.
    pub(crate) fn seconds(&mut self, name: &'static str, duration: Duration) {
        self.push(name, duration.as_secs_f64(), Unit::Seconds);
    }

    /// Adds a number of bytes.
    pub(crate) fn bytes(&mut self, name: &'static str, bytes: f64) {
        self.push(name, bytes, Unit::Bytes);
    }

    /// Adds a share of 1.
    pub(crate) fn share(&mut self, name: &'static str, share: f64) {
        self.push(name, share, Unit::Share);
    }

    /// Adds a count.
    pub(crate) fn count(&mut self, name: &'static str, count: u64) {
        self.push(name, count as f64, Unit::Count);
    }

    /// Adds the rate of `count` events in `window`.
    pub(crate) fn rate(&mut self, name: &'static str, count: u64, window: Duration) {
        let rate = count as f64 / window.as_secs_f64().max(1e-9);
        self.push(name, rate, Unit::PerSecond);
    }

    fn push(&mut self, name: &'static str, value: f64, unit: Unit) {
        self.0.push(Figure { name, value, unit });
    }

    /// Adds all figures of `other`.
    pub(crate) fn append(&mut self, mut other: Self) {
        self.0.append(&mut other.0);
    }

    /// Returns all figures.
    pub(crate) fn iter(&self) -> impl Iterator<Item = &Figure> {
        self.0.iter()
    }
}

impl fmt::Display for Figure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let value = self.value;
        match self.unit {
            Unit::Seconds => f.pad(&milliseconds(value)),
            Unit::Bytes => f.pad(&bytes(value)),
            Unit::Share => f.pad(&format!("{:.1} %", value * 100.0)),
            Unit::Count => f.pad(&format!("{value:.0}")),
            Unit::PerSecond => f.pad(&format!("{value:.0}/s")),
        }
    }
}

impl Unit {
    /// Formats a value with its unit and up to six digits, so that a value close to a limit differs
    /// from it.
    pub(crate) fn precise(self, value: f64) -> String {
        match self {
            Self::Seconds => match value.abs() {
                1.0.. => six_digits(value, " s"),
                1e-3.. => six_digits(value * 1e3, " ms"),
                1e-6.. => six_digits(value * 1e6, " us"),
                0.0 => six_digits(value, " s"),
                _ => six_digits(value * 1e9, " ns"),
            },
            Self::Bytes => precise_bytes(value, bytes_unit(value)),
            Self::Share => six_digits(value * 100.0, " %"),
            Self::Count => six_digits(value, ""),
            Self::PerSecond => six_digits(value, "/s"),
        }
    }
}

/// Units of sizes, the largest first.
const BYTES_UNITS: [(f64, &str); 4] = [
    (1_073_741_824.0, " GiB"),
    (1_048_576.0, " MiB"),
    (1_024.0, " KiB"),
    (1.0, " B"),
];

/// Returns the largest unit up to MiB, in bytes, that is not larger than `bytes`.
pub(crate) fn bytes_unit(bytes: f64) -> f64 {
    let mut units = BYTES_UNITS.iter().skip(1).map(|(unit, _)| *unit);
    units.find(|unit| bytes.abs() >= *unit).unwrap_or(1.0)
}

/// Formats a size in the unit of `unit` bytes, with up to six digits.
pub(crate) fn precise_bytes(bytes: f64, unit: f64) -> String {
    let known = BYTES_UNITS.iter().find(|(known, _)| *known == unit);
    let (unit, name) = known.copied().unwrap_or((1.0, " B"));
    six_digits(bytes / unit, name)
}

fn six_digits(value: f64, unit: &str) -> String {
    let whole = value.abs().max(1.0).log10().floor() as usize + 1;
    let digits = 6_usize.saturating_sub(whole);
    let number = format!("{value:.digits$}");
    let number = match number.contains('.') {
        true => number.trim_end_matches('0').trim_end_matches('.'),
        false => &number,
    };
    format!("{number}{unit}")
}

/// Formats a duration in milliseconds, or in seconds from 1 s on.
pub(crate) fn milliseconds(seconds: f64) -> String {
    let millis = seconds * 1e3;
    match millis {
        ..10.0 => format!("{millis:.3} ms"),
        ..1000.0 => format!("{millis:.1} ms"),
        _ => format!("{seconds:.2} s"),
    }
}

fn bytes(bytes: f64) -> String {
    match bytes.abs() {
        ..10_240.0 => format!("{bytes:.0} B"),
        ..10_485_760.0 => format!("{:.1} KiB", bytes / 1024.0),
        _ => format!("{:.1} MiB", bytes / 1_048_576.0),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_precise_value_has_its_unit_and_up_to_six_digits() {
        let table = [
            (Unit::Seconds, 0.05, "50 ms"),
            (Unit::Seconds, 0.050_04, "50.04 ms"),
            (Unit::Seconds, 12.0, "12 s"),
            (Unit::Seconds, 1_234.567, "1234.57 s"),
            (Unit::Seconds, 0.000_012_5, "12.5 us"),
            (Unit::Seconds, 1.5e-8, "15 ns"),
            (Unit::Seconds, 0.0, "0 s"),
            (Unit::Bytes, 180.0, "180 B"),
            (Unit::Bytes, 1_536.0, "1.5 KiB"),
            (Unit::Bytes, -2_097_152.0, "-2 MiB"),
            (Unit::Share, 0.123_45, "12.345 %"),
            (Unit::Count, 12_345_678.0, "12345678"),
            (Unit::Count, 100.0, "100"),
            (Unit::PerSecond, 20_000.5, "20000.5/s"),
        ];
        for (unit, value, expected) in table {
            assert_eq!(unit.precise(value), expected, "{unit:?} {value}");
        }
    }

    #[test]
    fn figures_are_printed_in_their_units() {
        let mut figures = Figures::default();
        figures.seconds("a", Duration::from_micros(1500));
        figures.seconds("b", Duration::from_millis(2500));
        figures.bytes("c", 104.4);
        figures.bytes("d", 15.0 * 1048576.0);
        figures.share("e", 0.5);
        figures.rate("f", 10, Duration::from_secs(2));
        let expected: Vec<_> = figures.iter().map(ToString::to_string).collect();
        assert_eq!(
            expected,
            ["1.500 ms", "2.50 s", "104 B", "15.0 MiB", "50.0 %", "5/s"]
        );
    }
}
