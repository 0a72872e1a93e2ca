//! The id of a connection.

use std::fmt;

/// The id of a connection. It is unique in a server until 2^24 more connections were accepted on its shard. On another
/// server it may be the id of another connection.
#[derive(Clone, Copy, Debug, Eq, PartialEq, Hash)]
pub struct ConnectionId {
    pub(crate) shard: u16,
    pub(crate) generation: u32,
    pub(crate) slot: u32,
}

#[cfg(feature = "sim")]
impl ConnectionId {
    /// An id of these parts, which need not be of a connection, for tests.
    #[doc(hidden)]
    #[must_use]
    pub fn of(shard: u16, slot: u32, generation: u32) -> Self {
        Self {
            shard,
            generation,
            slot,
        }
    }
}

impl fmt::Display for ConnectionId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}-{}-{}", self.shard, self.slot, self.generation)
    }
}
