//! The counters of a shard, which other threads read.

mod histogram;

use std::sync::atomic::{AtomicU64, Ordering};

use tidewheel_codec::{Cause, Traffic};

pub(crate) use self::histogram::Histogram;

use crate::SlowConsumer;

/// The reason why a request was refused.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) enum Rejected {
    /// The request is invalid, or exceeds a limit.
    Request,
    /// The limit of connections is reached.
    Connections,
    /// The limit of connections from its address is reached.
    Address,
    /// Its `Origin` is not listed.
    Origin,
    /// Its `Host` is not listed.
    Host,
    /// The server shuts down.
    Shutdown,
    /// The application has refused it.
    Application,
    /// The application has panicked.
    Panic,
    /// The application has not decided in time, or has as many tasks as it may have.
    Undecided,
}

/// The name of each [`Rejected`], in the order of the counters.
pub(crate) const REJECTIONS: [&str; 9] = [
    "request",
    "connections",
    "address",
    "origin",
    "host",
    "shutdown",
    "application",
    "panic",
    "undecided",
];

/// The name of each policy that drops messages, in the order of the counters.
pub(crate) const DROPS: [&str; 3] = ["drop_oldest", "drop_newest", "conflate"];

/// A counter that one thread writes and any thread reads.
#[derive(Debug, Default)]
pub(crate) struct Count(AtomicU64);

impl Count {
    /// The value.
    pub(crate) fn get(&self) -> u64 {
        self.0.load(Ordering::Relaxed)
    }

    /// Adds to the value. Only the owning shard calls it.
    pub(crate) fn add(&self, more: u64) {
        self.set(self.get() + more);
    }

    /// Subtracts from the value. Only the owning shard calls it.
    pub(crate) fn subtract(&self, less: u64) {
        self.set(self.get() - less);
    }

    /// Sets the value. Only the owning shard calls it.
    pub(crate) fn set(&self, value: u64) {
        self.0.store(value, Ordering::Relaxed);
    }
}

/// The counters of one shard.
#[derive(Debug, Default)]
pub(crate) struct Stats {
    /// Connections that hold a slot.
    pub(crate) connections: Count,
    /// Connections accepted.
    pub(crate) accepts: Count,
    /// Accepted connections that were handed over to another shard.
    pub(crate) hand_overs: Count,
    /// Completed opening handshakes.
    pub(crate) opens: Count,
    rejections: [Count; REJECTIONS.len()],
    /// Requests without an upgrade that the application has answered.
    pub(crate) http_requests: Count,
    /// Connections that ended because no request was complete in time.
    pub(crate) handshake_timeouts: Count,
    /// Connections that were reset because a deadline had passed.
    pub(crate) deadline_resets: Count,
    /// Receives that found no free buffer.
    pub(crate) starvations: Count,
    /// Topics and patterns with a subscriber.
    pub(crate) topics: Count,
    /// Subscriptions to topics and patterns.
    pub(crate) subscriptions: Count,
    /// Messages published by handlers.
    pub(crate) publishes: Count,
    /// Published messages that were queued for a subscriber, each counted once for each subscriber.
    pub(crate) deliveries: Count,
    drops: [Count; DROPS.len()],
    /// Times that reading a connection was paused because it did not read.
    pub(crate) receive_pauses: Count,
    /// Panics of the application that were caught.
    pub(crate) handler_panics: Count,
    /// Times that reading a connection was paused because the budget of published messages had no space.
    pub(crate) publisher_pauses: Count,
    /// Bytes that the fan-out holds, including the inbox.
    pub(crate) fanout_bytes: Count,
    /// Messages received.
    pub(crate) messages_received: Count,
    /// Messages sent.
    pub(crate) messages_sent: Count,
    /// Payload bytes of the messages received.
    pub(crate) received_bytes: Count,
    /// Payload bytes of the messages sent.
    pub(crate) sent_bytes: Count,
    /// Bytes in the send queues.
    pub(crate) send_queue_bytes: Count,
    pub(crate) timer_entries: Count,
    pub(crate) receive_buffers_held: Count,
    /// Time from a Ping to its Pong, 1 ms to 20 s.
    pub(crate) ping_round_trips: Histogram<1_000, 14>,
    /// Duration of a turn, without waiting, 1 µs to 1 s.
    pub(crate) turns: Histogram<1, 19>,
    /// Times that accepting was paused because of its rate limit.
    pub(crate) accept_pauses: Count,
    closes: [Count; Cause::NAMES.len()],
}

impl Rejected {
    /// The name of the reason.
    pub(crate) const fn as_str(self) -> &'static str {
        REJECTIONS[self as usize]
    }
}

impl Stats {
    /// Counts a refused request.
    pub(crate) fn rejected(&self, reason: Rejected) {
        self.rejections[reason as usize].add(1);
    }

    /// Counts messages that the policy for slow consumers dropped.
    pub(crate) fn dropped(&self, policy: SlowConsumer, messages: u64) {
        let index = match policy {
            SlowConsumer::DropOldest => 0,
            SlowConsumer::DropNewest => 1,
            SlowConsumer::Conflate => 2,
            SlowConsumer::Close | SlowConsumer::CloseTryAgain => return,
        };
        self.drops[index].add(messages);
    }

    /// The number of messages dropped by each of [`DROPS`].
    pub(crate) fn drops(&self) -> impl Iterator<Item = (&'static str, u64)> {
        DROPS.into_iter().zip(self.drops.iter().map(Count::get))
    }

    /// The number of requests refused for each of [`REJECTIONS`].
    pub(crate) fn rejections(&self) -> impl Iterator<Item = (&'static str, u64)> {
        REJECTIONS
            .into_iter()
            .zip(self.rejections.iter().map(Count::get))
    }

    /// Publishes the totals at the end of a turn.
    pub(crate) fn publish(
        &self,
        traffic: Traffic,
        waiting: usize,
        timers: usize,
        buffers_held: usize,
    ) {
        self.messages_received.set(traffic.received_messages);
        self.messages_sent.set(traffic.sent_messages);
        self.received_bytes.set(traffic.received_bytes);
        self.sent_bytes.set(traffic.sent_bytes);
        self.send_queue_bytes.set(waiting as u64);
        self.timer_entries.set(timers as u64);
        self.receive_buffers_held.set(buffers_held as u64);
    }

    /// Sets the gauges to zero, because the shard has ended. The counters keep their values.
    pub(crate) fn end(&self) {
        for gauge in [
            &self.connections,
            &self.topics,
            &self.subscriptions,
            &self.fanout_bytes,
            &self.send_queue_bytes,
            &self.timer_entries,
            &self.receive_buffers_held,
        ] {
            gauge.set(0);
        }
    }

    /// Counts the end of a connection.
    pub(crate) fn closed(&self, cause: Cause) {
        self.closes[cause.index()].add(1);
    }

    /// The number of connections that ended for each of [`Cause::NAMES`].
    pub(crate) fn closes(&self) -> impl Iterator<Item = (&'static str, u64)> {
        Cause::NAMES
            .iter()
            .copied()
            .zip(self.closes.iter().map(Count::get))
    }
}
