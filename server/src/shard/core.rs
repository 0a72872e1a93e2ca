//! The parts of a shard that the visit of any connection works with.

use std::{sync::Arc, time::Duration};

use tidewheel_codec::{Endpoint, handshake::Limits};

use super::{
    Life, deadlines::Deadlines, handshake::Refusals, read::Unread, receive::Receives,
    transmit::Sends,
};
use crate::{
    Handler, Hosts, Origins, PanicPolicy, contain::Callback, fanout::Fanout, ring::Ring,
    stats::Stats,
};

/// The part of a shard that a visit of a connection needs: everything but the table of connections and what only
/// a whole turn uses.
pub(super) struct Core<R: Ring, H: Handler> {
    /// Dropped first, so that the kernel lets go of all memory before it is freed.
    pub(super) ring: R,
    pub(super) handler: H,
    pub(super) endpoint: Endpoint,
    pub(super) deadlines: Deadlines,
    pub(super) receives: Receives,
    pub(super) unread: Unread,
    pub(super) sends: Sends,
    pub(super) fanout: Fanout,
    pub(super) stats: Arc<Stats>,
    pub(super) settings: Settings,
    pub(super) refusals: Refusals,
    pub(super) life: Life,
    /// The callback of the application that is running while messages are read.
    pub(super) callback: Option<Callback>,
}

/// The settings that every connection needs.
pub(super) struct Settings {
    pub(super) index: u16,
    pub(super) close_timeout: Duration,
    pub(super) request: Limits,
    pub(super) origins: Origins,
    pub(super) hosts: Hosts,
    pub(super) message_rate_max: Option<u32>,
    pub(super) drain: crate::config::Drain,
    pub(super) panic: PanicPolicy,
}
