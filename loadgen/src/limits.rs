//! What this host allows: descriptors, ports, cores.

use std::{fs, io, net::SocketAddr};

use rustix::{
    process::{Resource, Rlimit, getrlimit, setrlimit},
    thread::{CpuSet, sched_getaffinity, sched_setaffinity},
};
use tidewheel::ring::kernel_release;

/// Connections of a run for which nothing else was said.
const CONNECTIONS_DEFAULT: u32 = 10_000;

/// Descriptors that a process needs besides its connections.
const DESCRIPTORS_RESERVED: u64 = 64;

/// The first Linux whose rings set socket options.
const RESET_SINCE: (u32, u32) = (6, 7);

const PORT_RANGE: &str = "/proc/sys/net/ipv4/ip_local_port_range";

/// How many connections the run has, and what held it to so few.
#[derive(Clone, Debug, Eq, PartialEq)]
pub(crate) struct Connections {
    pub(crate) count: u32,
    pub(crate) limited: Option<Limit>,
}

/// A limit of the host, with the command that raises it.
#[derive(Clone, Debug, Eq, PartialEq, thiserror::Error)]
pub(crate) enum Limit {
    /// `RLIMIT_NOFILE` limits the direct descriptors of a ring, here and in the child.
    #[error(
        "{wanted} connections need {} descriptors; RLIMIT_NOFILE is {limit}. \
         `ulimit -n {}` (as root, or LimitNOFILE= in the systemd unit) raises it",
        u64::from(*wanted) + DESCRIPTORS_RESERVED, u64::from(*wanted) + DESCRIPTORS_RESERVED
    )]
    Descriptors {
        /// The connections asked for.
        wanted: u32,
        /// The hard limit.
        limit: u64,
    },
    /// From one address to one other there are only so many ports.
    #[error(
        "{wanted} connections need as many local ports; net.ipv4.ip_local_port_range has {ports}. \
         `sysctl -w net.ipv4.ip_local_port_range=\"1024 65535\"` gives 64512"
    )]
    Ports {
        /// The connections asked for.
        wanted: u32,
        /// The size of the range.
        ports: u32,
    },
}

/// Raises the soft limit of descriptors to the hard one, also for the child, and gives it.
///
/// # Errors
/// Those of setrlimit(2).
pub(crate) fn raise_descriptors() -> io::Result<u64> {
    let maximum = getrlimit(Resource::Nofile).maximum;
    let raised = Rlimit {
        current: maximum,
        maximum,
    };
    setrlimit(Resource::Nofile, raised)?;
    Ok(maximum.unwrap_or(u64::MAX))
}

/// The local ports that connecting may use.
///
/// # Errors
/// Where the kernel does not tell.
pub(crate) fn local_ports() -> io::Result<u32> {
    let text = fs::read_to_string(PORT_RANGE)?;
    ports_in(&text).ok_or_else(|| io::Error::other(format!("{PORT_RANGE} is {text:?}")))
}

fn ports_in(range: &str) -> Option<u32> {
    let mut bounds = range.split_whitespace().map(str::parse::<u32>);
    let (low, high) = (bounds.next()?.ok()?, bounds.next()?.ok()?);
    (high + 1).checked_sub(low)
}

/// Decides on the number of connections: what was asked for, or the default, or fewer where the
/// host does not allow it.
///
/// # Errors
/// What was asked for is above a limit.
pub(crate) fn connections(
    asked: Option<u32>,
    descriptors: u64,
    ports: u32,
) -> Result<Connections, Limit> {
    let wanted = asked.unwrap_or(CONNECTIONS_DEFAULT);
    let available = descriptors.saturating_sub(DESCRIPTORS_RESERVED);
    let available = u32::try_from(available).unwrap_or(u32::MAX);
    let limited = if wanted > available {
        let limit = descriptors;
        Some(Limit::Descriptors { wanted, limit })
    } else if wanted > ports {
        Some(Limit::Ports { wanted, ports })
    } else {
        None
    };
    match (asked, limited) {
        (Some(_), Some(limit)) => Err(limit),
        (_, limited) => Ok(Connections {
            count: wanted.min(available).min(ports),
            limited,
        }),
    }
}

