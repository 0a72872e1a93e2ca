//! What this host allows: descriptors, ports, memory, cores.

use std::{fs, io, net::SocketAddr};

use procfs::{Current, Meminfo};
use rustix::{
    process::{Resource, Rlimit, getrlimit, setrlimit},
    thread::{CpuSet, sched_getaffinity, sched_setaffinity},
};

use tidewheel::ring;

use crate::cli::Common;

/// Descriptors that a process needs besides those of its rings.
const DESCRIPTORS_RESERVED: u64 = 64;

/// Process descriptors of a ring: its own, and its bell's.
const DESCRIPTORS_OF_A_RING: u64 = 2;

/// Clients of each ring where one is not enough.
const RING_CAPACITY_MAX: u32 = 16_384;

/// Addresses of loopback that a child is reached by, at most.
const SPREAD_MAX: u32 = 1 << 16;

/// How full the shards of a child are to be: some of their places are kept, and one that is full hands
/// over who comes.
const SHARD_FULL_TENTHS: u32 = 9;

/// The memory of one connection: what the kernel takes for its two ends, armed receives included,
/// and what the two processes take.
const BYTES_OF_A_PAIR: u64 = 11 * 1024;

/// What TLS takes of the generator's memory for each connection, a session to resume included.
const BYTES_OF_TLS: u64 = 6 * 1024;

const PORT_RANGE: &str = "/proc/sys/net/ipv4/ip_local_port_range";

/// Settings of the kernel that bound the number of sockets, and, if there is such, the count that
/// tells whether the setting is in force: a host that tracks connections has tracked some.
const SETTINGS: [(&str, &str, Option<&str>); 2] = [
    ("fs.file-max", "/proc/sys/fs/file-max", None),
    (
        "net.netfilter.nf_conntrack_max",
        "/proc/sys/net/netfilter/nf_conntrack_max",
        Some("/proc/sys/net/netfilter/nf_conntrack_count"),
    ),
];

/// How the connections of a run are laid out.
#[derive(Clone, Debug, Eq, PartialEq)]
pub(crate) struct Layout {
    pub(crate) connections: u32,
    /// What held it to so few.
    pub(crate) limited: Option<Limit>,
    /// Clients of each ring at most.
    pub(crate) ring_capacity: u32,
    /// Addresses of the server.
    pub(crate) spread: u32,
    /// Shards of a child.
    pub(crate) shards: u16,
}

/// A limit of the host, with the command that raises it.
#[derive(Clone, Debug, Eq, PartialEq, thiserror::Error)]
pub(crate) enum Limit {
    /// `RLIMIT_NOFILE` limits the rings of a process, and the direct descriptors of each.
    #[error(
        "{wanted} connections need {rings} rings, and those {descriptors} descriptors; RLIMIT_NOFILE is \
         {limit}. {} raises it, as root",
        ring::raise_descriptors(*descriptors)
    )]
    Descriptors {
        /// The connections asked for.
        wanted: u32,
        /// The rings for so many.
        rings: u32,
        /// The descriptors for these.
        descriptors: u64,
        /// The hard limit.
        limit: u64,
    },
    /// From one address to one other there are only so many ports.
    #[error(
        "{wanted} connections need as many local ports for each address of the server; \
         net.ipv4.ip_local_port_range has {ports}, so --connections is {ports} at most for each. \
         `sysctl -w net.ipv4.ip_local_port_range=\"1024 65535\"` gives 64512, and --spread {} \
         does where the server listens on so many addresses",
        wanted.div_ceil(*ports)
    )]
    Ports {
        /// The connections asked for.
        wanted: u32,
        /// The size of the range.
        ports: u32,
    },
    /// The kernel has a bound for all processes.
    #[error(
        "{wanted} connections need {setting} of {need}; it is {value}. `sysctl -w {setting}={need}` raises it"
    )]
    Setting {
        /// The connections asked for.
        wanted: u32,
        /// Its name.
        setting: &'static str,
        /// What they need.
        need: u64,
        /// What there is.
        value: u64,
    },
    /// Sockets are memory of the kernel's, which cannot be swapped out.
    #[error(
        "{wanted} connections need about {} MiB of memory, of which the most is the kernel's; {} \
         MiB are available. Fewer --connections do with less",
        need >> 20, available >> 20
    )]
    Memory {
        /// The connections asked for.
        wanted: u32,
        /// In bytes.
        need: u64,
        /// In bytes.
        available: u64,
    },
}

