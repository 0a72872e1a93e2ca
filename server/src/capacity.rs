//! The number of connections that a shard can hold.

/// How many connections a shard has room for.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Capacity {
    /// Places: as many as the ring's table has.
    pub places: u32,
    /// Connections that may stay. The other places are for those who are told that there are too
    /// many.
    pub connections: u32,
}
