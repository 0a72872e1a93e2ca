//! The subscriptions of a shard.

mod nodes;
mod pending;

use std::{
    collections::VecDeque,
    hash::{BuildHasher, RandomState},
};

use hashbrown::HashTable;
use slab::Slab;

pub(super) use self::{nodes::Subscriptions, pending::Slice};
use self::{
    nodes::{NIL, Node, Nodes, reserve_one},
    pending::Pending,
};
use super::{
    interest::{Counts, Interest},
    patterns::Patterns,
    presence::ShardPresence,
    topic::{Place, is_wild},
};

/// The topics and patterns to which connections of a shard have subscribed.
///
/// A subscription takes an entry in its topic (8 bytes) and a node in a list of its connection (12 bytes). Each
/// has the index of the other, so a connection leaves a topic of a million subscribers in constant time. A
/// topic without subscribers is removed.
#[derive(Debug)]
pub(super) struct Topics {
    /// Topics and patterns by the hash of their names.
    by_name: HashTable<u32>,
    topics: Slab<TopicEntry>,
    nodes: Nodes,
    patterns: Patterns,
    /// Pending messages, the oldest first.
    pending: VecDeque<Pending>,
    /// Pending messages of topics that have lost their last subscriber, once for each topic or pattern.
    orphaned: Vec<u32>,
    counts: Counts,
    /// `None` if presence is off.
    presence: Option<ShardPresence>,
    /// The generation of the last topic.
    generation: u32,
    /// Whether another shard has the same bit in the table of interests.
    shares_bit: bool,
}

/// A topic or pattern with subscribers.
#[derive(Debug)]
struct TopicEntry {
    name: Box<str>,
    key: u64,
    /// Distinguishes the topics that have had the same number.
    generation: u32,
    subscribers: Vec<Subscriber>,
    /// Number of pending messages of this topic.
    pending: u32,
}

/// The topic of a message.
#[derive(Clone, Copy, Debug)]
pub(super) struct Destination<'m> {
    pub(super) name: &'m str,
    /// The hash of the name.
    pub(super) key: u64,
    /// The place where a handle found the topic before.
    pub(super) place: Option<&'m Place>,
}

/// The entry of a subscription in its topic.
#[derive(Clone, Copy, Debug)]
pub(super) struct Subscriber {
    pub(super) slot: u32,
    node: u32,
}

impl Topics {
    pub(super) fn new(
        shard: u16,
        shares_bit: bool,
        places: usize,
        presence: Option<ShardPresence>,
    ) -> Self {
        Self {
            by_name: HashTable::new(),
            topics: Slab::new(),
            nodes: Nodes::new(places),
            patterns: Patterns::default(),
            pending: VecDeque::new(),
            orphaned: Vec::new(),
            counts: Counts::new(shard),
            presence,
            generation: 0,
            shares_bit,
        }
    }

    /// Subscribes a connection. Returns whether the subscription is new.
    pub(super) fn subscribe(
        &mut self,
        slot: u32,
        list: &mut Subscriptions,
        pattern: &str,
        (hasher, interest): (&RandomState, &Interest),
    ) -> bool {
        let key = hasher.hash_one(pattern);
        let topic = match self.find(pattern, key) {
            Some(topic) if self.node_of(*list, topic, slot).is_some() => return false,
            Some(topic) => topic,
            None => self.add_topic(pattern, key, interest),
        };
        let subscribers = &mut self.topics[topic as usize].subscribers;
        let place = subscribers.len() as u32;
        let next = std::mem::replace(&mut list.first, NIL);
        list.first = self.nodes.add(Node { topic, place, next });
        reserve_one(subscribers);
        subscribers.push(Subscriber {
            slot,
            node: list.first,
        });
        if let Some(presence) = &mut self.presence {
            presence.add(topic, pattern, key);
        }
        true
    }

    /// Ends a subscription. Returns whether it existed.
    pub(super) fn unsubscribe(
        &mut self,
        slot: u32,
        list: &mut Subscriptions,
        pattern: &str,
        (hasher, interest): (&RandomState, &Interest),
    ) -> bool {
        let Some(node) = self
            .find(pattern, hasher.hash_one(pattern))
            .and_then(|topic| self.node_of(*list, topic, slot))
        else {
            return false;
        };
        // Removes the node from the connection's list, which is singly linked.
        let next = self.nodes[node].next;
        if list.first == node {
            list.first = next;
        } else {
            let mut before = list.first;
            while self.nodes[before].next != node {
                before = self.nodes[before].next;
            }
            self.nodes[before].next = next;
        }
        self.remove_node(node, interest);
        true
    }

    /// Ends all subscriptions of a connection. Returns their number.
    pub(super) fn unsubscribe_all(&mut self, list: &mut Subscriptions, interest: &Interest) -> u64 {
        let mut ended = 0;
        while list.first != NIL {
            ended += 1;
            let node = list.first;
            list.first = self.nodes[node].next;
            self.remove_node(node, interest);
        }
        ended
    }

