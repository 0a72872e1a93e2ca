//! What a close storm has found, for people and for programs.

use std::{collections::BTreeMap, fmt, net::SocketAddr, time::Duration};

use serde::Serialize;

use crate::{
    cli::Mode,
    judgement::{Judgement, Verdict, busy_share},
    latency::{Latency, Percentiles},
    outcome::Tally,
    usage::{CpuTime, Usage},
};

/// The document of `--json`; its `Display` is the summary on a terminal.
#[derive(Clone, Debug, Serialize)]
pub(crate) struct Report {
    pub(crate) scenario: &'static str,
    pub(crate) mode: Mode,
    pub(crate) server: ServerFigures,
    pub(crate) generator: GeneratorFigures,
    /// How many connections were to be opened; the outcomes add up to it.
    pub(crate) connections: u32,
    pub(crate) outcomes: BTreeMap<&'static str, u32>,
    /// Each outcome that occurred, as text, with what was said about its first connection.
    #[serde(skip)]
    pub(crate) outcome_lines: Vec<String>,
    /// In mode close.
    pub(crate) close: Option<CloseFigures>,
    /// In modes reset and silent.
    pub(crate) emptied: Option<EmptiedFigures>,
    #[serde(flatten)]
    pub(crate) judgement: Judgement,
}

/// The server and what it used.
#[derive(Clone, Debug, Serialize)]
pub(crate) struct ServerFigures {
    pub(crate) address: SocketAddr,
    /// Whether it was a child of the generator; else nothing below is known.
    pub(crate) child: bool,
    pub(crate) process_id: Option<i32>,
    pub(crate) core: Option<usize>,
    /// CPU seconds over its whole life.
    pub(crate) cpu_seconds: Option<f64>,
    /// The share of the measured window in which it was busy.
    pub(crate) busy: Option<f64>,
    /// Resident memory with all connections open.
    pub(crate) resident_bytes: Option<u64>,
    /// How many connections it reports to have ended since the planned moment, by cause.
    pub(crate) causes: BTreeMap<String, u64>,
}

/// The generator and what it used.
#[derive(Clone, Debug, Serialize)]
pub(crate) struct GeneratorFigures {
    pub(crate) core: Option<usize>,
    /// CPU seconds over the whole run.
    pub(crate) cpu_seconds: f64,
    /// The share of the measured window in which it was busy.
    pub(crate) busy: f64,
    /// The share of the measured window in which it was ready to run, and others had its CPU.
    pub(crate) waiting: f64,
    /// The length of the measured window: from the planned moment to the last event.
    pub(crate) window_seconds: f64,
    /// From planned to actually done, in nanoseconds.
    pub(crate) lateness_nanos: Percentiles,
}

/// Latencies of the closing handshake.
#[derive(Clone, Debug, Serialize)]
pub(crate) struct CloseFigures {
    /// Until the server's Close.
    pub(crate) close_nanos: LatencyFigures,
    /// Until the server's FIN.
    pub(crate) fin_nanos: LatencyFigures,
}

/// One latency, told twice.
#[derive(Clone, Debug, Serialize)]
pub(crate) struct LatencyFigures {
    /// From the planned moment.
    pub(crate) corrected: Percentiles,
    /// From the actual send.
    pub(crate) uncorrected: Percentiles,
}

/// How long the server held connections that had ended.
#[derive(Clone, Debug, Serialize)]
pub(crate) struct EmptiedFigures {
    /// How it is known: by the server's own report, the kernel's socket table, or both.
    pub(crate) known_by: Vec<&'static str>,
    /// From the planned moment until it held none; `None` if it never did.
    pub(crate) seconds: Option<f64>,
    /// How exactly that is known.
    pub(crate) resolution_seconds: Option<f64>,
    /// What is allowed; `None` if it is not known what the server is set to.
    pub(crate) bound_seconds: Option<f64>,
    /// Sockets that the kernel still kept for the server half a second later.
    pub(crate) orphans: Option<u32>,
}

impl LatencyFigures {
    pub(crate) fn of(latency: &Latency) -> Self {
        Self {
            corrected: latency.corrected.percentiles(),
            uncorrected: latency.uncorrected.percentiles(),
        }
    }
}

impl GeneratorFigures {
    pub(crate) fn new(
        core: Option<usize>,
        total: CpuTime,
        usage: &Usage,
        lateness: Percentiles,
    ) -> Self {
        let window = usage.window;
        Self {
            core,
            cpu_seconds: total.running.as_secs_f64(),
            busy: busy_share(usage.generator, window),
            waiting: usage.generator.waiting.as_secs_f64() / window.as_secs_f64().max(1e-9),
            window_seconds: window.as_secs_f64(),
            lateness_nanos: lateness,
        }
    }
}

