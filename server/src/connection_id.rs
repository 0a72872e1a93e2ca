//! The name of a connection.

use std::fmt;

/// The id of a connection: unique in a server for as long as 2^24 others opened on its shard since.
#[derive(Clone, Copy, Debug, Eq, PartialEq, Hash)]
pub struct ConnectionId {
    pub(crate) shard: u16,
    pub(crate) generation: u32,
    pub(crate) slot: u32,
}

impl fmt::Display for ConnectionId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}-{}-{}", self.shard, self.slot, self.generation)
    }
}