    /// Calls `found` with each topic and pattern that matches `topic`, and its subscribers.
    fn matching(&self, topic: Destination<'_>, mut found: impl FnMut(u32, &[Subscriber])) {
        let mut found = |topic| found(topic, &self.topics[topic as usize].subscribers);
        if let Some(exact) = self.locate(topic) {
            found(exact);
        }
        self.patterns.matching(topic.name, &mut found);
    }

    /// The number of the topic of a message. A handle is searched for by its name only if the topic is not where it
    /// was before.
    fn locate(&self, topic: Destination<'_>) -> Option<u32> {
        let Destination { name, key, place } = topic;
        let Some(place) = place else {
            return self.find(name, key);
        };
        let (number, generation) = place.get();
        let entry = self.topics.get(number as usize);
        // The key is compared because generations repeat, after 2^32 topics.
        if entry.is_some_and(|it| it.generation == generation && it.key == key) {
            return Some(number);
        }
        let number = self.find(name, key)?;
        place.set(number, self.topics[number as usize].generation);
        Some(number)
    }

    pub(super) fn presence(&self) -> Option<&ShardPresence> {
        self.presence.as_ref()
    }

    pub(super) fn presence_mut(&mut self) -> Option<&mut ShardPresence> {
        self.presence.as_mut()
    }

    /// Number of topics and patterns with a subscriber.
    pub(super) fn len(&self) -> usize {
        self.topics.len()
    }

    fn find(&self, name: &str, key: u64) -> Option<u32> {
        let is_it = |topic: &u32| *self.topics[*topic as usize].name == *name;
        self.by_name.find(key, is_it).copied()
    }

    fn add_topic(&mut self, name: &str, key: u64, interest: &Interest) -> u32 {
        self.generation = self.generation.wrapping_add(1);
        let topic = self.topics.insert(TopicEntry {
            name: name.into(),
            key,
            generation: self.generation,
            subscribers: Vec::new(),
            pending: 0,
        }) as u32;
        let topics = &self.topics;
        self.by_name
            .insert_unique(key, topic, |topic| topics[*topic as usize].key);
        if is_wild(name) {
            self.patterns.insert(name, topic);
            self.counts.add_pattern(interest);
        } else {
            self.counts.add_topic(interest, key);
        }
        topic
    }

    /// The node of a connection for a topic. Searches the connection's list and the topic's entries in step,
    /// because one of them may be very long.
    fn node_of(&self, list: Subscriptions, topic: u32, slot: u32) -> Option<u32> {
        let mut node = list.first;
        for subscriber in &self.topics[topic as usize].subscribers {
            if node == NIL {
                return None;
            }
            if self.nodes[node].topic == topic {
                return Some(node);
            }
            if subscriber.slot == slot {
                return Some(subscriber.node);
            }
            node = self.nodes[node].next;
        }
        None
    }

    /// Removes a node, which is in no list any more, from its topic.
    fn remove_node(&mut self, node: u32, interest: &Interest) {
        self.settle_all(node);
        let Node { topic, place, .. } = self.nodes[node];
        self.nodes.free(node);
        let subscribers = &mut self.topics[topic as usize].subscribers;
        subscribers.swap_remove(place as usize);
        if let Some(presence) = &mut self.presence {
            presence.remove(topic, subscribers.len());
        }
        if let Some(moved) = subscribers.get(place as usize) {
            self.nodes[moved.node].place = place;
        }
        if subscribers.is_empty() {
            self.remove_topic(topic, interest);
        } else if subscribers.capacity() > 64 && subscribers.len() < subscribers.capacity() / 4 {
            subscribers.shrink_to(subscribers.len() * 2);
        }
    }

    fn remove_topic(&mut self, topic: u32, interest: &Interest) {
        self.drop_pending(topic);
        let TopicEntry { name, key, .. } = self.topics.remove(topic as usize);
        if let Ok(entry) = self.by_name.find_entry(key, |it| *it == topic) {
            entry.remove();
        }
        if is_wild(&name) {
            self.patterns.remove(&name);
            self.counts.remove_pattern(interest, self.shares_bit);
        } else {
            self.counts.remove_topic(interest, key, self.shares_bit);
        }
        if self.topics.is_empty() {
            // So that the memory of very many topics is freed.
            self.by_name = HashTable::new();
            self.topics = Slab::new();
            self.nodes.clear();
            if let Some(presence) = &mut self.presence {
                presence.clear_numbers();
            }
        }
    }
}

impl Drop for Topics {
    /// The subscribers of a shard that has failed do not count any more.
    fn drop(&mut self) {
        if let Some(presence) = &mut self.presence {
            for (number, topic) in &self.topics {
                presence.remove_all(number as u32, topic.subscribers.len());
            }
        }
    }
}

#[cfg(test)]
mod tests;
