//! A ring of a fleet, and the buffers of its sends.
//!
//! One invariant makes it safe to lend these buffers to the kernel. *Silent* sends point into
//! chunks whose memory is reserved once and never moves. A chunk is cleared only after
//! [`Ring::reap`] has returned `None` following the [`Ring::enter`] that submitted its sends; then
//! no [`SendMode::Silent`] send is in flight. The ring is dropped before the chunks. The bytes of a
//! *waiting* send ([`Op::SendAll`]) belong to the ring until it completes.
//!
//! The order of bytes is kept because a socket has at most one silent send in a batch, and none
//! while it has a backlog. So nothing overtakes the rest of a short send.

use std::{collections::HashMap, io};

use rustix::io::Errno;
use tidewheel::ring::{
    Completion, Op, OpCode, Outbound, Ring, RingError, SendMode, Setup, Socket, Token, Uring, Wait,
};

/// Capacity of a chunk in bytes.
const CHUNK_SIZE: usize = 64 * 1024;

/// Longest silent send in bytes. More may not fit into the socket buffer at once, and is sent by a
/// waiting send.
const SILENT_SIZE_MAX: usize = 4096;

/// Generation of all tokens. No slot is reused by another client.
const GENERATION: u32 = 0;

/// A ring with the buffers of its sends.
#[derive(Debug)]
pub(crate) struct Wire {
    ring: Uring,
    /// Chunks of queued sends that are not submitted.
    queued: Vec<Vec<u8>>,
    /// Chunks of submitted sends that may not be complete.
    lent: Vec<Vec<u8>>,
    /// Unused chunks.
    spare: Vec<Vec<u8>>,
    /// The silent sends of `queued` and `lent`, in order.
    pieces: Vec<Piece>,
    /// Number of the batch of the last silent send, by socket.
    batches: Vec<u32>,
    /// Number of calls of `enter`, modulo 2^32.
    batch: u32,
    /// Backlogs by socket. A socket has at most one waiting send.
    backlogs: HashMap<u32, Backlog>,
    /// Sockets whose backlog is sent when the silent sends of this batch are complete, and their
    /// clients.
    held: Vec<(Socket, u32)>,
}

/// A silent send.
#[derive(Clone, Copy, Debug)]
struct Piece {
    socket: u32,
    /// Index of its chunk: in `queued` before the submission, then in `lent`.
    chunk: u32,
    start: u32,
    length: u32,
}

/// Bytes that a socket did not accept at once.
#[derive(Debug)]
struct Backlog {
    /// Number of bytes of the waiting send; 0 before it is posted.
    under_way: usize,
    /// Bytes to send after these.
    waiting: Vec<u8>,
}

/// State of a send.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) enum Sending {
    /// No completion follows.
    Silent,
    /// A completion follows. The socket must not be closed before it.
    UnderWay,
    /// The completion has arrived.
    Done,
}

impl Wire {
    /// Makes a ring for the calling thread.
    ///
    /// # Errors
    /// Those of [`Uring::new`].
    pub(crate) fn new(setup: &Setup) -> Result<Self, RingError> {
        Ok(Self {
            ring: Uring::new(setup, None)?,
            queued: Vec::new(),
            lent: Vec::new(),
            spare: Vec::new(),
            pieces: Vec::new(),
            // No socket has sent in batch 0.
            batches: vec![u32::MAX; setup.sockets as usize],
            batch: 0,
            backlogs: HashMap::new(),
            held: Vec::new(),
        })
    }

    /// Queues an operation.
    pub(crate) fn push(&mut self, op: Op, token: Token) {
        self.ring.push(op, token);
    }

    /// Queues a send of `bytes` for `client`, after all earlier ones. Up to 4,096 bytes are copied;
    /// more are moved out of `bytes`.
    pub(crate) fn send(&mut self, socket: Socket, client: u32, bytes: &mut Vec<u8>) -> Sending {
        if let Some(backlog) = self.backlogs.get_mut(&socket.0) {
            backlog.waiting.extend_from_slice(bytes);
            return Sending::UnderWay;
        }
        if self.batches[socket.0 as usize] == self.batch {
            self.hold(socket, client, std::mem::take(bytes));
            return Sending::UnderWay;
        }
        if bytes.len() > SILENT_SIZE_MAX {
            self.post(socket, client, std::mem::take(bytes));
            return Sending::UnderWay;
        }
        let room = |chunk: &Vec<u8>| chunk.capacity() - chunk.len();
        if self
            .queued
            .last()
            .is_none_or(|chunk| room(chunk) < bytes.len())
        {
            let mut chunk = self.spare.pop().unwrap_or_default();
            chunk.reserve_exact(CHUNK_SIZE);
            self.queued.push(chunk);
        }
        self.batches[socket.0 as usize] = self.batch;
        let number = self.queued.len() as u32 - 1;
        let chunk = &mut self.queued[number as usize];
        let start = chunk.len();
        chunk.extend_from_slice(bytes);
        self.pieces.push(Piece {
            socket: socket.0,
            chunk: number,
            start: start as u32,
            length: bytes.len() as u32,
        });
        // SAFETY: the chunk has the capacity, so it does not move. It is in `queued`, and is
        // cleared only when its sends are complete (see the invariant in the module documentation).
        let data = unsafe { Outbound::bytes(&chunk[start..]) };
        let send = Op::Send {
            socket,
            data,
            mode: SendMode::Silent,
            finish: false,
        };
        self.ring.push(send, Token::new(GENERATION, client));
        Sending::Silent
    }

