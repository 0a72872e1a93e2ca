//! The send queue of one connection.
//!
//! `lend.rs` has the invariant that makes it safe to lend segments to the kernel, and `discard.rs` has the
//! messages that may be dropped.

mod discard;
#[allow(unsafe_code)]
mod lend;

use std::collections::VecDeque;

use bytes::Bytes;
use tidewheel_codec::Time;

use super::{
    segment::{Lane, Segment, Storage},
    send_vector::SendVector,
    stall::Stall,
    unread_bytes::UnreadBytes,
};
use crate::{
    CONNECTION_OVERHEAD,
    config::ALLOCATION_FACTOR,
    message::{Frame, Message},
};

/// Capacity in bytes of the spare vector that a pooled queue keeps, at most.
const POOLED_BYTES_MAX: usize = 64 * 1024;

/// Segments, and pieces of unread bytes, for which a pooled queue keeps memory, at most.
const POOLED_SEGMENTS_MAX: usize = 512;

const _: () = assert!(
    POOLED_BYTES_MAX + POOLED_SEGMENTS_MAX * (size_of::<Segment>() + size_of::<Vec<u8>>()) + 1024
        <= CONNECTION_OVERHEAD
);

/// Size in bytes from which a segment is not extended. It bounds a vector that grows by doubling.
const FULL_SEGMENT_BYTES: usize = 64 * 1024;

/// Size in bytes from which a batch of messages, which are dropped together, is not extended.
const FULL_BATCH_BYTES: usize = 4096;

/// Size in bytes from which a received message is sent from its receive buffer. Copying a shorter one behind
/// the other messages of the turn takes less time.
const IN_PLACE_MIN: usize = 4096;

/// Frames to send, in order. Control frames overtake messages.
#[derive(Default)]
pub(crate) struct Queue {
    segments: VecDeque<Segment>,
    /// Bytes of the first segment that the kernel has taken already.
    taken: usize,
    /// Bytes in all segments, less `taken`.
    unsent: usize,
    /// Bytes that the pool counts for this queue.
    counted: usize,
    /// Number of leading segments that the kernel may be reading.
    lent: usize,
    /// The peer's reading speed, from a short send until the socket has taken everything.
    stall: Option<Stall>,
    /// An empty vector for the next segment.
    spare: Vec<u8>,
    /// Messages dropped since the peer last kept up.
    pub(crate) missed: u64,
    /// Bytes received while nothing more could be sent. They are read when the queue has space.
    pub(crate) unread: UnreadBytes,
    /// The message header of a send of several segments.
    vector: Option<Box<SendVector>>,
}

impl Queue {
    /// Frees memory that only a long queue needs.
    pub(super) fn shrink(&mut self) {
        self.segments.shrink_to(POOLED_SEGMENTS_MAX);
        self.unread.shrink_to(POOLED_SEGMENTS_MAX);
    }

    /// Capacity in bytes of the spare vector.
    pub(super) fn spare_bytes(&self) -> usize {
        self.spare.capacity()
    }

    /// Frees the spare vector.
    pub(super) fn drop_spare(&mut self) {
        self.spare = Vec::new();
    }

    /// Bytes that the pool counts for this queue.
    pub(super) fn counted(&self) -> usize {
        self.counted
    }

    /// Sets the bytes that the pool counts for this queue.
    pub(super) fn set_counted(&mut self, bytes: usize) {
        self.counted = bytes;
    }

    /// Returns whether a control frame is queued of which no byte is lent or sent.
    pub(crate) fn has_control(&self) -> bool {
        let waiting = self.segments.range(self.first_unlent()..);
        waiting.take(1).any(|it| it.lane == Lane::Control)
    }

    /// Bytes that are queued, including those of the current send.
    pub(crate) fn unsent(&self) -> usize {
        self.unsent
    }

    /// Approximate memory in bytes of the queued frames.
    #[inline]
    pub(crate) fn held(&self) -> usize {
        self.unsent + self.segments.len() * size_of::<Segment>()
    }

    /// Memory in bytes of the queue. A shared frame counts in each queue that holds it.
    pub(crate) fn allocation(&self) -> usize {
        let of_segments: usize = self.segments.iter().map(Segment::allocation).sum();
        size_of::<Self>()
            + of_segments
            + self.segments.capacity() * size_of::<Segment>()
            + self.spare.capacity()
            + self.vector.as_ref().map_or(0, |_| size_of::<SendVector>())
    }

    /// Returns whether nothing is queued, and nothing is lent.
    #[inline]
    pub(crate) fn is_empty(&self) -> bool {
        self.segments.is_empty()
    }

    /// Returns whether a send was short, and the peer has not taken everything since.
    #[inline]
    pub(crate) fn is_stalled(&self) -> bool {
        self.stall.is_some()
    }

    /// Returns whether the peer [reads](Stall::is_read), or has taken everything.
    pub(crate) fn is_read(&mut self, now: Time) -> bool {
        let stall = self.stall.as_mut();
        stall.is_none_or(|stall| stall.is_read(now))
    }

    /// Returns whether the peer [reads fast](Stall::is_read_fast), or has taken everything.
    pub(crate) fn is_read_fast(&mut self, bytes: usize, now: Time) -> bool {
        let stall = self.stall.as_mut();
        stall.is_none_or(|stall| stall.is_read_fast(bytes, now))
    }

