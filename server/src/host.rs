//! What this host allows: cores, descriptors.

use rustix::{
    process::{Resource, Rlimit, getrlimit, setrlimit},
    thread::{CpuSet, sched_getaffinity, sched_setaffinity},
};

use crate::Config;

/// The kernel's bound on a ring's table (`IORING_MAX_FIXED_FILES`).
const TABLE_MAX: u32 = 1 << 20;

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

/// How many connections each shard has room for, where each ring may have `limit` descriptors.
pub(crate) fn capacity(config: &Config, limit: u32) -> u32 {
    let shards = u32::from(config.shards.unwrap_or(1));
    let table = limit.min(TABLE_MAX);
    let wanted = config
        .max_connections
        .map(|connections| connections.div_ceil(shards));
    match wanted {
        Some(wanted) if wanted > table => {
            tracing::warn!(
                connections = u64::from(table) * u64::from(shards),
                asked = config.max_connections,
                "RLIMIT_NOFILE is {limit}, which bounds the connections of each shard: there is \
                 room for {} in all. `ulimit -n {wanted}` (or LimitNOFILE={wanted} in the systemd \
                 unit) or more --shards make room for all",
                u64::from(table) * u64::from(shards)
            );
            table
        }
        Some(wanted) => wanted,
        None => {
            tracing::info!(
                connections = u64::from(table) * u64::from(shards),
                "room for as many connections as RLIMIT_NOFILE ({limit}) allows on {shards} shards"
            );
            table
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn capacity_is_shared_out_and_bounded_by_the_table() {
        let config = |shards, max| Config {
            shards: Some(shards),
            max_connections: max,
            ..Config::default()
        };
        assert_eq!(capacity(&config(2, Some(1001)), 20_000), 501);
        assert_eq!(capacity(&config(2, Some(100_000)), 20_000), 20_000);
        assert_eq!(capacity(&config(50, Some(1_000_000)), 20_000), 20_000);
        assert_eq!(capacity(&config(1, None), u32::MAX), TABLE_MAX);
    }
}
