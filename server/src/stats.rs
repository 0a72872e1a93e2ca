//! What a shard counts, for whoever asks from another thread.

use std::sync::atomic::{AtomicU64, Ordering};

use tidewheel_codec::Cause;

/// The name of each cause of an end, in the order in which they are counted.
pub(crate) const CAUSES: [&str; 12] = [
    "peer_close",
    "local_close",
    "ping_timeout",
    "idle_timeout",
    "eof_without_close",
    "reset",
    "protocol_error",
    "too_big",
    "slow_consumer",
    "close_timeout",
    "shutdown",
    "lifetime",
];

fn index(cause: Cause) -> usize {
    match cause {
        Cause::PeerClose => 0,
        Cause::LocalClose => 1,
        Cause::PingTimeout => 2,
        Cause::IdleTimeout => 3,
        Cause::EofWithoutClose => 4,
        Cause::Reset => 5,
        Cause::ProtocolError(_) => 6,
        Cause::TooBig => 7,
        Cause::SlowConsumer => 8,
        Cause::CloseTimeout => 9,
        Cause::Shutdown => 10,
        Cause::Lifetime => 11,
    }
}

/// A count that one thread writes and any may read.
#[derive(Debug, Default)]
pub(crate) struct Count(AtomicU64);

impl Count {
    /// The value.
    pub(crate) fn get(&self) -> u64 {
        self.0.load(Ordering::Relaxed)
    }

    /// Adds to it; only the owning shard does.
    pub(crate) fn add(&self, more: u64) {
        self.set(self.get() + more);
    }

    /// Sets it; only the owning shard does.
    pub(crate) fn set(&self, value: u64) {
        self.0.store(value, Ordering::Relaxed);
    }
}

/// The counts of one shard.
#[derive(Debug, Default)]
pub(crate) struct Stats {
    /// Connections that hold a descriptor, in whatever state.
    pub(crate) connections: Count,
    /// Connections accepted.
    pub(crate) accepts: Count,
    /// Opening handshakes that were completed.
    pub(crate) opens: Count,
    /// Requests that were refused.
    pub(crate) rejections: Count,
    /// Connections ended because no request was complete in time.
    pub(crate) handshake_timeouts: Count,
    /// Connections reset because a deadline had passed.
    pub(crate) deadline_resets: Count,
    /// Receives that found no free buffer.
    pub(crate) starvations: Count,
    closes: [Count; CAUSES.len()],
}

impl Stats {
    /// Counts an end.
    pub(crate) fn closed(&self, cause: Cause) {
        self.closes[index(cause)].add(1);
    }

    /// How many connections ended for each of [`CAUSES`].
    pub(crate) fn closes(&self) -> impl Iterator<Item = (&'static str, u64)> {
        CAUSES.into_iter().zip(self.closes.iter().map(Count::get))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_and_places_agree() {
        for cause in [
            Cause::PeerClose,
            Cause::PingTimeout,
            Cause::TooBig,
            Cause::Lifetime,
        ] {
            assert_eq!(CAUSES[index(cause)], cause.as_str());
        }
    }
}
