//! System calls on a temporary process descriptor of a socket, for operations that io_uring lacks or runs on
//! a kernel worker.

use std::{
    collections::HashMap,
    io,
    os::fd::{AsRawFd, FromRawFd, OwnedFd},
    time::{Duration, Instant},
};

use io_uring::{opcode, squeue};

use super::{
    entries::fixed,
    user_data::{self, Purpose},
};
use crate::ring::{AckProgress, Completion, OpCode, Socket, Token};

/// The longest tick of a kernel (time(7): HZ is 100, 250, 300 or 1000).
const JIFFY_MAX: Duration = Duration::from_millis(10);

/// Installs process descriptors for sockets, and makes the system calls on them.
#[derive(Debug)]
pub(super) struct Installer {
    /// Whether descriptors can be installed: since Linux 6.8, until the process runs out of descriptors.
    /// Otherwise IORING_OP_SHUTDOWN is used, which always runs on a kernel worker.
    installs: bool,
    /// Sends under way with `finish`, by the slot in their token.
    finishing: HashMap<u32, FinishingSend>,
    /// The time of the last return from the kernel, which is not later than the caller's `now`.
    left_at: Instant,
    /// Answers to queries since then.
    ack_progress: HashMap<Token, AckProgress>,
}

/// A send that a shutdown follows.
#[derive(Clone, Copy, Debug)]
struct FinishingSend {
    length: usize,
    /// Whether the socket has taken all bytes. True for a silent send without a completion.
    is_complete: bool,
}

impl Installer {
    pub(super) fn new(installs: bool) -> Self {
        Self {
            installs,
            finishing: HashMap::new(),
            left_at: instant(),
            ack_progress: HashMap::new(),
        }
    }

    /// Records that the kernel has just returned; drops the answers to earlier queries.
    pub(super) fn note_left(&mut self) {
        self.left_at = instant();
        self.ack_progress.clear();
    }

    /// Returns the entry that starts a shutdown of the sending direction.
    pub(super) fn shutdown(&self, socket: Socket, token: Token) -> squeue::Entry {
        if self.installs {
            install(socket, Purpose::InstallToShutdown, token)
        } else {
            shutdown_by_ring(socket, token)
        }
    }

    /// Returns the entries of a send of `length` bytes, and of the shutdown that follows it unless it is short.
    pub(super) fn send_and_shutdown(
        &mut self,
        send: squeue::Entry,
        length: usize,
        is_silent: bool,
        socket: Socket,
        token: Token,
    ) -> [squeue::Entry; 2] {
        if !self.installs {
            return [
                send.flags(squeue::Flags::IO_LINK),
                shutdown_by_ring(socket, token),
            ];
        }
        // Not linked: the kernel starts a linked entry only after all deferred work before it. Unlinked, both
        // are carried out on submission, in order, and `installed` checks the result of the send.
        let send_state = FinishingSend {
            length,
            is_complete: is_silent,
        };
        self.finishing.insert(token.slot(), send_state);
        [send, install(socket, Purpose::InstallToShutdown, token)]
    }

    /// Records the result of a send.
    pub(super) fn note_sent(&mut self, token: Token, result: i32) {
        if !self.finishing.is_empty()
            && let Some(send) = self.finishing.get_mut(&token.slot())
        {
            send.is_complete = usize::try_from(result) == Ok(send.length);
        }
    }

    /// Returns the entry that starts a query of `TCP_INFO`; `None` if descriptors cannot be installed.
    pub(super) fn query(&self, socket: Socket, token: Token) -> Option<squeue::Entry> {
        self.installs
            .then(|| install(socket, Purpose::InstallToQuery, token))
    }

    /// Makes the system call that a descriptor was installed for. `result` is the descriptor, or a negated
    /// errno.
    pub(super) fn installed(&mut self, purpose: Purpose, token: Token, result: i32) -> Completion {
        let descriptor = if result < 0 {
            if matches!(-result, libc::EMFILE | libc::ENFILE) {
                self.installs = false;
            }
            Err(result)
        } else {
            // SAFETY: the kernel has just created this descriptor, and nothing else owns it.
            Ok(unsafe { OwnedFd::from_raw_fd(result) })
        };
        let (op, result) = if purpose == Purpose::InstallToShutdown {
            (OpCode::ShutdownWrite, self.shutdown_now(token, descriptor))
        } else {
            (OpCode::QueryTcpInfo, self.query_now(token, descriptor))
        };
        let result = result.unwrap_or_else(|error| error);
        Completion::last(op, token, result)
    }

