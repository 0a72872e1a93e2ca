//! Cells of runs from the reports of loadgen and from the output of tests.

use std::{
    fs, io,
    path::{Path, PathBuf},
};

use clap::{Args, ValueEnum};
use serde_json::Value;

use super::{Figure, Row, Run};

/// The run that gets the cells.
#[derive(Args, Debug)]
pub struct Target {
    /// File of the run, such as benches/results/bun-zen4.json; a missing file is created
    #[arg(long, value_name = "FILE")]
    file: PathBuf,
    /// Name of the benchmark, which selects the table in benches/RESULTS.md
    #[arg(long)]
    benchmark: String,
    /// Command that repeats the run
    #[arg(long)]
    command: String,
}

/// A cell of a run, from the reports of loadgen.
#[derive(Args, Debug)]
pub struct LoadgenCell {
    /// Name of the row
    #[arg(long)]
    row: String,
    /// Name of the column
    #[arg(long)]
    column: String,
    /// Name of the value, as in the gates of loadgen: a figure, or a latency and a percentile, such as fin.p99
    #[arg(long)]
    value: String,
    /// Unit of the cell
    #[arg(long)]
    unit: Unit,
    /// Files summary.json, one for each repetition
    #[arg(required = true, value_name = "SUMMARY")]
    summaries: Vec<PathBuf>,
}

/// Unit of a cell. loadgen reports seconds, nanoseconds, bytes and counts.
#[derive(Clone, Copy, Debug, ValueEnum)]
enum Unit {
    /// Seconds
    S,
    /// Milliseconds
    Ms,
    /// Microseconds
    Us,
    /// 2^20 bytes
    Mib,
    /// The unit of loadgen: bytes, a count, or a rate
    Same,
}

impl Unit {
    /// Returns the number of these units in one second, one byte or one piece.
    fn factor(self) -> f64 {
        match self {
            Self::S | Self::Same => 1.0,
            Self::Ms => 1e3,
            Self::Us => 1e6,
            Self::Mib => 1.0 / f64::from(1 << 20),
        }
    }
}

impl Target {
    /// Sets a cell to the median and the range of a value in several reports of loadgen.
    ///
    /// # Errors
    /// If a file cannot be read or written, or a report does not have the value.
    pub fn set_from_loadgen(&self, cell: &LoadgenCell) -> io::Result<()> {
        let measurements = cell
            .summaries
            .iter()
            .map(|path| {
                let report = fs::read_to_string(path).map_err(|error| with_path(path, &error))?;
                let value = report_value(&report, &cell.value).ok_or_else(|| {
                    with_path(path, &format_args!("the report has no {}", cell.value))
                })?;
                Ok(value * cell.unit.factor())
            })
            .collect::<io::Result<Vec<f64>>>()?;
        let mut run = self.open()?;
        let n = measurements.len();
        run.add(&cell.row, n, &cell.column, Figure::of(measurements));
        fs::write(&self.file, run.to_json())
    }

    /// Replaces the rows by the measurements of `rules` in the output of a test, such as
    /// `R5  no pong: Close 1011 after 2.012 s (bound 2.3 s)`. Without rules, all measurements are taken.
    ///
    /// # Errors
    /// If the output has no measurement, or the file cannot be written.
    pub fn set_from_tests(&self, output: &str, rules: &[String]) -> io::Result<()> {
        let mut run = self.open()?;
        run.rows = Vec::new();
        for line in output.lines().filter_map(Measurement::parse) {
            if rules.is_empty() || rules.iter().any(|rule| rule == line.rule) {
                let row = format!("{}: {}", line.rule, line.what);
                run.add(&row, 1, "bound", line.bound.to_owned());
                run.add(&row, 1, "measured", line.measured.to_owned());
            }
        }
        if run.rows.is_empty() {
            return Err(io::Error::other("the output has no measurement of a rule"));
        }
        fs::write(&self.file, run.to_json())
    }

    /// Reads the run, or starts one; sets its machine, its commit, its day and its command.
    fn open(&self) -> io::Result<Run> {
        let present: Vec<Row> = match fs::read_to_string(&self.file) {
            Ok(text) => {
                let run: Run =
                    serde_json::from_str(&text).map_err(|error| with_path(&self.file, &error))?;
                let is_same = run.commit == super::host::commit() && run.command == self.command;
                // Figures of two commits do not stand in one run.
                if is_same { run.rows } else { Vec::new() }
            }
            Err(error) if error.kind() == io::ErrorKind::NotFound => Vec::new(),
            Err(error) => return Err(with_path(&self.file, &error)),
        };
        let mut run = Run::new(&self.benchmark, self.command.clone());
        for row in present {
            for (column, cell) in row.cells {
                run.add(&row.name, row.n.unwrap_or(1) as usize, &column, cell);
            }
        }
        Ok(run)
    }
}

fn with_path(path: &Path, error: &dyn std::fmt::Display) -> io::Error {
    io::Error::other(format!("{}: {error}", path.display()))
}

/// Returns a value of a report: a figure, or a percentile in seconds, from the planned time or, with `uncorrected`,
/// from the send.
fn report_value(report: &str, name: &str) -> Option<f64> {
    let report: Value = serde_json::from_str(report).ok()?;
    if let Some(figure) = report["figures"].get(name) {
        return figure.as_f64();
    }
    let latencies = report["latencies"].as_object()?;
    latencies.iter().find_map(|(latency, summary)| {
        let rest = name.strip_prefix(latency.as_str())?.strip_prefix('.')?;
        let (from, percentile) = match rest.strip_prefix("uncorrected.") {
            Some(percentile) => ("uncorrected", percentile),
            None => ("corrected", rest),
        };
        Some(summary[from].get(percentile)?.as_f64()? / 1e9)
    })
}

