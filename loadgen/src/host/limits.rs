//! Limits of this host for connections: descriptors, ports, kernel settings and memory.

use std::{fs, io};

use procfs::{Current, Meminfo};
use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};

use tidewheel::ring;

/// Descriptors of a process besides the descriptors of its rings.
const DESCRIPTORS_RESERVED: u64 = 64;

/// Process descriptors of a ring: its own, and that of its waker.
const RING_DESCRIPTORS: u64 = 2;

/// Largest number of clients of each of several rings.
const RING_CAPACITY_MAX: u32 = 16_384;

/// Largest number of loopback addresses of a child.
const SPREAD_MAX: u32 = 1 << 16;

/// Planned occupancy of the shards of a child, in tenths: a shard reserves some slots, and hands
/// connections over when it is full.
const SHARD_OCCUPANCY_TENTHS: u32 = 9;

/// Memory of one connection, in bytes: both ends in the kernel, including armed receives, and both
/// processes.
const CONNECTION_BYTES: u64 = 11 * 1024;

/// Memory of TLS in the generator for each connection, in bytes, including a session ticket.
const TLS_BYTES: u64 = 6 * 1024;

const PORT_RANGE: &str = "/proc/sys/net/ipv4/ip_local_port_range";

/// Kernel settings that limit the number of sockets: name, path, and the path of a count that is zero
/// while the setting has no effect.
const SOCKET_SETTINGS: [(&str, &str, Option<&str>); 2] = [
    ("fs.file-max", "/proc/sys/fs/file-max", None),
    (
        "net.netfilter.nf_conntrack_max",
        "/proc/sys/net/netfilter/nf_conntrack_max",
        Some("/proc/sys/net/netfilter/nf_conntrack_count"),
    ),
];

/// Connections of a run, and their distribution over rings, addresses and shards.
#[derive(Clone, Debug, Eq, PartialEq)]
pub(crate) struct Layout {
    pub(crate) connections: u32,
    /// The limit that reduced the default number of connections.
    pub(crate) limited: Option<Limit>,
    /// Largest number of clients of each ring.
    pub(crate) ring_capacity: u32,
    /// Number of addresses of the server.
    pub(crate) spread: u32,
    /// Number of shards of a child.
    pub(crate) shards: u16,
}

/// A limit of the host; its message names the command that raises it.
#[derive(Clone, Debug, Eq, PartialEq, thiserror::Error)]
pub(crate) enum Limit {
    /// `RLIMIT_NOFILE` limits the number of rings, and the direct descriptors of each ring.
    #[error(
        "{wanted} connections need {rings} rings with {descriptors} descriptors; RLIMIT_NOFILE is \
         {limit}. {} raises it, as root",
        ring::raise_descriptors(*descriptors)
    )]
    Descriptors {
        /// Number of connections asked for.
        wanted: u32,
        /// Number of rings that they need.
        rings: u32,
        /// Number of descriptors that the rings need.
        descriptors: u64,
        /// The hard limit.
        limit: u64,
    },
    /// The local port range limits the connections between two addresses.
    #[error(
        "{wanted} connections need {wanted} local ports for each address of the server; \
         net.ipv4.ip_local_port_range has {ports} ports. \
         `sysctl -w net.ipv4.ip_local_port_range=\"1024 65535\"` gives 64512 ports, or use \
         --spread {} if the server listens on that many addresses",
        wanted.div_ceil(*ports)
    )]
    Ports {
        /// Number of connections asked for.
        wanted: u32,
        /// Number of ports in the range.
        ports: u32,
    },
    /// A kernel setting limits the sockets of all processes.
    #[error(
        "{wanted} connections need {setting} >= {need}; it is {value}. `sysctl -w {setting}={need}` raises it"
    )]
    Setting {
        /// Number of connections asked for.
        wanted: u32,
        /// Name of the setting.
        setting: &'static str,
        /// Value that the connections need.
        need: u64,
        /// Present value.
        value: u64,
    },
    /// The memory of this host is too small. The kernel's memory for sockets cannot be swapped out.
    #[error(
        "{wanted} connections need about {} MiB of memory, most of it in the kernel; {} MiB are \
         available. Lower --connections",
        need >> 20, available >> 20
    )]
    Memory {
        /// Number of connections asked for.
        wanted: u32,
        /// Memory that they need, in bytes.
        need: u64,
        /// Available memory, in bytes.
        available: u64,
    },
}

