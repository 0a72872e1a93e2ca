//! The argument of the closure with which the application makes the handler of a shard.

use crate::{Handler, Publisher, Remote};

/// A shard that is about to start: the argument of the closure that makes its handler.
#[derive(Clone, Debug)]
pub struct ShardContext {
    index: u16,
    shards: u16,
    pub(super) publisher: Publisher,
}

impl ShardContext {
    pub(crate) fn new(index: u16, shards: u16, publisher: Publisher) -> Self {
        Self {
            index,
            shards,
            publisher,
        }
    }

    /// The number of the shard, from 0.
    #[must_use]
    pub fn index(&self) -> u16 {
        self.index
    }

    /// The number of shards of the server.
    #[must_use]
    pub fn shards(&self) -> u16 {
        self.shards
    }

    /// Returns a handle with which any thread can publish, send and close. Requests to a shard that has not started
    /// yet are executed when it has.
    #[must_use]
    pub fn publisher(&self) -> Publisher {
        self.publisher.clone()
    }

    /// Returns a handle with which any thread can also call closures with a connection. `H` is the handler of the
    /// server, or of a route.
    #[must_use]
    pub fn remote<H: Handler>(&self) -> Remote<H> {
        Remote::new(self.publisher.clone())
    }
}
