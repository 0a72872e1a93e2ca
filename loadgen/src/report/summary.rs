//! The JSON document of a run: `--json` prints it, `--out` writes it, and `--baseline` reads it.
//!
//! Its fields are an interface. A reader must ignore unknown fields; `schema` changes when a field is
//! removed or changes its meaning.

use std::{
    collections::{BTreeMap, BTreeSet},
    fs, io,
    net::SocketAddr,
    path::Path,
};

use serde::{Deserialize, Serialize};

use crate::{
    measure::latency::{Latency, Percentiles},
    report::{
        judgement::Verdict,
        metric_names::{CONNECTIONS, MetricNames},
        threshold::{Threshold, ThresholdResult},
    },
};

/// Version of the document.
pub(crate) const SCHEMA: u32 = 1;

/// Results of a run.
#[derive(Clone, Debug, Deserialize, Serialize)]
pub(crate) struct Summary {
    pub(crate) schema: u32,
    /// Version of the generator.
    pub(crate) version: String,
    /// Name of the scenario on the command line.
    pub(crate) scenario: String,
    /// Values of options, by name.
    pub(crate) settings: BTreeMap<String, String>,
    pub(crate) server: ServerIdentity,
    pub(crate) generator: GeneratorIdentity,
    /// Number of connections; the sum of all outcomes.
    pub(crate) connections: u64,
    /// Number of connections by outcome.
    pub(crate) outcomes: BTreeMap<String, u64>,
    /// Latencies by name, in nanoseconds.
    pub(crate) latencies: BTreeMap<String, LatencySummary>,
    /// Figures by name: seconds, bytes, fractions of 1, counts, or counts per second.
    pub(crate) figures: BTreeMap<String, f64>,
    /// Results of the thresholds of `--assert`.
    pub(crate) gates: Vec<ThresholdResult>,
    pub(crate) verdict: Verdict,
    /// Reasons of the verdict, a sentence each; none if the run passed.
    pub(crate) reasons: Vec<String>,
    /// Reason if the run says nothing about the server, whatever the verdict.
    #[serde(default)]
    pub(crate) invalid: Option<String>,
    /// Notes on the run, a sentence each.
    #[serde(default)]
    pub(crate) notes: Vec<String>,
    /// Earlier attempts that said nothing about the server.
    #[serde(default)]
    pub(crate) discarded: Vec<Discarded>,
}

/// A run that said nothing about the server, and was repeated with a longer window.
#[derive(Clone, Debug, Deserialize, PartialEq, Serialize)]
pub(crate) struct Discarded {
    /// Time over which the ends were spread, in seconds.
    pub(crate) window_seconds: f64,
    /// Reason why it said nothing.
    pub(crate) reason: String,
}

/// The server under test.
#[derive(Clone, Debug, Deserialize, Serialize)]
pub(crate) struct ServerIdentity {
    pub(crate) address: SocketAddr,
    /// Whether the generator started it.
    pub(crate) child: bool,
    pub(crate) process_id: Option<i32>,
    pub(crate) core: Option<usize>,
    /// Number of connections that ended, by cause, from the server's report.
    pub(crate) causes: BTreeMap<String, u64>,
}

/// The generator.
#[derive(Clone, Debug, Deserialize, Serialize)]
pub(crate) struct GeneratorIdentity {
    pub(crate) core: Option<usize>,
    /// Seed of all random choices.
    pub(crate) seed: u64,
    /// Number of rings.
    pub(crate) rings: usize,
}

/// Percentiles of one latency.
#[derive(Clone, Debug, Deserialize, Serialize)]
pub(crate) struct LatencySummary {
    /// From the planned moment.
    pub(crate) corrected: Percentiles,
    /// From the actual send, if that is another moment.
    pub(crate) uncorrected: Option<Percentiles>,
    /// Points of the corrected percentile curve: number of nines of the percentile, and latency in
    /// nanoseconds.
    pub(crate) curve: Vec<(f64, u64)>,
}

impl LatencySummary {
    /// Summarises a latency.
    pub(crate) fn of(latency: &Latency) -> Self {
        let uncorrected = latency.uncorrected.percentiles();
        Self {
            corrected: latency.corrected.percentiles(),
            uncorrected: (uncorrected.count > 0).then_some(uncorrected),
            curve: latency.corrected.curve(),
        }
    }
}

