//! Adds published messages to the chains of their subscribers.
//!
//! A message of a small topic is added at once. A message of a larger topic is added to a limited
//! number of subscribers in each turn, at once if few deliveries are pending, or else at the end of the turn. Until it is added to all, it is pending
//! ([`Topics`](super::topics::Topics)). Before a subscriber gets any other message, its pending messages are
//! added.
//!
//! While many messages are pending, or a long chain exists, messages of other threads for large topics are
//! deferred, in order. Messages for small topics are not deferred, so a flood of one topic does not delay
//! another.

use std::sync::Arc;

use super::{Fanout, NONE, Published, chains::Origin, topics::Slice};

/// Subscribers of a small topic, at most.
const SMALL_TOPIC_SUBSCRIBERS_MAX: usize = 64;

/// Pending messages, and their bytes, from which messages of other threads are deferred.
const PENDING_MESSAGES_MAX: usize = 32;
const PENDING_BYTES_MAX: usize = 64 << 10;

/// Subscribers of a topic up to which the fan-out's records fit into the cache. A delivery then takes a quarter
/// of the time.
const CACHED_SUBSCRIBERS_MAX: usize = 8 << 10;

impl Fanout {
    /// Returns whether messages for large topics have to be deferred.
    pub(super) fn is_full(&self) -> bool {
        self.topics.pending() >= PENDING_MESSAGES_MAX
            || self.pending_bytes >= PENDING_BYTES_MAX
            || self.chains.is_long()
    }

    /// Dispatches a message from another thread, or defers it. Returns the number of deliveries that were made.
    pub(crate) fn dispatch_remote(&mut self, message: Arc<Published>) -> u64 {
        let waits = || {
            let topic = message.destination(self.shard);
            (self.is_full() || !self.deferred.is_empty())
                && self.topics.has_many(topic, SMALL_TOPIC_SUBSCRIBERS_MAX)
        };
        if self.deferred.holds_topic_of(&message) || waits() {
            self.deferred.push(message);
            self.update_budget();
            return 0;
        }
        self.dispatch(message, Origin::Remote)
    }

    /// Adds a message to the chains of its subscribers, of larger topics in later turns. Returns the number of
    /// deliveries that were made.
    pub(super) fn dispatch(&mut self, message: Arc<Published>, origin: Origin) -> u64 {
        let except = message.except(self.shard);
        let frame_bytes = message.frame().len();
        let number = self.chains.begin(Arc::clone(&message), origin);
        let mut few = std::mem::take(&mut self.small_topic_slots);
        let topic = message.destination(self.shard);
        let topics =
            self.topics
                .add_pending(number, topic, SMALL_TOPIC_SUBSCRIBERS_MAX, |subscribers| {
                    let slots = subscribers.iter().map(|subscriber| subscriber.slot);
                    few.extend(slots.filter(|slot| Some(*slot) != except));
                });
        self.chains.add_users(number, topics);
        self.pending_bytes += topics as usize * frame_bytes;
        let deliveries = few.len() as u64;
        for slot in few.drain(..) {
            self.enqueue_small(slot, number);
        }
        self.small_topic_slots = few;
        self.chains.finish(number);
        self.stats.deliveries.add(deliveries);
        if self.topics.pending_deliveries() <= self.allowance / 4 {
            self.go_on();
        }
        self.update_budget();
        deliveries
    }

    /// Adds a message of a small topic to the chain of a subscriber.
    fn enqueue_small(&mut self, slot: u32, message: u32) {
        let waits_already = self.members[slot as usize].chain != NONE;
        // A slot that is in the other list already may be behind very many others there.
        if !(waits_already && self.waiting.is_empty()) {
            self.waiting_small.push_back(slot);
        }
        self.catch_up(slot);
        let chain = &mut self.members[slot as usize].chain;
        *chain = self.chains.successor(*chain, message);
    }

    /// Adds the pending messages of a connection to its chain, because the next message must follow them.
    pub(crate) fn catch_up(&mut self, slot: u32) {
        self.catch_up_within(slot, usize::MAX);
    }

    /// Does the same, unless the connection has more than `subscriptions_max` subscriptions.
    pub(super) fn catch_up_within(&mut self, slot: u32, subscriptions_max: usize) {
        if self.topics.pending() == 0 {
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

    /// Delivers pending messages, the oldest first, within this turn's allowance. The allowance counts
    /// deliveries to subscribers in the cache.
    fn go_on(&mut self) {
        while self.allowance > 0
            && let Some(subscribers) = self.topics.first_pending()
        {
            let per_delivery = match subscribers {
                0..=CACHED_SUBSCRIBERS_MAX => 1,
                _ => 4,
            };
            let cost = self.deliver_pending(self.allowance / per_delivery) * per_delivery;
            self.allowance = self.allowance.saturating_sub(cost.max(1));
        }
    }

    /// Adds the oldest pending message, and the messages that are pending for the same subscribers, to the
    /// chains of some of them. Returns the number of deliveries.
    fn deliver_pending(&mut self, deliveries_max: usize) -> usize {
        let Self {
            topics,
            members,
            chains,
            waiting,
            ..
        } = self;
        let Some(Slice {
            messages,
            subscribers,
            is_last,
        }) = topics.deliver_pending(usize::MAX, deliveries_max)
        else {
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
        let made = messages.len() * subscribers.len();
        if is_last {
            self.finish(&messages);
        }
        made
    }

    /// Counts messages as delivered to the subscribers of one topic or pattern.
    fn finish(&mut self, messages: &[u32]) {
        for &message in messages {
            self.pending_bytes -= self.chains.message(message).frame().len();
            self.chains.finish(message);
        }
    }

    /// Drops pending messages of topics and patterns that have lost their last subscriber.
    pub(super) fn finish_orphaned(&mut self) {
        let orphaned = self.topics.take_orphaned();
        self.finish(&orphaned);
    }

    /// Uses up this turn's allowance, and sets that of the next turn. Dispatches deferred messages until the
    /// fan-out is full. All other threads count as one publisher, which always has one message in flight.
    pub(crate) fn end_turn(&mut self) {
        self.go_on();
        while (!self.is_full() || self.chains.remote_in_flight() == 0)
            && let Some(message) = self.deferred.pop()
        {
            self.dispatch(message, Origin::Remote);
        }
        self.allowance = 4 * self.deliveries_per_turn;
        self.publishers.end_turn();
    }

    /// Publishes the number of bytes that the fan-out holds.
    pub(crate) fn update_budget(&self) {
        let bytes = self.chains.bytes() + self.deferred.bytes();
        let is_behind = self.is_full() || !self.deferred.is_empty();
        self.inbox().budget.set_held(bytes, is_behind);
    }
}

#[cfg(test)]
mod tests;
