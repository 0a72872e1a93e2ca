//! The number of connections that a shard can hold.

/// The number of connections that a shard can hold.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Capacity {
    /// Number of places: the size of the ring's table of descriptors.
    pub places: u32,
    /// Number of admitted connections, at most. The other places are reserved for connections over the limit,
    /// until they have been refused.
    pub connections: u32,
}