    /// Returns whether the queue holds nothing, so that the pool can take it back.
    #[inline]
    pub(crate) fn is_idle(&self) -> bool {
        self.segments.is_empty() && self.unread.is_empty() && self.missed == 0
    }

    /// Calls `write` with a vector to which it may append frames. It must not shorten the vector.
    pub(crate) fn write<T>(&mut self, lane: Lane, write: impl FnOnce(&mut Vec<u8>) -> T) -> T {
        let can_extend = |last: &Segment| match &last.storage {
            Storage::Owned(bytes) => {
                let full = match lane {
                    Lane::Batch => FULL_BATCH_BYTES,
                    Lane::Single(_) => 0,
                    Lane::Kept | Lane::Control => FULL_SEGMENT_BYTES,
                };
                last.lane == lane && bytes.len() < full
            }
            Storage::Shared { .. } | Storage::Received(_) => false,
        };
        if self.segments.len() == self.lent || !self.segments.back().is_some_and(can_extend) {
            let storage = Storage::Owned(std::mem::take(&mut self.spare));
            self.segments.push_back(Segment { storage, lane });
        }
        let Some(Storage::Owned(out)) = self.segments.back_mut().map(|last| &mut last.storage)
        else {
            unreachable!()
        };
        let before = out.len();
        let result = write(out);
        self.unsent += out.len() - before;
        if out.is_empty() {
            self.drop_last();
        }
        result
    }

    /// Removes the empty last segment, and keeps its memory.
    fn drop_last(&mut self) {
        if let Some(Storage::Owned(bytes)) = self.segments.pop_back().map(|last| last.storage) {
            self.spare = bytes;
        }
    }

    /// Inserts control frames behind the queued control frames and in front of all messages, except the frame
    /// of which a part was sent.
    pub(crate) fn write_control(&mut self, frames: &[u8]) {
        let mut at = self.first_unlent();
        while self
            .segments
            .get(at)
            .is_some_and(|it| it.lane == Lane::Control)
        {
            at += 1;
        }
        self.unsent += frames.len();
        if at > self.first_unlent()
            && let Storage::Owned(out) = &mut self.segments[at - 1].storage
        {
            return out.extend_from_slice(frames);
        }
        let storage = Storage::Owned(frames.to_vec());
        let lane = Lane::Control;
        self.segments.insert(at, Segment { storage, lane });
    }

    /// Appends a Close frame, the last frame of the connection. If the queue is stalled, drops the queued
    /// messages first, except the frame of which a part was sent.
    pub(crate) fn write_close(&mut self, close: &[u8]) {
        if self.is_stalled() {
            self.discard();
            return self.write_control(close);
        }
        self.write(Lane::Control, |out| out.extend_from_slice(close));
    }

    /// The index of the first segment that is neither lent nor partly taken.
    fn first_unlent(&self) -> usize {
        self.lent.max(usize::from(self.taken > 0))
    }

    /// Appends a frame without copying it. The frame keeps `allocation` bytes of memory alive.
    pub(crate) fn push_shared(&mut self, lane: Lane, frame: Bytes, allocation: usize) {
        self.unsent += frame.len();
        let storage = Storage::Shared {
            bytes: frame,
            allocation,
        };
        self.segments.push_back(Segment { storage, lane });
    }

    /// Appends the frame of a received message. A long frame is not copied, unless it would keep an
    /// allocation of more than [`ALLOCATION_FACTOR`] times its size.
    #[inline]
    pub(crate) fn push_received(&mut self, lane: Lane, message: Message<'_>) {
        match message.into_frame(IN_PLACE_MIN) {
            Frame::Kept(kept) => {
                self.unsent += kept.len();
                let storage = Storage::Received(kept);
                self.segments.push_back(Segment { storage, lane });
            }
            Frame::Assembled(frame, allocation)
                if frame.len() >= IN_PLACE_MIN && allocation <= ALLOCATION_FACTOR * frame.len() =>
            {
                self.push_shared(lane, frame, allocation);
            }
            Frame::Assembled(frame, _) => self.write(lane, |out| out.extend_from_slice(&frame)),
            Frame::Borrowed(frame) => self.write(lane, |out| out.extend_from_slice(frame)),
        }
    }

    /// Reuses the memory of a removed segment, if the queue has no spare vector.
    #[inline]
    fn recycle(&mut self, segment: Segment) {
        match segment.storage {
            Storage::Owned(mut bytes) => {
                if self.spare.capacity() == 0 && bytes.capacity() <= POOLED_BYTES_MAX {
                    bytes.clear();
                    self.spare = bytes;
                }
            }
            Storage::Shared { .. } | Storage::Received(_) => {}
        }
    }

    /// Empties the queue.
    ///
    /// # Panics
    /// If a segment is lent.
    pub(crate) fn clear(&mut self) {
        assert!(self.lent == 0, "a lent segment must not be freed");
        while let Some(segment) = self.segments.pop_front() {
            self.recycle(segment);
        }
        self.taken = 0;
        self.unsent = 0;
        self.stall = None;
        self.missed = 0;
        self.unread = UnreadBytes::default();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_empty_write_adds_no_segment() {
        let mut queue = Queue::default();
        queue.write(Lane::Batch, |_| ());
        assert!(queue.is_empty());
    }
}
