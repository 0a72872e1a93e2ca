//! What publishers have said, and what has become of it at the subscribers.

mod receipts;

use fastrand::Rng;
use tidewheel::ring::Wait;

pub(crate) use self::receipts::Topology;
use self::receipts::{Receipt, Receipts};
use crate::{
    clock::Moment,
    figures::{Figures, Unit},
    fleet::{Event, Payload, Stamp},
    latency::Latency,
    names::FigureNames,
    plan::Plan,
    report::LATENESS,
    session::{Session, SessionError},
    status::{Failures, Sign},
    talk::Pace,
};

/// Bytes that tell a message from all others: its publisher, and its number with that.
pub(crate) const STAMP_SIZE: usize = 8;

/// Messages that are published before deliveries are read again.
const BATCH: u32 = 16;

/// Figures of deliveries, see [`Feed::figures`].
pub(crate) const DELIVERIES: FigureNames = &[
    ("fanout.published", Unit::Count),
    ("fanout.delivered", Unit::Count),
    ("lost", Unit::Count),
    ("altered", Unit::Count),
    ("out_of_order", Unit::Count),
    ("duplicates", Unit::Count),
];

/// What publishers have said to their topics.
#[derive(Debug)]
pub(crate) struct Feed {
    topology: Topology,
    pace: Pace,
    message: Vec<u8>,
    /// The messages of each publisher, by their number.
    published: Vec<Vec<Published>>,
    receipts: Receipts,
    /// Open subscribers of each topic.
    subscribers: Vec<u32>,
    /// What is due before is not measured.
    measured_from: Moment,
    /// To each subscriber.
    pub(crate) delivery: Latency,
    /// To the last subscriber of each message.
    pub(crate) last: Latency,
    pub(crate) lateness: Latency,
    counts: Counts,
}

/// A message on its way.
#[derive(Clone, Copy, Debug)]
struct Published {
    due: Moment,
    begun: Moment,
    /// Subscribers that are yet to get it.
    owed: u32,
}

/// What became of all messages, those of a warm-up included.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub(crate) struct Counts {
    pub(crate) published: u64,
    /// Messages that all subscribers have got, or would have, were they still there.
    pub(crate) complete: u64,
    /// Deliveries that are to come of what was published.
    owed: u64,
    pub(crate) delivered: u64,
    /// Deliveries to connections that have ended meanwhile.
    cut_off: u64,
    altered: u64,
    out_of_order: u64,
    duplicates: u64,
    /// Deliveries of what was due in the measured window.
    pub(crate) measured: u64,
}

