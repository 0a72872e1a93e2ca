//! Figures of a run: a name, a number, and what it counts.

use std::{fmt, time::Duration};

/// What a number counts.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) enum Unit {
    Seconds,
    Bytes,
    /// Of 1.
    Share,
    Count,
    PerSecond,
}

/// One figure.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Figure {
    /// Words with dots between them, such as `server.cpu_seconds`.
    pub(crate) name: &'static str,
    pub(crate) value: f64,
    pub(crate) unit: Unit,
}

/// Figures in the order in which they are told.
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

    /// Adds how many there were in a second, of `count` in `window`.
    pub(crate) fn rate(&mut self, name: &'static str, count: u64, window: Duration) {
        let rate = count as f64 / window.as_secs_f64().max(1e-9);
        self.push(name, rate, Unit::PerSecond);
    }

    fn push(&mut self, name: &'static str, value: f64, unit: Unit) {
        self.0.push(Figure { name, value, unit });
    }

    /// Adds those of another.
    pub(crate) fn append(&mut self, mut other: Self) {
        self.0.append(&mut other.0);
    }

    /// All of them.
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

/// A duration as people read it.
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
    fn figures_are_told_in_their_units() {
        let mut figures = Figures::default();
        figures.seconds("a", Duration::from_micros(1500));
        figures.seconds("b", Duration::from_millis(2500));
        figures.bytes("c", 104.4);
        figures.bytes("d", 15.0 * 1048576.0);
        figures.share("e", 0.5);
        figures.rate("f", 10, Duration::from_secs(2));
        let told: Vec<_> = figures.iter().map(ToString::to_string).collect();
        assert_eq!(
            told,
            ["1.500 ms", "2.50 s", "104 B", "15.0 MiB", "50.0 %", "5/s"]
        );
    }
}
