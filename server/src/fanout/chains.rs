//! The messages that wait for each subscriber, shared by all subscribers with the same messages.
//!
//! A chain is a sequence of messages, and has the number of its last link. A link names its message and the
//! link before it. To add a message to a subscriber's chain `c`, `c` is replaced by its successor, which is the
//! same for all subscribers with `c`. So a delivery costs one load and one store, and all subscribers with the
//! same chain share one buffer of frames.
//!
//! A link counts its users: the subscribers whose chain ends with it, and the links behind it. It is freed with
//! its last user, and a message is freed with its last link.
//!
//! ```text
//! segments    ┌─────────── 1 ───────────┐   ┌────── 2 ──────┐
//! links       a ◄── b ◄── c ◄── d ◄── e ◄── f ◄── g ◄── h        subscriber's chain: h
//!                                     ▲ ─────────────────┘       segment_before
//! ```
//!
//! A long chain is divided into segments. The frames of a segment are copied into one buffer.

use std::sync::Arc;

use bytes::{Bytes, BytesMut};
use hashbrown::HashTable;
use slab::Slab;
use tidewheel_codec::Endpoint;

use super::Published;
use crate::SlowConsumer;

/// The empty chain.
pub(crate) const NONE: u32 = 0;

/// Bytes of a segment's frames, at most. A longer segment is a single frame, which is not copied.
const SEGMENT_BYTES_MAX: usize = 64 << 10;

/// Bytes of the frames of a chain from which it is long. Messages are deferred while a long chain exists.
const LONG_CHAIN_BYTES_MIN: usize = 64 << 10;

/// Links and messages for which an empty slab keeps memory, at most.
const LINKS_KEPT_MAX: usize = 1 << 10;

#[derive(Debug)]
pub(crate) struct Chains {
    /// All links. The first one stands for the empty chain.
    links: Slab<Link>,
    messages: Slab<MessageEntry>,
    /// Links by the chain before them and their message.
    successors: HashTable<u32>,
    run: Run,
    /// Number of links of long chains.
    long_links: usize,
    /// Number of messages from other threads.
    remote_in_flight: usize,
    /// Memory in bytes of everything in this struct.
    bytes: usize,
    segment_bytes_max: usize,
    /// The server's policy, for messages whose topic has no rule.
    policy: SlowConsumer,
}

/// The origin of a message.
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
    /// Number of links of the message, and of topics and patterns for which it is pending.
    users: u32,
    origin: Origin,
    /// Bytes of its compressed form that are counted here.
    compressed_bytes: usize,
}

/// One step from a chain to its successor.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
struct Step {
    chain: u32,
    message: u32,
}

/// Consecutive subscribers that take the same step. Their number is added to the link's users at the end of the
/// run.
#[derive(Clone, Copy, Debug, Default)]
struct Run {
    step: Step,
    to: u32,
    subscribers: u32,
}

#[derive(Debug, Default)]
struct Link {
    before: u32,
    /// The last link of the segment before that of this link.
    segment_before: u32,
    message: u32,
    users: u32,
    /// Messages of the segment up to this link.
    count: u32,
    /// Bytes of the frames of these messages.
    frame_bytes: usize,
    payload_bytes: u64,
    /// Bytes of all frames of the chain.
    chain_bytes: usize,
    /// Whether a policy forbids to drop one of the segment's messages.
    is_kept: bool,
    /// Whether a policy closes a subscriber whose queue has no space for one of the segment's messages.
    may_close: bool,
    /// The frames of the segment in one buffer, uncompressed and compressed. Each is made when it is first
    /// needed.
    joined: [Option<Bytes>; 2],
}

/// A segment of a chain.
#[derive(Clone, Copy, Debug)]
pub(crate) struct ChainSegment {
    /// The last link.
    pub(crate) end: u32,
    pub(crate) count: u64,
    pub(crate) frame_bytes: usize,
    pub(crate) payload_bytes: u64,
    /// Whether a policy forbids to drop one of the messages.
    pub(crate) is_kept: bool,
    /// Whether a policy closes a subscriber whose queue has no space for one of the messages.
    pub(crate) may_close: bool,
}

/// Memory in bytes of a link and its entry among the successors.
const LINK_BYTES: usize = size_of::<Link>() + 2 * size_of::<u32>();

impl Chains {
    /// Creates an empty set of chains. A segment takes at most half of `send_queue_max` bytes, unless it is a
    /// single frame.
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

    /// Memory in bytes of all links and messages.
    pub(super) fn bytes(&self) -> usize {
        self.bytes
    }

    /// Returns whether a long chain exists.
    pub(super) fn is_long(&self) -> bool {
        self.long_links > 0
    }

    /// Number of messages from other threads that are in flight.
    pub(super) fn remote_in_flight(&self) -> usize {
        self.remote_in_flight
    }

    /// Adds a message. Returns its number, which is valid until [`finish`](Self::finish).
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

    /// Counts a message as pending for `topics` more topics and patterns.
    pub(super) fn add_users(&mut self, message: u32, topics: u32) {
        self.messages[message as usize].users += topics;
    }

    /// Counts a message as pending for one topic or pattern less.
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

    /// Returns the chain that consists of `chain` and a message. Moves one subscriber from `chain` to it.
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

    /// Adds the subscribers of the current run to the users of its link.
    fn end_run(&mut self) {
        let count = std::mem::take(&mut self.run.subscribers);
        if count > 0 {
            self.links[self.run.to as usize].users += count;
            if self.run.step.chain != NONE {
                // It has another user: the link behind it.
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

    /// Removes one user of a chain, and frees the links without users.
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

    /// Frees memory that only a burst needs.
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

    /// The messages of a segment, in order.
    pub(crate) fn messages(&self, segment: &ChainSegment) -> Vec<Arc<Published>> {
        let numbers = self.numbers(segment).into_iter();
        numbers
            .map(|message| Arc::clone(self.message(message)))
            .collect()
    }

    /// The frames of a segment in one buffer. Only this shard counts references to the buffer, except to the
    /// buffer of a single frame that is too large to copy.
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

    /// The numbers of a segment's messages, in order.
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

    /// The frame of a message. A compressed frame counts from its first use.
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

/// Creates a slab with the link of the empty chain.
fn links() -> Slab<Link> {
    let mut links = Slab::new();
    assert_eq!(links.insert(Link::default()), NONE as usize);
    links
}

/// Hashes a step (Fibonacci hashing; Knuth, volume 3, 6.4). The numbers are not chosen by a peer, so the hash
/// needs no key.
fn step_hash(step: Step) -> u64 {
    let key = u64::from(step.chain) << 32 | u64::from(step.message);
    let product = u128::from(key ^ 0x9E37_79B9_7F4A_7C15) * 0xD6E8_FEB8_6659_FD93;
    (product >> 64) as u64 ^ product as u64
}
