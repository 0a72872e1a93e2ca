//! Returns memory to the system after a burst.

use std::{sync::atomic::Ordering, time::Duration};

use tidewheel_codec::Time;

use super::Shard;
use crate::{
    Handler,
    fanout::{BurstDetector, Load},
    ring::Ring,
};

/// The state of returning memory to the system.
pub(super) struct Memory {
    release: Option<fn()>,
    burst_detector: BurstDetector,
    /// Number of bursts after which memory was returned.
    bursts: u64,
}

impl Memory {
    pub(super) fn new(release: Option<fn()>, now: Time) -> Self {
        Self {
            release,
            burst_detector: BurstDetector::new(now),
            bursts: 0,
        }
    }

    /// Time until the burst detector has to be called, if a burst may end.
    pub(super) fn next_in(&self, now: Time) -> Option<Duration> {
        self.burst_detector.due().map(|time| time.since(now))
    }
}

impl<R: Ring, H: Handler> Shard<R, H> {
    /// Returns memory to the system after a burst on any shard: published messages are allocated on one shard,
    /// and freed on others.
    pub(super) fn release_memory(&mut self, now: Time) {
        let Some(release) = self.memory.release else {
            return;
        };
        let traffic = self.core.endpoint.traffic();
        let load = Load {
            is_behind: self.core.fanout.is_deferring(),
            bytes: traffic.received_bytes + traffic.sent_bytes,
            connections: self.connections.len(),
        };
        if self.memory.burst_detector.note(&load, now) {
            self.core.fanout.end_burst();
        }
        let bursts = self.core.fanout.shared.bursts.load(Ordering::Relaxed);
        if bursts != self.memory.bursts {
            self.memory.bursts = bursts;
            release();
        }
    }
}