/// A measurement in the output of a test.
#[derive(Debug, PartialEq)]
struct Measurement<'a> {
    rule: &'a str,
    what: &'a str,
    measured: &'a str,
    bound: &'a str,
}

impl<'a> Measurement<'a> {
    /// Parses a line such as `R5  no pong: all gone after 3.026 s (bound 3.3 s)`.
    fn parse(line: &'a str) -> Option<Self> {
        // The name of the test stands in front of its first line.
        let line = line.rsplit(" ... ").next()?;
        let (rule, rest) = line.split_once(' ')?;
        rule.strip_prefix('R')?.parse::<u32>().ok()?;
        let (rest, bound) = rest.trim().rsplit_once(" (bound")?;
        let bound = bound.strip_prefix('s').unwrap_or(bound).trim();
        let (what, measured) = rest.split_at(start_of_value(rest)?);
        Some(Self {
            rule,
            what: what.trim_end_matches([' ', ':']),
            measured,
            bound: bound.strip_suffix(')')?,
        })
    }
}

/// Returns the index of the value at the end of a text: `3 s`, or a range such as `2 s to 3 s`.
fn start_of_value(text: &str) -> Option<usize> {
    let single = |text: &str| {
        let (before, _unit) = text.rsplit_once(' ')?;
        let start = before.rfind(' ').map_or(0, |space| space + 1);
        before[start..].parse::<f64>().ok().map(|_| start)
    };
    let last = single(text)?;
    let first = text[..last].strip_suffix(" to ").and_then(single);
    Some(first.unwrap_or(last))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_report_has_figures_and_percentiles() {
        let report = r#"{"figures": {"server.cpu_seconds": 1.5},
            "latencies": {"fin": {"corrected": {"p99": 2000000, "p99.9": 3000000}, "uncorrected": {"p99": 1000000}}}}"#;
        for (name, value) in [
            ("server.cpu_seconds", Some(1.5)),
            ("fin.p99", Some(0.002)),
            ("fin.p99.9", Some(0.003)),
            ("fin.uncorrected.p99", Some(0.001)),
            ("fin.p42", None),
            ("echo.p99", None),
        ] {
            assert_eq!(report_value(report, name), value, "{name}");
        }
    }

    #[test]
    fn a_line_of_a_test_is_a_rule_a_measurement_and_a_bound() {
        for (line, expected) in [
            (
                "R5  no pong: all gone after 3.026 s (bound 3.3 s)",
                Some(["R5", "no pong: all gone after", "3.026 s", "3.3 s"]),
            ),
            (
                "test keepalive::r05_a ... R5  Close 1011: 2.012 s to 2.014 s (bounds 2 s and 2.3 s)",
                Some(["R5", "Close 1011", "2.012 s to 2.014 s", "2 s and 2.3 s"]),
            ),
            (
                "R13 memory 4.6 MiB (bound 16.0 MiB)",
                Some(["R13", "memory", "4.6 MiB", "16.0 MiB"]),
            ),
            ("R2  RSTs 0 (must be 0)", None),
            ("R2  no value (bound 3 s)", None),
            ("test result: ok. 12 passed", None),
        ] {
            let expected = expected.map(|[rule, what, measured, bound]| Measurement {
                rule,
                what,
                measured,
                bound,
            });
            assert_eq!(Measurement::parse(line), expected, "{line}");
        }
    }

    #[test]
    fn cells_from_reports_and_from_tests_stand_in_the_file_of_the_run() {
        let folder = std::env::temp_dir().join(format!("tidewheel-results-{}", std::process::id()));
        fs::create_dir_all(&folder).unwrap();
        let summaries: Vec<PathBuf> = [3.0, 1.0, 2.0]
            .iter()
            .map(|value| {
                let path = folder.join(format!("summary-{value}.json"));
                fs::write(&path, format!("{{\"figures\": {{\"cpu\": {value}}}}}")).unwrap();
                path
            })
            .collect();
        let target = Target {
            file: folder.join("run.json"),
            benchmark: "bun".to_owned(),
            command: "loadgen echo".to_owned(),
        };
        let cell = |column: &str| LoadgenCell {
            row: "echo".to_owned(),
            column: column.to_owned(),
            value: "cpu".to_owned(),
            unit: Unit::Us,
            summaries: summaries.clone(),
        };
        let read =
            || -> Run { serde_json::from_str(&fs::read_to_string(&target.file).unwrap()).unwrap() };
        target.set_from_loadgen(&cell("tidewheel")).unwrap();
        target.set_from_loadgen(&cell("Bun")).unwrap();
        let run = read();
        assert_eq!(run.rows[0].n, Some(3));
        assert_eq!(run.value("echo", "tidewheel"), Some(2e6));
        assert_eq!(run.value("echo", "Bun"), Some(2e6));
        let output = "R5  gone after 3 s (bound 4 s)\nR8  gone after 1 s (bound 2 s)\n";
        target.set_from_tests(output, &["R8".to_owned()]).unwrap();
        let names: Vec<String> = read().rows.into_iter().map(|row| row.name).collect();
        assert_eq!(names, ["R8: gone after"]);
        assert!(target.set_from_tests("no rule", &[]).is_err());
        fs::remove_dir_all(&folder).unwrap();
    }
}
