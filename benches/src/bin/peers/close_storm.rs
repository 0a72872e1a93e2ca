//! Close storm: all clients leave at one moment, by Close or without a word.

use clap::Args;

use crate::{
    cost::Cost,
    figure::Figure,
    generator,
    rounds::Rounds,
    servers::{Kind, Settings},
};

/// Those that ping do so after so many seconds of silence, wait as long for a pong, and then for a
/// Close.
const DEADLINE: u32 = 1;

/// Who does not let go of silent clients so many seconds after the last deadline, does not notice.
const PATIENCE: u32 = 10;

#[derive(Args)]
pub(crate) struct Options {
    #[command(flatten)]
    rounds: Rounds,
    /// Connections that close
    #[arg(long, value_name = "N", default_value = "10k")]
    connections: String,
    /// Connections that fall silent, in one round of their own; 0 for none
    #[arg(long, value_name = "N", default_value = "1k")]
    silent: String,
}

/// What was measured of one server in one round.
struct Storm {
    cost: Cost,
    /// From the plan to FIN, in milliseconds.
    p50: f64,
    p99: f64,
}

/// Lets all servers have their turn in each round, and prints a table.
pub(crate) fn compare(options: &Options) {
    let what = format!("Close storm, {} connections", options.connections);
    options.rounds.report(&what, || {
        let measured = options.rounds.measure(Kind::SERVERS, |kind, turn| {
            let storm = measure(kind, options);
            turn.tell(kind, &storm.cost.told());
            storm
        });
        println!(
            "| |{} plan to FIN: p50, ms | p99, ms | when {} fall silent |",
            Cost::head("close"),
            options.silent
        );
        println!("|---|{}", "--:|".repeat(Cost::COLUMNS + 3));
        for (kind, rounds) in measured.iter() {
            let cost = Cost::cells(rounds, &measured, |it| &it.cost);
            let p50 = Figure::new(rounds, |it| it.p50);
            let p99 = Figure::new(rounds, |it| it.p99);
            let silent = silence(kind, options);
            println!("| {kind} |{cost} {p50:.1} | {p99:.1} | {silent} |");
        }
    });
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
        p50: report.latency("fin", "p50") / 1e6,
        p99: report.latency("fin", "p99") / 1e6,
    }
}

/// Until when a server holds clients that have fallen silent, as text.
fn silence(kind: Kind, options: &Options) -> String {
    if options.silent == "0" {
        return String::new();
    }
    let (deadline, timeout) = (format!("{DEADLINE}s"), format!("{PATIENCE}s"));
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
        ping_interval: Some(DEADLINE),
        patience: Some(DEADLINE),
    };
    let report = generator::run(kind, settings, &scenario);
    match report.find("emptied.seconds") {
        Some(seconds) => format!("all gone after {seconds:.2} s"),
        None => {
            let holds = |reason: &str| reason.contains("still holds connections");
            assert!(
                report.reasons().any(holds),
                "{kind} holds none, or was not asked"
            );
            format!("still held after {PATIENCE} s")
        }
    }
}
