//! A table of the shards that have subscribers for a topic.

use std::sync::atomic::{AtomicU64, Ordering};

/// Number of buckets of topics; a power of two.
const BUCKETS: usize = 1 << 14;

/// For each bucket of topics, one bit for each shard with a subscriber in the bucket. Of more than 64 shards,
/// some share a bit. A set bit is a hint: the shard may have no subscriber for a topic. A clear bit is exact.
#[derive(Debug)]
pub(crate) struct Interest {
    topics: Box<[AtomicU64]>,
    /// One bit for each shard with a subscriber of a pattern.
    patterns: AtomicU64,
}

/// The number of topics of one shard in each bucket.
#[derive(Debug)]
pub(super) struct Counts {
    /// Empty until the first subscription.
    topics: Vec<u32>,
    patterns: u32,
    bit: u64,
}

impl Interest {
    pub(crate) fn new() -> Self {
        Self {
            topics: (0..BUCKETS).map(|_| AtomicU64::new(0)).collect(),
            patterns: AtomicU64::new(0),
        }
    }

    /// The shards that may have subscribers for a topic, one bit for each.
    pub(crate) fn shards(&self, key: u64) -> u64 {
        // Sequentially consistent, as are the changes: a publisher that knows of a subscription finds its bit
        // set.
        self.topics[bucket(key)].load(Ordering::SeqCst) | self.patterns.load(Ordering::SeqCst)
    }
}

/// The bit of a shard.
pub(crate) fn bit(shard: u16) -> u64 {
    1 << (shard % 64)
}

fn bucket(key: u64) -> usize {
    key as usize % BUCKETS
}

impl Counts {
    pub(super) fn new(shard: u16) -> Self {
        Self {
            topics: Vec::new(),
            patterns: 0,
            bit: bit(shard),
        }
    }

    /// Counts a topic that has its first subscriber on the shard.
    pub(super) fn add_topic(&mut self, interest: &Interest, key: u64) {
        if self.topics.is_empty() {
            self.topics = vec![0; BUCKETS];
        }
        let count = &mut self.topics[bucket(key)];
        *count += 1;
        if *count == 1 {
            interest.topics[bucket(key)].fetch_or(self.bit, Ordering::SeqCst);
        }
    }

    /// Removes a topic that has lost its last subscriber on the shard. A shared bit stays set.
    pub(super) fn remove_topic(&mut self, interest: &Interest, key: u64, shares_bit: bool) {
        let count = &mut self.topics[bucket(key)];
        *count -= 1;
        if *count == 0 && !shares_bit {
            interest.topics[bucket(key)].fetch_and(!self.bit, Ordering::SeqCst);
        }
    }

    /// Counts a pattern that has its first subscriber on the shard.
    pub(super) fn add_pattern(&mut self, interest: &Interest) {
        self.patterns += 1;
        if self.patterns == 1 {
            interest.patterns.fetch_or(self.bit, Ordering::SeqCst);
        }
    }

    pub(super) fn remove_pattern(&mut self, interest: &Interest, shares_bit: bool) {
        self.patterns -= 1;
        if self.patterns == 0 && !shares_bit {
            interest.patterns.fetch_and(!self.bit, Ordering::SeqCst);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_bit_of_a_shard_is_set_while_it_has_a_topic_in_the_bucket() {
        let interest = Interest::new();
        let mut counts = [Counts::new(0), Counts::new(3)];
        let (key, neighbour) = (7, 7 + BUCKETS as u64);
        counts[0].add_topic(&interest, key);
        counts[1].add_topic(&interest, key);
        counts[1].add_topic(&interest, neighbour);
        assert_eq!(interest.shards(key), 0b1001);
        counts[0].remove_topic(&interest, key, false);
        counts[1].remove_topic(&interest, key, false);
        assert_eq!(
            interest.shards(key),
            0b1000,
            "another topic is in the bucket"
        );
        counts[1].remove_topic(&interest, neighbour, false);
        assert_eq!(interest.shards(key), 0);
        counts[0].add_pattern(&interest);
        assert_eq!(interest.shards(key), 1, "a pattern may match any topic");
        counts[0].remove_pattern(&interest, false);
        assert_eq!(interest.shards(1), 0);
    }
}
