//! The state that the visit of a connection works with.

mod deadlines;
mod lifecycle;
pub(crate) mod read_quota;
mod read_schedule;
mod receives;
mod refusal_log;
mod sends;

use std::{net::SocketAddr, sync::Arc, time::Duration};

use tidewheel_codec::{Endpoint, handshake::Limits};

#[cfg(test)]
pub(crate) use self::deadlines::{ENTRIES_PER_TURN, expiries_per_turn};
pub(super) use self::{
    deadlines::Deadlines,
    lifecycle::{DrainProgress, Lifecycle},
    read_schedule::ReadSchedule,
    receives::Receives,
    refusal_log::RefusalLog,
    sends::{Sends, Settled},
};
use crate::{
    Handler, Hosts, Origins, PanicPolicy, contain::Callback, fanout::Fanout, later::Schedule,
    proxies::Proxies, ring::Ring, stats::Stats,
};

/// The state of a shard, without the table of connections and the state that only the turn as a whole uses.
pub(super) struct Core<R: Ring, H: Handler> {
    /// The first field, because it is dropped first: dropping it ends all operations, and the kernel then reads
    /// and writes no memory of the shard.
    pub(super) ring: R,
    pub(super) handler: H,
    pub(super) endpoint: Endpoint,
    pub(super) deadlines: Deadlines,
    pub(super) receives: Receives,
    pub(super) read_schedule: ReadSchedule,
    pub(super) sends: Sends,
    pub(super) fanout: Fanout,
    /// The timers and tasks of the application.
    pub(super) later: Schedule,
    pub(super) stats: Arc<Stats>,
    pub(super) settings: Settings,
    pub(super) refusal_log: RefusalLog,
    pub(super) lifecycle: Lifecycle,
    /// The callback of the application that is running while messages are read.
    pub(super) callback: Option<Callback>,
}

/// Settings that every connection needs.
pub(super) struct Settings {
    /// Number of the shard.
    pub(super) index: u16,
    /// The address that the server listens on.
    pub(super) address: SocketAddr,
    pub(super) close_timeout: Duration,
    pub(super) request: Limits,
    pub(super) origins: Origins,
    pub(super) hosts: Hosts,
    pub(super) proxies: Proxies,
    /// Messages that a connection may send in one second.
    pub(super) message_rate_max: Option<u32>,
    pub(super) drain: crate::config::Drain,
    pub(super) panic: PanicPolicy,
}
