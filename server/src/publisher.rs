//! A handle by which any thread publishes, sends, and closes connections.

use std::{
    sync::{Arc, atomic::Ordering},
    time::Duration,
};

use bytes::Bytes;
use tidewheel_codec::{CloseCode, frame::Opcode};

use crate::{
    AsTopic, ConnectionId, Error, Outgoing, Topic,
    call::SentCall,
    command::Command,
    fanout::{Gone, Inbox, Job, Pressure, Readiness, SharedFanout},
    snapshot::{Counters, Snapshot},
    topic::TopicError,
};

/// A handle by which any thread publishes, sends, and closes connections. Cloning it is cheap.
///
/// Requests of one thread are executed in order. After the server has ended, they return [`RemoteError::Gone`].
/// [`Remote`](crate::Remote) has these methods too, and calls closures with a connection.
#[derive(Clone, Debug)]
pub struct Publisher {
    shared: Arc<SharedFanout>,
}

/// Error of a request through a [`Publisher`] or a [`Remote`](crate::Remote).
#[derive(Clone, Copy, Debug, Eq, PartialEq, thiserror::Error)]
#[non_exhaustive]
pub enum RemoteError {
    /// The name of the topic is invalid.
    #[error(transparent)]
    Topic(#[from] TopicError),
    /// Too many published or sent messages wait on a shard
    /// ([`Config::fanout_memory`](crate::Config::fanout_memory)).
    #[error("the server is busy: try again later")]
    Busy,
    /// The shard of the connection has ended or never existed, or, for a message to publish, all shards have ended.
    #[error("the shard, or the server, has ended")]
    Gone,
}

impl From<Gone> for RemoteError {
    fn from(Gone: Gone) -> Self {
        Self::Gone
    }
}

impl Publisher {
    pub(crate) fn new(shared: Arc<SharedFanout>) -> Self {
        Self { shared }
    }

    /// Returns the number of connections of this server that have subscribed to exactly this topic or pattern, on
    /// all shards. `None` without [`Config::presence`](crate::Config::presence).
    #[must_use]
    pub fn subscribers(&self, pattern: &str) -> Option<usize> {
        self.shared.subscribers(pattern)
    }

    /// Makes the handle of a topic, through which [`publish`](Self::publish) is cheaper than by the name.
    ///
    /// # Errors
    /// If `name` is not a valid topic, or is a pattern.
    pub fn topic(&self, name: &str) -> Result<Topic, TopicError> {
        self.shared.topic(name)
    }

    /// Publishes a message to all subscribers of a topic, on all shards that have not failed. The topic is a name or a
    /// [`Topic`]. The message is encoded once.
    ///
    /// While messages wait on a shard with subscribers, all handles together may have a 64th of
    /// [`Config::fanout_memory`](crate::Config::fanout_memory) in flight.
    ///
    /// # Errors
    /// If `topic` is invalid, a shard that may have subscribers is busy, or all shards have ended. No
    /// subscriber receives the message then.
    pub fn publish<'m>(
        &self,
        topic: impl AsTopic,
        message: impl Into<Outgoing<'m>>,
    ) -> Result<(), RemoteError> {
        let address = self.shared.address(topic.topic_ref())?;
        if self.shared.is_over() {
            return Err(RemoteError::Gone);
        }
        let window = &self.shared.remote_window;
        let mut is_busy = false;
        self.shared.distribute(address, |_, inbox| {
            is_busy |= match inbox.budget.pressure() {
                Pressure::Free => false,
                Pressure::Behind => window.bytes() >= inbox.budget.remote_window(),
                Pressure::Hold | Pressure::HoldUnknown | Pressure::Full => true,
            };
        });
        if is_busy {
            return Err(RemoteError::Busy);
        }
        let message = self.shared.message(address, &message.into(), None, window);
        self.shared.distribute(address, |_, inbox| {
            // A shard that has ended meanwhile is skipped.
            let _ = inbox.push(Job::Publish(Arc::clone(&message)));
        });
        let publishes = &self.shared.remote_publishes;
        publishes.fetch_add(1, Ordering::Relaxed);
        Ok(())
    }

