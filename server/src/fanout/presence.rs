//! Presence: the topics and patterns that have subscribers on any shard, their numbers of subscribers, and the calls
//! of the application when a topic gets its first subscriber or loses its last one.
//!
//! A table that all shards share has a record of each topic. A shard changes it, under the lock of a bucket, only when
//! it gains its first subscriber of a topic or loses its last one. All other subscriptions are one atomic addition to
//! a number that the shard has a reference to.
//!
//! ```text
//!              first subscriber                 call of topic_active
//!  (no record) ───────────────► queued on the ─────────────────────► calling ──► active
//!                               shard                                               │
//!                                  ▲                      last subscriber           │
//!                                  └────────────────────────────────────────────────┘
//! ```
//!
//! A topic whose change is to be reported is in the queue of one shard, which removes it only after the call has
//! returned. Changes in the meantime, on any shard, change the record only. So the calls for a topic alternate
//! and never overlap, and a change that is undone before its call cancels out.

use std::{
    collections::VecDeque,
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicUsize, Ordering},
    },
};

use hashbrown::{HashTable, hash_table::Entry};

/// Number of buckets of the table; a power of two.
const BUCKETS: usize = 1 << 8;

/// Records for which a bucket keeps memory, at most, if it has fewer.
const RECORDS_KEPT_MAX: usize = 1 << 6;

/// Queued topics from which a queue is searched for changes that were undone.
const QUEUE_CHECKED_MIN: usize = 1 << 10;

/// The topics and patterns of a server that have subscribers, or whose last change is not reported yet.
#[derive(Debug)]
pub(super) struct Presence {
    buckets: Box<[Mutex<HashTable<Record>>]>,
}

/// A topic or pattern, and its number of subscribers on all shards.
#[derive(Debug)]
pub(super) struct PresentTopic {
    name: Box<str>,
    /// The hash of the name.
    key: u64,
    subscribers: AtomicUsize,
}

/// The state of a topic in the table.
#[derive(Debug)]
struct Record {
    topic: Arc<PresentTopic>,
    /// Number of shards with a subscriber.
    shards: u32,
    /// The last call of the application for this topic.
    reported: PresenceChange,
    /// Whether the topic is in the queue of a shard, or a shard calls the application for it.
    is_queued: bool,
}

/// A change of a topic that is reported to the application.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) enum PresenceChange {
    /// The first subscriber has come.
    Active,
    /// The last subscriber has gone, or none has come yet.
    Idle,
}

impl Record {
    fn new(name: &str, key: u64) -> Self {
        Self {
            topic: Arc::new(PresentTopic {
                name: name.into(),
                key,
                subscribers: AtomicUsize::new(0),
            }),
            shards: 0,
            reported: PresenceChange::Idle,
            is_queued: false,
        }
    }

    fn current(&self) -> PresenceChange {
        match self.shards {
            0 => PresenceChange::Idle,
            _ => PresenceChange::Active,
        }
    }

    /// Notes that the topic is queued, if its last change is not reported and the topic is not queued yet. Returns
    /// whether the caller has to queue it.
    fn queue(&mut self) -> bool {
        let is_due = !self.is_queued && self.current() != self.reported;
        self.is_queued |= is_due;
        is_due
    }

    fn is_over(&self) -> bool {
        self.shards == 0 && self.reported == PresenceChange::Idle && !self.is_queued
    }
}

impl Presence {
    pub(super) fn new() -> Self {
        Self {
            buckets: (0..BUCKETS).map(|_| Mutex::default()).collect(),
        }
    }

    /// Number of subscribers of a topic or pattern.
    pub(super) fn subscribers(&self, name: &str, key: u64) -> usize {
        let records = self.lock(key);
        let record = records.find(key, |record| *record.topic.name == *name);
        record.map_or(0, |record| record.topic.subscribers.load(Ordering::Relaxed))
    }

    /// Number of records.
    #[cfg(test)]
    fn records(&self) -> usize {
        let buckets = self.buckets.iter();
        buckets
            .map(|bucket| bucket.lock().expect("no shard has panicked").len())
            .sum()
    }

    /// The bucket of a key. Numbers guarded by a lock stay consistent if a shard panics.
    fn lock(&self, key: u64) -> MutexGuard<'_, HashTable<Record>> {
        // The hash table uses the highest bits, and the lowest ones.
        let bucket = &self.buckets[(key >> 32) as usize % BUCKETS];
        bucket.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Notes the first subscriber of a topic on a shard. Returns the topic, and whether the shard has to queue it.
    fn join(&self, name: &str, key: u64) -> (Arc<PresentTopic>, bool) {
        let mut records = self.lock(key);
        let is_it = |record: &Record| *record.topic.name == *name;
        let entry = records.entry(key, is_it, |record| record.topic.key);
        let mut entry = match entry {
            Entry::Occupied(entry) => entry,
            Entry::Vacant(entry) => entry.insert(Record::new(name, key)),
        };
        let record = entry.get_mut();
        record.shards += 1;
        record.topic.subscribers.fetch_add(1, Ordering::Relaxed);
        (Arc::clone(&record.topic), record.queue())
    }

