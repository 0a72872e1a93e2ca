//! The Markdown page of a run, for the summary of a CI job.

use std::fmt::Write;

use crate::{
    measure::{figures::milliseconds, latency::Percentiles},
    report::{Report, judgement::Verdict, summary::Discarded},
};

/// Formats the page.
pub(super) fn page(report: &Report) -> String {
    let mut page = String::new();
    write(report, &mut page).expect("writing to a String cannot fail");
    page
}

fn write(report: &Report, out: &mut String) -> std::fmt::Result {
    let summary = &report.summary;
    let verdict = match summary.verdict {
        Verdict::Passed => "passed",
        Verdict::Failed => "**FAILED**",
        Verdict::Invalid => "**INVALID**",
    };
    writeln!(out, "## loadgen {}: {verdict}\n", summary.scenario)?;
    for note in &summary.notes {
        writeln!(out, "- note: {note}")?;
    }
    for reason in &summary.reasons {
        writeln!(out, "- {}", cell(reason))?;
    }
    for discarded in &summary.discarded {
        let Discarded {
            window_seconds,
            reason,
        } = discarded;
        let reason = cell(reason);
        writeln!(
            out,
            "- repeated, because the run with a window of {window_seconds} s was INVALID: {reason}"
        )?;
    }
    let lists = [&summary.notes, &summary.reasons];
    if lists.iter().any(|list| !list.is_empty()) || !summary.discarded.is_empty() {
        writeln!(out)?;
    }
    if !summary.gates.is_empty() {
        writeln!(out, "| gate | | measured | limit |\n|---|---|---|---|")?;
        for gate in &summary.gates {
            let result = if gate.passed { "holds" } else { "**fails**" };
            let number = |it: Option<f64>| it.map(|it| gate.format(it)).unwrap_or_default();
            writeln!(
                out,
                "| `{}` | {result} | {} | {} |",
                cell(&gate.gate),
                number(gate.measured),
                number(gate.bound)
            )?;
        }
        writeln!(out)?;
    }
    latencies(report, out)?;
    writeln!(out, "| {} connections | |\n|---|---|", summary.connections)?;
    for (outcome, count) in summary.outcomes.iter().filter(|(_, count)| **count > 0) {
        writeln!(out, "| {outcome} | {count} |")?;
    }
    writeln!(out, "\n| figure | |\n|---|---|")?;
    for figure in report.figures.iter() {
        writeln!(out, "| {} | {figure} |", figure.name)?;
    }
    Ok(())
}

fn latencies(report: &Report, out: &mut String) -> std::fmt::Result {
    if report.latencies.is_empty() {
        return Ok(());
    }
    writeln!(
        out,
        "| latency | p50 | p90 | p99 | p99.9 | max | count |\n|---|---|---|---|---|---|---|"
    )?;
    let mut row = |name: String, row: &Percentiles| {
        write!(out, "| {name} |")?;
        for nanos in [row.p50, row.p90, row.p99, row.p99_9, row.max] {
            write!(out, " {} |", milliseconds(nanos as f64 / 1e9))?;
        }
        writeln!(out, " {} |", row.count)
    };
    for (name, latency) in &report.summary.latencies {
        row(format!("{name}, from plan"), &latency.corrected)?;
        if let Some(uncorrected) = &latency.uncorrected {
            row(format!("{name}, from send"), uncorrected)?;
        }
        let before = report.baseline.as_ref();
        if let Some(before) = before.and_then(|before| before.latencies.get(name)) {
            row(format!("{name}, baseline"), &before.corrected)?;
        }
    }
    writeln!(out)
}

/// Escapes text for a cell of a table.
fn cell(text: &str) -> String {
    text.replace('|', "\\|").replace('\n', " ")
}
