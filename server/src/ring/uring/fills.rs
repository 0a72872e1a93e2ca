//! Buffers that the kernel receives into, one for each receive.

use std::collections::HashMap;

use bytes::BytesMut;
use io_uring::{opcode, squeue};

use super::fixed;
use crate::ring::{Socket, Token};

/// The buffers of all receives under way, and of those that have completed until they are taken.
///
/// That the kernel may write to them is safe because nobody else has them: their memory neither moves
/// nor is freed while they are here, and they are here until the completion has been taken. The ring
/// cancels everything before this is dropped.
#[derive(Debug, Default)]
pub(super) struct Fills {
    buffers: HashMap<Token, Fill>,
}

#[derive(Debug)]
struct Fill {
    buffer: BytesMut,
    limit: usize,
    is_under_way: bool,
}

impl Fills {
    /// Keeps the buffer, and gives the entry that receives into it.
    pub(super) fn begin(
        &mut self,
        socket: Socket,
        mut buffer: BytesMut,
        limit: usize,
        token: Token,
    ) -> squeue::Entry {
        let room = buffer.spare_capacity_mut();
        assert!((1..=room.len()).contains(&limit), "room for {limit} bytes");
        let start = room.as_mut_ptr().cast();
        let length = u32::try_from(limit).unwrap_or(u32::MAX);
        // The kernel may be writing to that one.
        assert!(!self.buffers.contains_key(&token), "one receive at a time");
        let fill = Fill {
            buffer,
            limit,
            is_under_way: true,
        };
        self.buffers.insert(token, fill);
        opcode::Recv::new(fixed(socket), start, length)
            .build()
            .user_data(token.bits())
    }

    /// Notes that a receive has completed.
    pub(super) fn end(&mut self, token: Token, result: i32) {
        let fill = self.buffers.get_mut(&token).expect("it was begun");
        fill.is_under_way = false;
        let received = usize::try_from(result).unwrap_or(0);
        assert!(received <= fill.limit, "{received} bytes of {}", fill.limit);
        let length = fill.buffer.len() + received;
        // SAFETY: the kernel has just written `received` bytes behind what the buffer held, for which
        // there was room.
        unsafe { fill.buffer.set_len(length) };
    }

    /// The buffer of a receive that has completed.
    pub(super) fn take(&mut self, token: Token) -> BytesMut {
        let fill = self
            .buffers
            .remove(&token)
            .expect("a receive has completed");
        assert!(!fill.is_under_way, "the kernel may be writing to it");
        fill.buffer
    }
}
