//! Lends the first segments of a queue to the kernel.
//!
//! The invariant: a [`Queue`] is boxed and never moves. From [`Queue::lend`] until [`Queue::settle`] or
//! [`Queue::settle_whole`], its first `lent` segments and its vector are neither changed nor freed. New frames
//! go into later segments. The shard frees a connection only when nothing of its queue is lent, and drops its
//! ring before its queues.

use super::Queue;
use crate::{
    outbox::{
        segment::Storage,
        send_vector::{SEGMENTS_PER_SEND, SendVector},
    },
    ring::Outbound,
};

impl Queue {
    /// Returns whether one send takes everything that is queued.
    #[inline]
    pub(crate) fn fits_one_send(&self) -> bool {
        self.segments.len() <= SEGMENTS_PER_SEND
    }

    /// Bytes of the current send.
    #[inline]
    pub(crate) fn lent_bytes(&self) -> usize {
        let lent: usize = self
            .segments
            .range(..self.lent)
            .map(|segment| segment.bytes().len())
            .sum();
        lent - if self.lent > 0 { self.taken } else { 0 }
    }

    /// Lends the first segments to the kernel.
    ///
    /// The caller submits the send at once, and calls [`Queue::settle`] or [`Queue::settle_whole`] when the
    /// send has ended, and not before.
    ///
    /// # Panics
    /// If the queue is empty, or segments are lent already.
    #[inline]
    pub(crate) fn lend(&mut self) -> Outbound {
        assert!(
            self.lent == 0 && !self.segments.is_empty(),
            "a queue that is not empty lends to one send at a time"
        );
        self.lent = self.segments.len().min(SEGMENTS_PER_SEND);
        if self.lent == 1 {
            let bytes = &self.segments[0].bytes()[self.taken..];
            // SAFETY: the segment stays as it is until `settle`: see the invariant at the top of this file.
            unsafe { Outbound::bytes(bytes) }
        } else {
            self.lend_vector()
        }
    }

    fn lend_vector(&mut self) -> Outbound {
        let vector = self.vector.get_or_insert_with(SendVector::new);
        let taken = self.taken;
        let segments = self.segments.range(..self.lent).enumerate();
        let ranges = segments.map(|(at, segment)| match at {
            0 => &segment.bytes()[taken..],
            _ => segment.bytes(),
        });
        // SAFETY: vector and segments stay as they are until `settle`: see the invariant at the top of this
        // file.
        unsafe { vector.lend(ranges) }
    }

    /// Ends a send that took everything that was lent.
    ///
    /// # Panics
    /// If nothing was lent.
    #[inline]
    pub(crate) fn settle_whole(&mut self) {
        assert!(self.lent > 0, "only a lent segment can be settled");
        for _ in 0..std::mem::take(&mut self.lent) {
            self.pop_sent();
        }
        self.end_stall_if_empty();
    }

    /// Ends a send that took `sent` bytes.
    ///
    /// Copies the rest of a frame that lies in a receive buffer, so that a slow peer holds no receive buffer.
    ///
    /// # Panics
    /// If nothing was lent, or fewer than `sent` bytes were lent.
    pub(crate) fn settle(&mut self, sent: usize) {
        assert!(self.lent > 0, "only a lent segment can be settled");
        let mut lent = std::mem::take(&mut self.lent);
        let mut rest = sent;
        while lent > 0 {
            let length = self.segments[0].bytes().len() - self.taken;
            if length > rest {
                break;
            }
            rest -= length;
            lent -= 1;
            self.pop_sent();
        }
        if lent > 0 {
            self.taken += rest;
            self.unsent -= rest;
            self.copy_received();
        } else {
            assert!(rest == 0, "a send takes no more than was lent");
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

    /// Removes the first segment, which was sent as a whole.
    #[inline]
    fn pop_sent(&mut self) {
        let sent = self.segments.pop_front().expect("a lent segment exists");
        self.unsent -= sent.bytes().len() - std::mem::take(&mut self.taken);
        self.recycle(sent);
    }

    fn copy_received(&mut self) {
        for segment in &mut self.segments {
            if let Storage::Received(bytes) = &segment.storage {
                segment.storage = Storage::Owned(bytes.to_vec());
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;
    use tidewheel_codec::Time;

    use super::*;
    use crate::{
        message::{Arrived, Event},
        outbox::segment::Lane,
        ring::BufferMemory,
    };

    /// Lends, and returns the lent bytes, and whether they are everything that is queued.
    fn lend(queue: &mut Queue) -> (Vec<u8>, bool) {
        let is_whole = queue.fits_one_send();
        let data = queue.lend();
        // SAFETY: the bytes were lent just now, and the queue has not changed since.
        (unsafe { data.copy() }, is_whole)
    }

    #[test]
    fn writes_are_joined_in_one_segment_and_sent_in_parts() {
        let mut queue = Queue::default();
        queue.write(Lane::Batch, |out| out.extend_from_slice(b"hello "));
        queue.write(Lane::Batch, |out| out.extend_from_slice(b"world"));
        assert_eq!(lend(&mut queue), (b"hello world".to_vec(), true));
        queue.settle(4);
        assert_eq!(queue.unsent(), 7);
        assert_eq!(lend(&mut queue), (b"o world".to_vec(), true));
        queue.settle_whole();
        assert!(queue.is_empty() && queue.unsent() == 0);
    }

    #[test]
    fn frames_are_appended_behind_lent_segments() {
        let mut queue = Queue::default();
        queue.write(Lane::Batch, |out| out.extend_from_slice(b"one"));
        let (first, _) = lend(&mut queue);
        queue.write(Lane::Batch, |out| out.extend_from_slice(b"two"));
        queue.push_shared(Lane::Batch, Bytes::from_static(b"three"), 0);
        queue.write(Lane::Batch, |out| out.extend_from_slice(b"four"));
        assert_eq!(first, b"one");
        queue.settle(2);
        assert_eq!(lend(&mut queue), (b"etwothreefour".to_vec(), true));
        queue.settle(5);
        assert_eq!(lend(&mut queue), (b"hreefour".to_vec(), true));
        queue.settle(8);
        assert!(queue.is_empty() && queue.unsent() == 0);
    }

    #[test]
    fn a_send_takes_a_bounded_number_of_segments() {
        let mut queue = Queue::default();
        for _ in 0..SEGMENTS_PER_SEND + 1 {
            queue.push_shared(Lane::Batch, Bytes::from_static(b"x"), 0);
        }
        assert_eq!(lend(&mut queue), (vec![b'x'; SEGMENTS_PER_SEND], false));
        queue.settle_whole();
        assert_eq!(queue.unsent(), 1);
    }

    /// A queue with two binary messages of 4 KiB that lie in one receive buffer, each in its lane.
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
                    panic!("the buffer has two messages")
                };
                queue.push_received(lane, message);
            }
        });
        queue
    }

    #[test]
    fn a_receive_buffer_is_free_when_its_last_frame_is_sent_or_copied() {
        let mut memory = BufferMemory::new(1, 16 << 10).unwrap();
        let mut queue = two_messages(&mut memory, [Lane::Batch; 2]);
        assert_eq!((memory.free(), queue.unsent()), (0, 8200));
        let (bytes, _) = lend(&mut queue);
        assert_eq!(bytes[..5], [0x82, 0x7e, 0x10, 0x00, 1]);
        queue.settle(4100);
        assert_eq!(memory.free(), 1, "a short send copies the rest");
        let (bytes, _) = lend(&mut queue);
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