/// Connections, addresses and shards that a run asks for.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct LayoutRequest {
    /// Connections that were asked for.
    pub(crate) connections: Option<u32>,
    /// Connections if none were asked for.
    pub(crate) connections_default: u32,
    /// Addresses of the server that were asked for.
    pub(crate) spread: Option<u32>,
    /// Shards of a child that were asked for.
    pub(crate) shards: Option<u16>,
    /// Whether the connections use TLS, which takes memory.
    pub(crate) is_secure: bool,
}

/// Limits and resources of this host.
#[derive(Clone, Debug)]
pub(crate) struct Host {
    descriptors: u64,
    ports: u32,
    settings: Vec<(&'static str, u64)>,
    memory: u64,
    /// Memory of a connection, in bytes.
    connection_bytes: u64,
}

/// Raises the soft limit of descriptors to the hard limit, also for the child, and returns it.
///
/// # Errors
/// Errors of setrlimit(2).
fn raise_descriptors() -> io::Result<u64> {
    let maximum = getrlimit(Resource::Nofile).maximum;
    let raised = Rlimit {
        current: maximum,
        maximum,
    };
    setrlimit(Resource::Nofile, raised)?;
    Ok(maximum.unwrap_or(u64::MAX))
}

/// Returns the number of local ports that connects may use.
///
/// # Errors
/// If the range cannot be read.
fn local_ports() -> io::Result<u32> {
    let text = fs::read_to_string(PORT_RANGE)?;
    ports_in(&text)
        .ok_or_else(|| io::Error::other(format!("{PORT_RANGE} is not a range: `{}`", text.trim())))
}

fn ports_in(range: &str) -> Option<u32> {
    let mut bounds = range.split_whitespace().map(str::parse::<u32>);
    let (low, high) = (bounds.next()?.ok()?, bounds.next()?.ok()?);
    (high + 1).checked_sub(low)
}

impl Host {
    /// Reads the limits of this host, and raises the soft limit of descriptors to the hard one.
    ///
    /// # Errors
    /// Errors of proc(5) and setrlimit(2).
    pub(crate) fn inspect() -> io::Result<Self> {
        let memory = Meminfo::current().map_err(io::Error::other)?;
        let read = |path: &str| fs::read_to_string(path).ok()?.trim().parse::<u64>().ok();
        Ok(Self {
            descriptors: raise_descriptors()?,
            ports: local_ports()?,
            settings: SOCKET_SETTINGS
                .into_iter()
                .filter(|(_, _, count)| count.is_none_or(|path| read(path) != Some(0)))
                .filter_map(|(name, path, _)| Some((name, read(path)?)))
                .collect(),
            memory: memory.mem_available.unwrap_or(memory.mem_free),
            connection_bytes: CONNECTION_BYTES,
        })
    }

    /// Returns the largest number of connections of a single ring.
    fn ring_connections_max(&self) -> u32 {
        let room = self.descriptors.saturating_sub(DESCRIPTORS_RESERVED).max(1);
        u32::try_from(room).unwrap_or(u32::MAX)
    }

    fn ring_capacity(&self, connections: u32) -> u32 {
        let room = self.ring_connections_max();
        if connections <= room {
            room
        } else {
            room.min(RING_CAPACITY_MAX)
        }
    }

    /// Returns the limit that `wanted` connections to `spread` addresses exceed, and the number of
    /// connections that it allows.
    fn limit(&self, wanted: u32, spread: u32) -> Option<(Limit, u32)> {
        let rings = wanted.div_ceil(self.ring_capacity(wanted));
        let descriptors = u64::from(rings) * RING_DESCRIPTORS + DESCRIPTORS_RESERVED;
        if descriptors > self.descriptors && rings > 1 {
            let limit = Limit::Descriptors {
                wanted,
                rings,
                descriptors,
                limit: self.descriptors,
            };
            return Some((limit, self.ring_connections_max()));
        }
        let reachable = self.ports.saturating_mul(spread);
        if wanted > reachable {
            let ports = self.ports;
            return Some((Limit::Ports { wanted, ports }, reachable));
        }
        // Both ends may be on this host, and other processes need descriptors too.
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
        let need = u64::from(wanted) * self.connection_bytes;
        let available = self.memory;
        (need > available).then(|| {
            let allowed = available / self.connection_bytes;
            let limit = Limit::Memory {
                wanted,
                need,
                available,
            };
            (limit, u32::try_from(allowed).unwrap_or(u32::MAX))
        })
    }

