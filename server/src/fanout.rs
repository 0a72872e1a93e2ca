//! Fan-out: from a publisher on any thread to the subscribers on every shard.
//!
//! A message is encoded once, and handed by reference to each shard that may have subscribers
//! ([`Interest`]), through its [`Mailbox`]. There it is put behind what waits for each subscriber
//! ([`Chains`]), which costs no more than a store; and in slices, so that nobody else is held up,
//! what waits for a subscriber leaves in one send.

mod chains;
mod intake;
mod interest;
#[allow(unsafe_code)]
mod mailbox;
mod patterns;
mod published;
mod sync {
    pub(super) use std::sync::atomic;
}
mod topic;
mod topics;

use std::{
    collections::VecDeque,
    hash::RandomState,
    sync::{Arc, OnceLock, atomic::AtomicU64},
};

use bytes::Bytes;
use tidewheel_codec::CloseCode;

pub use self::topic::TopicError;
pub(crate) use self::{
    chains::{Chains, NONE},
    published::Published,
};
use self::{
    interest::Interest,
    mailbox::Mailbox,
    topics::{Subscriptions, Topics},
};
use crate::{
    Config, ConnectionId, Outgoing, SlowConsumer, config::TopicRule, ring::Bell, shard::Command,
    stats::Stats,
};

/// So many subscriptions of a connection are looked at when it is its turn.
const QUICK: usize = 16;

/// What a shard is asked for by other threads.
#[derive(Debug)]
pub(crate) enum Mail {
    Command(Command),
    Publish(Arc<Published>),
    Send {
        to: ConnectionId,
        is_text: bool,
        payload: Bytes,
    },
    Close {
        whom: ConnectionId,
        code: CloseCode,
        reason: Box<str>,
    },
}

/// What the shards of a server have in common.
#[derive(Debug)]
pub(crate) struct Fabric {
    hasher: RandomState,
    interest: Interest,
    posts: Box<[Post]>,
    rules: Vec<TopicRule>,
    /// Messages that other threads have published.
    pub(crate) remote_publishes: AtomicU64,
}

/// Where a shard gets its mail.
#[derive(Debug)]
pub(crate) struct Post {
    mailbox: Mailbox<Mail>,
    /// Set before the shard first looks into its mailbox.
    bell: OnceLock<Bell>,
}

impl Post {
    fn new() -> Self {
        Self {
            mailbox: Mailbox::new(),
            bell: OnceLock::new(),
        }
    }

    /// Hands over, and wakes the shard if need be.
    pub(crate) fn hand(&self, mail: Mail) {
        if self.mailbox.add(mail)
            && let Some(bell) = self.bell.get()
        {
            bell.ring();
        }
    }

    /// Mail that waits, more or less.
    pub(crate) fn waiting(&self) -> usize {
        self.mailbox.len()
    }
}

impl Fabric {
    pub(crate) fn new(config: &Config) -> Self {
        let shards = config.shards.unwrap_or(1);
        Self {
            hasher: RandomState::new(),
            interest: Interest::new(),
            posts: (0..shards).map(|_| Post::new()).collect(),
            rules: config.topics.clone(),
            remote_publishes: AtomicU64::new(0),
        }
    }

    pub(crate) fn posts(&self) -> &[Post] {
        &self.posts
    }

    /// The shard says how it is woken.
    pub(crate) fn set_bell(&self, shard: u16, bell: Bell) {
        let post = &self.posts[usize::from(shard)];
        assert!(post.bell.set(bell).is_ok(), "shard {shard} exists once");
    }

    /// A message for the subscribers of a topic.
    pub(crate) fn message(
        &self,
        topic: &str,
        message: &Outgoing<'_>,
        except: Option<ConnectionId>,
    ) -> Result<Arc<Published>, TopicError> {
        Published::new(self, topic, message, except).map(Arc::new)
    }