impl Feed {
    /// Messages of `size` bytes to the clients of `session` that are open; `names` are those of the
    /// latencies to each subscriber, and to the last one of each message.
    pub(crate) fn new(
        names: [&'static str; 2],
        topology: Topology,
        pace: Pace,
        size: usize,
        session: &mut Session,
        seed: u64,
    ) -> Self {
        let mut rng = Rng::with_seed(seed);
        let message: Vec<u8> = std::iter::repeat_with(|| rng.u8(..)).take(size).collect();
        session.fleet.stamp = Stamp::Tailed(message[STAMP_SIZE..].into());
        let mut subscribers = vec![0; topology.topics as usize];
        for client in session.open_clients() {
            subscribers[topology.topic_of(client) as usize] += 1;
        }
        Self {
            topology,
            pace,
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

    /// What is due before `moment` is not measured.
    pub(crate) fn measure_from(&mut self, moment: Moment) {
        self.measured_from = moment;
    }

    pub(crate) const fn counts(&self) -> Counts {
        self.counts
    }

    /// How many deliveries are yet to come.
    pub(crate) const fn outstanding(&self) -> u64 {
        self.counts.owed - self.counts.delivered - self.counts.cut_off
    }

    /// How many messages have not reached everybody yet.
    pub(crate) const fn in_flight(&self) -> u64 {
        self.counts.published - self.counts.complete
    }

    /// Lets a publisher say what is due, if it is open.
    pub(crate) fn publish(
        &mut self,
        session: &mut Session,
        publisher: u32,
        due: Moment,
        now: Moment,
    ) {
        let message = Payload::Binary(self.next_message(publisher));
        if session.fleet.send_message(publisher, message) {
            self.note_published(publisher, due, now);
        }
    }

    /// The message that a publisher is to say next.
    pub(crate) fn next_message(&mut self, publisher: u32) -> &[u8] {
        let number = self.published[publisher as usize].len() as u64;
        let stamp = u64::from(publisher) << 32 | number;
        self.message[..STAMP_SIZE].copy_from_slice(&stamp.to_le_bytes());
        &self.message
    }

    /// Notes that a publisher has begun to say what was due.
    pub(crate) fn note_published(&mut self, publisher: u32, due: Moment, now: Moment) {
        let topic = self.topology.topic_of(publisher) as usize;
        let owed = self.subscribers[topic] - u32::from(!self.topology.sender_included);
        self.published[publisher as usize].push(Published {
            due,
            begun: now,
            owed,
        });
        self.counts.published += 1;
        self.counts.owed += u64::from(owed);
        if owed == 0 {
            self.counts.complete += 1;
        }
        if self.pace == Pace::Open && due >= self.measured_from {
            self.lateness.record_planned(now, due);
        }
    }

    /// Publishes up to [`BATCH`] of the messages that are due of a plan, `next` being the first.
    pub(crate) fn publish_due(
        &mut self,
        session: &mut Session,
        next: u32,
        plan: &Plan,
        now: Moment,
    ) -> u32 {
        let end = plan.due_by(now).min(next + BATCH);
        for event in next..end {
            let publisher = event % self.topology.publishers;
            self.publish(session, publisher, plan.due(event), now);
        }
        end
    }

    /// Takes one turn, and notes what has arrived.
    ///
    /// # Errors
    /// Those of [`Session::turn`].
    pub(crate) fn turn(
        &mut self,
        session: &mut Session,
        wait: Wait,
    ) -> Result<Moment, SessionError> {
        let now = session.turn(wait)?;
        let mut events = std::mem::take(&mut session.events);
        for event in events.drain(..) {
            self.note(&event, now);
        }
        session.events = events;
        Ok(now)
    }

    fn note(&mut self, event: &Event, now: Moment) {
        match *event {
            Event::Message {
                client,
                length,
                stamp,
            } => self.received(client, length, stamp, now),
            Event::Ended { client, .. } => self.cut_off(client),
            Event::Connected { .. }
            | Event::Opened { .. }
            | Event::CloseReceived { .. }
            | Event::Released { .. } => {}
        }
    }

    fn received(&mut self, client: u32, length: u32, stamp: u64, now: Moment) {
        let (publisher, number) = ((stamp >> 32) as u32, stamp as u32);
        let messages = self.published.get_mut(publisher as usize);
        let message = messages.and_then(|messages| messages.get_mut(number as usize));
        let (Some(message), true) = (message, length as usize == self.message.len()) else {
            self.counts.altered += 1;
            return;
        };
        match self.receipts.note(client, publisher, number) {
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
        message.owed -= 1;
        let Published { due, begun, owed } = *message;
        let record = |latency: &mut Latency| match self.pace {
            Pace::Open => latency.record(now, due, begun),
            Pace::Closed => latency.record_planned(now, due),
        };
        let is_measured = due >= self.measured_from;
        if is_measured {
            self.counts.measured += 1;
            record(&mut self.delivery);
        }
        if owed == 0 {
            self.counts.complete += 1;
            if is_measured {
                record(&mut self.last);
            }
        }
    }

    /// What a subscriber that has ended was still to get is not waited for.
    fn cut_off(&mut self, client: u32) {
        let subscribers = &mut self.subscribers[self.topology.topic_of(client) as usize];
        // One that had not opened was never counted.
        *subscribers = subscribers.saturating_sub(1);
        for publisher in self.topology.publishers_of(client) {
            let messages = &mut self.published[publisher as usize];
            let owed = self.receipts.owed(client, publisher, messages.len() as u32);
            for number in owed.into_iter().flatten() {
                let message = &mut messages[number as usize];
                message.owed -= 1;
                self.counts.cut_off += 1;
                if message.owed == 0 {
                    self.counts.complete += 1;
                }
            }
        }
    }

    /// Deliveries that did not come, or not as they should, and what that is called.
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

    /// What there is to tell of the messages.
    pub(crate) fn figures(&self, figures: &mut Figures) {
        figures.count("fanout.published", self.counts.published);
        figures.count("fanout.delivered", self.counts.delivered);
        for (name, count, _) in self.faults() {
            figures.count(name, count);
        }
    }

    /// What failed.
    pub(crate) fn failures(&self, failures: &mut Failures) {
        let owed = self.counts.owed;
        for (name, count, what) in self.faults() {
            if count > 0 {
                let reason = match name {
                    "lost" => format!("{count} of {owed} deliveries {what}"),
                    // There may be more of these than of those that were to come.
                    _ => format!("{count} deliveries {what}"),
                };
                failures.add(Sign::MessagesWrong, reason);
            }
        }
    }

    /// Whether something arrived altered, or at a client of another topic.
    pub(crate) const fn has_altered(&self) -> bool {
        self.counts.altered > 0
    }

    /// Whether exactly those deliveries are missing that were to go to the sender itself.
    pub(crate) fn only_senders_lack_their_own(&mut self) -> bool {
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
            let missing = self.receipts.owed(publisher, publisher, count as u32);
            missing.into_iter().map(|range| range.len()).sum::<usize>() == count
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// One publisher among three subscribers has said so many messages.
    fn feed(published: u32) -> Feed {
        let topology = Topology {
            clients: 3,
            publishers: 1,
            topics: 1,
            sender_included: true,
        };
        let message = Published {
            due: Moment::default(),
            begun: Moment::default(),
            owed: 3,
        };
        Feed {
            topology,
            pace: Pace::Open,
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
                owed: u64::from(published) * 3,
                ..Counts::default()
            },
        }
    }

    #[test]
    fn a_message_is_complete_when_all_have_it() {
        let mut feed = feed(2);
        for client in 0..3 {
            assert_eq!(feed.in_flight(), 2);
            feed.received(client, 16, 0, Moment::default());
        }
        assert_eq!((feed.in_flight(), feed.outstanding()), (1, 3));
        assert_eq!((feed.counts.complete, feed.counts.measured), (1, 3));
    }

    #[test]
    fn what_an_ended_subscriber_had_not_got_is_cut_off_and_not_waited_for() {
        let mut feed = feed(2);
        for client in 0..2 {
            feed.received(client, 16, 0, Moment::default());
            feed.received(client, 16, 1, Moment::default());
        }
        feed.received(2, 16, 1, Moment::default());
        assert_eq!((feed.in_flight(), feed.outstanding()), (1, 1));
        feed.cut_off(2);
        assert_eq!((feed.in_flight(), feed.outstanding()), (0, 0));
        assert_eq!((feed.counts.cut_off, feed.subscribers[0]), (1, 2));
    }

    #[test]
    fn what_was_never_published_is_altered() {
        let mut feed = feed(1);
        for (length, stamp) in [(15, 0), (16, 1), (16, 1 << 32), (16, u64::MAX)] {
            feed.received(1, length, stamp, Moment::default());
        }
        assert_eq!((feed.counts.altered, feed.counts.delivered), (4, 0));
        feed.received(1, 16, 0, Moment::default());
        feed.received(1, 16, 0, Moment::default());
        assert_eq!((feed.counts.duplicates, feed.counts.delivered), (1, 1));
    }
}