    /// Keeps bytes until the silent send of their socket is complete.
    fn hold(&mut self, socket: Socket, client: u32, waiting: Vec<u8>) {
        let backlog = Backlog {
            under_way: 0,
            waiting,
        };
        let before = self.backlogs.insert(socket.0, backlog);
        assert!(before.is_none(), "a socket has at most one backlog");
        self.held.push((socket, client));
    }

    /// Queues a waiting send.
    fn post(&mut self, socket: Socket, client: u32, bytes: Vec<u8>) {
        let backlog = Backlog {
            under_way: bytes.len(),
            waiting: Vec::new(),
        };
        let before = self.backlogs.insert(socket.0, backlog);
        assert!(before.is_none(), "a socket has at most one waiting send");
        let send = Op::SendAll { socket, bytes };
        self.ring.push(send, Token::new(GENERATION, client));
    }

    /// Handles the completion of a send. The rest of a short one is sent by a waiting send, unless
    /// the client has left.
    pub(crate) fn sent(&mut self, socket: Socket, completion: &Completion, left: bool) -> Sending {
        let client = completion.token.slot();
        if completion.op == OpCode::SendAll {
            let backlog = self
                .backlogs
                .remove(&socket.0)
                .expect("a completed SendAll has a backlog");
            let whole = usize::try_from(completion.result) == Ok(backlog.under_way);
            if left || !whole || backlog.waiting.is_empty() {
                return Sending::Done;
            }
            self.post(socket, client, backlog.waiting);
            return Sending::UnderWay;
        }
        if left || (completion.result < 0 && -completion.result != Errno::AGAIN.raw_os_error()) {
            // The receive reports the failure of the connection.
            return Sending::Silent;
        }
        let piece = self.pieces.iter().find(|piece| piece.socket == socket.0);
        let piece = piece.expect("the send is of this batch");
        let chunk = &self.lent[piece.chunk as usize];
        let taken = completion.result.max(0) as usize;
        let end = (piece.start + piece.length) as usize;
        let mut rest = chunk[piece.start as usize + taken..end].to_vec();
        match self.backlogs.get_mut(&socket.0) {
            Some(held) => {
                rest.append(&mut held.waiting);
                held.waiting = rest;
            }
            None => self.hold(socket, client, rest),
        }
        Sending::UnderWay
    }

    /// Submits the queued operations and waits. See [`Ring::enter`].
    ///
    /// # Errors
    /// Those of [`Ring::enter`].
    pub(crate) fn enter(&mut self, wait: Wait) -> io::Result<()> {
        assert!(self.lent.is_empty(), "all completions were reaped before");
        self.lent.append(&mut self.queued);
        self.batch = self.batch.wrapping_add(1);
        self.ring.enter(wait)
    }

    /// Returns the next completion. Has to be called until it returns `None` before the next
    /// `enter`, with no send in between.
    pub(crate) fn reap(&mut self) -> Option<Completion> {
        let completion = self.ring.reap();
        debug_assert!(
            self.queued.is_empty(),
            "nothing is sent while completions are reaped"
        );
        if completion.is_none() {
            for mut chunk in self.lent.drain(..) {
                chunk.clear();
                self.spare.push(chunk);
            }
            self.pieces.clear();
            for (socket, client) in std::mem::take(&mut self.held) {
                let backlog = self
                    .backlogs
                    .remove(&socket.0)
                    .expect("a held socket has a backlog");
                self.post(socket, client, backlog.waiting);
            }
        }
        completion
    }

    /// See [`Uring::has_pending_completions`].
    pub(crate) fn has_news(&mut self) -> bool {
        self.ring.has_pending_completions()
    }

    /// See [`Uring::run_task_work`].
    pub(crate) fn catch_up(&mut self) -> bool {
        self.ring.run_task_work()
    }
}
