//! A published message.

use std::{
    hash::BuildHasher,
    sync::{Arc, OnceLock},
};

use bytes::Bytes;
use tidewheel_codec::{
    Endpoint,
    frame::{FrameHeader, Opcode, encode_frame},
};

use super::{
    SharedFanout,
    topics::Destination,
    window::{InFlight, Window},
};
use crate::{
    ConnectionId, Outgoing, SlowConsumer, Topic,
    topic::{TopicError, TopicRef, check_topic},
};

/// A published message, encoded once for all shards.
#[derive(Debug)]
pub(crate) struct Published {
    topic: MessageTopic,
    /// The hash of the topic's name.
    pub(super) key: u64,
    frame: Bytes,
    header_size: usize,
    opcode: Opcode,
    /// The compressed frame, from its first use on any shard.
    compressed: OnceLock<Bytes>,
    /// The policy of the topic's rule, if there is one.
    pub(crate) policy: Option<SlowConsumer>,
    /// The connection that does not receive the message.
    except: Option<ConnectionId>,
    /// Its bytes in its publisher's window.
    _in_flight: InFlight,
}

/// The topic of a published message.
#[derive(Debug)]
enum MessageTopic {
    Name(Box<str>),
    Handle(Topic),
}

/// A valid topic to publish to.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Address<'t> {
    /// A name, and its hash.
    Name(&'t str, u64),
    /// A handle of this server.
    Handle(&'t Topic),
}

impl Address<'_> {
    /// The hash of the topic's name.
    pub(super) fn key(self) -> u64 {
        match self {
            Self::Name(_, key) => key,
            Self::Handle(topic) => topic.key(),
        }
    }
}

/// Memory in bytes of a message without its frame and topic, including the overhead of an allocator for three
/// allocations.
const OVERHEAD: usize = size_of::<Published>() + 64;

impl SharedFanout {
    /// Checks a name, and computes its hash. A handle of this server has been checked and hashed.
    ///
    /// # Errors
    /// If `topic` is not a valid topic.
    pub(crate) fn address<'t>(&self, topic: TopicRef<'t>) -> Result<Address<'t>, TopicError> {
        let name = match topic {
            TopicRef::Handle(topic) if topic.server() == self.server => {
                return Ok(Address::Handle(topic));
            }
            TopicRef::Handle(topic) => topic.name(),
            TopicRef::Name(name) => {
                check_topic(name)?;
                name
            }
        };
        Ok(Address::Name(name, self.hasher.hash_one(name)))
    }

    /// Makes the handle of a topic.
    ///
    /// # Errors
    /// If `name` is not a valid topic.
    pub(crate) fn topic(&self, name: &str) -> Result<Topic, TopicError> {
        check_topic(name)?;
        let (key, policy) = (self.hasher.hash_one(name), self.policy(name));
        Ok(Topic::new(
            name,
            key,
            policy,
            self.server,
            self.inboxes.len(),
        ))
    }

    /// Encodes a message for the subscribers of a topic. It counts in `window` until it is dropped.
    pub(crate) fn message(
        &self,
        address: Address<'_>,
        message: &Outgoing<'_>,
        except: Option<ConnectionId>,
        window: &Arc<Window>,
    ) -> Arc<Published> {
        let (opcode, payload) = message.parts();
        let frame = encode_frame(opcode, payload);
        let (topic, policy) = match address {
            Address::Name(name, _) => (MessageTopic::Name(name.into()), self.policy(name)),
            Address::Handle(topic) => (MessageTopic::Handle(topic.clone()), topic.policy()),
        };
        let bytes = OVERHEAD + frame.len() + topic.size();
        Arc::new(Published {
            key: address.key(),
            frame,
            header_size: FrameHeader::new(opcode, None, payload.len() as u64).size(),
            opcode,
            compressed: OnceLock::new(),
            policy,
            except,
            topic,
            _in_flight: InFlight::new(window, bytes),
        })
    }
}

impl MessageTopic {
    /// Memory in bytes that belongs to the message.
    fn size(&self) -> usize {
        match self {
            Self::Name(name) => name.len(),
            Self::Handle(_) => 0,
        }
    }
}

impl Published {
    /// Memory in bytes without the compressed form.
    pub(super) fn size(&self) -> usize {
        OVERHEAD + self.frame.len() + self.topic.size()
    }

    /// The topic, for a search on a shard.
    pub(super) fn destination(&self, shard: u16) -> Destination<'_> {
        let (name, place) = match &self.topic {
            MessageTopic::Name(name) => (&**name, None),
            MessageTopic::Handle(topic) => (topic.name(), topic.place(shard)),
        };
        Destination {
            name,
            key: self.key,
            place,
        }
    }

    /// The key of the message. Messages with the same key replace each other under [`SlowConsumer::Conflate`].
    pub(crate) fn key(&self) -> u64 {
        self.key
    }

    /// The slot of a shard that does not receive the message.
    pub(super) fn except(&self, shard: u16) -> Option<u32> {
        self.except.filter(|id| id.shard == shard).map(|id| id.slot)
    }

    /// The message as one frame.
    pub(crate) fn frame(&self) -> &Bytes {
        &self.frame
    }

    /// The message as one compressed frame, or uncompressed if that is shorter.
    pub(crate) fn compressed(&self, endpoint: &mut Endpoint) -> Bytes {
        if let Some(frame) = self.compressed.get() {
            return frame.clone();
        }
        let frame = endpoint.encode_compressed(self.opcode, self.payload());
        // Two shards may compress it at the same time. Both frames are equivalent.
        let _ = self.compressed.set(frame.clone());
        frame
    }

    pub(crate) fn payload(&self) -> &[u8] {
        &self.frame[self.header_size..]
    }

    pub(crate) fn is_text(&self) -> bool {
        self.opcode == Opcode::Text
    }
}
