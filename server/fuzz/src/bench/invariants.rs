//! Assertions about the state of a run.

use std::{
    collections::BTreeSet,
    pin::pin,
    rc::Rc,
    task::{Context, Waker},
    time::Duration,
};

use tidewheel::{Answer, Cause, CloseCode, SlowConsumer, shard::Heaviest};
use tidewheel_codec::deflate::wire_size_max;

use super::{
    super::{
        application::PATTERNS,
        client::{Client, Phase},
        record::Record,
    },
    Bench, SLACK,
};

/// Time by which a connection may end after its deadline.
const LATENESS_MAX: Duration = Duration::from_millis(300);

impl Bench {
    /// Asserts that no connection ends twice, or outlives the deadlines of keepalive after its client has vanished.
    pub(super) fn check_step(&self) {
        let now = self.network.now();
        let keepalive = self
            .config
            .ping_interval
            .zip(self.config.ping_timeout)
            .filter(|_| self.operations_take_no_time && !self.is_finished);
        for connection in &*self.record.connections.borrow() {
            let (opens, ends) = (connection.opens, connection.ends.len());
            assert!(opens == 1 && ends <= 1, "{opens} opens, {ends} ends");
            let client = connection
                .client
                .and_then(|it| self.clients.get(it)?.as_ref());
            if let Some((interval, timeout)) = keepalive
                && ends == 0
                && let Some(client) = client.filter(|it| !it.has_sent_raw_bytes)
                && let Some(vanished) = client.vanished
            {
                let deadline = vanished.max(connection.opened)
                    + interval
                    + timeout
                    + self.config.close_timeout;
                assert!(
                    now <= deadline + LATENESS_MAX,
                    "{} is open {:?} after its deadline",
                    connection.id,
                    now.since(deadline)
                );
            }
        }
    }

    /// Asserts that no connection uses more memory than the limits allow.
    pub(super) fn check_memory(&self) {
        let Heaviest {
            queue: _,
            unread,
            assembly,
        } = self.shard.heaviest();
        let receive_memory =
            usize::from(self.config.receive_buffers) * self.config.receive_buffer_size as usize;
        assert!(unread <= receive_memory, "{unread} bytes unread");
        let arriving = 2 * wire_size_max(self.config.max_message_size) + 1024;
        assert!(
            assembly <= arriving,
            "{assembly} bytes in an assembly buffer"
        );
    }

    /// Asserts that the server's output is valid, and that echoes are in order.
    pub(super) fn check_echoes(&self) {
        let closes = matches!(
            self.config.slow_consumer,
            SlowConsumer::Close | SlowConsumer::CloseTryAgain
        );
        for client in self.clients.iter().flatten() {
            if let Some(end) = &client.end {
                let is_valid = !matches!(end.cause, Cause::ProtocolError(_) | Cause::TooBig);
                assert!(is_valid, "the server's output is invalid: {end:?}");
            }
            // A client that shuts down its sending direction gets no answer that is not there yet.
            if let Phase::Answered(response) = &client.phase
                && !client.is_disturbed
            {
                check_response(response);
            }
            if client.has_sent_raw_bytes {
                continue;
            }
            let Client {
                sent_messages,
                echoes,
                ..
            } = client;
            if !closes {
                let mut sent = sent_messages.iter();
                let is_in_order = echoes
                    .iter()
                    .all(|echo| sent.any(|message| message == echo));
                assert!(is_in_order, "echoes are in order");
            } else {
                assert!(
                    sent_messages.starts_with(echoes),
                    "echoes are in order, without a gap"
                );
            }
        }
    }

    /// Asserts that clients which only sent messages, and read, are open and have every echo, or were closed for
    /// a reason in the configuration.
    pub(super) fn check_undisturbed(&self) {
        let connections = self.record.connections.borrow();
        for (index, client) in self.clients.iter().enumerate() {
            let Some(client) = client.as_ref().filter(|client| !client.is_disturbed) else {
                continue;
            };
            let mut own = connections
                .iter()
                .filter(|connection| connection.client == Some(index));
            // Raw bytes of another client may contain this client's path.
            let (Some(connection), None, true) =
                (own.next(), own.next(), self.operations_take_no_time)
            else {
                continue;
            };
            // A client from the backlog may have been accepted a moment ago.
            if self.network.now() < connection.opened + SLACK {
                continue;
            }
            let is_allowed = |cause: Cause| match cause {
                Cause::PeerClose => client.is_closing,
                // The server does not read a Close behind messages that wait for a task. A client that has sent one
                // does not answer pings.
                Cause::PingTimeout => client.is_closing && client.has_task,
                Cause::IdleTimeout => self.config.idle_timeout.is_some(),
                Cause::Lifetime => self.config.max_lifetime.is_some(),
                Cause::MessageRate => self.config.max_message_rate.is_some(),
                _ => false,
            };
            for end in &connection.ends {
                assert!(is_allowed(end.cause), "client {index} was closed: {end:?}");
            }
            if !connection.ends.is_empty() || self.is_closed_by_timer(client) {
                continue;
            }
            // The server does not read a Close behind messages that wait for a task.
            if client.has_endless_task && client.is_closing {
                continue;
            }
            assert!(
                client.is_open(),
                "client {index} is not open: {:?}",
                client.end
            );
            if client.has_endless_task {
                continue;
            }
            let tasks = connection.pending.tasks.get();
            assert_eq!(tasks, 0, "tasks of client {index} that have finished");
            let (sent, received) = (client.sent_messages.len(), client.echoes.len());
            assert_eq!(sent, received, "echoes to client {index}");
        }
    }

