//! What a shard counts, for whoever asks from another thread.

mod histogram;

use std::sync::atomic::{AtomicU64, Ordering};

use tidewheel_codec::{Cause, Traffic};

pub(crate) use self::histogram::Histogram;

use crate::SlowConsumer;

/// The name of each cause of an end, in the order in which they are counted.
pub(crate) const CAUSES: [&str; 14] = [
    "peer_close",
    "local_close",
    "ping_timeout",
    "idle_timeout",
    "eof_without_close",
    "reset",
    "protocol_error",
    "too_big",
    "slow_consumer",
    "close_timeout",
    "shutdown",
    "lifetime",
    "message_rate",
    "handler_panic",
];

fn index(cause: Cause) -> usize {
    match cause {
        Cause::PeerClose => 0,
        Cause::LocalClose => 1,
        Cause::PingTimeout => 2,
        Cause::IdleTimeout => 3,
        Cause::EofWithoutClose => 4,
        Cause::Reset => 5,
        Cause::ProtocolError(_) => 6,
        Cause::TooBig => 7,
        Cause::SlowConsumer => 8,
        Cause::CloseTimeout => 9,
        Cause::Shutdown => 10,
        Cause::Lifetime => 11,
        Cause::MessageRate => 12,
        Cause::HandlerPanic => 13,
    }
}

/// Why a request was refused.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) enum Rejected {
    /// It breaks a rule of HTTP or of the opening handshake, or a limit.
    Request,
    /// There were too many connections.
    Connections,
    /// There were too many from its address.
    Address,
    /// Its page may not connect.
    Origin,
    /// Its `Host` is not served.
    Host,
    /// The server shuts down.
    Shutdown,
    /// The application has refused it.
    Application,
    /// The application panicked.
    Panic,
}

/// The name of each [`Rejected`], in the order in which they are counted.
pub(crate) const REJECTIONS: [&str; 8] = [
    "request",
    "connections",
    "address",
    "origin",
    "host",
    "shutdown",
    "application",
    "panic",
];

/// The name of each policy that drops messages, in the order in which they are counted.
pub(crate) const DROPS: [&str; 3] = ["drop_oldest", "drop_newest", "conflate"];

/// A count that one thread writes and any may read.
#[derive(Debug, Default)]
pub(crate) struct Count(AtomicU64);

impl Count {
    /// The value.
    pub(crate) fn get(&self) -> u64 {
        self.0.load(Ordering::Relaxed)
    }

    /// Adds to it; only the owning shard does.
    pub(crate) fn add(&self, more: u64) {
        self.set(self.get() + more);
    }

    /// Takes from it; only the owning shard does.
    pub(crate) fn subtract(&self, less: u64) {
        self.set(self.get() - less);
    }

    /// Sets it; only the owning shard does.
    pub(crate) fn set(&self, value: u64) {
        self.0.store(value, Ordering::Relaxed);
    }
}

/// The counts of one shard.
#[derive(Debug, Default)]
pub(crate) struct Stats {
    /// Connections that hold a descriptor, in whatever state.
    pub(crate) connections: Count,
    /// Connections accepted.
    pub(crate) accepts: Count,
    /// Of these, connections handed over to another shard.
    pub(crate) hand_overs: Count,
    /// Opening handshakes that were completed.
    pub(crate) opens: Count,
    rejections: [Count; REJECTIONS.len()],
    /// Connections ended because no request was complete in time.
    pub(crate) handshake_timeouts: Count,
    /// Connections reset because a deadline had passed.
    pub(crate) deadline_resets: Count,
    /// Receives that found no free buffer.
    pub(crate) starvations: Count,
    /// Topics and patterns with a subscriber.
    pub(crate) topics: Count,
    /// Subscriptions to them.
    pub(crate) subscriptions: Count,
    /// Messages published by handlers.
    pub(crate) publishes: Count,
    /// Messages put behind what waits for a subscriber.
    pub(crate) deliveries: Count,
    drops: [Count; DROPS.len()],
    /// Times that a connection was no longer read, because it did not read.
    pub(crate) receive_pauses: Count,
    /// Panics of the application that were caught.
    pub(crate) handler_panics: Count,
    /// Times that a connection was no longer read, because what it publishes had to wait.
    pub(crate) publisher_pauses: Count,
    /// Bytes that the fan-out holds, its mailbox included.
    pub(crate) fanout_bytes: Count,
    /// Messages received.
    pub(crate) messages_received: Count,
    /// Messages sent.
    pub(crate) messages_sent: Count,
    /// Payload bytes of the messages received.
    pub(crate) received_bytes: Count,
    /// Payload bytes of the messages sent.
    pub(crate) sent_bytes: Count,
    /// Bytes that wait in send queues.
    pub(crate) send_queue_bytes: Count,
    pub(crate) timer_entries: Count,
    pub(crate) receive_buffers_held: Count,
    /// From a ping to its pong, 1 ms to 20 s.
    pub(crate) ping_round_trips: Histogram<1_000, 14>,
    /// A turn of the shard, without its waiting, 1 µs to 1 s.
    pub(crate) turns: Histogram<1, 19>,
    /// Times that accepting stood still because of its rate.
    pub(crate) accept_pauses: Count,
    closes: [Count; CAUSES.len()],
}

impl Stats {
    /// Counts a request that was refused.
    pub(crate) fn rejected(&self, reason: Rejected) {
        self.rejections[reason as usize].add(1);
    }

    /// Counts messages that were dropped because their reader was slow.
    pub(crate) fn dropped(&self, policy: SlowConsumer, messages: u64) {
        let index = match policy {
            SlowConsumer::DropOldest => 0,
            SlowConsumer::DropNewest => 1,
            SlowConsumer::Conflate => 2,
            SlowConsumer::Close | SlowConsumer::CloseTryAgain => return,
        };
        self.drops[index].add(messages);
    }

    /// How many messages were dropped by each of [`DROPS`].
    pub(crate) fn drops(&self) -> impl Iterator<Item = (&'static str, u64)> {
        DROPS.into_iter().zip(self.drops.iter().map(Count::get))
    }

    /// How many requests were refused for each of [`REJECTIONS`].
    pub(crate) fn rejections(&self) -> impl Iterator<Item = (&'static str, u64)> {
        REJECTIONS
            .into_iter()
            .zip(self.rejections.iter().map(Count::get))
    }

    /// Tells what the turn has come to.
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

    /// Counts an end.
    pub(crate) fn closed(&self, cause: Cause) {
        self.closes[index(cause)].add(1);
    }

    /// How many connections ended for each of [`CAUSES`].
    pub(crate) fn closes(&self) -> impl Iterator<Item = (&'static str, u64)> {
        CAUSES.into_iter().zip(self.closes.iter().map(Count::get))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_and_places_agree() {
        for cause in [
            Cause::PeerClose,
            Cause::PingTimeout,
            Cause::TooBig,
            Cause::Lifetime,
            Cause::HandlerPanic,
        ] {
            assert_eq!(CAUSES[index(cause)], cause.as_str());
        }
    }
}
