//! The limits of this host and process: cores and descriptors.

use std::io;

use rustix::{
    process::{Resource, Rlimit, getrlimit, setrlimit},
    thread::{CpuSet, sched_getaffinity, sched_setaffinity},
};

use crate::{Config, capacity::Capacity, ring::raise_descriptors};

/// Maximum number of direct descriptors of a ring (`IORING_MAX_FIXED_FILES` of the kernel).
const RING_DESCRIPTORS_MAX: u32 = 1 << 20;

/// Number of connections that a shard may have beyond its equal share and a quarter of it.
const SHARE_EXCESS: u32 = 256;

/// The numbers of the cores that this process may use.
pub(crate) fn core_ids() -> Vec<usize> {
    let Ok(set) = sched_getaffinity(None) else {
        return Vec::new();
    };
    (0..CpuSet::MAX_CPU)
        .filter(|&core| set.is_set(core))
        .collect()
}

/// The number of cores that this process may use.
pub(crate) fn cores() -> u16 {
    u16::try_from(core_ids().len().max(1)).unwrap_or(u16::MAX)
}

/// Pins the calling thread to a core. Logs a warning if that fails.
pub(crate) fn pin(core: usize) {
    let mut set = CpuSet::new();
    set.set(core);
    if let Err(error) = sched_setaffinity(None, &set) {
        tracing::warn!(core, %error, "cannot pin the shard to its core");
    }
}

/// Raises the soft limit on descriptors to the hard limit. Logs a warning if that fails.
pub(crate) fn raise_descriptor_limit() {
    let limit = getrlimit(Resource::Nofile);
    if limit.current != limit.maximum {
        let raised = Rlimit {
            current: limit.maximum,
            maximum: limit.maximum,
        };
        if let Err(error) = setrlimit(Resource::Nofile, raised) {
            tracing::warn!(%error, "cannot raise RLIMIT_NOFILE to its hard limit");
        }
    }
}

/// Whether this process ignores a signal (`SigIgn` of proc_pid_status(5)).
pub(crate) fn is_ignored(signal: i32) -> bool {
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let ignored = status.lines().find_map(|line| line.strip_prefix("SigIgn:"));
    let ignored = u64::from_str_radix(ignored.unwrap_or_default().trim(), 16);
    // Bit 0 is signal 1.
    ignored.is_ok_and(|ignored| ignored >> (signal - 1) & 1 == 1)
}

/// The soft limit on descriptors. It limits the direct descriptors of each ring.
pub(crate) fn descriptor_limit() -> u64 {
    getrlimit(Resource::Nofile).current.unwrap_or(u64::MAX)
}

/// Whether the error says that the process or the system has no free descriptor.
pub(crate) fn is_out_of_descriptors(error: &io::Error) -> bool {
    matches!(error.raw_os_error(), Some(libc::EMFILE | libc::ENFILE))
}

/// Checks that `count` descriptors can be opened, before calling code that would panic without them.
#[cfg(any(feature = "admin", feature = "tasks"))]
pub(crate) fn reserve_descriptors(count: usize) -> io::Result<()> {
    use rustix::event::{EventfdFlags, eventfd};
    let open = || eventfd(0, EventfdFlags::CLOEXEC);
    let reserved: Result<Vec<_>, _> = (0..count).map(|_| open()).collect();
    reserved?;
    Ok(())
}

/// The capacity of each shard, if each ring may have `limit` direct descriptors.
pub(crate) fn capacity(config: &Config, limit: u32) -> Capacity {
    let shards = u32::from(config.shards.unwrap_or(1));
    let table = limit.min(RING_DESCRIPTORS_MAX);
    let most = Capacity {
        places: table,
        connections: table - spare(table).min(table / 2),
    };
    let in_all = u64::from(most.connections) * u64::from(shards);
    let Some(wanted) = config.max_connections else {
        tracing::info!(
            connections = in_all,
            "RLIMIT_NOFILE ({limit}) limits the connections on {shards} shards"
        );
        return most;
    };
    // The kernel distributes connections over the shards unevenly: each may have more than an equal share, and the
    // limit applies to the sum.
    let share = if shards == 1 {
        wanted
    } else {
        let even = wanted.div_ceil(shards);
        wanted.min(even + even / 4 + SHARE_EXCESS)
    };
    let places = share.saturating_add(spare(share));
    if places <= table {
        return Capacity {
            places,
            connections: share,
        };
    }
    if in_all < u64::from(wanted) {
        tracing::warn!(
            connections = in_all,
            wanted,
            "RLIMIT_NOFILE is {limit}, which limits the connections to {in_all}. {} more shards raise that",
            raise_or(places, limit)
        );
    }
    most
}

/// The beginning of the advice for a shard that needs `places` direct descriptors, but may have only `limit`.
fn raise_or(places: u32, limit: u32) -> String {
    match places <= RING_DESCRIPTORS_MAX {
        true => format!("{} or", raise_descriptors(places.into())),
        false if limit < RING_DESCRIPTORS_MAX => {
            format!("{} and", raise_descriptors(RING_DESCRIPTORS_MAX.into()))
        }
        false => format!("A shard has at most {RING_DESCRIPTORS_MAX} descriptors;"),
    }
}

/// Number of direct descriptors for connections over the limit, which get 503.
fn spare(connections: u32) -> u32 {
    (connections / 16).clamp(8, 1024)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_capacity_of_a_shard_is_its_share_within_the_limit_of_a_ring() {
        let capacity = |shards, max, limit| {
            let config = Config {
                shards: Some(shards),
                max_connections: max,
                ..Config::default()
            };
            let Capacity {
                places,
                connections,
            } = capacity(&config, limit);
            (connections, places)
        };
        assert_eq!(capacity(1, Some(1000), 20_000), (1000, 1062));
        assert_eq!(
            capacity(2, Some(100), 20_000),
            (100, 108),
            "each shard may have all connections"
        );
        assert_eq!(capacity(2, Some(10_000), 20_000), (6506, 6912));
        assert_eq!(capacity(2, Some(100_000), 20_000), (18_976, 20_000));
        assert_eq!(
            capacity(1, None, u32::MAX),
            (RING_DESCRIPTORS_MAX - 1024, RING_DESCRIPTORS_MAX)
        );
        assert_eq!(capacity(1, None, 4), (2, 4));
    }

    #[test]
    fn the_advised_descriptor_limit_is_at_most_the_maximum_of_a_ring() {
        for (places, limit, expected) in [
            (30_000, 20_000, "`ulimit -n 30000` (or LimitNOFILE=30000"),
            (
                3_126_280,
                20_000,
                "`ulimit -n 1048576` (or LimitNOFILE=1048576",
            ),
            (
                3_126_280,
                RING_DESCRIPTORS_MAX,
                "A shard has at most 1048576 descriptors;",
            ),
        ] {
            let advice = raise_or(places, limit);
            assert!(advice.contains(expected), "{advice}");
        }
    }
}
