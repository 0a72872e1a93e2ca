//! What waits for each subscriber, shared by all for whom the same messages wait.
//!
//! A chain is a sequence of messages, named by the number of its last link; a link says which
//! message it is, and which link comes before. To give a message to a subscriber for whom chain
//! `c` waits is to replace `c` by its successor, which all others with `c` get as well. So a
//! message costs a subscriber one load and one store, and all with the same chain share the bytes
//! of one buffer.

use std::{collections::HashMap, sync::Arc};

use bytes::{Bytes, BytesMut};
use tidewheel_codec::Endpoint;

use super::Published;

/// The chain of no messages.
pub(crate) const NONE: u32 = 0;

/// A chain of more bytes is not copied into one buffer; its messages are sent from where they are.
const JOINED_MAX: usize = 64 << 10;

/// With so many links, no more messages are taken in before all have been sent.
const LINKS_MAX: usize = 1 << 16;

#[derive(Debug)]
pub(crate) struct Chains {
    /// The first link stands for no message.
    links: Vec<Link>,
    messages: Vec<Arc<Published>>,
    /// The successors of chains by the newest message.
    successors: HashMap<u32, u32>,
    /// The one that was asked for last.
    last: (u32, u32),
}

#[derive(Debug, Default)]
struct Link {
    before: u32,
    message: u32,
    /// Messages from the first link to this one.
    count: u32,
    /// Bytes of their frames.
    frame_bytes: usize,
    payload_bytes: u64,
    /// The frames of the chain one behind the other, once somebody needs them: as they are, and
    /// compressed.
    joined: [Option<Bytes>; 2],
}

/// How many messages, and how many bytes of them.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Extent {
    pub(crate) count: u64,
    pub(crate) frame_bytes: usize,
    pub(crate) payload_bytes: u64,
}

impl Chains {
    pub(super) fn new() -> Self {
        Self {
            links: vec![Link::default()],
            messages: Vec::new(),
            successors: HashMap::new(),
            last: (NONE, NONE),
        }
    }

    /// Begins to give a message to subscribers.
    pub(super) fn begin(&mut self, message: Arc<Published>) {
        self.messages.push(message);
        self.successors.clear();
        self.last = (NONE, NONE);
    }

    /// The chain `chain` with the newest message behind it.
    #[inline]
    pub(super) fn successor(&mut self, chain: u32) -> u32 {
        let (from, to) = self.last;
        if from == chain && to != NONE {
            return to;
        }
        self.other_successor(chain)
    }

    fn other_successor(&mut self, chain: u32) -> u32 {
        let (links, messages) = (&mut self.links, &self.messages);
        let to = *self.successors.entry(chain).or_insert_with(|| {
            let message = messages.last().expect("one has begun");
            let before = &links[chain as usize];
            let link = Link {
                before: chain,
                message: (messages.len() - 1) as u32,
                count: before.count + 1,
                frame_bytes: before.frame_bytes + message.frame().len(),
                payload_bytes: before.payload_bytes + message.payload().len() as u64,
                joined: [None, None],
            };
            links.push(link);
            (links.len() - 1) as u32
        });
        self.last = (chain, to);
        to
    }

    /// How much a chain is.
    pub(crate) fn extent(&self, chain: u32) -> Extent {
        let link = &self.links[chain as usize];
        Extent {
            count: u64::from(link.count),
            frame_bytes: link.frame_bytes,
            payload_bytes: link.payload_bytes,
        }
    }

    /// The messages of a chain in order.
    pub(crate) fn messages(&self, chain: u32) -> Vec<Arc<Published>> {
        let mut messages = Vec::with_capacity(self.links[chain as usize].count as usize);
        let mut at = chain;
        while at != NONE {
            let link = &self.links[at as usize];
            messages.push(Arc::clone(&self.messages[link.message as usize]));
            at = link.before;
        }
        messages.reverse();
        messages
    }

    /// The frames of a chain one behind the other, in memory that only this shard counts the users
    /// of; `None` if they are too many to copy.
    pub(crate) fn joined(
        &mut self,
        chain: u32,
        compressed: bool,
        endpoint: &mut Endpoint,
    ) -> Option<Bytes> {
        let kind = usize::from(compressed);
        let link = &self.links[chain as usize];
        if let Some(joined) = &link.joined[kind] {
            return Some(joined.clone());
        }
        if link.frame_bytes > JOINED_MAX {
            return None;
        }
        let mut joined = BytesMut::with_capacity(link.frame_bytes);
        for message in self.messages(chain) {
            if compressed {
                joined.extend_from_slice(&message.compressed(endpoint));
            } else {
                joined.extend_from_slice(message.frame());
            }
        }
        let joined = joined.freeze();
        self.links[chain as usize].joined[kind] = Some(joined.clone());
        Some(joined)
    }

    /// Whether messages should wait before more are taken in.
    pub(super) fn is_full(&self) -> bool {
        self.links.len() >= LINKS_MAX
    }

    /// Forgets all chains: nothing waits for anybody.
    pub(super) fn clear(&mut self) {
        self.links.truncate(1);
        self.messages.clear();
        self.successors.clear();
        self.last = (NONE, NONE);
    }
}