    /// Returns whether a timer of the server has closed the connection. The server reports such an end later than the
    /// client: when the client's answer has arrived.
    fn is_closed_by_timer(&self, client: &Client) -> bool {
        let has_timer = self
            .config
            .idle_timeout
            .or(self.config.max_lifetime)
            .is_some();
        let received = client.end.as_ref().and_then(|end| end.received.as_ref());
        has_timer && received.is_some_and(|close| close.code == CloseCode::GOING_AWAY)
    }

    /// Asserts that the shard and the kernel have released every resource.
    pub(super) fn check_nothing_is_left(&self) {
        let left = self.shard.holdings();
        assert_eq!(left.connections, 0, "connections after all deadlines");
        if !self.is_finished {
            // A shard that has finished keeps superseded wheel entries and unread jobs, until `Shard::end` drops
            // them.
            assert_eq!(left.wheel_entries, 0, "timer wheel entries");
            assert_eq!(left.fanout_bytes, 0, "bytes to fan out");
            assert_eq!(self.record.futures.get(), 0, "futures");
        }
        assert_eq!(left.subscriptions, 0, "subscriptions");
        assert_eq!((left.tasks, left.timers), (0, 0), "tasks and timers");
        for pattern in PATTERNS {
            let subscribers = self.remote.subscribers(pattern);
            assert_eq!(subscribers, Some(0), "subscribers of {pattern}");
        }
        assert_eq!(
            *self.record.active_topics.borrow(),
            BTreeSet::new(),
            "active topics"
        );
        assert_eq!(left.queued_bytes, 0, "queued bytes");
        assert_eq!(self.shard.heaviest(), Heaviest::default());
        assert_eq!(self.network.open_sockets(), 0, "open descriptors");
        assert_eq!(self.network.dropped_clients(), 0, "dropped clients");
        let buffers = usize::from(self.config.receive_buffers);
        assert_eq!(self.network.buffers_free(), buffers, "free receive buffers");
        check_record(&self.record);
    }
}

/// Asserts that every connection opened once and ended once, and that only requested panics occurred.
pub(super) fn check_record(record: &Record) {
    for connection in record.connections.borrow().iter() {
        let counts = (connection.opens, connection.ends.len());
        assert_eq!(
            counts,
            (1, 1),
            "opens and ends of {}: {connection:?}",
            connection.id
        );
    }
    assert_eq!(
        record.unexpected_panics.get(),
        0,
        "panics that were not requested"
    );
}

/// Asserts that a response is complete.
fn check_response(response: &[u8]) {
    let text = String::from_utf8_lossy(response);
    let status = text.strip_prefix("HTTP/1.1 ").and_then(|it| it.get(..3));
    let status: Option<u16> = status.and_then(|it| it.parse().ok());
    assert!(
        status.is_some_and(|it| (200..600).contains(&it)),
        "a response has a status: {text}"
    );
    let (head, body) = text.split_once("\r\n\r\n").expect("a response has a head");
    let length = head
        .lines()
        .find_map(|it| it.strip_prefix("Content-Length: "));
    // The response to HEAD has no body.
    let is_complete = length.is_none_or(|it| it.parse() == Ok(body.len())) || body.is_empty();
    assert!(is_complete, "the body has {} bytes: {text}", body.len());
}

/// Asserts that each closure of another thread was called or dropped.
pub(super) fn check_answers(answers: Vec<Answer<()>>) {
    let mut context = Context::from_waker(Waker::noop());
    for answer in answers {
        let answer = pin!(answer).poll(&mut context);
        assert!(
            answer.is_ready(),
            "a closure was neither called nor dropped"
        );
    }
}

/// Asserts that all futures and closures were dropped.
pub(super) fn check_nothing_captured(record: &Rc<Record>) {
    assert_eq!(
        record.futures.get(),
        0,
        "futures after the end of the shard"
    );
    assert_eq!(Rc::strong_count(record), 1, "references to the record");
}
