//! Upper bounds of the time that received bytes lay unread.

use std::collections::HashMap;

use crate::measure::{clock::Moment, latency::Latency, latency_names::UNREAD};

/// Measures upper bounds of the time that received bytes lay unread. The kernel does not report when
/// bytes arrived, so they count from the last moment at which the ring is known to have had none.
#[derive(Debug)]
pub(super) struct UnreadMeter {
    /// For each ring: the moment up to which all arrived bytes were read.
    read_until: Vec<Moment>,
    /// Clients with unread bytes for which no buffer was free, and the moment from which they count.
    starved: HashMap<u32, Moment>,
    unread: Latency,
}

/// A turn of a ring.
#[derive(Clone, Copy, Debug)]
pub(super) struct RingTurn {
    pub(super) ring: usize,
    /// Start of the turn.
    pub(super) from: Moment,
    /// Return from io_uring_enter(2).
    pub(super) to: Moment,
    /// Whether nothing was unread at the start, so that the turn waited.
    pub(super) has_waited: bool,
    /// Whether all bytes that had arrived before the end were read.
    pub(super) has_caught_up: bool,
}

/// Bytes of a client that a turn found.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) enum Arrival {
    Bytes,
    /// Bytes were unread, and no buffer was free.
    NoBuffer,
}

impl UnreadMeter {
    pub(super) fn new(rings: usize) -> Self {
        Self {
            read_until: vec![Moment::default(); rings],
            starved: HashMap::new(),
            unread: Latency::new(UNREAD),
        }
    }

    /// Records a turn, and the clients whose bytes it found.
    pub(super) fn record(
        &mut self,
        turn: RingTurn,
        arrivals: impl Iterator<Item = (u32, Arrival)>,
    ) {
        let read_until = &mut self.read_until[turn.ring];
        if turn.has_waited {
            // The first bytes ended the wait.
            *read_until = turn.to;
        }
        let mut reads = 0;
        for (client, arrival) in arrivals {
            match arrival {
                Arrival::NoBuffer => {
                    self.starved.entry(client).or_insert(*read_until);
                }
                Arrival::Bytes if self.starved.is_empty() => reads += 1,
                Arrival::Bytes => match self.starved.remove(&client) {
                    Some(since) => self.unread.record_planned(turn.to, since),
                    None => reads += 1,
                },
            }
        }
        self.unread.record_many(turn.to, *read_until, reads);
        if turn.has_caught_up {
            *read_until = turn.from.max(*read_until);
        }
    }

    /// Forgets the unread bytes of a client, which has a new socket.
    pub(super) fn reset_client(&mut self, client: u32) {
        self.starved.remove(&client);
    }

    /// Starts the measurement anew.
    pub(super) fn forget(&mut self) {
        self.unread = Latency::new(UNREAD);
    }

    /// Returns the upper bounds since the start of the measurement.
    pub(super) const fn unread(&self) -> &Latency {
        &self.unread
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    /// A turn of the first ring from one millisecond to another.
    fn turn(from: u64, to: u64) -> RingTurn {
        let at = |millis| Moment::default() + Duration::from_millis(millis);
        RingTurn {
            ring: 0,
            from: at(from),
            to: at(to),
            has_waited: false,
            has_caught_up: true,
        }
    }

    fn of_ring(ring: usize, turn: RingTurn) -> RingTurn {
        RingTurn { ring, ..turn }
    }

    fn bytes(clients: impl IntoIterator<Item = u32>) -> impl Iterator<Item = (u32, Arrival)> {
        clients.into_iter().map(|client| (client, Arrival::Bytes))
    }

    /// Returns the longest upper bound, in milliseconds.
    fn longest(meter: &UnreadMeter) -> u64 {
        (meter.unread().corrected.percentiles().max + 500_000) / 1_000_000
    }

    #[test]
    fn bytes_that_end_a_wait_lay_unread_for_no_time() {
        let mut meter = UnreadMeter::new(1);
        let waited = RingTurn {
            has_waited: true,
            ..turn(10, 900)
        };
        meter.record(waited, bytes([0]));
        assert_eq!(longest(&meter), 0);
        // Bytes of the next turn count from 900 ms.
        meter.record(turn(950, 960), bytes([0]));
        assert_eq!(longest(&meter), 60);
    }

    #[test]
    fn bytes_may_have_arrived_since_the_start_of_the_turn_before() {
        let mut meter = UnreadMeter::new(2);
        meter.record(of_ring(0, turn(10, 20)), bytes([]));
        meter.record(of_ring(1, turn(10, 20)), bytes([]));
        meter.record(of_ring(1, turn(100, 110)), bytes([7, 8]));
        assert_eq!(longest(&meter), 100);
        assert_eq!(meter.unread().corrected.percentiles().count, 2);
        meter.forget();
        meter.record(of_ring(1, turn(120, 130)), bytes([7]));
        assert_eq!(longest(&meter), 30);
    }

    #[test]
    fn bytes_that_a_turn_leaves_stay_unread() {
        let mut meter = UnreadMeter::new(1);
        meter.record(turn(100, 101), bytes([]));
        for number in 2..=5 {
            let behind = RingTurn {
                has_caught_up: false,
                ..turn(100 * number, 100 * number + 1)
            };
            meter.record(behind, bytes([0]));
        }
        assert_eq!(longest(&meter), 401);
    }

    #[test]
    fn only_a_client_without_a_buffer_stays_unread() {
        let mut meter = UnreadMeter::new(1);
        for number in 1..=5 {
            let found = [(1, Arrival::NoBuffer), (2, Arrival::Bytes)];
            meter.record(turn(100 * number, 100 * number), found.into_iter());
        }
        assert_eq!(longest(&meter), 100);
        meter.record(turn(600, 600), bytes([1]));
        assert_eq!(longest(&meter), 600);
        meter.forget();
        meter.record(turn(700, 700), bytes([1]));
        assert_eq!(longest(&meter), 100);
        // The next connection of the client has not waited.
        meter.record(turn(800, 800), [(1, Arrival::NoBuffer)].into_iter());
        meter.record(turn(900, 900), bytes([]));
        meter.reset_client(1);
        meter.record(turn(1000, 1000), bytes([1]));
        assert_eq!(longest(&meter), 100);
    }
}
