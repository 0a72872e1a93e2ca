//! Messages that are dropped before they are sent.

use tidewheel_codec::Time;

use super::Queue;
use crate::outbox::{
    segment::{FrameSizes, Lane, Segment, Storage},
    stall::Stall,
};

impl Queue {
    /// Drops the oldest droppable segment, with all messages in it. Returns whether one was dropped.
    pub(crate) fn drop_oldest(&mut self) -> bool {
        let mut waiting = self.segments.range(self.first_unlent()..);
        let Some(at) = waiting.position(Segment::is_droppable) else {
            return false;
        };
        self.drop_at(self.first_unlent() + at);
        true
    }

    /// Drops the messages of [`Lane::Single`] with this key.
    pub(crate) fn drop_singles(&mut self, key: u64) {
        let mut at = self.first_unlent();
        while at < self.segments.len() {
            if self.segments[at].lane == Lane::Single(key) {
                self.drop_at(at);
            } else {
                at += 1;
            }
        }
    }

    /// Drops all messages that are neither lent nor partly sent.
    pub(crate) fn discard(&mut self) {
        self.split_first();
        let mut at = self.first_unlent();
        while at < self.segments.len() {
            if self.segments[at].lane == Lane::Control {
                at += 1;
            } else {
                self.drop_at(at);
            }
        }
    }

    fn drop_at(&mut self, at: usize) {
        let dropped = self.segments.remove(at).expect("the segment exists");
        self.unsent -= dropped.bytes().len();
        self.missed += dropped.frames();
        self.recycle(dropped);
    }

    /// Called when the socket has not taken everything. Splits the first segment behind the frame of which a
    /// part was sent, so that the other frames can be overtaken or dropped.
    pub(crate) fn stall(&mut self, now: Time) {
        self.stall.get_or_insert_with(|| Stall::new(now));
        self.split_first();
    }

    /// Splits the first segment behind the frame of which a part was sent.
    fn split_first(&mut self) {
        if self.taken == 0 || self.lent > 0 {
            return;
        }
        let Some(first) = self.segments.front_mut() else {
            return;
        };
        let lane = first.lane;
        if lane == Lane::Control {
            return;
        }
        first.lane = Lane::Kept;
        let mut end = 0;
        for size in FrameSizes(first.bytes()) {
            end += size;
            if end >= self.taken {
                break;
            }
        }
        let rest = match &mut first.storage {
            Storage::Owned(bytes) if end < bytes.len() => Storage::Owned(bytes.split_off(end)),
            Storage::Shared { bytes, allocation } if end < bytes.len() => Storage::Shared {
                bytes: bytes.split_off(end),
                allocation: *allocation,
            },
            Storage::Owned(_) | Storage::Shared { .. } | Storage::Received(_) => return,
        };
        let storage = rest;
        self.segments.insert(1, Segment { storage, lane });
        if end == self.taken {
            // The short send ended between two frames.
            self.segments.pop_front();
            self.taken = 0;
        }
    }
}
