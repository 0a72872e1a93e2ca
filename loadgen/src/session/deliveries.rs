//! Published messages, and their deliveries to subscribers.

mod receipts;

use fastrand::Rng;
use tidewheel::ring::Wait;

use crate::{
    fleet::{
        event::{Event, Payload},
        fingerprint::Fingerprint,
    },
    measure::{
        clock::Moment,
        figures::{FigureNames, Figures, Unit},
        latency::Latency,
        latency_names::LATENESS,
        plan::Plan,
    },
    report::status::{Failures, Problem},
    session::{
        Session, SessionError,
        deliveries::receipts::{Receipt, Receipts},
        load_model::LoadModel,
        topology::Topology,
    },
};

/// Length in bytes of the identification of a message: its publisher, and its number.
pub(crate) const MESSAGE_ID_BYTES: usize = 8;

/// Largest number of messages that are published between two turns.
const PUBLISH_BATCH_MAX: u32 = 16;

/// Figures of deliveries, see [`Deliveries::figures`].
pub(crate) const DELIVERY_FIGURES: FigureNames = &[
    ("fanout.published", Unit::Count),
    ("fanout.delivered", Unit::Count),
    ("lost", Unit::Count),
    ("altered", Unit::Count),
    ("out_of_order", Unit::Count),
    ("duplicates", Unit::Count),
];

/// The messages of all publishers, and their deliveries.
#[derive(Debug)]
pub(crate) struct Deliveries {
    topology: Topology,
    load_model: LoadModel,
    message: Vec<u8>,
    /// The messages of each publisher, by number.
    published: Vec<Vec<Published>>,
    receipts: Receipts,
    /// Number of open subscribers of each topic.
    subscribers: Vec<u32>,
    /// Start of the measured window: messages that are due before are not measured.
    measured_from: Moment,
    /// Latency to each subscriber.
    pub(crate) delivery: Latency,
    /// Latency to the last subscriber of each message.
    pub(crate) last: Latency,
    pub(crate) lateness: Latency,
    counts: Counts,
}

/// A message that was published.
#[derive(Clone, Copy, Debug)]
struct Published {
    due: Moment,
    sent: Moment,
    /// Number of subscribers that have not received it yet.
    pending: u32,
}

/// Counts of messages and deliveries, including those of the warm-up.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub(crate) struct Counts {
    pub(crate) published: u64,
    /// Messages that all subscribers have received, except those whose connection has ended.
    pub(crate) complete: u64,
    /// Deliveries that are expected of all published messages.
    expected: u64,
    pub(crate) delivered: u64,
    /// Expected deliveries to connections that have ended.
    cut_off: u64,
    altered: u64,
    out_of_order: u64,
    duplicates: u64,
    /// Deliveries of messages that were due in the measured window.
    pub(crate) measured: u64,
}

