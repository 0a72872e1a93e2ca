//! The sends of all connections of a shard.

use crate::{
    Config,
    outbox::{LONG_QUEUE_SHARE, QueuePool, SendLimits},
};

/// State of the sends of all connections.
pub(in crate::shard) struct Sends {
    pub(in crate::shard) pool: QueuePool,
    pub(in crate::shard) limits: SendLimits,
    /// Slots with bytes or a FIN to send at the end of the turn.
    pub(in crate::shard) dirty: Vec<u32>,
    /// Slots with a silent send in flight.
    pub(in crate::shard) silent: Vec<u32>,
    /// Slots whose send has completed in this turn.
    pub(in crate::shard) settled: Vec<(u32, Settled)>,
    /// Control frames that the protocol has written since they were last queued.
    pub(in crate::shard) control: Vec<u8>,
}

/// The result of a completed send.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(in crate::shard) enum Settled {
    /// The queue is empty.
    Whole,
    /// More is queued.
    Part,
    /// The TCP connection has ended.
    Failed,
}

impl Sends {
    pub(in crate::shard) fn new(config: &Config) -> Self {
        Self {
            pool: QueuePool::new(config.max_send_queue / LONG_QUEUE_SHARE),
            limits: SendLimits {
                bytes_max: config.max_send_queue,
                policy: config.slow_consumer,
            },
            dirty: Vec::new(),
            silent: Vec::new(),
            settled: Vec::new(),
            control: Vec::new(),
        }
    }

    /// Returns whether a connection has bytes or a FIN to send.
    pub(in crate::shard) fn is_dirty(&self) -> bool {
        !self.dirty.is_empty()
    }
}
