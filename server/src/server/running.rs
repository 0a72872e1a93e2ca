//! A server whose shards run.

use tokio::sync::mpsc::UnboundedReceiver;

use super::thread::{Ended, ShardThread};
use crate::{
    Error, Remote,
    command::Command,
    control::{self, AdminListener, Watched},
};

/// A server whose shards run.
#[derive(Debug)]
pub struct Running {
    pub(super) shards: Vec<ShardThread>,
    pub(super) remote: Remote,
    pub(super) release_memory: Option<fn()>,
    pub(super) ends: UnboundedReceiver<Ended>,
    pub(super) admin: Option<AdminListener>,
}

impl Running {
    /// Serves until SIGTERM, SIGINT or SIGHUP; then closes every connection with 1001, and returns when
    /// all are gone, which is within the close timeout. A second signal ends that at once. A process that
    /// was started to ignore SIGHUP, as by `nohup`, goes on ignoring it.
    ///
    /// The calling thread becomes the control plane, on a runtime of its own.
    ///
    /// # Errors
    /// If a shard fails, or a second signal came.
    pub fn until_signal(self) -> Result<(), Error> {
        self.until_signal_once_ready(|| ())
    }

    /// The same; `ready` is called when a signal would be heard, which is the moment to tell
    /// others that the server is there.
    ///
    /// # Errors
    /// As [`Running::until_signal`].
    pub fn until_signal_once_ready(mut self, ready: impl FnOnce()) -> Result<(), Error> {
        let watched = Watched {
            stats: self.shards.iter().map(ShardThread::stats).collect(),
            remote: self.remote.clone(),
            ends: &mut self.ends,
            admin: self.admin.take(),
            release_memory: self.release_memory,
        };
        let result = control::run(watched, ready);
        self.stop();
        result
    }

    /// Waits until all shards have ended, and takes no signal: because they have [drained](Self::drain) or were
    /// [stopped](Self::stop), or because one of them has failed: then the others drain with 1012.
    ///
    /// # Errors
    /// The error of the first shard that has failed, if one has.
    ///
    /// # Panics
    /// Within an asynchronous runtime of tokio: [`Running::wait`] is for that.
    pub fn join(mut self) -> Result<(), Error> {
        let mut result = Ok(());
        for _ in 0..self.shards.len() {
            let ended = self.ends.blocking_recv().unwrap_or(Ok(()));
            result = result.and(ended);
        }
        self.stop();
        result
    }

    /// The same from any asynchronous runtime. Dropping the future stops all shards.
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

    /// A handle by which any thread publishes, sends and closes.
    #[must_use]
    pub fn remote(&self) -> Remote {
        self.remote.clone()
    }

    /// Begins to drain, without waiting for a signal.
    pub fn drain(&self) {
        self.remote.drain();
    }

    /// Ends all shards now, and waits for their threads. What is open is reset.
    pub fn stop(&mut self) {
        self.remote.command(Command::Stop);
        self.shards.iter_mut().for_each(ShardThread::join);
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        self.stop();
    }
}
