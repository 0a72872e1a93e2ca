//! Round trip of an echo on a server that fans out messages to many subscribers at the same time.
//!
//! The subscribers read nothing meanwhile, so that they take no CPU. They read between the measurements.

mod echo_client;
mod server;
mod turn_durations;

use std::time::Duration;

use benches::results::{Figure, Output, Run};
use clap::Args;
use rustix::process::{Resource, getrlimit};

use self::turn_durations::TurnDurations;
use crate::{
    fanout::message,
    host,
    publisher::{self, Publisher, SUBSCRIBER_PATH},
    schedule::new_run,
    server_process::ServerProcess,
    subscribers::Subscribers,
};

pub(crate) use self::{
    echo_client::EchoClient,
    server::{ECHO_PATH, serve},
};

/// Subcommand that runs the server.
pub(crate) const SERVER_ARGUMENT: &str = "echo-during-fanout-server";

/// Largest share of a shard's table that the mean number of connections may take, as numerator and denominator. The
/// kernel distributes connections at random.
const TABLE_SHARE: (usize, usize) = (9, 10);

#[derive(Args)]
pub(crate) struct Options {
    /// Subscribers
    #[arg(long, num_args = 1.., default_values_t = [18_000, 100_000])]
    subscribers: Vec<usize>,
    /// Shards, all on one core; by default as few as RLIMIT_NOFILE allows
    #[arg(long)]
    shards: Option<u16>,
    /// Rounds; each measures once with fan-outs and once without
    #[arg(long, default_value_t = 5)]
    rounds: usize,
    /// Deliveries of a round, in as many fan-outs as that takes. They stay in the kernel, which needs more than a
    /// thousand bytes for each
    #[arg(long, default_value_t = 500_000)]
    deliveries: usize,
    /// Echoes a second
    #[arg(long, default_value_t = 200)]
    rate: u32,
    #[command(flatten)]
    output: Output,
}

/// Measures with each number of subscribers, and prints a table.
pub(crate) fn compare(options: &Options) {
    let (server_core, client_core) = host::server_and_client_core();
    host::pin(client_core);
    println!(
        "An echo of {} bytes, {} times a second, {} rounds of some {} deliveries; load average {}\n",
        message::PAYLOAD_SIZE,
        options.rate,
        options.rounds,
        options.deliveries,
        host::load_average(),
    );
    println!(
        "| subscribers | shards | | echoes | p50, ms | p99 | longest | turns: p99, ms | longest |\n\
         |--:|--:|---|--:|--:|--:|--:|--:|--:|"
    );
    let mut run = new_run("echo-during-fanout");
    for &subscribers in &options.subscribers {
        let shards = options.shards.unwrap_or_else(|| shards_for(subscribers));
        let [without, with] = measure(subscribers, shards, server_core, options);
        print(subscribers, shards, &without, &with, &mut run);
    }
    options.output.save(&run);
}

fn print(
    subscribers: usize,
    shards: u16,
    without: &Measurements,
    with: &Measurements,
    run: &mut Run,
) {
    for (name, measured) in [("without", without), ("with", with)] {
        let [p50, p99, longest] = measured.round_trips_ms();
        println!(
            "| {subscribers} | {shards} | {name} | {} | {p50:.2} | {p99:.2} | {longest:.2} | {} | {} |",
            measured.round_trips.len(),
            measured.turns.quantile(0.99),
            measured.turns.quantile(1.0),
        );
    }
    let [before, during] = [without.round_trips_ms(), with.round_trips_ms()];
    let [p50, p99, longest] = [0, 1, 2].map(|at| during[at] - before[at]);
    println!(
        "| {subscribers} | {shards} | difference | | {p50:.2} | {p99:.2} | {longest:.2} | | |"
    );
    let plural = if shards == 1 { "" } else { "s" };
    let row = format!("{subscribers} subscribers, {shards} shard{plural}");
    let n = without.round_trips.len();
    for (column, p99) in [
        ("without", before[1]),
        ("with", during[1]),
        ("difference", p99),
    ] {
        run.add(&row, n, column, Figure::median(p99));
    }
}

/// Measurements with fan-outs, or without.
#[derive(Default)]
pub(crate) struct Measurements {
    /// Round trips of all rounds; sorted at the end.
    round_trips: Vec<Duration>,
    turns: TurnDurations,
}

impl Measurements {
    /// Adds round trips.
    pub(crate) fn add(&mut self, round_trips: Vec<Duration>) {
        self.round_trips.extend(round_trips);
    }

    /// Returns the number of round trips; and the median, the 99th percentile and the longest, in milliseconds.
    pub(crate) fn finish(&mut self) -> (usize, [f64; 3]) {
        self.round_trips.sort_unstable();
        (self.round_trips.len(), self.round_trips_ms())
    }

    /// Returns the median, the 99th percentile and the longest round trip, in milliseconds.
    fn round_trips_ms(&self) -> [f64; 3] {
        let trips = &self.round_trips;
        let last = trips.len() - 1;
        [trips.len() / 2, last - trips.len() / 100, last].map(|at| trips[at].as_secs_f64() * 1e3)
    }
}

fn shards_for(subscribers: usize) -> u16 {
    let limit = getrlimit(Resource::Nofile).current.unwrap_or(u64::MAX);
    let (part, whole) = TABLE_SHARE;
    let each = (limit as usize).saturating_mul(part) / whole;
    u16::try_from(subscribers.div_ceil(each)).expect("RLIMIT_NOFILE is not tiny")
}

fn measure(subscribers: usize, shards: u16, core: usize, options: &Options) -> [Measurements; 2] {
    let mut server = ServerProcess::start(&[SERVER_ARGUMENT, &shards.to_string()], core);
    let admin = server.read_line();
    let admin = admin.parse().expect("the second line is an address");
    let mut sentinels: Vec<_> = publisher::sentinels(&server, shards).collect();
    let mut all = Subscribers::connect(server.address.port(), SUBSCRIBER_PATH, subscribers);
    sentinels.extend(publisher::sentinels(&server, shards));
    let mut publisher = Publisher::connect(&server, sentinels);
    let mut client = EchoClient::connect(&server, Duration::from_secs(1) / options.rate);
    publisher.publish(1);
    all.read(publisher.published());

    let fan_outs = options.deliveries.div_ceil(subscribers);
    let [mut without, mut with] = [Measurements::default(), Measurements::default()];
    for round in 1..=options.rounds {
        let start = TurnDurations::read(admin);
        let mut period = Duration::ZERO;
        let round_trips = client.run_during(|| {
            period = echo_client::duration_of(|| (0..fan_outs).for_each(|_| publisher.publish(1)));
        });
        with.turns.add(&start, &TurnDurations::read(admin));
        with.round_trips.extend(round_trips);
        all.read(publisher.published());
        // The same period, so that both measurements meet other load with the same probability.
        let start = TurnDurations::read(admin);
        without.round_trips.extend(client.run_for(period));
        without.turns.add(&start, &TurnDurations::read(admin));
        eprintln!("round {round}: {fan_outs} fan-outs to {subscribers} in {period:.2?}");
    }
    without.round_trips.sort_unstable();
    with.round_trips.sort_unstable();
    [without, with]
}
