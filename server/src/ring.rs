//! The ring: what a shard asks of the kernel, and what it hears back.
//!
//! [`Ring`] has two implementations: [`Uring`], an io_uring instance, and (with the feature
//! `sim`) `SimRing`, a simulated kernel and network in virtual time. A shard cannot tell them
//! apart.

mod buffers;
mod probe;
#[cfg(feature = "sim")]
pub mod sim;
mod token;
mod uring;

pub use buffers::{Buffer, BufferMemory};
pub(crate) use buffers::{Keeper, Kept};
pub use probe::{RingError, kernel_release, raise_descriptors};
pub use token::{OpCode, Token};
pub use uring::{Setup, Uring};

use std::{
    io,
    net::{IpAddr, SocketAddr},
    time::Duration,
};

use bytes::BytesMut;

/// A direct descriptor: an index into the ring's own table of open sockets.
///
/// It is no process file descriptor, and counts against `RLIMIT_NOFILE` per ring, not per
/// process (io_uring_register_files_sparse(3)).
#[derive(Clone, Copy, Debug, Eq, PartialEq, Hash)]
pub struct Socket(pub u32);

/// One operation for the kernel.
#[derive(Debug)]
pub enum Op {
    /// Accept connections of the ring's listener into direct descriptors; `result` is the
    /// [`Socket`]. Multishot goes on until a completion without `more`. At most 64 others are under
    /// way at a time, whose tokens have generations from 0 to 63, no two the same.
    Accept {
        /// Whether one submission accepts any number of connections.
        multishot: bool,
        /// Whether [`Ring::peer`] is to tell who it was. Not with multishot.
        addressed: bool,
    },
    /// Receive into provided buffers, until a completion without `more`.
    ///
    /// `ENOBUFS` ends it when no buffer is free, also on a quiet socket.
    Receive {
        /// The socket to receive from.
        socket: Socket,
        /// Whether one submission receives any number of times.
        multishot: bool,
    },
    /// Receive behind what a buffer holds, once; `result` is the count of bytes. The ring has the
    /// buffer until that completes: then [`Ring::take_filled`] gives it back. No two that are under way
    /// have the same token.
    Fill {
        /// The socket to receive from.
        socket: Socket,
        /// Where to receive.
        buffer: BytesMut,
        /// Bytes to receive at most, for which the buffer has room; one at least.
        limit: usize,
        /// Whether to wait until all of these bytes, or half a MiB of them, have arrived. `ECANCELED` ends
        /// it if they have not within a tenth of a second: then receive without waiting.
        gather: bool,
    },
    /// Send bytes, as many as the socket has room for at once.
    Send {
        /// The socket to send to.
        socket: Socket,
        /// What to send.
        data: Outbound,
        /// When it completes.
        mode: SendMode,
        /// Shut down the sending direction once every byte has been taken (FIN follows them), as
        /// by [`Op::ShutdownWrite`], which then completes by itself. After a short send it is not done.
        finish: bool,
    },
    /// Send all of these bytes, however long that takes; `result` is the count of bytes, which is short
    /// only if the connection ended. The ring has the bytes until that completes. No two that are under way
    /// have the same token.
    SendAll {
        /// The socket to send to.
        socket: Socket,
        /// The bytes to send.
        bytes: Vec<u8>,
    },
    /// Complete once the socket may take bytes again, or its connection has ended.
    Writable {
        /// The socket to wait for.
        socket: Socket,
    },
    /// Complete with the milliseconds from the last arrival of bytes of the peer in the socket, read or
    /// not, to the last return of [`Ring::enter`]. The figure is a lower bound: nobody seems silent
    /// longer than they were. Completes with an error where the kernel cannot tell (before Linux 6.8).
    QueryTcpInfo {
        /// The socket to ask about.
        socket: Socket,
    },
    /// Shut down the sending direction (FIN). An [`Op::Close`] that does not wait for its completion may
    /// be carried out first. If it was to follow a send that was short, it completes with `ECANCELED`
    /// or not at all.
    ShutdownWrite {
        /// The socket to shut down.
        socket: Socket,
    },
    /// Reset the connection, unless it has ended in order: RST goes out, what is queued in the
    /// kernel is dropped, and what is under way on the socket completes. Silent on success.
    Reset {
        /// The socket whose connection ends.
        socket: Socket,
    },
    /// Cancel every operation of this kind with this token. Silent on success; what was cancelled
    /// completes.
    Cancel {
        /// The kind of the operations to end.
        kind: OpCode,
        /// Their token.
        target: Token,
    },
    /// Complete with the number of bytes that the peer has not acknowledged yet, sent or not, FIN included
    /// (tcp(7), `SIOCOUTQ`). Completes with an error where the kernel cannot tell (before Linux 6.7).
    QueryUnacked {
        /// The socket to ask about.
        socket: Socket,
    },
    /// Complete at once with the events of poll(2) on a socket whose directions are both shut down: `POLLHUP`,
    /// and `POLLERR` if the connection was reset or has failed.
    QueryError {
        /// The socket to ask about.
        socket: Socket,
    },
    /// Close a direct descriptor. With an operation still armed on it this leaks: reset first. Unless the
    /// connection has ended in order, with nothing left to deliver, it is reset if its listener has an
    /// `SO_LINGER` of zero.
    Close {
        /// The socket to close.
        socket: Socket,
    },
    /// Complete, again and again, when another thread has called the ring's [`Waker`].
    PollWakeup,
    /// Wake another ring. Silent on success; if it fails, call [`Waker::wake`] instead.
    Wake {
        /// The waker of the other ring.
        waker: Waker,
    },
    /// Give a direct descriptor to another ring, which is told of it by `arrival`. Completes when it is
    /// there and free here, or with an error when it is still here.
    HandOver {
        /// The socket to give.
        socket: Socket,
        /// The other ring's.
        waker: Waker,
        /// The token of the [`OpCode::Arrive`] that the other ring is told, with the [`Socket`] as
        /// `result`.
        arrival: Token,
    },
    /// Make a TCP socket in the direct descriptor given, and connect it.
    ///
    /// `TCP_NODELAY` is set, which needs Linux 6.7: what is sent does not wait for the peer to
    /// acknowledge what was sent before (RFC 896), which may take it 40 ms.
    Connect {
        /// The free direct descriptor to fill.
        socket: Socket,
        /// Whom to connect to.
        peer: SocketAddr,
    },
}