/// An error of the baseline.
#[derive(Debug, thiserror::Error)]
pub(crate) enum BaselineError {
    /// The file cannot be read.
    #[error(
        "the baseline {path} cannot be read: {error}; give the path of a summary.json that --out has written"
    )]
    Read {
        /// Path of the file.
        path: String,
        /// Cause.
        error: io::Error,
    },
    /// The file is not a summary.
    #[error("the baseline {path} is not a summary.json of --out: {error}")]
    Parse {
        /// Path of the file.
        path: String,
        /// Cause.
        error: serde_json::Error,
    },
    /// The baseline lacks a value that a threshold compares with.
    #[error("the baseline {path} cannot be used: {error}")]
    Gate {
        /// Path of the file.
        path: String,
        /// Message about the missing value.
        error: String,
    },
    /// The baseline is of another scenario.
    #[error("the baseline {path} is of scenario {got}, this run is of {wanted}")]
    Scenario {
        /// Path of the file.
        path: String,
        /// Scenario of the baseline.
        got: String,
        /// Scenario of this run.
        wanted: &'static str,
    },
}

impl Summary {
    /// Reads the document of an earlier run of the same scenario.
    ///
    /// # Errors
    /// If the file is not the summary of such a run.
    pub(crate) fn read(path: &Path, scenario: &'static str) -> Result<Self, BaselineError> {
        let name = || path.display().to_string();
        let text = fs::read_to_string(path).map_err(|error| BaselineError::Read {
            path: name(),
            error,
        })?;
        let summary: Self = serde_json::from_str(&text).map_err(|error| BaselineError::Parse {
            path: name(),
            error,
        })?;
        if summary.scenario != scenario {
            return Err(BaselineError::Scenario {
                path: name(),
                got: summary.scenario,
                wanted: scenario,
            });
        }
        Ok(summary)
    }

    /// Checks that this baseline has the value of each relative threshold.
    ///
    /// # Errors
    /// If a value is missing.
    pub(crate) fn check(&self, path: &Path, gates: &[Threshold]) -> Result<(), BaselineError> {
        let missing = gates
            .iter()
            .find(|gate| gate.is_relative() && self.value(gate.name()).is_none());
        match missing {
            None => Ok(()),
            Some(gate) => Err(BaselineError::Gate {
                path: path.display().to_string(),
                error: gate.missing_in_baseline(),
            }),
        }
    }

    /// Compares the value of this run with a threshold; `names` are the metrics of the run.
    pub(crate) fn evaluate(
        &self,
        gate: &Threshold,
        baseline: Option<&Self>,
        names: &MetricNames,
    ) -> ThresholdResult {
        let name = gate.name();
        let kind = names.kind(name);
        gate.evaluate(
            self.value(name),
            baseline.and_then(|baseline| baseline.value(name)),
            kind.map(|kind| kind.unit),
        )
    }

    /// Returns the value of a figure, an outcome or a percentile.
    fn value(&self, name: &str) -> Option<f64> {
        if let Some(value) = self.figures.get(name) {
            return Some(*value);
        }
        if let Some(count) = self.outcomes.get(name) {
            return Some(*count as f64);
        }
        if name == CONNECTIONS {
            return Some(self.connections as f64);
        }
        let (latency, rest) = name.split_once('.')?;
        let latency = self.latencies.get(latency)?;
        let (percentiles, rest) = match rest.strip_prefix("uncorrected.") {
            Some(rest) => (latency.uncorrected.as_ref()?, rest),
            None => (
                &latency.corrected,
                rest.strip_prefix("corrected.").unwrap_or(rest),
            ),
        };
        let value = percentiles.get(rest)? as f64;
        match rest {
            "count" => Some(value),
            _ => Some(value / 1e9),
        }
    }

    /// Returns the differences that make this run hard to compare with `baseline`, a sentence each.
    pub(crate) fn differences(&self, baseline: &Self) -> Vec<String> {
        let mut notes = Vec::new();
        if let Some(reason) = &baseline.invalid {
            notes.push(format!("the baseline is of an INVALID run: {reason}"));
        }
        let mut compare = |name: &str, before: Option<&str>, now: Option<&str>| {
            if before != now {
                let (before, now) = (before.unwrap_or("not set"), now.unwrap_or("not set"));
                notes.push(format!(
                    "the baseline is of another run: {name} was {before}, and is {now}"
                ));
            }
        };
        let connections = [baseline, self].map(|it| it.connections.to_string());
        compare(CONNECTIONS, Some(&connections[0]), Some(&connections[1]));
        let names = baseline.settings.keys().chain(self.settings.keys());
        for name in names.collect::<BTreeSet<_>>() {
            let [before, now] = [baseline, self].map(|it| it.settings.get(name));
            compare(name, before.map(String::as_str), now.map(String::as_str));
        }
        notes
    }

    /// Returns the document as text.
    pub(crate) fn to_json(&self) -> String {
        serde_json::to_string_pretty(self).expect("a summary has text keys only")
    }
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;
    use crate::report::metric_names::tests::names;

