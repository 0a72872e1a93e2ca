//! Servers under the same work, side by side in one run: Tidewheel, its peers, and what the kernel alone costs.
//!
//! `cargo run --release -p benches --bin peers -- fanout`

mod beside;
mod child;
mod client;
mod cores;
mod crowd;
mod fanout;
mod publisher;
mod shards;

use clap::{Parser, Subcommand};
use mimalloc::MiMalloc;

#[global_allocator]
static ALLOCATOR: MiMalloc = MiMalloc;

/// Compares servers: each in a process on a core of its own, the clients on another
#[derive(Parser)]
struct Arguments {
    #[command(subcommand)]
    comparison: Comparison,
}

#[derive(Subcommand)]
enum Comparison {
    /// One message to very many subscribers: CPU for each delivery, and latency
    Fanout(fanout::Options),
    /// A server of `fanout`, as a child of this program
    #[command(name = fanout::SERVER_ARGUMENT, hide = true)]
    FanoutServer {
        /// Which one
        kind: fanout::Kind,
        /// The core that it keeps to
        core: usize,
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
    /// The server of `shards`, as a child of this program
    #[command(name = shards::SERVER_ARGUMENT, hide = true)]
    ShardsServer {
        /// How many there are
        shards: u16,
        /// The core of the first
        core: usize,
    },
    /// Subscribers in a process of their own
    #[command(name = crowd::ARGUMENT, hide = true)]
    Crowd(crowd::Seats),
}

fn main() {
    cores::raise_descriptor_limit();
    match Arguments::parse().comparison {
        Comparison::Fanout(options) => fanout::compare(&options),
        Comparison::FanoutServer { kind, core } => {
            child::become_one(core);
            fanout::serve(kind);
        }
        Comparison::Beside(options) => beside::compare(&options),
        Comparison::BesideServer { shards, core } => {
            child::become_one(core);
            beside::serve(shards);
        }
        Comparison::Shards(options) => shards::compare(&options),
        Comparison::ShardsServer { shards, .. } => {
            child::end_with_parent();
            beside::serve(shards);
        }
        Comparison::Crowd(seats) => crowd::sit(&seats),
    }
}
