//! Tests of the dispatch of messages.

use std::{collections::HashSet, sync::Arc};

use proptest::{collection::vec, prelude::*};

use super::*;
use crate::{
    Config, ConnectionId, Outgoing, SlowConsumer, Topic, TopicRule,
    fanout::{Address, CATCH_UP_SUBSCRIPTIONS_MAX, Fanout, SharedFanout},
    topic::TopicRef,
};

const SLOTS: u32 = 100;
const DELIVERIES_PER_TURN: usize = 10;

/// The fan-out of a shard, and the messages that each slot has received.
struct Bench {
    fanout: Fanout,
    sent: Vec<Vec<String>>,
}

impl Bench {
    fn new() -> Self {
        let config = Config::default();
        let shared = Arc::new(SharedFanout::new(&config));
        let places = SLOTS as usize;
        Self {
            fanout: Fanout::new(shared, 0, places, DELIVERIES_PER_TURN, &config),
            sent: vec![Vec::new(); places],
        }
    }

    /// Creates a bench in which all slots have subscribed to `all`.
    fn with_subscribers() -> Self {
        let mut bench = Self::new();
        for slot in 0..SLOTS {
            assert_eq!(bench.fanout.subscribe(slot, "all"), Ok(true));
        }
        bench
    }

    fn publish_except(&mut self, topic: &str, text: &str, except: Option<u32>) {
        let except = except.map(|slot| ConnectionId {
            shard: 0,
            generation: 0,
            slot,
        });
        let (address, message) = self.message(topic, text, except);
        self.fanout.publish(address, message);
    }

    fn message<'t>(
        &self,
        topic: &'t str,
        text: &str,
        except: Option<ConnectionId>,
    ) -> (Address<'t>, Arc<Published>) {
        let shared = &self.fanout.shared;
        let address = shared.address(TopicRef::Name(topic)).expect("a topic");
        let window = &shared.remote_window;
        let message = shared.message(address, &Outgoing::from(text), except, window);
        (address, message)
    }

    fn publish_through(&mut self, topic: &Topic, text: &str) {
        let shared = &self.fanout.shared;
        let address = shared.address(TopicRef::Handle(topic)).expect("a topic");
        let window = &shared.remote_window;
        let message = shared.message(address, &Outgoing::from(text), None, window);
        self.fanout.publish(address, message);
    }

    fn send_remotely(&mut self, topic: &str, text: &str) {
        let (_, message) = self.message(topic, text, None);
        self.fanout.dispatch_remote(message);
    }

    fn publish(&mut self, topic: &str, text: &str) {
        self.publish_except(topic, text, None);
    }

    fn send_chain(&mut self, slot: u32) {
        let chain = self.fanout.take_chain(slot);
        for segment in self.fanout.segments(slot, chain) {
            for message in self.fanout.chains.messages(&segment) {
                let text = std::str::from_utf8(message.payload()).expect("text");
                self.sent[slot as usize].push(text.to_owned());
            }
        }
        self.fanout.release(slot, chain);
        self.fanout.update_budget();
    }

    /// Sends a message to a slot, as a handler does.
    fn send(&mut self, slot: u32, text: &str) {
        self.fanout.catch_up(slot);
        self.send_chain(slot);
        self.sent[slot as usize].push(text.to_owned());
    }

    /// Ends a turn in which the chains of `served` connections are sent.
    fn end_turn(&mut self, served: usize) {
        self.fanout.end_turn();
        for _ in 0..served {
            match self.fanout.next_waiting() {
                Some(slot) => self.send_chain(slot),
                None => break,
            }
        }
        self.fanout.update_budget();
    }

    fn finish(&mut self) {
        while self.fanout.is_behind() {
            self.end_turn(SLOTS as usize);
        }
    }

    fn deliveries(&self) -> u64 {
        self.fanout.stats.deliveries.get()
    }
}

#[test]
fn a_turn_makes_a_limited_number_of_deliveries_however_many_messages_are_published() {
    let mut bench = Bench::with_subscribers();
    for text in ["first", "second", "third"] {
        bench.publish("all", text);
    }
    while bench.fanout.topics.pending() > 0 {
        let before = bench.deliveries();
        bench.end_turn(0);
        let deliveries = bench.deliveries() - before;
        // The last delivery of a turn may be one of all three messages.
        let deliveries_max = 4 * DELIVERIES_PER_TURN as u64;
        assert!(deliveries <= deliveries_max + 2, "{deliveries}");
    }
    bench.finish();
    assert!(
        bench
            .sent
            .iter()
            .all(|it| *it == ["first", "second", "third"])
    );
}

