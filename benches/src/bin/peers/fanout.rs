//! Fan-out: what one connection sends, all of them get, itself included.

mod audience;
pub(crate) mod message;
mod servers;

use std::time::Duration;

use clap::{Args, ValueEnum};

use self::audience::{Audience, Latency};
use crate::{child::Child, cores};

pub(crate) use self::servers::{Kind, serve};

/// The subcommand that turns this program into a server.
pub(crate) const SERVER_ARGUMENT: &str = "fanout-server";

/// What the cost of the others is compared with.
const BASELINES: [Kind; 2] = [Kind::SendLoop, Kind::TokioTungstenite];

#[derive(Args)]
pub(crate) struct Options {
    /// Subscribers besides the publisher, who is one more
    #[arg(long, default_value_t = 5_000)]
    subscribers: usize,
    /// Rounds, in each of which every server has its turn
    #[arg(long, default_value_t = 5)]
    rounds: usize,
    /// Messages on the way at a time, in each of the stretches for which CPU is measured
    #[arg(long, num_args = 1.., default_values_t = [1, 16],
          value_parser = clap::value_parser!(u16).range(1..=servers::CHANNEL_CAPACITY as i64))]
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
    /// Servers; all, if none is given
    #[arg(long, value_enum)]
    only: Vec<Kind>,
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
    let kinds: Vec<Kind> = Kind::value_variants()
        .iter()
        .copied()
        .filter(|kind| options.only.is_empty() || options.only.contains(kind))
        .collect();
    let load_before = cores::load_average();
    let mut rounds: Vec<Vec<Round>> = kinds.iter().map(|_| Vec::new()).collect();
    for number in 1..=options.rounds {
        for (kind, rounds) in kinds.iter().zip(&mut rounds) {
            let round = measure(*kind, server_core, options);
            for (stretch, in_flight) in round.stretches.iter().zip(&options.in_flight) {
                let Stretch { cpu, stolen, .. } = stretch;
                eprintln!(
                    "round {number}: {kind}, {in_flight} in flight: {cpu:.3} us, {stolen:?} stolen"
                );
            }
            rounds.push(round);
        }
    }
    println!(
        "{} connections, messages of {} bytes, {} rounds; load average before {load_before}; after {}\n",
        options.subscribers + 1,
        message::PAYLOAD_SIZE,
        options.rounds,
        cores::load_average(),
    );
    print_cost(&options.in_flight, &kinds, &rounds);
    if options.paced > 0 {
        println!("\nAt {} messages a second:\n", options.rate);
        print_latency(&kinds, &rounds);
    }
}

fn measure(kind: Kind, core: usize, options: &Options) -> Round {
    let child = Child::start(&[SERVER_ARGUMENT, &kind.to_string()], core);
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

fn print_cost(in_flights: &[u16], kinds: &[Kind], rounds: &[Vec<Round>]) {
    let baselines: Vec<usize> = BASELINES
        .iter()
        .filter_map(|baseline| kinds.iter().position(|kind| kind == baseline))
        .collect();
    let names: String = baselines
        .iter()
        .map(|&at| format!(" / {} |", kinds[at]))
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
    let cost = |at: usize, stretch: usize| Figure::new(&rounds[at], |it| it.stretches[stretch].cpu);
    for (at, kind) in kinds.iter().enumerate() {
        print!("| {kind} |");
        for stretch in 0..in_flights.len() {
            let Figure {
                least,
                median,
                most,
            } = cost(at, stretch);
            print!(" {median:.3} ({least:.3} to {most:.3}) |");
            let softirqs = Figure::new(&rounds[at], |it| it.stretches[stretch].softirqs);
            print!(" {:.3} |", softirqs.median);
            for &baseline in &baselines {
                print!(" {:.3} |", median / cost(baseline, stretch).median);
            }
            let rate = Figure::new(&rounds[at], |it| it.stretches[stretch].rate);
            print!(" {:.0} |", rate.median);
        }
        println!();
    }
}

fn print_latency(kinds: &[Kind], rounds: &[Vec<Round>]) {
    println!(
        "| | each subscriber: p50, ms | p99 | the last one of each message: p50, ms | worst of all |"
    );
    println!("|---|--:|--:|--:|--:|");
    for (kind, rounds) in kinds.iter().zip(rounds) {
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

/// A figure of all rounds.
struct Figure {
    least: f64,
    median: f64,
    most: f64,
}

impl Figure {
    fn new(rounds: &[Round], of: impl Fn(&Round) -> f64) -> Self {
        let mut all: Vec<f64> = rounds.iter().map(of).collect();
        all.sort_by(f64::total_cmp);
        Self {
            least: all[0],
            median: all[all.len() / 2],
            most: all[all.len() - 1],
        }
    }
}
