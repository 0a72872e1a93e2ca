//! Scaling: deliveries a second of several shards, each on its own core, divided by those of one shard.
//!
//! The servers use all cores: while messages are sent, the subscribers sleep, and the messages stay in their receive
//! buffers. Then they read and check every byte. For comparison, threads that do nothing but send(2) run the same load.
//! A virtual core is slower while its host does other work; the fastest tenth of the measurements has the least of it.

mod send_loops;

use std::time::Instant;

use benches::results::{Figure, Output, Run};
use clap::{Args, ValueEnum};

use crate::{
    echo_during_fanout,
    fanout::message,
    host,
    publisher::{self, Publisher, SUBSCRIBER_PATH},
    schedule::new_run,
    server_process::{ServerProcess, end_with_parent},
    subscribers::Subscribers,
};

/// Subcommand that runs the server.
pub(crate) const SERVER_ARGUMENT: &str = "shards-server";

#[derive(Args)]
pub(crate) struct Options {
    /// Subscribers
    #[arg(long, default_value_t = 5_000)]
    subscribers: usize,
    /// Shards, or threads, that are compared with one
    #[arg(long, default_value_t = 2)]
    shards: u16,
    /// Rounds; each measures one shard and several shards
    #[arg(long, default_value_t = 5)]
    rounds: usize,
    /// Messages in flight; each number is measured
    #[arg(long, num_args = 1.., default_values_t = [1, 16])]
    in_flight: Vec<u64>,
    /// Publishes of as many messages in each measurement. The kernel keeps more than a thousand bytes for each message
    /// and subscriber, which then leave the caches
    #[arg(long, default_value_t = 1)]
    times: u64,
    /// Measurements of each kind in a round; the subscribers read between them
    #[arg(long, default_value_t = 100)]
    stretches: u32,
    #[command(flatten)]
    output: Output,
}

/// Kind of a server, which is compared with one shard or thread of the same kind.
#[derive(Clone, Copy, Debug, Eq, PartialEq, ValueEnum)]
pub(crate) enum Kind {
    /// Shards of Tidewheel
    Tidewheel,
    /// Threads that do nothing but send(2)
    SendLoops,
}

/// Rates of one shard and of several, for one number of messages in flight.
#[derive(Default)]
struct Comparison {
    one: Rates,
    several: Rates,
}

/// Deliveries a second.
#[derive(Default)]
struct Rates {
    of_rounds: Vec<f64>,
    of_measurements: Vec<f64>,
}

impl Rates {
    /// Adds the measurements of a round, and returns the rate of the round.
    fn add(&mut self, measurements: Vec<f64>) -> f64 {
        let time: f64 = measurements.iter().map(|rate| rate.recip()).sum();
        let of_round = measurements.len() as f64 / time;
        self.of_rounds.push(of_round);
        self.of_measurements.extend(measurements);
        of_round
    }

    fn figure(&self) -> Figure {
        Figure::of(self.of_rounds.iter().copied())
    }

    /// Returns the 90th percentile of all measurements.
    fn fastest_tenth(&self) -> f64 {
        let all = sorted(&self.of_measurements);
        all[all.len() * 9 / 10]
    }
}

/// Serves until the process ends.
pub(crate) fn serve(kind: Kind, shards: u16, first_core: usize) {
    end_with_parent();
    match kind {
        Kind::Tidewheel => echo_during_fanout::serve(shards),
        Kind::SendLoops => send_loops::serve(shards, first_core),
    }
}