impl Deliveries {
    /// Prepares messages of `size` bytes, which is at least [`MESSAGE_ID_BYTES`], to the open clients
    /// of `session`. `names` are the names of the latencies to each subscriber and to the last one.
    pub(crate) fn new(
        names: [&'static str; 2],
        topology: Topology,
        load_model: LoadModel,
        size: usize,
        session: &mut Session,
        seed: u64,
    ) -> Self {
        let mut rng = Rng::with_seed(seed);
        let message: Vec<u8> = std::iter::repeat_with(|| rng.u8(..)).take(size).collect();
        session.fleet.fingerprint = Fingerprint::PrefixAndTail(message[MESSAGE_ID_BYTES..].into());
        let mut subscribers = vec![0; topology.topics as usize];
        for client in session.open_clients() {
            subscribers[topology.topic_of(client) as usize] += 1;
        }
        Self {
            topology,
            load_model,
            message,
            published: vec![Vec::new(); topology.publishers as usize],
            receipts: Receipts::new(topology),
            subscribers,
            measured_from: Moment::default(),
            delivery: Latency::new(names[0]),
            last: Latency::new(names[1]),
            lateness: Latency::new(LATENESS),
            counts: Counts::default(),
        }
    }

    /// Starts the measured window: messages that are due before `moment` are not measured.
    pub(crate) fn measure_from(&mut self, moment: Moment) {
        self.measured_from = moment;
    }

    pub(crate) const fn counts(&self) -> Counts {
        self.counts
    }

    /// Returns the number of deliveries that are still expected.
    pub(crate) const fn outstanding(&self) -> u64 {
        self.counts.expected - self.counts.delivered - self.counts.cut_off
    }

    /// Returns the number of messages that some subscriber has not received yet.
    pub(crate) const fn in_flight(&self) -> u64 {
        self.counts.published - self.counts.complete
    }

    /// Publishes a message that is due, if the publisher is open.
    pub(crate) fn publish(
        &mut self,
        session: &mut Session,
        publisher: u32,
        due: Moment,
        now: Moment,
    ) {
        let message = Payload::Binary(self.next_message(publisher));
        if session.fleet.send_message(publisher, message) {
            self.record_published(publisher, due, now);
        }
    }

    /// Returns the next message of a publisher.
    pub(crate) fn next_message(&mut self, publisher: u32) -> &[u8] {
        let number = self.published[publisher as usize].len() as u64;
        let id = u64::from(publisher) << 32 | number;
        self.message[..MESSAGE_ID_BYTES].copy_from_slice(&id.to_le_bytes());
        &self.message
    }

    /// Records that the next message of a publisher was sent at `now`.
    pub(crate) fn record_published(&mut self, publisher: u32, due: Moment, now: Moment) {
        let topic = self.topology.topic_of(publisher) as usize;
        let pending = self.subscribers[topic] - u32::from(!self.topology.sender_included);
        self.published[publisher as usize].push(Published {
            due,
            sent: now,
            pending,
        });
        self.counts.published += 1;
        self.counts.expected += u64::from(pending);
        if pending == 0 {
            self.counts.complete += 1;
        }
        if self.load_model == LoadModel::OpenLoop && due >= self.measured_from {
            self.lateness.record_planned(now, due);
        }
    }

    /// Publishes due messages of a plan from number `next` on, up to [`PUBLISH_BATCH_MAX`]; returns the
    /// number of the first message that was not published.
    pub(crate) fn publish_due(
        &mut self,
        session: &mut Session,
        next: u32,
        plan: &Plan,
        now: Moment,
    ) -> u32 {
        let end = plan.due_by(now).min(next + PUBLISH_BATCH_MAX);
        for event in next..end {
            let publisher = event % self.topology.publishers;
            self.publish(session, publisher, plan.due(event), now);
        }
        end
    }

    /// Takes one turn, and records its deliveries.
    ///
    /// # Errors
    /// Errors of [`Session::turn`].
    pub(crate) fn turn(
        &mut self,
        session: &mut Session,
        wait: Wait,
    ) -> Result<Moment, SessionError> {
        let now = session.turn(wait)?;
        let mut events = std::mem::take(&mut session.events);
        for event in events.drain(..) {
            self.handle(&event, now);
        }
        session.events = events;
        Ok(now)
    }

    fn handle(&mut self, event: &Event, now: Moment) {
        match *event {
            Event::Message {
                client,
                length,
                fingerprint,
            } => self.received(client, length, fingerprint, now),
            Event::Ended { client, .. } => self.cut_off(client),
            Event::Connected { .. }
            | Event::Opened { .. }
            | Event::CloseReceived { .. }
            | Event::Released { .. } => {}
        }
    }

    fn received(&mut self, client: u32, length: u32, fingerprint: u64, now: Moment) {
        let (publisher, number) = ((fingerprint >> 32) as u32, fingerprint as u32);
        let messages = self.published.get_mut(publisher as usize);
        let message = messages.and_then(|messages| messages.get_mut(number as usize));
        let (Some(message), true) = (message, length as usize == self.message.len()) else {
            self.counts.altered += 1;
            return;
        };
        match self.receipts.record(client, publisher, number) {
            Receipt::InOrder => {}
            Receipt::Late => self.counts.out_of_order += 1,
            Receipt::Duplicate => {
                self.counts.duplicates += 1;
                return;
            }
            Receipt::Foreign => {
                self.counts.altered += 1;
                return;
            }
        }
        self.counts.delivered += 1;
        message.pending -= 1;
        let Published { due, sent, pending } = *message;
        let record = |latency: &mut Latency| match self.load_model {
            LoadModel::OpenLoop => latency.record(now, due, sent),
            LoadModel::ClosedLoop => latency.record_planned(now, due),
        };
        let is_measured = due >= self.measured_from;
        if is_measured {
            self.counts.measured += 1;
            record(&mut self.delivery);
        }
        if pending == 0 {
            self.counts.complete += 1;
            if is_measured {
                record(&mut self.last);
            }
        }
    }

    /// Gives up the expected deliveries to a subscriber whose connection has ended.
    fn cut_off(&mut self, client: u32) {
        let subscribers = &mut self.subscribers[self.topology.topic_of(client) as usize];
        // A subscriber that had not opened was never counted.
        *subscribers = subscribers.saturating_sub(1);
        for publisher in self.topology.publishers_of(client) {
            let messages = &mut self.published[publisher as usize];
            let missing = self
                .receipts
                .missing(client, publisher, messages.len() as u32);
            for number in missing.into_iter().flatten() {
                let message = &mut messages[number as usize];
                message.pending -= 1;
                self.counts.cut_off += 1;
                if message.pending == 0 {
                    self.counts.complete += 1;
                }
            }
        }
    }

    /// Returns missing and wrong deliveries: name of the figure, count, and description.
    fn faults(&self) -> [(&'static str, u64, &'static str); 4] {
        let Counts {
            cut_off,
            altered,
            out_of_order,
            duplicates,
            ..
        } = self.counts;
        [
            ("lost", self.outstanding() + cut_off, "have not arrived"),
            (
                "altered",
                altered,
                "arrived altered, or at a client of another topic",
            ),
            ("out_of_order", out_of_order, "arrived out of order"),
            ("duplicates", duplicates, "arrived once more"),
        ]
    }

    /// Adds the figures of messages and deliveries.
    pub(crate) fn figures(&self, figures: &mut Figures) {
        figures.count("fanout.published", self.counts.published);
        figures.count("fanout.delivered", self.counts.delivered);
        for (name, count, _) in self.faults() {
            figures.count(name, count);
        }
    }

    /// Adds a failure for each kind of missing or wrong delivery.
    pub(crate) fn failures(&self, failures: &mut Failures) {
        let expected = self.counts.expected;
        for (name, count, what) in self.faults() {
            if count > 0 {
                let reason = match name {
                    "lost" => format!("{count} of {expected} deliveries {what}"),
                    // There may be more of these than expected deliveries.
                    _ => format!("{count} deliveries {what}"),
                };
                failures.add(Problem::MessagesWrong, reason);
            }
        }
    }

    /// Returns whether a message arrived altered, or at a client of another topic.
    pub(crate) const fn has_altered(&self) -> bool {
        self.counts.altered > 0
    }

    /// Returns whether the missing deliveries are exactly those to the senders of the messages.
    pub(crate) fn only_own_messages_are_missing(&mut self) -> bool {
        let Counts {
            published, cut_off, ..
        } = self.counts;
        if !self.topology.sender_included || published == 0 {
            return false;
        }
        if self.outstanding() != published || cut_off > 0 {
            return false;
        }
        (0..self.topology.publishers).all(|publisher| {
            let count = self.published[publisher as usize].len();
            let missing = self.receipts.missing(publisher, publisher, count as u32);
            missing.into_iter().map(|range| range.len()).sum::<usize>() == count
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// One publisher and three subscribers, with some published messages.
    fn deliveries(published: u32) -> Deliveries {
        let topology = Topology {
            clients: 3,
            publishers: 1,
            topics: 1,
            sender_included: true,
        };
        let message = Published {
            due: Moment::default(),
            sent: Moment::default(),
            pending: 3,
        };
        Deliveries {
            topology,
            load_model: LoadModel::OpenLoop,
            message: vec![0; 16],
            published: vec![vec![message; published as usize]],
            receipts: Receipts::new(topology),
            subscribers: vec![3],
            measured_from: Moment::default(),
            delivery: Latency::new("delivery"),
            last: Latency::new("last"),
            lateness: Latency::new(LATENESS),
            counts: Counts {
                published: published.into(),
                expected: u64::from(published) * 3,
                ..Counts::default()
            },
        }
    }

    #[test]
    fn a_message_is_complete_when_all_subscribers_have_received_it() {
        let mut deliveries = deliveries(2);
        for client in 0..3 {
            assert_eq!(deliveries.in_flight(), 2);
            deliveries.received(client, 16, 0, Moment::default());
        }
        assert_eq!((deliveries.in_flight(), deliveries.outstanding()), (1, 3));
        assert_eq!(
            (deliveries.counts.complete, deliveries.counts.measured),
            (1, 3)
        );
    }

    #[test]
    fn pending_deliveries_of_an_ended_subscriber_are_cut_off() {
        let mut deliveries = deliveries(2);
        for client in 0..2 {
            deliveries.received(client, 16, 0, Moment::default());
            deliveries.received(client, 16, 1, Moment::default());
        }
        deliveries.received(2, 16, 1, Moment::default());
        assert_eq!((deliveries.in_flight(), deliveries.outstanding()), (1, 1));
        deliveries.cut_off(2);
        assert_eq!((deliveries.in_flight(), deliveries.outstanding()), (0, 0));
        assert_eq!(
            (deliveries.counts.cut_off, deliveries.subscribers[0]),
            (1, 2)
        );
    }

    #[test]
    fn a_message_that_was_never_published_counts_as_altered() {
        let mut deliveries = deliveries(1);
        for (length, fingerprint) in [(15, 0), (16, 1), (16, 1 << 32), (16, u64::MAX)] {
            deliveries.received(1, length, fingerprint, Moment::default());
        }
        assert_eq!(
            (deliveries.counts.altered, deliveries.counts.delivered),
            (4, 0)
        );
        deliveries.received(1, 16, 0, Moment::default());
        deliveries.received(1, 16, 0, Moment::default());
        assert_eq!(
            (deliveries.counts.duplicates, deliveries.counts.delivered),
            (1, 1)
        );
    }
}
