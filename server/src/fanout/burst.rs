//! Detects the end of a burst, after which memory is returned to the system.

use std::time::Duration;

use tidewheel_codec::Time;

/// Detects the end of a burst: a time of little traffic after a time of much traffic.
#[derive(Debug)]
pub(crate) struct BurstDetector {
    was_busy: bool,
    /// Begin of the current interval, and the bytes of all messages until then.
    began: Time,
    bytes: u64,
    /// The largest number of connections since memory was last returned.
    connections_max: usize,
}

/// The load of a shard at the end of a turn.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Load {
    /// Whether messages wait for the delivery of earlier ones.
    pub(crate) is_behind: bool,
    /// Payload bytes of all messages so far, in both directions.
    pub(crate) bytes: u64,
    pub(crate) connections: usize,
}

/// Length of an interval, bytes of messages in it from which it is busy, and up to which it is calm.
const INTERVAL: Duration = Duration::from_millis(250);
const BUSY_BYTES_MIN: u64 = 4 << 20;
const CALM_BYTES_MAX: u64 = 1 << 20;

/// Connections that have ended from which an interval is busy.
const ENDED_CONNECTIONS_MIN: usize = 64;

impl BurstDetector {
    pub(crate) fn new(now: Time) -> Self {
        Self {
            was_busy: false,
            began: now,
            bytes: 0,
            connections_max: 0,
        }
    }

    /// Notes the load at the end of a turn. Returns whether memory is to be returned to the system now.
    pub(crate) fn note(&mut self, load: &Load, now: Time) -> bool {
        let moved = load.bytes.saturating_sub(self.bytes);
        self.connections_max = self.connections_max.max(load.connections);
        let have_ended = load.connections + ENDED_CONNECTIONS_MIN <= self.connections_max;
        self.was_busy |= load.is_behind || moved >= BUSY_BYTES_MIN || have_ended;
        if now.since(self.began) < INTERVAL {
            return false;
        }
        self.began = now;
        self.bytes = load.bytes;
        let is_over = self.was_busy && !load.is_behind && moved <= CALM_BYTES_MAX;
        if is_over {
            self.was_busy = false;
            self.connections_max = load.connections;
        }
        is_over
    }

    /// Time of the next note at the latest, if memory may be returned then.
    pub(crate) fn due(&self) -> Option<Time> {
        self.was_busy.then_some(self.began + INTERVAL)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn memory_is_returned_once_when_an_interval_is_calm_after_a_busy_one() {
        let load = |is_behind, bytes, connections| Load {
            is_behind,
            bytes,
            connections,
        };
        for busy in [
            load(true, 0, 100),
            load(false, BUSY_BYTES_MIN, 100),
            load(false, 0, 100 - ENDED_CONNECTIONS_MIN),
        ] {
            let at = Time::from_millis;
            let mut burst_detector = BurstDetector::new(at(0));
            assert!(!burst_detector.note(&load(false, 0, 100), at(300)));
            assert_eq!(burst_detector.due(), None, "no interval was busy");
            assert!(!burst_detector.note(&busy, at(310)), "{busy:?}");
            let calm = Load {
                is_behind: false,
                ..busy
            };
            let mut now = 310;
            let mut released = 0;
            while let Some(due) = burst_detector.due() {
                now = due.as_millis().max(now + 1);
                released += usize::from(burst_detector.note(&calm, at(now)));
                assert!(now < 1500, "the burst ends: {busy:?}");
            }
            assert_eq!(released, 1, "{busy:?}");
        }
    }
}
