//! Two shards against one, each on a core of its own.
//!
//! All cores are the servers': the subscribers sleep while messages go out, which stay in their
//! receive buffers until the stretch is over. Then they read, and check every byte.

use std::time::{Duration, Instant};

use clap::Args;

use crate::{
    beside::LISTENS, child::Child, cores, crowd::Crowd, fanout::message, publisher::Publisher,
};

/// The subcommand that turns this program into a server.
pub(crate) const SERVER_ARGUMENT: &str = "shards-server";

#[derive(Args)]
pub(crate) struct Options {
    /// Subscribers
    #[arg(long, default_value_t = 5_000)]
    subscribers: usize,
    /// Shards that are compared with one
    #[arg(long, default_value_t = 2)]
    shards: u16,
    /// Rounds, in each of which both have their turn
    #[arg(long, default_value_t = 5)]
    rounds: usize,
    /// Messages on the way at a time, in each of the stretches
    #[arg(long, num_args = 1.., default_values_t = [1, 16])]
    in_flight: Vec<u64>,
    /// How often so many are published in a stretch. The kernel keeps more than a thousand bytes for
    /// each time and subscriber, and is not to run short of memory
    #[arg(long, default_value_t = 5)]
    times: u64,
    /// Stretches of each kind in a round, between which the subscribers read
    #[arg(long, default_value_t = 20)]
    stretches: u32,
}

/// Deliveries in a second in each round, for one number of messages in flight.
#[derive(Default)]
struct Rates {
    one: Vec<f64>,
    several: Vec<f64>,
}

/// Lets both have their turn in each round, and prints a table.
pub(crate) fn compare(options: &Options) {
    let (first_core, _) = cores::pick();
    let load_before = cores::load_average();
    let mut rates: Vec<Rates> = options.in_flight.iter().map(|_| Rates::default()).collect();
    for round in 1..=options.rounds {
        let one = measure(1, first_core, options);
        let several = measure(options.shards, first_core, options);
        for (rates, (one, several)) in rates.iter_mut().zip(one.into_iter().zip(several)) {
            eprintln!("round {round}: {:.3}", several / one);
            rates.one.push(one);
            rates.several.push(several);
        }
    }
    println!(
        "{} subscribers, messages of {} bytes, {} rounds; load average before {load_before}; after {}\n",
        options.subscribers,
        message::PAYLOAD_SIZE,
        options.rounds,
        cores::load_average(),
    );
    println!(
        "| in flight | 1 shard: deliveries/s | {} shards | ratio of the medians | of each round |",
        options.shards
    );
    println!("|--:|--:|--:|--:|--:|");
    for (in_flight, Rates { one, several }) in options.in_flight.iter().zip(rates) {
        let ratios = one.iter().zip(&several).map(|(one, several)| several / one);
        let [least, _, most] = extent(ratios.collect());
        let [one_least, one, one_most] = extent(one);
        let [several_least, several, several_most] = extent(several);
        println!(
            "| {in_flight} | {one:.0} ({one_least:.0} to {one_most:.0}) | \
             {several:.0} ({several_least:.0} to {several_most:.0}) | {:.2} | {least:.2} to {most:.2} |",
            several / one
        );
    }
}

/// Deliveries in a second, for each number of messages in flight.
fn measure(shards: u16, first_core: usize, options: &Options) -> Vec<f64> {
    let child = Child::start(&[SERVER_ARGUMENT, &shards.to_string()], first_core);
    let mut crowd = Crowd::gather(child.address.port(), LISTENS, options.subscribers);
    let mut publisher = Publisher::connect(&child, shards);
    let mut stretch = |in_flight| {
        let start = now();
        (0..options.times).for_each(|_| publisher.publish(in_flight));
        let took = start.elapsed();
        crowd.read(publisher.published());
        took
    };
    let rates = options.in_flight.iter().map(|&in_flight| {
        // The caches and the kernel's memory have seen it once.
        stretch(in_flight);
        let took: Duration = (0..options.stretches).map(|_| stretch(in_flight)).sum();
        let messages = u64::from(options.stretches) * options.times * in_flight;
        (messages * options.subscribers as u64) as f64 / took.as_secs_f64()
    });
    rates.collect()
}

/// Least, median and most.
fn extent(mut all: Vec<f64>) -> [f64; 3] {
    all.sort_by(f64::total_cmp);
    [all[0], all[all.len() / 2], all[all.len() - 1]]
}

#[expect(clippy::disallowed_methods, reason = "a benchmark reads a clock")]
fn now() -> Instant {
    Instant::now()
}
