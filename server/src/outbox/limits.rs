//! The limits of a send queue.

use crate::SlowConsumer;

/// A queue is long from this part of [`Config::max_send_queue`] on: a 16th.
pub(crate) const LONG_QUEUE_SHARE: usize = 16;

/// The limit of a send queue, and the policy beyond it.
#[derive(Clone, Copy, Debug)]
pub(crate) struct SendLimits {
    pub(crate) bytes_max: usize,
    pub(crate) policy: SlowConsumer,
}

impl SendLimits {
    /// With so many bytes to send, nothing more is read: the other half is for what the
    /// application sends of its own accord.
    pub(crate) fn pause_at(&self) -> usize {
        (self.bytes_max / 2).max(1)
    }
}