impl Op {
    /// The kind of this operation.
    #[must_use]
    pub fn code(&self) -> OpCode {
        match self {
            Self::Accept { .. } => OpCode::Accept,
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

/// When a send completes. A send takes the bytes that the socket has room for, and does not wait.
///
/// Nothing of it is pending after [`Ring::enter`]: the bytes are free as soon as [`Ring::reap`] has
/// returned `None` after it.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum SendMode {
    /// Completes only if the socket has not taken every byte: with the count of those that it took, or
    /// `EAGAIN`.
    Silent,
    /// Completes in any case.
    Told,
}

/// Bytes that the kernel reads while a send is under way.
///
/// Nothing but a ring can look at them. That they are there when it does is promised to
/// [`Outbound::bytes`] and [`Outbound::message`].
#[derive(Debug)]
pub struct Outbound {
    data: Data,
    /// How many bytes there are, below 2 GiB.
    length: u32,
}

#[derive(Clone, Copy, Debug)]
enum Data {
    /// One contiguous run of bytes, of which this is the first.
    Bytes(*const u8),
    /// Several runs of bytes, by a message header that lives elsewhere (sendmsg(2)).
    Message(*const libc::msghdr),
}

/// The kernel takes no more in one send.
const SEND_BYTES_MAX: usize = i32::MAX as usize;

impl Outbound {
    /// Lends one run of bytes to the kernel.
    ///
    /// # Panics
    /// If there are 2 GiB or more.
    ///
    /// # Safety
    /// The bytes must neither move nor change nor be freed before the send is over: before the first
    /// [`Ring::reap`] that returns `None` after the next [`Ring::enter`], or the ring is dropped.
    #[must_use]
    pub unsafe fn bytes(bytes: &[u8]) -> Self {
        assert!(bytes.len() <= SEND_BYTES_MAX, "a send is below 2 GiB");
        Self {
            data: Data::Bytes(bytes.as_ptr()),
            length: bytes.len() as u32,
        }
    }

    /// Lends a message header, its vector and the bytes that it names to the kernel.
    ///
    /// # Panics
    /// If there are 2 GiB or more.
    ///
    /// # Safety
    /// As for [`Outbound::bytes`], for all three; and all three must be valid.
    #[must_use]
    pub unsafe fn message(header: *const libc::msghdr) -> Self {
        // SAFETY: whoever calls this says that header and vector are valid.
        let length = unsafe {
            let runs = std::slice::from_raw_parts((*header).msg_iov, (*header).msg_iovlen);
            runs.iter().map(|run| run.iov_len).sum::<usize>()
        };
        assert!(length <= SEND_BYTES_MAX, "a send is below 2 GiB");
        Self {
            data: Data::Message(header),
            length: length as u32,
        }
    }

    /// How many bytes there are.
    pub(crate) fn len(&self) -> usize {
        self.length as usize
    }

    /// A copy of the bytes.
    ///
    /// # Safety
    /// The send is not over yet.
    #[cfg(any(test, feature = "sim"))]
    pub(crate) unsafe fn copy(&self) -> Vec<u8> {
        match self.data {
            // SAFETY: the bytes stay until the send is over, as was promised.
            Data::Bytes(start) => unsafe { std::slice::from_raw_parts(start, self.len()).to_vec() },
            // SAFETY: as above, for the header, the vector and the bytes.
            Data::Message(header) => unsafe {
                let runs = std::slice::from_raw_parts((*header).msg_iov, (*header).msg_iovlen);
                let run = |run: &libc::iovec| {
                    std::slice::from_raw_parts(run.iov_base.cast::<u8>(), run.iov_len)
                };
                runs.iter().map(run).collect::<Vec<_>>().concat()
            },
        }
    }
}

/// What the kernel says about an operation.
#[derive(Debug)]
pub struct Completion {
    /// The kind of the operation.
    pub op: OpCode,
    /// The token that the operation was submitted with.
    pub token: Token,
    /// A count, a [`Socket`], or a negated errno.
    pub result: i32,
    /// Whether the operation goes on and completes again (`IORING_CQE_F_MORE`).
    pub more: bool,
    /// The receive buffer that was filled; its length is what was received. Dropping it gives it back to
    /// the ring.
    pub buffer: Option<Buffer>,
}

/// How long [`Ring::enter`] may wait for a completion.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Wait {
    /// Not at all: there is more to do.
    No,
    /// At most so long.
    For(Duration),
    /// Until something completes.
    Forever,
}

/// The last time at which a peer took bytes that were sent to it: how long before the last return of
/// [`Ring::enter`], at the least.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Taken {
    /// Since it last acknowledged bytes, or answered otherwise.
    pub acknowledged: Duration,
    /// Since bytes were last sent to it.
    pub sent: Duration,
    /// Whether bytes that were sent wait for its acknowledgement.
    pub is_awaited: bool,
    /// Whether the kernel has more to send to it.
    pub has_more: bool,
    /// Bytes that it has acknowledged since the connection began.
    pub total: u64,
}

