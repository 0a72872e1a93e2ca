//! Counts of what the clients have received.

use std::ops::RangeInclusive;

/// Counts of what the clients of a ring have received.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub struct ClientCounts {
    /// Opening handshakes with a valid response.
    pub opened: u64,
    /// Pings, each answered.
    pub pings: u64,
    /// Binary messages that were echoed unchanged.
    pub echoes: u64,
    /// Published messages.
    pub published: u64,
    /// Close frames of the server: each was answered, or was an answer.
    pub closes: u64,
    /// Connections that ended with Close and FIN in both directions.
    pub ended_in_order: u64,
    /// Connections of vanished clients that the server has closed.
    pub reset_in_silence: u64,
    /// The shortest and the longest silence of those clients before the end, in milliseconds.
    pub silent_ms: Option<RangeInclusive<u64>>,
    /// Sends to vanished clients.
    pub lost: u64,
}

impl ClientCounts {
    /// Adds the counts of another ring.
    pub fn add(&mut self, other: &Self) {
        self.opened += other.opened;
        self.pings += other.pings;
        self.echoes += other.echoes;
        self.published += other.published;
        self.closes += other.closes;
        self.ended_in_order += other.ended_in_order;
        self.reset_in_silence += other.reset_in_silence;
        self.lost += other.lost;
        if let Some(range) = &other.silent_ms {
            self.add_silence(*range.start(), *range.end());
        }
    }

    pub(super) fn add_silence(&mut self, shortest_ms: u64, longest_ms: u64) {
        let (min_ms, max_ms) = match &self.silent_ms {
            Some(range) => (*range.start(), *range.end()),
            None => (u64::MAX, 0),
        };
        self.silent_ms = Some(min_ms.min(shortest_ms)..=max_ms.max(longest_ms));
    }
}
