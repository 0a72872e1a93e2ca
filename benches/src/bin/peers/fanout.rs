//! Fan-out: what one connection sends, all of them get, itself included.

mod audience;
pub(crate) mod message;

use std::time::Duration;

use clap::Args;

use self::audience::{Audience, Latency};
use crate::{
    child::Child,
    cores,
    figure::Figure,
    rounds::{Measured, Rounds},
    servers::{self, CHANNEL_CAPACITY, Kind},
};

/// What the cost of the others is compared with.
const BASELINES: [Kind; 2] = [Kind::SendLoop, Kind::TokioTungstenite];

#[derive(Args)]
pub(crate) struct Options {
    #[command(flatten)]
    rounds: Rounds,
    /// Subscribers besides the publisher, who is one more
    #[arg(long, default_value_t = 5_000)]
    subscribers: usize,
    /// Messages on the way at a time, in each of the stretches for which CPU is measured
    #[arg(long, num_args = 1.., default_values_t = [1, 16],
          value_parser = clap::value_parser!(u16).range(1..=CHANNEL_CAPACITY as i64))]
    in_flight: Vec<u16>,
    /// Messages in each stretch for which CPU is measured
    #[arg(long, default_value_t = 48)]
    messages: u64,
    /// Messages in the stretch for which latency is measured; 0 for none
    #[arg(long, default_value_t = 10)]
    paced: u64,
    /// Messages in each second of that
    #[arg(long, default_value_t = 10)]
    rate: u32,
}

/// What was measured of one server in one round.
struct Round {
    stretches: Vec<Stretch>,
    latency: Option<Latency>,
}

/// A stretch with so many messages in flight.
#[derive(Clone, Copy)]
struct Stretch {
    /// Of the server's threads and of the core's `ksoftirqd`, in microseconds for each delivery.
    cpu: f64,
    /// Of that, `ksoftirqd`'s.
    softirqs: f64,
    /// For how long the server's core was not let run.
    stolen: Duration,
    /// Deliveries in a second.
    rate: f64,
}

/// Lets all servers have their turn in each round, and prints a table.
pub(crate) fn compare(options: &Options) {
    let (server_core, client_core) = cores::pick();
    cores::pin(client_core);
    let what = format!(
        "Fan-out, {} connections, messages of {} bytes",
        options.subscribers + 1,
        message::PAYLOAD_SIZE
    );
    options.rounds.report(&what, || {
        let measured = options.rounds.measure(Kind::FANOUT, |kind, turn| {
            let round = measure(kind, server_core, options);
            for (stretch, in_flight) in round.stretches.iter().zip(&options.in_flight) {
                let Stretch { cpu, stolen, .. } = stretch;
                let told = format!("{in_flight} in flight: {cpu:.3} us, {stolen:?} stolen");
                turn.tell(kind, &told);
            }
            round
        });
        print_cost(&options.in_flight, &measured);
        if options.paced > 0 {
            println!("\nAt {} messages a second:\n", options.rate);
            print_latency(&measured);
        }
    });
}

fn measure(kind: Kind, core: usize, options: &Options) -> Round {
    let child = Child::start(
        &[servers::ARGUMENT, &kind.to_string(), "fanout", "--core"],
        core,
    );
    let mut audience = Audience::connect(child.address, options.subscribers + 1);
    let stretches = options.in_flight.iter().map(|&in_flight| {
        let in_flight = usize::from(in_flight);
        // The caches and the allocator have seen it once.
        audience.stretch(options.messages.div_ceil(8).max(16), in_flight);
        audience.rest();
        let before = child.cpu_time();
        let elapsed = audience.stretch(options.messages, in_flight);
        audience.rest();
        let after = child.cpu_time();
        let deliveries = (options.messages * audience.len() as u64) as f64;
        let each = |time: Duration| time.as_secs_f64() * 1e6 / deliveries;
        let softirqs = each(after.softirqs - before.softirqs);
        Stretch {
            cpu: each(after.own - before.own) + softirqs,
            softirqs,
            stolen: after.stolen - before.stolen,
            rate: deliveries / elapsed.as_secs_f64(),
        }
    });
    let stretches = stretches.collect();
    let interval = Duration::from_secs(1) / options.rate.max(1);
    let latency = (options.paced > 0).then(|| audience.paced(options.paced, interval));
    audience.rest();
    audience.leave();
    Round { stretches, latency }
}

fn print_cost(in_flights: &[u16], measured: &Measured<Round>) {
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
        for stretch in 0..in_flights.len() {
            let cpu = |rounds| Figure::new(rounds, |it: &Round| it.stretches[stretch].cpu);
            let cost = cpu(rounds);
            let softirqs = Figure::new(rounds, |it| it.stretches[stretch].softirqs);
            print!(" {cost:.3} | {:.3} |", softirqs.median);
            for (_, baseline) in &baselines {
                print!(" {:.3} |", cost.median / cpu(baseline).median);
            }
            let rate = Figure::new(rounds, |it| it.stretches[stretch].rate);
            print!(" {:.0} |", rate.median);
        }
        println!();
    }
}

fn print_latency(measured: &Measured<Round>) {
    println!(
        "| | each subscriber: p50, ms | p99 | the last one of each message: p50, ms | worst of all |"
    );
    println!("|---|--:|--:|--:|--:|");
    for (kind, rounds) in measured.iter() {
        let figure = |of: fn(&Latency) -> Duration| {
            Figure::new(rounds, |round| {
                let latency = round.latency.as_ref();
                of(latency.expect("it was measured")).as_secs_f64() * 1e3
            })
        };
        println!(
            "| {kind} | {:.2} | {:.2} | {:.2} | {:.2} |",
            figure(|it| it.each_p50).median,
            figure(|it| it.each_p99).median,
            figure(|it| it.last_p50).median,
            figure(|it| it.worst).most,
        );
    }
}