/// Measures both kinds in each round, and prints a table.
pub(crate) fn compare(options: &Options) {
    let (first_core, _) = host::server_and_client_core();
    let load_before = host::load_average();
    let mut comparisons: Vec<(Kind, u64, Comparison)> = Kind::value_variants()
        .iter()
        .flat_map(|&kind| {
            let in_flight = options.in_flight.iter();
            in_flight.map(move |&in_flight| (kind, in_flight, Comparison::default()))
        })
        .collect();
    for round in 1..=options.rounds {
        let mut comparisons = comparisons.iter_mut();
        for &kind in Kind::value_variants() {
            let one = measure(kind, 1, first_core, options);
            let several = measure(kind, options.shards, first_core, options);
            for (one, several) in one.into_iter().zip(several) {
                let (_, _, comparison) = comparisons.next().expect("one for each number");
                let one = comparison.one.add(one);
                let several = comparison.several.add(several);
                eprintln!("round {round}: {kind:?} {:.3}", several / one);
            }
        }
    }
    println!(
        "{} subscribers, messages of {} bytes, {} rounds; load average before {load_before}; after {}\n",
        options.subscribers,
        message::PAYLOAD_SIZE,
        options.rounds,
        host::load_average(),
    );
    let mut run = new_run("shards");
    print(options, &comparisons, &mut run);
    options.output.save(&run);
}

fn print(options: &Options, comparisons: &[(Kind, u64, Comparison)], run: &mut Run) {
    println!(
        "| | in flight | one: deliveries/s | {} | ratio of the medians | of each round | \
         one: the fastest tenth | {0} | ratio |",
        options.shards
    );
    println!("|---|--:|--:|--:|--:|--:|--:|--:|--:|");
    for (kind, in_flight, Comparison { one, several }) in comparisons {
        let rounds = one.of_rounds.iter().zip(&several.of_rounds);
        let ratios = Figure::of(rounds.map(|(one, several)| several / one));
        let fastest = (one.fastest_tenth(), several.fastest_tenth());
        let (one, several) = (one.figure(), several.figure());
        let median = |figure: Figure| figure.median.unwrap_or_default();
        let ratio = median(several) / median(one);
        let kind = kind.to_possible_value().expect("every kind has a name");
        let name = kind.get_name();
        println!(
            "| {name} | {in_flight} | {one:.0} | {several:.0} | {ratio:.2} | {:.2} to {:.2} | {:.0} | {:.0} | {:.2} |",
            ratios.min.unwrap_or_default(),
            ratios.max.unwrap_or_default(),
            fastest.0,
            fastest.1,
            fastest.1 / fastest.0,
        );
        let (row, n) = (format!("{name}, {in_flight} in flight"), options.rounds);
        let fastest = Figure::median(fastest.1 / fastest.0);
        run.add(&row, n, "one", one);
        run.add(&row, n, "several", several);
        run.add(&row, n, "ratio of the medians", Figure::median(ratio));
        run.add(&row, n, "ratio of the fastest tenths", fastest);
    }
}

/// Returns the deliveries a second of each measurement, for each number of messages in flight.
fn measure(kind: Kind, shards: u16, first_core: usize, options: &Options) -> Vec<Vec<f64>> {
    let name = kind.to_possible_value().expect("every kind has a name");
    let arguments = [SERVER_ARGUMENT, name.get_name(), &shards.to_string()];
    let server = ServerProcess::start(&arguments, first_core);
    let mut subscribers =
        Subscribers::connect(server.address.port(), SUBSCRIBER_PATH, options.subscribers);
    let sentinels = publisher::sentinels(&server, shards).collect();
    let mut publisher = Publisher::connect(&server, sentinels);
    let mut measure_once = |in_flight| {
        let start = now();
        (0..options.times).for_each(|_| publisher.publish(in_flight));
        let elapsed = start.elapsed();
        subscribers.read(publisher.published());
        (options.times * in_flight * options.subscribers as u64) as f64 / elapsed.as_secs_f64()
    };
    let rates = options.in_flight.iter().map(|&in_flight| {
        // Warms up the caches and the kernel's memory.
        measure_once(in_flight);
        (0..options.stretches)
            .map(|_| measure_once(in_flight))
            .collect()
    });
    rates.collect()
}

fn sorted(all: &[f64]) -> Vec<f64> {
    let mut all = all.to_vec();
    all.sort_by(f64::total_cmp);
    all
}

#[expect(clippy::disallowed_methods, reason = "a benchmark reads a clock")]
fn now() -> Instant {
    Instant::now()
}
