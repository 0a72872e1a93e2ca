//! Messages to a server that echoes, and what has come back of them.

use std::{collections::VecDeque, time::Duration};

use fastrand::Rng;
use tidewheel::ring::Wait;

use crate::{
    clock::Moment,
    figures::{Figures, Unit},
    fleet::{Event, Payload, Stamp},
    latency::Latency,
    names::FigureNames,
    plan::Plan,
    progress::Progress,
    report::LATENESS,
    session::{Session, SessionError},
    status::{Failures, Sign},
    template::Template,
};

/// Messages that are sent before answers are read again.
const BATCH: u32 = 256;

/// The hint on a server that answers most messages with other bytes.
const NO_ECHO_HINT: &str = "most messages came back altered: does this server send messages to all \
                            clients? This scenario needs one that echoes each to its sender";

/// What decides when a message is due.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) enum Pace {
    /// A plan.
    Open,
    /// The answer to the one before, so that it is never late.
    Closed,
}

/// What the messages are.
#[derive(Debug)]
enum Content {
    /// Bytes, of which the first eight are the stamp.
    Binary(Vec<u8>),
    /// Text, and room to render it.
    Text(Template, String),
}

/// What clients have said to the server, and what they wait for.
#[derive(Debug)]
pub(crate) struct Talk {
    pace: Pace,
    content: Content,
    talkers: Vec<Talker>,
    /// What is due before is not measured.
    measured_from: Moment,
    /// From the planned moment, and from the send, to the answer.
    pub(crate) echo: Latency,
    pub(crate) lateness: Latency,
    counts: Counts,
}

/// What became of all messages, those of a warm-up included.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub(crate) struct Counts {
    pub(crate) sent: u64,
    pub(crate) answered: u64,
    /// Answers of another length or content.
    pub(crate) altered: u64,
    /// Answers that nothing was sent for, or out of turn.
    pub(crate) out_of_order: u64,
    /// Messages of connections that have ended meanwhile.
    pub(crate) cut_off: u64,
    /// Answers to what was due in the measured window.
    pub(crate) measured: u64,
}

/// A message that waits for its answer.
#[derive(Clone, Copy, Debug)]
struct Sent {
    due: Moment,
    begun: Moment,
    length: u32,
    stamp: u64,
}

/// Figures of the messages, see [`Talk::figures`].
pub(crate) const MESSAGES: FigureNames = &[
    ("echo.messages", Unit::Count),
    ("lost", Unit::Count),
    ("altered", Unit::Count),
    ("out_of_order", Unit::Count),
];

/// One client's messages.
#[derive(Debug, Default)]
struct Talker {
    unanswered: VecDeque<Sent>,
    /// The number of the next message.
    next: u32,
}

impl Talk {
    /// Messages of `size` bytes, from `clients` that may be any of a session's.
    pub(crate) fn new(
        name: &'static str,
        pace: Pace,
        clients: u32,
        size: usize,
        seed: u64,
    ) -> Self {
        let mut rng = Rng::with_seed(seed);
        Self {
            pace,
            content: Content::Binary(std::iter::repeat_with(|| rng.u8(..)).take(size).collect()),
            talkers: std::iter::repeat_with(Talker::default)
                .take(clients as usize)
                .collect(),
            measured_from: Moment::default(),
            echo: Latency::new(name),
            lateness: Latency::new(LATENESS),
            counts: Counts::default(),
        }
    }

    /// Sends text in place of bytes; it is known by a digest.
    pub(crate) fn use_template(&mut self, template: Template, session: &mut Session) {
        session.fleet.stamp = Stamp::Digest;
        self.content = Content::Text(template, String::new());
    }

    /// What is due before `moment` is not measured.
    pub(crate) fn measure_from(&mut self, moment: Moment) {
        self.measured_from = moment;
    }

    pub(crate) const fn counts(&self) -> Counts {
        self.counts
    }

    /// How many messages are neither answered nor cut off.
    pub(crate) const fn outstanding(&self) -> u64 {
        self.counts.sent - self.counts.answered - self.counts.cut_off
    }