    /// Returns the counters of the server, of each shard.
    #[must_use]
    pub fn snapshot(&self) -> Snapshot {
        let shards = self.shared.inboxes().iter();
        Snapshot {
            shards: shards.map(|inbox| Counters::read(inbox.stats())).collect(),
            remote_publishes: self.shared.remote_publishes.load(Ordering::Relaxed),
            is_draining: self.readiness() != Readiness::Serving,
        }
    }

    /// Sends a message to a connection, if it still exists, like [`Conn::send`](crate::Link::send).
    ///
    /// # Errors
    /// If its shard is busy, or has ended.
    pub fn send<'m>(
        &self,
        id: ConnectionId,
        message: impl Into<Outgoing<'m>>,
    ) -> Result<(), RemoteError> {
        let message = message.into();
        let (opcode, payload) = message.parts();
        self.push(
            id,
            Job::Send {
                id,
                is_text: opcode == Opcode::Text,
                payload: Bytes::copy_from_slice(payload),
            },
        )
    }

    /// Starts the closing handshake of a connection, if it still exists, like
    /// [`Conn::close`](crate::Link::close). If the code must not be sent, or the reason is too long, an error
    /// is logged.
    ///
    /// # Errors
    /// If its shard is busy, or has ended.
    pub fn close(
        &self,
        id: ConnectionId,
        code: CloseCode,
        reason: &str,
    ) -> Result<(), RemoteError> {
        self.push(
            id,
            Job::Close {
                id,
                code,
                reason: reason.into(),
            },
        )
    }

    /// Starts a drain of the server, and returns at once. No connection is accepted any more. Connections are closed
    /// with [`Drain::code`](crate::Drain::code), the last within half of `timeout`. The server ends when all have
    /// ended, and after `timeout` at the latest: connections that are left are reset then. [`Running::wait`] and
    /// [`Running::join`] wait for that. `/readyz` reports the drain at once.
    ///
    /// A later call can end the drain earlier, but not later.
    ///
    /// [`Running::wait`]: crate::Running::wait
    /// [`Running::join`]: crate::Running::join
    pub fn drain(&self, timeout: Duration) {
        self.shared.limit_drain(timeout);
        self.drain_within_close_timeout();
    }

    /// Starts a drain whose timeout is the close timeout, unless [`drain`](Self::drain) has given another.
    pub(crate) fn drain_within_close_timeout(&self) {
        if self.shared.note_readiness(Readiness::Draining) {
            tracing::info!(target: "tidewheel::remote", connections = self.shared.connections(), "draining");
        }
        self.command(Command::Drain);
    }

    /// Number of bursts of published messages that have ended.
    #[cfg(feature = "admin")]
    pub(crate) fn bursts(&self) -> u64 {
        self.shared.bursts.load(Ordering::Relaxed)
    }

    /// Queues a closure for the shard of a connection.
    pub(crate) fn call(&self, id: ConnectionId, call: SentCall) -> Result<(), RemoteError> {
        self.push(id, Job::Call { id, call })
    }

    /// Whether the server accepts connections.
    pub(crate) fn readiness(&self) -> Readiness {
        self.shared.readiness()
    }

    /// Drains all shards with 1012 after a shard has failed, so that clients reconnect to the next server.
    pub(crate) fn drain_for_restart(&self, reason: &Error) {
        if self.shared.note_readiness(Readiness::Failed) {
            tracing::info!(target: "tidewheel::remote", connections = self.shared.connections(), %reason, "draining");
        }
        self.command(Command::DrainForRestart);
    }

    pub(crate) fn command(&self, command: Command) {
        for inbox in self.shared.inboxes() {
            inbox.command(command);
        }
    }

    fn push(&self, id: ConnectionId, job: Job) -> Result<(), RemoteError> {
        let inbox: Option<&Inbox> = self.shared.inboxes().get(usize::from(id.shard));
        let inbox = inbox.ok_or(RemoteError::Gone)?;
        if inbox.budget.pressure() >= Pressure::Hold {
            return Err(RemoteError::Busy);
        }
        Ok(inbox.push(job)?)
    }
}
