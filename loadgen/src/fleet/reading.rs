//! How long what the server has said has lain unread.

use std::collections::HashMap;

use crate::{clock::Moment, latency::Latency, report::UNREAD};

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

    /// A turn of the first ring from one millisecond to another.
    fn visit(from: u64, to: u64) -> Visit {
        let at = |millis| Moment::default() + Duration::from_millis(millis);
        Visit {
            ring: 0,
            from: at(from),
            to: at(to),
            has_waited: false,
            has_caught_up: true,
        }
    }

    fn of_ring(ring: usize, visit: Visit) -> Visit {
        Visit { ring, ..visit }
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
        let waited = Visit {
            has_waited: true,
            ..visit(10, 900)
        };
        reading.note(waited, bytes([0]));
        assert_eq!(longest(&reading), 0);
        // It was read from 900 ms on.
        reading.note(visit(950, 960), bytes([0]));
        assert_eq!(longest(&reading), 60);
    }

    #[test]
    fn what_is_found_may_have_come_since_the_turn_before_began() {
        let mut reading = Reading::new(2);
        reading.note(of_ring(0, visit(10, 20)), bytes([]));
        reading.note(of_ring(1, visit(10, 20)), bytes([]));
        reading.note(of_ring(1, visit(100, 110)), bytes([7, 8]));
        assert_eq!(longest(&reading), 100);
        assert_eq!(reading.unread().corrected.percentiles().count, 2);
        reading.forget();
        reading.note(of_ring(1, visit(120, 130)), bytes([7]));
        assert_eq!(longest(&reading), 30);
    }

    #[test]
    fn what_was_left_lies_on() {
        let mut reading = Reading::new(1);
        reading.note(visit(100, 101), bytes([]));
        for turn in 2..=5 {
            let behind = Visit {
                has_caught_up: false,
                ..visit(100 * turn, 100 * turn + 1)
            };
            reading.note(behind, bytes([0]));
        }
        assert_eq!(longest(&reading), 401);
    }

    #[test]
    fn who_found_no_buffer_waits_on_and_nobody_else() {
        let mut reading = Reading::new(1);
        for turn in 1..=5 {
            let found = [(1, Found::NoBuffer), (2, Found::Bytes)];
            reading.note(visit(100 * turn, 100 * turn), found.into_iter());
        }
        assert_eq!(longest(&reading), 100);
        reading.note(visit(600, 600), bytes([1]));
        assert_eq!(longest(&reading), 600);
        reading.forget();
        reading.note(visit(700, 700), bytes([1]));
        assert_eq!(longest(&reading), 100);
        // Whoever has the number next has not waited with it.
        reading.note(visit(800, 800), [(1, Found::NoBuffer)].into_iter());
        reading.note(visit(900, 900), bytes([]));
        reading.begin(1);
        reading.note(visit(1000, 1000), bytes([1]));
        assert_eq!(longest(&reading), 100);
    }
}
