//! Fan-out: from a publisher on any thread to the subscribers on every shard.
//!
//! A message is encoded once, and handed by reference to each shard that may have subscribers
//! ([`Interest`]), through its [`Inbox`]. There it is put behind what waits for each subscriber
//! ([`Chains`]), which costs no more than a store; and in slices, so that nobody else is held up,
//! what waits for a subscriber leaves in one send. Everything counts against the shard's [`Budget`].

mod budget;
mod chains;
mod inbox;
mod dispatch;
mod interest;
#[allow(unsafe_code)]
mod mpsc_queue;
mod patterns;
mod published;
mod publishers;
mod sync {
    pub(super) use std::sync::atomic;
}
mod topics;

use std::{
    collections::{HashMap, VecDeque},
    hash::RandomState,
    sync::{
        Arc,
        atomic::{AtomicU8, AtomicU32, AtomicU64, Ordering},
    },
};

pub(crate) use self::{
    budget::{BurstDetector, Load, Pressure, Window},
    chains::{ChainSegment, NONE},
    inbox::{Gone, Inbox, Job},
    published::{Address, Published},
    publishers::PublishHistory,
};
use tidewheel_codec::Time;

use self::{
    chains::{Chains, Origin},
    dispatch::Deferred,
    interest::Interest,
    publishers::Publishers,
    topics::{Subscriptions, Topics},
};
use crate::{
    Config, SlowConsumer,
    command::Command,
    config::TopicRule,
    ring::Waker,
    stats::Stats,
    topic::{self, TopicError},
};

/// Subscriptions of a connection that are looked at when it is its turn.
const CATCH_UP_SUBSCRIPTIONS_MAX: usize = 16;

/// What the shards of a server have in common.
#[derive(Debug)]
pub(crate) struct SharedFanout {
    hasher: RandomState,
    interest: Interest,
    inboxes: Box<[Inbox]>,
    rules: Vec<TopicRule>,
    /// What threads that are no shards have published.
    pub(crate) remote_window: Arc<Window>,
    /// Messages that other threads have published.
    pub(crate) remote_publishes: AtomicU64,
    /// Bursts of published messages that are over.
    pub(crate) bursts: AtomicU64,
    /// Shards that have not ended.
    living: AtomicU32,
    /// A [`Readiness`], which only ever grows.
    readiness: AtomicU8,
}

/// Whether a server takes new connections.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
#[repr(u8)]
pub(crate) enum Readiness {
    Serving,
    /// It was told to drain.
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
            inboxes: (0..shards)
                .map(|_| Inbox::new(config.fanout_memory))
                .collect(),
            rules: config.topics.clone(),
            remote_window: Arc::default(),
            remote_publishes: AtomicU64::new(0),
            bursts: AtomicU64::new(0),
            living: AtomicU32::new(shards.into()),
            readiness: AtomicU8::new(Readiness::Serving as u8),
        }
    }

    /// A shard has ended: nothing is handed to it any more.
    pub(crate) fn close(&self, shard: u16) {
        if self.inboxes[usize::from(shard)].close() {
            self.living.fetch_sub(1, Ordering::Release);
        }
    }

    /// Whether all shards have ended.
    pub(crate) fn is_over(&self) -> bool {
        self.living.load(Ordering::Acquire) == 0
    }

    pub(crate) fn readiness(&self) -> Readiness {
        // Relaxed: it guards no other memory.
        match self.readiness.load(Ordering::Relaxed) {
            0 => Readiness::Serving,
            1 => Readiness::Draining,
            _ => Readiness::Failed,
        }
    }

    /// The server takes no new connections from now on, for this reason. Says whether it took some before.
    pub(crate) fn note_readiness(&self, readiness: Readiness) -> bool {
        let before = self.readiness.fetch_max(readiness as u8, Ordering::Relaxed);
        before == Readiness::Serving as u8
    }

    /// The connections of all shards that have not ended.
    pub(crate) fn connections(&self) -> u64 {
        self.inboxes.iter().map(Inbox::connections).sum()
    }

    pub(crate) fn inboxes(&self) -> &[Inbox] {
        &self.inboxes
    }

    /// The shard says how it is woken.
    pub(crate) fn set_waker(&self, shard: u16, waker: Waker) {
        let inbox = &self.inboxes[usize::from(shard)];
        assert!(inbox.set_waker(waker), "shard {shard} exists once");
    }

    /// Gives each shard that may have subscribers for a topic to `hand`.
    pub(crate) fn distribute(&self, address: Address<'_>, mut hand: impl FnMut(u16, &Inbox)) {
        let mut shards = self.interest.shards(address.key);
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

    /// The pressure on the shards that may have subscribers for a topic: that of the fullest.
    pub(crate) fn pressure_at(&self, address: Address<'_>) -> Pressure {
        let mut pressure = Pressure::Free;
        self.distribute(address, |_, inbox| {
            pressure = pressure.max(inbox.budget.pressure());
        });
        pressure
    }

    /// The pressure on the fullest shard.
    fn pressure(&self) -> Pressure {
        let pressures = self.inboxes.iter().map(|inbox| inbox.budget.pressure());
        pressures.max().unwrap_or(Pressure::Free)
    }

    /// The first rule for a topic, if there is one.
    fn policy(&self, topic: &str) -> Option<SlowConsumer> {
        let rule = self
            .rules
            .iter()
            .find(|rule| topic::matches(&rule.pattern, topic))?;
        Some(rule.slow_consumer)
    }
}

