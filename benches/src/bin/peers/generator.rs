//! The load generator as a child process of a comparison. It starts the server on another core, and measures its CPU.

use std::{
    env,
    ffi::OsString,
    net::{SocketAddr, TcpListener},
    ops::Range,
    process::{self, Command, ExitCode},
    sync::atomic::{AtomicU16, Ordering},
    time::Duration,
};

use serde_json::Value;

use crate::{
    host,
    server_process::stolen,
    servers::{self, Kind, Settings},
};

/// Subcommand that runs the load generator.
pub(crate) const ARGUMENT: &str = "generator";

/// Ports of servers. By default the kernel gives clients higher ports.
const PORTS: Range<u16> = 10_000..32_000;

/// Report of a run of the load generator.
pub(crate) struct Report {
    /// Text of its `summary.json`.
    document: Value,
    /// Time in which the hypervisor did not run the server's core.
    pub(crate) stolen: Duration,
}

/// Runs the load generator in this process. `arguments` are those after [`ARGUMENT`].
pub(crate) fn main(arguments: Vec<OsString>) -> ExitCode {
    loadgen::main(std::iter::once(OsString::from("loadgen")).chain(arguments))
}

/// Runs a scenario of the load generator against an echo server that it starts.
///
/// # Panics
/// If the load generator prints no report.
pub(crate) fn run(kind: Kind, settings: Settings, scenario: &[&str]) -> Report {
    let (server_core, _) = host::server_and_client_core();
    let program = env::current_exe().expect("this program has a path");
    let address = free_address();
    let server = format!(
        "'{}' {} {kind} echo --listen {address}{}",
        program.display(),
        servers::ARGUMENT,
        settings.arguments(),
    );
    let stolen_before = stolen(server_core);
    let output = Command::new(&program)
        .arg(ARGUMENT)
        .args(scenario)
        .args(["--json", "--url", &format!("ws://{address}/")])
        .args(["--server-cmd", &server])
        .output()
        .expect("this program can be started");
    let document = serde_json::from_slice(&output.stdout).unwrap_or_else(|_| {
        let stderr = String::from_utf8_lossy(&output.stderr);
        panic!("{kind}: {scenario:?} has no report:\n{stderr}");
    });
    Report {
        document,
        stolen: stolen(server_core) - stolen_before,
    }
}

/// Returns a free loopback address with another port each time, so that connections in TIME_WAIT of one run do not
/// affect the next.
fn free_address() -> SocketAddr {
    static TAKEN: AtomicU16 = AtomicU16::new(0);
    // Another process of this program begins at another port.
    let first = PORTS.start + (process::id() % u32::from(PORTS.end - PORTS.start)) as u16;
    let ports = (first..PORTS.end).chain(PORTS);
    let mut addresses = ports
        .skip(usize::from(TAKEN.fetch_add(1, Ordering::Relaxed)))
        .map(|port| SocketAddr::from(([127, 0, 0, 1], port)));
    let free = addresses.find(|address| TcpListener::bind(address).is_ok());
    free.expect("a port is free")
}

impl Report {
    /// Checks that the server did not fail. A run that was limited by the generator passes, because its CPU is still
    /// the CPU of the server. Closes without FIN pass with a message on standard error.
    ///
    /// # Panics
    /// If the server failed.
    pub(crate) fn checked(self, kind: Kind) -> Self {
        let outcome = |name: &str| self.document["outcomes"][name].as_u64();
        let (closed, without_fin) = (outcome("closed"), outcome("fin_timed_out"));
        let ended = closed.zip(without_fin).map(|(some, others)| some + others);
        if without_fin > Some(0) && ended == self.document["connections"].as_u64() {
            let without_fin = without_fin.unwrap_or_default();
            eprintln!("{kind}: {without_fin} closed connections had no FIN in 10 s");
            return self;
        }
        let limit = self.document["invalid"].as_str();
        let failures: Vec<&str> = self.reasons().filter(|it| Some(*it) != limit).collect();
        assert!(
            failures.is_empty(),
            "{kind}: {failures:?} in {:#}",
            self.document
        );
        self
    }

    /// Returns the reasons of failures.
    pub(crate) fn reasons(&self) -> impl Iterator<Item = &str> {
        let reasons = self.document["reasons"].as_array();
        let reasons = reasons.expect("a summary has reasons");
        reasons.iter().filter_map(Value::as_str)
    }

    /// Returns the figure of this name, if the report has it.
    pub(crate) fn find(&self, name: &str) -> Option<f64> {
        self.document["figures"][name].as_f64()
    }

    /// Returns the figure of this name.
    ///
    /// # Panics
    /// If the report does not have it.
    pub(crate) fn figure(&self, name: &str) -> f64 {
        let figure = self.find(name);
        figure.unwrap_or_else(|| panic!("{name} is missing in {:#}", self.document))
    }

    /// Returns a number of a latency that counts from the plan: `count`, or a percentile in nanoseconds.
    ///
    /// # Panics
    /// If the report does not have it.
    pub(crate) fn latency(&self, name: &str, number: &str) -> f64 {
        let number = self.document["latencies"][name]["corrected"][number].as_f64();
        number.unwrap_or_else(|| panic!("{name} is missing in {:#}", self.document))
    }
}