    /// Lays out the connections that were asked for, or the default number of connections, or
    /// fewer if the host does not allow the default.
    ///
    /// # Errors
    /// The limit of the host that is below the number of connections asked for.
    pub(crate) fn lay_out(&self, request: &LayoutRequest) -> Result<Layout, Limit> {
        let LayoutRequest {
            connections: asked,
            connections_default,
            spread,
            shards,
            is_secure,
        } = *request;
        let host = &Self {
            connection_bytes: match is_secure {
                true => self.connection_bytes + TLS_BYTES,
                false => self.connection_bytes,
            },
            ..self.clone()
        };
        let mut connections = asked.unwrap_or(connections_default);
        // The kernel tries every second port first. Once they are in use, each connect searches all of
        // them.
        let address_connections = (host.ports / 5 * 2).max(1);
        let spread = match spread {
            Some(spread) => spread,
            None => connections.div_ceil(address_connections).min(SPREAD_MAX),
        };
        let mut limited = None;
        while let Some((limit, allowed)) = host.limit(connections, spread) {
            if asked.is_some() || allowed == 0 {
                return Err(limit);
            }
            connections = allowed.min(connections - 1);
            limited.get_or_insert(limit);
        }
        let room = (host.ring_connections_max() / 10 * SHARD_OCCUPANCY_TENTHS).max(1);
        let needed = if connections <= host.ring_connections_max() {
            1
        } else {
            connections.div_ceil(room)
        };
        Ok(Layout {
            connections,
            limited,
            ring_capacity: host.ring_capacity(connections),
            spread,
            shards: shards.unwrap_or(u16::try_from(needed).unwrap_or(u16::MAX)),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn host(descriptors: u64, ports: u32) -> Host {
        Host {
            descriptors,
            ports,
            settings: vec![("fs.file-max", 4_000_000)],
            memory: 24 << 30,
            connection_bytes: CONNECTION_BYTES,
        }
    }

    fn lay_out(host: &Host, asked: Option<u32>) -> Result<Layout, Limit> {
        host.lay_out(&LayoutRequest {
            connections: asked,
            connections_default: 10_000,
            ..LayoutRequest::default()
        })
    }

    #[test]
    fn ten_thousand_connections_use_one_ring_and_one_address() {
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
    fn a_million_connections_are_spread_over_rings_shards_and_addresses() {
        let layout = lay_out(&host(20_000, 28_232), Some(1_000_000)).unwrap();
        assert_eq!(
            (layout.ring_capacity, layout.spread, layout.shards),
            (16_384, 89, 56)
        );
        assert_eq!(layout.limited, None);
    }

    #[test]
    fn the_default_number_of_connections_adapts_to_the_limits() {
        let few = host(20_000, 5_000);
        let layout = few
            .lay_out(&LayoutRequest {
                connections_default: 10_000,
                spread: Some(1),
                ..LayoutRequest::default()
            })
            .unwrap();
        assert_eq!(layout.connections, 5_000);
        assert!(matches!(layout.limited, Some(Limit::Ports { .. })));
        let mut small = host(20_000, 28_232);
        small.memory = 1_000 * CONNECTION_BYTES;
        let layout = lay_out(&small, None).unwrap();
        assert_eq!(layout.connections, 1_000);
        assert!(matches!(layout.limited, Some(Limit::Memory { .. })));
    }

    #[test]
    fn a_given_number_of_connections_above_a_limit_is_an_error() {
        let few = host(20_000, 28_232);
        let limit = few
            .lay_out(&LayoutRequest {
                connections: Some(30_000),
                spread: Some(1),
                ..LayoutRequest::default()
            })
            .unwrap_err();
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
}
