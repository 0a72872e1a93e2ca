//! The conversion of received bytes to messages and control frames.
//!
//! A frame that lies completely in one receive buffer is handled there. If a buffer ends in the middle of a
//! header, a control frame or a message, the state is kept in a [`Partial`]. An idle connection has none.

use bytes::BytesMut;

use crate::violation::Violation;

mod buffer;
mod in_place;
mod item;
mod partial;
mod pool;
mod rules;

use in_place::poll_in_place;
use partial::{Partial, Progress};

pub(crate) use in_place::poll_common;
pub(crate) use item::Item;
pub(crate) use pool::Pool;
pub(crate) use rules::Rules;

/// The receiving half of one connection.
#[derive(Debug, Default)]
pub(crate) struct Receiver {
    /// `None` while the connection is between two messages and between two frames.
    partial: Option<Box<Partial>>,
}

impl Receiver {
    /// Returns whether the next byte starts a frame and no message is arriving.
    #[inline]
    pub(crate) const fn is_idle(&self) -> bool {
        self.partial.is_none()
    }

    /// Returns the bytes on the heap.
    pub(crate) fn size(&self) -> usize {
        self.partial.as_ref().map_or(0, |partial| partial.size())
    }

    /// Returns the bytes that are missing of the current data frame.
    #[inline]
    pub(crate) fn to_come(&self) -> u64 {
        self.partial.as_ref().map_or(0, |partial| partial.to_come())
    }

    /// Returns whether bytes were received into the lent buffer and are not read yet.
    pub(crate) fn is_unread(&self) -> bool {
        self.partial
            .as_ref()
            .is_some_and(|partial| partial.is_unread())
    }

    /// Lends the free end of the buffer of the message that is arriving.
    pub(crate) fn lend(&mut self) -> Option<BytesMut> {
        self.partial.as_mut()?.lend()
    }

    /// Takes the lent buffer back with the bytes that were received into it.
    pub(crate) fn take_back(&mut self, received: BytesMut) {
        if let Some(partial) = &mut self.partial {
            partial.take_back(received);
        }
    }

    /// Returns the next item, and removes the bytes that were read from `bytes`. Returns `None` if more
    /// bytes are needed, or if all `frames` are read, which are at least 1 at first.
    pub(crate) fn poll<'b>(
        &mut self,
        rules: Rules<'_>,
        pool: &mut Pool,
        bytes: &mut &'b mut [u8],
        frames: &mut u32,
    ) -> Result<Option<Item<'b>>, Violation> {
        if self.partial.is_none() {
            if bytes.is_empty() {
                return Ok(None);
            }
            if let Some(item) = poll_in_place(rules, bytes)? {
                *frames -= 1;
                return Ok(Some(item));
            }
            self.partial = Some(pool.take());
        }
        self.poll_partial(rules, pool, bytes, frames)
    }

    /// Drops the current message and all later ones, because our Close is sent.
    pub(crate) fn discard_messages(&mut self, pool: &mut Pool) {
        self.partial
            .get_or_insert_with(|| pool.take())
            .discard_messages();
    }

    /// Returns the memory to the pool. Nothing more is received.
    pub(crate) fn release(&mut self, pool: &mut Pool) {
        if let Some(partial) = self.partial.take() {
            pool.put(partial);
        }
    }

    fn poll_partial<'b>(
        &mut self,
        rules: Rules<'_>,
        pool: &mut Pool,
        bytes: &mut &'b mut [u8],
        frames: &mut u32,
    ) -> Result<Option<Item<'b>>, Violation> {
        let Some(partial) = &mut self.partial else {
            return Ok(None);
        };
        loop {
            match partial.poll(rules, bytes)? {
                Progress::NeedMore => return Ok(None),
                Progress::Header => {}
                Progress::Frame => {
                    *frames -= 1;
                    if *frames == 0 {
                        return Ok(None);
                    }
                }
                Progress::Item(item) => {
                    *frames -= 1;
                    if partial.is_idle() {
                        self.release(pool);
                    }
                    return Ok(Some(item));
                }
            }
        }
    }
}
