//! Fan-out: from a publisher on any thread to the subscribers on every shard.
//!
//! A message is encoded once. Each shard that may have subscribers ([`Interest`](interest::Interest)) gets a
//! reference to it through its [`Inbox`]. The shard adds the message to the chain of each subscriber
//! ([`Chains`]), which costs one store. In each turn, some subscribers get their chain in one send. All memory
//! counts against the shard's [`Budget`](budget::Budget).

mod budget;
mod burst;
mod chains;
mod deferred;
mod dispatch;
mod inbox;
mod interest;
#[allow(unsafe_code)]
mod mpsc_queue;
mod patterns;
mod presence;
mod published;
mod publishers;
mod shared;
mod sync {
    pub(super) use std::sync::atomic;
}
mod topics;
mod window;

use std::{
    collections::{HashMap, VecDeque},
    sync::{Arc, atomic::Ordering},
};

use tidewheel_codec::Time;

pub(crate) use self::{
    budget::Pressure,
    burst::{BurstDetector, Load},
    chains::{ChainSegment, NONE},
    inbox::{Gone, Inbox, Job},
    presence::{PresenceChange, PresenceReport},
    published::{Address, Published},
    publishers::PublishHistory,
    shared::{Readiness, SharedFanout},
};
use self::{
    chains::{Chains, Origin},
    deferred::Deferred,
    presence::ShardPresence,
    publishers::Publishers,
    topics::{Subscriptions, Topics},
};
use crate::{
    Config,
    command::Command,
    ring::Waker,
    stats::Stats,
    topic::{self, TopicError},
};

/// Subscriptions of a connection for which its pending messages are searched before its chain is sent, at most.
const CATCH_UP_SUBSCRIPTIONS_MAX: usize = 16;

/// The fan-out of one shard.
#[derive(Debug)]
pub(crate) struct Fanout {
    pub(crate) shared: Arc<SharedFanout>,
    pub(crate) stats: Arc<Stats>,
    shard: u16,
    topics: Topics,
    /// One member for each slot up to the highest that has ever subscribed. Address space for all slots is
    /// reserved with the first, so the members never move.
    members: Vec<Member>,
    places: usize,
    publishers: Publishers,
    pub(crate) chains: Chains,
    /// The last delivered link of each subscriber of which a part of the chain was delivered.
    parts: HashMap<u32, u32>,
    /// Slots with a chain, and slots whose chain was delivered since.
    waiting: VecDeque<u32>,
    /// Subscribers that wait until their send queue is empty, each with the time of its next retry; and
    /// subscribers whose chain was delivered since.
    suspended: VecDeque<(Time, u32)>,
    /// Number of connections with subscriptions.
    subscribers: usize,
    /// Slots with a chain that ends with a message of a small topic; entries as in `waiting`.
    waiting_small: VecDeque<u32>,
    /// Whether the next subscriber is taken from `waiting_small`.
    serves_small_topics: bool,
    /// Subscribers of small topics to which a message is being added.
    small_topic_slots: Vec<u32>,
    deferred: Deferred,
    /// Bytes of the pending messages, each counted once for each topic or pattern.
    pending_bytes: usize,
    /// Work of deliveries to subscribers of large topics that is left in this turn, in quarters of a delivery.
    allowance: usize,
    deliveries_per_turn: usize,
    /// Shards to wake, because their inboxes were empty.
    to_wake: Vec<u16>,
}

/// The fan-out's state of a connection.
#[derive(Clone, Copy, Debug, Default)]
struct Member {
    subscriptions: Subscriptions,
    /// The chain of messages that wait for the connection.
    chain: u32,
}

