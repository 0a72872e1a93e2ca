//! Operations of the kernel.

use std::net::SocketAddr;

use bytes::BytesMut;

use super::{OpCode, Outbound, SendMode, Token, Waker};

/// A direct descriptor: an index into the ring's own table of open sockets.
///
/// It is not a descriptor of the process; the table's size is limited to `RLIMIT_NOFILE` for each ring
/// (io_uring_register_files_sparse(3)).
#[derive(Clone, Copy, Debug, Eq, PartialEq, Hash)]
pub struct Socket(pub u32);

/// One operation for the kernel.
#[derive(Debug)]
pub enum Op {
    /// Accepts a connection of the ring's listener into a direct descriptor; `result` is the [`Socket`].
    ///
    /// At most 64 accepts may be under way at a time, and their tokens must have distinct generations from 0 to
    /// 63. [`Ring::peer`](super::Ring::peer) returns the address of the accepted peer.
    Accept,
    /// Receives into provided buffers; a multishot receive continues until a completion without `more`.
    ///
    /// `ENOBUFS` ends it if no buffer is free, even if no bytes have arrived.
    Receive {
        /// The socket to receive from.
        socket: Socket,
        /// Whether one submission receives any number of times.
        multishot: bool,
    },
    /// Receives once and appends to a buffer; `result` is the number of bytes.
    ///
    /// The ring owns the buffer until the completion, after which
    /// [`Ring::take_filled`](super::Ring::take_filled) returns it. Fills under way must have distinct
    /// tokens.
    Fill {
        /// The socket to receive from.
        socket: Socket,
        /// The buffer to append to.
        buffer: BytesMut,
        /// Maximum number of bytes: at least 1, at most the buffer's spare capacity.
        limit: usize,
        /// Whether to wait until `limit` bytes or 512 KiB have arrived. If that takes more than 100 ms,
        /// the operation completes with `ECANCELED`; then receive without this flag.
        coalesce: bool,
    },
    /// Sends the bytes that the socket has room for.
    Send {
        /// The socket to send to.
        socket: Socket,
        /// The bytes to send.
        data: Outbound,
        /// When the operation completes.
        mode: SendMode,
        /// Whether to shut down the sending direction when every byte has been taken, so that FIN follows
        /// the bytes. The shutdown completes as [`Op::ShutdownWrite`]; it does not take place after a
        /// short send.
        finish: bool,
    },
    /// Sends all of these bytes, and waits for room as long as necessary; `result` is the number of bytes,
    /// which is short only if the connection ended.
    ///
    /// The ring owns the bytes until the completion. Operations of this kind under way must have distinct
    /// tokens.
    SendAll {
        /// The socket to send to.
        socket: Socket,
        /// The bytes to send.
        bytes: Vec<u8>,
    },
    /// Completes when the socket may take bytes again, or its connection has ended.
    Writable {
        /// The socket to wait for.
        socket: Socket,
    },
    /// Completes with the milliseconds between the last arrival of bytes in the socket, read or unread, and
    /// the last return of [`Ring::enter`](super::Ring::enter).
    ///
    /// The value is a lower bound, so a peer's silence is never overestimated. Completes with an error
    /// if the kernel cannot report it (before Linux 6.8).
    QueryTcpInfo {
        /// The socket to query.
        socket: Socket,
    },
    /// Shuts down the sending direction (FIN).
    ///
    /// An [`Op::Close`] that is pushed before the completion may overtake it. A shutdown that was to follow
    /// a short send completes with `ECANCELED`, or not at all.
    ShutdownWrite {
        /// The socket to shut down.
        socket: Socket,
    },
    /// Resets the connection, unless it has ended in order: the kernel sends RST and drops its send buffer,
    /// and the operations under way on the socket complete. Completes only if it fails.
    Reset {
        /// The socket to reset.
        socket: Socket,
    },
    /// Cancels every operation of this kind with this token. Each completes; this operation completes only
    /// if it fails.
    Cancel {
        /// The kind of the operations to cancel.
        kind: OpCode,
        /// The token of the operations to cancel.
        target: Token,
    },
    /// Completes with the number of bytes that the peer has not acknowledged, sent or not, FIN included
    /// (tcp(7), `SIOCOUTQ`). Completes with an error if the kernel cannot report it (before Linux 6.7).
    QueryUnacked {
        /// The socket to query.
        socket: Socket,
    },
    /// Completes at once with the poll(2) events of a socket whose directions are both shut down: `POLLHUP`,
    /// and `POLLERR` if the connection was reset or has failed.
    QueryError {
        /// The socket to query.
        socket: Socket,
    },
    /// Closes a direct descriptor.
    ///
    /// A descriptor with an armed operation leaks: reset it first. The connection is reset if its listener
    /// has an `SO_LINGER` of zero, unless it has ended in order and everything was delivered.
    Close {
        /// The socket to close.
        socket: Socket,
    },
    /// Completes whenever another thread has called the ring's [`Waker`].
    PollWakeup,
    /// Wakes another ring. Completes only if it fails; then call [`Waker::wake`].
    Wake {
        /// The waker of the other ring.
        waker: Waker,
    },
    /// Moves a direct descriptor to another ring, which gets an [`OpCode::Arrive`] completion.
    ///
    /// Completes when the other ring has the socket and the descriptor is free here, or with an error if it
    /// is still here.
    HandOver {
        /// The socket to move.
        socket: Socket,
        /// The waker of the other ring.
        waker: Waker,
        /// The token of the [`OpCode::Arrive`] completion; its `result` is the [`Socket`].
        arrival: Token,
    },
    /// Creates a TCP socket in a direct descriptor, and connects it.
    ///
    /// `TCP_NODELAY` is set, which needs Linux 6.7. Without it a send may wait up to 40 ms for the
    /// acknowledgement of the one before (RFC 896).
    Connect {
        /// The free direct descriptor.
        socket: Socket,
        /// The address to connect to.
        peer: SocketAddr,
    },
}

impl Op {
    /// The kind of this operation.
    #[must_use]
    pub fn code(&self) -> OpCode {
        match self {
            Self::Accept => OpCode::Accept,
            Self::Receive { .. } => OpCode::Receive,
            Self::Fill { .. } => OpCode::Fill,
            Self::Send { .. } => OpCode::Send,
            Self::SendAll { .. } => OpCode::SendAll,
            Self::Writable { .. } => OpCode::Writable,
            Self::QueryTcpInfo { .. } => OpCode::QueryTcpInfo,
            Self::QueryUnacked { .. } => OpCode::QueryUnacked,
            Self::QueryError { .. } => OpCode::QueryError,
            Self::ShutdownWrite { .. } => OpCode::ShutdownWrite,
            Self::Reset { .. } | Self::Cancel { .. } => OpCode::Cancel,
            Self::Close { .. } => OpCode::Close,
            Self::PollWakeup => OpCode::PollWakeup,
            Self::Wake { .. } => OpCode::Wake,
            Self::HandOver { .. } => OpCode::HandOver,
            Self::Connect { .. } => OpCode::Connect,
        }
    }
}