    /// Lets an open client send a message that is due.
    pub(crate) fn say(&mut self, session: &mut Session, client: u32, due: Moment, now: Moment) {
        let talker = &mut self.talkers[client as usize];
        let (payload, bytes) = match &mut self.content {
            Content::Binary(message) => {
                let stamp = stamp(client, talker.next).to_le_bytes();
                let size = message.len().min(stamp.len());
                message[..size].copy_from_slice(&stamp[..size]);
                (Payload::Binary(message), &message[..])
            }
            Content::Text(template, text) => {
                template.render(client, talker.next, text);
                (Payload::Text(text), text.as_bytes())
            }
        };
        let sent = Sent {
            due,
            begun: now,
            length: bytes.len() as u32,
            stamp: session.fleet.stamp.of(bytes),
        };
        if !session.fleet.send_message(client, payload) {
            return;
        }
        talker.next = talker.next.wrapping_add(1);
        talker.unanswered.push_back(sent);
        self.counts.sent += 1;
        if self.pace == Pace::Open && due >= self.measured_from {
            self.lateness.record_planned(now, due);
        }
    }

    /// Takes note of an event; gives the client that was answered, if it was an answer.
    pub(crate) fn note(&mut self, event: &Event, now: Moment) -> Option<u32> {
        match *event {
            Event::Message {
                client,
                length,
                stamp: got,
            } => {
                let talker = &mut self.talkers[client as usize];
                let Some(sent) = talker.unanswered.pop_front() else {
                    self.counts.out_of_order += 1;
                    return None;
                };
                let Sent { due, begun, .. } = sent;
                self.counts.answered += 1;
                if (length, got) != (sent.length, sent.stamp) {
                    // What is of this client, and was not sent now, was sent before or later.
                    let others = talker.unanswered.iter();
                    match others.map(|other| other.stamp).any(|stamp| stamp == got) {
                        true => self.counts.out_of_order += 1,
                        false => self.counts.altered += 1,
                    }
                }
                if due >= self.measured_from {
                    match self.pace {
                        Pace::Open => self.echo.record(now, due, begun),
                        Pace::Closed => self.echo.record_planned(now, due),
                    }
                    self.counts.measured += 1;
                }
                Some(client)
            }
            Event::Ended { client, .. } => {
                let unanswered = &mut self.talkers[client as usize].unanswered;
                self.counts.cut_off += unanswered.len() as u64;
                unanswered.clear();
                None
            }
            Event::Connected { .. }
            | Event::Opened { .. }
            | Event::CloseReceived { .. }
            | Event::Released { .. } => None,
        }
    }

    /// Takes one turn, and notes what happened; `each` is told of it too.
    ///
    /// # Errors
    /// Those of [`Session::turn`].
    pub(crate) fn turn(
        &mut self,
        session: &mut Session,
        wait: Wait,
        mut each: impl FnMut(&mut Self, &mut Session, &Event, Option<u32>, Moment),
    ) -> Result<Moment, SessionError> {
        let now = session.turn(wait)?;
        let mut events = std::mem::take(&mut session.events);
        for event in events.drain(..) {
            let answered = self.note(&event, now);
            each(self, session, &event, answered, now);
        }
        session.events = events;
        Ok(now)
    }

    /// Open loop: sends the messages of `plan`, to `clients` in turn, and waits until all are
    /// answered, at most until `patience` after the last was due.
    ///
    /// # Errors
    /// Those of [`Session::turn`].
    pub(crate) fn follow(
        &mut self,
        session: &mut Session,
        clients: &[u32],
        plan: &Plan,
        patience: Duration,
    ) -> Result<Moment, SessionError> {
        let count = plan.count();
        let verb = match plan.start() < self.measured_from {
            true => "sent to warm up",
            false => "sent",
        };
        let mut progress = Progress::start(verb, u64::from(count), plan.start());
        let mut next = 0;
        let mut now = session.clock.now();
        let end = match count {
            0 => plan.start(),
            count => plan.due(count - 1),
        };
        while next < count || (self.outstanding() > 0 && now < end + patience) {
            let due = plan.due_by(now).min(next + BATCH);
            for event in next..due {
                let client = clients[event as usize % clients.len()];
                self.say(session, client, plan.due(event), now);
            }
            next = due;
            let wait = match next < count {
                true => match plan.due(next).since(now) {
                    Duration::ZERO => Wait::No,
                    wait => Wait::For(wait),
                },
                false => Wait::For((end + patience).since(now)),
            };
            now = self.turn(session, wait, |_, _, _, _, _| {})?;
            progress.set(u64::from(next), now);
        }
        progress.finish(u64::from(next), now);
        Ok(now)
    }

