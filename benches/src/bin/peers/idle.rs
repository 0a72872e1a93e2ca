//! Idle: what a connection costs on which nothing is said.

use clap::Args;

use crate::{
    figure::Figure,
    generator,
    rounds::{BASELINE, Rounds},
    servers::{Kind, Settings},
};

/// Those that ping do so after so many seconds of silence.
const PING_INTERVAL: u32 = 5;

#[derive(Args)]
pub(crate) struct Options {
    #[command(flatten)]
    rounds: Rounds,
    /// Connections to hold
    #[arg(long, value_name = "N", default_value = "15k")]
    connections: String,
    /// How long they are held
    #[arg(long, value_name = "DURATION", default_value = "6s")]
    duration: String,
}

/// What was measured of one server in one round.
struct Held {
    /// Resident memory that came with each connection, in bytes.
    growth: f64,
    /// All resident memory, for each connection.
    resident: f64,
    /// CPU while they were held, of the server's threads and of its core's `ksoftirqd`, in
    /// microseconds for each connection and second.
    cpu: f64,
    /// Pings that were answered.
    pings: f64,
}

/// Lets all servers have their turn in each round, and prints a table.
pub(crate) fn compare(options: &Options) {
    let what = format!(
        "Idle, {} connections after the handshake and one echo, held for {}, a ping after \
         {PING_INTERVAL} s from those that ping",
        options.connections, options.duration
    );
    options.rounds.report(&what, || {
        let measured = options.rounds.measure(Kind::SERVERS, |kind, turn| {
            let held = measure(kind, options);
            turn.tell(kind, &format!("{:.0} bytes a connection", held.growth));
            held
        });
        println!(
            "| | growth of resident memory, bytes per connection | / {BASELINE} | all resident \
             memory / connections | CPU, us per connection and second | pings answered |"
        );
        println!("|---|{}", "--:|".repeat(5));
        for (kind, rounds) in measured.iter() {
            let growth = Figure::new(rounds, |it| it.growth);
            let ratio = measured.of(BASELINE).map_or(String::new(), |baseline| {
                let baseline = Figure::new(baseline, |it| it.growth);
                format!("{:.4}", growth.median / baseline.median)
            });
            let resident = Figure::new(rounds, |it| it.resident).median;
            let cpu = Figure::new(rounds, |it| it.cpu).median;
            let pings = Figure::new(rounds, |it| it.pings).median;
            println!("| {kind} | {growth:.0} | {ratio} | {resident:.0} | {cpu:.3} | {pings:.0} |");
        }
    });
}

fn measure(kind: Kind, options: &Options) -> Held {
    let scenario = [
        "idle",
        "--connections",
        &options.connections,
        "--duration",
        &options.duration,
    ];
    let settings = Settings {
        many: true,
        ping_interval: Some(PING_INTERVAL),
        patience: None,
    };
    let report = generator::run(kind, settings, &scenario).checked(kind);
    let cpu =
        report.figure("server.window_cpu_seconds") + report.figure("server.window_softirq_seconds");
    Held {
        growth: report.figure("server.bytes_per_connection"),
        resident: report.figure("server.resident_bytes_over_connections"),
        cpu: cpu * 1e6 / report.figure("held") / report.figure("window_seconds"),
        pings: report.figure("pings"),
    }
}
