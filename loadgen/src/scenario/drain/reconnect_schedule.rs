//! Reconnects of clients whose server has shut down.

use std::{cmp::Reverse, collections::BinaryHeap, time::Duration};

use fastrand::Rng;

use crate::{
    fleet::{
        event::{Event, Opening},
        outcome::Outcome,
    },
    measure::{clock::Moment, latency::Latency},
    session::Session,
};

/// Time after which a client repeats a failed connect.
const RETRY_AFTER: Duration = Duration::from_millis(50);

/// Reconnects of all clients of a session.
#[derive(Debug)]
pub(super) struct ReconnectSchedule {
    opening: Opening,
    /// Time over which the first attempts of the clients are spread at random.
    within: Duration,
    rng: Rng,
    /// Outage of each client that has no open connection.
    outages: Vec<Option<Outage>>,
    /// Moments of attempts, with the client.
    due: BinaryHeap<Reverse<(Moment, u32)>>,
    /// Latency from the moment at which a client learns of the shutdown until it is open again.
    pub(super) outage: Latency,
    /// Number of attempts that were refused.
    pub(super) refused: u64,
    /// Number of clients that are open again.
    pub(super) open_again: usize,
}

/// Outage of a client.
#[derive(Clone, Copy, Debug)]
struct Outage {
    /// Moment at which the client learnt of the shutdown.
    at: Moment,
    /// Whether the client has tried to reconnect.
    has_tried: bool,
}

impl ReconnectSchedule {
    pub(super) fn new(clients: u32, opening: Opening, within: Duration, seed: u64) -> Self {
        Self {
            opening,
            within,
            rng: Rng::with_seed(seed),
            outages: vec![None; clients as usize],
            due: BinaryHeap::new(),
            outage: Latency::new("outage"),
            refused: 0,
            open_again: 0,
        }
    }

    /// Handles an event.
    pub(super) fn handle(&mut self, event: &Event, now: Moment) {
        let outage = Outage {
            at: now,
            has_tried: false,
        };
        match event {
            Event::CloseReceived { client } => {
                self.outages[*client as usize].get_or_insert(outage);
            }
            Event::Ended {
                client, outcome, ..
            } => {
                self.outages[*client as usize].get_or_insert(outage);
                let refused = matches!(outcome, Outcome::Refused | Outcome::ConnectFailed);
                self.refused += u64::from(refused);
            }
            Event::Released { client } => {
                let outage = self.outages[*client as usize].get_or_insert(outage);
                let after = match outage.has_tried {
                    true => RETRY_AFTER,
                    false => self.within.mul_f64(self.rng.f64()),
                };
                outage.has_tried = true;
                self.due.push(Reverse((now + after, *client)));
            }
            Event::Opened { client } => {
                if let Some(outage) = self.outages[*client as usize].take() {
                    self.outage.record_planned(now, outage.at);
                    self.open_again += 1;
                }
            }
            Event::Connected { .. } | Event::Message { .. } => {}
        }
    }

    /// Starts the attempts that are due.
    pub(super) fn connect_due(&mut self, session: &mut Session, now: Moment) {
        while session.connects_allowed() > 0
            && let Some(&Reverse((at, client))) = self.due.peek()
            && at <= now
        {
            self.due.pop();
            session.connect(client, self.opening, now);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_outage_lasts_from_the_close_until_the_client_is_open_again() {
        let opening = Opening::Upgrade { check_echo: true };
        let within = Duration::from_millis(400);
        let mut reconnects = ReconnectSchedule::new(3, opening, within, 1);
        let at = |millis: u64| Moment::from_nanos(millis * 1_000_000);
        let client = 1;
        let ended = |outcome| Event::Ended {
            client,
            outcome,
            detail: None,
        };
        reconnects.handle(&Event::CloseReceived { client }, at(1000));
        reconnects.handle(&ended(Outcome::ShutDown), at(1001));
        reconnects.handle(&Event::Released { client }, at(1002));
        let Reverse((first, _)) = reconnects.due.pop().unwrap();
        assert!((at(1002)..=at(1402)).contains(&first), "{first:?}");
        reconnects.handle(&ended(Outcome::Refused), at(1200));
        reconnects.handle(&Event::Released { client }, at(1200));
        assert_eq!(reconnects.due.pop(), Some(Reverse((at(1250), client))));
        reconnects.handle(&Event::Opened { client }, at(1300));
        assert_eq!((reconnects.open_again, reconnects.refused), (1, 1));
        let outage = reconnects.outage.corrected.percentiles();
        assert!(
            (299_000_000..=301_000_000).contains(&outage.max),
            "{outage:?}"
        );
    }
}
