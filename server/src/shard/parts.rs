//! What shards are made of, and what those of a server have in common.

use std::sync::Arc;

use crate::{
    Config, Remote, admission::Admission, capacity::Capacity, fanout::SharedFanout, host, stats::Stats,
};

/// What a shard is made of, besides its ring and its handler.
#[derive(Debug)]
pub struct Parts {
    /// Which shard of the server this is.
    pub index: u16,
    /// How many connections it holds at most.
    pub capacity: Capacity,
    /// Shards that keep to the same core, this one included.
    pub core_shards: u16,
    /// What it has in common with the other shards.
    pub(crate) shared: Arc<SharedFanout>,
    pub(crate) stats: Arc<Stats>,
    /// Who may come in, to all shards of the server together.
    pub(crate) admission: Arc<Admission>,
}

impl Parts {
    /// The parts of all shards of a server, [`Config::shards`] or else one, each with a core of its
    /// own, where each ring may have `descriptors` in its table (`RLIMIT_NOFILE`).
    #[must_use]
    pub fn of_server(config: &Config, descriptors: u32) -> Vec<Self> {
        let capacity = host::capacity(config, descriptors);
        let (shared, admission) = (
            Arc::new(SharedFanout::new(config)),
            Arc::new(Admission::new(config)),
        );
        let part = |index| Self {
            index,
            capacity,
            core_shards: 1,
            shared: Arc::clone(&shared),
            stats: Arc::default(),
            admission: Arc::clone(&admission),
        };
        (0..config.shards.unwrap_or(1)).map(part).collect()
    }

    /// The parts of a server's only shard.
    #[must_use]
    pub fn alone(capacity: Capacity, config: &Config) -> Self {
        Self {
            index: 0,
            capacity,
            core_shards: 1,
            shared: Arc::new(SharedFanout::new(config)),
            stats: Arc::default(),
            admission: Arc::new(Admission::new(config)),
        }
    }

    /// What other threads hold of the server.
    #[must_use]
    pub fn remote(&self) -> Remote {
        Remote::new(Arc::clone(&self.shared))
    }
}
