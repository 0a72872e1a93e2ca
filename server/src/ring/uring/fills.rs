//! Buffers that the kernel receives into, one for each receive.

use std::collections::{HashMap, HashSet};

use bytes::BytesMut;
use io_uring::{opcode, squeue, types};

use super::{
    entries::{fixed, set_option},
    user_data,
};
use crate::ring::{OpCode, Socket, Token};

/// What is waited for at most: a wake-up costs as much for a little as for this. But until it is copied
/// it is the kernel's memory, and leaves the processor's cache.
const GATHER_BYTES_MAX: usize = 512 * 1024;

/// How long it is waited for.
static GATHER_TIMEOUT: types::Timespec = types::Timespec::new().nsec(100_000_000);

/// How much wakes a receive, unless the socket is told otherwise (socket(7), `SO_RCVLOWAT`).
static ANYTHING: libc::c_int = 1;

/// Receives when it is woken, not at once (io_uring_prep_recv(3), `IORING_RECVSEND_POLL_FIRST`).
const POLL_FIRST: u16 = 1;

/// The buffers of all receives under way, and of those that have completed until they are taken.
///
/// That the kernel may write to them is safe because nobody else has them: their memory neither moves
/// nor is freed while they are here, and they are here until the completion has been taken. The ring
/// cancels everything before this is dropped.
#[derive(Debug)]
pub(super) struct Fills {
    buffers: HashMap<Token, Fill>,
    /// Whether a socket can be told how much is to wake it: since Linux 6.7.
    gathers: bool,
    /// The sockets that were told.
    told: HashSet<Socket>,
}

#[derive(Debug)]
struct Fill {
    buffer: BytesMut,
    limit: usize,
    is_under_way: bool,
}

/// Entries to be submitted in this order.
#[derive(Debug)]
pub(super) struct Entries {
    /// Tells the socket how much is to wake it.
    pub(super) threshold: Option<squeue::Entry>,
    pub(super) receive: squeue::Entry,
    /// Ends the receive, which is linked to it.
    pub(super) timeout: Option<squeue::Entry>,
}

impl Fills {
    pub(super) fn new(gathers: bool) -> Self {
        Self {
            buffers: HashMap::new(),
            gathers,
            told: HashSet::new(),
        }
    }

    /// Keeps the buffer, and gives the entries that receive into it.
    pub(super) fn begin(
        &mut self,
        socket: Socket,
        mut buffer: BytesMut,
        limit: usize,
        gather: bool,
        token: Token,
    ) -> Entries {
        let room = buffer.spare_capacity_mut();
        assert!((1..=room.len()).contains(&limit), "room for {limit} bytes");
        let start = room.as_mut_ptr();
        // The kernel may be writing to that one.
        assert!(!self.buffers.contains_key(&token), "one receive at a time");
        let fill = Fill {
            buffer,
            limit,
            is_under_way: true,
        };
        self.buffers.insert(token, fill);
        let length = u32::try_from(limit).unwrap_or(u32::MAX);
        let receive = opcode::Recv::new(fixed(socket), start.cast(), length);
        let user_data = user_data::of(OpCode::Fill, token);
        let threshold = limit.min(GATHER_BYTES_MAX) as libc::c_int;
        if !gather || !self.gathers || limit < size_of_val(&threshold) {
            return Entries {
                threshold: self.expect_anything(socket, token),
                receive: receive.build().user_data(user_data),
                timeout: None,
            };
        }
        self.told.insert(socket);
        // The kernel reads it before it receives anything there.
        let value = start.cast::<libc::c_int>();
        // SAFETY: there is room for it, and the buffer is ours until it is submitted.
        unsafe { value.write_unaligned(threshold) };
        let receive = receive.ioprio(POLL_FIRST).build();
        let timeout = opcode::LinkTimeout::new(&raw const GATHER_TIMEOUT).build();
        Entries {
            threshold: Some(tell(socket, value, token)),
            receive: receive.user_data(user_data).flags(squeue::Flags::IO_LINK),
            timeout: Some(silent(timeout, token)),
        }
    }

    /// What makes anything wake the socket, if that is not so.
    pub(super) fn expect_anything(
        &mut self,
        socket: Socket,
        token: Token,
    ) -> Option<squeue::Entry> {
        self.forget(socket)
            .then(|| tell(socket, &raw const ANYTHING, token))
    }

    /// Forgets what the socket was told; says whether it was.
    pub(super) fn forget(&mut self, socket: Socket) -> bool {
        !self.told.is_empty() && self.told.remove(&socket)
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

fn tell(socket: Socket, threshold: *const libc::c_int, token: Token) -> squeue::Entry {
    let option = set_option(socket, libc::SOL_SOCKET, libc::SO_RCVLOWAT, threshold);
    silent(option, token)
}

/// Completes unseen, or as something that nobody waits for.
fn silent(entry: squeue::Entry, token: Token) -> squeue::Entry {
    entry
        .user_data(user_data::of(OpCode::Cancel, token))
        .flags(squeue::Flags::SKIP_SUCCESS)
}
