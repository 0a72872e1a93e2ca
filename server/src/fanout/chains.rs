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

/// Room for successors that is kept; to forget them takes time by the room.
const SUCCESSORS_KEPT: usize = 1 << 10;

#[derive(Debug)]
pub(crate) struct Chains {
    /// The first link stands for no message.
    links: Vec<Link>,
    messages: Vec<Arc<Published>>,
    /// The successors of chains by the messages that are being given to subscribers.
    successors: HashMap<Step, u32>,
    /// The one that was asked for last.
    last: (Step, u32),
}

/// From a chain by a message.
#[derive(Clone, Copy, Debug, Default, Eq, Hash, PartialEq)]
struct Step {
    chain: u32,
    message: u32,
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
            last: (Step::default(), NONE),
        }
    }

    /// Begins to give a message to subscribers; gives its number. Others may be `unfinished`.
    pub(super) fn begin(&mut self, message: Arc<Published>, unfinished: bool) -> u32 {
        if !unfinished {
            self.successors.clear();
        }
        self.messages.push(message);
        (self.messages.len() - 1) as u32
    }

    /// The message with a number.
    pub(super) fn message(&self, number: u32) -> &Published {
        &self.messages[number as usize]
    }

    /// The chain `chain` with the message of a number behind it.
    #[inline]
    pub(super) fn successor(&mut self, chain: u32, message: u32) -> u32 {
        let step = Step { chain, message };
        let (last, to) = self.last;
        if last == step && to != NONE {
            return to;
        }
        self.other_successor(step)
    }

    fn other_successor(&mut self, step: Step) -> u32 {
        let links = &mut self.links;
        let message = &self.messages[step.message as usize];
        let to = *self.successors.entry(step).or_insert_with(|| {
            let before = &links[step.chain as usize];
            let link = Link {
                before: step.chain,
                message: step.message,
                count: before.count + 1,
                frame_bytes: before.frame_bytes + message.frame().len(),
                payload_bytes: before.payload_bytes + message.payload().len() as u64,
                joined: [None, None],
            };
            links.push(link);
            (links.len() - 1) as u32
        });
        self.last = (step, to);
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
        self.successors.shrink_to(SUCCESSORS_KEPT);
        self.last = (Step::default(), NONE);
    }
}
