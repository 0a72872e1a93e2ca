//! Idle: memory and CPU of each connection without messages.

use clap::Args;

use crate::{
    cost::{figure, median},
    generator,
    schedule::{BASELINE, Schedule},
    servers::{Kind, Settings},
};

/// Silence in seconds after which a server that pings sends a Ping.
const PING_INTERVAL_S: u32 = 5;

#[derive(Args)]
pub(crate) struct Options {
    #[command(flatten)]
    schedule: Schedule,
    /// Number of connections
    #[arg(long, value_name = "N", default_value = "15k")]
    connections: String,
    /// Time for which they are idle
    #[arg(long, value_name = "DURATION", default_value = "6s")]
    duration: String,
}

/// Measurements of one server in one round.
struct Idle {
    /// Growth of resident memory, in bytes for each connection.
    growth_bytes: f64,
    /// All resident memory, in bytes for each connection.
    resident_bytes: f64,
    /// CPU of the server's threads and of `ksoftirqd` on its core, in microseconds for each connection and second.
    cpu_us: f64,
    /// Pings that clients answered.
    pings: f64,
}

/// Measures all servers, and prints a table.
pub(crate) fn compare(options: &Options) {
    let title = format!(
        "Idle, {} connections after the handshake and one echo, for {}; servers that ping do so after \
         {PING_INTERVAL_S} s",
        options.connections, options.duration
    );
    options.schedule.report("idle", &title, |run| {
        let measured = options.schedule.measure(Kind::SERVERS, |kind, round| {
            let idle = measure(kind, options);
            round.log(
                kind,
                &format!("{:.0} bytes a connection", idle.growth_bytes),
            );
            idle
        });
        println!(
            "| | growth of resident memory, bytes per connection | / {BASELINE} | all resident \
             memory / connections | CPU, us per connection and second | pings answered |"
        );
        println!("|---|{}", "--:|".repeat(5));
        for (kind, rounds) in measured.iter() {
            let growth = figure(rounds, |it| it.growth_bytes);
            let ratio = measured.of(BASELINE).map_or(String::new(), |baseline| {
                let ratio =
                    median(rounds, |it| it.growth_bytes) / median(baseline, |it| it.growth_bytes);
                format!("{ratio:.4}")
            });
            let resident = median(rounds, |it| it.resident_bytes);
            let cpu = median(rounds, |it| it.cpu_us);
            let pings = median(rounds, |it| it.pings);
            println!("| {kind} | {growth:.0} | {ratio} | {resident:.0} | {cpu:.3} | {pings:.0} |");
            run.add("memory, bytes", rounds.len(), &kind.to_string(), growth);
        }
    });
}

fn measure(kind: Kind, options: &Options) -> Idle {
    let scenario = [
        "idle",
        "--connections",
        &options.connections,
        "--duration",
        &options.duration,
    ];
    let settings = Settings {
        many: true,
        ping_interval: Some(PING_INTERVAL_S),
        timeout: None,
    };
    let report = generator::run(kind, settings, &scenario).checked(kind);
    let cpu =
        report.figure("server.window_cpu_seconds") + report.figure("server.window_softirq_seconds");
    Idle {
        growth_bytes: report.figure("server.bytes_per_connection"),
        resident_bytes: report.figure("server.resident_bytes_over_connections"),
        cpu_us: cpu * 1e6 / report.figure("held") / report.figure("window_seconds"),
        pings: report.figure("pings"),
    }
}
