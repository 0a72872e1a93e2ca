//! What waits for each subscriber, shared by all for whom the same messages wait.
//!
//! A chain is a sequence of messages, named by the number of its last link; a link says which
//! message it is, and which link comes before. To give a message to a subscriber for whom chain
//! `c` waits is to replace `c` by its successor, which all others with `c` get as well. So a
//! message costs a subscriber one load and one store, and all with the same chain share the bytes
//! of one buffer.
//!
//! A link counts its users: the subscribers whose chain ends with it, and the links behind it. When
//! the last one is gone, so is the link, and with the last link of a message the message.
//!
//! ```text
//! segments    ┌─────────── 1 ───────────┐   ┌────── 2 ──────┐
//! links       a ◄── b ◄── c ◄── d ◄── e ◄── f ◄── g ◄── h        subscriber's chain: h
//!                                     ▲ ─────────────────┘       segment_before
//! ```
//!
//! A long chain is cut into segments; the frames of a segment are copied into one buffer.

use std::sync::Arc;

use bytes::{Bytes, BytesMut};
use hashbrown::HashTable;
use slab::Slab;
use tidewheel_codec::Endpoint;

use super::Published;
use crate::SlowConsumer;

/// The chain of no messages.
pub(crate) const NONE: u32 = 0;

/// Bytes of a segment's frames at most, unless it is a single frame; that one is not copied.
const SEGMENT_BYTES_MAX: usize = 64 << 10;

/// A chain of so many bytes of frames is long: subscribers are to get it before it grows.
const LONG_CHAIN_BYTES_MIN: usize = 64 << 10;

/// Links and messages for which memory is kept while there are none.
const LINKS_KEPT_MAX: usize = 1 << 10;

#[derive(Debug)]
pub(crate) struct Chains {
    /// The first link stands for no message.
    links: Slab<Link>,
    messages: Slab<MessageEntry>,
    /// Links by the chain before them and their message.
    successors: HashTable<u32>,
    run: Run,
    /// Links of long chains.
    long_links: usize,
    /// Messages from other threads.
    remote_in_flight: usize,
    /// Bytes of memory of all that is kept here.
    bytes: usize,
    segment_bytes_max: usize,
    /// The server's policy, where a message has none of its own.
    policy: SlowConsumer,
}

/// The publisher of a message.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) enum Origin {
    /// A connection of this shard.
    Connection,
    /// Another thread.
    Remote,
}

/// A message that is being delivered.
#[derive(Debug)]
struct MessageEntry {
    published: Arc<Published>,
    /// Links of it, and topics whose subscribers have not all got it.
    users: u32,
    origin: Origin,
    /// Bytes of its compressed form that are counted here.
    compressed_bytes: usize,
}

/// From a chain by a message.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
struct Step {
    chain: u32,
    message: u32,
}

/// Subscribers, one after the other, that take the same step; they are counted when it is over.
#[derive(Clone, Copy, Debug, Default)]
struct Run {
    step: Step,
    to: u32,
    subscribers: u32,
}

#[derive(Debug, Default)]
struct Link {
    before: u32,
    /// The last link of the segment before this link's.
    segment_before: u32,
    message: u32,
    users: u32,
    /// Messages of the segment up to this one.
    count: u32,
    /// Bytes of their frames.
    frame_bytes: usize,
    payload_bytes: u64,
    /// Bytes of all frames of the chain.
    chain_bytes: usize,
    /// Whether a policy forbids to drop one of the segment's messages.
    is_kept: bool,
    /// Whether a policy closes a subscriber for which there is no room for one of them.
    may_close: bool,
    /// The frames of the segment one behind the other, once somebody needs them: as they are, and
    /// compressed.
    joined: [Option<Bytes>; 2],
}

/// A segment of a chain: how many messages, how many bytes of them, and what may become of them.
#[derive(Clone, Copy, Debug)]
pub(crate) struct ChainSegment {
    /// The last link.
    pub(crate) end: u32,
    pub(crate) count: u64,
    pub(crate) frame_bytes: usize,
    pub(crate) payload_bytes: u64,
    /// Whether a policy forbids to drop one of the messages.
    pub(crate) is_kept: bool,
    /// Whether a policy closes a subscriber for which there is no room for one of them.
    pub(crate) may_close: bool,
}

/// Bytes that a link costs: itself, and its place among the successors.
const LINK_BYTES: usize = size_of::<Link>() + 2 * size_of::<u32>();

impl Chains {
    /// No chains. A segment is to fit well into a send queue of `send_queue_max` bytes.
    pub(super) fn new(send_queue_max: usize, policy: SlowConsumer) -> Self {
        Self {
            links: links(),
            messages: Slab::new(),
            successors: HashTable::new(),
            run: Run::default(),
            long_links: 0,
            remote_in_flight: 0,
            bytes: 0,
            segment_bytes_max: SEGMENT_BYTES_MAX.min(send_queue_max / 2),
            policy,
        }
    }

