//! Errors of a run.

use std::io;

use tidewheel::ring::RingError;

use crate::{
    host::limits::Limit,
    interrupt::Interrupted,
    measure::syscalls::SyscallError,
    report::{files::WriteError, status::Problem, summary::BaselineError},
    server::{
        ServerError,
        child::ChildError,
        connection_monitor::{HeldConnections, MonitorError},
        publisher::PublishError,
        server_report::ReportError,
    },
    session::SessionError,
    tls::TlsError,
};

/// An error because of which there is no report.
#[derive(Debug, thiserror::Error)]
pub(crate) enum RunError {
    /// The host allows fewer connections.
    #[error("this host does not allow that number of connections: {0}")]
    Limit(#[from] Limit),
    /// The baseline cannot be used.
    #[error(transparent)]
    Baseline(#[from] BaselineError),
    /// The connections of the server cannot be counted.
    #[error(
        "the connections of the server at {0} cannot be counted: it is not on this host, so the \
         kernel's socket table does not show them. close-storm --mode close works with any server"
    )]
    NotObservable(std::net::SocketAddr),
    /// The scenario needs a server that this run starts.
    #[error("{0} needs a server that loadgen starts: omit --url, or add --server-cmd")]
    NeedsChild(&'static str),
    /// TLS cannot be set up.
    #[error(transparent)]
    Tls(#[from] TlsError),
    /// The ring cannot be set up.
    #[error(transparent)]
    Ring(#[from] RingError),
    /// A system call failed.
    #[error(transparent)]
    System(#[from] io::Error),
    /// The server failed, or its state cannot be read.
    #[error(transparent)]
    Server(#[from] ServerError),
    /// The server did not publish a message.
    #[error(transparent)]
    Publish(#[from] PublishError),
    /// The connections of the server cannot be read.
    #[error(transparent)]
    Monitor(#[from] MonitorError),
    /// The server's side shows fewer connections than are open, so it is about another server.
    #[error("{opened} connections are open, but the server's side shows {held}")]
    NotCovered {
        /// Number of open clients.
        opened: usize,
        /// Connections on the server's side.
        held: HeldConnections,
    },
    /// The session failed.
    #[error(transparent)]
    Session(SessionError),
    /// A file of the report cannot be written.
    #[error(transparent)]
    Write(#[from] WriteError),
    /// SIGINT or SIGTERM arrived.
    #[error(transparent)]
    Interrupted(#[from] Interrupted),
}

impl From<SessionError> for RunError {
    fn from(error: SessionError) -> Self {
        match error {
            SessionError::Interrupted(interrupted) => Self::Interrupted(interrupted),
            SessionError::Ring(_) => Self::Session(error),
        }
    }
}

impl From<ChildError> for RunError {
    fn from(error: ChildError) -> Self {
        Self::Server(error.into())
    }
}

impl From<ReportError> for RunError {
    fn from(error: ReportError) -> Self {
        Self::Server(error.into())
    }
}

impl From<SyscallError> for RunError {
    fn from(error: SyscallError) -> Self {
        Self::Server(error.into())
    }
}

impl RunError {
    /// Returns the problem for the exit status: a fault of the server, or of this host or the command line.
    pub(crate) const fn problem(&self) -> Problem {
        match self {
            Self::Interrupted(_) | Self::Monitor(MonitorError::Interrupted(_)) => {
                Problem::Interrupted
            }
            Self::Server(error) => error.problem(),
            Self::Publish(_) | Self::Monitor(_) | Self::NotCovered { .. } => Problem::ServerFault,
            Self::Limit(_)
            | Self::Baseline(_)
            | Self::NotObservable(_)
            | Self::NeedsChild(_)
            | Self::Tls(_)
            | Self::Ring(_)
            | Self::System(_)
            | Self::Session(_)
            | Self::Write(_) => Problem::Unable,
        }
    }
}