impl Taken {
    /// The time since which it has taken nothing. An acknowledgement says that it took bytes if some
    /// were awaited: they still are, or were sent not long before. If nothing was sent for long, it answers
    /// probes of its closed window.
    #[must_use]
    pub fn idle(&self) -> Duration {
        match self.is_awaited {
            true => self.acknowledged,
            false => self.acknowledged.max(self.sent),
        }
    }
}

/// A queue of operations to the kernel and one of completions from it.
///
/// # Safety
/// A shard frees memory by what its ring tells. So an implementation promises:
///
/// - The bytes of an [`Outbound`] are read only between [`Ring::push`] and the end of the send. When
///   [`Ring::enter`] has returned, every send that was pushed before it is over, or its completion is
///   there; and [`Ring::reap`] returns `None` only when every such completion has been returned. If `enter`
///   has failed, they are not read any more.
/// - No operation reads such bytes when the ring has been dropped.
/// - What [`Ring::take_filled`] returns and [`Completion::buffer`] holds is nobody else's.
pub unsafe trait Ring {
    /// Queues an operation. If the submission queue is full, what is queued is submitted.
    fn push(&mut self, op: Op, token: Token);

    /// Submits what is queued, lets the kernel complete what it can, and waits for a completion.
    ///
    /// # Errors
    /// Only such as leave the ring unusable; an interrupted or timed-out wait is no error. When it has
    /// failed once, it fails always, and what is pushed is not submitted.
    fn enter(&mut self, wait: Wait) -> io::Result<()>;