    /// Bytes of memory of all links and messages.
    pub(super) fn bytes(&self) -> usize {
        self.bytes
    }

    /// Whether a long chain waits for somebody.
    pub(super) fn is_long(&self) -> bool {
        self.long_links > 0
    }

    /// Messages from other threads that are under way.
    pub(super) fn remote_in_flight(&self) -> usize {
        self.remote_in_flight
    }

    /// Begins to deliver a message; gives its number, which is valid until
    /// [`finish`](Self::finish).
    pub(super) fn begin(&mut self, message: Arc<Published>, origin: Origin) -> u32 {
        self.bytes += message.size() + size_of::<MessageEntry>();
        self.remote_in_flight += usize::from(origin == Origin::Remote);
        let entry = MessageEntry {
            published: message,
            users: 1,
            origin,
            compressed_bytes: 0,
        };
        self.messages.insert(entry) as u32
    }

    /// Notes that a message is pending for `topics` topics and patterns.
    pub(super) fn add_users(&mut self, message: u32, topics: u32) {
        self.messages[message as usize].users += topics;
    }

    /// Notes that a message is pending for one topic or pattern fewer.
    pub(super) fn finish(&mut self, message: u32) {
        let entry = &mut self.messages[message as usize];
        entry.users -= 1;
        if entry.users == 0 {
            let MessageEntry {
                published,
                origin,
                compressed_bytes,
                ..
            } = self.messages.remove(message as usize);
            self.remote_in_flight -= usize::from(origin == Origin::Remote);
            self.bytes -= published.size() + size_of::<MessageEntry>() + compressed_bytes;
        }
    }

    /// The message with a number.
    pub(super) fn message(&self, number: u32) -> &Arc<Published> {
        &self.messages[number as usize].published
    }

    /// Moves a subscriber from `chain` to the chain with the message of a number behind it.
    #[inline]
    pub(super) fn successor(&mut self, chain: u32, message: u32) -> u32 {
        let step = Step { chain, message };
        if self.run.step == step && self.run.to != NONE {
            self.run.subscribers += 1;
            return self.run.to;
        }
        self.begin_run(step)
    }

    fn begin_run(&mut self, step: Step) -> u32 {
        self.end_run();
        let (links, hash) = (&self.links, step_hash(step));
        let is_it = |link: &u32| links[*link as usize].step() == step;
        let to = match self.successors.find(hash, is_it) {
            Some(link) => *link,
            None => self.add_link(step, hash),
        };
        self.run = Run {
            step,
            to,
            subscribers: 1,
        };
        to
    }

    /// Counts the subscribers that took the last step.
    fn end_run(&mut self) {
        let count = std::mem::take(&mut self.run.subscribers);
        if count > 0 {
            self.links[self.run.to as usize].users += count;
            if self.run.step.chain != NONE {
                // It stays: the link behind it uses it.
                self.links[self.run.step.chain as usize].users -= count;
            }
        }
    }

    fn add_link(&mut self, step: Step, hash: u64) -> u32 {
        let entry = &mut self.messages[step.message as usize];
        entry.users += 1;
        let message = &entry.published;
        let before = &mut self.links[step.chain as usize];
        before.users += 1;
        let frame_bytes = message.frame().len();
        let begins =
            step.chain == NONE || before.frame_bytes + frame_bytes > self.segment_bytes_max;
        let policy = message.policy.unwrap_or(self.policy);
        let mut link = Link {
            before: step.chain,
            segment_before: match begins {
                true => step.chain,
                false => before.segment_before,
            },
            message: step.message,
            count: 1,
            frame_bytes,
            payload_bytes: message.payload().len() as u64,
            chain_bytes: before.chain_bytes + frame_bytes,
            is_kept: !policy.drops_oldest(),
            may_close: policy.closes(),
            ..Link::default()
        };
        if !begins {
            link.count += before.count;
            link.frame_bytes += before.frame_bytes;
            link.payload_bytes += before.payload_bytes;
            link.is_kept |= before.is_kept;
            link.may_close |= before.may_close;
        }
        self.bytes += LINK_BYTES;
        self.long_links += usize::from(link.is_long());
        let number = self.links.insert(link) as u32;
        let links = &self.links;
        let rehash = |link: &u32| step_hash(links[*link as usize].step());
        self.successors.insert_unique(hash, number, rehash);
        number
    }

