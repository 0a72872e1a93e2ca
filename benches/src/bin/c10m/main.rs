//! Memory and CPU in user space of ten million connections, on a simulated kernel.
//!
//! `cargo run --release -p benches --bin c10m`
//!
//! The shards are those of the server, with the mailboxes between them, on one thread and in virtual time. Their ring is
//! [`PopulationRing`](tidewheel::ring::sim::PopulationRing), which needs few bytes for a client, and works only when it is
//! entered. So the CPU of a turn is that of the server, and memory that is allocated in a turn is that of the server,
//! except in calls of the ring, which [`counting_ring`] counts apart.

mod application;
mod counting_ring;
mod memory_accounts;
mod phases;
mod report;
mod server;
mod turn_times;

use benches::results::Output;
use clap::Parser;

#[global_allocator]
static ALLOCATOR: memory_accounts::AccountingAllocator = memory_accounts::AccountingAllocator;

/// Measure memory and CPU in user space of ten million connections, on a simulated kernel
#[derive(Clone, Debug, Parser)]
pub(crate) struct Options {
    /// Number of connections; k stands for thousands, M for millions
    #[arg(long, default_value = "10M", value_parser = count)]
    connections: u32,
    /// Shards of the server, each with the same number of connections
    #[arg(long, default_value_t = 16, value_parser = clap::value_parser!(u16).range(1..))]
    shards: u16,
    /// Bytes of each message
    #[arg(long, default_value_t = 64, value_parser = clap::value_parser!(u16).range(8..=4096))]
    message_size: u16,
    /// Seed of nonces and masking keys
    #[arg(long, default_value_t = 1)]
    seed: u64,
    #[command(flatten)]
    output: Output,
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
    let report = phases::run(&options);
    println!("{report}");
    options.output.save(&report.to_run());
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn forty_thousand_connections_pass_every_phase() {
        let options = Options {
            // With so many subscribers, a shard delivers in several turns.
            connections: 40_000,
            shards: 2,
            message_size: 64,
            seed: 7,
            output: Output::default(),
        };
        // Each phase asserts its outcome.
        let report = phases::run(&options);
        let bytes = report.idle_bytes();
        assert!(
            (100.0..=200.0).contains(&bytes),
            "{bytes} bytes for each idle connection"
        );
    }

    #[test]
    fn a_count_may_have_a_unit_and_is_bounded() {
        assert_eq!(count("10M"), Ok(10_000_000));
        assert_eq!(count("20k"), Ok(20_000));
        assert_eq!(count("7"), Ok(7));
        assert!(count("0").is_err() && count("5000M").is_err() && count("M").is_err());
    }
}