    fn shutdown_now(&mut self, token: Token, socket: Result<OwnedFd, i32>) -> Result<i32, i32> {
        let send = self.finishing.remove(&token.slot());
        if send.is_some_and(|send| !send.is_complete) {
            return Err(-libc::ECANCELED);
        }
        match rustix::net::shutdown(&socket?, rustix::net::Shutdown::Write) {
            Ok(()) => Ok(0),
            Err(error) => Err(-error.raw_os_error()),
        }
    }

    fn query_now(&mut self, token: Token, socket: Result<OwnedFd, i32>) -> Result<i32, i32> {
        let info = tcp_info(&socket?)?;
        let since_left = instant() - self.left_at;
        // The kernel's times are multiples of its tick.
        let before = |millis: u32| {
            Duration::from_millis(millis.into()).saturating_sub(JIFFY_MAX + since_left)
        };
        let progress = AckProgress {
            acknowledged: before(last_progress_ms(&info)),
            sent: before(info.tcpi_last_data_sent),
            is_awaited: info.tcpi_unacked > 0,
            has_more: info.tcpi_notsent_bytes > 0,
            total: info.tcpi_bytes_acked,
        };
        self.ack_progress.insert(token, progress);
        let silence = before(info.tcpi_last_data_recv);
        Ok(i32::try_from(silence.as_millis()).unwrap_or(i32::MAX))
    }

    /// The answer to the query with this token, if it came since the last return from the kernel.
    pub(super) fn ack_progress(&self, query: Token) -> Option<AckProgress> {
        self.ack_progress.get(&query).copied()
    }
}

/// Installs a process descriptor for a socket (`IORING_OP_FIXED_FD_INSTALL`).
fn install(socket: Socket, purpose: Purpose, token: Token) -> squeue::Entry {
    let entry = opcode::FixedFdInstall::new(fixed(socket), 0).build();
    entry.user_data(user_data::encode(purpose, token))
}

/// Shuts down the sending direction on a kernel worker.
fn shutdown_by_ring(socket: Socket, token: Token) -> squeue::Entry {
    let entry = opcode::Shutdown::new(fixed(socket), libc::SHUT_WR).build();
    entry.user_data(user_data::of(OpCode::ShutdownWrite, token))
}

#[expect(
    clippy::disallowed_methods,
    reason = "times in TCP_INFO count from the system call, not from the shard's `now`"
)]
fn instant() -> Instant {
    Instant::now()
}

/// A lower bound of the milliseconds since the peer last acknowledged new bytes.
///
/// A peer that drops received bytes acknowledges the same bytes after each retransmission. While
/// retransmissions are under way, the last new acknowledgement came before the first of them.
fn last_progress_ms(info: &libc::tcp_info) -> u32 {
    let answered = info.tcpi_last_ack_recv;
    // Retransmissions into a window that closed again increase only the backoff.
    if info.tcpi_retransmits == 0 && info.tcpi_backoff == 0 {
        return answered;
    }
    // Each timeout is twice the one before. `tcpi_rto` is the current one in microseconds.
    let now_ms = info.tcpi_rto / 1000;
    let first_ms = now_ms >> u32::from(info.tcpi_backoff).min(31);
    let since_first = info.tcpi_last_data_sent.saturating_add(now_ms - first_ms);
    answered.max(since_first)
}

/// Reads `TCP_INFO` (tcp(7)); the error is a negated errno.
fn tcp_info(socket: &OwnedFd) -> Result<libc::tcp_info, i32> {
    // SAFETY: a structure of integers is valid when all zero.
    let mut info: libc::tcp_info = unsafe { std::mem::zeroed() };
    let mut length = size_of_val(&info) as libc::socklen_t;
    // SAFETY: the kernel writes at most `length` bytes, integers, into `info`.
    let result = unsafe {
        libc::getsockopt(
            socket.as_raw_fd(),
            libc::IPPROTO_TCP,
            libc::TCP_INFO,
            (&raw mut info).cast(),
            &raw mut length,
        )
    };
    if result == 0 {
        Ok(info)
    } else {
        Err(-io::Error::last_os_error()
            .raw_os_error()
            .unwrap_or(libc::EIO))
    }
}
