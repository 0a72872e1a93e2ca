//! CPU of a server for each message, handshake or close.

use std::time::Duration;

use benches::results::Figure;

use crate::{
    generator::Report,
    schedule::{BASELINE, Measurements},
};

/// CPU of a server in one round, divided by a number of operations.
pub(crate) struct Cost {
    /// CPU of the server's threads and of `ksoftirqd` on its core, in microseconds for each operation.
    pub(crate) cpu_us: f64,
    /// The part of `cpu_us` that is of `ksoftirqd`.
    softirqs_us: f64,
    /// Share of the measured time in which the server was busy.
    busy: f64,
    /// Time in the whole run in which the hypervisor did not run the server's core.
    stolen: Duration,
}

impl Cost {
    /// Returns the cost of `count` operations in the measured window of a run.
    pub(crate) fn of(report: &Report, count: f64) -> Self {
        let each = |name| report.figure(name) * 1e6 / count;
        let softirqs_us = each("server.window_softirq_seconds");
        Self {
            cpu_us: each("server.window_cpu_seconds") + softirqs_us,
            softirqs_us,
            busy: report.figure("server.busy"),
            stolen: report.stolen,
        }
    }

    /// Returns CPU and stolen time for a line of progress.
    pub(crate) fn summary(&self) -> String {
        let Self { cpu_us, stolen, .. } = self;
        format!("{cpu_us:.3} us, {stolen:?} stolen")
    }

    /// Returns the heads of the columns of [`cells`](Self::cells).
    pub(crate) fn head(operation: &str) -> String {
        format!(" CPU, us per {operation} | in ksoftirqd | / {BASELINE} | server busy |")
    }

    /// Number of columns of [`cells`](Self::cells).
    pub(crate) const COLUMNS: usize = 4;

    /// Returns the cells of one server.
    pub(crate) fn cells<T>(
        rounds: &[T],
        measured: &Measurements<T>,
        of: impl Fn(&T) -> &Self,
    ) -> String {
        let cpu = figure(rounds, |it| of(it).cpu_us);
        let softirqs = median(rounds, |it| of(it).softirqs_us);
        let busy = median(rounds, |it| of(it).busy) * 100.0;
        let ratio = measured.of(BASELINE).map_or(String::new(), |baseline| {
            let baseline = median(baseline, |it| of(it).cpu_us);
            format!("{:.3}", median(rounds, |it| of(it).cpu_us) / baseline)
        });
        format!(" {cpu:.3} | {softirqs:.3} | {ratio} | {busy:.0} % |")
    }
}

/// Returns the figure of a value of all rounds, of which there is one at least.
pub(crate) fn figure<T>(rounds: &[T], of: impl Fn(&T) -> f64) -> Figure {
    Figure::of(rounds.iter().map(of))
}

/// Returns the median of a value of all rounds, of which there is one at least.
pub(crate) fn median<T>(rounds: &[T], of: impl Fn(&T) -> f64) -> f64 {
    figure(rounds, of)
        .median
        .expect("there is one round at least")
}
