//! A message on its way to the subscribers of a topic.

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
    budget::{InFlight, Window},
};
use crate::{
    ConnectionId, Outgoing, SlowConsumer,
    topic::{TopicError, check_topic},
};

/// One message, encoded once for all shards.
#[derive(Debug)]
pub(crate) struct Published {
    topic: Box<str>,
    /// The hash of the topic's name.
    pub(super) key: u64,
    frame: Bytes,
    header_size: usize,
    opcode: Opcode,
    /// The same, compressed by the first shard that needed it.
    compressed: OnceLock<Bytes>,
    /// What happens to slow readers of this topic, if that is its own rule.
    pub(crate) policy: Option<SlowConsumer>,
    /// Who does not get it.
    except: Option<ConnectionId>,
    /// Its part of its publisher's window.
    _in_flight: InFlight,
}

/// A topic that a message is published to.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Address<'t> {
    topic: &'t str,
    /// The hash of the topic's name.
    pub(super) key: u64,
}

/// Bytes of memory of a message beside its frame and its topic: itself, the counts of its `Arc`, and
/// what allocators add to three allocations.
const OVERHEAD: usize = size_of::<Published>() + 64;

impl SharedFanout {
    /// The address of a topic.
    ///
    /// # Errors
    /// If there is no such topic.
    pub(crate) fn address<'t>(&self, topic: &'t str) -> Result<Address<'t>, TopicError> {
        check_topic(topic)?;
        Ok(Address {
            topic,
            key: self.hasher.hash_one(topic),
        })
    }

    /// A message for the subscribers of a topic, which counts as under way in `window`.
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
    /// Bytes of memory without the compressed form.
    pub(super) fn size(&self) -> usize {
        OVERHEAD + self.frame.len() + self.topic.len()
    }

    pub(super) fn topic(&self) -> &str {
        &self.topic
    }

    /// What messages that replace each other have in common.
    pub(crate) fn key(&self) -> u64 {
        self.key
    }

    /// The slot on a shard that does not get it.
    pub(super) fn except(&self, shard: u16) -> Option<u32> {
        self.except.filter(|id| id.shard == shard).map(|id| id.slot)
    }

    /// The message as one frame.
    pub(crate) fn frame(&self) -> &Bytes {
        &self.frame
    }

    /// The message as one compressed frame, if it is the shorter for it.
    pub(crate) fn compressed(&self, endpoint: &mut Endpoint) -> Bytes {
        if let Some(frame) = self.compressed.get() {
            return frame.clone();
        }
        let frame = endpoint.encode_compressed(self.opcode, self.payload());
        // Two shards may be the first; either's frame is as good.
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
