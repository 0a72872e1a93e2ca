//! What this host's io_uring can do, and why it cannot.

use std::{io, path::Path};

use io_uring::{IoUring, Probe, opcode};

/// The oldest kernel that has all that a shard needs.
const KERNEL_FLOOR: (u32, u32) = (6, 1);

/// Why there is no ring: the likely cause, and the command that mends it.
#[derive(Debug, thiserror::Error)]
pub enum RingError {
    /// The system administrator has forbidden io_uring.
    #[error(
        "io_uring is forbidden here: kernel.io_uring_disabled is {setting}; \
         `sysctl -w kernel.io_uring_disabled=0` allows it"
    )]
    Disabled {
        /// The value of the sysctl: 1 (only for a group) or 2 (for all).
        setting: String,
    },
    /// The kernel allows it, so a system call filter stands in between.
    #[error(
        "io_uring is forbidden here: io_uring_setup says {error}, though the kernel allows it; \
         most likely a container's seccomp profile blocks it. Allow io_uring_setup, \
         io_uring_enter and io_uring_register in it, or run with \
         `--security-opt seccomp=unconfined`"
    )]
    Filtered {
        /// What the system call said.
        error: io::Error,
    },
    /// The kernel is older than this runtime needs.
    #[error(
        "Linux {release} is too old: {missing} is missing; Tidewheel needs Linux 6.1 or newer \
         (`uname -r` tells what runs)"
    )]
    KernelTooOld {
        /// What `uname -r` says.
        release: String,
        /// What is missing.
        missing: &'static str,
    },
    /// Memory for the ring was refused.
    #[error(
        "no memory for the ring: {error}; RLIMIT_MEMLOCK is {limit}. \
         `ulimit -l unlimited` (or LimitMEMLOCK=infinity in the systemd unit) raises it, \
         fewer --shards need less"
    )]
    Memory {
        /// What the system call said.
        error: io::Error,
        /// The soft limit, in bytes, or `unlimited`.
        limit: String,
    },
    /// The table of sockets is larger than the process may have.
    #[error(
        "no table of {sockets} sockets: {error}; RLIMIT_NOFILE is {limit}. \
         {} raises it",
        raise_descriptors((*sockets).into())
    )]
    Sockets {
        /// What the system call said.
        error: io::Error,
        /// How many were asked for.
        sockets: u32,
        /// The soft limit.
        limit: String,
    },
    /// Anything else.
    #[error("io_uring cannot be set up: {0}")]
    Other(io::Error),
}

impl RingError {
    /// The cause of a failed io_uring_setup(2) or eventfd(2).
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

/// Checks that the kernel knows every operation that a shard must have; tells of all others.
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

/// The commands that let a process have so many descriptors, to be read by people.
#[must_use]
pub fn raise_descriptors(count: u64) -> String {
    let most = std::fs::read_to_string("/proc/sys/fs/nr_open").ok();
    let most = most.and_then(|text| text.trim().parse().ok());
    raise_beyond(most.unwrap_or(u64::MAX), count)
}

/// The same, where the kernel allows `most` descriptors to a process.
fn raise_beyond(most: u64, count: u64) -> String {
    let raise = format!("`ulimit -n {count}` (or LimitNOFILE={count} in the systemd unit)");
    match count > most {
        true => format!("`sysctl -w fs.nr_open={count}` and {raise}"),
        false => raise,
    }
}

/// What `uname -r` says.
#[must_use]
pub fn kernel_release() -> String {
    rustix::system::uname()
        .release()
        .to_string_lossy()
        .into_owned()
}

fn kernel_is_old() -> bool {
    version(&kernel_release()).is_some_and(|version| version < KERNEL_FLOOR)
}

/// The first two numbers of a kernel release.
fn version(release: &str) -> Option<(u32, u32)> {
    let mut numbers = release.split(|c: char| !c.is_ascii_digit());
    Some((numbers.next()?.parse().ok()?, numbers.next()?.parse().ok()?))
}

/// The sysctl's value, where it forbids io_uring.
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
    fn more_descriptors_than_the_kernel_allows_need_its_setting_first() {
        let raise = "`ulimit -n 1048577` (or LimitNOFILE=1048577 in the systemd unit)";
        assert_eq!(raise_beyond(1 << 21, 1_048_577), raise);
        assert_eq!(raise_beyond(1_048_577, 1_048_577), raise);
        let setting = format!("`sysctl -w fs.nr_open=1048577` and {raise}");
        assert_eq!(raise_beyond(1 << 20, 1_048_577), setting);
    }

    #[test]
    fn releases_are_compared_by_number() {
        assert_eq!(version("6.18.44-cloud"), Some((6, 18)));
        assert_eq!(version("5.15.0-139-generic"), Some((5, 15)));
        assert_eq!(version("mainline"), None);
        assert!(version("6.10.1") > Some(KERNEL_FLOOR));
        assert!(version("5.15.0") < Some(KERNEL_FLOOR));
    }
}
