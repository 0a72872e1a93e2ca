//! Rounds, in each of which every server has its turn.

use clap::Args;

use crate::{cores, servers::Kind};

/// What the costs of the others are compared with.
pub(crate) const BASELINE: Kind = Kind::Fastwebsockets;

/// How many rounds there are, and of whom.
#[derive(Args, Clone, Debug)]
pub(crate) struct Rounds {
    /// Rounds, in each of which every server has its turn
    #[arg(long = "rounds", value_name = "N", default_value = "5",
          value_parser = clap::value_parser!(u16).range(1..))]
    count: u16,
    /// Servers; all, if none is given
    #[arg(long, value_name = "SERVER", value_enum)]
    only: Vec<Kind>,
}

/// What was measured of each server, round by round.
pub(crate) struct Measured<T>(Vec<(Kind, Vec<T>)>);

impl Rounds {
    /// Lets all servers have their turn in each round, in an order that is rotated by one from round
    /// to round.
    pub(crate) fn measure<T>(
        &self,
        servers: &[Kind],
        mut turn: impl FnMut(Kind, Turn) -> T,
    ) -> Measured<T> {
        let asked = |kind: &Kind| self.only.is_empty() || self.only.contains(kind);
        let servers = servers.iter().copied().filter(asked);
        let mut measured: Vec<(Kind, Vec<T>)> = servers.map(|kind| (kind, Vec::new())).collect();
        for number in 1..=self.count {
            for _ in 0..measured.len() {
                let (kind, rounds) = &mut measured[0];
                rounds.push(turn(*kind, Turn(number)));
                measured.rotate_left(1);
            }
            let others_first = 1.min(measured.len());
            measured.rotate_left(others_first);
        }
        measured.sort_by_key(|(kind, _)| *kind as u8);
        Measured(measured)
    }

    /// Prints what was compared, lets `compare` print its table, and how busy this host was.
    pub(crate) fn report(&self, what: &str, compare: impl FnOnce()) {
        let before = cores::load_average();
        println!("{what}; {} rounds:\n", self.count);
        compare();
        let after = cores::load_average();
        println!("\nLoad average before {before}; after {after}.\n");
    }
}

/// A server's turn in a round, by the round's number.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Turn(u16);

impl Turn {
    /// Tells whoever waits for the table.
    pub(crate) fn tell(self, kind: Kind, what: &str) {
        eprintln!("round {}: {kind}: {what}", self.0);
    }
}

impl<T> Measured<T> {
    /// Each server with its rounds.
    pub(crate) fn iter(&self) -> impl Iterator<Item = (Kind, &[T])> {
        self.0.iter().map(|(kind, rounds)| (*kind, &rounds[..]))
    }

    /// The rounds of one server, if it took part.
    pub(crate) fn of(&self, kind: Kind) -> Option<&[T]> {
        let mut all = self.iter();
        all.find_map(|(other, rounds)| (other == kind).then_some(rounds))
    }
}