    /// A summary with a latency, a figure and an outcome.
    pub(crate) fn summary(p99_millis: u64) -> Summary {
        let percentiles = Percentiles {
            count: 100,
            p99: p99_millis * 1_000_000,
            p99_9: 2 * p99_millis * 1_000_000,
            ..Percentiles::default()
        };
        let latency = LatencySummary {
            corrected: percentiles,
            uncorrected: None,
            curve: vec![(0.0, 1), (1.0, 2)],
        };
        Summary {
            schema: SCHEMA,
            version: "0".to_owned(),
            scenario: "echo".to_owned(),
            settings: [].into(),
            server: ServerIdentity {
                address: "127.0.0.1:1".parse().unwrap(),
                child: true,
                process_id: Some(1),
                core: None,
                causes: [].into(),
            },
            generator: GeneratorIdentity {
                core: None,
                seed: 1,
                rings: 1,
            },
            connections: 3,
            outcomes: [("closed".to_owned(), 3)].into(),
            latencies: [("echo".to_owned(), latency)].into(),
            figures: [
                ("lost".to_owned(), 0.0),
                ("server.bytes_per_connection".to_owned(), 180.0),
            ]
            .into(),
            gates: Vec::new(),
            verdict: Verdict::Passed,
            reasons: Vec::new(),
            invalid: None,
            notes: Vec::new(),
            discarded: Vec::new(),
        }
    }

    fn holds(gate: &str, baseline: Option<&Summary>) -> bool {
        let gate: Threshold = gate.parse().unwrap();
        summary(10).evaluate(&gate, baseline, &names()).passed
    }

    #[test]
    fn absolute_thresholds_are_compared_in_base_units() {
        for gate in [
            "echo.p99<50ms",
            "echo.p99.9<=20ms",
            "echo.corrected.p99 == 10 ms",
            "echo.count==100",
            "lost==0",
            "closed==3",
            "connections>2",
            "server.bytes_per_connection<0.2KiB",
            "echo.p99!=11ms",
        ] {
            assert!(holds(gate, None), "{gate}");
        }
        for gate in ["echo.p99<10ms", "lost>0", "closed>=4"] {
            assert!(!holds(gate, None), "{gate}");
        }
    }

    #[test]
    fn a_relative_threshold_has_a_ratio_and_a_floor() {
        let baseline = summary(8);
        assert!(holds("echo.p99<=1.25x", Some(&baseline)));
        assert!(!holds("echo.p99<=1.15x", Some(&baseline)));
        assert!(holds("echo.p99<=1.15x+2ms", Some(&baseline)));
        assert!(!holds("echo.p99<=2x", None));
    }

    #[test]
    fn a_threshold_without_a_value_fails() {
        for gate in ["ehco.p99<1s", "echo.uncorrected.p99<1s", "echo.rate>1/s"] {
            let gate: Threshold = gate.parse().unwrap();
            let result = summary(10).evaluate(&gate, None, &names());
            assert!(!result.passed && result.error.is_some(), "{gate:?}");
        }
    }

    #[test]
    fn a_result_shows_values_with_their_units() {
        let baseline = summary(8);
        for (gate, expected) in [
            (
                "echo.p99<50ms",
                "holds  echo.p99<50ms  (measured 10 ms, limit 50 ms, baseline 8 ms)",
            ),
            (
                "echo.p99<9.5ms",
                "FAILS  echo.p99<9.5ms  (measured 10 ms, limit 9.5 ms, baseline 8 ms)",
            ),
            (
                "echo.p99<=1x+1ms",
                "FAILS  echo.p99<=1x+1ms  (measured 10 ms, limit 9 ms, baseline 8 ms)",
            ),
            (
                "lost==0",
                "holds  lost==0  (measured 0, limit 0, baseline 0)",
            ),
            (
                "server.bytes_per_connection<1KiB",
                "holds  server.bytes_per_connection<1KiB  (measured 0.17578 KiB, limit 1 KiB, \
                 baseline 0.17578 KiB)",
            ),
            (
                "server.bytes_per_connection<2000B",
                "holds  server.bytes_per_connection<2000B  (measured 180 B, limit 2000 B, baseline \
                 180 B)",
            ),
            (
                "server.bytes_per_connection<=2x",
                "holds  server.bytes_per_connection<=2x  (measured 180 B, limit 360 B, baseline 180 B)",
            ),
        ] {
            let gate: Threshold = gate.parse().unwrap();
            let result = summary(10).evaluate(&gate, Some(&baseline), &names());
            assert_eq!(result.to_string(), expected);
        }
    }

    #[test]
    fn a_baseline_without_the_value_of_a_relative_threshold_is_refused() {
        let check = |gate: &str| {
            let gates = [gate.parse().unwrap()];
            summary(8).check(Path::new("b"), &gates)
        };
        let message = check("echo.rate>=0.9x").unwrap_err().to_string();
        let expected = "there is no echo.rate in the baseline";
        assert!(message.ends_with(expected), "{message}");
        assert!(check("echo.p99<=2x").is_ok());
        assert!(check("echo.rate>=5/s").is_ok());
    }
}