    /// Notes that a shard has lost its last `subscribers` subscribers of a topic. Returns whether the shard has to
    /// queue the topic.
    fn leave(&self, topic: &Arc<PresentTopic>, subscribers: usize) -> bool {
        topic.subscribers.fetch_sub(subscribers, Ordering::Relaxed);
        self.change(topic, |record| {
            record.shards = record.shards.saturating_sub(1);
            record.queue()
        })
    }

    /// Begins to report a queued topic. Returns `None` if its change was undone: it is not queued any more then.
    fn begin_report(&self, topic: &Arc<PresentTopic>) -> Option<PresenceChange> {
        self.change(topic, |record| {
            let current = record.current();
            record.is_queued = record.reported != current;
            record.reported = current;
            record.is_queued.then_some(current)
        })
    }

    /// Returns whether a topic that was queued or reported has to be queued again or still: its last change is not
    /// reported.
    fn requeue(&self, topic: &Arc<PresentTopic>) -> bool {
        self.change(topic, |record| {
            record.is_queued = false;
            record.queue()
        })
    }

    /// Changes the record of a topic, and removes it if it is not needed any more.
    fn change<T: Default>(
        &self,
        topic: &Arc<PresentTopic>,
        change: impl FnOnce(&mut Record) -> T,
    ) -> T {
        let mut records = self.lock(topic.key);
        let is_it = |record: &Record| Arc::ptr_eq(&record.topic, topic);
        let Ok(mut entry) = records.find_entry(topic.key, is_it) else {
            debug_assert!(false, "a topic with subscribers or in a queue has a record");
            return T::default();
        };
        let result = change(entry.get_mut());
        if entry.get().is_over() {
            entry.remove();
            if records.capacity() > RECORDS_KEPT_MAX && records.len() < records.capacity() / 4 {
                let length = records.len();
                records.shrink_to(2 * length, |record| record.topic.key);
            }
        }
        result
    }
}

/// The part of one shard in the presence of topics.
#[derive(Debug)]
pub(super) struct ShardPresence {
    shared: Arc<Presence>,
    /// The topics of the shard, by their numbers.
    topics: Vec<Option<Arc<PresentTopic>>>,
    /// Topics whose change this shard reports.
    queue: VecDeque<Arc<PresentTopic>>,
    /// Length of the queue at which it is searched for changes that were undone.
    checked_at: usize,
}

/// A change of a topic for which the application is called.
#[derive(Debug)]
pub(crate) struct PresenceReport {
    topic: Arc<PresentTopic>,
    pub(crate) change: PresenceChange,
}

impl PresenceReport {
    /// The name of the topic or pattern.
    pub(crate) fn name(&self) -> &str {
        &self.topic.name
    }
}

impl ShardPresence {
    pub(super) fn new(shared: Arc<Presence>) -> Self {
        Self {
            shared,
            topics: Vec::new(),
            queue: VecDeque::new(),
            checked_at: QUEUE_CHECKED_MIN,
        }
    }

    /// Counts a subscriber of the topic with this number on the shard.
    pub(super) fn add(&mut self, number: u32, name: &str, key: u64) {
        let number = number as usize;
        if self.topics.len() <= number {
            self.topics.resize(number + 1, None);
        }
        match &self.topics[number] {
            Some(topic) => {
                topic.subscribers.fetch_add(1, Ordering::Relaxed);
            }
            None => {
                let (topic, is_due) = self.shared.join(name, key);
                self.topics[number] = Some(Arc::clone(&topic));
                self.queue_if(is_due, topic);
            }
        }
    }

    /// Removes a subscriber of the topic with this number, of which `left` are left on the shard.
    pub(super) fn remove(&mut self, number: u32, left: usize) {
        match &self.topics[number as usize] {
            Some(topic) if left > 0 => {
                topic.subscribers.fetch_sub(1, Ordering::Relaxed);
            }
            Some(_) => self.remove_all(number, 1),
            None => {}
        }
    }

    /// Removes the last `subscribers` subscribers of the topic with this number.
    pub(super) fn remove_all(&mut self, number: u32, subscribers: usize) {
        if let Some(topic) = self.topics[number as usize].take() {
            let is_due = self.shared.leave(&topic, subscribers);
            self.queue_if(is_due, topic);
        }
    }

