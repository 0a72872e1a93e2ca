//! Pending messages: messages that are not delivered to all subscribers of a topic yet.
//!
//! A message for a large topic is delivered in slices, from the last place of the topic to the first:
//!
//! ```text
//! place  0 ················ left ··············· len
//!        not delivered yet    delivered, or subscribed later
//! ```
//!
//! A new subscriber is added at the end, and does not receive the message. A subscriber that leaves, or gets
//! the message early, is first swapped with the last place before `left`, and `left` is decremented. So all
//! others stay on their side.
//!
//! Messages are delivered in the order of their numbers. Each message begins at the end of the topic, so the
//! older message has the lower `left`: a subscriber without the older message does not have the newer one.

use super::{Destination, NIL, Node, Subscriber, Subscriptions, TopicEntry, Topics};

/// A pending message of a topic.
#[derive(Clone, Copy, Debug)]
pub(super) struct Pending {
    /// The number of the message.
    message: u32,
    pub(super) topic: u32,
    /// Number of subscribers that do not have the message yet: those in the first places.
    left: u32,
}

/// Pending messages, and some of the subscribers to which they are delivered now.
#[derive(Debug)]
pub(in super::super) struct Slice<'t> {
    pub(in super::super) messages: Vec<u32>,
    pub(in super::super) subscribers: &'t [Subscriber],
    /// Whether these are the last subscribers of the topic or pattern.
    pub(in super::super) is_last: bool,
}

impl Topics {
    /// Makes a message pending for each topic and pattern that matches `topic` and has more than `small_max`
    /// subscribers. Calls `found` with the subscribers of each other one. Returns the number of topics and
    /// patterns for which the message is pending.
    pub(in super::super) fn add_pending(
        &mut self,
        message: u32,
        topic: Destination<'_>,
        small_max: usize,
        mut found: impl FnMut(&[Subscriber]),
    ) -> u32 {
        let mut many = Vec::new();
        self.matching(topic, |topic, subscribers| {
            if subscribers.len() <= small_max {
                found(subscribers);
            } else {
                many.push(topic);
            }
        });
        let count = many.len() as u32;
        for topic in many {
            let TopicEntry {
                subscribers,
                pending,
                ..
            } = &mut self.topics[topic as usize];
            *pending += 1;
            self.pending.push_back(Pending {
                message,
                topic,
                left: subscribers.len() as u32,
            });
        }
        count
    }

    /// Returns whether a topic or pattern that matches `topic` has more than `small_max` subscribers.
    pub(in super::super) fn has_many(&self, topic: Destination<'_>, small_max: usize) -> bool {
        let mut has_many = false;
        self.matching(topic, |_, subscribers| {
            has_many |= subscribers.len() > small_max;
        });
        has_many
    }

    /// Number of pending messages, each counted once for each topic or pattern.
    pub(in super::super) fn pending(&self) -> usize {
        self.pending.len()
    }

    /// Number of subscribers of the topic or pattern with the oldest pending message.
    pub(in super::super) fn first_pending(&self) -> Option<usize> {
        let topic = self.pending.front()?.topic;
        Some(self.topics[topic as usize].subscribers.len())
    }

    /// Number of deliveries of all pending messages.
    pub(in super::super) fn pending_deliveries(&self) -> usize {
        self.pending
            .iter()
            .map(|pending| pending.left as usize)
            .sum()
    }

    /// Takes the oldest pending message, the messages that are pending for the same subscribers, and some of
    /// these subscribers. Returns at most `messages_max` messages and `deliveries_max` deliveries, but at least
    /// one subscriber.
    pub(in super::super) fn deliver_pending(
        &mut self,
        messages_max: usize,
        deliveries_max: usize,
    ) -> Option<Slice<'_>> {
        let Pending { topic, left, .. } = *self.pending.front()?;
        let is_same = |pending: &&Pending| pending.topic == topic && pending.left == left;
        let same = self.pending.iter().take_while(is_same);
        let count = same.take(messages_max).count();
        let mut messages = Vec::with_capacity(count);
        let begin = (left as usize).saturating_sub((deliveries_max / count).max(1));
        for pending in self.pending.range_mut(..count) {
            messages.push(pending.message);
            pending.left = begin as u32;
        }
        let topic = &mut self.topics[topic as usize];
        if begin == 0 {
            topic.pending -= count as u32;
            self.pending.drain(..count);
        }
        Some(Slice {
            messages,
            subscribers: &topic.subscribers[begin..left as usize],
            is_last: begin == 0,
        })
    }

    /// Calls `give` with the number of each message that is pending for a connection, the oldest first. Does
    /// nothing if the connection has more than `subscriptions_max` subscriptions.
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
            let Node { topic, next, .. } = self.nodes[node];
            if self.topics[topic as usize].pending > 0 {
                found.push(node);
            }
            node = next;
        }
        if found.is_empty() {
            return;
        }
        for at in 0..self.pending.len() {
            for &node in &found {
                if self.settle(at, node) {
                    give(self.pending[at].message);
                }
            }
        }
    }

    /// Removes a subscription from all pending messages.
    pub(super) fn settle_all(&mut self, node: u32) {
        for at in 0..self.pending.len() {
            self.settle(at, node);
        }
    }

    /// Drops the pending messages of a topic that has lost its last subscriber.
    pub(super) fn drop_pending(&mut self, topic: u32) {
        let orphaned = &mut self.orphaned;
        self.pending.retain(|pending| {
            if pending.topic == topic {
                orphaned.push(pending.message);
            }
            pending.topic != topic
        });
    }

    /// Takes the numbers of the pending messages of topics that have lost their last subscriber.
    pub(in super::super) fn take_orphaned(&mut self) -> Vec<u32> {
        std::mem::take(&mut self.orphaned)
    }

    /// Counts a message as delivered to a subscription. Returns whether it was pending.
    fn settle(&mut self, at: usize, node: u32) -> bool {
        let (pending, Node { topic, place, .. }) = (&mut self.pending[at], self.nodes[node]);
        if topic != pending.topic || place >= pending.left {
            return false;
        }
        pending.left -= 1;
        let subscribers = &mut self.topics[topic as usize].subscribers;
        subscribers.swap(place as usize, pending.left as usize);
        self.nodes[node].place = pending.left;
        let other = subscribers[place as usize].node;
        if other != node {
            self.nodes[other].place = place;
        }
        true
    }
}
