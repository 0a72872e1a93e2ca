//! The handler of the simulations.

use std::{cell::RefCell, collections::HashMap, rc::Rc, time::Duration};

use tidewheel::{
    Conn, ConnectionId, Disconnect, Handler, Message, Request, Sent, Time, TimerId, Verdict,
    ring::sim::Network,
};

/// The handler's record of events.
#[derive(Debug, Default)]
pub(crate) struct Record {
    /// Number of `open` calls for each connection.
    pub(crate) open: HashMap<ConnectionId, usize>,
    /// The arguments of each `close` call, and its time.
    pub(crate) ends: Vec<(ConnectionId, Time, Disconnect)>,
    /// The index of each connection's client in [`Bench::clients`](super::bench::Bench).
    pub(crate) clients: HashMap<ConnectionId, usize>,
    /// Number of echoes that `send` has accepted, by client.
    pub(crate) echoed: HashMap<usize, usize>,
    /// Number of messages that `gap` reported as dropped.
    pub(crate) missed: u64,
    /// Number of `gap` calls after `close`.
    pub(crate) reports_after_end: usize,
    /// The topics that became active (true) or idle (false), in order.
    pub(crate) presence: Vec<(String, bool)>,
    /// The connection and the time of each timer that has expired.
    pub(crate) timers: Vec<(ConnectionId, Time)>,
    /// The last timer that was set.
    last_timer: Option<TimerId>,
    /// Number of messages received in the current turn.
    messages: usize,
}

impl Record {
    /// Takes the number of messages received in the current turn.
    pub(crate) fn take_messages(&mut self) -> usize {
        std::mem::take(&mut self.messages)
    }
}

/// Prefix of a message that requests numbered messages. The first number and the count follow, 16 bits each.
pub(crate) const REQUEST_MESSAGES: [u8; 8] = *b"ask for ";

/// Prefix of a message that subscribes; the pattern follows.
pub(crate) const SUBSCRIBE: &str = "subscribe ";

/// Prefix of a message that publishes; topic, space and message follow.
pub(crate) const PUBLISH: &str = "publish ";

/// Prefix of a message that sets a timer; its delay in milliseconds follows.
pub(crate) const TIMER: &str = "timer ";

/// A message that cancels the last timer.
pub(crate) const CANCEL: &str = "cancel";

/// Path of a request on which the handler never decides.
pub(crate) const NEVER_DECIDED: &str = "/never";

/// A message that makes the handler panic.
pub(crate) const PANIC: &str = "panic";

fn strip_prefix<'m>(message: &'m Message<'_>, prefix: &str) -> Option<&'m str> {
    std::str::from_utf8(message.payload())
        .ok()?
        .strip_prefix(prefix)
}

/// A handler that echoes, follows the requests above, and keeps a record.
pub(crate) struct Echo {
    record: Rc<RefCell<Record>>,
    network: Network,
    /// Maximum length of a client's send queue in bytes when a message is read.
    unsent_max: usize,
}

impl Echo {
    pub(crate) fn new(record: Rc<RefCell<Record>>, network: Network, unsent_max: usize) -> Self {
        Self {
            record,
            network,
            unsent_max,
        }
    }
}

impl Handler for Echo {
    /// The client's index, which is the path of its request.
    type State = Option<usize>;

    fn upgrade(&mut self, request: &Request<'_>) -> Verdict<Option<usize>> {
        if request.path() == NEVER_DECIDED {
            return Verdict::later(std::future::pending());
        }
        let index = request.path().strip_prefix('/');
        Verdict::accept(index.and_then(|index| index.parse().ok()))
    }

    fn open(&mut self, conn: &mut Conn<'_, Self>) {
        let mut record = self.record.borrow_mut();
        *record.open.entry(conn.id()).or_default() += 1;
        if let Some(client) = *conn.state() {
            record.clients.insert(conn.id(), client);
        }
    }

    fn message(&mut self, conn: &mut Conn<'_, Self>, message: Message<'_>) {
        assert!(conn.unsent() < self.unsent_max, "the send queue is bounded");
        self.record.borrow_mut().messages += 1;
        assert_ne!(
            message.payload(),
            PANIC.as_bytes(),
            "a message requests a panic"
        );
        if let Some(pattern) = strip_prefix(&message, SUBSCRIBE) {
            assert!(conn.subscribe(pattern).is_ok());
            return;
        }
        if let Some(rest) = strip_prefix(&message, PUBLISH) {
            let (topic, rest) = rest
                .split_once(' ')
                .expect("PUBLISH has a topic and a message");
            assert!(conn.publish(topic, rest).is_ok());
            return;
        }
        if let Some(millis) = strip_prefix(&message, TIMER) {
            let delay = Duration::from_millis(millis.parse().expect("TIMER has milliseconds"));
            let timer = conn.after(delay, |app, conn| {
                let expired = (conn.id(), app.network.now());
                app.record.borrow_mut().timers.push(expired);
                conn.send("expired");
            });
            self.record.borrow_mut().last_timer = timer;
            return;
        }
        if message.payload() == CANCEL.as_bytes() {
            let timer = self.record.borrow_mut().last_timer.take();
            assert!(conn.cancel(timer.expect("a timer was set")));
            return;
        }
        let Some([first, last, count, more]) = message.payload().strip_prefix(&REQUEST_MESSAGES)
        else {
            let sent = conn.send(message);
            if let Some(client) = *conn.state()
                && matches!(sent, Sent::Sent | Sent::Queued { .. })
            {
                *self.record.borrow_mut().echoed.entry(client).or_default() += 1;
            }
            return;
        };
        let first = u16::from_be_bytes([*first, *last]);
        let count = u16::from_be_bytes([*count, *more]);
        for number in first..first + count {
            let mut answer = [0; 100];
            answer[..2].copy_from_slice(&number.to_be_bytes());
            conn.send(answer.as_slice());
        }
    }

    fn topic_active(&mut self, pattern: &str) {
        let mut record = self.record.borrow_mut();
        record.presence.push((pattern.to_owned(), true));
        assert_ne!(pattern, PANIC, "a topic requests a panic");
    }

    fn topic_idle(&mut self, pattern: &str) {
        let mut record = self.record.borrow_mut();
        record.presence.push((pattern.to_owned(), false));
    }

    fn gap(&mut self, conn: &mut Conn<'_, Self>, missed: u64) {
        let mut record = self.record.borrow_mut();
        record.missed += missed;
        let has_ended = record.ends.iter().any(|(id, ..)| *id == conn.id());
        record.reports_after_end += usize::from(has_ended);
    }

    fn close(&mut self, conn: &mut Conn<'_, Self>, end: &Disconnect) {
        self.record
            .borrow_mut()
            .ends
            .push((conn.id(), self.network.now(), end.clone()));
    }
}
