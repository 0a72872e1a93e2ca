//! A message on its way to the subscribers of a topic.

use std::{hash::BuildHasher, sync::OnceLock};

use bytes::Bytes;
use tidewheel_codec::{
    Endpoint,
    frame::{FrameHeader, Opcode, encode_frame},
};

use super::{Fabric, TopicError, topic};
use crate::{ConnectionId, Outgoing, SlowConsumer};

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
}

impl Published {
    pub(super) fn new(
        fabric: &Fabric,
        topic: &str,
        message: &Outgoing<'_>,
        except: Option<ConnectionId>,
    ) -> Result<Self, TopicError> {
        topic::check_topic(topic)?;
        let (opcode, payload) = message.parts();
        Ok(Self {
            key: fabric.hasher.hash_one(topic),
            frame: encode_frame(opcode, payload),
            header_size: FrameHeader::new(opcode, None, payload.len() as u64).size(),
            opcode,
            compressed: OnceLock::new(),
            policy: fabric.policy(topic),
            except,
            topic: topic.into(),
        })
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
