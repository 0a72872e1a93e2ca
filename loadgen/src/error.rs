//! Why a run has nothing to report.

use std::io;

use tidewheel::ring::RingError;

use crate::{
    child::ChildError,
    interrupt::Interrupted,
    limits::Limit,
    publisher::PublishError,
    report::WriteError,
    server_report::ReportError,
    session::SessionError,
    status::Sign,
    summary::BaselineError,
    syscalls::SyscallError,
    tls::TlsError,
    watch::{Held, WatchError},
};

/// Why there is no report.
#[derive(Debug, thiserror::Error)]
pub(crate) enum RunError {
    /// More connections than this host allows.
    #[error("this host does not allow so many connections: {0}")]
    Limit(#[from] Limit),
    /// There is nothing to compare with.
    #[error(transparent)]
    Baseline(#[from] BaselineError),
    /// Nobody can tell what the server holds.
    #[error(
        "what the server at {0} holds cannot be known: it is not on this host, whose socket table \
         would tell. close-storm --mode close works with any server"
    )]
    Unknowable(std::net::SocketAddr),
    /// The scenario needs to end the server, or to look into it.
    #[error("{0} needs a server that it has started itself: leave --url out, or add --server-cmd")]
    NeedsChild(&'static str),
    /// The server's certificate cannot be checked as asked for.
    #[error(transparent)]
    Tls(#[from] TlsError),
    /// There is no ring.
    #[error(transparent)]
    Ring(#[from] RingError),
    /// The system does not do as it must.
    #[error(transparent)]
    System(#[from] io::Error),
    /// The server did not start, or not end.
    #[error(transparent)]
    Child(#[from] ChildError),
    /// The server does not say what it holds.
    #[error(transparent)]
    Report(#[from] ReportError),
    /// System calls are to be counted, and cannot be.
    #[error(transparent)]
    Syscalls(#[from] SyscallError),
    /// The server does not publish.
    #[error(transparent)]
    Publish(#[from] PublishError),
    /// It is not known what the server holds.
    #[error(transparent)]
    Watch(#[from] WatchError),
    /// The server holds fewer connections than the clients: it is another's report.
    #[error("{opened} connections are open, but the server's side shows {held}")]
    NotCovered {
        /// The clients that are open.
        opened: usize,
        /// What was read.
        held: Held,
    },
    /// The ring broke.
    #[error(transparent)]
    Session(SessionError),
    /// A file of the report cannot be written.
    #[error(transparent)]
    Write(#[from] WriteError),
    /// Ctrl-C.
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

impl RunError {
    /// The meaning for the exit status: whether the server is at fault, or this host or the
    /// command line.
    pub(crate) const fn sign(&self) -> Sign {
        match self {
            Self::Interrupted(_)
            | Self::Child(ChildError::Interrupted(_))
            | Self::Watch(WatchError::Interrupted(_)) => Sign::Interrupted,
            Self::Child(_)
            | Self::Report(_)
            | Self::Publish(_)
            | Self::Watch(_)
            | Self::NotCovered { .. } => Sign::ServerFault,
            Self::Limit(_)
            | Self::Syscalls(_)
            | Self::Baseline(_)
            | Self::Unknowable(_)
            | Self::NeedsChild(_)
            | Self::Tls(_)
            | Self::Ring(_)
            | Self::System(_)
            | Self::Session(_)
            | Self::Write(_) => Sign::Unable,
        }
    }
}
