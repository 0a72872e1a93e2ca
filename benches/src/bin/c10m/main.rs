//! Ten million connections on the shards of one server, over a simulated kernel: what they cost in
//! user space.
//!
//! `cargo run --release -p benches --bin c10m`
//!
//! The shards are the server's own, with their mailboxes between them, on one thread and in virtual
//! time. Below them is [`PopulationRing`](tidewheel::ring::sim::PopulationRing), which takes few bytes for a
//! client, and works only when it is entered. So what a turn of a shard takes is the server's CPU,
//! and what is allocated in it is the server's memory, but for what the ring does in calls from the
//! turn: that is told apart ([`watched`]).

mod application;
mod ledger;
mod meter;
mod report;
mod story;
mod watched;
mod world;

use clap::Parser;

#[global_allocator]
static ALLOCATOR: ledger::Ledger = ledger::Ledger;

/// What ten million connections cost in user space, over a simulated kernel
#[derive(Clone, Debug, Parser)]
pub(crate) struct Options {
    /// Connections: a number, in thousands with k, in millions with M
    #[arg(long, default_value = "10M", value_parser = count)]
    connections: u32,
    /// Shards of the server, among which the connections are spread evenly
    #[arg(long, default_value_t = 16, value_parser = clap::value_parser!(u16).range(1..))]
    shards: u16,
    /// Bytes of each message
    #[arg(long, default_value_t = 64, value_parser = clap::value_parser!(u16).range(8..=4096))]
    message_size: u16,
    /// Decides what is left to chance: nonces, masking keys
    #[arg(long, default_value_t = 1)]
    seed: u64,
}

fn count(text: &str) -> Result<u32, String> {
    let (digits, unit) = match text.as_bytes().last() {
        Some(b'k') => (&text[..text.len() - 1], 1_000),
        Some(b'M') => (&text[..text.len() - 1], 1_000_000),
        _ => (text, 1),
    };
    let number = digits.parse::<u32>().ok();
    let count = number.and_then(|number| number.checked_mul(unit));
    count
        .filter(|count| (1..=12_000_000).contains(count))
        .ok_or_else(|| "a number of connections is 1 to 12M, such as 500, 20k or 10M".to_owned())
}

fn main() {
    let options = Options::parse();
    println!("{}", story::tell(&options));
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn forty_thousand_connections_go_through_every_phase() {
        let options = Options {
            // Enough for a shard to put off some of what is published at once.
            connections: 40_000,
            shards: 2,
            message_size: 64,
            seed: 7,
        };
        // The story asserts what each phase has come to.
        let report = story::tell(&options);
        let bytes = report.idle_bytes();
        assert!(
            (100.0..=200.0).contains(&bytes),
            "{bytes} bytes for an idle connection"
        );
    }

    #[test]
    fn counts_are_read() {
        assert_eq!(count("10M"), Ok(10_000_000));
        assert_eq!(count("20k"), Ok(20_000));
        assert_eq!(count("7"), Ok(7));
        assert!(count("0").is_err() && count("5000M").is_err() && count("M").is_err());
    }
}