impl Fanout {
    /// Creates the fan-out of a shard with `places` slots, which makes `deliveries_per_turn` deliveries to
    /// subscribers of large topics in a turn.
    pub(crate) fn new(
        shared: Arc<SharedFanout>,
        shard: u16,
        places: usize,
        deliveries_per_turn: usize,
        config: &Config,
    ) -> Self {
        let shares_bit = shared.inboxes.len() > 64;
        let presence = shared.presence.clone().map(ShardPresence::new);
        let stats = Arc::clone(shared.inboxes[usize::from(shard)].stats());
        Self {
            shared,
            stats,
            shard,
            topics: Topics::new(shard, shares_bit, places, presence),
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
        // The connection also receives what was published before.
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

    /// Ends all subscriptions of a connection, and drops its waiting messages.
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

    /// Publishes a message to the subscribers on all shards.
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

    /// Takes the chain of a connection. The caller calls [`release`](Self::release),
    /// [`postpone`](Self::postpone) or [`suspend`](Self::suspend) with it.
    pub(crate) fn take_chain(&mut self, slot: u32) -> u32 {
        self.members
            .get_mut(slot as usize)
            .map_or(NONE, |member| std::mem::take(&mut member.chain))
    }

    /// The segments of a connection's chain that are not delivered yet.
    pub(crate) fn segments(&self, slot: u32, chain: u32) -> Vec<ChainSegment> {
        let after = match self.parts.is_empty() {
            true => NONE,
            false => self.parts.get(&slot).copied().unwrap_or(NONE),
        };
        self.chains.segments(chain, after)
    }

    /// Releases a chain that was delivered to a connection, or is dropped.
    pub(crate) fn release(&mut self, slot: u32, chain: u32) {
        if !self.parts.is_empty() {
            self.parts.remove(&slot);
        }
        self.chains.release(chain);
    }

    /// Puts back a chain that was delivered up to the link `after`. The rest is delivered in another turn.
    pub(crate) fn postpone(&mut self, slot: u32, chain: u32, after: u32) {
        if after != NONE {
            self.parts.insert(slot, after);
        }
        self.members[slot as usize].chain = chain;
        self.waiting.push_back(slot);
    }

    /// Puts back a chain that was delivered up to the link `after`. The rest is delivered when the send queue
    /// is [empty](Self::resume), or at `again`.
    pub(crate) fn suspend(&mut self, slot: u32, chain: u32, after: u32, again: Time) {
        if after != NONE {
            self.parts.insert(slot, after);
        }
        self.members[slot as usize].chain = chain;
        self.suspended.push_back((again, slot));
    }

    /// Resumes a connection with an empty send queue.
    pub(crate) fn resume(&mut self, slot: u32) {
        let member = self.members.get(slot as usize);
        if member.is_some_and(|member| member.chain != NONE) {
            self.waiting.push_back(slot);
        }
    }

    /// Resumes the subscribers whose time has come. Returns the time of the next retry.
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

    /// Number of connections with subscriptions.
    pub(crate) fn subscribers(&self) -> usize {
        self.subscribers
    }

    /// Takes the next connection that may have a chain. Every second one is a subscriber of a small topic.
    pub(crate) fn next_waiting(&mut self) -> Option<u32> {
        self.serves_small_topics = !self.serves_small_topics;
        let (first, second) = match self.serves_small_topics {
            true => (&mut self.waiting_small, &mut self.waiting),
            false => (&mut self.waiting, &mut self.waiting_small),
        };
        let next = first.pop_front().or_else(|| second.pop_front());
        if let Some(slot) = next {
            // So that all waiting messages leave in one send.
            self.catch_up_within(slot, CATCH_UP_SUBSCRIPTIONS_MAX);
        }
        next
    }

    /// Returns whether messages wait for a subscriber, are pending, or are deferred.
    pub(crate) fn is_behind(&self) -> bool {
        !self.waiting.is_empty()
            || !self.waiting_small.is_empty()
            || self.topics.pending() > 0
            || !self.deferred.is_empty()
            || self.presence_reports() > 0
    }

    /// Number of topics whose presence has changed, and is to be reported.
    pub(crate) fn presence_reports(&self) -> usize {
        self.topics.presence().map_or(0, ShardPresence::queued)
    }

    /// Takes the next change of a topic that is to be reported. Subtracts the changes that it has looked at from
    /// `topics_max`. The caller calls the application, and then [`end_report`](Self::end_report).
    pub(crate) fn next_report(&mut self, topics_max: &mut usize) -> Option<PresenceReport> {
        self.topics.presence_mut()?.next_report(topics_max)
    }

    /// Notes that the application was called.
    pub(crate) fn end_report(&mut self, report: PresenceReport) {
        if let Some(presence) = self.topics.presence_mut() {
            presence.end_report(report);
        }
    }

    /// Takes the jobs of the inbox. A job counts in the budget until [`note_read`](Self::note_read).
    pub(crate) fn take_jobs(&self, read: impl FnMut(Job)) {
        self.inbox().take(read);
    }

    /// Removes a job from the budget, because it is executed now.
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

    /// Returns whether messages are deferred, or would be.
    pub(crate) fn is_deferring(&self) -> bool {
        self.is_full() || !self.deferred.is_empty()
    }

    /// Counts the end of a burst, and wakes all shards, so that they return memory to the system.
    pub(crate) fn end_burst(&self) {
        self.shared.bursts.fetch_add(1, Ordering::Relaxed);
        self.shared.inboxes.iter().for_each(Inbox::wake);
    }

    /// The waker of a shard.
    pub(crate) fn waker(&self, shard: u32) -> Option<&Waker> {
        self.shared.inboxes.get(shard as usize)?.waker()
    }

    /// Takes the shards that have to be woken.
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
