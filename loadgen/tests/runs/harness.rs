//! Runs the program as a user does.

use std::process::{Command, Output, Stdio};

use serde_json::Value;

/// Returns the command of the program with these arguments. Its output is captured.
pub(crate) fn loadgen(arguments: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_loadgen"));
    command
        .args(arguments)
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped());
    command
}

/// Exit status and document of a run with `--json`.
#[derive(Debug)]
pub(crate) struct Run {
    pub(crate) status: i32,
    pub(crate) document: Value,
}

/// Runs the program with these arguments and `--json`. Standard output has to be one JSON document.
pub(crate) fn run(arguments: &[&str]) -> Run {
    let output = loadgen(arguments).arg("--json").output().unwrap();
    let document = serde_json::from_slice(&output.stdout)
        .unwrap_or_else(|error| panic!("{error}: {}", text(&output)));
    Run {
        status: output.status.code().unwrap(),
        document,
    }
}

/// Returns stdout and stderr of a run.
pub(crate) fn text(output: &Output) -> String {
    let Output { stdout, stderr, .. } = output;
    format!(
        "{}{}",
        String::from_utf8_lossy(stdout),
        String::from_utf8_lossy(stderr)
    )
}

impl Run {
    /// Returns the number at `pointer` (RFC 6901).
    pub(crate) fn number(&self, pointer: &str) -> f64 {
        self.at(pointer)
            .as_f64()
            .unwrap_or_else(|| panic!("{pointer} is not a number in {:#}", self.document))
    }

    /// Returns the value at `pointer` (RFC 6901).
    pub(crate) fn at(&self, pointer: &str) -> &Value {
        self.document
            .pointer(pointer)
            .unwrap_or_else(|| panic!("{pointer} is missing in {:#}", self.document))
    }

    /// Checks that all `connections` had this outcome.
    pub(crate) fn assert_all(&self, outcome: &str, connections: u32) {
        let outcomes = self.at("/outcomes").as_object().unwrap();
        let total: u64 = outcomes.values().map(|count| count.as_u64().unwrap()).sum();
        assert_eq!(total, u64::from(connections), "{outcomes:?}");
        assert_eq!(outcomes[outcome], connections, "{outcomes:?}");
        assert_eq!(*self.at("/connections"), connections);
    }

    fn reasons(&self) -> &[Value] {
        self.at("/reasons").as_array().unwrap()
    }

    /// Returns the reason for which the run is invalid, if it is. It is the first reason if the
    /// verdict is `invalid`, and the last one if the verdict is `failed`.
    fn limit(&self) -> Option<&str> {
        let limit = self.at("/invalid").as_str();
        if let Some(limit) = limit {
            let causes = [" was the limit", "the cause is unknown"];
            let is_known = causes.iter().any(|cause| limit.contains(cause));
            assert!(is_known, "{limit}");
            let position = match self.at("/verdict").as_str() {
                Some("failed") => self.reasons().len() - 1,
                _ => 0,
            };
            assert_eq!(self.reasons()[position], limit);
        }
        limit
    }

    /// Checks that the run passed, or that it is invalid for no other reason than a busy machine.
    /// Even then the outcomes of the connections are valid.
    pub(crate) fn assert_passed(&self) {
        let verdict = self.at("/verdict").as_str().unwrap();
        let reasons = self.at("/reasons").as_array().unwrap();
        match (self.status, verdict, self.limit()) {
            (0, "passed", None) => assert!(reasons.is_empty(), "{reasons:?}"),
            (2, "invalid", Some(_)) => assert_eq!(reasons.len(), 1, "{reasons:?}"),
            _ => panic!("status {} in {:#}", self.status, self.document),
        }
    }

    /// Checks that the run passed, or that it is invalid because this machine was too busy for the
    /// deadlines of the server.
    pub(crate) fn assert_passed_or_starved(&self) {
        if self.status == 2 {
            assert!(self.limit().is_some(), "{:#}", self.document);
            return;
        }
        assert_eq!(self.status, 0, "{:#}", self.document);
    }

    /// Checks that the run failed for these reasons, given by their beginnings. On a busy machine
    /// the run may be invalid instead.
    pub(crate) fn assert_failed(&self, reasons: &[&str]) {
        let verdict = self.at("/verdict").as_str().unwrap();
        let limit = self.limit();
        match (self.status, verdict) {
            (1, "failed") => {}
            (2, "invalid") if limit.is_some() => {}
            _ => panic!("status {} in {:#}", self.status, self.document),
        }
        let given = self.reasons().iter().filter(|it| it.as_str() != limit);
        let given: Vec<&Value> = given.collect();
        let as_expected = given.iter().zip(reasons).all(|(given, expected)| {
            let given = given.as_str().unwrap();
            given.starts_with(expected)
        });
        assert!(as_expected, "{reasons:?} in {:#}", self.document);
        assert_eq!(given.len(), reasons.len(), "{:#}", self.document);
    }

    /// Checks that the run failed for a reason that a late generator cannot excuse.
    pub(crate) fn assert_failed_despite_limit(&self) {
        assert_eq!(self.status, 1, "{:#}", self.document);
        assert_eq!(*self.at("/verdict"), "failed");
    }
}