/// Checks that the kernel can set socket options through a ring, which resetting needs.
///
/// # Errors
/// It is older than Linux 6.7.
pub(crate) fn require_reset() -> Result<(), ResetUnsupported> {
    let release = kernel_release();
    let mut numbers = release.split(|c: char| !c.is_ascii_digit());
    let mut number = || numbers.next()?.parse::<u32>().ok();
    match number().zip(number()) {
        Some(version) if version < RESET_SINCE => Err(ResetUnsupported { release }),
        Some(_) | None => Ok(()),
    }
}

/// `--mode reset` on an old kernel.
#[derive(Clone, Debug, Eq, PartialEq, thiserror::Error)]
#[error(
    "--mode reset needs Linux 6.7 or newer (IORING_OP_URING_CMD with SOCKET_URING_OP_SETSOCKOPT); \
     this is {release}. The modes close and silent work here"
)]
pub(crate) struct ResetUnsupported {
    release: String,
}

/// Whether the kernel's socket table of this host has the server's side of its connections.
pub(crate) fn is_local(address: SocketAddr) -> bool {
    // A socket can be bound only to an address of this host.
    address.ip().is_loopback() || std::net::UdpSocket::bind((address.ip(), 0)).is_ok()
}

/// One core for the server and one for the generator, of those that this process may use.
#[derive(Debug)]
pub(crate) struct Cores {
    server: CpuSet,
    generator: CpuSet,
    /// Their numbers: the server's, the generator's.
    pub(crate) numbers: (usize, usize),
}

impl Cores {
    /// Two of the cores; `None` where there is one only.
    ///
    /// # Errors
    /// Those of sched_getaffinity(2).
    pub(crate) fn pick() -> io::Result<Option<Self>> {
        let allowed = sched_getaffinity(None)?;
        let mut numbers = (0..CpuSet::MAX_CPU).filter(|&core| allowed.is_set(core));
        let (Some(server), Some(generator)) = (numbers.next(), numbers.next()) else {
            return Ok(None);
        };
        let only = |core| {
            let mut set = CpuSet::new();
            set.set(core);
            set
        };
        Ok(Some(Self {
            server: only(server),
            generator: only(generator),
            numbers: (server, generator),
        }))
    }

    /// Moves this thread to the server's core: what it starts now stays there.
    ///
    /// # Errors
    /// Those of sched_setaffinity(2).
    pub(crate) fn enter_server(&self) -> io::Result<()> {
        Ok(sched_setaffinity(None, &self.server)?)
    }

    /// Moves this thread to the generator's core.
    ///
    /// # Errors
    /// Those of sched_setaffinity(2).
    pub(crate) fn enter_generator(&self) -> io::Result<()> {
        Ok(sched_setaffinity(None, &self.generator)?)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_default_adapts_to_the_limits() {
        let all = connections(None, 20_000, 28_232).unwrap();
        assert_eq!((all.count, all.limited), (10_000, None));
        let few = connections(None, 1_024, 28_232).unwrap();
        assert_eq!(few.count, 960);
        assert!(matches!(few.limited, Some(Limit::Descriptors { .. })));
        let few = connections(None, 20_000, 5_000).unwrap();
        assert_eq!(few.count, 5_000);
        assert!(matches!(few.limited, Some(Limit::Ports { .. })));
    }

    #[test]
    fn what_was_asked_for_is_not_adapted() {
        assert_eq!(
            connections(Some(19_936), 20_000, 28_232).unwrap().count,
            19_936
        );
        let limit = connections(Some(19_937), 20_000, 28_232).unwrap_err();
        assert!(limit.to_string().contains("`ulimit -n 20001`"), "{limit}");
        let limit = connections(Some(6_000), 20_000, 5_000).unwrap_err();
        assert!(limit.to_string().contains("ip_local_port_range"), "{limit}");
    }

    #[test]
    fn a_port_range_includes_both_ends() {
        assert_eq!(ports_in("32768\t60999\n"), Some(28_232));
        assert_eq!(ports_in("60999 32768"), None);
        assert_eq!(ports_in(""), None);
    }

    #[test]
    fn only_addresses_of_this_host_are_local() {
        assert!(is_local("127.0.0.9:80".parse().unwrap()));
        // TEST-NET-1 (RFC 5737) is nobody's.
        assert!(!is_local("192.0.2.1:80".parse().unwrap()));
    }
}