/// One line for each outcome that occurred.
pub(crate) fn outcome_lines(tally: &Tally) -> Vec<String> {
    tally
        .iter()
        .map(|(outcome, count, first)| {
            let line = format!("{count:>12} {outcome}");
            match first {
                Some(first) => clip(&format!("{line} ({first})"), WIDTH),
                None => line,
            }
        })
        .collect()
}

/// The summary fits a terminal of so many columns.
const WIDTH: usize = 80;

fn clip(line: &str, width: usize) -> String {
    if line.chars().count() <= width {
        return line.to_owned();
    }
    let mut clipped: String = line.chars().take(width - 3).collect();
    clipped.push_str("...");
    clipped
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let on_core = |core: Option<usize>| match core {
            Some(core) => format!(", on core {core}"),
            None => String::new(),
        };
        let (server, generator) = (&self.server, &self.generator);
        let kind = if server.child { " (child)" } else { "" };
        let core = on_core(server.core);
        writeln!(f, "server      {}{kind}{core}", server.address)?;
        if let (Some(cpu), Some(resident)) = (server.cpu_seconds, server.resident_bytes) {
            let resident = resident as f64 / f64::from(1 << 20);
            let busy = percent(server.busy.unwrap_or_default());
            writeln!(
                f,
                "            CPU {cpu:.2} s, {busy} busy in the window, RSS {resident:.1} MiB"
            )?;
        }
        writeln!(
            f,
            "generator   CPU {:.2} s, {} busy in a window of {:.3} s{}",
            generator.cpu_seconds,
            percent(generator.busy),
            generator.window_seconds,
            on_core(generator.core)
        )?;
        writeln!(f, "connections {}", self.connections)?;
        for line in &self.outcome_lines {
            writeln!(f, "{line}")?;
        }
        if let Some(close) = &self.close {
            writeln!(f)?;
            self.table(close, f)?;
        }
        if let Some(emptied) = &self.emptied {
            writeln!(f)?;
            self.emptied(emptied, f)?;
        }
        writeln!(f)?;
        self.verdict(f)
    }
}

impl Report {
    fn table(&self, close: &CloseFigures, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(
            f,
            "{:<22}{:>11}{:>11}{:>11}{:>11}{:>11}",
            "latency", "p50", "p90", "p99", "p99.9", "max"
        )?;
        let rows = [
            ("planned -> Close", close.close_nanos.corrected),
            ("planned -> FIN", close.fin_nanos.corrected),
            ("sent -> Close", close.close_nanos.uncorrected),
            ("sent -> FIN", close.fin_nanos.uncorrected),
            ("lateness of sending", self.generator.lateness_nanos),
        ];
        for (name, row) in rows {
            write!(f, "{name:<22}")?;
            for nanos in [row.p50, row.p90, row.p99, row.p99_9, row.max] {
                write!(f, "{:>11}", milliseconds(nanos))?;
            }
            writeln!(f)?;
        }
        Ok(())
    }

    fn emptied(&self, emptied: &EmptiedFigures, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let known_by = emptied.known_by.join(" and ");
        match (emptied.seconds, emptied.resolution_seconds) {
            (Some(seconds), Some(resolution)) => {
                let millis = resolution * 1e3;
                writeln!(
                    f,
                    "empty after {seconds:.3} s, at most {millis:.0} ms earlier"
                )?;
            }
            _ => writeln!(f, "never empty")?,
        }
        writeln!(f, "            known by {known_by}")?;
        if let Some(bound) = emptied.bound_seconds {
            writeln!(f, "            the bound is {bound:.1} s")?;
        }
        if let Some(orphans) = emptied.orphans {
            writeln!(f, "orphans     {orphans} in the kernel half a second later")?;
        }
        let late = milliseconds(self.generator.lateness_nanos.max);
        writeln!(
            f,
            "lateness    {late} from the planned moment to the last client"
        )?;
        for (cause, count) in &self.server.causes {
            writeln!(f, "{count:>12} ended by the server's report: {cause}")?;
        }
        Ok(())
    }

    fn verdict(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let verdict = match self.judgement.verdict {
            Verdict::Passed => "passed",
            Verdict::Failed => "FAILED",
            Verdict::Invalid => "INVALID",
        };
        match &self.judgement.reasons[..] {
            [] => write!(f, "{verdict}"),
            reasons => {
                write!(f, "{verdict}")?;
                // Each sentence stands on lines of its own, broken where it has to be.
                reasons.iter().try_for_each(|reason| {
                    let clauses = reason.split_inclusive(';');
                    clauses
                        .map(str::trim)
                        .try_for_each(|clause| write!(f, "\n  {clause}"))
                })
            }
        }
    }
}

fn percent(share: f64) -> String {
    format!("{:.0} %", share * 100.0)
}

fn milliseconds(nanos: u64) -> String {
    let millis = Duration::from_nanos(nanos).as_secs_f64() * 1e3;
    let digits = match millis {
        ..10.0 => 3,
        ..1000.0 => 1,
        _ => 0,
    };
    format!("{millis:.digits$} ms")
}