#[test]
fn pending_messages_come_before_a_sent_message_and_before_a_message_of_a_small_topic() {
    let mut bench = Bench::with_subscribers();
    for slot in [3, 5] {
        assert_eq!(bench.fanout.subscribe(slot, "few"), Ok(true));
    }
    bench.publish_except("all", "first", Some(5));
    bench.publish("all", "second");
    bench.send(4, "sent");
    assert_eq!(bench.sent[4], ["first", "second", "sent"]);
    bench.publish("few", "quick");
    bench.end_turn(4);
    assert_eq!(bench.sent[3], ["first", "second", "quick"]);
    assert_eq!(bench.sent[5], ["second", "quick"]);
    bench.finish();
    assert_eq!(bench.sent[6], ["first", "second"]);
    assert_eq!(
        bench.sent[4].len() + bench.sent[3].len(),
        6,
        "no message is received twice"
    );
    assert_eq!(bench.deliveries(), 2 * u64::from(SLOTS) - 1 + 2);
}

#[test]
fn subscribers_with_the_same_messages_have_the_same_chain_at_whatever_time_they_got_them() {
    let mut bench = Bench::with_subscribers();
    bench.publish("all", "first");
    bench.publish("all", "second");
    bench.fanout.catch_up(2);
    while bench.fanout.topics.pending() > 0 {
        bench.fanout.end_turn();
    }
    let chains = bench.fanout.members.iter().map(|member| member.chain);
    assert_eq!(chains.collect::<HashSet<_>>().len(), 1);
}

#[test]
fn remote_messages_are_deferred_for_large_topics_while_the_fan_out_is_full_but_not_for_small_ones()
{
    let mut bench = Bench::with_subscribers();
    assert_eq!(bench.fanout.subscribe(7, "few"), Ok(true));
    for number in 0..3 * PENDING_MESSAGES_MAX {
        bench.send_remotely("all", &number.to_string());
        assert!(bench.fanout.topics.pending() <= PENDING_MESSAGES_MAX);
    }
    assert!(bench.fanout.is_full() && !bench.fanout.deferred.is_empty());
    bench.send_remotely("few", "for few");
    bench.send_chain(7);
    assert_eq!(bench.sent[7].last().unwrap(), "for few");
    bench.finish();
    let all: Vec<String> = (0..3 * PENDING_MESSAGES_MAX)
        .map(|number| number.to_string())
        .collect();
    for (sent, slot) in bench.sent.iter().zip(0..) {
        let sent = sent.iter().filter(|text| *text != "for few");
        assert!(sent.eq(&all), "slot {slot}");
    }
    assert!(!bench.fanout.is_full());
}

#[test]
fn a_remote_message_is_dispatched_while_connections_publish_without_pause() {
    let mut bench = Bench::with_subscribers();
    for number in 0..PENDING_MESSAGES_MAX + 1 {
        bench.publish("all", &number.to_string());
    }
    bench.send_remotely("all", "remote");
    assert!(bench.fanout.is_full() && !bench.fanout.deferred.is_empty());
    bench.end_turn(0);
    assert!(bench.fanout.is_full());
    assert!(
        bench.fanout.deferred.is_empty(),
        "one remote message is in flight"
    );
}

#[test]
fn the_memory_of_a_message_counts_until_it_is_delivered_to_the_last_subscriber() {
    let mut bench = Bench::with_subscribers();
    let text = "x".repeat(1000);
    for number in 0..100_usize {
        // Some slots have a chain while others were served.
        bench.publish("all", &text);
        assert!(bench.fanout.bytes() > 1000);
        bench.end_turn(number);
    }
    bench.finish();
    assert_eq!(bench.fanout.bytes(), 0);
    assert_eq!(bench.fanout.shared.remote_window.bytes(), 0);
    bench.publish("all", &text);
    bench.end_turn(10);
    bench.publish("all", &text);
    for slot in 0..SLOTS {
        bench.fanout.forget(slot);
    }
    bench.fanout.update_budget();
    assert_eq!(
        bench.fanout.bytes(),
        0,
        "a connection that ends frees its messages"
    );
}

