//! Tests of the subscriptions of a shard.

use std::collections::{BTreeMap, BTreeSet};

use proptest::{collection::vec, prelude::*};

use std::sync::Arc;

use super::*;
use crate::{fanout::presence::Presence, topic::matches};

struct Bench {
    topics: Topics,
    lists: Vec<Subscriptions>,
    hasher: RandomState,
    interest: Interest,
}

impl Bench {
    fn new(slots: usize) -> Self {
        Self {
            topics: Topics::new(0, false, 0, None),
            lists: vec![Subscriptions::default(); slots],
            hasher: RandomState::new(),
            interest: Interest::new(),
        }
    }

    fn subscribe(&mut self, slot: u32, name: &str) -> bool {
        let list = &mut self.lists[slot as usize];
        let shared = (&self.hasher, &self.interest);
        self.topics.subscribe(slot, list, name, shared)
    }

    fn unsubscribe(&mut self, slot: u32, name: &str) -> bool {
        let list = &mut self.lists[slot as usize];
        let shared = (&self.hasher, &self.interest);
        self.topics.unsubscribe(slot, list, name, shared)
    }

    fn unsubscribe_all(&mut self, slot: u32) -> u64 {
        let list = &mut self.lists[slot as usize];
        self.topics.unsubscribe_all(list, &self.interest)
    }

    fn publish_to(&mut self, message: u32, topic: &str) {
        let key = self.hasher.hash_one(topic);
        let found = |_: &[Subscriber]| unreachable!("every topic counts as large");
        let topic = Destination {
            name: topic,
            key,
            place: None,
        };
        self.topics.add_pending(message, topic, 0, found);
    }

    fn catch_up(&mut self, slot: u32) -> Vec<u32> {
        let (list, mut messages) = (self.lists[slot as usize], Vec::new());
        let give = |message| messages.push(message);
        self.topics.catch_up(list, usize::MAX, give);
        messages
    }

    /// The slots that receive a message published to `topic`, sorted.
    fn subscribers(&self, topic: &str) -> Vec<u32> {
        let mut slots = Vec::new();
        let key = self.hasher.hash_one(topic);
        let topic = Destination {
            name: topic,
            key,
            place: None,
        };
        self.topics.matching(topic, |_, subscribers| {
            slots.extend(subscribers.iter().map(|subscriber| subscriber.slot));
        });
        if !slots.is_empty() {
            assert_eq!(self.interest.shards(key), 1, "the shard's bit is set");
        }
        slots.sort_unstable();
        slots
    }

    /// Memory in bytes of the subscriptions, without the names of topics.
    fn memory(&self) -> usize {
        let subscribers = self.topics.topics.iter();
        subscribers
            .map(|(_, topic)| topic.subscribers.capacity() * size_of::<Subscriber>())
            .sum::<usize>()
            + self.topics.nodes.memory()
    }
}

const SLOTS: u32 = 8;
const PATTERNS: [&str; 6] = ["a", "a/b", "a/*", "a/>", "*/b", ">"];
const TOPICS: [&str; 4] = ["a", "a/b", "a/c", "b/b"];