    /// What there is to tell of the messages, and what failed.
    pub(crate) fn figures(&self, figures: &mut Figures, failures: &mut Failures) {
        figures.count("echo.messages", self.counts.sent);
        for (name, count, _) in self.wrongs() {
            figures.count(name, count);
        }
        self.failures(failures);
    }

    /// What is not as it was asked for.
    pub(crate) fn failures(&self, failures: &mut Failures) {
        let sent = self.counts.sent;
        // It is no accident if more than half of all answers are another's.
        if self.counts.altered > self.counts.answered / 2 {
            failures.add(Sign::MessagesWrong, NO_ECHO_HINT.to_owned());
        }
        for (_, count, what) in self.wrongs() {
            if count > 0 {
                failures.add(
                    Sign::MessagesWrong,
                    format!("{count} of {sent} messages {what}"),
                );
            }
        }
    }

    /// What may be wrong with a message: its name, how many are so, and what to say of them.
    fn wrongs(&self) -> [(&'static str, u64, &'static str); 3] {
        let Counts {
            altered,
            out_of_order,
            cut_off,
            ..
        } = self.counts;
        let lost = self.outstanding() + cut_off;
        [
            ("lost", lost, "were not answered"),
            ("altered", altered, "came back altered"),
            ("out_of_order", out_of_order, "came back out of order"),
        ]
    }
}

/// What tells a message from all others, as the first eight bytes of it: the number of the message
/// comes first, so that short messages have that.
const fn stamp(client: u32, number: u32) -> u64 {
    (client as u64) << 32 | number as u64
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sent(number: u32) -> Sent {
        Sent {
            due: Moment::default(),
            begun: Moment::default(),
            length: 16,
            stamp: stamp(3, number),
        }
    }

    /// Two messages are under way, and this comes back.
    fn answered(length: u32, stamp: u64) -> Counts {
        let mut talk = Talk::new("echo", Pace::Open, 8, 16, 1);
        talk.talkers[3].unanswered.extend([sent(5), sent(6)]);
        talk.counts.sent = 2;
        let client = 3;
        let message = Event::Message {
            client,
            length,
            stamp,
        };
        talk.note(&message, Moment::default());
        talk.counts()
    }

    #[test]
    fn an_answer_is_what_was_sent_and_in_turn() {
        let counts = answered(16, stamp(3, 5));
        assert_eq!((counts.answered, counts.measured), (1, 1));
        assert_eq!((counts.altered, counts.out_of_order), (0, 0));
        assert_eq!(answered(15, stamp(3, 5)).altered, 1);
        assert_eq!(answered(16, stamp(4, 5)).altered, 1);
        assert_eq!(answered(16, stamp(3, 6)).out_of_order, 1);
    }

    #[test]
    fn what_nothing_was_sent_for_is_out_of_order() {
        let mut talk = Talk::new("echo", Pace::Open, 1, 2, 1);
        let message = Event::Message {
            client: 0,
            length: 2,
            stamp: 0,
        };
        assert_eq!(talk.note(&message, Moment::default()), None);
        assert_eq!(talk.counts().out_of_order, 1);
    }

    #[test]
    fn what_a_dead_connection_had_sent_is_cut_off() {
        let mut talk = Talk::new("echo", Pace::Open, 1, 8, 1);
        talk.talkers[0].unanswered.extend([sent(0), sent(1)]);
        talk.counts.sent = 2;
        let ended = Event::Ended {
            client: 0,
            outcome: crate::outcome::Outcome::EndedEarly,
            detail: None,
        };
        talk.note(&ended, Moment::default());
        assert_eq!((talk.outstanding(), talk.counts().cut_off), (0, 2));
    }
}
