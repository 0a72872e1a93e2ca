//! The load generator, as a child of the comparison: it starts the server, keeps it to a core of
//! its own, and accounts for it.

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
    child::stolen,
    cores,
    servers::{self, Kind, Settings},
};

/// The subcommand that turns this program into the generator.
pub(crate) const ARGUMENT: &str = "generator";

/// Servers listen on these ports; clients' own are above them, as the kernel is set by default.
const PORTS: Range<u16> = 10_000..32_000;

/// What a run has found.
pub(crate) struct Report {
    /// Its summary.json.
    document: Value,
    /// For how long the server's core was not let run.
    pub(crate) stolen: Duration,
}

/// Runs the generator in this process; `arguments` are those behind [`ARGUMENT`].
pub(crate) fn main(arguments: Vec<OsString>) -> ExitCode {
    loadgen::main(std::iter::once(OsString::from("loadgen")).chain(arguments))
}

/// Lets the generator start a server that echoes, and run a scenario on it.
///
/// # Panics
/// If there is nothing to report.
pub(crate) fn run(kind: Kind, settings: Settings, scenario: &[&str]) -> Report {
    let (server_core, _) = cores::pick();
    let program = env::current_exe().expect("this program is a file");
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
        .expect("this program can be run");
    let document = serde_json::from_slice(&output.stdout).unwrap_or_else(|_| {
        let said = String::from_utf8_lossy(&output.stderr);
        panic!("{kind}: {scenario:?} has no result:\n{said}");
    });
    Report {
        document,
        stolen: stolen(server_core) - stolen_before,
    }
}

/// An address that nobody listens at, another each time: what is left of the last run's connections
/// (TIME_WAIT) is of no concern to the next.
fn free_address() -> SocketAddr {
    static TAKEN: AtomicU16 = AtomicU16::new(0);
    // Others that compare at the same time begin elsewhere.
    let first = PORTS.start + (process::id() % u32::from(PORTS.end - PORTS.start)) as u16;
    let ports = (first..PORTS.end).chain(PORTS);
    let mut addresses = ports
        .skip(usize::from(TAKEN.fetch_add(1, Ordering::Relaxed)))
        .map(|port| SocketAddr::from(([127, 0, 0, 1], port)));
    let free = addresses.find(|address| TcpListener::bind(address).is_ok());
    free.expect("not all ports are taken")
}

impl Report {
    /// Makes sure that the server did all that was asked of it, but that it may have left out FIN
    /// where clients closed; who does that is told of. That the generator was the limit is no
    /// failure of the server's; what it costs is what was measured all the same.
    ///
    /// # Panics
    /// If it did not.
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

    /// Why it was not as asked for.
    pub(crate) fn reasons(&self) -> impl Iterator<Item = &str> {
        let reasons = self.document["reasons"].as_array();
        let reasons = reasons.expect("a summary has reasons");
        reasons.iter().filter_map(Value::as_str)
    }

    /// The figure of this name, if there is such.
    pub(crate) fn find(&self, name: &str) -> Option<f64> {
        self.document["figures"][name].as_f64()
    }

    /// The figure of this name.
    ///
    /// # Panics
    /// If the scenario does not tell it.
    pub(crate) fn figure(&self, name: &str) -> f64 {
        let figure = self.find(name);
        figure.unwrap_or_else(|| panic!("{name} is missing in {:#}", self.document))
    }

    /// A number of the latency of this name, counted from the plan: `count`, or a percentile in
    /// nanoseconds.
    ///
    /// # Panics
    /// If the scenario does not tell it.
    pub(crate) fn latency(&self, name: &str, number: &str) -> f64 {
        let number = self.document["latencies"][name]["corrected"][number].as_f64();
        number.unwrap_or_else(|| panic!("{name} is missing in {:#}", self.document))
    }
}
