//! The interface between a shard and the kernel: operations go in, completions come out.
//!
//! [`Ring`] has two kinds of implementation: [`Uring`], an io_uring instance, and (with the feature
//! `sim`) the rings of the module `sim`, simulated kernels and networks in virtual time. A shard is
//! generic over them.

mod ack_progress;
mod buffers;
mod completion;
mod op;
mod outbound;
mod probe;
#[cfg(feature = "tasks")]
mod signal;
#[cfg(feature = "sim")]
pub mod sim;
mod token;
mod uring;
mod waker;

pub use ack_progress::AckProgress;
pub use buffers::{Buffer, BufferMemory};
pub(crate) use buffers::{BufferPart, BufferRef};
pub use completion::Completion;
pub use op::{Op, Socket};
pub use outbound::{Outbound, SendMode};
pub use probe::{RingError, kernel_release, raise_descriptors};
#[cfg(feature = "tasks")]
pub(crate) use signal::Signal;
pub use token::{OpCode, Token};
pub use uring::{Setup, Uring};
pub use waker::Waker;

use std::{io, net::SocketAddr, time::Duration};

use bytes::BytesMut;

/// The time that [`Ring::enter`] may wait for a completion.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Wait {
    /// Returns at once.
    No,
    /// Waits for this time at most. If it is zero, takes what a wait would take that ends at once.
    For(Duration),
    /// Waits until an operation completes.
    Forever,
}

/// A queue of operations to the kernel and a queue of completions from it.
///
/// # Safety
/// A shard frees memory as soon as its ring reports that an operation has ended. An implementation
/// guarantees:
///
/// - It reads the bytes of an [`Outbound`] only between [`Ring::push`] and the end of the send. When
///   [`Ring::enter`] has returned, every send that was pushed before has ended, and its completion,
///   if it has one, can be reaped. [`Ring::reap`] returns `None` only after it has returned all of
///   these completions. After `enter` has failed, the ring does not read the bytes any more.
/// - No operation reads these bytes after the ring has been dropped.
/// - The result of [`Ring::take_filled`] and [`Completion::buffer`] have no other owner.
pub unsafe trait Ring {
    /// Queues an operation. If the submission queue is full, the queued operations are submitted first.
    fn push(&mut self, op: Op, token: Token);

    /// Submits the queued operations, runs the kernel's deferred work, and waits for a completion.
    ///
    /// # Errors
    /// Errors that make the ring unusable; an interrupted or expired wait is not an error. After the
    /// first error each call fails, and pushed operations are not submitted.
    fn enter(&mut self, wait: Wait) -> io::Result<()>;

    /// Takes the next completion; `None` if there is none before the next [`Ring::enter`].
    fn reap(&mut self) -> Option<Completion>;

    /// Returns the buffer of the [`Op::Fill`] with this token, with the received bytes appended. Call it
    /// once for each completion of an [`Op::Fill`], before the token is used for another.
    ///
    /// # Panics
    /// If no [`Op::Fill`] with this token has completed.
    fn take_filled(&mut self, fill: Token) -> BytesMut;

    /// The number of receive buffers without an owner: the kernel has them, or gets them with the next
    /// submission.
    fn buffers_free(&self) -> usize;

    /// Stops the listener: the kernel refuses new connections and resets those in the backlog. Accepts
    /// under way fail. Another socket may listen at the address afterwards.
    fn stop_listening(&mut self);

    /// The peer's address of the connection that the accept with this token has just accepted; `None` if it is
    /// neither an IPv4 nor an IPv6 address.
    fn peer(&self, accept: Token) -> Option<SocketAddr>;

    /// Returns the acknowledgements of the peer, for the [`Op::QueryTcpInfo`] with this token, which has just
    /// completed; `None` if the kernel cannot report it.
    fn ack_progress(&self, query: Token) -> Option<AckProgress>;

    /// Returns a handle by which another thread wakes this ring.
    fn waker(&self) -> Waker;
}
