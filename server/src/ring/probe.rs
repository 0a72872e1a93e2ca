//! Support of io_uring on this host, and the causes of its absence.

use std::{io, path::Path};

use io_uring::{IoUring, Probe, opcode};

/// The oldest kernel that supports every operation that a shard needs.
const KERNEL_MIN: (u32, u32) = (6, 1);

/// A failure to create a ring. The message names the likely cause, and the command that fixes it.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum RingError {
    /// The sysctl `kernel.io_uring_disabled` forbids io_uring.
    #[error(
        "io_uring is forbidden here: kernel.io_uring_disabled is {setting}; \
         `sysctl -w kernel.io_uring_disabled=0` allows it"
    )]
    Disabled {
        /// The value of the sysctl: 1 (only for a group) or 2 (for all).
        setting: String,
    },
    /// A system call filter forbids io_uring, which the sysctl allows.
    #[error(
        "io_uring is forbidden here: io_uring_setup fails with {error}, though the sysctl allows it; \
         most likely a container's seccomp profile blocks it. Allow io_uring_setup, \
         io_uring_enter and io_uring_register in it, or run with \
         `--security-opt seccomp=unconfined`"
    )]
    Filtered {
        /// The error of the system call.
        error: io::Error,
    },
    /// The kernel is older than this runtime needs.
    #[error(
        "Linux {release} is too old: {missing} is missing; Tidewheel needs Linux 6.1 or newer \
         (`uname -r` prints the version)"
    )]
    KernelTooOld {
        /// The output of `uname -r`.
        release: String,
        /// The missing feature.
        missing: &'static str,
    },
    /// The kernel has no memory for the ring.
    #[error(
        "no memory for the ring: {error}; RLIMIT_MEMLOCK is {limit}. \
         `ulimit -l unlimited` (or LimitMEMLOCK=infinity in the systemd unit) raises it, \
         fewer shards need less memory"
    )]
    Memory {
        /// The error of the system call.
        error: io::Error,
        /// The soft limit `RLIMIT_MEMLOCK` in bytes, or `unlimited`.
        limit: String,
    },
    /// The table of sockets is larger than `RLIMIT_NOFILE`.
    #[error(
        "no table of {sockets} sockets: {error}; RLIMIT_NOFILE is {limit}. \
         {} raises it",
        raise_descriptors((*sockets).into())
    )]
    Sockets {
        /// The error of the system call.
        error: io::Error,
        /// The requested number of sockets.
        sockets: u32,
        /// The soft limit `RLIMIT_NOFILE`, or `unlimited`.
        limit: String,
    },
    /// Any other error.
    #[error("io_uring cannot be set up: {0}")]
    Other(io::Error),
}

impl RingError {
    /// Maps an error of io_uring_setup(2), eventfd(2) or dup(2).
    pub(crate) fn setup(error: io::Error) -> Self {
        match error.raw_os_error() {
            Some(libc::EPERM | libc::EACCES) => match disabled() {
                Some(setting) => Self::Disabled { setting },
                None => Self::Filtered { error },
            },
            Some(libc::ENOSYS) if !kernel_is_old() => Self::Filtered { error },
            Some(libc::ENOSYS) => Self::too_old("io_uring"),
            Some(libc::EINVAL) if kernel_is_old() => Self::too_old("IORING_SETUP_DEFER_TASKRUN"),
            Some(libc::ENOMEM) => Self::memory(error),
            Some(libc::EMFILE) => Self::Sockets {
                error,
                sockets: 64,
                limit: limit(rustix::process::Resource::Nofile),
            },
            _ => Self::Other(error),
        }
    }

    /// Maps an error of mmap(2) or of registering the buffer ring.
    pub(super) fn memory(error: io::Error) -> Self {
        match error.raw_os_error() {
            Some(libc::ENOMEM) => Self::Memory {
                error,
                limit: limit(rustix::process::Resource::Memlock),
            },
            Some(libc::EINVAL) if kernel_is_old() => Self::too_old("IORING_REGISTER_PBUF_RING"),
            _ => Self::Other(error),
        }
    }

    /// Maps an error of registering the table of sockets.
    pub(super) fn sockets(error: io::Error, sockets: u32) -> Self {
        match error.raw_os_error() {
            Some(libc::EMFILE) => Self::Sockets {
                error,
                sockets,
                limit: limit(rustix::process::Resource::Nofile),
            },
            Some(libc::ENOMEM) => Self::memory(error),
            _ => Self::Other(error),
        }
    }