    fn queue_if(&mut self, is_due: bool, topic: Arc<PresentTopic>) {
        if !is_due {
            return;
        }
        if self.queue.len() >= self.checked_at {
            self.queue.retain(|topic| self.shared.requeue(topic));
            self.checked_at = QUEUE_CHECKED_MIN.max(2 * self.queue.len());
        }
        self.queue.push_back(topic);
    }

    /// Frees the memory for numbers of topics, none of which is in use.
    pub(super) fn clear_numbers(&mut self) {
        self.topics = Vec::new();
    }

    /// Number of topics in the queue.
    pub(super) fn queued(&self) -> usize {
        self.queue.len()
    }

    /// Takes topics out of the queue, `topics_max` at most, up to the first one whose change was not undone. The
    /// caller calls the application, and then [`end_report`](Self::end_report).
    pub(super) fn next_report(&mut self, topics_max: &mut usize) -> Option<PresenceReport> {
        while *topics_max > 0
            && let Some(topic) = self.queue.pop_front()
        {
            *topics_max -= 1;
            if let Some(change) = self.shared.begin_report(&topic) {
                return Some(PresenceReport { topic, change });
            }
        }
        if self.queue.is_empty() && self.queue.capacity() > QUEUE_CHECKED_MIN {
            self.queue = VecDeque::new();
            self.checked_at = QUEUE_CHECKED_MIN;
        }
        None
    }

    /// Notes that the application was called.
    pub(super) fn end_report(&mut self, report: PresenceReport) {
        let is_due = self.shared.requeue(&report.topic);
        self.queue_if(is_due, report.topic);
    }

    /// Memory in bytes of this shard and of the table, without the names of topics.
    #[cfg(test)]
    pub(super) fn memory(&self) -> usize {
        /// The two counts of an [`Arc`].
        const COUNTS: usize = 2 * size_of::<usize>();
        let buckets = self.shared.buckets.iter().map(|bucket| {
            let records = bucket.lock().expect("no shard has panicked");
            records.allocation_size() + records.len() * (COUNTS + size_of::<PresentTopic>())
        });
        buckets.sum::<usize>()
            + self.topics.capacity() * size_of::<Option<Arc<PresentTopic>>>()
            + self.queue.capacity() * size_of::<Arc<PresentTopic>>()
    }
}

impl Drop for ShardPresence {
    /// The other shards may report the queued topics.
    fn drop(&mut self) {
        for topic in self.queue.drain(..) {
            self.shared
                .change(&topic, |record| record.is_queued = false);
        }
    }
}

#[cfg(test)]
mod tests {
    use std::collections::HashMap;

    use super::*;

    /// The hash of a name, of which some share a bucket.
    fn key(name: &str) -> u64 {
        let bytes = name.bytes().map(u64::from);
        bytes.fold(7, |key, byte| {
            key.wrapping_mul(0x9E37_79B9_7F4A_7C15) ^ byte
        })
    }

    fn shards<const COUNT: usize>() -> [ShardPresence; COUNT] {
        let shared = Arc::new(Presence::new());
        std::array::from_fn(|_| ShardPresence::new(Arc::clone(&shared)))
    }

    /// Takes all reports of a shard, in order.
    fn reports(shard: &mut ShardPresence) -> Vec<(String, PresenceChange)> {
        let mut reports = Vec::new();
        while let Some(report) = shard.next_report(&mut { usize::MAX }) {
            reports.push((report.name().to_owned(), report.change));
            shard.end_report(report);
        }
        reports
    }

    fn change(change: PresenceChange) -> Vec<(String, PresenceChange)> {
        vec![("a".to_owned(), change)]
    }

    #[test]
    fn the_first_subscriber_of_all_shards_and_the_last_one_are_reported() {
        let [mut one, mut other] = shards();
        let count = |shard: &ShardPresence| shard.shared.subscribers("a", key("a"));
        one.add(0, "a", key("a"));
        one.add(0, "a", key("a"));
        other.add(5, "a", key("a"));
        assert_eq!(count(&one), 3);
        assert_eq!(reports(&mut one), change(PresenceChange::Active));
        assert_eq!(reports(&mut other), []);
        one.remove(0, 1);
        one.remove(0, 0);
        assert_eq!((count(&one), reports(&mut one)), (1, Vec::new()));
        other.remove(5, 0);
        assert_eq!(count(&one), 0);
        assert_eq!(reports(&mut other), change(PresenceChange::Idle));
        assert_eq!(reports(&mut one), []);
        assert_eq!(
            one.shared.records(),
            0,
            "a topic without subscribers is removed"
        );
    }