#[derive(Clone, Debug)]
enum Act {
    Subscribe(u32, &'static str),
    Leave(u32),
    Publish(&'static str, Option<u32>),
    Send(u32),
    EndTurn(usize),
}

fn act() -> impl Strategy<Value = Act> {
    let slot = || 0..SLOTS;
    let topic = || prop::sample::select(&["all", "some", "few"][..]);
    let pattern = prop::sample::select(&["all", "some", "few", "*", ">"][..]);
    prop_oneof![
        6 => (slot(), pattern).prop_map(|(slot, name)| Act::Subscribe(slot, name)),
        2 => slot().prop_map(Act::Leave),
        2 => (topic(), prop::option::of(slot())).prop_map(|(topic, it)| Act::Publish(topic, it)),
        3 => slot().prop_map(Act::Send),
        3 => (0..12_usize).prop_map(Act::EndTurn),
    ]
}

#[test]
fn a_handle_finds_its_topic_after_it_has_lost_all_subscribers_and_others_took_its_number() {
    let mut bench = Bench::new();
    let topic = bench.fanout.shared.topic("few").expect("a topic");
    let mut expected = Vec::new();
    for number in 0..4 {
        bench.publish_through(&topic, "to nobody");
        // The numbers of topics that have ended are used again, in another order.
        let others = ["a", "b", "c", "few"].into_iter().cycle().skip(number);
        for name in others.take(4) {
            assert_eq!(bench.fanout.subscribe(0, name), Ok(true));
        }
        for round in 0..2 {
            let text = format!("{number}, {round}");
            bench.publish_through(&topic, &text);
            expected.push(text);
        }
        bench.finish();
        bench.fanout.forget(0);
    }
    assert_eq!(bench.sent[0], expected);
}

#[test]
fn a_handle_has_the_rule_of_its_topic_and_is_a_name_on_another_server() {
    let rules = |pattern: &str, slow_consumer| {
        let pattern = pattern.to_owned();
        SharedFanout::new(&Config {
            topics: vec![TopicRule {
                pattern,
                slow_consumer,
            }],
            ..Config::default()
        })
    };
    let server = rules("a/*", SlowConsumer::DropNewest);
    let other = rules("a/b", SlowConsumer::Conflate);
    let topic = server.topic("a/b").expect("a topic");
    assert!(server.topic("a/*").is_err());
    for (server, policy) in [
        (&server, SlowConsumer::DropNewest),
        (&other, SlowConsumer::Conflate),
    ] {
        let [by_handle, by_name] = [TopicRef::Handle(&topic), TopicRef::Name("a/b")].map(|it| {
            let address = server.address(it).expect("a topic");
            let window = &server.remote_window;
            server.message(address, &Outgoing::from("hello"), None, window)
        });
        assert_eq!(by_handle.policy, Some(policy));
        assert_eq!(by_name.policy, Some(policy));
        assert_eq!(by_handle.key, by_name.key);
    }
}

#[test]
fn a_connection_that_unsubscribes_receives_what_was_published_before() {
    let mut bench = Bench::with_subscribers();
    bench.publish("all", "before");
    assert_eq!(
        bench.fanout.members[0].chain, NONE,
        "the message is pending"
    );
    assert_eq!(bench.fanout.unsubscribe(0, "all"), Ok(true));
    bench.publish("all", "after");
    bench.send_chain(0);
    assert_eq!(bench.sent[0], ["before"]);
}

proptest! {
    /// The model adds each message to all its subscribers when it is published.
    #[test]
    fn every_slot_receives_in_order_what_was_published_while_it_had_subscribed(
        acts in vec(act(), 0..300),
    ) {
        let mut bench = Bench::new();
        let mut patterns: Vec<HashSet<&str>> = vec![HashSet::new(); SLOTS as usize];
        for slot in 0..SLOTS {
            for name in if slot % 5 == 0 { &["all"][..] } else { &["all", "some"] } {
                prop_assert_eq!(bench.fanout.subscribe(slot, name), Ok(true));
                patterns[slot as usize].insert(name);
            }
        }
        // More subscriptions than are searched when a chain is sent.
        for slot in (0..SLOTS).step_by(3) {
            for number in 0..CATCH_UP_SUBSCRIPTIONS_MAX {
                let name = format!("other/{number}");
                prop_assert_eq!(bench.fanout.subscribe(slot, &name), Ok(true));
            }
        }
        let mut expected: Vec<Vec<String>> = vec![Vec::new(); SLOTS as usize];
        for (number, act) in acts.into_iter().enumerate() {
            match act {
                Act::Subscribe(slot, name) => {
                    let is_new = patterns[slot as usize].insert(name);
                    prop_assert_eq!(bench.fanout.subscribe(slot, name), Ok(is_new));
                }
                Act::Leave(slot) => {
                    // A later connection in the slot starts empty.
                    bench.fanout.forget(slot);
                    patterns[slot as usize].clear();
                    expected[slot as usize].clear();
                    bench.sent[slot as usize].clear();
                }
                Act::Publish(topic, except) => {
                    let text = number.to_string();
                    bench.publish_except(topic, &text, except);
                    for (slot, patterns) in (0..).zip(&patterns) {
                        let copies = patterns.iter().filter(|it| [topic, "*", ">"].contains(it));
                        let copies = copies.count() * usize::from(Some(slot) != except);
                        expected[slot as usize].extend(vec![text.clone(); copies]);
                    }
                }
                Act::Send(slot) => {
                    let text = number.to_string();
                    bench.send(slot, &text);
                    expected[slot as usize].push(text);
                    prop_assert_eq!(&bench.sent[slot as usize], &expected[slot as usize]);
                }
                Act::EndTurn(served) => bench.end_turn(served),
            }
        }
        bench.finish();
        prop_assert_eq!(bench.sent, expected);
        prop_assert_eq!(bench.fanout.bytes(), 0);
    }
}
