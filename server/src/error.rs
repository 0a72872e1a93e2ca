//! Errors of a server.

use std::{
    io,
    net::{Ipv4Addr, Ipv6Addr, SocketAddr},
};

use crate::{
    InvalidConfig, host,
    ring::{RingError, raise_descriptors},
};

/// An error of the application, of any type.
pub type BoxError = Box<dyn std::error::Error + Send + Sync>;

/// Error of starting a server, or of a server that has ended early.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// A setting is out of bounds.
    #[error(transparent)]
    Config(#[from] InvalidConfig),
    /// The server has no address, or several.
    #[error("the server has {got} addresses to listen on; it must have one")]
    Addresses {
        /// The number of addresses.
        got: usize,
    },
    /// The address cannot be resolved.
    #[error(
        "cannot resolve {address}: {error}; write an address of this host, or 0.0.0.0:PORT for all its addresses"
    )]
    Resolve {
        /// The address as given.
        address: String,
        /// The resolver's error.
        error: io::Error,
    },
    /// Another process listens on the port.
    #[error(
        "cannot listen on {address}: the port is taken; write another, or end the process that \
         listens on it (`ss -ltnp 'sport = :{}'` shows it)",
        address.port()
    )]
    PortTaken {
        /// The address asked for.
        address: SocketAddr,
    },
    /// The port is below 1024, and the process has no `CAP_NET_BIND_SERVICE`.
    #[error(
        "cannot listen on {address}: ports below 1024 are reserved; \
         `setcap cap_net_bind_service=+ep` on the program allows them; or write one from 1024 on"
    )]
    PortReserved {
        /// The address asked for.
        address: SocketAddr,
    },
    /// The host does not have the address.
    #[error(
        "cannot listen on {address}: this host does not have the address; write one that it has (`ip address` \
         lists them), or {} for all its addresses",
        all_addresses(*address)
    )]
    NotOfThisHost {
        /// The address asked for.
        address: SocketAddr,
    },
    /// Any other error of listening.
    #[error("cannot listen on {address}: {error}")]
    Listen {
        /// The address asked for.
        address: SocketAddr,
        /// The kernel's error.
        error: io::Error,
    },
    /// The process has no free descriptor.
    #[error(
        "too few descriptors: {error}; RLIMIT_NOFILE is {limit}. Fewer shards need fewer, and {} raises it",
        raise_descriptors(limit.saturating_mul(2).max(1024))
    )]
    Descriptors {
        /// The kernel's error.
        error: io::Error,
        /// The soft limit.
        limit: u64,
    },
    /// The ring of a shard cannot be created.
    #[error("shard {shard}: {error}")]
    Ring {
        /// The number of the shard.
        shard: u16,
        /// The reason.
        error: RingError,
    },
    /// The application could not make the handler of a shard.
    #[error("cannot make the handler of shard {shard}: {source}")]
    Handler {
        /// The number of the shard.
        shard: u16,
        /// The application's error.
        source: BoxError,
    },
    /// The thread of a shard cannot be started.
    #[error("cannot start the thread of shard {shard}: {error}")]
    Thread {
        /// The number of the shard.
        shard: u16,
        /// The kernel's error.
        error: io::Error,
    },
    /// The ring of the admin listener cannot be created.
    #[error("admin listener: {0}")]
    AdminRing(RingError),
    /// The admin listener cannot start.
    #[error("cannot start the admin listener: {0}")]
    Admin(io::Error),
    /// Signals cannot be handled.
    #[error("cannot handle signals: {0}")]
    Signals(io::Error),
    /// The ring of a running shard has failed.
    #[error("shard {shard} has failed: {error}")]
    Failed {
        /// The number of the shard.
        shard: u16,
        /// The kernel's error.
        error: io::Error,
    },
    /// A shard has panicked: by a defect of this library, or by a panic of the handler if
    /// [`PanicPolicy::StopServer`](crate::PanicPolicy::StopServer) is set.
    #[error("shard {shard} has panicked at {location}: {message}")]
    Panicked {
        /// The number of the shard.
        shard: u16,
        /// The message of the panic.
        message: String,
        /// Its file, line and column.
        location: String,
    },
    /// A second signal ended the server before the drain was complete.
    #[error("ended by a second signal before all connections were closed")]
    Interrupted,
}

/// The unspecified address of the same family and port.
fn all_addresses(address: SocketAddr) -> SocketAddr {
    let ip = match address {
        SocketAddr::V4(_) => Ipv4Addr::UNSPECIFIED.into(),
        SocketAddr::V6(_) => Ipv6Addr::UNSPECIFIED.into(),
    };
    SocketAddr::new(ip, address.port())
}

impl Error {
    /// An error for want of descriptors.
    pub(crate) fn descriptors(error: io::Error) -> Self {
        Self::Descriptors {
            error,
            limit: host::descriptor_limit(),
        }
    }

    /// An error of starting the admin listener.
    #[cfg(feature = "admin")]
    pub(crate) fn admin(error: io::Error) -> Self {
        match host::is_out_of_descriptors(&error) {
            true => Self::descriptors(error),
            false => Self::Admin(error),
        }
    }

    /// An error of handling signals.
    pub(crate) fn signals(error: io::Error) -> Self {
        match host::is_out_of_descriptors(&error) {
            true => Self::descriptors(error),
            false => Self::Signals(error),
        }
    }
}
