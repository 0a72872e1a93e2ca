//! What has been published, and not yet given to all subscribers.
//!
//! A message for very many is given to them in slices, from the last place of a topic to the first:
//!
//! ```text
//! place  0 ················ left ··············· len
//!        have not got it yet  have it, or came later
//! ```
//!
//! Who comes later is put at the end, and owed nothing. Who leaves, or is to have the message before
//! its turn, first changes places with the last of those who have not got it, and `left` moves
//! below. So all others stay on their side.
//!
//! Messages are given in the order of their numbers. Within a topic the older has the lower `left`,
//! for each began at the end: who has not got the older has not got the newer.

use super::{NIL, Node, Subscriber, Subscriptions, Topic, Topics};

/// A message, by its number, that some subscribers of a topic have not got yet.
#[derive(Clone, Copy, Debug)]
pub(super) struct Owed {
    message: u32,
    pub(super) topic: u32,
    /// So many have not got it: those in the first places.
    left: u32,
}

/// Messages that are given to some of those they are owed to.
#[derive(Debug)]
pub(in super::super) struct Payment<'t> {
    pub(in super::super) messages: Vec<u32>,
    pub(in super::super) subscribers: &'t [Subscriber],
    /// Whether these are the last that they are owed to, of one topic or pattern.
    pub(in super::super) is_last: bool,
}

impl Topics {
    /// Owes a message to the subscribers of each topic and pattern that match `topic`. Where these
    /// are `few` at most, they are given to `found` instead. Gives the number of topics and patterns
    /// that it is owed to.
    pub(in super::super) fn owe(
        &mut self,
        message: u32,
        (topic, key): (&str, u64),
        few: usize,
        mut found: impl FnMut(&[Subscriber]),
    ) -> u32 {
        let mut many = Vec::new();
        self.matching(topic, key, |topic, subscribers| {
            if subscribers.len() <= few {
                found(subscribers);
            } else {
                many.push(topic);
            }
        });
        let count = many.len() as u32;
        for topic in many {
            let Topic {
                subscribers, owed, ..
            } = &mut self.topics[topic as usize];
            *owed += 1;
            self.owed.push_back(Owed {
                message,
                topic,
                left: subscribers.len() as u32,
            });
        }
        count
    }

    /// Whether a topic or pattern that matches `topic` has more than `few` subscribers.
    pub(in super::super) fn has_many(&self, (topic, key): (&str, u64), few: usize) -> bool {
        let mut has_many = false;
        self.matching(topic, key, |_, subscribers| {
            has_many |= subscribers.len() > few;
        });
        has_many
    }

    /// Messages that are owed, each counted for each topic or pattern.
    pub(in super::super) fn owed(&self) -> usize {
        self.owed.len()
    }

    /// How many subscribers the topic or pattern has that is owed the oldest message.
    pub(in super::super) fn first_owed(&self) -> Option<usize> {
        let topic = self.owed.front()?.topic;
        Some(self.topics[topic as usize].subscribers.len())
    }

    /// Deliveries that are owed.
    pub(in super::super) fn debt(&self) -> usize {
        self.owed.iter().map(|owed| owed.left as usize).sum()
    }

    /// The oldest message that is owed, with those that are owed to the same ones, and some of these:
    /// they are to be given them now. These are `messages_max` messages, and `deliveries_max`
    /// deliveries, at most, if not one subscriber's are more.
    pub(in super::super) fn pay(
        &mut self,
        messages_max: usize,
        deliveries_max: usize,
    ) -> Option<Payment<'_>> {
        let Owed { topic, left, .. } = *self.owed.front()?;
        let is_same = |owed: &&Owed| owed.topic == topic && owed.left == left;
        let same = self.owed.iter().take_while(is_same);
        let count = same.take(messages_max).count();
        let mut messages = Vec::with_capacity(count);
        let begin = (left as usize).saturating_sub((deliveries_max / count).max(1));
        for owed in self.owed.range_mut(..count) {
            messages.push(owed.message);
            owed.left = begin as u32;
        }
        let topic = &mut self.topics[topic as usize];
        if begin == 0 {
            topic.owed -= count as u32;
            self.owed.drain(..count);
        }
        Some(Payment {
            messages,
            subscribers: &topic.subscribers[begin..left as usize],
            is_last: begin == 0,
        })
    }

    /// Gives the number of each message that a connection has not got yet to `give`, the oldest
    /// first; none if it has more than so many subscriptions.
    pub(in super::super) fn catch_up(
        &mut self,
        list: Subscriptions,
        subscriptions_max: usize,
        mut give: impl FnMut(u32),
    ) {
        let (mut node, mut subscriptions, mut found) = (list.first, 0, Vec::new());
        while node != NIL {
            subscriptions += 1;
            if subscriptions > subscriptions_max {
                return;
            }
            let Node { topic, next, .. } = self.nodes[node as usize];
            if self.topics[topic as usize].owed > 0 {
                found.push(node);
            }
            node = next;
        }
        if found.is_empty() {
            return;
        }
        for at in 0..self.owed.len() {
            for &node in &found {
                if self.settle(at, node) {
                    give(self.owed[at].message);
                }
            }
        }
    }

    /// Owes nothing more to a subscription.
    pub(super) fn renounce(&mut self, node: u32) {
        for at in 0..self.owed.len() {
            self.settle(at, node);
        }
    }

    /// A topic has no subscribers any more.
    pub(super) fn owe_nothing(&mut self, topic: u32) {
        let unowed = &mut self.unowed;
        self.owed.retain(|owed| {
            if owed.topic == topic {
                unowed.push(owed.message);
            }
            owed.topic != topic
        });
    }

    /// Takes the numbers of messages that are owed to one topic or pattern fewer, because that has no
    /// subscribers any more.
    pub(in super::super) fn take_unowed(&mut self) -> Vec<u32> {
        std::mem::take(&mut self.unowed)
    }

    /// Counts a subscription among those that have got a message; says whether it had not.
    fn settle(&mut self, at: usize, node: u32) -> bool {
        let (owed, Node { topic, place, .. }) = (&mut self.owed[at], self.nodes[node as usize]);
        if topic != owed.topic || place >= owed.left {
            return false;
        }
        owed.left -= 1;
        let subscribers = &mut self.topics[topic as usize].subscribers;
        subscribers.swap(place as usize, owed.left as usize);
        self.nodes[node as usize].place = owed.left;
        let other = subscribers[place as usize].node;
        if other != node {
            self.nodes[other as usize].place = place;
        }
        true
    }
}