/// A shard's part in the fan-out.
#[derive(Debug)]
pub(crate) struct Fanout {
    pub(crate) shared: Arc<SharedFanout>,
    pub(crate) stats: Arc<Stats>,
    shard: u16,
    topics: Topics,
    /// For each slot up to the highest that has ever subscribed. Reserved for all of them with the
    /// first, and never moved; untouched, it costs nothing.
    members: Vec<Member>,
    places: usize,
    publishers: Publishers,
    pub(crate) chains: Chains,
    /// Subscribers that have got a part of their chain: its last link.
    parts: HashMap<u32, u32>,
    /// Slots for which something waits; those that have got it meanwhile, too.
    waiting: VecDeque<u32>,
    /// Slots that wait until their send queue is empty, and when each is looked at again; those that
    /// have got everything meanwhile, too.
    suspended: VecDeque<(Time, u32)>,
    /// Connections with subscriptions.
    subscribers: usize,
    /// The same, where it was published to few.
    waiting_small: VecDeque<u32>,
    /// Whether the next is one of those.
    serves_small_topics: bool,
    /// Few to whom a message is being given.
    small_topic_slots: Vec<u32>,
    deferred: Deferred,
    /// Bytes of the pending messages, each counted once for each topic or pattern.
    pending_bytes: usize,
    /// Deliveries to very many that are left to this turn.
    allowance: usize,
    deliveries_per_turn: usize,
    /// Shards to wake, because their inboxes were empty.
    to_wake: Vec<u16>,
}

/// What the fan-out keeps of a connection.
#[derive(Clone, Copy, Debug, Default)]
struct Member {
    subscriptions: Subscriptions,
    /// The chain that waits for it.
    chain: u32,
}

impl Fanout {
    /// The part of a shard with so many places for connections, which makes so many deliveries to
    /// very many in a turn.
    pub(crate) fn new(
        shared: Arc<SharedFanout>,
        shard: u16,
        stats: Arc<Stats>,
        places: usize,
        deliveries_per_turn: usize,
        config: &Config,
    ) -> Self {
        let shares_bit = shared.inboxes.len() > 64;
        shared.inboxes[usize::from(shard)].set_stats(&stats);
        Self {
            shared,
            stats,
            shard,
            topics: Topics::new(shard, shares_bit, places),
            members: Vec::new(),
            places,
            publishers: Publishers::default(),
            chains: Chains::new(config.max_send_queue, config.slow_consumer),
            parts: HashMap::new(),
            waiting: VecDeque::new(),
            suspended: VecDeque::new(),
            subscribers: 0,
            waiting_small: VecDeque::new(),
            serves_small_topics: false,
            small_topic_slots: Vec::new(),
            deferred: Deferred::default(),
            pending_bytes: 0,
            allowance: 4 * deliveries_per_turn,
            deliveries_per_turn,
            to_wake: Vec::new(),
        }
    }

