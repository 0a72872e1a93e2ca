//! The server's end of a simulated connection.

use std::{collections::VecDeque, mem::MaybeUninit};

use bytes::BytesMut;

use super::{
    super::{OpCode, Token},
    client::ClientId,
};

/// The server's end of a connection.
#[derive(Debug)]
pub(super) struct SimSocket {
    pub(super) client: ClientId,
    /// Received bytes that the shard has not read.
    pub(super) inbound: VecDeque<u8>,
    pub(super) peer: PeerState,
    pub(super) receive: Option<Receiving>,
    /// The token of the newest receive, armed or not.
    pub(super) received_by: Option<Token>,
    /// The token of an armed [`Op::Writable`](crate::ring::Op::Writable).
    pub(super) poll: Option<Token>,
    /// Time when bytes last arrived.
    pub(super) heard_ms: u64,
    /// Whether FIN was sent.
    pub(super) is_finished: bool,
    /// Sent bytes that the client has not read.
    pub(super) unread: usize,
    /// All sent bytes.
    pub(super) sent_bytes: u64,
    /// Time when bytes were last sent.
    pub(super) sent_ms: u64,
    /// Time when the client last read bytes.
    pub(super) read_ms: u64,
    /// Time and order of the newest scheduled completion of a receive.
    pub(super) newest_receive: (u64, u64),
}

/// An armed receive.
#[derive(Debug)]
pub(super) struct Receiving {
    pub(super) token: Token,
    pub(super) target: Target,
}

/// The memory that a receive writes to.
#[derive(Debug)]
pub(super) enum Target {
    /// Provided buffers.
    Provided { multishot: bool },
    /// The buffer of an [`Op::Fill`](crate::ring::Op::Fill).
    Own { buffer: BytesMut, limit: usize },
}

impl Receiving {
    /// The kind of the operation.
    pub(super) fn op(&self) -> OpCode {
        match self.target {
            Target::Provided { .. } => OpCode::Receive,
            Target::Own { .. } => OpCode::Fill,
        }
    }

    /// A receive into `buffer`, whose spare capacity is overwritten: a shard must not rely on its contents.
    pub(super) fn filling(mut buffer: BytesMut, limit: usize, token: Token) -> Self {
        const GARBAGE: u8 = 0x5a;
        let room = buffer.spare_capacity_mut();
        assert!(
            (1..=room.len()).contains(&limit),
            "limit is {limit} bytes; the buffer has room for {}",
            room.len()
        );
        room.fill(MaybeUninit::new(GARBAGE));
        Self {
            token,
            target: Target::Own { buffer, limit },
        }
    }
}

/// The state of the peer's sending direction.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) enum PeerState {
    Open,
    /// FIN has arrived.
    Finished,
    /// RST has arrived, or the server has sent RST.
    Reset,
}

impl SimSocket {
    pub(super) fn new(client: ClientId, now_ms: u64) -> Self {
        Self {
            client,
            inbound: VecDeque::new(),
            peer: PeerState::Open,
            receive: None,
            received_by: None,
            poll: None,
            heard_ms: now_ms,
            is_finished: false,
            unread: 0,
            sent_bytes: 0,
            sent_ms: now_ms,
            read_ms: now_ms,
            newest_receive: (0, 0),
        }
    }
}