    /// Hands a message to each shard that may have subscribers for it; `hand` does so.
    pub(crate) fn distribute(&self, message: &Arc<Published>, mut hand: impl FnMut(u16, &Post)) {
        let mut shards = self.interest.shards(message.key);
        if self.posts.len() <= 64 {
            while shards != 0 {
                let shard = shards.trailing_zeros() as u16;
                shards &= shards - 1;
                hand(shard, &self.posts[usize::from(shard)]);
            }
        } else {
            for (shard, post) in (0..).zip(&self.posts) {
                if shards & interest::bit(shard) != 0 {
                    hand(shard, post);
                }
            }
        }
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

/// Whether a pattern may be subscribed to.
pub(crate) fn check_pattern(pattern: &str) -> Result<(), TopicError> {
    topic::check_pattern(pattern)
}

/// A shard's part in the fan-out.
#[derive(Debug)]
pub(crate) struct Fanout {
    pub(crate) fabric: Arc<Fabric>,
    pub(crate) stats: Arc<Stats>,
    shard: u16,
    topics: Topics,
    /// For each slot up to the highest that has ever subscribed. Reserved for all of them with the
    /// first, and never moved; untouched, it costs nothing.
    members: Vec<Member>,
    places: usize,
    pub(crate) chains: Chains,
    /// Slots for which something waits; those that have got it meanwhile, too.
    waiting: VecDeque<u32>,
    /// The same, where it was published to few.
    pressing: VecDeque<u32>,
    /// Whether the next is one of those.
    is_pressed: bool,
    /// Few to whom a message is being given.
    few: Vec<u32>,
    /// Deliveries to very many that are left to this turn.
    allowance: usize,
    deliveries_per_turn: usize,
    /// Shards that sleep on new mail.
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
        fabric: Arc<Fabric>,
        shard: u16,
        stats: Arc<Stats>,
        places: usize,
        deliveries_per_turn: usize,
    ) -> Self {
        let shares_bit = fabric.posts.len() > 64;
        Self {
            fabric,
            stats,
            shard,
            topics: Topics::new(shard, shares_bit, places),
            members: Vec::new(),
            places,
            chains: Chains::new(),
            waiting: VecDeque::new(),
            pressing: VecDeque::new(),
            is_pressed: false,
            few: Vec::new(),
            allowance: deliveries_per_turn,
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
        let fabric = (&self.fabric.hasher, &self.fabric.interest);
        let is_new = self.topics.subscribe(slot, list, pattern, fabric);
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
        let fabric = (&self.fabric.hasher, &self.fabric.interest);
        let list = &mut member.subscriptions;
        let was_there = self.topics.unsubscribe(slot, list, pattern, fabric);
        self.stats.topics.set(self.topics.len() as u64);
        self.stats.subscriptions.subtract(u64::from(was_there));
        Ok(was_there)
    }

    /// A connection is at its end: it gets nothing more.
    pub(crate) fn forget(&mut self, slot: u32) {
        if let Some(member) = self.members.get_mut(slot as usize) {
            member.chain = NONE;
            let ended = self
                .topics
                .unsubscribe_all(&mut member.subscriptions, &self.fabric.interest);
            self.stats.topics.set(self.topics.len() as u64);
            self.stats.subscriptions.subtract(ended);
        }
    }

    /// Publishes to all shards.
    pub(crate) fn publish(&mut self, message: &Arc<Published>) {
        let (fabric, mut is_ours) = (Arc::clone(&self.fabric), false);
        fabric.distribute(message, |shard, post| {
            if shard == self.shard {
                is_ours = true;
            } else if post.mailbox.add(Mail::Publish(Arc::clone(message))) {
                self.to_wake.push(shard);
            }
        });
        self.stats.publishes.add(1);
        if is_ours {
            self.take_in(message);
        }
    }

    /// Takes what waits for a connection.
    pub(crate) fn take_chain(&mut self, slot: u32) -> u32 {
        self.members
            .get_mut(slot as usize)
            .map_or(NONE, |member| std::mem::take(&mut member.chain))
    }

    /// The next connection for which something may wait; when there is none, and nothing is owed, all
    /// chains are forgotten. Every other one is from those that got what was published to few.
    pub(crate) fn next_waiting(&mut self) -> Option<u32> {
        self.is_pressed = !self.is_pressed;
        let (first, second) = match self.is_pressed {
            true => (&mut self.pressing, &mut self.waiting),
            false => (&mut self.waiting, &mut self.pressing),
        };
        let next = first.pop_front().or_else(|| second.pop_front());
        if next.is_none() && self.topics.owed() == 0 {
            self.chains.clear();
        }
        if let Some(slot) = next {
            // So that all of it leaves in one send.
            self.catch_up_if_quick(slot, QUICK);
        }
        next
    }

    /// Whether there are connections for which something may wait, or that are owed something.
    pub(crate) fn is_behind(&self) -> bool {
        !self.waiting.is_empty() || !self.pressing.is_empty() || self.topics.owed() > 0
    }

    /// Whether mail with messages is better left where it is. It leaves room for what handlers
    /// publish.
    pub(crate) fn is_full(&self) -> bool {
        self.chains.is_full() || self.topics.owed() >= intake::OWED_MAX / 2
    }

    /// Takes the mail that has come.
    pub(crate) fn mail(&self, read: impl FnMut(Mail)) {
        self.fabric.posts[usize::from(self.shard)]
            .mailbox
            .take(read);
    }

    /// How a shard is woken.
    pub(crate) fn bell(&self, shard: u32) -> Option<&Bell> {
        self.fabric.posts.get(shard as usize)?.bell.get()
    }

    /// Shards that are to be woken, since somebody asked last.
    pub(crate) fn sleepers(&mut self) -> impl Iterator<Item = (u16, Bell)> {
        let fabric = Arc::clone(&self.fabric);
        std::mem::take(&mut self.to_wake)
            .into_iter()
            .filter_map(move |shard| {
                let bell = fabric.posts[usize::from(shard)].bell.get()?;
                Some((shard, bell.clone()))
            })
    }
}
