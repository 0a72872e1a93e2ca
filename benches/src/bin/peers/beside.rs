//! Beside a fan-out: what becomes of an echo on a server that is busy with one message to very many.
//!
//! The subscribers read nothing meanwhile, so that they take no CPU. Reading comes afterwards.

mod probe;
mod server;
mod turns;

use std::time::Duration;

use clap::Args;
use rustix::process::{Resource, getrlimit};

use self::{probe::Probe, turns::Turns};
use crate::{
    child::Child,
    cores,
    crowd::Crowd,
    fanout::message,
    publisher::{self, LISTENS, Publisher},
};

pub(crate) use self::server::serve;

/// The subcommand that turns this program into a server.
pub(crate) const SERVER_ARGUMENT: &str = "beside-server";

/// How much of its table a shard's share of the connections may take: the kernel spreads them by
/// chance.
const TABLE_SHARE: (usize, usize) = (9, 10);

#[derive(Args)]
pub(crate) struct Options {
    /// Subscribers
    #[arg(long, num_args = 1.., default_values_t = [18_000, 100_000])]
    subscribers: Vec<usize>,
    /// Shards, all on one core; as few as RLIMIT_NOFILE allows, if not given
    #[arg(long)]
    shards: Option<u16>,
    /// Rounds, each of a stretch without fan-outs and one with them
    #[arg(long, default_value_t = 5)]
    rounds: usize,
    /// Deliveries in a round: by so many fan-outs, one after the other, as that takes. Nobody reads
    /// meanwhile, and the kernel keeps more than a thousand bytes for each
    #[arg(long, default_value_t = 500_000)]
    deliveries: usize,
    /// Messages of the probe in each second
    #[arg(long, default_value_t = 200)]
    rate: u32,
}

/// Measures beside each of the audiences, and prints a table.
pub(crate) fn compare(options: &Options) {
    let (server_core, client_core) = cores::pick();
    cores::pin(client_core);
    println!(
        "An echo of {} bytes, {} times a second, {} rounds of some {} deliveries; load average {}\n",
        message::PAYLOAD_SIZE,
        options.rate,
        options.rounds,
        options.deliveries,
        cores::load_average(),
    );
    println!(
        "| subscribers | shards | | echoes | p50, ms | p99 | longest | turns: p99, ms | longest |\n\
         |--:|--:|---|--:|--:|--:|--:|--:|--:|"
    );
    for &subscribers in &options.subscribers {
        let shards = options.shards.unwrap_or_else(|| shards_for(subscribers));
        let [without, with] = measure(subscribers, shards, server_core, options);
        let row = |name: &str, figures: &Figures| {
            let [p50, p99, longest] = figures.trips();
            println!(
                "| {subscribers} | {shards} | {name} | {} | {p50:.2} | {p99:.2} | {longest:.2} | {} | {} |",
                figures.round_trips.len(),
                figures.turns.quantile(0.99),
                figures.turns.quantile(1.0),
            );
        };
        row("without", &without);
        row("with", &with);
        let [before, beside] = [without.trips(), with.trips()];
        println!(
            "| {subscribers} | {shards} | difference | | {:.2} | {:.2} | {:.2} | | |",
            beside[0] - before[0],
            beside[1] - before[1],
            beside[2] - before[2],
        );
    }
}

/// What was seen without fan-outs, or with them.
#[derive(Default)]
struct Figures {
    /// Sorted at the end.
    round_trips: Vec<Duration>,
    turns: Turns,
}

impl Figures {
    /// Median, 99th percentile and longest, in milliseconds.
    fn trips(&self) -> [f64; 3] {
        let trips = &self.round_trips;
        let last = trips.len() - 1;
        [trips.len() / 2, last - trips.len() / 100, last].map(|at| trips[at].as_secs_f64() * 1e3)
    }
}

fn shards_for(subscribers: usize) -> u16 {
    let limit = getrlimit(Resource::Nofile).current.unwrap_or(u64::MAX);
    let (part, whole) = TABLE_SHARE;
    let each = (limit as usize).saturating_mul(part) / whole;
    u16::try_from(subscribers.div_ceil(each)).expect("so many threads are not for one core")
}

fn measure(subscribers: usize, shards: u16, core: usize, options: &Options) -> [Figures; 2] {
    let mut child = Child::start(&[SERVER_ARGUMENT, &shards.to_string()], core);
    let admin = child.hear().parse().expect("an address");
    let mut sentinels: Vec<_> = publisher::sentinels(&child, shards).collect();
    let mut crowd = Crowd::gather(child.address.port(), LISTENS, subscribers);
    sentinels.extend(publisher::sentinels(&child, shards));
    let mut publisher = Publisher::connect(&child, sentinels);
    let mut probe = Probe::connect(&child, Duration::from_secs(1) / options.rate);
    publisher.publish(1);
    crowd.read(publisher.published());

    let fan_outs = options.deliveries.div_ceil(subscribers);
    let [mut without, mut with] = [Figures::default(), Figures::default()];
    for round in 1..=options.rounds {
        let start = Turns::read(admin);
        let mut took = Duration::ZERO;
        let beside = probe.run_beside(|| {
            took = probe::took(|| (0..fan_outs).for_each(|_| publisher.publish(1)));
        });
        let middle = Turns::read(admin);
        crowd.read(publisher.published());
        // As long, so that both have as many chances of what has other causes.
        let quiet_start = Turns::read(admin);
        without.round_trips.extend(probe.run_for(took));
        without.turns.add(&quiet_start, &Turns::read(admin));
        with.round_trips.extend(beside);
        with.turns.add(&start, &middle);
        eprintln!("round {round}: {fan_outs} fan-outs to {subscribers} in {took:.2?}");
    }
    without.round_trips.sort_unstable();
    with.round_trips.sort_unstable();
    [without, with]
}
