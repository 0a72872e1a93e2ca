//! The document that a run leaves: `--json` prints it, `--out` keeps it, `--baseline` reads it.
//!
//! Its fields are a contract. A reader must ignore what it does not know; `schema` changes when a
//! field goes or changes its meaning.

use std::{
    collections::{BTreeMap, BTreeSet},
    fs, io,
    net::SocketAddr,
    path::Path,
};

use serde::{Deserialize, Serialize};

use crate::{
    gate::{Gate, GateResult},
    judgement::Verdict,
    latency::{Latency, Percentiles},
    names::CONNECTIONS,
};

/// The version of the document.
pub(crate) const SCHEMA: u32 = 1;

/// What a run has found.
#[derive(Clone, Debug, Deserialize, Serialize)]
pub(crate) struct Summary {
    pub(crate) schema: u32,
    /// The version of the generator.
    pub(crate) version: String,
    /// The name on the command line.
    pub(crate) scenario: String,
    /// What was asked for: options by name.
    pub(crate) settings: BTreeMap<String, String>,
    pub(crate) server: ServerIdentity,
    pub(crate) generator: GeneratorIdentity,
    /// How many connections were begun; the outcomes add up to it.
    pub(crate) connections: u64,
    /// How many connections ended in each way.
    pub(crate) outcomes: BTreeMap<String, u64>,
    /// Latencies by name, in nanoseconds.
    pub(crate) latencies: BTreeMap<String, LatencySummary>,
    /// Figures by name: seconds, bytes, shares of 1, counts, or counts in a second.
    pub(crate) figures: BTreeMap<String, f64>,
    /// What `--assert` asked for, and what came of it.
    pub(crate) gates: Vec<GateResult>,
    pub(crate) verdict: Verdict,
    /// One sentence each; none if the run passed.
    pub(crate) reasons: Vec<String>,
    /// Why the run says nothing about the server, if so, whatever the verdict; the first of the reasons.
    #[serde(default)]
    pub(crate) invalid: Option<String>,
    /// Notes on the run, a sentence each, whatever the verdict.
    #[serde(default)]
    pub(crate) notes: Vec<String>,
    /// Runs before this one that said nothing about the server.
    #[serde(default)]
    pub(crate) discarded: Vec<Discarded>,
}

/// A run that said nothing about the server, and was repeated with a longer window.
#[derive(Clone, Debug, Deserialize, PartialEq, Serialize)]
pub(crate) struct Discarded {
    /// The time that the ends were spread over.
    pub(crate) window_seconds: f64,
    /// Why it said nothing.
    pub(crate) reason: String,
}

/// The server under test.
#[derive(Clone, Debug, Deserialize, Serialize)]
pub(crate) struct ServerIdentity {
    pub(crate) address: SocketAddr,
    /// Whether it was started by the generator.
    pub(crate) child: bool,
    pub(crate) process_id: Option<i32>,
    pub(crate) core: Option<usize>,
    /// How many connections it reports to have ended, by cause.
    pub(crate) causes: BTreeMap<String, u64>,
}

/// The generator.
#[derive(Clone, Debug, Deserialize, Serialize)]
pub(crate) struct GeneratorIdentity {
    pub(crate) core: Option<usize>,
    /// What all that is random followed from.
    pub(crate) seed: u64,
    /// The rings that its connections are spread over.
    pub(crate) rings: usize,
}

/// One latency, told twice.
#[derive(Clone, Debug, Deserialize, Serialize)]
pub(crate) struct LatencySummary {
    /// From the planned moment.
    pub(crate) corrected: Percentiles,
    /// From the actual send; absent where that is not another moment.
    pub(crate) uncorrected: Option<Percentiles>,
    /// Points of the corrected percentile curve: the number of nines, and the latency.
    pub(crate) curve: Vec<(f64, u64)>,
}

impl LatencySummary {
    pub(crate) fn of(latency: &Latency) -> Self {
        let uncorrected = latency.uncorrected.percentiles();
        Self {
            corrected: latency.corrected.percentiles(),
            uncorrected: (uncorrected.count > 0).then_some(uncorrected),
            curve: latency.corrected.curve(),
        }
    }
}

/// Why a baseline cannot be compared with.
#[derive(Debug, thiserror::Error)]
pub(crate) enum BaselineError {
    /// It cannot be read.
    #[error(
        "the baseline {path} cannot be read: {error}; write the path of a summary.json that --out has written"
    )]
    Read {
        /// Which.
        path: String,
        /// The reason.
        error: io::Error,
    },
    /// It is not such a document.
    #[error("the baseline {path} is not a summary.json as --out writes it: {error}")]
    Parse {
        /// Which.
        path: String,
        /// The reason.
        error: serde_json::Error,
    },
    /// It has not what a gate compares with.
    #[error("the baseline {path} cannot be compared with: {error}")]
    Gate {
        /// Which.
        path: String,
        /// The figure that is missing.
        error: String,
    },
    /// It says something else.
    #[error("the baseline {path} is of scenario {got}, this run is of {wanted}")]
    Scenario {
        /// Which.
        path: String,
        /// Its scenario.
        got: String,
        /// That of this run.
        wanted: &'static str,
    },
}

impl Summary {
    /// Reads the document of an earlier run of the same scenario.
    ///
    /// # Errors
    /// If there is none.
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

    /// Checks that a baseline has what each relative gate compares with.
    ///
    /// # Errors
    /// If it has not.
    pub(crate) fn check(&self, path: &Path, gates: &[Gate]) -> Result<(), BaselineError> {
        gates
            .iter()
            .try_for_each(|gate| gate.check_baseline(self))
            .map_err(|error| BaselineError::Gate {
                path: path.display().to_string(),
                error,
            })
    }

    /// Differences that make this run hard to compare with `baseline`, a sentence each.
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

    /// The document as text.
    pub(crate) fn to_json(&self) -> String {
        serde_json::to_string_pretty(self).expect("a summary has text keys only")
    }
}
