//! Commands to a shard from other threads.

/// A command of another thread to a shard.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Command {
    /// Stop accepting, close every connection with [`Drain::code`](crate::Drain::code), and end when all
    /// connections have ended.
    Drain,
    /// Drain with 1012 (service restart), because another shard has failed.
    DrainForRestart,
    /// Reset every connection, and end.
    Stop,
}
