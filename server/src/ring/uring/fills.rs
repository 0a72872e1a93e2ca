//! Receives into buffers of the caller.

use std::collections::{HashMap, HashSet};

use bytes::BytesMut;
use io_uring::{opcode, squeue, types};

use super::{
    entries::{fixed, set_option},
    user_data,
};
use crate::ring::{OpCode, Socket, Token};

/// Maximum number of bytes to wait for. The cost of a wake-up does not depend on the size; but waiting for
/// more would occupy kernel memory, and evict the bytes from the processor's cache before they are copied.
const COALESCE_BYTES_MAX: usize = 512 * 1024;

/// Maximum time to wait: 100 ms.
static COALESCE_TIMEOUT: types::Timespec = types::Timespec::new().nsec(100_000_000);

/// The default of `SO_RCVLOWAT` (socket(7)): one byte completes a receive.
static THRESHOLD_DEFAULT: libc::c_int = 1;

/// `IORING_RECVSEND_POLL_FIRST`: waits for the threshold before the first attempt (io_uring_prep_recv(3)).
const POLL_FIRST: u16 = 1;

/// The buffers of all [`Op::Fill`](crate::ring::Op::Fill) operations, from the start of each until its buffer
/// is taken.
///
/// The kernel may write to the buffers because they have no other owner: their memory neither moves nor is
/// freed before the completion has been reaped. The ring cancels all operations before this value is
/// dropped.
#[derive(Debug)]
pub(super) struct Fills {
    buffers: HashMap<Token, Fill>,
    /// Whether the ring can set socket options, so also `SO_RCVLOWAT` (Linux 6.7).
    sets_options: bool,
    /// The sockets whose `SO_RCVLOWAT` is not the default.
    with_threshold: HashSet<Socket>,
}

#[derive(Debug)]
struct Fill {
    buffer: BytesMut,
    limit: usize,
    is_under_way: bool,
}

/// The entries of a fill, in order.
#[derive(Debug)]
pub(super) struct Entries {
    /// Sets `SO_RCVLOWAT`.
    pub(super) threshold: Option<squeue::Entry>,
    pub(super) receive: squeue::Entry,
    /// Cancels the receive, which is linked to it.
    pub(super) timeout: Option<squeue::Entry>,
}

impl Fills {
    pub(super) fn new(sets_options: bool) -> Self {
        Self {
            buffers: HashMap::new(),
            sets_options,
            with_threshold: HashSet::new(),
        }
    }

    /// Stores the buffer, and returns the entries that receive into it.
    ///
    /// # Panics
    /// If the buffer has no room for `limit` bytes, `limit` is 0, or the token is in use.
    pub(super) fn begin(
        &mut self,
        socket: Socket,
        mut buffer: BytesMut,
        limit: usize,
        coalesce: bool,
        token: Token,
    ) -> Entries {
        let room = buffer.spare_capacity_mut();
        assert!(
            (1..=room.len()).contains(&limit),
            "limit is {limit} bytes; the buffer has room for {}",
            room.len()
        );
        let start = room.as_mut_ptr();
        // Replacing an entry would free a buffer that the kernel may be writing to.
        assert!(
            !self.buffers.contains_key(&token),
            "a second Fill with {token:?}"
        );
        let fill = Fill {
            buffer,
            limit,
            is_under_way: true,
        };
        self.buffers.insert(token, fill);
        let length = u32::try_from(limit).unwrap_or(u32::MAX);
        let receive = opcode::Recv::new(fixed(socket), start.cast(), length);
        let user_data = user_data::of(OpCode::Fill, token);
        let threshold = limit.min(COALESCE_BYTES_MAX) as libc::c_int;
        if !coalesce || !self.sets_options || limit < size_of_val(&threshold) {
            return Entries {
                threshold: self.reset_threshold(socket, token),
                receive: receive.build().user_data(user_data),
                timeout: None,
            };
        }
        self.with_threshold.insert(socket);
        // The value lies in the room to receive into: the kernel reads it on submission, before it receives.
        let value = start.cast::<libc::c_int>();
        // SAFETY: the room has at least the size of the value, and the kernel does not have the buffer before
        // the submission.
        unsafe { value.write_unaligned(threshold) };
        let receive = receive.ioprio(POLL_FIRST).build();
        let timeout = opcode::LinkTimeout::new(&raw const COALESCE_TIMEOUT).build();
        Entries {
            threshold: Some(set_threshold(socket, value, token)),
            receive: receive.user_data(user_data).flags(squeue::Flags::IO_LINK),
            timeout: Some(silent(timeout, token)),
        }
    }

    /// Returns the entry that restores the default of `SO_RCVLOWAT`, if the socket has another value.
    pub(super) fn reset_threshold(
        &mut self,
        socket: Socket,
        token: Token,
    ) -> Option<squeue::Entry> {
        self.forget_threshold(socket)
            .then(|| set_threshold(socket, &raw const THRESHOLD_DEFAULT, token))
    }

    /// Removes a socket from those with a threshold; returns whether it had one.
    pub(super) fn forget_threshold(&mut self, socket: Socket) -> bool {
        !self.with_threshold.is_empty() && self.with_threshold.remove(&socket)
    }

    /// Appends the received bytes to the buffer of a receive that has completed.
    pub(super) fn end(&mut self, token: Token, result: i32) {
        let fill = self
            .buffers
            .get_mut(&token)
            .expect("begin stored the buffer");
        fill.is_under_way = false;
        let received = usize::try_from(result).unwrap_or(0);
        assert!(
            received <= fill.limit,
            "received {received} bytes; limit is {}",
            fill.limit
        );
        let length = fill.buffer.len() + received;
        // SAFETY: the kernel has just written `received` bytes behind the contents of the buffer, and `begin`
        // checked that there is room for `limit` bytes.
        unsafe { fill.buffer.set_len(length) };
    }

    /// Returns the buffer of a receive that has completed.
    ///
    /// # Panics
    /// If there is none.
    pub(super) fn take(&mut self, token: Token) -> BytesMut {
        let fill = self
            .buffers
            .remove(&token)
            .expect("take follows the completion of a Fill");
        assert!(!fill.is_under_way, "the kernel may be writing to it");
        fill.buffer
    }
}

/// Sets `SO_RCVLOWAT`.
fn set_threshold(socket: Socket, threshold: *const libc::c_int, token: Token) -> squeue::Entry {
    let option = set_option(socket, libc::SOL_SOCKET, libc::SO_RCVLOWAT, threshold);
    silent(option, token)
}

/// Makes an entry complete only if it fails, and then as a kind of operation that callers ignore.
fn silent(entry: squeue::Entry, token: Token) -> squeue::Entry {
    entry
        .user_data(user_data::of(OpCode::Cancel, token))
        .flags(squeue::Flags::SKIP_SUCCESS)
}
