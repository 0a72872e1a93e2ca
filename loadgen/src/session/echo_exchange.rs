//! Messages to a server that echoes, and their answers.

use std::{collections::VecDeque, time::Duration};

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
    progress::Progress,
    report::status::{Failures, Problem},
    session::{Session, SessionError, load_model::LoadModel, template::Template},
};

/// Largest number of messages that are sent between two turns.
const SEND_BATCH_MAX: u32 = 256;

/// Hint for a server that answers most messages with other bytes.
const NO_ECHO_HINT: &str = "most messages came back altered: does this server send messages to all \
                            clients? This scenario needs one that echoes each to its sender";

/// Content of the messages.
#[derive(Debug)]
enum Content {
    /// Bytes; the first eight identify the message.
    Binary(Vec<u8>),
    /// A template, and a buffer for its text.
    Text(Template, String),
}

/// The messages of all clients, and their answers.
#[derive(Debug)]
pub(crate) struct EchoExchange {
    load_model: LoadModel,
    content: Content,
    clients: Vec<ClientMessages>,
    /// Start of the measured window: messages that are due before are not measured.
    measured_from: Moment,
    /// Latency from the planned moment, and from the send, to the answer.
    pub(crate) echo: Latency,
    pub(crate) lateness: Latency,
    counts: Counts,
}

/// Counts of messages and answers, including those of the warm-up.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub(crate) struct Counts {
    pub(crate) sent: u64,
    pub(crate) answered: u64,
    /// Answers with another length or content.
    pub(crate) altered: u64,
    /// Answers without a message, or not in the order of the messages.
    pub(crate) out_of_order: u64,
    /// Unanswered messages of connections that have ended.
    pub(crate) cut_off: u64,
    /// Answers to messages that were due in the measured window.
    pub(crate) measured: u64,
}

/// A message without an answer so far.
#[derive(Clone, Copy, Debug)]
struct Sent {
    due: Moment,
    sent: Moment,
    length: u32,
    fingerprint: u64,
}

/// Figures of the messages, see [`EchoExchange::figures`].
pub(crate) const EXCHANGE_FIGURES: FigureNames = &[
    ("echo.messages", Unit::Count),
    ("lost", Unit::Count),
    ("altered", Unit::Count),
    ("out_of_order", Unit::Count),
];

/// Messages of one client.
#[derive(Debug, Default)]
struct ClientMessages {
    unanswered: VecDeque<Sent>,
    /// Number of the next message.
    next: u32,
}

impl EchoExchange {
    /// Prepares messages of `size` bytes for a session of `clients`; `name` is the name of the latency.
    pub(crate) fn new(
        name: &'static str,
        load_model: LoadModel,
        clients: u32,
        size: usize,
        seed: u64,
    ) -> Self {
        let mut rng = Rng::with_seed(seed);
        Self {
            load_model,
            content: Content::Binary(std::iter::repeat_with(|| rng.u8(..)).take(size).collect()),
            clients: std::iter::repeat_with(ClientMessages::default)
                .take(clients as usize)
                .collect(),
            measured_from: Moment::default(),
            echo: Latency::new(name),
            lateness: Latency::new(LATENESS),
            counts: Counts::default(),
        }
    }

    /// Sends text instead of bytes; answers are compared by a hash.
    pub(crate) fn use_template(&mut self, template: Template, session: &mut Session) {
        session.fleet.fingerprint = Fingerprint::Digest;
        self.content = Content::Text(template, String::new());
    }

    /// Starts the measured window: messages that are due before `moment` are not measured.
    pub(crate) fn measure_from(&mut self, moment: Moment) {
        self.measured_from = moment;
    }

    pub(crate) const fn counts(&self) -> Counts {
        self.counts
    }

    /// Returns the number of messages that are neither answered nor cut off.
    pub(crate) const fn outstanding(&self) -> u64 {
        self.counts.sent - self.counts.answered - self.counts.cut_off
    }

