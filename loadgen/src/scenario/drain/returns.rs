//! Clients that come back when their server has gone away.

use std::{cmp::Reverse, collections::BinaryHeap, time::Duration};

use fastrand::Rng;

use crate::{
    clock::Moment,
    fleet::{Approach, Event},
    latency::Latency,
    outcome::Outcome,
    session::Session,
};

/// Who could not come back tries again after this time.
const RETRY_AFTER: Duration = Duration::from_millis(50);

/// All clients of a session, on their way back or not.
#[derive(Debug)]
pub(super) struct Returns {
    approach: Approach,
    /// Each first tries at a random moment within this time: not all in the same one.
    within: Duration,
    rng: Rng,
    gone: Vec<Option<Gone>>,
    /// When who connects.
    due: BinaryHeap<Reverse<(Moment, u32)>>,
    /// From when a client heard of the end until it was open again.
    pub(super) outage: Latency,
    /// Attempts that were refused.
    pub(super) refused: u64,
    /// Clients that are back.
    pub(super) back: usize,
}

/// A client whose server has gone away.
#[derive(Clone, Copy, Debug)]
struct Gone {
    /// When it heard of that.
    at: Moment,
    /// Whether it has tried to come back.
    has_tried: bool,
}

impl Returns {
    pub(super) fn new(clients: u32, approach: Approach, within: Duration, seed: u64) -> Self {
        Self {
            approach,
            within,
            rng: Rng::with_seed(seed),
            gone: vec![None; clients as usize],
            due: BinaryHeap::new(),
            outage: Latency::new("outage"),
            refused: 0,
            back: 0,
        }
    }

    /// Takes note of an event.
    pub(super) fn note(&mut self, event: &Event, now: Moment) {
        let here = Gone {
            at: now,
            has_tried: false,
        };
        match event {
            Event::CloseReceived { client } => {
                self.gone[*client as usize].get_or_insert(here);
            }
            Event::Ended {
                client, outcome, ..
            } => {
                self.gone[*client as usize].get_or_insert(here);
                let refused = matches!(outcome, Outcome::Refused | Outcome::ConnectFailed);
                self.refused += u64::from(refused);
            }
            Event::Released { client } => {
                let gone = self.gone[*client as usize].get_or_insert(here);
                let after = match gone.has_tried {
                    true => RETRY_AFTER,
                    false => self.within.mul_f64(self.rng.f64()),
                };
                gone.has_tried = true;
                self.due.push(Reverse((now + after, *client)));
            }
            Event::Opened { client } => {
                if let Some(gone) = self.gone[*client as usize].take() {
                    self.outage.record_planned(now, gone.at);
                    self.back += 1;
                }
            }
            Event::Connected { .. } | Event::Message { .. } => {}
        }
    }

    /// Lets those connect whose time it is.
    pub(super) fn connect_due(&mut self, session: &mut Session, now: Moment) {
        while session.connects_free() > 0
            && let Some(&Reverse((at, client))) = self.due.peek()
            && at <= now
        {
            self.due.pop();
            session.connect(client, self.approach, now);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_outage_lasts_from_the_goodbye_until_the_client_is_back() {
        let approach = Approach::Upgrade { check_echo: true };
        let within = Duration::from_millis(400);
        let mut returns = Returns::new(3, approach, within, 1);
        let at = |millis: u64| Moment::from_nanos(millis * 1_000_000);
        let client = 1;
        let ended = |outcome| Event::Ended {
            client,
            outcome,
            detail: None,
        };
        returns.note(&Event::CloseReceived { client }, at(1000));
        returns.note(&ended(Outcome::Dismissed), at(1001));
        returns.note(&Event::Released { client }, at(1002));
        let Reverse((first, _)) = returns.due.pop().unwrap();
        assert!((at(1002)..=at(1402)).contains(&first), "{first:?}");
        returns.note(&ended(Outcome::Refused), at(1200));
        returns.note(&Event::Released { client }, at(1200));
        assert_eq!(returns.due.pop(), Some(Reverse((at(1250), client))));
        returns.note(&Event::Opened { client }, at(1300));
        assert_eq!((returns.back, returns.refused), (1, 1));
        let outage = returns.outage.corrected.percentiles();
        assert!(
            (299_000_000..=301_000_000).contains(&outage.max),
            "{outage:?}"
        );
    }
}
