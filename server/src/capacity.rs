//! The number of connections that a shard can hold.

/// The number of connections for which a shard has room.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Capacity {
    /// Places: as many as the ring's table has.
    pub places: u32,
    /// Connections that may stay. The other places are for those who are told that there are too
    /// many.
    pub connections: u32,
}
