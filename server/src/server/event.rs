//! Events of a running server.

use std::time::Instant;

use crate::Error;

/// An event of a running server.
#[derive(Debug)]
pub(super) enum Event {
    /// A shard has ended.
    Ended(Result<(), Error>),
    /// The process got a signal that ends the server.
    Signal(Instant),
}
