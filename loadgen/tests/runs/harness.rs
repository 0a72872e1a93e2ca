//! Runs the generator as a user does.

use std::process::{Command, Output, Stdio};

use serde_json::Value;

/// The generator with these arguments, its output captured.
pub(crate) fn loadgen(arguments: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_loadgen"));
    command
        .args(arguments)
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped());
    command
}

/// What a run with `--json` printed.
#[derive(Debug)]
pub(crate) struct Run {
    pub(crate) status: i32,
    pub(crate) document: Value,
}

/// Runs with `--json` besides these arguments; standard output holds one document.
pub(crate) fn run(arguments: &[&str]) -> Run {
    let output = loadgen(arguments).arg("--json").output().unwrap();
    let document = serde_json::from_slice(&output.stdout)
        .unwrap_or_else(|error| panic!("{error}: {}", text(&output)));
    Run {
        status: output.status.code().unwrap(),
        document,
    }
}

/// All that a run printed.
pub(crate) fn text(output: &Output) -> String {
    let Output { stdout, stderr, .. } = output;
    format!(
        "{}{}",
        String::from_utf8_lossy(stdout),
        String::from_utf8_lossy(stderr)
    )
}

impl Run {
    /// The number at `pointer` (RFC 6901).
    pub(crate) fn number(&self, pointer: &str) -> f64 {
        self.at(pointer)
            .as_f64()
            .unwrap_or_else(|| panic!("{pointer} is no number in {:#}", self.document))
    }

    /// The value at `pointer` (RFC 6901).
    pub(crate) fn at(&self, pointer: &str) -> &Value {
        self.document
            .pointer(pointer)
            .unwrap_or_else(|| panic!("{pointer} is missing in {:#}", self.document))
    }

    /// Checks that all `connections` had this outcome, and none another.
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

    /// The reason for which the run says nothing about the server, if so: it is told first where the verdict follows from it, and
    /// last where the server failed.
    fn limit(&self) -> Option<&str> {
        let limit = self.at("/invalid").as_str();
        if let Some(limit) = limit {
            let is_told = [" was the limit", "the generator was late"];
            let is_told = is_told.iter().any(|told| limit.contains(told));
            assert!(is_told, "{limit}");
            let place = match self.at("/verdict").as_str() {
                Some("failed") => self.reasons().len() - 1,
                _ => 0,
            };
            assert_eq!(self.reasons()[place], limit);
        }
        limit
    }

    /// Checks that every connection ended as asked for. On a busy machine the generator may be
    /// the limit: then it says so, and what it says about the connections is true all the same.
    pub(crate) fn assert_as_asked(&self) {
        let verdict = self.at("/verdict").as_str().unwrap();
        let reasons = self.at("/reasons").as_array().unwrap();
        match (self.status, verdict, self.limit()) {
            (0, "passed", None) => assert!(reasons.is_empty(), "{reasons:?}"),
            (2, "invalid", Some(_)) => assert_eq!(reasons.len(), 1, "{reasons:?}"),
            _ => panic!("status {} in {:#}", self.status, self.document),
        }
    }

    /// Checks that every connection ended as asked for, unless this machine was too busy for the
    /// server's deadlines, which the run then says.
    pub(crate) fn assert_ends_as_asked(&self) {
        if self.status == 2 {
            assert!(self.limit().is_some(), "{:#}", self.document);
            return;
        }
        assert_eq!(self.status, 0, "{:#}", self.document);
    }

    /// Checks that the run failed, for reasons that begin so. On a busy machine the generator may have
    /// been the limit as well, and may be why it failed.
    pub(crate) fn assert_failed(&self, reasons: &[&str]) {
        let verdict = self.at("/verdict").as_str().unwrap();
        let limit = self.limit();
        match (self.status, verdict) {
            (1, "failed") => {}
            (2, "invalid") if limit.is_some() => {}
            _ => panic!("status {} in {:#}", self.status, self.document),
        }
        let told = self.reasons().iter().filter(|it| it.as_str() != limit);
        let told: Vec<&Value> = told.collect();
        let as_expected = told.iter().zip(reasons).all(|(told, expected)| {
            let told = told.as_str().unwrap();
            told.starts_with(expected)
        });
        assert!(as_expected, "{reasons:?} in {:#}", self.document);
        assert_eq!(told.len(), reasons.len(), "{:#}", self.document);
    }

    /// Checks that the run failed for one of the reasons that no limit of the generator excuses.
    pub(crate) fn assert_failed_whatever_the_limit(&self) {
        assert_eq!(self.status, 1, "{:#}", self.document);
        assert_eq!(*self.at("/verdict"), "failed");
    }
}
