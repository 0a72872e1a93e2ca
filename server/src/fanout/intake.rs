//! From the shard's mail and its publishers to behind what waits for each subscriber.
//!
//! Few get a message at once. More get it at the end of the turn, and very many in slices, of so many
//! deliveries in each turn: until then it is owed to them ([`Topics`](super::Topics)). Who is to have
//! something else first catches up.

use std::sync::Arc;

use super::{Fanout, NONE, Published};

/// What is published to so few does not wait for what is published to more.
const FEW: usize = 64;

/// When more messages are owed to subscribers, the oldest is given to all of them at once.
pub(super) const OWED_MAX: usize = 64;

impl Fanout {
    /// Puts a message behind what waits for each of its subscribers: if these are very many, in the
    /// turns to come. Says how many few have got it at once.
    pub(crate) fn take_in(&mut self, message: &Arc<Published>) -> u64 {
        let is_owing = self.topics.owed() > 0;
        let number = self.chains.begin(Arc::clone(message), is_owing);
        let (topic, except) = ((message.topic(), message.key), message.except(self.shard));
        let mut few = std::mem::take(&mut self.few);
        self.topics.owe(number, topic, FEW, |subscribers| {
            let slots = subscribers.iter().map(|subscriber| subscriber.slot);
            few.extend(slots.filter(|slot| Some(*slot) != except));
        });
        let deliveries = few.len() as u64;
        for slot in few.drain(..) {
            self.press(slot, number);
        }
        self.few = few;
        self.stats.deliveries.add(deliveries);
        while self.topics.owed() > OWED_MAX {
            self.pay(1, usize::MAX);
        }
        if self.topics.debt() <= self.allowance {
            self.go_on();
        }
        deliveries
    }

    /// Puts a message that is for few behind what waits for one of them.
    fn press(&mut self, slot: u32, message: u32) {
        let waits_already = self.members[slot as usize].chain != NONE;
        // If it waits already, that may be behind very many others.
        if !(waits_already && self.waiting.is_empty()) {
            self.pressing.push_back(slot);
        }
        self.catch_up(slot);
        let chain = &mut self.members[slot as usize].chain;
        *chain = self.chains.successor(*chain, message);
    }

    /// Puts what a connection is owed behind what waits for it, before its turn: what comes next is
    /// to be behind that.
    pub(crate) fn catch_up(&mut self, slot: u32) {
        self.catch_up_if_quick(slot, usize::MAX);
    }

    /// The same, unless it has more than so many subscriptions to look at.
    pub(super) fn catch_up_if_quick(&mut self, slot: u32, subscriptions_max: usize) {
        if self.topics.owed() == 0 {
            return;
        }
        let Some(member) = self.members.get_mut(slot as usize) else {
            return;
        };
        let (chains, mut deliveries) = (&mut self.chains, 0);
        let list = member.subscriptions;
        self.topics.catch_up(list, subscriptions_max, |message| {
            if chains.message(message).except(self.shard) != Some(slot) {
                member.chain = chains.successor(member.chain, message);
                deliveries += 1;
            }
        });
        self.stats.deliveries.add(deliveries);
    }

    /// Gives what is owed, the oldest first, as far as that is for this turn.
    fn go_on(&mut self) {
        while self.allowance > 0 && self.topics.owed() > 0 {
            let deliveries = self.pay(usize::MAX, self.allowance);
            self.allowance = self.allowance.saturating_sub(deliveries);
        }
    }

    /// Puts the oldest message that is owed behind what waits for some of those it is owed to; and
    /// others with it that are owed to the same ones, while the cache has these. Says how many
    /// deliveries that was.
    fn pay(&mut self, messages_max: usize, deliveries_max: usize) -> usize {
        let Self {
            topics,
            members,
            chains,
            waiting,
            ..
        } = self;
        let Some((messages, subscribers)) = topics.pay(messages_max, deliveries_max) else {
            return 0;
        };
        let mut deliveries = 0;
        for &message in &messages {
            let except = chains.message(message).except(self.shard);
            for subscriber in subscribers {
                if Some(subscriber.slot) == except {
                    continue;
                }
                let chain = &mut members[subscriber.slot as usize].chain;
                if *chain == NONE {
                    waiting.push_back(subscriber.slot);
                }
                *chain = chains.successor(*chain, message);
                deliveries += 1;
            }
        }
        self.stats.deliveries.add(deliveries);
        messages.len() * subscribers.len()
    }

    /// Does what is left of this turn's deliveries; those that follow are the next one's.
    pub(crate) fn end_turn(&mut self) {
        self.go_on();
        self.allowance = self.deliveries_per_turn;
    }
}

#[cfg(test)]
mod tests {
    use std::{collections::HashSet, sync::Arc};

    use proptest::{collection::vec, prelude::*};

    use super::*;
    use crate::{
        Config, ConnectionId, Outgoing,
        fanout::{Fabric, Fanout, QUICK},
        stats::Stats,
    };