    pub(crate) fn subscribe(&mut self, slot: u32, pattern: &str) -> Result<bool, TopicError> {
        topic::check_pattern(pattern)?;
        if self.members.len() <= slot as usize {
            if self.members.capacity() == 0 {
                self.members.reserve_exact(self.places);
            }
            self.members.resize(slot as usize + 1, Member::default());
        }
        let list = &mut self.members[slot as usize].subscriptions;
        self.subscribers += usize::from(list.is_empty());
        let shared = (&self.shared.hasher, &self.shared.interest);
        let is_new = self.topics.subscribe(slot, list, pattern, shared);
        self.stats.topics.set(self.topics.len() as u64);
        self.stats.subscriptions.add(u64::from(is_new));
        Ok(is_new)
    }

    pub(crate) fn unsubscribe(&mut self, slot: u32, pattern: &str) -> Result<bool, TopicError> {
        topic::check_pattern(pattern)?;
        // What was published before is for it still.
        self.catch_up(slot);
        let Some(member) = self.members.get_mut(slot as usize) else {
            return Ok(false);
        };
        let shared = (&self.shared.hasher, &self.shared.interest);
        let list = &mut member.subscriptions;
        let was_there = self.topics.unsubscribe(slot, list, pattern, shared);
        self.subscribers -= usize::from(was_there && list.is_empty());
        self.finish_orphaned();
        self.stats.topics.set(self.topics.len() as u64);
        self.stats.subscriptions.subtract(u64::from(was_there));
        Ok(was_there)
    }

    /// A connection is at its end: it gets nothing more.
    pub(crate) fn forget(&mut self, slot: u32) {
        self.publishers.forget(slot);
        let chain = self.take_chain(slot);
        self.release(slot, chain);
        if let Some(member) = self.members.get_mut(slot as usize) {
            let list = &mut member.subscriptions;
            self.subscribers -= usize::from(!list.is_empty());
            let ended = self.topics.unsubscribe_all(list, &self.shared.interest);
            self.finish_orphaned();
            self.stats.topics.set(self.topics.len() as u64);
            self.stats.subscriptions.subtract(ended);
        }
    }

    /// Publishes to all shards.
    pub(crate) fn publish(&mut self, address: Address<'_>, message: Arc<Published>) {
        let (shared, mut is_ours) = (Arc::clone(&self.shared), false);
        shared.distribute(address, |shard, inbox| {
            if shard == self.shard {
                is_ours = true;
            } else if inbox.push_without_wake(Job::Publish(Arc::clone(&message))) == Ok(true) {
                self.to_wake.push(shard);
            }
        });
        self.stats.publishes.add(1);
        self.publishers.note_publish();
        if is_ours {
            self.dispatch(message, Origin::Connection);
        }
    }

    /// Takes what waits for a connection. It is to be [released](Self::release), or
    /// [put off](Self::postpone).
    pub(crate) fn take_chain(&mut self, slot: u32) -> u32 {
        self.members
            .get_mut(slot as usize)
            .map_or(NONE, |member| std::mem::take(&mut member.chain))
    }

    /// The segments of a connection's chain that it has not got yet.
    pub(crate) fn segments(&self, slot: u32, chain: u32) -> Vec<ChainSegment> {
        let after = match self.parts.is_empty() {
            true => NONE,
            false => self.parts.get(&slot).copied().unwrap_or(NONE),
        };
        self.chains.segments(chain, after)
    }

    /// A connection has got its chain, or will not.
    pub(crate) fn release(&mut self, slot: u32, chain: u32) {
        if !self.parts.is_empty() {
            self.parts.remove(&slot);
        }
        self.chains.release(chain);
    }

    /// A connection has got its chain up to the link `after`, and gets the rest in another turn.
    pub(crate) fn postpone(&mut self, slot: u32, chain: u32, after: u32) {
        if after != NONE {
            self.parts.insert(slot, after);
        }
        self.members[slot as usize].chain = chain;
        self.waiting.push_back(slot);
    }

    /// The same, but it gets the rest when its send queue is [empty](Self::resume), or at `again`.
    pub(crate) fn suspend(&mut self, slot: u32, chain: u32, after: u32, again: Time) {
        if after != NONE {
            self.parts.insert(slot, after);
        }
        self.members[slot as usize].chain = chain;
        self.suspended.push_back((again, slot));
    }

