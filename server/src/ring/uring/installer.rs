//! What the ring does not have, or has only on a kernel worker: a system call on a process
//! descriptor that the ring gives a socket as well, for that moment.

use std::{
    collections::HashMap,
    io,
    os::fd::{AsRawFd, FromRawFd, OwnedFd},
    time::{Duration, Instant},
};

use io_uring::{opcode, squeue};

use super::{
    completion,
    entries::fixed,
    user_data::{self, Purpose},
};
use crate::ring::{Completion, OpCode, Socket, Taken, Token};

/// The kernel's tick where it is longest (time(7): HZ is 100, 250, 300 or 1000).
const JIFFY_MAX: Duration = Duration::from_millis(10);

/// Installs descriptors, and does what they are for.
#[derive(Debug)]
pub(super) struct Installer {
    /// Since Linux 6.8, as long as there are descriptors left. Without, shutting down is left to the
    /// ring: always on a kernel worker, which looks up the direct descriptor only there.
    installs: bool,
    /// Sends that a shutdown is to follow, by the slot in their token.
    ending: HashMap<u32, Ending>,
    /// When the kernel was last left: not after the moment that the caller takes for now.
    left: Instant,
    /// The answers about what peers have taken, since then.
    taken: HashMap<Token, Taken>,
}

/// A send that a shutdown is to follow.
#[derive(Clone, Copy, Debug)]
struct Ending {
    length: usize,
    /// Whether the socket has taken all of it: a silent send has, unless it tells otherwise.
    is_whole: bool,
}

impl Installer {
    pub(super) fn new(installs: bool) -> Self {
        Self {
            installs,
            ending: HashMap::new(),
            left: instant(),
            taken: HashMap::new(),
        }
    }

    /// Notes that the kernel was just left.
    pub(super) fn note_left(&mut self) {
        self.left = instant();
        self.taken.clear();
    }

    /// The entry that leads to a shutdown of the sending direction.
    pub(super) fn finish(&self, socket: Socket, token: Token) -> squeue::Entry {
        if self.installs {
            install(socket, Purpose::InstallToShutdown, token)
        } else {
            shutdown(socket, token)
        }
    }

    /// The entries of a send of `length` bytes and of the shutdown that follows it if it is whole.
    pub(super) fn finish_behind(
        &mut self,
        send: squeue::Entry,
        length: usize,
        is_silent: bool,
        socket: Socket,
        token: Token,
    ) -> [squeue::Entry; 2] {
        if !self.installs {
            return [send.flags(squeue::Flags::IO_LINK), shutdown(socket, token)];
        }
        // Not linked: a link is followed only when all deferred work before it has run. Both are
        // done when they are submitted, in this order, and `installed` looks at how the send ended.
        let ending = Ending {
            length,
            is_whole: is_silent,
        };
        self.ending.insert(token.slot(), ending);
        [send, install(socket, Purpose::InstallToShutdown, token)]
    }

    /// Notes how a send has ended.
    pub(super) fn note_sent(&mut self, token: Token, result: i32) {
        if !self.ending.is_empty()
            && let Some(ending) = self.ending.get_mut(&token.slot())
        {
            ending.is_whole = usize::try_from(result) == Ok(ending.length);
        }
    }

    /// The entry that leads to how long the peer has been quiet, if that can be told.
    pub(super) fn ask(&self, socket: Socket, token: Token) -> Option<squeue::Entry> {
        self.installs
            .then(|| install(socket, Purpose::InstallToQuery, token))
    }

    /// Does what a descriptor was installed for; `result` is the descriptor, or a negated errno.
    pub(super) fn installed(&mut self, purpose: Purpose, token: Token, result: i32) -> Completion {
        let descriptor = if result < 0 {
            if matches!(-result, libc::EMFILE | libc::ENFILE) {
                self.installs = false;
            }
            Err(result)
        } else {
            // SAFETY: the kernel has just made this descriptor for us, and nobody else knows it.
            Ok(unsafe { OwnedFd::from_raw_fd(result) })
        };
        let (op, result) = if purpose == Purpose::InstallToShutdown {
            (OpCode::ShutdownWrite, self.shutdown_now(token, descriptor))
        } else {
            (OpCode::QueryTcpInfo, self.query_now(token, descriptor))
        };
        let result = result.unwrap_or_else(|error| error);
        completion(op, token, result)
    }