    const SLOTS: u32 = 100;
    const DELIVERIES_PER_TURN: usize = 10;

    /// A shard's part, and what each slot has been sent.
    struct Bench {
        fanout: Fanout,
        sent: Vec<Vec<String>>,
    }

    impl Bench {
        fn new() -> Self {
            let fabric = Arc::new(Fabric::new(&Config::default()));
            let places = SLOTS as usize;
            let stats = Arc::<Stats>::default();
            Self {
                fanout: Fanout::new(fabric, 0, stats, places, DELIVERIES_PER_TURN),
                sent: vec![Vec::new(); places],
            }
        }

        /// With a subscription of all to `all`.
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
            let message = Outgoing::Text(text);
            let message = self.fanout.fabric.message(topic, &message, except);
            self.fanout.publish(&message.expect("a topic"));
        }

        fn publish(&mut self, topic: &str, text: &str) {
            self.publish_except(topic, text, None);
        }

        fn send_chain(&mut self, slot: u32) {
            let chain = self.fanout.take_chain(slot);
            for message in self.fanout.chains.messages(chain) {
                let text = std::str::from_utf8(message.payload()).expect("text");
                self.sent[slot as usize].push(text.to_owned());
            }
        }

        /// What a handler sends comes behind what was published.
        fn send(&mut self, slot: u32, text: &str) {
            self.fanout.catch_up(slot);
            self.send_chain(slot);
            self.sent[slot as usize].push(text.to_owned());
        }

        /// Ends a turn, in which `served` connections get what waits for them.
        fn end_turn(&mut self, served: usize) {
            self.fanout.end_turn();
            for _ in 0..served {
                match self.fanout.next_waiting() {
                    Some(slot) => self.send_chain(slot),
                    None => return,
                }
            }
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
    fn a_turn_gives_very_many_a_slice_whatever_is_published() {
        let mut bench = Bench::with_subscribers();
        for text in ["first", "second", "third"] {
            bench.publish("all", text);
        }
        while bench.fanout.topics.owed() > 0 {
            let before = bench.deliveries();
            bench.end_turn(0);
            let deliveries = bench.deliveries() - before;
            // To the last of a turn, all three.
            assert!(deliveries <= DELIVERIES_PER_TURN as u64 + 2, "{deliveries}");
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
    fn what_is_sent_or_for_few_comes_behind_what_is_owed_and_at_once() {
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
            "nothing twice"
        );
        assert_eq!(bench.deliveries(), 2 * u64::from(SLOTS) - 1 + 2);
    }

    #[test]
    fn the_same_messages_are_one_chain_for_all_who_get_them_sooner_or_later() {
        let mut bench = Bench::with_subscribers();
        bench.publish("all", "first");
        bench.publish("all", "second");
        bench.fanout.catch_up(2);
        while bench.fanout.topics.owed() > 0 {
            bench.fanout.end_turn();
        }
        let chains = bench.fanout.members.iter().map(|member| member.chain);
        assert_eq!(chains.collect::<HashSet<_>>().len(), 1);
    }

    #[test]
    fn too_much_that_is_owed_is_given_on_the_spot_and_mail_waits_before() {
        let mut bench = Bench::with_subscribers();
        for number in 0..OWED_MAX / 2 {
            assert!(!bench.fanout.is_full(), "{number} are owed");
            bench.publish("all", &number.to_string());
        }
        assert!(bench.fanout.is_full());
        for number in OWED_MAX / 2..3 * OWED_MAX {
            let before = bench.deliveries();
            bench.publish("all", &number.to_string());
            assert!(bench.fanout.topics.owed() <= OWED_MAX);
            assert!(
                bench.deliveries() - before <= u64::from(SLOTS),
                "one of them"
            );
        }
        bench.finish();
        let all: Vec<String> = (0..3 * OWED_MAX).map(|number| number.to_string()).collect();
        assert!(bench.sent.iter().all(|sent| *sent == all));
        assert!(!bench.fanout.is_full());
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
    fn who_unsubscribes_gets_what_was_published_before() {
        let mut bench = Bench::with_subscribers();
        bench.publish("all", "before");
        assert_eq!(bench.fanout.members[0].chain, NONE, "it is owed");
        assert_eq!(bench.fanout.unsubscribe(0, "all"), Ok(true));
        bench.publish("all", "after");
        bench.send_chain(0);
        assert_eq!(bench.sent[0], ["before"]);
    }

    proptest! {
        /// As if each message were given to all its subscribers when it is published.
        #[test]
        fn everybody_gets_in_order_what_was_published_while_it_had_subscribed(
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
            // Too many to look at when it is their turn.
            for slot in (0..SLOTS).step_by(3) {
                for number in 0..QUICK {
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
                        // Who had the slot gets no more.
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
            prop_assert_eq!(bench.fanout.chains.extent(NONE).count, 0);
        }
    }
}
