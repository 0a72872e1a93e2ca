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

    /// Checks that every connection ended as asked for. On a busy machine the generator may be
    /// the limit: then it says so, and what it says about the connections is true all the same.
    pub(crate) fn assert_as_asked(&self) {
        let verdict = self.at("/verdict").as_str().unwrap();
        match (self.status, verdict) {
            (0, "passed") => assert_eq!(*self.at("/reasons"), Value::Array(Vec::new())),
            (2, "invalid") => {
                let reasons = self.at("/reasons").as_array().unwrap();
                assert_eq!(reasons.len(), 1, "{reasons:?}");
                let reason = reasons[0].as_str().unwrap();
                assert!(
                    reason.starts_with("the generator was the limit"),
                    "{reason}"
                );
            }
            _ => panic!("status {} in {:#}", self.status, self.document),
        }
    }

    /// Checks that every connection ended as asked for, unless this machine was too busy for the
    /// server's deadlines, which the run then says.
    pub(crate) fn assert_ends_as_asked(&self) {
        if self.status == 2 {
            let reason = self.at("/reasons/0").as_str().unwrap();
            assert!(reason.contains("was the limit"), "{:#}", self.document);
            return;
        }
        assert_eq!(self.status, 0, "{:#}", self.document);
    }

    /// Checks that the run failed, for these reasons. On a busy machine the generator may have been
    /// the limit as well, which is told first.
    pub(crate) fn assert_failed(&self, reasons: &[&str]) {
        let told = self.at("/reasons").as_array().unwrap();
        let verdict = self.at("/verdict").as_str().unwrap();
        let failures = match (self.status, verdict) {
            (1, "failed") => &told[..],
            (2, "invalid") => {
                let reason = told[0].as_str().unwrap();
                assert!(
                    reason.starts_with("the generator was the limit"),
                    "{reason}"
                );
                &told[1..]
            }
            _ => panic!("status {} in {:#}", self.status, self.document),
        };
        assert_eq!(failures, reasons, "{:#}", self.document);
    }
}
