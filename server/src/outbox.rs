//! What a connection still has to send: bytes that the kernel may be reading.
//!
//! The invariant that makes lending memory to the kernel safe lives here. A [`Queue`] is boxed
//! and never moves. From [`Queue::lend`] until [`Queue::settle`] its first `lent` segments are
//! neither changed nor freed: new output goes into later segments, and the shard drops a
//! connection only when nothing of it is lent. The shard's ring is dropped before its queues.

mod parked;
mod pool;
mod segment;

use std::{collections::VecDeque, time::Duration};

use bytes::Bytes;
use tidewheel_codec::Time;

#[cfg(test)]
pub(crate) use self::pool::POOLED_MEMORY_MAX;
use self::{
    parked::Parked,
    segment::{Frames, Run, Segment},
};
pub(crate) use self::{pool::QueuePool, segment::Lane};
use crate::{
    CONNECTION_OVERHEAD,
    ring::{Buffer, Outbound},
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

/// Memory of what waits is at most so many times its bytes: vectors grow by doubling.
pub(crate) const ALLOCATION_FACTOR: usize = 2;

/// A peer that takes so little in such a time does not read.
pub(crate) const PROGRESS_TIME: Duration = Duration::from_secs(2);
const PROGRESS_BYTES_MIN: usize = 4 << 10;

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
    /// The socket took less than it was given, and has not taken everything since.
    stalled: bool,
    /// Since when it is looked at whether the peer reads, and how many bytes it has taken since.
    progress: Option<(Time, usize)>,
    /// An empty vector, kept for the next segment.
    spare: Vec<u8>,
    /// Messages dropped since the peer last kept up.
    pub(crate) missed: u64,
    /// Bytes received while nothing more could be sent, to be looked at when it can.
    pub(crate) parked: Parked,
    /// Receive buffers of messages that were dropped, to be given back.
    orphans: Vec<Buffer>,
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
    pub(crate) fn is_empty(&self) -> bool {
        self.segments.is_empty()
    }

    /// Whether the peer has yet to take what it did not take at first.
    pub(crate) fn is_stalled(&self) -> bool {
        self.stalled
    }

    /// Whether the peer of a stalled queue reads: it takes a little in each [`PROGRESS_TIME`]. Until one
    /// has passed, it does.
    pub(crate) fn is_read(&mut self, now: Time) -> bool {
        let (since, taken) = *self.progress.get_or_insert((now, 0));
        if now.since(since) < PROGRESS_TIME {
            return true;
        }
        self.progress = Some((now, 0));
        taken >= PROGRESS_BYTES_MIN
    }

    /// Bytes that the kernel may be reading.
    pub(crate) fn lent_bytes(&self) -> usize {
        let lent: usize = self
            .segments
            .range(..self.lent)
            .map(|segment| segment.bytes().len())
            .sum();
        lent - if self.lent > 0 { self.taken } else { 0 }
    }

    /// Whether the connection can do without a queue.
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
            Run::Shared { .. } | Run::Received { .. } => false,
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

    /// Appends a frame that lies in the receive buffer `received`, without copying it. Whoever
    /// calls this attaches that buffer before the next [`Queue::lend`].
    ///
    /// Returns whether the frame does lie there; if not, nothing is appended.
    pub(crate) fn push_received(
        &mut self,
        lane: Lane,
        frame: &mut [u8],
        received: &std::ops::Range<*const u8>,
    ) -> bool {
        let within = frame.as_ptr_range();
        if within.start < received.start || within.end > received.end {
            return false;
        }
        self.unsent += frame.len();
        let run = Run::Received {
            bytes: frame,
            buffer: None,
        };
        self.segments.push_back(Segment { run, lane });
        true
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
    /// is to follow, and who gets it has no use for what waits.
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
        let mut orphans = std::mem::take(&mut self.orphans);
        self.retire(dropped, &mut |buffer| orphans.push(buffer));
        self.orphans = orphans;
    }

    /// The socket has not taken everything: what may be overtaken or dropped is parted from the
    /// frame that must go on.
    pub(crate) fn stall(&mut self, now: Time) {
        self.stalled = true;
        self.progress.get_or_insert((now, 0));
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
            Run::Owned(_) | Run::Shared { .. } | Run::Received { .. } => return,
        };
        self.segments.insert(1, Segment { run: rest, lane });
        if end == self.taken {
            // It was between two frames.
            self.segments.pop_front();
            self.taken = 0;
        }
    }

    /// Gives the queue the receive buffer that its newest received segments lie in, or gives it
    /// back if there are none.
    pub(crate) fn attach(&mut self, received: Buffer) -> Option<Buffer> {
        for segment in self.segments.iter_mut().rev() {
            if let Run::Received { bytes, buffer } = &mut segment.run {
                let owned =
                    buffer.is_none() && received.as_ptr_range().contains(&bytes.cast::<u8>());
                if owned {
                    *buffer = Some(received);
                    return None;
                }
                break;
            }
        }
        Some(received)
    }

    /// Lends the first segments to the kernel; `whole` tells whether those are all.
    ///
    /// The caller queues the send at once, and calls [`Queue::settle`] when it is over and not
    /// before.
    ///
    /// # Panics
    /// If there is nothing to send, or something is lent already.
    pub(crate) fn lend(&mut self) -> Lent {
        assert!(
            self.lent == 0 && !self.segments.is_empty(),
            "one send at a time, of something"
        );
        self.lent = self.segments.len().min(SEGMENTS_PER_SEND);
        let whole = self.lent == self.segments.len();
        let data = if self.lent == 1 {
            let bytes = &self.segments[0].bytes()[self.taken..];
            // SAFETY: the segment stays as it is until `settle`, see the top of this file.
            unsafe { Outbound::bytes(bytes) }
        } else {
            self.lend_vector()
        };
        Lent { data, whole }
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

    /// The send of what was lent is over, and took `sent` bytes; `None` means all of them.
    ///
    /// What remains of a receive buffer is copied, so that a slow reader holds none.
    ///
    /// # Panics
    /// If nothing was lent, or more was sent than that.
    pub(crate) fn settle(&mut self, sent: Option<usize>, mut release: impl FnMut(Buffer)) {
        assert!(self.lent > 0, "a send that was not begun is over");
        let mut lent = std::mem::take(&mut self.lent);
        let mut rest = sent.unwrap_or(usize::MAX);
        while lent > 0 {
            let length = self.segments[0].bytes().len() - self.taken;
            if length > rest {
                break;
            }
            if sent.is_some() {
                rest -= length;
            }
            self.unsent -= length;
            self.taken = 0;
            lent -= 1;
            let done = self.segments.pop_front().expect("a lent segment is there");
            self.retire(done, &mut release);
        }
        match sent {
            Some(_) if lent > 0 => {
                self.taken += rest;
                self.unsent -= rest;
                self.copy_received(&mut release);
            }
            Some(_) => assert!(rest == 0, "more was sent than was lent"),
            None => {}
        }
        if let (Some((_, taken)), Some(sent)) = (&mut self.progress, sent) {
            *taken += sent;
        }
        self.orphans.drain(..).for_each(&mut release);
        if self.segments.is_empty() {
            self.stalled = false;
            self.progress = None;
        }
    }

    fn retire(&mut self, segment: Segment, release: &mut impl FnMut(Buffer)) {
        match segment.run {
            Run::Owned(mut bytes) => {
                if self.spare.capacity() == 0 && bytes.capacity() <= POOLED_BYTES_MAX {
                    bytes.clear();
                    self.spare = bytes;
                }
            }
            Run::Shared { .. } => {}
            Run::Received { buffer, .. } => {
                if let Some(buffer) = buffer {
                    release(buffer);
                }
            }
        }
    }

    fn copy_received(&mut self, release: &mut impl FnMut(Buffer)) {
        for segment in &mut self.segments {
            if matches!(segment.run, Run::Received { .. }) {
                let copy = Run::Owned(segment.bytes().to_vec());
                if let Run::Received {
                    buffer: Some(buffer),
                    ..
                } = std::mem::replace(&mut segment.run, copy)
                {
                    release(buffer);
                }
            }
        }
    }

    /// Forgets all that is queued; nothing may be lent.
    pub(crate) fn clear(&mut self, mut release: impl FnMut(Buffer)) {
        assert!(self.lent == 0, "what the kernel reads is not freed");
        while let Some(segment) = self.segments.pop_front() {
            self.retire(segment, &mut release);
        }
        self.orphans.drain(..).for_each(release);
        self.taken = 0;
        self.unsent = 0;
        self.stalled = false;
        self.progress = None;
        self.missed = 0;
        self.parked = Parked::default();
    }
}

