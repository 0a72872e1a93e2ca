//! Connect: what each opening handshake costs.

use clap::Args;

use crate::{
    cost::Cost,
    figure::Figure,
    generator,
    rounds::Rounds,
    servers::{Kind, Settings},
};

#[derive(Args)]
pub(crate) struct Options {
    #[command(flatten)]
    rounds: Rounds,
    /// Connections to open, as fast as they open with 256 of them under way
    #[arg(long, value_name = "N", default_value = "10k")]
    connections: String,
}

/// What was measured of one server in one round.
struct Opened {
    cost: Cost,
    /// Connections in a second.
    rate: f64,
}

/// Lets all servers have their turn in each round, and prints a table.
pub(crate) fn compare(options: &Options) {
    let what = format!(
        "Connect, {} connections, the opening handshake and nothing else",
        options.connections
    );
    options.rounds.report(&what, || {
        let measured = options.rounds.measure(Kind::SERVERS, |kind, turn| {
            let opened = measure(kind, options);
            turn.tell(kind, &opened.cost.told());
            opened
        });
        println!("| |{} connections/s |", Cost::head("connection"));
        println!("|---|{}", "--:|".repeat(Cost::COLUMNS + 1));
        for (kind, rounds) in measured.iter() {
            let cost = Cost::cells(rounds, &measured, |it| &it.cost);
            let rate = Figure::new(rounds, |it| it.rate).median;
            println!("| {kind} |{cost} {rate:.0} |");
        }
    });
}

fn measure(kind: Kind, options: &Options) -> Opened {
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
    Opened {
        cost: Cost::of(&report, report.latency("open", "count")),
        rate: report.figure("connect.rate"),
    }
}
