//! One TCP connection between the server and a client.

use std::collections::VecDeque;

use super::{
    super::{Outbound, SendMode, Token},
    client::ClientId,
};

/// The server's end of a connection.
#[derive(Debug)]
pub(super) struct SimSocket {
    pub(super) client: ClientId,
    /// Received and not yet read.
    pub(super) inbound: VecDeque<u8>,
    pub(super) peer: PeerState,
    pub(super) receive: Option<Token>,
    pub(super) send: Option<PendingSend>,
    pub(super) finished: bool,
    /// Bytes sent that the client has not read.
    pub(super) unread: usize,
    /// When the newest completion of the receive comes, and its place among those of that time.
    pub(super) newest: (u64, u64),
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

/// A send that waits for room.
#[derive(Debug)]
pub(super) struct PendingSend {
    pub(super) token: Token,
    pub(super) mode: SendMode,
    pub(super) lent: Lent,
    pub(super) taken: usize,
    pub(super) finish: bool,
}

impl SimSocket {
    pub(super) fn new(client: ClientId) -> Self {
        Self {
            client,
            inbound: VecDeque::new(),
            peer: PeerState::Open,
            receive: None,
            send: None,
            finished: false,
            unread: 0,
            newest: (0, 0),
        }
    }
}

/// Bytes that the shard has lent, and what they were when it did.
#[derive(Debug)]
pub(super) struct Lent {
    data: Outbound,
    copy: Vec<u8>,
}

impl Lent {
    pub(super) fn new(data: Outbound) -> Self {
        Self {
            data,
            copy: read(data),
        }
    }

    pub(super) fn len(&self) -> usize {
        self.copy.len()
    }

    /// The bytes, which must be what they were.
    pub(super) fn bytes(&self) -> &[u8] {
        assert!(
            read(self.data) == self.copy,
            "bytes were changed while they were lent"
        );
        &self.copy
    }
}

fn read(data: Outbound) -> Vec<u8> {
    match data {
        // SAFETY: whoever made `data` has promised that the bytes stay until the send is over.
        Outbound::Bytes { start, length } => unsafe {
            std::slice::from_raw_parts(start, length as usize).to_vec()
        },
        // SAFETY: as above, for the header, the vector and the bytes.
        Outbound::Message(header) => unsafe {
            let runs = std::slice::from_raw_parts((*header).msg_iov, (*header).msg_iovlen);
            let run = |run: &libc::iovec| {
                std::slice::from_raw_parts(run.iov_base.cast::<u8>(), run.iov_len).to_vec()
            };
            runs.iter().flat_map(run).collect()
        },
    }
}