/// What [`Queue::lend`] lends.
pub(crate) struct Lent {
    /// What to send.
    pub(crate) data: Outbound,
    /// Whether nothing else is queued.
    pub(crate) whole: bool,
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ring::BufferMemory;

    fn lent_bytes(queue: &mut Queue) -> (Vec<u8>, bool) {
        let Lent { data, whole } = queue.lend();
        let bytes = match data {
            // SAFETY: lent just now.
            Outbound::Bytes { start, length } => unsafe {
                std::slice::from_raw_parts(start, length as usize).to_vec()
            },
            // SAFETY: lent just now.
            Outbound::Message(header) => unsafe {
                let runs = std::slice::from_raw_parts((*header).msg_iov, (*header).msg_iovlen);
                runs.iter()
                    .flat_map(|run| {
                        std::slice::from_raw_parts(run.iov_base.cast::<u8>(), run.iov_len)
                    })
                    .copied()
                    .collect()
            },
        };
        (bytes, whole)
    }

    fn none(_: Buffer) {
        panic!("no buffer was attached");
    }

    #[test]
    fn writes_are_coalesced_and_taken_piece_by_piece() {
        let mut queue = Queue::default();
        queue.write(Lane::Batch, |out| out.extend_from_slice(b"hello "));
        queue.write(Lane::Batch, |out| out.extend_from_slice(b"world"));
        assert_eq!(lent_bytes(&mut queue), (b"hello world".to_vec(), true));
        queue.settle(Some(4), none);
        assert_eq!(queue.unsent(), 7);
        assert_eq!(lent_bytes(&mut queue), (b"o world".to_vec(), true));
        queue.settle(None, none);
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
        queue.settle(Some(2), none);
        assert_eq!(lent_bytes(&mut queue), (b"etwothreefour".to_vec(), true));
        queue.settle(Some(5), none);
        assert_eq!(lent_bytes(&mut queue), (b"hreefour".to_vec(), true));
        queue.settle(Some(8), none);
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
        queue.settle(None, none);
        assert_eq!(queue.unsent(), 1);
    }

