//! Fan-out: CPU and latency of each delivery. All connections, the publisher's included, receive each message.

mod clients;
pub(crate) mod message;

use std::time::Duration;

use benches::results::Run;
use clap::Args;

use self::clients::{Clients, Latency};
use crate::{
    cost::{figure, median},
    host,
    schedule::{Measurements, Schedule},
    server_process::ServerProcess,
    servers::{self, CHANNEL_CAPACITY, Kind},
};

/// Servers whose CPU is the divisor of the ratios.
const BASELINES: [Kind; 2] = [Kind::SendLoop, Kind::TokioTungstenite];

#[derive(Args)]
pub(crate) struct Options {
    #[command(flatten)]
    schedule: Schedule,
    /// Subscribers besides the publisher, which is one more
    #[arg(long, default_value_t = 5_000)]
    subscribers: usize,
    /// Messages in flight, for each measurement of CPU
    #[arg(long, num_args = 1.., default_values_t = [1, 16],
          value_parser = clap::value_parser!(u16).range(1..=CHANNEL_CAPACITY as i64))]
    in_flight: Vec<u16>,
    /// Messages of each measurement of CPU
    #[arg(long, default_value_t = 48)]
    messages: u64,
    /// Messages of the measurement of latency; 0 for none
    #[arg(long, default_value_t = 10)]
    paced: u64,
    /// Messages a second in the measurement of latency
    #[arg(long, default_value_t = 10)]
    rate: u32,
}

/// Measurements of one server in one round.
struct Round {
    /// One for each number of messages in flight.
    deliveries: Vec<Deliveries>,
    latency: Option<Latency>,
}

/// CPU and rate of deliveries with a number of messages in flight.
#[derive(Clone, Copy)]
struct Deliveries {
    /// CPU of the server's threads and of `ksoftirqd` on its core, in microseconds for each delivery.
    cpu_us: f64,
    /// The part of `cpu_us` that is of `ksoftirqd`.
    softirqs_us: f64,
    /// Time in which the hypervisor did not run the server's core.
    stolen: Duration,
    /// Deliveries a second.
    rate: f64,
}

/// Measures all servers, and prints two tables.
pub(crate) fn compare(options: &Options) {
    let (server_core, client_core) = host::server_and_client_core();
    host::pin(client_core);
    let title = format!(
        "Fan-out, {} connections, messages of {} bytes",
        options.subscribers + 1,
        message::PAYLOAD_SIZE
    );
    options.schedule.report("fanout", &title, |run| {
        let measured = options.schedule.measure(Kind::FANOUT, |kind, round| {
            let measured = measure(kind, server_core, options);
            for (deliveries, in_flight) in measured.deliveries.iter().zip(&options.in_flight) {
                let Deliveries { cpu_us, stolen, .. } = deliveries;
                round.log(
                    kind,
                    &format!("{in_flight} in flight: {cpu_us:.3} us, {stolen:?} stolen"),
                );
            }
            measured
        });
        print_cost(&options.in_flight, &measured, run);
        if options.paced > 0 {
            println!("\nAt {} messages a second:\n", options.rate);
            print_latency(&measured, options.rate, run);
        }
    });
}

fn measure(kind: Kind, core: usize, options: &Options) -> Round {
    let server = ServerProcess::start(
        &[servers::ARGUMENT, &kind.to_string(), "fanout", "--core"],
        core,
    );
    let mut clients = Clients::connect(server.address, options.subscribers + 1);
    let deliveries = options.in_flight.iter().map(|&in_flight| {
        let in_flight = usize::from(in_flight);
        // Warms up the caches and the allocator.
        clients.publish_in_flight(options.messages.div_ceil(8).max(16), in_flight);
        clients.wait_until_idle();
        let before = server.cpu_time();
        let elapsed = clients.publish_in_flight(options.messages, in_flight);
        clients.wait_until_idle();
        let after = server.cpu_time();
        let count = (options.messages * clients.len() as u64) as f64;
        let each = |time: Duration| time.as_secs_f64() * 1e6 / count;
        let softirqs_us = each(after.softirqs - before.softirqs);
        Deliveries {
            cpu_us: each(after.own - before.own) + softirqs_us,
            softirqs_us,
            stolen: after.stolen - before.stolen,
            rate: count / elapsed.as_secs_f64(),
        }
    });
    let deliveries = deliveries.collect();
    let interval = Duration::from_secs(1) / options.rate.max(1);
    let latency = (options.paced > 0).then(|| clients.publish_paced(options.paced, interval));
    clients.wait_until_idle();
    clients.reset_all();
    Round {
        deliveries,
        latency,
    }
}

fn print_cost(in_flights: &[u16], measured: &Measurements<Round>, run: &mut Run) {
    let baselines: Vec<(Kind, &[Round])> = BASELINES
        .iter()
        .filter_map(|&baseline| Some((baseline, measured.of(baseline)?)))
        .collect();
    let names: String = baselines
        .iter()
        .map(|(kind, _)| format!(" / {kind} |"))
        .collect();
    print!("| |");
    for in_flight in in_flights {
        print!(
            " {in_flight} in flight: CPU, us per delivery | in ksoftirqd |{names} deliveries/s |"
        );
    }
    println!(
        "\n|---|{}",
        "--:|".repeat(in_flights.len() * (3 + baselines.len()))
    );
    for (kind, rounds) in measured.iter() {
        print!("| {kind} |");
        for (at, in_flight) in in_flights.iter().enumerate() {
            let cpu_us = |round: &Round| round.deliveries[at].cpu_us;
            let cost = figure(rounds, cpu_us);
            let softirqs = median(rounds, |it| it.deliveries[at].softirqs_us);
            print!(" {cost:.3} | {softirqs:.3} |");
            for (_, baseline) in &baselines {
                print!(
                    " {:.3} |",
                    median(rounds, cpu_us) / median(baseline, cpu_us)
                );
            }
            let rate = figure(rounds, |it| it.deliveries[at].rate);
            print!(" {:.0} |", median(rounds, |it| it.deliveries[at].rate));
            let (n, column) = (rounds.len(), kind.to_string());
            run.add(&format!("{in_flight} in flight, us"), n, &column, cost);
            run.add(
                &format!("{in_flight} in flight, deliveries/s"),
                n,
                &column,
                rate,
            );
        }
        println!();
    }
}

fn print_latency(measured: &Measurements<Round>, rate: u32, run: &mut Run) {
    println!(
        "| | each subscriber: p50, ms | p99 | the last one of each message: p50, ms | worst of all |"
    );
    println!("|---|--:|--:|--:|--:|");
    for (kind, rounds) in measured.iter() {
        let ms = |of: fn(&Latency) -> Duration| {
            figure(rounds, |round| {
                let latency = round.latency.as_ref();
                of(latency.expect("latency was measured")).as_secs_f64() * 1e3
            })
        };
        let p99 = ms(|it| it.each_p99);
        let [each_p50, each_p99, last_p50] = [ms(|it| it.each_p50), p99, ms(|it| it.last_p50)]
            .map(|it| it.median.unwrap_or_default());
        let worst = ms(|it| it.worst).max.unwrap_or_default();
        println!("| {kind} | {each_p50:.2} | {each_p99:.2} | {last_p50:.2} | {worst:.2} |");
        let row = format!("{rate} messages a second, p99, ms");
        run.add(&row, rounds.len(), &kind.to_string(), p99);
    }
}