    /// A subscriber has got its chain, or will not.
    pub(crate) fn release(&mut self, chain: u32) {
        self.end_run();
        let mut at = chain;
        while at != NONE {
            let link = &mut self.links[at as usize];
            link.users -= 1;
            if link.users > 0 {
                return;
            }
            let link = self.links.remove(at as usize);
            if let Ok(entry) = self
                .successors
                .find_entry(step_hash(link.step()), |it| *it == at)
            {
                entry.remove();
            }
            if self.run.to == at {
                self.run = Run::default();
            }
            let joined: usize = link.joined.iter().flatten().map(Bytes::len).sum();
            self.bytes -= LINK_BYTES + joined;
            self.long_links -= usize::from(link.is_long());
            self.finish(link.message);
            at = link.before;
        }
        if self.links.len() == 1 {
            self.links[NONE as usize].users = 0;
            self.shrink();
        }
    }

    /// Gives back what a burst needed.
    fn shrink(&mut self) {
        if self.links.capacity() > LINKS_KEPT_MAX {
            self.links = links();
            self.successors = HashTable::new();
        }
        if self.messages.is_empty() && self.messages.capacity() > LINKS_KEPT_MAX {
            self.messages = Slab::new();
        }
    }

    /// The segments of a chain behind the link `after`, the oldest first.
    pub(crate) fn segments(&self, chain: u32, after: u32) -> Vec<ChainSegment> {
        let mut segments = Vec::new();
        let mut at = chain;
        while at != after && at != NONE {
            let link = &self.links[at as usize];
            segments.push(ChainSegment {
                end: at,
                count: u64::from(link.count),
                frame_bytes: link.frame_bytes,
                payload_bytes: link.payload_bytes,
                is_kept: link.is_kept,
                may_close: link.may_close,
            });
            at = link.segment_before;
        }
        segments.reverse();
        segments
    }

    /// The messages of a segment in order.
    pub(crate) fn messages(&self, segment: &ChainSegment) -> Vec<Arc<Published>> {
        let numbers = self.numbers(segment).into_iter();
        numbers
            .map(|message| Arc::clone(self.message(message)))
            .collect()
    }

    /// The frames of a segment one behind the other. They are in memory that only this shard counts
    /// the users of, if they are not of a single message that is too large to copy.
    pub(crate) fn joined(
        &mut self,
        segment: &ChainSegment,
        compressed: bool,
        endpoint: &mut Endpoint,
    ) -> Bytes {
        let kind = usize::from(compressed);
        if let Some(joined) = &self.links[segment.end as usize].joined[kind] {
            return joined.clone();
        }
        if segment.frame_bytes > self.segment_bytes_max {
            let message = self.links[segment.end as usize].message;
            return self.frame(message, compressed, endpoint);
        }
        let mut joined = BytesMut::with_capacity(segment.frame_bytes);
        for message in self.numbers(segment) {
            joined.extend_from_slice(&self.frame(message, compressed, endpoint));
        }
        let joined = joined.freeze();
        self.bytes += joined.len();
        self.links[segment.end as usize].joined[kind] = Some(joined.clone());
        joined
    }

    /// The numbers of a segment's messages in order.
    fn numbers(&self, segment: &ChainSegment) -> Vec<u32> {
        let mut numbers = Vec::with_capacity(segment.count as usize);
        let mut at = segment.end;
        for _ in 0..segment.count {
            let link = &self.links[at as usize];
            numbers.push(link.message);
            at = link.before;
        }
        numbers.reverse();
        numbers
    }

    /// The frame of a message, whose compressed form counts from its first use.
    fn frame(&mut self, message: u32, compressed: bool, endpoint: &mut Endpoint) -> Bytes {
        let entry = &mut self.messages[message as usize];
        if !compressed {
            return entry.published.frame().clone();
        }
        let frame = entry.published.compressed(endpoint);
        self.bytes = self.bytes + frame.len() - entry.compressed_bytes;
        entry.compressed_bytes = frame.len();
        frame
    }
}

impl Link {
    fn step(&self) -> Step {
        Step {
            chain: self.before,
            message: self.message,
        }
    }

    fn is_long(&self) -> bool {
        self.chain_bytes >= LONG_CHAIN_BYTES_MIN
    }
}

/// No links but the one that stands for no message.
fn links() -> Slab<Link> {
    let mut links = Slab::new();
    assert_eq!(links.insert(Link::default()), NONE as usize);
    links
}

/// Numbers that no peer chooses need no keyed hash (Fibonacci hashing; Knuth, volume 3, 6.4).
fn step_hash(step: Step) -> u64 {
    let key = u64::from(step.chain) << 32 | u64::from(step.message);
    let product = u128::from(key ^ 0x9E37_79B9_7F4A_7C15) * 0xD6E8_FEB8_6659_FD93;
    (product >> 64) as u64 ^ product as u64
}