    fn shutdown_now(&mut self, token: Token, socket: Result<OwnedFd, i32>) -> Result<i32, i32> {
        let ending = self.ending.remove(&token.slot());
        if ending.is_some_and(|ending| !ending.is_whole) {
            return Err(-libc::ECANCELED);
        }
        match rustix::net::shutdown(&socket?, rustix::net::Shutdown::Write) {
            Ok(()) => Ok(0),
            Err(error) => Err(-error.raw_os_error()),
        }
    }

    fn query_now(&mut self, token: Token, socket: Result<OwnedFd, i32>) -> Result<i32, i32> {
        let info = tcp_info(&socket?)?;
        let since_left = instant() - self.left;
        // The kernel counts in ticks of its own.
        let before = |millis: u32| {
            Duration::from_millis(millis.into()).saturating_sub(JIFFY_MAX + since_left)
        };
        let taken = Taken {
            acknowledged: before(last_progress_ms(&info)),
            sent: before(info.tcpi_last_data_sent),
            is_awaited: info.tcpi_unacked > 0,
            has_more: info.tcpi_notsent_bytes > 0,
            total: info.tcpi_bytes_acked,
        };
        self.taken.insert(token, taken);
        let quiet = before(info.tcpi_last_data_recv);
        Ok(i32::try_from(quiet.as_millis()).unwrap_or(i32::MAX))
    }

    /// The answer to the question with this token, if it came since the kernel was last left.
    pub(super) fn taken(&self, quiet: Token) -> Option<Taken> {
        self.taken.get(&quiet).copied()
    }
}

/// Gives a socket a process descriptor as well, to do `purpose` with.
fn install(socket: Socket, purpose: Purpose, token: Token) -> squeue::Entry {
    let entry = opcode::FixedFdInstall::new(fixed(socket), 0).build();
    entry.user_data(user_data::encode(purpose, token))
}

fn shutdown(socket: Socket, token: Token) -> squeue::Entry {
    let entry = opcode::Shutdown::new(fixed(socket), libc::SHUT_WR).build();
    entry.user_data(user_data::of(OpCode::ShutdownWrite, token))
}

#[expect(
    clippy::disallowed_methods,
    reason = "what the kernel says of its own time counts from when it was asked"
)]
fn instant() -> Instant {
    Instant::now()
}

/// The milliseconds since the peer last acknowledged bytes that it had not before, at the least.
///
/// A peer that drops what is sent to it again and again acknowledges the same bytes each time. While such
/// retransmissions are under way, the first of them came later than the last progress.
fn last_progress_ms(info: &libc::tcp_info) -> u32 {
    let answered = info.tcpi_last_ack_recv;
    // Into a window that was closed again they are not counted, and wait for longer all the same.
    if info.tcpi_retransmits == 0 && info.tcpi_backoff == 0 {
        return answered;
    }
    // Each wait is twice the one before; the one that runs now has this length, in microseconds.
    let now_ms = info.tcpi_rto / 1000;
    let first_ms = now_ms >> u32::from(info.tcpi_backoff).min(31);
    let since_first = info.tcpi_last_data_sent.saturating_add(now_ms - first_ms);
    answered.max(since_first)
}

/// The kernel's knowledge of a connection (tcp(7), `TCP_INFO`); or a negated errno.
fn tcp_info(socket: &OwnedFd) -> Result<libc::tcp_info, i32> {
    // SAFETY: a structure of numbers is valid when all zero.
    let mut info: libc::tcp_info = unsafe { std::mem::zeroed() };
    let mut length = size_of_val(&info) as libc::socklen_t;
    // SAFETY: the kernel writes at most `length` bytes into `info`, which are numbers.
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
