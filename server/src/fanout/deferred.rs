//! Messages from other threads that wait until earlier messages are delivered.

use std::{
    collections::{HashMap, VecDeque},
    sync::Arc,
};

use super::Published;

/// Deferred messages for which an empty list keeps memory, at most.
const DEFERRED_KEPT_MAX: usize = 1 << 10;

/// Messages from other threads that wait until earlier messages are delivered.
#[derive(Debug, Default)]
pub(super) struct Deferred {
    messages: VecDeque<Arc<Published>>,
    /// Number of messages for each topic, by the hash of its name.
    topics: HashMap<u64, u32>,
    bytes: usize,
}

impl Deferred {
    /// Memory in bytes of the messages.
    pub(super) fn bytes(&self) -> usize {
        self.bytes
    }

    pub(super) fn is_empty(&self) -> bool {
        self.messages.is_empty()
    }

    /// Returns whether a message for the topic of `message` is deferred.
    pub(super) fn holds_topic_of(&self, message: &Published) -> bool {
        !self.topics.is_empty() && self.topics.contains_key(&message.key)
    }

    /// Appends a message.
    pub(super) fn push(&mut self, message: Arc<Published>) {
        self.bytes += message.size();
        *self.topics.entry(message.key).or_default() += 1;
        self.messages.push_back(message);
    }

    /// Takes the oldest message.
    pub(super) fn pop(&mut self) -> Option<Arc<Published>> {
        let message = self.messages.pop_front()?;
        self.bytes -= message.size();
        if let Some(count) = self.topics.get_mut(&message.key) {
            *count -= 1;
            if *count == 0 {
                self.topics.remove(&message.key);
            }
        }
        if self.messages.is_empty() {
            self.messages.shrink_to(DEFERRED_KEPT_MAX);
            self.topics.shrink_to(DEFERRED_KEPT_MAX);
        }
        Some(message)
    }
}
