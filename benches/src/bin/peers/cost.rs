//! What each of very many things has cost a server.

use std::time::Duration;

use crate::{
    figure::Figure,
    generator::Report,
    rounds::{BASELINE, Measured},
};

/// What each of very many things has cost a server in one round.
pub(crate) struct Cost {
    /// CPU of the server's threads and of its core's `ksoftirqd`, in microseconds.
    pub(crate) cpu: f64,
    /// Of that, `ksoftirqd`'s.
    softirqs: f64,
    /// The share of the time in which the server was busy.
    busy: f64,
    /// For how long its core was not let run, in the whole of the run.
    stolen: Duration,
}

impl Cost {
    /// That of `count` things in the measured window of a run.
    pub(crate) fn of(report: &Report, count: f64) -> Self {
        let each = |name| report.figure(name) * 1e6 / count;
        let softirqs = each("server.window_softirq_seconds");
        Self {
            cpu: each("server.window_cpu_seconds") + softirqs,
            softirqs,
            busy: report.figure("server.busy"),
            stolen: report.stolen,
        }
    }

    /// In a word.
    pub(crate) fn told(&self) -> String {
        let Self { cpu, stolen, .. } = self;
        format!("{cpu:.3} us, {stolen:?} stolen")
    }

    /// The columns of a table.
    pub(crate) fn head(each: &str) -> String {
        format!(" CPU, us per {each} | in ksoftirqd | / {BASELINE} | server busy |")
    }

    /// How many these are.
    pub(crate) const COLUMNS: usize = 4;

    /// Those columns of one server.
    pub(crate) fn cells<T>(
        rounds: &[T],
        measured: &Measured<T>,
        of: impl Fn(&T) -> &Self,
    ) -> String {
        let cpu = Figure::new(rounds, |it| of(it).cpu);
        let softirqs = Figure::new(rounds, |it| of(it).softirqs).median;
        let busy = Figure::new(rounds, |it| of(it).busy).median * 100.0;
        let ratio = measured.of(BASELINE).map_or(String::new(), |baseline| {
            let baseline = Figure::new(baseline, |it| of(it).cpu);
            format!("{:.3}", cpu.median / baseline.median)
        });
        format!(" {cpu:.3} | {softirqs:.3} | {ratio} | {busy:.0} % |")
    }
}
