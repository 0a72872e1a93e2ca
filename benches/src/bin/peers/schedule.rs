//! The order in which servers are measured, and the measurements of each.

use benches::results::{Output, Run, host::command};
use clap::Args;

use crate::{host, servers::Kind};

/// Server whose CPU is the divisor of the ratios.
pub(crate) const BASELINE: Kind = Kind::Fastwebsockets;

/// Number of rounds, and the servers of each round.
#[derive(Args, Clone, Debug)]
pub(crate) struct Schedule {
    /// Rounds; each measures every server once
    #[arg(long = "rounds", value_name = "N", default_value = "5",
          value_parser = clap::value_parser!(u16).range(1..))]
    rounds: u16,
    /// Servers to measure; all if none is given
    #[arg(long, value_name = "SERVER", value_enum)]
    only: Vec<Kind>,
    #[command(flatten)]
    output: Output,
}

/// Measurements of each server, one for each round.
pub(crate) struct Measurements<T>(Vec<(Kind, Vec<T>)>);

impl Schedule {
    /// Measures every server once in each round. The order is rotated by one server from round to round.
    pub(crate) fn measure<T>(
        &self,
        servers: &[Kind],
        mut measure: impl FnMut(Kind, Round) -> T,
    ) -> Measurements<T> {
        let asked = |kind: &Kind| self.only.is_empty() || self.only.contains(kind);
        let servers = servers.iter().copied().filter(asked);
        let mut measured: Vec<(Kind, Vec<T>)> = servers.map(|kind| (kind, Vec::new())).collect();
        for number in 1..=self.rounds {
            for _ in 0..measured.len() {
                let (kind, measurements) = &mut measured[0];
                measurements.push(measure(*kind, Round(number)));
                measured.rotate_left(1);
            }
            let shift = 1.min(measured.len());
            measured.rotate_left(shift);
        }
        measured.sort_by_key(|(kind, _)| *kind as u8);
        Measurements(measured)
    }

    /// Prints a title, the table that `compare` prints, and the load averages; saves the run that `compare` fills.
    pub(crate) fn report(&self, benchmark: &str, title: &str, compare: impl FnOnce(&mut Run)) {
        let before = host::load_average();
        println!("{title}; {} rounds:\n", self.rounds);
        let mut run = new_run(benchmark);
        compare(&mut run);
        let after = host::load_average();
        println!("\nLoad average before {before}; after {after}.\n");
        self.output.save(&run);
    }
}

/// Starts the record of a run of a subcommand.
pub(crate) fn new_run(benchmark: &str) -> Run {
    Run::new(benchmark, command("run --release -p benches --bin peers"))
}

/// Number of a round, from 1.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Round(u16);

impl Round {
    /// Prints a measurement to standard error, as a sign of progress.
    pub(crate) fn log(self, kind: Kind, measurement: &str) {
        eprintln!("round {}: {kind}: {measurement}", self.0);
    }
}

impl<T> Measurements<T> {
    /// Returns each server with its measurements.
    pub(crate) fn iter(&self) -> impl Iterator<Item = (Kind, &[T])> {
        self.0.iter().map(|(kind, rounds)| (*kind, &rounds[..]))
    }

    /// Returns the measurements of one server, if it was measured.
    pub(crate) fn of(&self, kind: Kind) -> Option<&[T]> {
        let mut all = self.iter();
        all.find_map(|(other, rounds)| (other == kind).then_some(rounds))
    }
}
