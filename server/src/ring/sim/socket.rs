//! One TCP connection between the server and a client.

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
    /// Received and not yet read.
    pub(super) inbound: VecDeque<u8>,
    pub(super) peer: PeerState,
    pub(super) receive: Option<Receiving>,
    /// The receive that is armed, or was last.
    pub(super) received_by: Option<Token>,
    /// Waits for room to send.
    pub(super) poll: Option<Token>,
    /// When bytes last arrived.
    pub(super) heard_ms: u64,
    pub(super) finished: bool,
    /// Bytes sent that the client has not read.
    pub(super) unread: usize,
    /// Bytes sent.
    pub(super) sent_bytes: u64,
    /// The last time at which bytes were sent, and the last at which the client read some.
    pub(super) sent_ms: u64,
    pub(super) read_ms: u64,
    /// When the newest completion of the receive comes, and its place among those of that time.
    pub(super) newest: (u64, u64),
}

/// A receive that is armed.
#[derive(Debug)]
pub(super) struct Receiving {
    pub(super) token: Token,
    pub(super) into: Into,
}

/// Where received bytes go.
#[derive(Debug)]
pub(super) enum Into {
    /// Into provided buffers.
    Provided { multishot: bool },
    /// Into this one, once, and so many at most.
    Own { buffer: BytesMut, limit: usize },
}

impl Receiving {
    /// The kind of operation that it is.
    pub(super) fn op(&self) -> OpCode {
        match self.into {
            Into::Provided { .. } => OpCode::Receive,
            Into::Own { .. } => OpCode::Fill,
        }
    }

    /// Into `buffer`, of whose room every byte that is not received is rubbish.
    pub(super) fn filling(mut buffer: BytesMut, limit: usize, token: Token) -> Self {
        const RUBBISH: u8 = 0x5a;
        let room = buffer.spare_capacity_mut();
        assert!((1..=room.len()).contains(&limit), "room for {limit} bytes");
        room.fill(MaybeUninit::new(RUBBISH));
        Self {
            token,
            into: Into::Own { buffer, limit },
        }
    }
}

/// What is known of the other end.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) enum PeerState {
    Open,
    /// Its FIN is here.
    Finished,
    /// Its RST is here.
    Reset,
}

impl SimSocket {
    pub(super) fn new(client: ClientId, heard_ms: u64) -> Self {
        Self {
            client,
            inbound: VecDeque::new(),
            peer: PeerState::Open,
            receive: None,
            received_by: None,
            poll: None,
            heard_ms,
            finished: false,
            unread: 0,
            sent_bytes: 0,
            sent_ms: heard_ms,
            read_ms: heard_ms,
            newest: (0, 0),
        }
    }
}
