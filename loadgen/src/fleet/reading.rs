//! How long what the server has said has lain unread.

use std::collections::HashMap;

use crate::{clock::Moment, latency::Latency};

/// It is reported as a latency of this name.
const UNREAD: &str = "unread";

/// Of each ring since when nothing may have been overlooked. What a turn finds there has arrived later, and
/// may have waited since: an upper bound, for the kernel does not tell when it did arrive.
#[derive(Debug)]
pub(super) struct Reading {
    seen_until: Vec<Moment>,
    /// Clients that had something to read, and no buffer was free: since when it may have been there.
    starved: HashMap<u32, Moment>,
    unread: Latency,
}

/// What a turn of a ring was like.
#[derive(Clone, Copy, Debug)]
pub(super) struct Visit {
    pub(super) ring: usize,
    /// When it began.
    pub(super) from: Moment,
    /// When the kernel was left.
    pub(super) to: Moment,
    /// There was nothing to read when it began, and it waited for something.
    pub(super) has_waited: bool,
    /// Nothing was left that had arrived before it ended.
    pub(super) has_caught_up: bool,
}

/// What a turn found of a client.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) enum Found {
    Bytes,
    /// It had something to read, and no buffer was free.
    NoBuffer,
}

impl Reading {
    pub(super) fn new(rings: usize) -> Self {
        Self {
            seen_until: vec![Moment::default(); rings],
            starved: HashMap::new(),
            unread: Latency::new(UNREAD),
        }
    }

    /// Takes note of a turn, and of the clients of whom it found something.
    pub(super) fn note(&mut self, visit: Visit, found: impl Iterator<Item = (u32, Found)>) {
        let seen_until = &mut self.seen_until[visit.ring];
        if visit.has_waited {
            // Whatever came has ended the wait.
            *seen_until = visit.to;
        }
        let mut reads = 0;
        for (client, found) in found {
            match found {
                Found::NoBuffer => {
                    self.starved.entry(client).or_insert(*seen_until);
                }
                Found::Bytes if self.starved.is_empty() => reads += 1,
                Found::Bytes => match self.starved.remove(&client) {
                    Some(since) => self.unread.record_planned(visit.to, since),
                    None => reads += 1,
                },
            }
        }
        self.unread.record_many(visit.to, *seen_until, reads);
        if visit.has_caught_up {
            *seen_until = visit.from.max(*seen_until);
        }
    }

    /// A client has another socket now.
    pub(super) fn begin(&mut self, client: u32) {
        self.starved.remove(&client);
    }

    /// Forgets what was read before now.
    pub(super) fn forget(&mut self) {
        self.unread = Latency::new(UNREAD);
    }

    /// What was read since.
    pub(super) const fn unread(&self) -> &Latency {
        &self.unread
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    const READ: Visit = Visit {
        ring: 0,
        from: Moment::from_nanos(0),
        to: Moment::from_nanos(0),
        has_waited: false,
        has_caught_up: true,
    };

    fn at(millis: u64) -> Moment {
        Moment::default() + Duration::from_millis(millis)
    }

    fn bytes(clients: impl IntoIterator<Item = u32>) -> impl Iterator<Item = (u32, Found)> {
        clients.into_iter().map(|client| (client, Found::Bytes))
    }

    /// The longest that anything has lain unread, in milliseconds.
    fn longest(reading: &Reading) -> u64 {
        (reading.unread().corrected.percentiles().max + 500_000) / 1_000_000
    }

    #[test]
    fn what_ends_a_wait_has_not_lain() {
        let mut reading = Reading::new(1);
        let (from, to) = (at(10), at(900));
        let has_waited = true;
        reading.note(
            Visit {
                from,
                to,
                has_waited,
                ..READ
            },
            bytes([0]),
        );
        assert_eq!(longest(&reading), 0);
        // It was read from 900 ms on.
        let (from, to) = (at(950), at(960));
        reading.note(Visit { from, to, ..READ }, bytes([0]));
        assert_eq!(longest(&reading), 60);
    }

    #[test]
    fn what_is_found_may_have_come_since_the_turn_before_began() {
        let mut reading = Reading::new(2);
        let (from, to) = (at(10), at(20));
        for ring in [0, 1] {
            reading.note(
                Visit {
                    ring,
                    from,
                    to,
                    ..READ
                },
                bytes([]),
            );
        }
        let ring = 1;
        let (from, to) = (at(100), at(110));
        reading.note(
            Visit {
                ring,
                from,
                to,
                ..READ
            },
            bytes([7, 8]),
        );
        assert_eq!(longest(&reading), 100);
        assert_eq!(reading.unread().corrected.percentiles().count, 2);
        reading.forget();
        let (from, to) = (at(120), at(130));
        reading.note(
            Visit {
                ring,
                from,
                to,
                ..READ
            },
            bytes([7]),
        );
        assert_eq!(longest(&reading), 30);
    }

    #[test]
    fn what_was_left_lies_on() {
        let mut reading = Reading::new(1);
        for turn in 1..=5 {
            let (from, to) = (at(100 * turn), at(100 * turn + 1));
            let has_caught_up = turn == 1;
            reading.note(
                Visit {
                    from,
                    to,
                    has_caught_up,
                    ..READ
                },
                bytes([0]),
            );
        }
        assert_eq!(longest(&reading), 401);
    }

    #[test]
    fn who_found_no_buffer_waits_on_and_nobody_else() {
        let mut reading = Reading::new(1);
        for turn in 1..=5 {
            let (from, to) = (at(100 * turn), at(100 * turn));
            let found = [(1, Found::NoBuffer), (2, Found::Bytes)];
            reading.note(Visit { from, to, ..READ }, found.into_iter());
        }
        assert_eq!(longest(&reading), 100);
        let (from, to) = (at(600), at(600));
        reading.note(Visit { from, to, ..READ }, bytes([1]));
        assert_eq!(longest(&reading), 600);
        reading.forget();
        let (from, to) = (at(700), at(700));
        reading.note(Visit { from, to, ..READ }, bytes([1]));
        assert_eq!(longest(&reading), 100);
    }
}