    #[test]
    fn a_receive_buffer_is_released_when_its_last_frame_is_sent() {
        let mut memory = BufferMemory::new(2, 4096).unwrap();
        let mut buffer = memory.take_for_test(0, 8);
        buffer.copy_from_slice(b"abcdefgh");
        let range = buffer.as_ptr_range();
        let mut queue = Queue::default();
        let (front, back) = buffer.split_at_mut(4);
        assert!(queue.push_received(Lane::Batch, front, &range));
        assert!(queue.push_received(Lane::Batch, back, &range));
        assert!(!queue.push_received(Lane::Batch, &mut [0; 3], &range));
        assert!(queue.attach(buffer).is_none());
        let mut released = 0;
        assert_eq!(lent_bytes(&mut queue).0, b"abcdefgh");
        queue.settle(Some(4), |_| released += 1);
        assert_eq!(
            (released, queue.unsent()),
            (1, 4),
            "what remains was copied"
        );
        assert_eq!(lent_bytes(&mut queue).0, b"efgh");
        queue.settle(None, none);
        assert!(queue.is_empty());
    }

    #[test]
    fn a_buffer_that_nothing_lies_in_comes_back() {
        let mut memory = BufferMemory::new(2, 4096).unwrap();
        let buffer = memory.take_for_test(0, 8);
        let mut queue = Queue::default();
        queue.write(Lane::Batch, |out| out.push(1));
        assert!(queue.attach(buffer).is_some());
    }
}
