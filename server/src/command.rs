//! Commands to a shard from other threads.

/// A command of another thread to a shard.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Command {
    /// Accept no more, close every connection with [`Drain::code`](crate::Drain::code), and end when all are gone.
    Drain,
    /// The same with 1012, service restart, because another shard has failed.
    DrainForRestart,
    /// End now; what is open is reset.
    Stop,
}