    fn too_old(missing: &'static str) -> Self {
        Self::KernelTooOld {
            release: kernel_release(),
            missing,
        }
    }
}

/// Checks that the kernel supports every operation that a shard needs; returns what else it supports.
pub(super) fn require(ring: &IoUring) -> Result<Probe, RingError> {
    if kernel_is_old() {
        return Err(RingError::too_old(
            "multishot receive with deferred task work",
        ));
    }
    let mut probe = Probe::new();
    ring.submitter()
        .register_probe(&mut probe)
        .map_err(RingError::setup)?;
    let needed = [
        (opcode::AcceptMulti::CODE, "IORING_OP_ACCEPT"),
        (opcode::RecvMulti::CODE, "IORING_OP_RECV"),
        (opcode::Send::CODE, "IORING_OP_SEND"),
        (opcode::SendMsg::CODE, "IORING_OP_SENDMSG"),
        (opcode::Shutdown::CODE, "IORING_OP_SHUTDOWN"),
        (opcode::Close::CODE, "IORING_OP_CLOSE"),
        (opcode::AsyncCancel2::CODE, "IORING_OP_ASYNC_CANCEL"),
        (opcode::PollAdd::CODE, "IORING_OP_POLL_ADD"),
        (opcode::Socket::CODE, "IORING_OP_SOCKET"),
        (opcode::Connect::CODE, "IORING_OP_CONNECT"),
    ];
    match needed
        .into_iter()
        .find(|(code, _)| !probe.is_supported(*code))
    {
        Some((_, missing)) => Err(RingError::too_old(missing)),
        None => Ok(probe),
    }
}

/// Returns the commands that raise the descriptor limit of a process to `count`, as text for messages.
#[must_use]
pub fn raise_descriptors(count: u64) -> String {
    let nr_open = std::fs::read_to_string("/proc/sys/fs/nr_open").ok();
    let nr_open = nr_open.and_then(|text| text.trim().parse().ok());
    raise_commands(nr_open.unwrap_or(u64::MAX), count)
}

/// Returns the commands for a host whose `fs.nr_open` is `nr_open`.
fn raise_commands(nr_open: u64, count: u64) -> String {
    let raise = format!("`ulimit -n {count}` (or LimitNOFILE={count} in the systemd unit)");
    match count > nr_open {
        true => format!("`sysctl -w fs.nr_open={count}` and {raise}"),
        false => raise,
    }
}

/// Returns the kernel release, as `uname -r` prints it.
#[must_use]
pub fn kernel_release() -> String {
    rustix::system::uname()
        .release()
        .to_string_lossy()
        .into_owned()
}

fn kernel_is_old() -> bool {
    version(&kernel_release()).is_some_and(|version| version < KERNEL_MIN)
}

/// The first two numbers of a kernel release.
fn version(release: &str) -> Option<(u32, u32)> {
    let mut numbers = release.split(|c: char| !c.is_ascii_digit());
    Some((numbers.next()?.parse().ok()?, numbers.next()?.parse().ok()?))
}

/// Returns the value of the sysctl if it forbids io_uring.
fn disabled() -> Option<String> {
    let setting = std::fs::read_to_string(Path::new("/proc/sys/kernel/io_uring_disabled")).ok()?;
    let setting = setting.trim();
    (setting != "0").then(|| setting.to_owned())
}

fn limit(resource: rustix::process::Resource) -> String {
    match rustix::process::getrlimit(resource).current {
        Some(limit) => limit.to_string(),
        None => "unlimited".to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_limit_above_nr_open_needs_the_sysctl_first() {
        let raise = "`ulimit -n 1048577` (or LimitNOFILE=1048577 in the systemd unit)";
        assert_eq!(raise_commands(1 << 21, 1_048_577), raise);
        assert_eq!(raise_commands(1_048_577, 1_048_577), raise);
        let setting = format!("`sysctl -w fs.nr_open=1048577` and {raise}");
        assert_eq!(raise_commands(1 << 20, 1_048_577), setting);
    }

    #[test]
    fn releases_are_compared_by_number() {
        assert_eq!(version("6.18.44-cloud"), Some((6, 18)));
        assert_eq!(version("5.15.0-139-generic"), Some((5, 15)));
        assert_eq!(version("mainline"), None);
        assert!(version("6.10.1") > Some(KERNEL_MIN));
        assert!(version("5.15.0") < Some(KERNEL_MIN));
    }
}