    /// The send queue of a connection is empty.
    pub(crate) fn resume(&mut self, slot: u32) {
        let member = self.members.get(slot as usize);
        if member.is_some_and(|member| member.chain != NONE) {
            self.waiting.push_back(slot);
        }
    }

    /// Looks again at those whose time has come; says when the next is to be looked at.
    pub(crate) fn resume_suspended(&mut self, now: Time) -> Option<Time> {
        while let Some((again, slot)) = self.suspended.front().copied() {
            if again > now {
                return Some(again);
            }
            self.suspended.pop_front();
            self.resume(slot);
        }
        None
    }

    /// Connections with subscriptions.
    pub(crate) fn subscribers(&self) -> usize {
        self.subscribers
    }

    /// The next connection for which something may wait. Every other one is from those that got what
    /// was published to few.
    pub(crate) fn next_waiting(&mut self) -> Option<u32> {
        self.serves_small_topics = !self.serves_small_topics;
        let (first, second) = match self.serves_small_topics {
            true => (&mut self.waiting_small, &mut self.waiting),
            false => (&mut self.waiting, &mut self.waiting_small),
        };
        let next = first.pop_front().or_else(|| second.pop_front());
        if let Some(slot) = next {
            // So that all of it leaves in one send.
            self.catch_up_if_quick(slot, CATCH_UP_SUBSCRIPTIONS_MAX);
        }
        next
    }

    /// Whether messages wait for a connection, or are pending.
    pub(crate) fn is_behind(&self) -> bool {
        !self.waiting.is_empty()
            || !self.waiting_small.is_empty()
            || self.topics.pending() > 0
            || !self.deferred.is_empty()
    }

    /// Takes the jobs that have come. A job counts in the budget until [`note_read`](Self::note_read).
    pub(crate) fn take_jobs(&self, read: impl FnMut(Job)) {
        self.inbox().take(read);
    }

    /// Notes that a job is about to be done.
    pub(crate) fn note_read(&self, job: &Job) {
        self.inbox().note_read(job);
    }

    /// Bytes that count against the budget.
    pub(crate) fn bytes(&self) -> usize {
        self.inbox().budget.bytes()
    }

    /// Takes the commands to this shard.
    pub(crate) fn commands(&self) -> impl Iterator<Item = Command> + use<> {
        self.inbox().take_commands()
    }

    fn inbox(&self) -> &Inbox {
        &self.shared.inboxes[usize::from(self.shard)]
    }

    /// Whether messages wait until earlier ones are delivered.
    pub(crate) fn defers(&self) -> bool {
        self.is_full() || !self.deferred.is_empty()
    }

    /// Notes the end of a burst, after which all shards may give back memory.
    pub(crate) fn end_burst(&self) {
        self.shared.bursts.fetch_add(1, Ordering::Relaxed);
        self.shared.inboxes.iter().for_each(Inbox::wake);
    }

    /// The waker of a shard.
    pub(crate) fn waker(&self, shard: u32) -> Option<&Waker> {
        self.shared.inboxes.get(shard as usize)?.waker()
    }

    /// Takes the shards that are to be woken.
    pub(crate) fn take_shards_to_wake(&mut self) -> impl Iterator<Item = (u16, Waker)> {
        let shared = Arc::clone(&self.shared);
        std::mem::take(&mut self.to_wake)
            .into_iter()
            .filter_map(move |shard| {
                let waker = shared.inboxes[usize::from(shard)].waker()?;
                Some((shard, waker.clone()))
            })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_connections_of_all_living_shards_are_counted() {
        let shared = SharedFanout::new(&Config {
            shards: Some(3),
            ..Config::default()
        });
        assert_eq!(shared.connections(), 0, "no shard has begun");
        for (inbox, connections) in shared.inboxes.iter().zip([3, 4]) {
            let stats = Arc::<Stats>::default();
            stats.connections.set(connections);
            inbox.set_stats(&stats);
        }
        assert_eq!(shared.connections(), 7);
        shared.close(0);
        assert_eq!(shared.connections(), 4);
    }

    #[test]
    fn a_server_stops_taking_connections_once() {
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
