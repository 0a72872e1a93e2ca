//! The report on a terminal, in at most 80 columns.

use std::fmt;

use crate::{
    measure::{figures::milliseconds, latency::Percentiles},
    report::{
        Report,
        judgement::Verdict,
        summary::LatencySummary,
        text::{clip, wrap},
    },
};

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let on_core = |core: Option<usize>| match core {
            Some(core) => format!(", on core {core}"),
            None => String::new(),
        };
        let summary = &self.summary;
        if let Some(reason) = summary.reasons.first() {
            let what = reason.split(';').next().unwrap_or_default();
            for line in wrap(&format!("{}: {what}", verdict(summary.verdict))) {
                writeln!(f, "{line}")?;
            }
            writeln!(f)?;
        }
        let (server, generator) = (&summary.server, &summary.generator);
        let kind = if server.child { " (child)" } else { "" };
        let core = on_core(server.core);
        writeln!(f, "server      {}{kind}{core}", server.address)?;
        let rings = match generator.rings {
            1 => "1 ring".to_owned(),
            rings => format!("{rings} rings"),
        };
        let core = on_core(generator.core);
        writeln!(f, "generator   {rings}{core}, seed {}", generator.seed)?;
        for (name, value) in &summary.settings {
            writeln!(f, "{}", clip(&format!("{name:<11} {value}")))?;
        }
        writeln!(f, "connections {}", summary.connections)?;
        for line in &self.outcome_lines {
            writeln!(f, "{line}")?;
        }
        for (cause, count) in &server.causes {
            writeln!(
                f,
                "{count:>12} closes with cause {cause} in the metrics of the server"
            )?;
        }
        writeln!(f)?;
        for figure in self.figures.iter() {
            writeln!(f, "{:<44}{figure:>16}", figure.name)?;
        }
        if !self.latencies.is_empty() {
            writeln!(f)?;
            self.table(f)?;
        }
        writeln!(f)?;
        for gate in summary.gates.iter().filter(|gate| gate.passed) {
            for line in wrap(&format!("gate {gate}")) {
                writeln!(f, "{line}")?;
            }
        }
        for note in &summary.notes {
            for line in wrap(&format!("note: {note}")) {
                writeln!(f, "{line}")?;
            }
        }
        for (run, discarded) in (1..).zip(&summary.discarded) {
            let window = match discarded.window_seconds {
                0.0 => "all at one moment".to_owned(),
                seconds => format!("spread over {seconds} s"),
            };
            let reason = &discarded.reason;
            for line in wrap(&format!(
                "run {run} ({window}) was INVALID and was repeated: {reason}"
            )) {
                writeln!(f, "{line}")?;
            }
        }
        self.verdict(f)
    }
}

impl Report {
    fn table(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(
            f,
            "{:<22}{:>11}{:>11}{:>11}{:>11}{:>11}",
            "latency", "p50", "p90", "p99", "p99.9", "max"
        )?;
        let summary_of = |name: &str| self.summary.latencies.get(name);
        for latency in &self.latencies {
            let Some(LatencySummary {
                corrected,
                uncorrected,
                ..
            }) = summary_of(latency.name)
            else {
                continue;
            };
            match uncorrected {
                Some(uncorrected) => {
                    row(f, &format!("{}, from plan", latency.name), corrected)?;
                    row(f, &format!("{}, from send", latency.name), uncorrected)?;
                }
                None => row(f, latency.name, corrected)?,
            }
        }
        Ok(())
    }

    fn verdict(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", verdict(self.summary.verdict))?;
        if self.summary.verdict == Verdict::Failed && self.summary.invalid.is_some() {
            write!(f, ", and also INVALID")?;
        }
        self.summary.reasons.iter().try_for_each(|reason| {
            // Each part of a reason starts on a new line.
            let mut parts = reason.split_inclusive(';').flat_map(wrap);
            parts.try_for_each(|line| write!(f, "\n  {line}"))
        })
    }
}

const fn verdict(verdict: Verdict) -> &'static str {
    match verdict {
        Verdict::Passed => "passed",
        Verdict::Failed => "FAILED",
        Verdict::Invalid => "INVALID",
    }
}

fn row(f: &mut fmt::Formatter<'_>, name: &str, row: &Percentiles) -> fmt::Result {
    write!(f, "{name:<22}")?;
    for nanos in [row.p50, row.p90, row.p99, row.p99_9, row.max] {
        write!(f, "{:>11}", milliseconds(nanos as f64 / 1e9))?;
    }
    writeln!(f)
}
