//! A running server.

use std::time::{Duration, Instant};

use tokio::sync::mpsc::{UnboundedReceiver, UnboundedSender};

use super::{block_on::block_on, event::Event, signals::Signals, thread::ShardThread};
#[cfg(feature = "admin")]
use crate::control::ControlPlane;
use crate::{Error, Handler, Publisher, Remote, command::Command};

/// Signals within this time of the first one count as one, because some process managers send two.
const SIGNAL_INTERVAL_MIN: Duration = Duration::from_millis(500);

/// A server with running shards. Dropping it [stops](Self::stop) all shards.
///
/// One of four methods waits for its end:
///
/// | method | the server ends | the calling thread |
/// |---|---|---|
/// | [`wait`](Self::wait) | after a [drain](Self::drain), or when a shard fails | awaits a future |
/// | [`join`](Self::join) | after a drain, or when a shard fails | blocks |
/// | [`until_signal`](Self::until_signal) | also after a signal | awaits a future |
/// | [`run_until_signal`](Self::run_until_signal) | also after a signal | blocks |
#[derive(Debug)]
pub struct Running {
    pub(super) shards: Vec<ShardThread>,
    pub(super) publisher: Publisher,
    pub(super) events: UnboundedReceiver<Event>,
    pub(super) event_sender: UnboundedSender<Event>,
    /// The thread of the admin listener.
    #[cfg(feature = "admin")]
    pub(super) control: Option<ControlPlane>,
}

impl Running {
    /// Waits until all shards have ended, in any asynchronous runtime, without handling signals. They end after a
    /// [drain](Self::drain), or when one of them fails: the others then drain with 1012. Dropping the future stops
    /// all shards.
    ///
    /// # Errors
    /// The error of the first shard that has failed.
    pub async fn wait(mut self) -> Result<(), Error> {
        self.finish().await
    }

    /// Like [`Running::wait`], and blocks the calling thread.
    ///
    /// # Errors
    /// As [`Running::wait`].
    pub fn join(self) -> Result<(), Error> {
        block_on(self.wait())
    }

    /// Like [`Running::wait`], and handles signals. SIGTERM, SIGINT or SIGHUP starts a drain, which ends within the
    /// [close timeout](crate::Config::close_timeout). A second signal stops the server at once.
    ///
    /// Signals are handled when this method returns the future, by a thread of their own. A process that was started
    /// to ignore SIGHUP, as by `nohup`, still ignores it. After the end of the server, the signals have no effect.
    ///
    /// # Errors
    /// As [`Running::wait`], and if signals cannot be handled, or a second signal arrives.
    pub fn until_signal(mut self) -> impl Future<Output = Result<(), Error>> + Send {
        let signals = self.handle_signals();
        async move {
            let _signals = signals?;
            self.finish().await
        }
    }

    /// Like [`Running::until_signal`], and blocks the calling thread. Calls `ready` when signals are handled: from then
    /// on, other programs may be notified that the server is ready.
    ///
    /// # Errors
    /// As [`Running::until_signal`].
    pub fn run_until_signal(mut self, ready: impl FnOnce()) -> Result<(), Error> {
        let _signals = self.handle_signals()?;
        ready();
        block_on(self.finish())
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

    /// Starts a drain, like [`Publisher::drain`], and returns at once.
    pub fn drain(&self, timeout: Duration) {
        self.publisher.drain(timeout);
    }

    /// Stops all shards, and waits for their threads. Open connections are reset. A callback of a shard may call this:
    /// it does not wait for its own shard, which stops after it.
    pub fn stop(&mut self) {
        self.publisher.command(Command::Stop);
        self.shards.iter_mut().for_each(ShardThread::join);
        #[cfg(feature = "admin")]
        drop(self.control.take());
    }

    fn handle_signals(&self) -> Result<Signals, Error> {
        Signals::report_to(self.event_sender.clone())
    }

    /// Waits until all shards have ended, or a second signal has arrived, and stops everything.
    async fn finish(&mut self) -> Result<(), Error> {
        let result = self.until_ended().await;
        self.stop();
        result
    }

    async fn until_ended(&mut self) -> Result<(), Error> {
        let (mut left, mut result) = (self.shards.len(), Ok(()));
        let mut signalled: Option<Instant> = None;
        while left > 0 {
            match self.events.recv().await {
                Some(Event::Ended(ended)) => {
                    result = result.and(ended);
                    left -= 1;
                }
                Some(Event::Signal(at)) => match signalled {
                    None => {
                        signalled = Some(at);
                        self.publisher.drain_within_close_timeout();
                    }
                    Some(first) if at.duration_since(first) < SIGNAL_INTERVAL_MIN => {}
                    Some(_) => return Err(Error::Interrupted),
                },
                None => unreachable!("the server has a sender of events"),
            }
        }
        if let (Some(began), true) = (signalled, result.is_ok()) {
            let took_ms = began.elapsed().as_millis() as u64;
            tracing::info!(target: "tidewheel::remote", took_ms, "drained");
        }
        result
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        self.stop();
    }
}
