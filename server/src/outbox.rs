//! What a connection still has to send: bytes that the kernel may be reading.
//!
//! The invariant that makes lending memory to the kernel safe lives here. A [`Queue`] is boxed
//! and never moves. From [`Queue::lend`] until [`Queue::settle`] or [`Queue::settle_whole`] its first
//! `lent` segments are neither changed nor freed: new output goes into later segments, and the shard
//! drops a connection only when nothing of it is lent. The shard's ring is dropped before its queues.

mod limits;
mod parked;
mod pool;
mod segment;
mod stall;

use std::collections::VecDeque;

use bytes::Bytes;
use tidewheel_codec::Time;

#[cfg(test)]
pub(crate) use self::pool::POOLED_MEMORY_MAX;
pub(crate) use self::{
    limits::{LONG_QUEUE_SHARE, SendLimits},
    pool::QueuePool,
    segment::Lane,
    stall::{FAST_TIME, PROGRESS_TIME},
};
use self::{
    parked::Parked,
    segment::{Frames, Run, Segment},
    stall::Stall,
};
use crate::{
    CONNECTION_OVERHEAD,
    config::ALLOCATION_FACTOR,
    message::{Frame, Message},
    ring::Outbound,
};

/// Segments that one send takes at most; the next send takes the others.
const SEGMENTS_PER_SEND: usize = 16;

/// A pooled queue keeps a vector of at most so many bytes.
const POOLED_BYTES_MAX: usize = 64 * 1024;

/// And room for so many segments and pieces.
const POOLED_SEGMENTS_MAX: usize = 512;

const _: () = assert!(
    POOLED_BYTES_MAX + POOLED_SEGMENTS_MAX * (size_of::<Segment>() + size_of::<Vec<u8>>()) + 1024
        <= CONNECTION_OVERHEAD
);

/// Bytes from which on a segment gets no more: memory that grows by doubling is bounded by it.
const SEGMENT_FULL: usize = 64 * 1024;

/// Bytes from which on a batch of messages, which are dropped together, gets no others.
const BATCH_FULL: usize = 4096;

/// A message received in place is sent from the receive buffer itself from this length on; a
/// shorter one is cheaper to copy behind the other replies of the turn.
pub(crate) const IN_PLACE_MIN: usize = 4096;

/// Bytes to send, in order; control frames overtake messages.
#[derive(Default)]
pub(crate) struct Queue {
    segments: VecDeque<Segment>,
    /// Bytes of the first segment that the kernel has taken already.
    taken: usize,
    /// Bytes in all segments less `taken`.
    unsent: usize,
    /// How many of those the pool counts as waiting.
    weighed: usize,
    /// How many leading segments the kernel may be reading.
    lent: usize,
    /// Since the socket took less than it was given, until it has taken everything.
    stall: Option<Stall>,
    /// An empty vector, kept for the next segment.
    spare: Vec<u8>,
    /// Messages dropped since the peer last kept up.
    pub(crate) missed: u64,
    /// Bytes received while nothing more could be sent, to be looked at when it can.
    pub(crate) parked: Parked,
    /// What a send of several segments points to.
    vector: Option<Box<Vector>>,
}

/// The message header of a send of several segments (sendmsg(2)).
struct Vector {
    header: libc::msghdr,
    runs: [libc::iovec; SEGMENTS_PER_SEND],
}

impl Queue {
    /// Gives back memory that only a long queue needs.
    fn shrink(&mut self) {
        self.segments.shrink_to(POOLED_SEGMENTS_MAX);
        self.parked.shrink_to(POOLED_SEGMENTS_MAX);
    }

    /// Whether control frames wait that have not begun to leave.
    pub(crate) fn has_control(&self) -> bool {
        let waiting = self.segments.range(self.first_unlent()..);
        waiting.take(1).any(|it| it.lane == Lane::Control)
    }

    /// Bytes that are queued, those under way included.
    pub(crate) fn unsent(&self) -> usize {
        self.unsent
    }

    /// Bytes of memory that what is queued takes, more or less.
    #[inline]
    pub(crate) fn held(&self) -> usize {
        self.unsent + self.segments.len() * size_of::<Segment>()
    }

