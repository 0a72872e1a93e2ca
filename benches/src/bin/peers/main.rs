//! Servers under the same work, side by side in one run: Tidewheel, its peers, and what the kernel alone costs.
//!
//! `cargo run --release -p benches --bin peers` compares everything; `-- echo` and the others one thing.

mod beside;
mod child;
mod client;
mod close_storm;
mod connect;
mod cores;
mod cost;
mod crowd;
mod echo;
mod fanout;
mod figure;
mod generator;
mod idle;
mod publisher;
mod rounds;
mod servers;
mod shards;

use std::{ffi::OsString, process::ExitCode};

use clap::{Args, Command, FromArgMatches, Parser, Subcommand};
use mimalloc::MiMalloc;

use crate::rounds::Rounds;

#[global_allocator]
static ALLOCATOR: MiMalloc = MiMalloc;

/// Compares servers: each in a process on a core of its own, the clients on another
#[derive(Parser)]
#[command(
    args_conflicts_with_subcommands = true,
    after_help = "Without a comparison: all of them."
)]
struct Arguments {
    #[command(subcommand)]
    comparison: Option<Comparison>,
    #[command(flatten)]
    rounds: Rounds,
}

#[derive(Subcommand)]
enum Comparison {
    /// Messages that come back: CPU for each
    Echo(echo::Options),
    /// Opening handshakes: CPU for each
    Connect(connect::Options),
    /// Connections on which nothing is said: memory of each, and CPU
    Idle(idle::Options),
    /// All clients leave at one moment: CPU for each, latency, and whether silence is noticed
    CloseStorm(close_storm::Options),
    /// One message to very many subscribers: CPU for each delivery, and latency
    Fanout(fanout::Options),
    /// A server, as a child of this program or of the generator
    #[command(name = servers::ARGUMENT, hide = true)]
    Server(servers::Order),
    /// The generator, as a child of this program
    #[command(name = generator::ARGUMENT, hide = true, disable_help_flag = true)]
    Generator {
        /// Those of `loadgen`
        #[arg(trailing_var_arg = true, allow_hyphen_values = true)]
        arguments: Vec<OsString>,
    },
    /// An echo beside a fan-out to very many: its round trip with and without
    Beside(beside::Options),
    /// The server of `beside`, as a child of this program
    #[command(name = beside::SERVER_ARGUMENT, hide = true)]
    BesideServer {
        /// Its shards
        shards: u16,
        /// The core that they keep to
        core: usize,
    },
    /// Two shards against one: deliveries in a second, to subscribers that take no CPU
    Shards(shards::Options),
    /// A server of `shards`, as a child of this program
    #[command(name = shards::SERVER_ARGUMENT, hide = true)]
    ShardsServer {
        /// Which one
        kind: shards::Kind,
        /// Its shards, or threads
        shards: u16,
        /// The core of the first
        core: usize,
    },
    /// Subscribers in a process of their own
    #[command(name = crowd::ARGUMENT, hide = true)]
    Crowd(crowd::Seats),
}

fn main() -> ExitCode {
    cores::raise_descriptor_limit();
    match Arguments::parse().comparison {
        None => compare_all(),
        Some(Comparison::Echo(options)) => echo::compare(&options),
        Some(Comparison::Connect(options)) => connect::compare(&options),
        Some(Comparison::Idle(options)) => idle::compare(&options),
        Some(Comparison::CloseStorm(options)) => close_storm::compare(&options),
        Some(Comparison::Fanout(options)) => fanout::compare(&options),
        Some(Comparison::Server(order)) => return servers::serve(order),
        Some(Comparison::Generator { arguments }) => return generator::main(arguments),
        Some(Comparison::Beside(options)) => beside::compare(&options),
        Some(Comparison::BesideServer { shards, core }) => {
            child::become_one(core);
            beside::serve(shards);
        }
        Some(Comparison::Shards(options)) => shards::compare(&options),
        Some(Comparison::ShardsServer { kind, shards, core }) => shards::serve(kind, shards, core),
        Some(Comparison::Crowd(seats)) => crowd::sit(&seats),
    }
    ExitCode::SUCCESS
}

/// All comparisons, as many rounds of each as this process's arguments say, otherwise as by default.
fn compare_all() {
    echo::compare(&options());
    connect::compare(&options());
    idle::compare(&options());
    close_storm::compare(&options());
    fanout::compare(&options());
}

/// The options of a comparison, of this process's arguments.
fn options<T: Args + FromArgMatches>() -> T {
    let matches = T::augment_args(Command::new("peers")).get_matches();
    T::from_arg_matches(&matches).expect("they were parsed for it")
}