    #[test]
    fn a_change_that_is_undone_before_its_report_is_not_reported() {
        let [mut one, mut other] = shards();
        one.add(0, "a", key("a"));
        one.remove(0, 0);
        assert_eq!(reports(&mut one), []);
        assert_eq!(one.shared.records(), 0);
        one.add(0, "a", key("a"));
        assert_eq!(reports(&mut one), change(PresenceChange::Active));
        one.remove(0, 0);
        other.add(0, "a", key("a"));
        assert_eq!((reports(&mut one), reports(&mut other)), (vec![], vec![]));
    }

    #[test]
    fn a_change_during_a_report_is_reported_after_it_and_by_the_same_shard() {
        let [mut one, mut other] = shards();
        one.add(0, "a", key("a"));
        let report = one.next_report(&mut 1).expect("the topic is active");
        other.add(0, "a", key("a"));
        one.remove(0, 0);
        other.remove(0, 0);
        assert_eq!(reports(&mut other), [], "the calls would overlap");
        one.end_report(report);
        assert_eq!(reports(&mut one), change(PresenceChange::Idle));
    }

    #[test]
    fn a_turn_looks_at_a_limited_number_of_topics_and_undone_changes_take_bounded_memory() {
        let [mut shard] = shards();
        for number in 0..5000 {
            shard.add(number, &number.to_string(), key(&number.to_string()));
        }
        let mut left = 3;
        while let Some(report) = shard.next_report(&mut left) {
            shard.end_report(report);
        }
        assert_eq!((left, shard.queued()), (0, 4997));
        assert_eq!(reports(&mut shard).len(), 4997);
        for number in 5000..100_000 {
            let name = number.to_string();
            shard.add(5000, &name, key(&name));
            shard.remove(5000, 0);
            assert!(shard.queued() <= QUEUE_CHECKED_MIN);
        }
        assert_eq!(reports(&mut shard), []);
        assert_eq!(shard.shared.records(), 5000);
    }

    #[test]
    fn the_topics_of_a_shard_that_ends_are_reported_by_others_when_they_change_again() {
        let [mut one, mut other] = shards();
        one.add(0, "a", key("a"));
        drop(one);
        other.add(0, "a", key("a"));
        assert_eq!(reports(&mut other), change(PresenceChange::Active));
    }

    #[test]
    fn calls_for_a_topic_alternate_and_do_not_overlap_on_several_threads() {
        const TOPICS: [&str; 3] = ["a", "b", "c"];
        /// The last call for each topic, and whether it is running.
        type Calls = HashMap<String, (PresenceChange, bool)>;
        let calls: Mutex<Calls> = Mutex::default();
        let mut shards = shards::<4>();
        let report_one = &|shard: &mut ShardPresence| {
            let Some(report) = shard.next_report(&mut 1) else {
                return;
            };
            let (name, change) = (report.name().to_owned(), report.change);
            let before = calls
                .lock()
                .unwrap()
                .insert(name.clone(), (change, true))
                .unwrap_or((PresenceChange::Idle, false));
            assert_ne!(before.0, change, "calls alternate");
            assert!(!before.1, "calls do not overlap");
            std::thread::yield_now();
            calls.lock().unwrap().insert(name, (change, false));
            shard.end_report(report);
        };
        std::thread::scope(|scope| {
            for (shard, seed) in shards.iter_mut().zip(0..) {
                scope.spawn(move || {
                    let mut random = fastrand::Rng::with_seed(seed);
                    let mut held = [0_usize; TOPICS.len()];
                    for _ in 0..20_000 {
                        let at = random.usize(0..TOPICS.len());
                        let number = at as u32;
                        match random.u8(0..4) {
                            0 => {
                                shard.add(number, TOPICS[at], key(TOPICS[at]));
                                held[at] += 1;
                            }
                            1 | 2 if held[at] > 0 => {
                                held[at] -= 1;
                                shard.remove(number, held[at]);
                            }
                            _ => report_one(shard),
                        }
                    }
                    for (number, mut left) in (0..).zip(held) {
                        while left > 0 {
                            left -= 1;
                            shard.remove(number, left);
                        }
                    }
                });
            }
        });
        for shard in &mut shards {
            while shard.queued() > 0 {
                report_one(shard);
            }
        }
        let calls = calls.into_inner().unwrap();
        assert_eq!(calls.len(), TOPICS.len());
        assert!(calls.values().all(|it| it.0 == PresenceChange::Idle));
        assert_eq!(shards[0].shared.records(), 0);
    }
}
