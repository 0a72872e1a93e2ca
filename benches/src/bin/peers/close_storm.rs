//! Close storm: CPU and latency when all clients send Close at the same moment, and the detection of silent clients.

use benches::results::Run;
use clap::Args;

use crate::{
    cost::{Cost, figure},
    generator,
    schedule::{Measurements, Schedule},
    servers::{Kind, Settings},
};

/// Ping interval, ping timeout and close timeout in seconds, of servers that have them.
const DEADLINE_S: u32 = 1;

/// Seconds after the last deadline in which a server must have closed silent clients.
const DETECTION_S_MAX: u32 = 10;

#[derive(Args)]
pub(crate) struct Options {
    #[command(flatten)]
    schedule: Schedule,
    /// Connections that close
    #[arg(long, value_name = "N", default_value = "10k")]
    connections: String,
    /// Connections that fall silent, in one more run of each server; 0 for none
    #[arg(long, value_name = "N", default_value = "1k")]
    silent: String,
}

/// Measurements of one server in one round.
struct Storm {
    cost: Cost,
    /// Time from the planned moment of a close to FIN, in milliseconds.
    p50_ms: f64,
    p99_ms: f64,
}

/// Measures all servers, and prints a table.
pub(crate) fn compare(options: &Options) {
    let title = format!("Close storm, {} connections", options.connections);
    options.schedule.report("close-storm", &title, |run| {
        let measured = options.schedule.measure(Kind::SERVERS, |kind, round| {
            let storm = measure(kind, options);
            round.log(kind, &storm.cost.summary());
            storm
        });
        print(&measured, options, run);
    });
}

fn print(measured: &Measurements<Storm>, options: &Options, run: &mut Run) {
    println!(
        "| |{} plan to FIN: p50, ms | p99, ms | when {} fall silent |",
        Cost::head("close"),
        options.silent
    );
    println!("|---|{}", "--:|".repeat(Cost::COLUMNS + 3));
    for (kind, rounds) in measured.iter() {
        let cost = Cost::cells(rounds, measured, |it| &it.cost);
        let p50 = figure(rounds, |it| it.p50_ms);
        let p99 = figure(rounds, |it| it.p99_ms);
        let silent = silent_clients(kind, options);
        println!("| {kind} |{cost} {p50:.1} | {p99:.1} | {silent} |");
        let (n, column) = (rounds.len(), kind.to_string());
        run.add("close, us", n, &column, figure(rounds, |it| it.cost.cpu_us));
        run.add("plan to FIN, p99, ms", n, &column, p99);
        run.add("silent clients", 1, &column, silent);
    }
}

fn measure(kind: Kind, options: &Options) -> Storm {
    let scenario = ["close-storm", "--connections", &options.connections];
    let settings = Settings {
        many: true,
        ..Settings::default()
    };
    let report = generator::run(kind, settings, &scenario).checked(kind);
    Storm {
        cost: Cost::of(&report, report.latency("fin", "count")),
        p50_ms: report.latency("fin", "p50") / 1e6,
        p99_ms: report.latency("fin", "p99") / 1e6,
    }
}

/// Returns the time after which a server has closed all silent clients, or that it still has them.
fn silent_clients(kind: Kind, options: &Options) -> String {
    if options.silent == "0" {
        return String::new();
    }
    let (deadline, timeout) = (format!("{DEADLINE_S}s"), format!("{DETECTION_S_MAX}s"));
    let scenario = [
        "close-storm",
        "--mode",
        "silent",
        "--connections",
        &options.silent,
        "--timeout",
        &timeout,
        "--ping-interval",
        &deadline,
        "--ping-timeout",
        &deadline,
        "--close-timeout",
        &deadline,
    ];
    let settings = Settings {
        many: true,
        ping_interval: Some(DEADLINE_S),
        timeout: Some(DEADLINE_S),
    };
    let report = generator::run(kind, settings, &scenario);
    match report.find("emptied.seconds") {
        Some(seconds) => format!("gone after {seconds:.2} s"),
        None => {
            let holds = |reason: &str| reason.contains("still holds connections");
            assert!(
                report.reasons().any(holds),
                "{kind}: the report has neither the time nor the reason of a failure"
            );
            format!("held after {DETECTION_S_MAX} s")
        }
    }
}
