//! Times of the last acknowledgement.

use std::time::Duration;

/// The acknowledgements of a peer. Both times are lower bounds, and count to the last return of
/// [`Ring::enter`](super::Ring::enter).
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct AckProgress {
    /// Time since the peer last acknowledged bytes, or answered a probe of its closed window.
    pub acknowledged: Duration,
    /// Time since bytes were last sent to the peer.
    pub sent: Duration,
    /// Whether sent bytes are not acknowledged yet.
    pub is_awaited: bool,
    /// Whether the kernel has unsent bytes in its send buffer.
    pub has_more: bool,
    /// Bytes that the peer has acknowledged since the connection began.
    pub total: u64,
}

impl AckProgress {
    /// The time since the peer last took bytes.
    ///
    /// An acknowledgement means that the peer took bytes if bytes were outstanding: some still are, or
    /// were sent shortly before. If nothing was sent for a long time, the acknowledgement answers a
    /// window probe, and the time since the last send counts.
    #[must_use]
    pub fn idle(&self) -> Duration {
        match self.is_awaited {
            true => self.acknowledged,
            false => self.acknowledged.max(self.sent),
        }
    }
}
