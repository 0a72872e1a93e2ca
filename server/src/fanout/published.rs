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
    window::{InFlight, Window},
};
use crate::{
    ConnectionId, Outgoing, SlowConsumer,
    topic::{TopicError, check_topic},
};

/// A published message, encoded once for all shards.
#[derive(Debug)]
pub(crate) struct Published {
    topic: Box<str>,
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

/// A valid topic to publish to.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Address<'t> {
    topic: &'t str,
    /// The hash of the topic's name.
    pub(super) key: u64,
}

/// Memory in bytes of a message without its frame and topic, including the overhead of an allocator for three
/// allocations.
const OVERHEAD: usize = size_of::<Published>() + 64;

impl SharedFanout {
    /// Checks a topic, and computes its hash.
    ///
    /// # Errors
    /// If `topic` is not a valid topic.
    pub(crate) fn address<'t>(&self, topic: &'t str) -> Result<Address<'t>, TopicError> {
        check_topic(topic)?;
        Ok(Address {
            topic,
            key: self.hasher.hash_one(topic),
        })
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
        let Address { topic, key } = address;
        let frame = encode_frame(opcode, payload);
        let bytes = OVERHEAD + frame.len() + topic.len();
        Arc::new(Published {
            key,
            frame,
            header_size: FrameHeader::new(opcode, None, payload.len() as u64).size(),
            opcode,
            compressed: OnceLock::new(),
            policy: self.policy(topic),
            except,
            topic: topic.into(),
            _in_flight: InFlight::new(window, bytes),
        })
    }
}

impl Published {
    /// Memory in bytes without the compressed form.
    pub(super) fn size(&self) -> usize {
        OVERHEAD + self.frame.len() + self.topic.len()
    }

    pub(super) fn topic(&self) -> &str {
        &self.topic
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
