//! Connect: CPU of each opening handshake.

use clap::Args;

use crate::{
    cost::{Cost, figure, median},
    generator,
    schedule::Schedule,
    servers::{Kind, Settings},
};

#[derive(Args)]
pub(crate) struct Options {
    #[command(flatten)]
    schedule: Schedule,
    /// Connections to open without a pause, at most 256 of them at the same time
    #[arg(long, value_name = "N", default_value = "10k")]
    connections: String,
}

/// Measurements of one server in one round.
struct Handshakes {
    cost: Cost,
    /// Handshakes a second.
    rate: f64,
}

/// Measures all servers, and prints a table.
pub(crate) fn compare(options: &Options) {
    let title = format!(
        "Connect, {} connections, the opening handshake and nothing else",
        options.connections
    );
    options.schedule.report("connect", &title, |run| {
        let measured = options.schedule.measure(Kind::SERVERS, |kind, round| {
            let handshakes = measure(kind, options);
            round.log(kind, &handshakes.cost.summary());
            handshakes
        });
        println!("| |{} connections/s |", Cost::head("connection"));
        println!("|---|{}", "--:|".repeat(Cost::COLUMNS + 1));
        for (kind, rounds) in measured.iter() {
            let cost = Cost::cells(rounds, &measured, |it| &it.cost);
            println!("| {kind} |{cost} {:.0} |", median(rounds, |it| it.rate));
            let cpu = figure(rounds, |it| it.cost.cpu_us);
            run.add("handshake, us", rounds.len(), &kind.to_string(), cpu);
        }
    });
}

fn measure(kind: Kind, options: &Options) -> Handshakes {
    let scenario = [
        "connect",
        "--no-echo",
        "--window",
        "0s",
        "--connections",
        &options.connections,
    ];
    let settings = Settings {
        many: true,
        ..Settings::default()
    };
    let report = generator::run(kind, settings, &scenario).checked(kind);
    Handshakes {
        cost: Cost::of(&report, report.latency("open", "count")),
        rate: report.figure("connect.rate"),
    }
}