#[derive(Clone, Debug)]
enum Act {
    Subscribe(u32, &'static str),
    Unsubscribe(u32, &'static str),
    Leave(u32),
    Publish(&'static str),
    Deliver(usize),
    CatchUp(u32),
}

fn act() -> impl Strategy<Value = Act> {
    let slot = || 0..SLOTS;
    let pattern = || prop::sample::select(&PATTERNS[..]);
    prop_oneof![
        4 => (slot(), pattern()).prop_map(|(slot, name)| Act::Subscribe(slot, name)),
        3 => (slot(), pattern()).prop_map(|(slot, name)| Act::Unsubscribe(slot, name)),
        1 => slot().prop_map(Act::Leave),
        1 => prop::sample::select(&TOPICS[..]).prop_map(Act::Publish),
        2 => (1..4_usize).prop_map(Act::Deliver),
        1 => slot().prop_map(Act::CatchUp),
    ]
}

/// The slots that have subscribed to each name, and pending deliveries: message, name and slot.
#[derive(Default)]
struct Model {
    sets: BTreeMap<&'static str, BTreeSet<u32>>,
    pending: BTreeSet<(u32, &'static str, u32)>,
    messages: u32,
}

impl Model {
    fn subscribe(&mut self, slot: u32, name: &'static str) -> bool {
        self.sets.entry(name).or_default().insert(slot)
    }

    fn unsubscribe(&mut self, slot: u32, name: &'static str) -> bool {
        self.pending
            .retain(|pending| (pending.1, pending.2) != (name, slot));
        self.sets.entry(name).or_default().remove(&slot)
    }

    fn leave(&mut self, slot: u32) -> u64 {
        let ended = PATTERNS.map(|name| u64::from(self.unsubscribe(slot, name)));
        ended.iter().sum()
    }

    /// The subscriptions that match `topic`, by slot.
    fn matching(&self, topic: &str) -> Vec<(u32, &'static str)> {
        let sets = self.sets.iter();
        let mut found: Vec<_> = sets
            .filter(|(pattern, _)| matches(pattern, topic))
            .flat_map(|(pattern, slots)| slots.iter().map(|slot| (*slot, *pattern)))
            .collect();
        found.sort_unstable();
        found
    }

    fn publish(&mut self, topic: &str) -> u32 {
        self.messages += 1;
        let matching = self.matching(topic).into_iter();
        self.pending
            .extend(matching.map(|(slot, name)| (self.messages, name, slot)));
        self.messages
    }

    /// Takes the pending messages of a slot, in order.
    fn catch_up(&mut self, slot: u32) -> Vec<u32> {
        let (its, others) = self.pending.iter().partition(|pending| pending.2 == slot);
        self.pending = others;
        BTreeSet::into_iter(its)
            .map(|(message, ..)| message)
            .collect()
    }
}

/// Delivers pending messages. Checks that each delivery was pending, and was the oldest of its slot.
fn deliver_pending(bench: &mut Bench, model: &mut Model, most: usize) {
    let Some(topic) = bench.topics.pending.front().map(|pending| pending.topic) else {
        return assert!(
            model.pending.is_empty(),
            "nothing is pending: {:?}",
            model.pending
        );
    };
    let name = bench.topics.topics[topic as usize].name.clone();
    let name = PATTERNS.into_iter().find(|known| **known == *name);
    let name = name.expect("the name is in PATTERNS");
    let Slice {
        messages,
        subscribers,
        ..
    } = bench
        .topics
        .deliver_pending(2, most)
        .expect("something is pending");
    assert!(messages.len() * subscribers.len() <= most.max(messages.len()));
    for Subscriber { slot, .. } in subscribers {
        for &message in &messages {
            let delivery = (message, name, *slot);
            assert!(model.pending.remove(&delivery), "{delivery:?} was pending");
            let mut others = model.pending.iter().filter(|other| other.2 == *slot);
            assert!(
                others.all(|other| other.0 >= message),
                "the oldest is delivered first"
            );
        }
    }
}

proptest! {
    #[test]
    fn subscriptions_agree_with_a_map_of_sets(acts in vec(act(), 0..200)) {
        let mut bench = Bench::new(SLOTS as usize);
        let presence = Arc::new(Presence::new());
        bench.topics.presence = Some(ShardPresence::new(Arc::clone(&presence)));
        let mut model = Model::default();
        for act in acts {
            match act {
                Act::Subscribe(slot, name) => {
                    let is_new = model.subscribe(slot, name);
                    prop_assert_eq!(bench.subscribe(slot, name), is_new);
                }
                Act::Unsubscribe(slot, name) => {
                    let was_there = model.unsubscribe(slot, name);
                    prop_assert_eq!(bench.unsubscribe(slot, name), was_there);
                }
                Act::Leave(slot) => {
                    let ended = model.leave(slot);
                    prop_assert_eq!(bench.unsubscribe_all(slot), ended);
                }
                Act::Publish(topic) => {
                    let message = model.publish(topic);
                    bench.publish_to(message, topic);
                }
                Act::Deliver(most) => deliver_pending(&mut bench, &mut model, most),
                Act::CatchUp(slot) => {
                    let expected = model.catch_up(slot);
                    prop_assert_eq!(bench.catch_up(slot), expected);
                }
            }
            for topic in TOPICS {
                let found = model.matching(topic).into_iter();
                let expected: Vec<u32> = found.map(|(slot, _)| slot).collect();
                prop_assert_eq!(bench.subscribers(topic), expected);
            }
            for name in PATTERNS {
                let expected = model.sets.get(name).map_or(0, BTreeSet::len);
                let key = bench.hasher.hash_one(name);
                prop_assert_eq!(presence.subscribers(name, key), expected);
            }
            let held = model.sets.values().filter(|set| !set.is_empty()).count();
            prop_assert_eq!(bench.topics.len(), held, "a topic without subscribers is removed");
        }
        while bench.topics.pending() > 0 {
            deliver_pending(&mut bench, &mut model, 3);
        }
        deliver_pending(&mut bench, &mut model, 0);
    }
}

#[test]
fn a_million_subscribers_of_one_topic_take_24_bytes_each_and_leave_in_constant_time() {
    const COUNT: u32 = 1_000_000;
    let mut bench = Bench::new(COUNT as usize);
    for slot in 0..COUNT {
        assert!(bench.subscribe(slot, "all"));
    }
    assert!(bench.memory() <= 24 * COUNT as usize, "{}", bench.memory());
    // This would take hours if leaving took linear time.
    for slot in 0..COUNT {
        assert_eq!(bench.unsubscribe_all(slot), 1);
    }
    assert_eq!((bench.topics.len(), bench.memory()), (0, 0));
}

#[test]
fn the_subscribers_of_a_shard_that_fails_do_not_count() {
    let presence = Arc::new(Presence::new());
    let mut bench = Bench::new(3);
    bench.topics.presence = Some(ShardPresence::new(Arc::clone(&presence)));
    for slot in 0..3 {
        assert!(bench.subscribe(slot, "all"));
    }
    let key = bench.hasher.hash_one("all");
    assert_eq!(presence.subscribers("all", key), 3);
    drop(bench);
    assert_eq!(presence.subscribers("all", key), 0);
}

#[test]
fn the_presence_of_a_million_topics_takes_at_most_128_bytes_each_and_is_freed() {
    const COUNT: u32 = 1_000_000;
    let mut bench = Bench::new(1);
    let presence = ShardPresence::new(Arc::new(Presence::new()));
    bench.topics.presence = Some(presence);
    let memory = |bench: &Bench| bench.topics.presence().map_or(0, ShardPresence::memory);
    for number in 0..COUNT {
        assert!(bench.subscribe(0, &number.to_string()));
    }
    let bytes = memory(&bench);
    assert!(bytes <= 128 * COUNT as usize, "{bytes}");
    let report_all = |bench: &mut Bench| {
        let presence = bench.topics.presence_mut().expect("presence is on");
        while let Some(report) = presence.next_report(&mut { 1 << 10 }) {
            presence.end_report(report);
        }
    };
    report_all(&mut bench);
    assert_eq!(bench.unsubscribe_all(0), u64::from(COUNT));
    report_all(&mut bench);
    // A bucket keeps memory for a few records.
    assert!(memory(&bench) <= 1 << 20, "{}", memory(&bench));
}

#[test]
fn a_million_topics_with_one_subscriber_each_take_24_bytes_each_and_are_removed() {
    const COUNT: u32 = 1_000_000;
    let mut bench = Bench::new(1);
    for number in 0..COUNT {
        assert!(bench.subscribe(0, &number.to_string()));
    }
    assert!(bench.memory() <= 24 * COUNT as usize, "{}", bench.memory());
    assert_eq!(bench.subscribers("777777"), [0]);
    assert!(!bench.subscribe(0, "777777"), "the subscription exists");
    assert!(bench.unsubscribe(0, "999999"));
    assert_eq!(bench.unsubscribe_all(0), u64::from(COUNT) - 1);
    assert_eq!((bench.topics.len(), bench.memory()), (0, 0));
}
