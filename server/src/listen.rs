//! The listening sockets of a server.
//!
//! After a process is killed, the kernel tears its rings down some milliseconds later, and their listeners stay
//! open until then. So binding waits for an address that is taken, unless its owner is a living process.

mod owner;

use std::{
    io,
    net::{SocketAddr, ToSocketAddrs},
    os::fd::OwnedFd,
    time::Duration,
};

use rustix::thread::{Timespec, nanosleep};

use crate::{Error, host};

/// Backlog of each listener in connections. The kernel limits it to `net.core.somaxconn`.
const BACKLOG: i32 = 4096;

/// Unsent bytes of a connection above which its socket counts as full (`TCP_NOTSENT_LOWAT`, tcp(7)).
const UNSENT_BYTES_MAX: u32 = 128 << 10;

/// Maximum time to wait for an address that no living process owns.
const BIND_TIMEOUT: Duration = Duration::from_secs(5);

/// Time between two attempts to bind.
const BIND_RETRY_DELAY: Duration = Duration::from_millis(20);

/// Number of successive attempts in which an owner is found, after which the address counts as taken. A process
/// that was just killed may be found once.
const OWNER_SIGHTINGS_MIN: u32 = 8;

/// Resolves an address.
///
/// # Errors
/// [`Error::Resolve`].
pub(crate) fn resolve(address: &str) -> Result<SocketAddr, Error> {
    let failed = |error| Error::Resolve {
        address: address.to_owned(),
        error,
    };
    let mut addresses = address.to_socket_addrs().map_err(failed)?;
    addresses
        .next()
        .ok_or_else(|| failed(io::Error::other("the name has no address")))
}

/// Returns a listener for each shard, all on one address (`SO_REUSEPORT`, socket(7)), and that address with the
/// real port.
pub(crate) fn shards(
    address: SocketAddr,
    shards: u16,
) -> Result<(Vec<OwnedFd>, SocketAddr), Error> {
    let failed = |error| listen_error(address, error);
    let first = socket(address).map_err(failed)?;
    // The first socket is bound without SO_REUSEPORT, so it fails if another process has the address. Set after
    // that, the option lets the other sockets of this process bind.
    retry(address, || first.bind(&address.into()))?;
    let address = first
        .local_addr()
        .and_then(|bound| {
            bound
                .as_socket()
                .ok_or_else(|| io::Error::other("not an IP socket"))
        })
        .map_err(failed)?;
    let mut sockets = vec![first];
    if shards > 1 {
        sockets[0].set_reuse_port(true).map_err(failed)?;
    }
    for _ in 1..shards {
        let next = socket(address).map_err(failed)?;
        next.set_reuse_port(true).map_err(failed)?;
        next.bind(&address.into()).map_err(failed)?;
        sockets.push(next);
    }
    for socket in &sockets {
        socket.listen(BACKLOG).map_err(failed)?;
    }
    Ok((sockets.into_iter().map(OwnedFd::from).collect(), address))
}

/// Returns the admin listener.
#[cfg(feature = "admin")]
pub(crate) fn admin(address: SocketAddr) -> Result<std::net::TcpListener, Error> {
    let listener = retry(address, || std::net::TcpListener::bind(address))?;
    // The backlog of the standard library is short: a client that finds it full retries after a second.
    rustix::net::listen(&listener, BACKLOG)
        .map_err(io::Error::from)
        .and_then(|()| listener.set_nonblocking(true))
        .map_err(|error| listen_error(address, error))?;
    Ok(listener)
}

/// Returns an unbound socket. Every accepted connection inherits its options.
fn socket(address: SocketAddr) -> io::Result<socket2::Socket> {
    use socket2::{Domain, Protocol, Socket, Type};
    let socket = Socket::new(
        Domain::for_address(address),
        Type::STREAM,
        Some(Protocol::TCP),
    )?;
    socket.set_reuse_address(true)?;
    // All messages of a turn leave in one send, so Nagle's algorithm would only delay them.
    socket.set_tcp_nodelay(true)?;
    // Bytes in the kernel are ahead of a ping, and slow-consumer policies cannot drop them.
    socket.set_tcp_notsent_lowat(UNSENT_BYTES_MAX)?;
    // Closing before the peer's FIN resets the connection, and leaves no orphan in the kernel.
    socket.set_linger(Some(Duration::ZERO))?;
    Ok(socket)
}

fn listen_error(address: SocketAddr, error: io::Error) -> Error {
    match error.kind() {
        io::ErrorKind::AddrInUse => Error::PortTaken { address },
        io::ErrorKind::PermissionDenied => Error::PortReserved { address },
        io::ErrorKind::AddrNotAvailable => Error::NotOfThisHost { address },
        _ if host::is_out_of_descriptors(&error) => Error::descriptors(error),
        _ => Error::Listen { address, error },
    }
}

/// Tries to bind for up to [`BIND_TIMEOUT`] while the address is taken, but not if a living process owns it.
fn retry<T>(address: SocketAddr, mut bind: impl FnMut() -> io::Result<T>) -> Result<T, Error> {
    let delay = Timespec {
        tv_sec: 0,
        tv_nsec: BIND_RETRY_DELAY.subsec_nanos().into(),
    };
    let (mut sightings, mut owner, mut is_logged) = (0, None, false);
    for _ in 0..BIND_TIMEOUT.as_millis() / BIND_RETRY_DELAY.as_millis() {
        match bind() {
            Err(error) if error.kind() == io::ErrorKind::AddrInUse => {}
            result => return result.map_err(|error| listen_error(address, error)),
        }
        owner = owner::find(address, owner);
        sightings = match &owner {
            Some(_) => sightings + 1,
            None => 0,
        };
        if sightings >= OWNER_SIGHTINGS_MIN {
            break;
        }
        if owner.is_none() && !is_logged {
            is_logged = true;
            tracing::info!(
                "{address} is in use, but by no living process; waiting up to {BIND_TIMEOUT:?} for the kernel to \
                 free it"
            );
        }
        // A signal may end the sleep early, which is harmless.
        let _ = nanosleep(&delay);
    }
    Err(Error::PortTaken { address })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_address_that_a_living_process_owns_is_taken_until_the_owner_closes_it() {
        let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        assert!(owner::find(address, None).is_some());
        assert!(matches!(
            admin(address),
            Err(Error::PortTaken { address: taken }) if taken == address
        ));
        drop(listener);
        assert!(owner::find(address, None).is_none());
        assert!(admin(address).is_ok());
    }
}
