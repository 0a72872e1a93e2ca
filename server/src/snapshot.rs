//! The counters of a server at one moment.

use crate::stats::{Histogram, Stats};

/// The counters of a server at one moment, from [`Publisher::snapshot`](crate::Publisher::snapshot).
///
/// The shards count while they are read, so numbers that belong together may differ by what happens meanwhile.
#[derive(Clone, Debug, Default, PartialEq)]
#[non_exhaustive]
pub struct Snapshot {
    /// The counters of each shard, in the order of their numbers.
    pub shards: Vec<Counters>,
    /// Messages published by HTTP and by other threads, which are not included in [`Counters::publishes`].
    pub remote_publishes: u64,
    /// Whether the server accepts no more connections, because it drains or a shard has failed.
    pub is_draining: bool,
}

impl Snapshot {
    /// The sums over all shards.
    #[must_use]
    pub fn total(&self) -> Counters {
        let mut total = Counters::read(&Stats::default());
        for shard in &self.shards {
            total.add(shard);
        }
        total
    }
}

/// The counters of a shard, or their sums over all shards.
///
/// The first seven are current numbers. The others count from the start of the server, and never decrease.
#[derive(Clone, Debug, Default, PartialEq)]
#[non_exhaustive]
pub struct Counters {
    /// Open connections, in any state.
    pub connections: u64,
    /// Bytes in the send queues of connections.
    pub send_queue_bytes: u64,
    /// Bytes of published messages that are not yet in the send queues of all subscribers.
    pub fanout_bytes: u64,
    /// Entries of the timer wheel: deadlines, and entries of past deadlines that are not yet removed.
    pub timer_entries: u64,
    /// Receive buffers in use by received bytes that are not yet processed, or not yet sent.
    pub receive_buffers_held: u64,
    /// Topics and patterns with at least one subscriber on the shard.
    pub topics: u64,
    /// Subscriptions of connections to topics and patterns.
    pub subscriptions: u64,
    /// Connections accepted.
    pub accepts: u64,
    /// Accepted connections that a full shard handed over to another shard.
    pub hand_overs: u64,
    /// Opening handshakes completed.
    pub opens: u64,
    /// HTTP requests answered by the handler; those answered with status 426 count as refused.
    pub http_requests: u64,
    /// Messages received.
    pub messages_received: u64,
    /// Messages queued for sending; a policy for slow consumers may drop them later.
    pub messages_sent: u64,
    /// Payload bytes of the messages received.
    pub received_bytes: u64,
    /// Payload bytes of the messages sent.
    pub sent_bytes: u64,
    /// Pauses in reading from a client that did not read its messages.
    pub receive_pauses: u64,
    /// Connections closed because the opening handshake request was not complete in time.
    pub handshake_timeouts: u64,
    /// Connections reset at the close timeout, or at the deadline of a drain or of a refused request.
    pub deadline_resets: u64,
    /// Receives that found no free receive buffer.
    pub starvations: u64,
    /// Messages published by handlers.
    pub publishes: u64,
    /// Messages queued for a subscriber, counted once for each subscriber.
    pub deliveries: u64,
    /// Pauses in reading from a client because of the messages that it published.
    pub publisher_pauses: u64,
    /// Caught panics of the handler.
    pub handler_panics: u64,
    /// Pauses in accepting because of the maximum accept rate.
    pub accept_pauses: u64,
    /// Refused opening handshakes, by reason.
    pub rejections: Vec<(&'static str, u64)>,
    /// Messages dropped because a client read too slowly, by policy.
    pub drops: Vec<(&'static str, u64)>,
    /// Closed connections, by cause, with the names of [`Cause::as_str`](crate::Cause::as_str).
    pub closes: Vec<(&'static str, u64)>,
    /// Times from a ping to its pong, with a resolution of 1 ms.
    pub ping_round_trips: Durations,
    /// Durations of turns of a shard, without the system call that submits and waits.
    pub turns: Durations,
}

impl Counters {
    /// Reads the counters of a shard.
    pub(crate) fn read(stats: &Stats) -> Self {
        Self {
            connections: stats.connections.get(),
            send_queue_bytes: stats.send_queue_bytes.get(),
            fanout_bytes: stats.fanout_bytes.get(),
            timer_entries: stats.timer_entries.get(),
            receive_buffers_held: stats.receive_buffers_held.get(),
            topics: stats.topics.get(),
            subscriptions: stats.subscriptions.get(),
            accepts: stats.accepts.get(),
            hand_overs: stats.hand_overs.get(),
            opens: stats.opens.get(),
            http_requests: stats.http_requests.get(),
            messages_received: stats.messages_received.get(),
            messages_sent: stats.messages_sent.get(),
            received_bytes: stats.received_bytes.get(),
            sent_bytes: stats.sent_bytes.get(),
            receive_pauses: stats.receive_pauses.get(),
            handshake_timeouts: stats.handshake_timeouts.get(),
            deadline_resets: stats.deadline_resets.get(),
            starvations: stats.starvations.get(),
            publishes: stats.publishes.get(),
            deliveries: stats.deliveries.get(),
            publisher_pauses: stats.publisher_pauses.get(),
            handler_panics: stats.handler_panics.get(),
            accept_pauses: stats.accept_pauses.get(),
            rejections: stats.rejections().collect(),
            drops: stats.drops().collect(),
            closes: stats.closes().collect(),
            ping_round_trips: Durations::read(&stats.ping_round_trips),
            turns: Durations::read(&stats.turns),
        }
    }

    /// Adds the counters of another shard.
    fn add(&mut self, other: &Self) {
        let Self {
            connections,
            send_queue_bytes,
            fanout_bytes,
            timer_entries,
            receive_buffers_held,
            topics,
            subscriptions,
            accepts,
            hand_overs,
            opens,
            http_requests,
            messages_received,
            messages_sent,
            received_bytes,
            sent_bytes,
            receive_pauses,
            handshake_timeouts,
            deadline_resets,
            starvations,
            publishes,
            deliveries,
            publisher_pauses,
            handler_panics,
            accept_pauses,
            rejections,
            drops,
            closes,
            ping_round_trips,
            turns,
        } = other;
        for (sum, more) in [
            (&mut self.connections, connections),
            (&mut self.send_queue_bytes, send_queue_bytes),
            (&mut self.fanout_bytes, fanout_bytes),
            (&mut self.timer_entries, timer_entries),
            (&mut self.receive_buffers_held, receive_buffers_held),
            (&mut self.topics, topics),
            (&mut self.subscriptions, subscriptions),
            (&mut self.accepts, accepts),
            (&mut self.hand_overs, hand_overs),
            (&mut self.opens, opens),
            (&mut self.http_requests, http_requests),
            (&mut self.messages_received, messages_received),
            (&mut self.messages_sent, messages_sent),
            (&mut self.received_bytes, received_bytes),
            (&mut self.sent_bytes, sent_bytes),
            (&mut self.receive_pauses, receive_pauses),
            (&mut self.handshake_timeouts, handshake_timeouts),
            (&mut self.deadline_resets, deadline_resets),
            (&mut self.starvations, starvations),
            (&mut self.publishes, publishes),
            (&mut self.deliveries, deliveries),
            (&mut self.publisher_pauses, publisher_pauses),
            (&mut self.handler_panics, handler_panics),
            (&mut self.accept_pauses, accept_pauses),
        ] {
            *sum += more;
        }
        for (sums, more) in [
            (&mut self.rejections, rejections),
            (&mut self.drops, drops),
            (&mut self.closes, closes),
        ] {
            for (sum, (_, more)) in sums.iter_mut().zip(more) {
                sum.1 += more;
            }
        }
        self.ping_round_trips.add(ping_round_trips);
        self.turns.add(turns);
    }
}

/// A histogram of durations.
#[derive(Clone, Debug, Default, PartialEq)]
#[non_exhaustive]
pub struct Durations {
    /// Upper bounds in seconds, the last one infinite, each with the number of durations up to it and above the bound
    /// before.
    pub buckets: Vec<(f64, u64)>,
    /// The sum of all durations in seconds.
    pub sum_seconds: f64,
}

impl Durations {
    fn read<const FIRST_US: u64, const BOUNDS: usize>(
        histogram: &Histogram<FIRST_US, BOUNDS>,
    ) -> Self {
        Self {
            buckets: histogram.buckets().collect(),
            sum_seconds: histogram.sum(),
        }
    }

    /// Number of durations.
    #[must_use]
    pub fn count(&self) -> u64 {
        self.buckets.iter().map(|(_, count)| count).sum()
    }

    fn add(&mut self, other: &Self) {
        for (sum, (_, more)) in self.buckets.iter_mut().zip(&other.buckets) {
            sum.1 += more;
        }
        self.sum_seconds += other.sum_seconds;
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    #[test]
    fn the_total_has_the_sums_of_all_shards() {
        let stats = [Stats::default(), Stats::default()];
        stats[0].connections.set(3);
        stats[1].connections.set(4);
        for stats in &stats {
            stats.closed(tidewheel_codec::Cause::PingTimeout);
            stats.turns.record(Duration::from_millis(1));
        }
        let snapshot = Snapshot {
            shards: stats.iter().map(Counters::read).collect(),
            ..Snapshot::default()
        };
        let total = snapshot.total();
        assert_eq!((total.connections, total.opens), (7, 0));
        assert!(total.closes.contains(&("ping_timeout", 2)));
        assert!(total.closes.contains(&("peer_close", 0)));
        assert_eq!(total.turns.count(), 2);
        assert!((total.turns.sum_seconds - 0.002).abs() < 1e-9);
        assert_eq!(Snapshot::default().total().connections, 0);
    }
}
