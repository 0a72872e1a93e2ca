//! What this host allows: cores, descriptors.

use std::io;

use procfs::process::Process;
use rustix::{
    event::{EventfdFlags, eventfd},
    process::{Resource, Rlimit, getrlimit, setrlimit},
    thread::{CpuSet, sched_getaffinity, sched_setaffinity},
};
use tokio::signal::unix::SignalKind;

use crate::{Config, capacity::Capacity, ring::raise_descriptors};

/// The kernel's bound on a ring's table (`IORING_MAX_FIXED_FILES`).
const TABLE_MAX: u32 = 1 << 20;

/// By how much a small shard may have more than its share; large ones by a quarter.
const UNEVEN: u32 = 256;

/// The cores that this process may use.
pub(crate) fn core_ids() -> Vec<usize> {
    let Ok(set) = sched_getaffinity(None) else {
        return Vec::new();
    };
    (0..CpuSet::MAX_CPU)
        .filter(|&core| set.is_set(core))
        .collect()
}

/// How many cores this process may use.
pub(crate) fn cores() -> u16 {
    u16::try_from(core_ids().len().max(1)).unwrap_or(u16::MAX)
}

/// Keeps the calling thread on a core, as far as the system lets it.
pub(crate) fn pin(core: usize) {
    let mut set = CpuSet::new();
    set.set(core);
    if let Err(error) = sched_setaffinity(None, &set) {
        tracing::warn!(core, %error, "the shard is not pinned to its core");
    }
}

/// Raises the soft limit on descriptors to the hard one, which bounds the table of each ring.
pub(crate) fn raise_descriptor_limit() -> u32 {
    let limit = getrlimit(Resource::Nofile);
    if limit.current != limit.maximum {
        let raised = Rlimit {
            current: limit.maximum,
            maximum: limit.maximum,
        };
        if let Err(error) = setrlimit(Resource::Nofile, raised) {
            tracing::warn!(%error, "RLIMIT_NOFILE is not raised to its hard limit");
        }
    }
    let current = getrlimit(Resource::Nofile).current.unwrap_or(u64::MAX);
    u32::try_from(current).unwrap_or(u32::MAX)
}

/// Whether this process was started to ignore a signal.
pub(crate) fn is_ignored(signal: SignalKind) -> bool {
    let status = Process::myself().and_then(|process| process.status());
    // Bit 0 is signal 1 (proc_pid_status(5)).
    let bit = signal.as_raw_value() - 1;
    status.is_ok_and(|status| status.sigign >> bit & 1 == 1)
}

/// The soft limit on descriptors.
pub(crate) fn descriptor_limit() -> u64 {
    getrlimit(Resource::Nofile).current.unwrap_or(u64::MAX)
}

/// Whether the process, or the system, has no descriptor left.
pub(crate) fn is_out_of_descriptors(error: &io::Error) -> bool {
    matches!(error.raw_os_error(), Some(libc::EMFILE | libc::ENFILE))
}

/// Makes sure that so many descriptors can be opened, for those who would panic without.
pub(crate) fn reserve_descriptors(count: usize) -> io::Result<()> {
    let open = || eventfd(0, EventfdFlags::CLOEXEC);
    let reserved: Result<Vec<_>, _> = (0..count).map(|_| open()).collect();
    reserved?;
    Ok(())
}

/// How many connections each shard has room for, where each ring may have `limit` descriptors.
pub(crate) fn capacity(config: &Config, limit: u32) -> Capacity {
    let shards = u32::from(config.shards.unwrap_or(1));
    let table = limit.min(TABLE_MAX);
    let most = Capacity {
        places: table,
        connections: table - spare(table).min(table / 2),
    };
    let in_all = u64::from(most.connections) * u64::from(shards);
    let Some(wanted) = config.max_connections else {
        tracing::info!(
            connections = in_all,
            "room for as many connections as RLIMIT_NOFILE ({limit}) allows on {shards} shards"
        );
        return most;
    };
    // The kernel spreads connections over the shards by chance: each has room for more than its
    // share, and all together keep to the limit.
    let share = if shards == 1 {
        wanted
    } else {
        let even = wanted.div_ceil(shards);
        wanted.min(even + even / 4 + UNEVEN)
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
            asked = wanted,
            "RLIMIT_NOFILE is {limit}, which bounds the connections of each shard: there is \
             room for {in_all} in all. {} more --shards make room for all",
            raise_or(places, limit)
        );
    }
    most
}

/// The beginning of the advice for a shard that is to have more places than `limit`.
fn raise_or(places: u32, limit: u32) -> String {
    match places <= TABLE_MAX {
        true => format!("{} or", raise_descriptors(places.into())),
        false if limit < TABLE_MAX => format!("{} and", raise_descriptors(TABLE_MAX.into())),
        false => format!("A shard has {TABLE_MAX} at most;"),
    }
}

/// Places for those who are told that there are too many connections.
fn spare(connections: u32) -> u32 {
    (connections / 16).clamp(8, 1024)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn capacity_is_shared_out_and_bounded_by_the_table() {
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
            "any shard may have all"
        );
        assert_eq!(capacity(2, Some(10_000), 20_000), (6506, 6912));
        assert_eq!(capacity(2, Some(100_000), 20_000), (18_976, 20_000));
        assert_eq!(capacity(1, None, u32::MAX), (TABLE_MAX - 1024, TABLE_MAX));
        assert_eq!(capacity(1, None, 4), (2, 4));
    }

    #[test]
    fn no_more_descriptors_are_advised_than_a_ring_can_have() {
        for (places, limit, told) in [
            (30_000, 20_000, "`ulimit -n 30000` (or LimitNOFILE=30000"),
            (
                3_126_280,
                20_000,
                "`ulimit -n 1048576` (or LimitNOFILE=1048576",
            ),
            (3_126_280, TABLE_MAX, "A shard has 1048576 at most;"),
        ] {
            let advice = raise_or(places, limit);
            assert!(advice.contains(told), "{advice}");
        }
    }
}