    /// Takes the next completion; `None` when the kernel has no other to tell for now.
    fn reap(&mut self) -> Option<Completion>;

    /// The buffer of an [`Op::Fill`] with this token, which has just completed: with what was received
    /// behind what it held.
    ///
    /// # Panics
    /// If none has.
    fn take_filled(&mut self, fill: Token) -> BytesMut;

    /// How many receive buffers have no owner: the kernel has them, or gets them with the next submission.
    fn buffers_free(&self) -> usize;

    /// Takes no more connections: the kernel refuses who comes, and resets who waits to be accepted.
    /// Accepts under way fail. Another may listen at the address from now on.
    fn stop_listening(&mut self);

    /// Who was accepted by the operation with this token, which has just completed; `None` if that
    /// was not asked for.
    fn peer(&self, accept: Token) -> Option<IpAddr>;

    /// The last time at which the peer took bytes that were sent to it, for the [`Op::QueryTcpInfo`] with this token,
    /// which has just completed; `None` if it has taken none, or if the kernel cannot tell.
    fn taken(&self, quiet: Token) -> Option<Taken>;

    /// What another thread holds to wake this ring.
    fn waker(&self) -> Waker;
}

/// Wakes a ring from another thread: an [`Op::PollWakeup`] completes.
#[derive(Clone, Debug)]
pub struct Waker {
    event: std::sync::Arc<std::os::fd::OwnedFd>,
    /// The ring itself, which other rings can wake without a system call of their own.
    ring: Option<std::sync::Arc<std::os::fd::OwnedFd>>,
}

impl Waker {
    /// A new waker, which no ring polls yet.
    ///
    /// # Errors
    /// Those of eventfd(2).
    pub fn new() -> io::Result<Self> {
        use rustix::event::{EventfdFlags, eventfd};
        let event = eventfd(0, EventfdFlags::CLOEXEC | EventfdFlags::NONBLOCK)?;
        Ok(Self {
            event: std::sync::Arc::new(event),
            ring: None,
        })
    }

    /// Wakes the ring; several calls before it wakes count as one.
    pub fn wake(&self) {
        // The only error that an eventfd gives is EAGAIN, when its counter is full: then the
        // ring has yet to hear an earlier call, which is all that this one wants.
        let _ = rustix::io::write(&self.event, &1_u64.to_ne_bytes());
    }

    /// Clears the calls so far, so that the next one wakes the ring.
    pub(crate) fn clear_calls(&self) {
        let _ = rustix::io::read(&self.event, &mut [0_u8; 8]);
    }

    /// The waker of a ring with this descriptor.
    pub(crate) fn of_ring(mut self, ring: std::os::fd::OwnedFd) -> Self {
        self.ring = Some(std::sync::Arc::new(ring));
        self
    }

    /// Detaches all clones of this waker from the ring: they no longer reach it, nor keep it open. Its descriptor
    /// becomes an eventfd, which io_uring refuses as a ring.
    ///
    /// # Errors
    /// Those of dup3(2).
    pub(crate) fn detach(&self) -> io::Result<()> {
        use std::os::fd::AsRawFd;
        let Some(ring) = self.ring_fd() else {
            return Ok(());
        };
        loop {
            // SAFETY: both descriptors are open, and stay so as long as this value. That the second
            // stands for another file from now on is sound, because it is only ever named to io_uring
            // as the target of IORING_OP_MSG_RING.
            let result = unsafe { libc::dup3(self.event().as_raw_fd(), ring, libc::O_CLOEXEC) };
            if result >= 0 {
                return Ok(());
            }
            let error = io::Error::last_os_error();
            // EBUSY: another thread is just opening something there (dup(2)).
            if !matches!(error.raw_os_error(), Some(libc::EINTR | libc::EBUSY)) {
                return Err(error);
            }
        }
    }

    pub(crate) fn ring_fd(&self) -> Option<std::os::fd::RawFd> {
        use std::os::fd::AsRawFd;
        self.ring.as_ref().map(|ring| ring.as_raw_fd())
    }

    pub(crate) fn event(&self) -> std::os::fd::BorrowedFd<'_> {
        std::os::fd::AsFd::as_fd(&*self.event)
    }
}
