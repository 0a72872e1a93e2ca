//! The parts from which shards are made.

use std::{
    net::{Ipv4Addr, SocketAddr, SocketAddrV4},
    sync::Arc,
};

use crate::{
    Config, Handler, Publisher, Remote, admission::Admission, capacity::Capacity,
    fanout::SharedFanout, host, stats::Stats,
};

/// The address of a shard or of a peer without one.
pub(super) const UNKNOWN: SocketAddr = SocketAddr::V4(SocketAddrV4::new(Ipv4Addr::UNSPECIFIED, 0));

/// The parts of a shard besides its ring and its handler.
#[derive(Debug)]
pub struct Parts {
    /// Number of the shard in its server.
    pub index: u16,
    /// The address that the server listens on, for [`Request::local`](crate::Request::local); by default 0.0.0.0:0.
    pub address: SocketAddr,
    /// Number of connections, at most.
    pub capacity: Capacity,
    /// Number of shards on the same core, including this one.
    pub core_shards: u16,
    /// The state of the fan-out that all shards share.
    pub(crate) shared: Arc<SharedFanout>,
    pub(crate) stats: Arc<Stats>,
    /// The admission of connections to all shards.
    pub(crate) admission: Arc<Admission>,
}

impl Parts {
    /// The parts of all shards of a server: [`Config::shards`], or one. Each shard has a core of its own, and a
    /// ring whose table may have `descriptors` entries (`RLIMIT_NOFILE`).
    #[must_use]
    pub fn of_server(config: &Config, descriptors: u32) -> Vec<Self> {
        let capacity = host::capacity(config, descriptors);
        let (shared, admission) = (
            Arc::new(SharedFanout::new(config)),
            Arc::new(Admission::new(config)),
        );
        let part = |index| Self {
            index,
            address: UNKNOWN,
            capacity,
            core_shards: 1,
            stats: Arc::clone(shared.inboxes()[usize::from(index)].stats()),
            shared: Arc::clone(&shared),
            admission: Arc::clone(&admission),
        };
        (0..config.shards.unwrap_or(1)).map(part).collect()
    }

    /// The parts of a server's only shard.
    #[must_use]
    pub fn alone(capacity: Capacity, config: &Config) -> Self {
        let shared = Arc::new(SharedFanout::new(config));
        Self {
            index: 0,
            address: UNKNOWN,
            capacity,
            core_shards: 1,
            stats: Arc::clone(shared.inboxes()[0].stats()),
            shared,
            admission: Arc::new(Admission::new(config)),
        }
    }

    /// A handle for other threads.
    #[must_use]
    pub fn publisher(&self) -> Publisher {
        Publisher::new(Arc::clone(&self.shared))
    }

    /// A handle for other threads that also calls closures with a connection of the handler `H`.
    #[must_use]
    pub fn remote<H: Handler>(&self) -> Remote<H> {
        Remote::new(self.publisher())
    }
}
