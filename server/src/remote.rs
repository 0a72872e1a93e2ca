//! The server as seen from any thread.

use std::sync::{Arc, atomic::Ordering};

use bytes::Bytes;
use tidewheel_codec::{CloseCode, frame::Opcode};

use crate::{
    ConnectionId, Error, Outgoing,
    command::Command,
    fanout::{SharedFanout, Gone, Inbox, Job, Pressure, Readiness},
    topic::TopicError,
};

/// A handle by which any thread publishes, sends and closes. Cheap to clone.
///
/// What one thread asks for happens in the order in which it asked. When the server has ended,
/// [`RemoteError::Gone`] says so.
#[derive(Clone, Debug)]
pub struct Remote {
    shared: Arc<SharedFanout>,
}

/// Why something is not published or sent.
#[derive(Clone, Copy, Debug, Eq, PartialEq, thiserror::Error)]
#[non_exhaustive]
pub enum RemoteError {
    /// There is no such topic.
    #[error(transparent)]
    Topic(#[from] TopicError),
    /// Too much of what was published or sent before waits on a shard
    /// ([`Config::fanout_memory`](crate::Config::fanout_memory)).
    #[error("the server is busy: try again later")]
    Busy,
    /// The shard of that connection has ended or, for a message to publish, every shard has.
    #[error("the server, or this part of it, has ended")]
    Gone,
}

impl From<Gone> for RemoteError {
    fn from(Gone: Gone) -> Self {
        Self::Gone
    }
}

impl Remote {
    pub(crate) fn new(shared: Arc<SharedFanout>) -> Self {
        Self { shared }
    }

    /// Publishes a message to all subscribers of a topic, on all shards. It is encoded once. A shard that
    /// has failed is left out.
    ///
    /// While messages wait for their turn on a shard with subscribers, all handles together may have a
    /// 64th of [`Config::fanout_memory`](crate::Config::fanout_memory) under way.
    ///
    /// # Errors
    /// If `topic` is no topic, the shards that it concerns are busy, or all have ended; then nobody gets
    /// it.
    pub fn publish<'m>(
        &self,
        topic: &str,
        message: impl Into<Outgoing<'m>>,
    ) -> Result<(), RemoteError> {
        let address = self.shared.address(topic)?;
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
            // A shard that has ended since is left out.
            let _ = inbox.push(Job::Publish(Arc::clone(&message)));
        });
        let publishes = &self.shared.remote_publishes;
        publishes.fetch_add(1, Ordering::Relaxed);
        Ok(())
    }

    /// How many messages were published by such handles so far.
    pub(crate) fn publishes(&self) -> u64 {
        self.shared.remote_publishes.load(Ordering::Relaxed)
    }

    /// Sends a message to one connection, if it is still there, as its handler would by
    /// [`Conn::send`](crate::Conn::send).
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

    /// Starts the closing handshake of a connection, if it is still there, as its handler would by
    /// [`Conn::close`](crate::Conn::close). A code that must not be sent, or a reason that is too
    /// long, is logged.
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

    /// Begins to drain, without waiting for a signal: connections are closed with
    /// [`Drain::code`](crate::Drain::code), and then the shards end, for which [`Running::join`] waits. From
    /// now on `/readyz` says that it does.
    ///
    /// [`Running::join`]: crate::Running::join
    pub fn drain(&self) {
        if self.shared.note_readiness(Readiness::Draining) {
            tracing::info!(connections = self.shared.connections(), "draining");
        }
        self.command(Command::Drain);
    }

    /// How many bursts of published messages are over.
    pub(crate) fn bursts(&self) -> u64 {
        self.shared.bursts.load(Ordering::Relaxed)
    }

    /// Whether the server takes new connections.
    pub(crate) fn readiness(&self) -> Readiness {
        self.shared.readiness()
    }

    /// A shard has failed: the others close their connections with 1012, so that their clients come back
    /// to whatever is started next.
    pub(crate) fn drain_for_restart(&self, reason: &Error) {
        if self.shared.note_readiness(Readiness::Failed) {
            tracing::info!(connections = self.shared.connections(), %reason, "draining");
        }
        self.command(Command::DrainForRestart);
    }

    pub(crate) fn command(&self, command: Command) {
        for inbox in self.shared.inboxes() {
            inbox.command(command);
        }
    }

    fn push(&self, id: ConnectionId, job: Job) -> Result<(), RemoteError> {
        let inbox: &Inbox = &self.shared.inboxes()[usize::from(id.shard)];
        if inbox.budget.pressure() >= Pressure::Hold {
            return Err(RemoteError::Busy);
        }
        Ok(inbox.push(job)?)
    }
}
