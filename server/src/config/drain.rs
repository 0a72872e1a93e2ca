//! The settings of a drain.

use std::time::Duration;

use tidewheel_codec::CloseCode;

/// The pace at which a server that shuts down closes its connections.
///
/// Connections are closed in batches, so that their clients do not all reconnect at the same moment. Every
/// connection gets its Close within half of the close timeout, in larger batches if necessary; connections that
/// are open at the close timeout are reset.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
#[non_exhaustive]
pub struct Drain {
    /// Number of connections per batch, over all shards; default 1000, at least 1.
    pub batch: u32,
    /// Time between two batches; default 10 ms, at most half of the close timeout.
    pub interval: Duration,
    /// Close code: 1001, going away (the default), or 1012, service restart.
    pub code: CloseCode,
}

impl Default for Drain {
    fn default() -> Self {
        Self {
            batch: 1000,
            interval: Duration::from_millis(10),
            code: CloseCode::GOING_AWAY,
        }
    }
}
