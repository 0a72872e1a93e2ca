//! Memory that a burst has needed goes back to the system after it.

use std::{sync::atomic::Ordering, time::Duration};

use tidewheel_codec::Time;

use super::Shard;
use crate::{
    Handler,
    fanout::{BurstDetector, Load},
    ring::Ring,
};

/// When memory was given back, and when it will be.
pub(super) struct Memory {
    release: Option<fn()>,
    burst_detector: BurstDetector,
    /// Bursts after which memory was given back.
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

    /// How long until it is to be looked at again, if it is.
    pub(super) fn next_in(&self, now: Time) -> Option<Duration> {
        self.burst_detector.due().map(|time| time.since(now))
    }
}

impl<R: Ring, H: Handler> Shard<R, H> {
    /// Gives back what a burst has needed, here or on another shard: messages that are published are made
    /// on one, and freed on others.
    pub(super) fn release_memory(&mut self, now: Time) {
        let Some(release) = self.memory.release else {
            return;
        };
        let traffic = self.core.endpoint.traffic();
        let load = Load {
            is_behind: self.core.fanout.defers(),
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