/// What there is of everything.
#[derive(Clone, Debug)]
struct Host {
    descriptors: u64,
    ports: u32,
    settings: Vec<(&'static str, u64)>,
    memory: u64,
    /// What of it a connection takes.
    bytes_of_a_pair: u64,
}

/// Raises the soft limit of descriptors to the hard one, also for the child, and gives it.
///
/// # Errors
/// Those of setrlimit(2).
fn raise_descriptors() -> io::Result<u64> {
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
fn local_ports() -> io::Result<u32> {
    let text = fs::read_to_string(PORT_RANGE)?;
    ports_in(&text)
        .ok_or_else(|| io::Error::other(format!("{PORT_RANGE} is `{}`, and no range", text.trim())))
}

fn ports_in(range: &str) -> Option<u32> {
    let mut bounds = range.split_whitespace().map(str::parse::<u32>);
    let (low, high) = (bounds.next()?.ok()?, bounds.next()?.ok()?);
    (high + 1).checked_sub(low)
}

impl Host {
    fn inspect() -> io::Result<Self> {
        let memory = Meminfo::current().map_err(io::Error::other)?;
        let read = |path: &str| fs::read_to_string(path).ok()?.trim().parse::<u64>().ok();
        Ok(Self {
            descriptors: raise_descriptors()?,
            ports: local_ports()?,
            settings: SETTINGS
                .into_iter()
                .filter(|(_, _, count)| count.is_none_or(|path| read(path) != Some(0)))
                .filter_map(|(name, path, _)| Some((name, read(path)?)))
                .collect(),
            memory: memory.mem_available.unwrap_or(memory.mem_free),
            bytes_of_a_pair: BYTES_OF_A_PAIR,
        })
    }

    /// The connections that a ring has room for.
    fn ring_room(&self) -> u32 {
        let room = self.descriptors.saturating_sub(DESCRIPTORS_RESERVED).max(1);
        u32::try_from(room).unwrap_or(u32::MAX)
    }

    fn ring_capacity(&self, connections: u32) -> u32 {
        let room = self.ring_room();
        if connections <= room {
            room
        } else {
            room.min(RING_CAPACITY_MAX)
        }
    }

    /// What forbids so many connections to so many addresses, and how many it would allow.
    fn limit(&self, wanted: u32, spread: u32) -> Option<(Limit, u32)> {
        let rings = wanted.div_ceil(self.ring_capacity(wanted));
        let descriptors = u64::from(rings) * DESCRIPTORS_OF_A_RING + DESCRIPTORS_RESERVED;
        if descriptors > self.descriptors && rings > 1 {
            let limit = Limit::Descriptors {
                wanted,
                rings,
                descriptors,
                limit: self.descriptors,
            };
            return Some((limit, self.ring_room()));
        }
        let reachable = self.ports.saturating_mul(spread);
        if wanted > reachable {
            let ports = self.ports;
            return Some((Limit::Ports { wanted, ports }, reachable));
        }
        // Both ends may be of this host, and others need some too.
        let need = u64::from(wanted) * 2 + 4096;
        for &(setting, value) in &self.settings {
            if need > value {
                let limit = Limit::Setting {
                    wanted,
                    setting,
                    need,
                    value,
                };
                let allowed = value.saturating_sub(4096) / 2;
                return Some((limit, u32::try_from(allowed).unwrap_or(u32::MAX)));
            }
        }
        let need = u64::from(wanted) * self.bytes_of_a_pair;
        let available = self.memory;
        (need > available).then(|| {
            let allowed = available / self.bytes_of_a_pair;
            let limit = Limit::Memory {
                wanted,
                need,
                available,
            };
            (limit, u32::try_from(allowed).unwrap_or(u32::MAX))
        })
    }

    /// Lays out what was asked for, or the default, or fewer where the host does not allow it.
    fn lay_out(
        &self,
        asked: Option<u32>,
        default: u32,
        spread: Option<u32>,
        shards: Option<u16>,
    ) -> Result<Layout, Limit> {
        let mut connections = asked.unwrap_or(default);
        // The kernel tries every second port first, one after the other: once those are taken,
        // each connect costs it a walk over all of them.
        let comfortable = (self.ports / 5 * 2).max(1);
        let spread = match spread {
            Some(spread) => spread,
            None => connections.div_ceil(comfortable).min(SPREAD_MAX),
        };
        let mut limited = None;
        while let Some((limit, allowed)) = self.limit(connections, spread) {
            if asked.is_some() || allowed == 0 {
                return Err(limit);
            }
            connections = allowed.min(connections - 1);
            limited.get_or_insert(limit);
        }
        let room = (self.ring_room() / 10 * SHARD_FULL_TENTHS).max(1);
        let needed = if connections <= self.ring_room() {
            1
        } else {
            connections.div_ceil(room)
        };
        Ok(Layout {
            connections,
            limited,
            ring_capacity: self.ring_capacity(connections),
            spread,
            shards: shards.unwrap_or(u16::try_from(needed).unwrap_or(u16::MAX)),
        })
    }
}

impl Layout {
    /// Decides how the connections of a run are laid out; `default` is their number where none was
    /// asked for.
    ///
    /// # Errors
    /// What was asked for is above a limit, or the limits cannot be read.
    pub(crate) fn plan(common: &Common, default: u32) -> Result<Self, crate::error::RunError> {
        let target = common.target();
        let spread = target.as_ref().map(|target| target.spread);
        let mut host = Host::inspect()?;
        if target.is_some_and(|target| target.name.is_some()) {
            host.bytes_of_a_pair += BYTES_OF_TLS;
        }
        Ok(host.lay_out(common.connections, default, spread, common.shards)?)
    }
}

/// Whether the kernel's socket table of this host has the server's side of its connections.
pub(crate) fn is_local(address: SocketAddr) -> bool {
    // A socket can be bound only to an address of this host.
    address.ip().is_loopback() || std::net::UdpSocket::bind((address.ip(), 0)).is_ok()
}

/// One core for the server and one for the generator, of those that this process may use.
#[derive(Debug)]
pub(crate) struct Cores {
    /// Those that this thread may use without them.
    allowed: CpuSet,
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
            allowed,
            server: only(server),
            generator: only(generator),
            numbers: (server, generator),
        }))
    }

    /// The cores themselves.
    pub(crate) const fn sets(&self) -> [CpuSet; 2] {
        [self.server, self.generator]
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

impl Drop for Cores {
    /// Gives this thread back all the cores that it had, for the next run.
    fn drop(&mut self) {
        // What it was allowed once it is allowed again.
        let _ = sched_setaffinity(None, &self.allowed);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_run_leaves_the_next_the_same_cores() {
        let Some(cores) = Cores::pick().unwrap() else {
            // There is one core only, and nobody is moved.
            return;
        };
        let numbers = cores.numbers;
        cores.enter_generator().unwrap();
        assert!(Cores::pick().unwrap().is_none(), "it has one core now");
        drop(cores);
        assert_eq!(Cores::pick().unwrap().unwrap().numbers, numbers);
    }

    fn host(descriptors: u64, ports: u32) -> Host {
        Host {
            descriptors,
            ports,
            settings: vec![("fs.file-max", 4_000_000)],
            memory: 24 << 30,
            bytes_of_a_pair: BYTES_OF_A_PAIR,
        }
    }

    fn lay_out(host: &Host, asked: Option<u32>) -> Result<Layout, Limit> {
        host.lay_out(asked, 10_000, None, None)
    }

    #[test]
    fn ten_thousand_are_on_one_ring_and_one_address() {
        let layout = lay_out(&host(20_000, 28_232), None).unwrap();
        let expected = Layout {
            connections: 10_000,
            limited: None,
            ring_capacity: 19_936,
            spread: 1,
            shards: 1,
        };
        assert_eq!(layout, expected);
    }

    #[test]
    fn a_million_are_spread_over_rings_shards_and_addresses() {
        let layout = lay_out(&host(20_000, 28_232), Some(1_000_000)).unwrap();
        assert_eq!(
            (layout.ring_capacity, layout.spread, layout.shards),
            (16_384, 89, 56)
        );
        assert_eq!(layout.limited, None);
    }

    #[test]
    fn the_default_adapts_to_the_limits() {
        let few = host(20_000, 5_000);
        let layout = few.lay_out(None, 10_000, Some(1), None).unwrap();
        assert_eq!(layout.connections, 5_000);
        assert!(matches!(layout.limited, Some(Limit::Ports { .. })));
        let mut small = host(20_000, 28_232);
        small.memory = 1_000 * BYTES_OF_A_PAIR;
        let layout = lay_out(&small, None).unwrap();
        assert_eq!(layout.connections, 1_000);
        assert!(matches!(layout.limited, Some(Limit::Memory { .. })));
    }

    #[test]
    fn what_was_asked_for_is_not_adapted() {
        let few = host(20_000, 28_232);
        let limit = few.lay_out(Some(30_000), 1, Some(1), None).unwrap_err();
        assert!(limit.to_string().contains("ip_local_port_range"), "{limit}");
        assert!(limit.to_string().contains("--spread 2"), "{limit}");
        let limit = lay_out(&host(256, 28_232), Some(1_000_000)).unwrap_err();
        assert!(limit.to_string().contains("`ulimit -n 10482`"), "{limit}");
        assert!(lay_out(&host(10_482, 28_232), Some(1_000_000)).is_ok());
        let limit = lay_out(&few, Some(2_000_000)).unwrap_err();
        assert!(
            limit
                .to_string()
                .contains("`sysctl -w fs.file-max=4004096`"),
            "{limit}"
        );
        let mut small = few.clone();
        small.memory = 1 << 30;
        let limit = lay_out(&small, Some(1_000_000)).unwrap_err();
        assert!(matches!(limit, Limit::Memory { .. }), "{limit}");
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
