//! A running server.

use tokio::sync::mpsc::UnboundedReceiver;

use super::thread::{Ended, ShardThread};
use crate::{
    Error, Handler, Publisher, Remote,
    command::Command,
    control::{self, AdminListener, Watched},
};

/// A server with running shards. Dropping it stops all shards.
#[derive(Debug)]
pub struct Running {
    pub(super) shards: Vec<ShardThread>,
    pub(super) publisher: Publisher,
    pub(super) release_memory: Option<fn()>,
    pub(super) ends: UnboundedReceiver<Ended>,
    pub(super) admin: Option<AdminListener>,
}

impl Running {
    /// Serves until SIGTERM, SIGINT or SIGHUP, then drains: closes every connection with the code of
    /// [`Drain`](crate::Drain), and returns when all have ended, within the close timeout. A second signal ends
    /// the drain at once. A process that was started to ignore SIGHUP, as by `nohup`, still ignores it.
    ///
    /// The calling thread runs the control plane, on an asynchronous runtime that is created for it.
    ///
    /// # Errors
    /// If a shard fails, or a second signal arrives.
    pub fn until_signal(self) -> Result<(), Error> {
        self.run_until_signal(|| ())
    }

    /// Like [`Running::until_signal`], and calls `ready` when signals are handled: from then on, other programs may
    /// be notified that the server is ready.
    ///
    /// # Errors
    /// As [`Running::until_signal`].
    pub fn run_until_signal(mut self, ready: impl FnOnce()) -> Result<(), Error> {
        let watched = Watched {
            stats: self.shards.iter().map(ShardThread::stats).collect(),
            publisher: self.publisher.clone(),
            ends: &mut self.ends,
            admin: self.admin.take(),
            release_memory: self.release_memory,
        };
        let result = control::run(watched, ready);
        self.stop();
        result
    }

    /// Waits until all shards have ended, without handling signals. They end after a [drain](Self::drain), or when
    /// one of them fails: the others then drain with 1012.
    ///
    /// # Errors
    /// The error of the first shard that has failed.
    ///
    /// # Panics
    /// Within an asynchronous runtime of tokio, where [`Running::wait`] is to be used.
    pub fn join(mut self) -> Result<(), Error> {
        let mut result = Ok(());
        for _ in 0..self.shards.len() {
            let ended = self.ends.blocking_recv().unwrap_or(Ok(()));
            result = result.and(ended);
        }
        self.stop();
        result
    }

    /// Like [`Running::join`], for any asynchronous runtime. Dropping the future stops all shards.
    ///
    /// # Errors
    /// As [`Running::join`].
    pub async fn wait(mut self) -> Result<(), Error> {
        let mut result = Ok(());
        for _ in 0..self.shards.len() {
            let ended = self.ends.recv().await.unwrap_or(Ok(()));
            result = result.and(ended);
        }
        self.stop();
        result
    }

    /// Returns a handle with which any thread can publish, send and close.
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

    /// Starts a drain, and returns at once.
    pub fn drain(&self) {
        self.publisher.drain();
    }

    /// Stops all shards, and waits for their threads. Open connections are reset.
    pub fn stop(&mut self) {
        self.publisher.command(Command::Stop);
        self.shards.iter_mut().for_each(ShardThread::join);
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        self.stop();
    }
}