    /// Sends a message that is due, if the client is open.
    pub(crate) fn send(&mut self, session: &mut Session, client: u32, due: Moment, now: Moment) {
        let client_messages = &mut self.clients[client as usize];
        let (payload, bytes) = match &mut self.content {
            Content::Binary(message) => {
                let id = message_id(client, client_messages.next).to_le_bytes();
                let size = message.len().min(id.len());
                message[..size].copy_from_slice(&id[..size]);
                (Payload::Binary(message), &message[..])
            }
            Content::Text(template, text) => {
                template.render(client, client_messages.next, text);
                (Payload::Text(text), text.as_bytes())
            }
        };
        let message = Sent {
            due,
            sent: now,
            length: bytes.len() as u32,
            fingerprint: session.fleet.fingerprint.of(bytes),
        };
        if !session.fleet.send_message(client, payload) {
            return;
        }
        client_messages.next = client_messages.next.wrapping_add(1);
        client_messages.unanswered.push_back(message);
        self.counts.sent += 1;
        if self.load_model == LoadModel::OpenLoop && due >= self.measured_from {
            self.lateness.record_planned(now, due);
        }
    }

    /// Handles an event; returns the client if the event is the answer to its message.
    fn handle(&mut self, event: &Event, now: Moment) -> Option<u32> {
        match *event {
            Event::Message {
                client,
                length,
                fingerprint: got,
            } => {
                let client_messages = &mut self.clients[client as usize];
                let Some(message) = client_messages.unanswered.pop_front() else {
                    self.counts.out_of_order += 1;
                    return None;
                };
                let Sent { due, sent, .. } = message;
                self.counts.answered += 1;
                if (length, got) != (message.length, message.fingerprint) {
                    // The answer to a later message of this client is out of order.
                    let others = client_messages.unanswered.iter();
                    match others
                        .map(|other| other.fingerprint)
                        .any(|fingerprint| fingerprint == got)
                    {
                        true => self.counts.out_of_order += 1,
                        false => self.counts.altered += 1,
                    }
                }
                if due >= self.measured_from {
                    match self.load_model {
                        LoadModel::OpenLoop => self.echo.record(now, due, sent),
                        LoadModel::ClosedLoop => self.echo.record_planned(now, due),
                    }
                    self.counts.measured += 1;
                }
                Some(client)
            }
            Event::Ended { client, .. } => {
                let unanswered = &mut self.clients[client as usize].unanswered;
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

    /// Takes one turn and handles its events; `each` is called for each event, with the client that was
    /// answered.
    ///
    /// # Errors
    /// Errors of [`Session::turn`].
    pub(crate) fn turn(
        &mut self,
        session: &mut Session,
        wait: Wait,
        mut each: impl FnMut(&mut Self, &mut Session, &Event, Option<u32>, Moment),
    ) -> Result<Moment, SessionError> {
        let now = session.turn(wait)?;
        let mut events = std::mem::take(&mut session.events);
        for event in events.drain(..) {
            let answered = self.handle(&event, now);
            each(self, session, &event, answered, now);
        }
        session.events = events;
        Ok(now)
    }

    /// Sends the messages of `plan` to `clients` in turn (open loop), and waits until all are
    /// answered, at most `answer_wait_max` after the last message was due.
    ///
    /// # Errors
    /// Errors of [`Session::turn`].
    pub(crate) fn run_plan(
        &mut self,
        session: &mut Session,
        clients: &[u32],
        plan: &Plan,
        answer_wait_max: Duration,
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
        while next < count || (self.outstanding() > 0 && now < end + answer_wait_max) {
            let due = plan.due_by(now).min(next + SEND_BATCH_MAX);
            for event in next..due {
                let client = clients[event as usize % clients.len()];
                self.send(session, client, plan.due(event), now);
            }
            next = due;
            let wait = match next < count {
                true => match plan.due(next).since(now) {
                    Duration::ZERO => Wait::No,
                    wait => Wait::For(wait),
                },
                false => Wait::For((end + answer_wait_max).since(now)),
            };
            now = self.turn(session, wait, |_, _, _, _, _| {})?;
            progress.set(u64::from(next), now);
        }
        progress.finish(u64::from(next), now);
        Ok(now)
    }

    /// Adds the figures of the messages, and the failures.
    pub(crate) fn figures(&self, figures: &mut Figures, failures: &mut Failures) {
        figures.count("echo.messages", self.counts.sent);
        for (name, count, _) in self.faults() {
            figures.count(name, count);
        }
        self.failures(failures);
    }

    /// Adds a failure for each kind of missing or wrong answer.
    pub(crate) fn failures(&self, failures: &mut Failures) {
        let sent = self.counts.sent;
        // More than half of all answers are wrong: the server does not echo to the sender.
        if self.counts.altered > self.counts.answered / 2 {
            failures.add(Problem::MessagesWrong, NO_ECHO_HINT.to_owned());
        }
        for (_, count, what) in self.faults() {
            if count > 0 {
                failures.add(
                    Problem::MessagesWrong,
                    format!("{count} of {sent} messages {what}"),
                );
            }
        }
    }

    /// Returns missing and wrong answers: name of the figure, count, and description.
    fn faults(&self) -> [(&'static str, u64, &'static str); 3] {
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

/// Returns the identification of a message, which is its first eight bytes. The number of the message
/// comes first, so that short messages include it.
const fn message_id(client: u32, number: u32) -> u64 {
    (client as u64) << 32 | number as u64
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sent(number: u32) -> Sent {
        Sent {
            due: Moment::default(),
            sent: Moment::default(),
            length: 16,
            fingerprint: message_id(3, number),
        }
    }

    /// Returns the counts after an answer while two messages are unanswered.
    fn answered(length: u32, fingerprint: u64) -> Counts {
        let mut exchange = EchoExchange::new("echo", LoadModel::OpenLoop, 8, 16, 1);
        exchange.clients[3].unanswered.extend([sent(5), sent(6)]);
        exchange.counts.sent = 2;
        let client = 3;
        let message = Event::Message {
            client,
            length,
            fingerprint,
        };
        exchange.handle(&message, Moment::default());
        exchange.counts()
    }

    #[test]
    fn an_answer_equals_its_message_and_keeps_the_order() {
        let counts = answered(16, message_id(3, 5));
        assert_eq!((counts.answered, counts.measured), (1, 1));
        assert_eq!((counts.altered, counts.out_of_order), (0, 0));
        assert_eq!(answered(15, message_id(3, 5)).altered, 1);
        assert_eq!(answered(16, message_id(4, 5)).altered, 1);
        assert_eq!(answered(16, message_id(3, 6)).out_of_order, 1);
    }

    #[test]
    fn an_answer_without_a_message_is_out_of_order() {
        let mut exchange = EchoExchange::new("echo", LoadModel::OpenLoop, 1, 2, 1);
        let message = Event::Message {
            client: 0,
            length: 2,
            fingerprint: 0,
        };
        assert_eq!(exchange.handle(&message, Moment::default()), None);
        assert_eq!(exchange.counts().out_of_order, 1);
    }

    #[test]
    fn unanswered_messages_of_an_ended_connection_are_cut_off() {
        let mut exchange = EchoExchange::new("echo", LoadModel::OpenLoop, 1, 8, 1);
        exchange.clients[0].unanswered.extend([sent(0), sent(1)]);
        exchange.counts.sent = 2;
        let ended = Event::Ended {
            client: 0,
            outcome: crate::fleet::outcome::Outcome::EndedEarly,
            detail: None,
        };
        exchange.handle(&ended, Moment::default());
        assert_eq!((exchange.outstanding(), exchange.counts().cut_off), (0, 2));
    }
}
