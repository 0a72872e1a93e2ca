//! The state of the fan-out that all shards of a server share.

use std::{
    hash::{BuildHasher, RandomState},
    sync::{
        Arc,
        atomic::{AtomicU8, AtomicU32, AtomicU64, Ordering},
    },
    time::Duration,
};

use super::{
    Address, Inbox,
    budget::Pressure,
    interest::{self, Interest},
    presence::Presence,
    window::Window,
};
use crate::{
    Config, SlowConsumer,
    config::{TopicRule, bounds::DEADLINE_MAX},
    ring::Waker,
    topic,
};

/// Number of servers that this process has made.
static SERVERS: AtomicU64 = AtomicU64::new(0);

/// The state of the fan-out that all shards of a server share.
#[derive(Debug)]
pub(crate) struct SharedFanout {
    pub(super) hasher: RandomState,
    pub(super) interest: Interest,
    /// `None` without [`Config::presence`].
    pub(super) presence: Option<Arc<Presence>>,
    pub(super) inboxes: Box<[Inbox]>,
    rules: Vec<TopicRule>,
    /// Number of the server, unique in the process.
    pub(super) server: u64,
    /// Bytes in flight that threads other than the shards have published.
    pub(crate) remote_window: Arc<Window>,
    /// Messages that threads other than the shards have published.
    pub(crate) remote_publishes: AtomicU64,
    /// Number of bursts that have ended.
    pub(crate) bursts: AtomicU64,
    /// Shards that have not ended.
    living: AtomicU32,
    /// A [`Readiness`]. It never decreases.
    readiness: AtomicU8,
    /// The shortest timeout that a drain was given, in milliseconds. `u64::MAX`: none was given.
    drain_timeout_ms: AtomicU64,
}

/// Whether a server accepts connections.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
#[repr(u8)]
pub(crate) enum Readiness {
    Serving,
    /// It drains on a command.
    Draining,
    /// A shard has failed, and the others drain.
    Failed,
}

impl SharedFanout {
    pub(crate) fn new(config: &Config) -> Self {
        let shards = config.shards.unwrap_or(1);
        Self {
            hasher: RandomState::new(),
            interest: Interest::new(),
            presence: config.presence.then(|| Arc::new(Presence::new())),
            inboxes: (0..shards)
                .map(|_| Inbox::new(config.fanout_memory))
                .collect(),
            rules: config.topics.clone(),
            server: SERVERS.fetch_add(1, Ordering::Relaxed),
            remote_window: Arc::default(),
            remote_publishes: AtomicU64::new(0),
            bursts: AtomicU64::new(0),
            living: AtomicU32::new(shards.into()),
            readiness: AtomicU8::new(Readiness::Serving as u8),
            drain_timeout_ms: AtomicU64::new(u64::MAX),
        }
    }

    /// Closes the inbox of a shard that has ended.
    pub(crate) fn close(&self, shard: u16) {
        if self.inboxes[usize::from(shard)].close() {
            self.living.fetch_sub(1, Ordering::Release);
        }
    }

    /// Returns whether all shards have ended.
    pub(crate) fn is_over(&self) -> bool {
        self.living.load(Ordering::Acquire) == 0
    }

    pub(crate) fn readiness(&self) -> Readiness {
        // Relaxed, because it guards no other memory.
        match self.readiness.load(Ordering::Relaxed) {
            0 => Readiness::Serving,
            1 => Readiness::Draining,
            _ => Readiness::Failed,
        }
    }

    /// Notes that the server accepts no more connections. Returns whether it accepted connections before.
    pub(crate) fn note_readiness(&self, readiness: Readiness) -> bool {
        let before = self.readiness.fetch_max(readiness as u8, Ordering::Relaxed);
        before == Readiness::Serving as u8
    }

