//! Two shards against one, each on a core of its own.
//!
//! All cores are the servers': the subscribers sleep while messages go out, which stay in their
//! receive buffers until the stretch is over. Then they read, and check every byte. Beside it, how
//! much more than one thread two get done that do nothing but send(2). A virtual core changes its
//! speed with what else its host does; the fastest tenth of the stretches are those in which it was free.

mod send_loops;

use std::{borrow::Borrow, time::Instant};

use clap::{Args, ValueEnum};

use crate::{
    beside,
    child::{Child, end_with_parent},
    cores,
    crowd::Crowd,
    fanout::message,
    publisher::{self, LISTENS, Publisher},
};

/// The subcommand that turns this program into a server.
pub(crate) const SERVER_ARGUMENT: &str = "shards-server";

#[derive(Args)]
pub(crate) struct Options {
    /// Subscribers
    #[arg(long, default_value_t = 5_000)]
    subscribers: usize,
    /// Shards, and threads, that are compared with one
    #[arg(long, default_value_t = 2)]
    shards: u16,
    /// Rounds, in each of which both have their turn
    #[arg(long, default_value_t = 5)]
    rounds: usize,
    /// Messages on the way at a time, in each of the stretches
    #[arg(long, num_args = 1.., default_values_t = [1, 16])]
    in_flight: Vec<u64>,
    /// How often so many are published in a stretch. The kernel keeps more than a thousand bytes for
    /// each time and subscriber, which leave the caches, since nobody reads them
    #[arg(long, default_value_t = 1)]
    times: u64,
    /// Stretches of each kind in a round, between which the subscribers read
    #[arg(long, default_value_t = 100)]
    stretches: u32,
}

/// What is compared with one of itself.
#[derive(Clone, Copy, Debug, Eq, PartialEq, ValueEnum)]
pub(crate) enum Kind {
    /// Shards
    Tidewheel,
    /// Threads that do nothing but send(2): what the machine gives
    SendLoops,
}

/// Deliveries in a second, for one number of messages in flight.
#[derive(Default)]
struct Rates {
    one: Rate,
    several: Rate,
}

#[derive(Default)]
struct Rate {
    of_rounds: Vec<f64>,
    of_stretches: Vec<f64>,
}

impl Rate {
    fn add(&mut self, stretches: Vec<f64>) -> f64 {
        let time: f64 = stretches.iter().map(|rate| rate.recip()).sum();
        let of_round = stretches.len() as f64 / time;
        self.of_rounds.push(of_round);
        self.of_stretches.extend(stretches);
        of_round
    }

    /// Least, median and most of the rounds.
    fn extent(&self) -> [f64; 3] {
        let all = sorted(&self.of_rounds);
        [all[0], all[all.len() / 2], all[all.len() - 1]]
    }

    /// What one in ten of the stretches reached.
    fn unhindered(&self) -> f64 {
        let all = sorted(&self.of_stretches);
        all[all.len() * 9 / 10]
    }
}

/// Serves until the process ends.
pub(crate) fn serve(kind: Kind, shards: u16, first_core: usize) {
    end_with_parent();
    match kind {
        Kind::Tidewheel => beside::serve(shards),
        Kind::SendLoops => send_loops::serve(shards, first_core),
    }
}

/// Lets each have its turn in each round, and prints a table.
pub(crate) fn compare(options: &Options) {
    let (first_core, _) = cores::pick();
    let load_before = cores::load_average();
    let mut rates: Vec<(Kind, u64, Rates)> = Kind::value_variants()
        .iter()
        .flat_map(|&kind| {
            let in_flight = options.in_flight.iter();
            in_flight.map(move |&in_flight| (kind, in_flight, Rates::default()))
        })
        .collect();
    for round in 1..=options.rounds {
        let mut rates = rates.iter_mut();
        for &kind in Kind::value_variants() {
            let one = measure(kind, 1, first_core, options);
            let several = measure(kind, options.shards, first_core, options);
            for (one, several) in one.into_iter().zip(several) {
                let (_, _, rates) = rates.next().expect("one for each number");
                let one = rates.one.add(one);
                let several = rates.several.add(several);
                eprintln!("round {round}: {kind:?} {:.3}", several / one);
            }
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
        "| | in flight | one: deliveries/s | {} | ratio of the medians | of each round | \
         one: the fastest tenth | {0} | ratio |",
        options.shards
    );
    println!("|---|--:|--:|--:|--:|--:|--:|--:|--:|");
    for (kind, in_flight, Rates { one, several }) in rates {
        let rounds = one.of_rounds.iter().zip(&several.of_rounds);
        let ratios = sorted(rounds.map(|(one, several)| several / one));
        let (least, most) = (ratios[0], ratios[ratios.len() - 1]);
        let fastest = (one.unhindered(), several.unhindered());
        let [one_least, one, one_most] = one.extent();
        let [several_least, several, several_most] = several.extent();
        let kind = kind.to_possible_value().expect("none is skipped");
        println!(
            "| {} | {in_flight} | {one:.0} ({one_least:.0} to {one_most:.0}) | \
             {several:.0} ({several_least:.0} to {several_most:.0}) | {:.2} | {least:.2} to {most:.2} | \
             {:.0} | {:.0} | {:.2} |",
            kind.get_name(),
            several / one,
            fastest.0,
            fastest.1,
            fastest.1 / fastest.0,
        );
    }
}

/// Deliveries in a second in each stretch, for each number of messages in flight.
fn measure(kind: Kind, shards: u16, first_core: usize, options: &Options) -> Vec<Vec<f64>> {
    let name = kind.to_possible_value().expect("none is skipped");
    let arguments = [SERVER_ARGUMENT, name.get_name(), &shards.to_string()];
    let child = Child::start(&arguments, first_core);
    let mut crowd = Crowd::gather(child.address.port(), LISTENS, options.subscribers);
    let mut publisher = Publisher::connect(&child, publisher::sentinels(&child, shards).collect());
    let mut stretch = |in_flight| {
        let start = now();
        (0..options.times).for_each(|_| publisher.publish(in_flight));
        let took = start.elapsed();
        crowd.read(publisher.published());
        (options.times * in_flight * options.subscribers as u64) as f64 / took.as_secs_f64()
    };
    let rates = options.in_flight.iter().map(|&in_flight| {
        // The caches and the kernel's memory have seen it once.
        stretch(in_flight);
        (0..options.stretches).map(|_| stretch(in_flight)).collect()
    });
    rates.collect()
}

fn sorted(all: impl IntoIterator<Item = impl Borrow<f64>>) -> Vec<f64> {
    let mut all: Vec<f64> = all.into_iter().map(|one| *one.borrow()).collect();
    all.sort_by(f64::total_cmp);
    all
}

#[expect(clippy::disallowed_methods, reason = "a benchmark reads a clock")]
fn now() -> Instant {
    Instant::now()
}