    /// Bytes of memory of what is queued. What is shared counts for each who sends it.
    pub(crate) fn allocation(&self) -> usize {
        let of_segments: usize = self.segments.iter().map(Segment::allocation).sum();
        size_of::<Self>()
            + of_segments
            + self.segments.capacity() * size_of::<Segment>()
            + self.spare.capacity()
            + self.vector.as_ref().map_or(0, |_| size_of::<Vector>())
    }

    /// Whether there is nothing to send and nothing lent.
    #[inline]
    pub(crate) fn is_empty(&self) -> bool {
        self.segments.is_empty()
    }

    /// Whether the peer has yet to take what it did not take at first.
    #[inline]
    pub(crate) fn is_stalled(&self) -> bool {
        self.stall.is_some()
    }

    /// Whether the peer [reads](Stall::is_read), or has taken everything.
    pub(crate) fn is_read(&mut self, now: Time) -> bool {
        let stall = self.stall.as_mut();
        stall.is_none_or(|stall| stall.is_read(now))
    }

    /// Whether the peer [reads fast](Stall::is_read_fast), or has taken everything.
    pub(crate) fn is_read_fast(&mut self, bytes: usize, now: Time) -> bool {
        let stall = self.stall.as_mut();
        stall.is_none_or(|stall| stall.is_read_fast(bytes, now))
    }

    /// Bytes that the kernel may be reading.
    #[inline]
    pub(crate) fn lent_bytes(&self) -> usize {
        let lent: usize = self
            .segments
            .range(..self.lent)
            .map(|segment| segment.bytes().len())
            .sum();
        lent - if self.lent > 0 { self.taken } else { 0 }
    }

    /// Whether the connection can do without a queue.
    #[inline]
    pub(crate) fn is_idle(&self) -> bool {
        self.segments.is_empty() && self.parked.is_empty() && self.missed == 0
    }