    /// Limits the duration of drains that begin later, or are under way.
    pub(crate) fn limit_drain(&self, timeout: Duration) {
        let timeout_ms = timeout.min(DEADLINE_MAX).as_millis() as u64;
        // Relaxed, because the command to drain follows, which is released.
        self.drain_timeout_ms
            .fetch_min(timeout_ms, Ordering::Relaxed);
    }

    /// The shortest timeout that a drain was given.
    pub(crate) fn drain_timeout(&self) -> Option<Duration> {
        let timeout_ms = self.drain_timeout_ms.load(Ordering::Relaxed);
        (timeout_ms != u64::MAX).then(|| Duration::from_millis(timeout_ms))
    }

    /// Number of connections of all shards that have not ended.
    pub(crate) fn connections(&self) -> u64 {
        self.inboxes.iter().map(Inbox::connections).sum()
    }

    pub(crate) fn inboxes(&self) -> &[Inbox] {
        &self.inboxes
    }

    /// Sets the waker of a shard.
    pub(crate) fn set_waker(&self, shard: u16, waker: Waker) {
        let inbox = &self.inboxes[usize::from(shard)];
        assert!(
            inbox.set_waker(waker),
            "the waker of shard {shard} is set once"
        );
    }

    /// Calls `hand` with each shard that may have subscribers for a topic.
    pub(crate) fn distribute(&self, address: Address<'_>, mut hand: impl FnMut(u16, &Inbox)) {
        let mut shards = self.interest.shards(address.key());
        if self.inboxes.len() <= 64 {
            while shards != 0 {
                let shard = shards.trailing_zeros() as u16;
                shards &= shards - 1;
                hand(shard, &self.inboxes[usize::from(shard)]);
            }
        } else {
            for (shard, inbox) in (0..).zip(&self.inboxes) {
                if shards & interest::bit(shard) != 0 {
                    hand(shard, inbox);
                }
            }
        }
    }

    /// Number of subscribers of a topic or pattern on all shards. `None` without [`Config::presence`].
    pub(crate) fn subscribers(&self, name: &str) -> Option<usize> {
        let presence = self.presence.as_ref()?;
        Some(presence.subscribers(name, self.hasher.hash_one(name)))
    }

    /// The highest pressure on the shards that may have subscribers for a topic.
    pub(crate) fn pressure_at(&self, address: Address<'_>) -> Pressure {
        let mut pressure = Pressure::Free;
        self.distribute(address, |_, inbox| {
            pressure = pressure.max(inbox.budget.pressure());
        });
        pressure
    }

    /// The highest pressure on any shard.
    pub(super) fn pressure(&self) -> Pressure {
        let pressures = self.inboxes.iter().map(|inbox| inbox.budget.pressure());
        pressures.max().unwrap_or(Pressure::Free)
    }

    /// The policy of the first rule that matches a topic.
    pub(super) fn policy(&self, topic: &str) -> Option<SlowConsumer> {
        let rule = self
            .rules
            .iter()
            .find(|rule| topic::matches(&rule.pattern, topic))?;
        Some(rule.slow_consumer)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_connections_of_all_shards_that_have_not_ended_are_counted() {
        let shared = SharedFanout::new(&Config {
            shards: Some(3),
            ..Config::default()
        });
        assert_eq!(shared.connections(), 0, "no shard has started");
        for (inbox, connections) in shared.inboxes.iter().zip([3, 4]) {
            inbox.stats().connections.set(connections);
        }
        assert_eq!(shared.connections(), 7);
        shared.close(0);
        assert_eq!(shared.connections(), 4);
    }

    #[test]
    fn readiness_reports_the_first_change_only() {
        for (first, second) in [
            (Readiness::Draining, Readiness::Draining),
            (Readiness::Draining, Readiness::Failed),
            (Readiness::Failed, Readiness::Draining),
        ] {
            let shared = SharedFanout::new(&Config::default());
            assert!(shared.note_readiness(first), "{first:?}");
            assert!(!shared.note_readiness(second), "{first:?}, {second:?}");
        }
    }
}
