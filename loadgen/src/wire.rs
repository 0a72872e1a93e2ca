//! A ring of a fleet, and the bytes that are lent to it.
//!
//! One invariant makes the lending safe. *Silent* sends point into chunks whose memory is
//! reserved once and never moves; a chunk is emptied only after [`Ring::reap`] has returned
//! `None` behind the [`Ring::enter`] that submitted them, when nothing of a [`SendMode::Silent`]
//! send is under way. The ring is dropped before the chunks. The bytes of a *patient* send
//! ([`Op::SendAll`]) are the ring's own until it completes.
//!
//! Bytes stay in order because a socket has one silent send in a batch at most, and none while it
//! has a parcel: what follows a send that was short is never sent before the rest of it.

use std::{collections::HashMap, io};

use rustix::io::Errno;
use tidewheel::ring::{
    Completion, Op, OpCode, Outbound, Ring, RingError, SendMode, Setup, Socket, Token, Uring, Wait,
};

/// The bytes that a chunk holds.
const CHUNK_SIZE: usize = 64 * 1024;

/// A longer run of bytes may not fit into the socket at once, so it is sent patiently.
const SILENT_SIZE_MAX: usize = 4096;

/// The generation of all tokens: no client has the slot of another.
const GENERATION: u32 = 0;

/// A ring that keeps what it sends until that is sent.
#[derive(Debug)]
pub(crate) struct Wire {
    ring: Uring,
    /// Chunks that sends not yet entered point into.
    queued: Vec<Vec<u8>>,
    /// Chunks that sends entered but perhaps not yet over point into.
    lent: Vec<Vec<u8>>,
    /// Chunks that nothing points into.
    spare: Vec<Vec<u8>>,
    /// The silent sends in `queued` and `lent`, in order.
    pieces: Vec<Piece>,
    /// The batch in which each socket had its last silent send.
    batches: Vec<u32>,
    /// Counts calls of `enter`, modulo 2^32.
    batch: u32,
    /// What is sent patiently, by socket: one send at a time.
    parcels: HashMap<u32, Parcel>,
    /// Parcels that are sent when all of this batch are over, and whose.
    held: Vec<(Socket, u32)>,
}

/// A silent send.
#[derive(Clone, Copy, Debug)]
struct Piece {
    socket: u32,
    /// The number of its chunk, in `queued` before it is entered and in `lent` afterwards.
    chunk: u32,
    start: u32,
    length: u32,
}

/// What a socket did not take at once.
#[derive(Debug)]
struct Parcel {
    /// Bytes that are being sent; none as long as the parcel is held.
    under_way: usize,
    /// What follows.
    waiting: Vec<u8>,
}

/// How far a send has come.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) enum Sending {
    /// There is no completion to wait for.
    Silent,
    /// A completion is to come, and the socket must not be closed before.
    UnderWay,
    /// That completion has come.
    Over,
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
            // No socket has sent in the batch that is first.
            batches: vec![u32::MAX; setup.sockets as usize],
            batch: 0,
            parcels: HashMap::new(),
            held: Vec::new(),
        })
    }

    /// Queues an operation.
    pub(crate) fn push(&mut self, op: Op, token: Token) {
        self.ring.push(op, token);
    }

    /// Queues a send of `bytes` for `client`, behind all that was sent before. Many are taken as
    /// they are, and a few copied.
    pub(crate) fn send(&mut self, socket: Socket, client: u32, bytes: &mut Vec<u8>) -> Sending {
        if let Some(parcel) = self.parcels.get_mut(&socket.0) {
            parcel.waiting.extend_from_slice(bytes);
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
        // SAFETY: the chunk had room, so it does not move; it is in `queued`, and emptied only
        // when its send is over (see the invariant above).
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

    /// Keeps bytes until the silent send of their socket is over.
    fn hold(&mut self, socket: Socket, client: u32, waiting: Vec<u8>) {
        let parcel = Parcel {
            under_way: 0,
            waiting,
        };
        let before = self.parcels.insert(socket.0, parcel);
        assert!(before.is_none(), "there is one parcel at a time");
        self.held.push((socket, client));
    }

    /// Queues a patient send.
    fn post(&mut self, socket: Socket, client: u32, bytes: Vec<u8>) {
        let parcel = Parcel {
            under_way: bytes.len(),
            waiting: Vec::new(),
        };
        let before = self.parcels.insert(socket.0, parcel);
        assert!(before.is_none(), "one patient send at a time");
        let send = Op::SendAll { socket, bytes };
        self.ring.push(send, Token::new(GENERATION, client));
    }

    /// Takes note of a send's completion. The rest of a short one is sent patiently, unless the
    /// client has left.
    pub(crate) fn sent(&mut self, socket: Socket, completion: &Completion, left: bool) -> Sending {
        let client = completion.token.slot();
        if completion.op == OpCode::SendAll {
            let parcel = self.parcels.remove(&socket.0).expect("it was posted");
            let whole = usize::try_from(completion.result) == Ok(parcel.under_way);
            if left || !whole || parcel.waiting.is_empty() {
                return Sending::Over;
            }
            self.post(socket, client, parcel.waiting);
            return Sending::UnderWay;
        }
        if left || (completion.result < 0 && -completion.result != Errno::AGAIN.raw_os_error()) {
            // The receive tells of a connection that failed.
            return Sending::Silent;
        }
        let piece = self.pieces.iter().find(|piece| piece.socket == socket.0);
        let piece = piece.expect("it was sent in this batch");
        let chunk = &self.lent[piece.chunk as usize];
        let taken = completion.result.max(0) as usize;
        let end = (piece.start + piece.length) as usize;
        let mut rest = chunk[piece.start as usize + taken..end].to_vec();
        match self.parcels.get_mut(&socket.0) {
            Some(held) => {
                rest.append(&mut held.waiting);
                held.waiting = rest;
            }
            None => self.hold(socket, client, rest),
        }
        Sending::UnderWay
    }

    /// Submits what is queued and waits; see [`Ring::enter`].
    ///
    /// # Errors
    /// Those of [`Ring::enter`].
    pub(crate) fn enter(&mut self, wait: Wait) -> io::Result<()> {
        assert!(self.lent.is_empty(), "all was reaped before");
        self.lent.append(&mut self.queued);
        self.batch = self.batch.wrapping_add(1);
        self.ring.enter(wait)
    }

    /// Takes the next completion; call it until it gives `None`, before the next `enter`, and send
    /// nothing meanwhile.
    pub(crate) fn reap(&mut self) -> Option<Completion> {
        let completion = self.ring.reap();
        debug_assert!(
            self.queued.is_empty(),
            "what follows waits for what was sent"
        );
        if completion.is_none() {
            for mut chunk in self.lent.drain(..) {
                chunk.clear();
                self.spare.push(chunk);
            }
            self.pieces.clear();
            for (socket, client) in std::mem::take(&mut self.held) {
                let parcel = self.parcels.remove(&socket.0).expect("it is held");
                self.post(socket, client, parcel.waiting);
            }
        }
        completion
    }

    /// See [`Uring::has_news`].
    pub(crate) fn has_news(&mut self) -> bool {
        self.ring.has_news()
    }

    /// See [`Uring::catch_up`].
    pub(crate) fn catch_up(&mut self) -> bool {
        self.ring.catch_up()
    }
}