    /// Lets `write` append to the bytes to send, which it must not shorten.
    pub(crate) fn write<T>(&mut self, lane: Lane, write: impl FnOnce(&mut Vec<u8>) -> T) -> T {
        let joins = |last: &Segment| match &last.run {
            Run::Owned(bytes) => {
                let full = match lane {
                    Lane::Batch => BATCH_FULL,
                    Lane::Single(_) => 0,
                    Lane::Kept | Lane::Control => SEGMENT_FULL,
                };
                last.lane == lane && bytes.len() < full
            }
            Run::Shared { .. } | Run::Received(_) => false,
        };
        if self.segments.len() == self.lent || !self.segments.back().is_some_and(joins) {
            let run = Run::Owned(std::mem::take(&mut self.spare));
            self.segments.push_back(Segment { run, lane });
        }
        let Some(Run::Owned(out)) = self.segments.back_mut().map(|last| &mut last.run) else {
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

    /// Takes away the empty last segment, keeping its memory.
    fn drop_last(&mut self) {
        if let Some(Run::Owned(bytes)) = self.segments.pop_back().map(|last| last.run) {
            self.spare = bytes;
        }
    }

    /// Puts control frames in front of all messages, but for the frame that is under way, and
    /// behind the control frames before them.
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
            && let Run::Owned(out) = &mut self.segments[at - 1].run
        {
            return out.extend_from_slice(frames);
        }
        let run = Run::Owned(frames.to_vec());
        let lane = Lane::Control;
        self.segments.insert(at, Segment { run, lane });
    }

    /// Puts the last control frame, a Close, behind everything that waits. If the peer does not keep up it
    /// comes behind the frame that is under way, and the messages that wait are dropped.
    pub(crate) fn write_close(&mut self, close: &[u8]) {
        if self.is_stalled() {
            self.discard();
            return self.write_control(close);
        }
        self.write(Lane::Control, |out| out.extend_from_slice(close));
    }

    /// The first segment that is neither lent nor partly taken.
    fn first_unlent(&self) -> usize {
        self.lent.max(usize::from(self.taken > 0))
    }

    /// Appends a frame without copying it, which keeps `allocation` bytes of memory.
    pub(crate) fn push_shared(&mut self, lane: Lane, frame: Bytes, allocation: usize) {
        self.unsent += frame.len();
        let run = Run::Shared {
            bytes: frame,
            allocation,
        };
        self.segments.push_back(Segment { run, lane });
    }

    /// Appends the frame of a received message, without copying it where that is worth it: a short frame
    /// in a large allocation would keep much more memory than its own.
    #[inline]
    pub(crate) fn push_received(&mut self, lane: Lane, message: Message<'_>) {
        match message.into_frame(IN_PLACE_MIN) {
            Frame::Kept(kept) => {
                self.unsent += kept.len();
                let run = Run::Received(kept);
                self.segments.push_back(Segment { run, lane });
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

    /// Drops the oldest message that may be dropped, with those of its segment; says whether
    /// there was one.
    pub(crate) fn drop_oldest(&mut self) -> bool {
        let mut waiting = self.segments.range(self.first_unlent()..);
        let Some(at) = waiting.position(Segment::is_droppable) else {
            return false;
        };
        self.drop_at(self.first_unlent() + at);
        true
    }

    /// Drops the messages of this number.
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

    /// Drops everything but control frames and the rest of the frame that is under way: a Close
    /// is to follow, and its peer is too slow for what waits.
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
        let dropped = self.segments.remove(at).expect("just looked at");
        self.unsent -= dropped.bytes().len();
        self.missed += dropped.frames();
        self.retire(dropped);
    }

    /// The socket has not taken everything: what may be overtaken or dropped is parted from the
    /// frame that must go on.
    pub(crate) fn stall(&mut self, now: Time) {
        self.stall.get_or_insert_with(|| Stall::new(now));
        self.split_first();
    }

    /// Parts the frame that is partly taken from those behind it.
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
        for size in Frames(first.bytes()) {
            end += size;
            if end >= self.taken {
                break;
            }
        }
        let rest = match &mut first.run {
            Run::Owned(bytes) if end < bytes.len() => Run::Owned(bytes.split_off(end)),
            Run::Shared { bytes, allocation } if end < bytes.len() => Run::Shared {
                bytes: bytes.split_off(end),
                allocation: *allocation,
            },
            Run::Owned(_) | Run::Shared { .. } | Run::Received(_) => return,
        };
        self.segments.insert(1, Segment { run: rest, lane });
        if end == self.taken {
            // It was between two frames.
            self.segments.pop_front();
            self.taken = 0;
        }
    }

    /// Whether one send takes all that is queued.
    #[inline]
    pub(crate) fn fits_one_send(&self) -> bool {
        self.segments.len() <= SEGMENTS_PER_SEND
    }

    /// Lends the first segments to the kernel.
    ///
    /// The caller queues the send at once, and calls [`Queue::settle`] or [`Queue::settle_whole`] when it
    /// is over and not before.
    ///
    /// # Panics
    /// If there is nothing to send, or something is lent already.
    #[inline]
    pub(crate) fn lend(&mut self) -> Outbound {
        assert!(
            self.lent == 0 && !self.segments.is_empty(),
            "one send at a time, of something"
        );
        self.lent = self.segments.len().min(SEGMENTS_PER_SEND);
        if self.lent == 1 {
            let bytes = &self.segments[0].bytes()[self.taken..];
            // SAFETY: the segment stays as it is until `settle`, see the top of this file.
            unsafe { Outbound::bytes(bytes) }
        } else {
            self.lend_vector()
        }
    }

    fn lend_vector(&mut self) -> Outbound {
        let vector = self.vector.get_or_insert_with(|| {
            // SAFETY: a message header and a vector of runs are valid when all zero.
            unsafe { Box::new(std::mem::zeroed()) }
        });
        for (at, (segment, run)) in self.segments.iter().zip(&mut vector.runs).enumerate() {
            let bytes = &segment.bytes()[if at == 0 { self.taken } else { 0 }..];
            *run = libc::iovec {
                iov_base: bytes.as_ptr().cast_mut().cast(),
                iov_len: bytes.len(),
            };
        }
        vector.header.msg_iov = vector.runs.as_mut_ptr();
        vector.header.msg_iovlen = self.lent as _;
        // SAFETY: header, vector and segments stay as they are until `settle`, see above.
        unsafe { Outbound::message(&raw const vector.header) }
    }

    /// The send of what was lent is over, and took all of it.
    ///
    /// # Panics
    /// If nothing was lent.
    #[inline]
    pub(crate) fn settle_whole(&mut self) {
        assert!(self.lent > 0, "a send that was not begun is over");
        for _ in 0..std::mem::take(&mut self.lent) {
            self.retire_first();
        }
        self.end_stall_if_empty();
    }

    /// The send of what was lent is over, and took `sent` bytes.
    ///
    /// What remains of a receive buffer is copied, so that a slow reader holds none.
    ///
    /// # Panics
    /// If nothing was lent, or more was sent than that.
    pub(crate) fn settle(&mut self, sent: usize) {
        assert!(self.lent > 0, "a send that was not begun is over");
        let mut lent = std::mem::take(&mut self.lent);
        let mut rest = sent;
        while lent > 0 {
            let length = self.segments[0].bytes().len() - self.taken;
            if length > rest {
                break;
            }
            rest -= length;
            lent -= 1;
            self.retire_first();
        }
        if lent > 0 {
            self.taken += rest;
            self.unsent -= rest;
            self.copy_received();
        } else {
            assert!(rest == 0, "more was sent than was lent");
        }
        if let Some(stall) = &mut self.stall {
            stall.take(sent);
        }
        self.end_stall_if_empty();
    }

    #[inline]
    fn end_stall_if_empty(&mut self) {
        if self.segments.is_empty() {
            self.stall = None;
        }
    }

    /// Takes the first segment off, which the peer has whole.
    #[inline]
    fn retire_first(&mut self) {
        let done = self.segments.pop_front().expect("a lent segment is there");
        self.unsent -= done.bytes().len() - std::mem::take(&mut self.taken);
        self.retire(done);
    }

    #[inline]
    fn retire(&mut self, segment: Segment) {
        match segment.run {
            Run::Owned(mut bytes) => {
                if self.spare.capacity() == 0 && bytes.capacity() <= POOLED_BYTES_MAX {
                    bytes.clear();
                    self.spare = bytes;
                }
            }
            Run::Shared { .. } | Run::Received(_) => {}
        }
    }

    fn copy_received(&mut self) {
        for segment in &mut self.segments {
            if let Run::Received(bytes) = &segment.run {
                segment.run = Run::Owned(bytes.to_vec());
            }
        }
    }

    /// Forgets all that is queued; nothing may be lent.
    pub(crate) fn clear(&mut self) {
        assert!(self.lent == 0, "what the kernel reads is not freed");
        while let Some(segment) = self.segments.pop_front() {
            self.retire(segment);
        }
        self.taken = 0;
        self.unsent = 0;
        self.stall = None;
        self.missed = 0;
        self.parked = Parked::default();
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        message::{Arrived, Event},
        ring::BufferMemory,
    };

    fn lent_bytes(queue: &mut Queue) -> (Vec<u8>, bool) {
        let is_whole = queue.fits_one_send();
        let data = queue.lend();
        // SAFETY: lent just now.
        (unsafe { data.copy() }, is_whole)
    }

    #[test]
    fn writes_are_coalesced_and_taken_piece_by_piece() {
        let mut queue = Queue::default();
        queue.write(Lane::Batch, |out| out.extend_from_slice(b"hello "));
        queue.write(Lane::Batch, |out| out.extend_from_slice(b"world"));
        assert_eq!(lent_bytes(&mut queue), (b"hello world".to_vec(), true));
        queue.settle(4);
        assert_eq!(queue.unsent(), 7);
        assert_eq!(lent_bytes(&mut queue), (b"o world".to_vec(), true));
        queue.settle_whole();
        assert!(queue.is_empty() && queue.unsent() == 0);
    }

    #[test]
    fn output_goes_behind_what_is_lent() {
        let mut queue = Queue::default();
        queue.write(Lane::Batch, |out| out.extend_from_slice(b"one"));
        let (first, _) = lent_bytes(&mut queue);
        queue.write(Lane::Batch, |out| out.extend_from_slice(b"two"));
        queue.push_shared(Lane::Batch, Bytes::from_static(b"three"), 0);
        queue.write(Lane::Batch, |out| out.extend_from_slice(b"four"));
        assert_eq!(first, b"one");
        queue.settle(2);
        assert_eq!(lent_bytes(&mut queue), (b"etwothreefour".to_vec(), true));
        queue.settle(5);
        assert_eq!(lent_bytes(&mut queue), (b"hreefour".to_vec(), true));
        queue.settle(8);
        assert!(queue.is_empty() && queue.unsent() == 0);
    }

    #[test]
    fn an_empty_write_leaves_nothing() {
        let mut queue = Queue::default();
        queue.write(Lane::Batch, |_| ());
        assert!(queue.is_empty());
    }

    #[test]
    fn a_send_takes_a_bounded_number_of_segments() {
        let mut queue = Queue::default();
        for _ in 0..SEGMENTS_PER_SEND + 1 {
            queue.push_shared(Lane::Batch, Bytes::from_static(b"x"), 0);
        }
        assert_eq!(
            lent_bytes(&mut queue),
            (vec![b'x'; SEGMENTS_PER_SEND], false)
        );
        queue.settle_whole();
        assert_eq!(queue.unsent(), 1);
    }

    /// A receive buffer in which there are two binary messages of 4 KiB, the second of twos, as a queue
    /// that each has been sent to by the rule for it.
    fn two_messages(memory: &mut BufferMemory, lanes: [Lane; 2]) -> Queue {
        let mut connection = tidewheel_codec::Connection::new(Time::from_millis(0), 0);
        let config = tidewheel_codec::Config::new(tidewheel_codec::Role::Server);
        let mut endpoint = tidewheel_codec::Endpoint::new(config).unwrap();
        let mut frames = Vec::new();
        for byte in [1, 2] {
            frames.extend([0x82, 0xfe, 0x10, 0x00, 0, 0, 0, 0]);
            frames.extend([byte; 4096]);
        }
        let mut buffer = memory.take_for_test(frames.len() as u32);
        buffer.copy_from_slice(&frames);
        let mut queue = Queue::default();
        Arrived::in_buffer(buffer, |arrived| {
            let mut control = Vec::new();
            let mut frames = arrived.frames(&mut connection, 2, Time::from_millis(0));
            for lane in lanes {
                let event = frames.poll(&mut connection, &mut endpoint, &mut control);
                let Some(Event::Message(message)) = event else {
                    panic!("two messages are there")
                };
                queue.push_received(lane, message);
            }
        });
        queue
    }

    #[test]
    fn a_receive_buffer_is_free_when_its_last_frame_is_sent() {
        let mut memory = BufferMemory::new(1, 16 << 10).unwrap();
        let mut queue = two_messages(&mut memory, [Lane::Batch; 2]);
        assert_eq!((memory.free(), queue.unsent()), (0, 8200));
        let (bytes, _) = lent_bytes(&mut queue);
        assert_eq!(bytes[..5], [0x82, 0x7e, 0x10, 0x00, 1]);
        queue.settle(4100);
        assert_eq!(memory.free(), 1, "what remains was copied");
        let (bytes, _) = lent_bytes(&mut queue);
        assert_eq!(bytes[..5], [0x82, 0x7e, 0x10, 0x00, 2]);
        queue.settle_whole();
        assert!(queue.is_empty());
    }

    #[test]
    fn a_receive_buffer_is_free_when_its_frames_are_dropped_in_any_order() {
        for first in [0, 1] {
            let mut memory = BufferMemory::new(1, 16 << 10).unwrap();
            let mut queue = two_messages(&mut memory, [0, 1].map(Lane::Single));
            queue.drop_singles(first);
            assert_eq!(memory.free(), 0);
            queue.drop_singles(1 - first);
            assert_eq!(memory.free(), 1);
        }
    }
}
