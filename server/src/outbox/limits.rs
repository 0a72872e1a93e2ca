//! The limits of a send queue.

use crate::SlowConsumer;

/// A queue of [`Config::max_send_queue`](crate::Config::max_send_queue) divided by this is long.
pub(crate) const LONG_QUEUE_SHARE: usize = 16;

/// The limit of a send queue, and the policy above it.
#[derive(Clone, Copy, Debug)]
pub(crate) struct SendLimits {
    pub(crate) bytes_max: usize,
    pub(crate) policy: SlowConsumer,
}

impl SendLimits {
    /// Size in bytes of the queue from which the connection is not read. The other half is for messages that
    /// the application sends on its own initiative.
    pub(crate) fn pause_at(&self) -> usize {
        (self.bytes_max / 2).max(1)
    }
}
