//! The listening sockets of a server, and a restart at an address that the kernel has yet to free.
//!
//! When a process is killed, the kernel tears its rings down some milliseconds later, and what they
//! accept from stays open until then. So an address that is taken, and whose owner is no process that
//! lives, is waited for.

use std::{
    fs, io,
    net::{SocketAddr, ToSocketAddrs},
    os::fd::OwnedFd,
    path::{Path, PathBuf},
    time::Duration,
};

use rustix::thread::{Timespec, nanosleep};

use crate::{Error, host};

/// Clients that wait to be accepted, on each shard; the kernel caps it at `net.core.somaxconn`.
const BACKLOG: i32 = 4096;

/// Bytes of a connection that the kernel takes although it cannot send them yet (`TCP_NOTSENT_LOWAT`,
/// tcp(7)).
const UNSENT_MAX: u32 = 128 << 10;

/// How long an address is waited for that no living process owns.
const FREE_WITHIN: Duration = Duration::from_secs(5);

/// Between two tries.
const RETRY_AFTER: Duration = Duration::from_millis(20);

/// A living owner is to be seen in so many tries in a row: one that was just killed may look alive once.
const OWNER_SEEN_MIN: u32 = 8;

/// Stands for a process whose directory does not show what it has open.
const UNKNOWN: &str = "/proc/unknown";

/// What an address names.
pub(crate) fn resolve(address: &(impl ToSocketAddrs + ToString)) -> Result<SocketAddr, Error> {
    let failed = |error| Error::Resolve {
        address: address.to_string(),
        error,
    };
    let mut addresses = address.to_socket_addrs().map_err(failed)?;
    addresses
        .next()
        .ok_or_else(|| failed(io::Error::other("it names no address")))
}

/// One listener for each shard, all on one address (`SO_REUSEPORT`, socket(7)); and that address.
pub(crate) fn shards(
    address: SocketAddr,
    shards: u16,
) -> Result<(Vec<OwnedFd>, SocketAddr), Error> {
    let failed = |error| listen_error(address, error);
    let first = socket(address).map_err(failed)?;
    // Bound without SO_REUSEPORT, the first one fails if anybody else is there; given it
    // afterwards, it lets the others of this process in.
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

/// The admin listener.
pub(crate) fn admin(address: SocketAddr) -> Result<std::net::TcpListener, Error> {
    let listener = retry(address, || std::net::TcpListener::bind(address))?;
    // The standard library's backlog is short: a crowd would make others wait a second.
    rustix::net::listen(&listener, BACKLOG)
        .map_err(io::Error::from)
        .and_then(|()| listener.set_nonblocking(true))
        .map_err(|error| listen_error(address, error))?;
    Ok(listener)
}

/// A listening socket to be, whose options every accepted connection inherits.
fn socket(address: SocketAddr) -> io::Result<socket2::Socket> {
    use socket2::{Domain, Protocol, Socket, Type};
    let socket = Socket::new(
        Domain::for_address(address),
        Type::STREAM,
        Some(Protocol::TCP),
    )?;
    socket.set_reuse_address(true)?;
    // Replies of a turn leave in one send: there is nothing to wait for.
    socket.set_tcp_nodelay(true)?;
    // What is ahead of a ping in the kernel, and out of reach of the policies for slow consumers.
    socket.set_tcp_notsent_lowat(UNSENT_MAX)?;
    // A Close before the peer's FIN resets, and leaves no orphan.
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

/// Tries to bind until the address is free, for [`FREE_WITHIN`]; no longer if a process owns it.
fn retry<T>(address: SocketAddr, mut bind: impl FnMut() -> io::Result<T>) -> Result<T, Error> {
    let pause = Timespec {
        tv_sec: 0,
        tv_nsec: RETRY_AFTER.subsec_nanos().into(),
    };
    let (mut seen, mut owner, mut is_told) = (0, None, false);
    for _ in 0..FREE_WITHIN.as_millis() / RETRY_AFTER.as_millis() {
        match bind() {
            Err(error) if error.kind() == io::ErrorKind::AddrInUse => {}
            result => return result.map_err(|error| listen_error(address, error)),
        }
        owner = living_owner(address, owner);
        seen = match &owner {
            Some(_) => seen + 1,
            None => 0,
        };
        if seen >= OWNER_SEEN_MIN {
            break;
        }
        if owner.is_none() && !is_told {
            is_told = true;
            tracing::info!(
                "{address} belongs to no living process; waiting up to {FREE_WITHIN:?} until the kernel frees it"
            );
        }
        // A signal may end it early, which does no harm.
        let _ = nanosleep(&pause);
    }
    Err(Error::PortTaken { address })
}

/// A process that lives, and has a socket that listens on the port: the one that was found before, if it
/// still has.
fn living_owner(address: SocketAddr, before: Option<PathBuf>) -> Option<PathBuf> {
    let listeners = listeners(address.port());
    if let Some(process) = before
        && lives(&process)
        && owns(&process, &listeners)
    {
        return Some(process);
    }
    if listeners.is_empty() {
        // It is bound and does not listen, or its process has let go of it just now.
        return None;
    }
    let our_own = rustix::process::geteuid();
    let all_are_visible =
        our_own.is_root() || listeners.iter().all(|it| it.user == our_own.as_raw());
    // Another user's processes do not show what they have open.
    if !all_are_visible {
        return Some(PathBuf::from(UNKNOWN));
    }
    processes().find(|process| owns(process, &listeners) && lives(process))
}

/// A socket that listens, as /proc/net/tcp tells of it.
struct Listener {
    user: u32,
    inode: String,
}

fn listeners(port: u16) -> Vec<Listener> {
    let tables = ["/proc/self/net/tcp", "/proc/self/net/tcp6"];
    let tables = tables.map(|path| fs::read_to_string(path).unwrap_or_default());
    let lines = tables.iter().flat_map(|table| table.lines().skip(1));
    lines.filter_map(|line| listener(line, port)).collect()
}

/// The listener of a line (proc_pid_net(5)), if it listens on a port.
fn listener(line: &str, port: u16) -> Option<Listener> {
    const LISTEN: &str = "0A";
    let fields: Vec<&str> = line.split_whitespace().collect();
    let (_, local_port) = fields.get(1)?.rsplit_once(':')?;
    let is_it = u16::from_str_radix(local_port, 16) == Ok(port) && *fields.get(3)? == LISTEN;
    is_it.then_some(Listener {
        user: fields.get(7)?.parse().ok()?,
        inode: (*fields.get(9)?).to_owned(),
    })
}

/// The directories of all processes.
fn processes() -> impl Iterator<Item = PathBuf> {
    let entries = fs::read_dir("/proc").into_iter().flatten().flatten();
    let processes = entries.filter(|entry| {
        let name = entry.file_name();
        name.to_string_lossy().bytes().all(|it| it.is_ascii_digit())
    });
    processes.map(|entry| entry.path())
}

/// Whether a process has not ended, and is not about to.
fn lives(process: &Path) -> bool {
    !is_ending(&fs::read_to_string(process.join("status")).unwrap_or_default())
}

/// Whether a process has ended or was killed (proc_pid_status(5)).
fn is_ending(status: &str) -> bool {
    const KILLED: u64 = 1 << (libc::SIGKILL - 1);
    let field = |name: &str| {
        let value = status.lines().find_map(|line| line.strip_prefix(name));
        value.unwrap_or_default().trim().to_owned()
    };
    let is_killed = |name| u64::from_str_radix(&field(name), 16).unwrap_or(0) & KILLED != 0;
    matches!(field("State:").get(..1), None | Some("Z" | "X"))
        || is_killed("SigPnd:")
        || is_killed("ShdPnd:")
}

fn owns(process: &Path, listeners: &[Listener]) -> bool {
    let descriptors = fs::read_dir(process.join("fd"))
        .into_iter()
        .flatten()
        .flatten();
    descriptors
        .filter_map(|descriptor| fs::read_link(descriptor.path()).ok())
        .any(|target| {
            let target = target.to_string_lossy();
            let inode = target
                .strip_prefix("socket:[")
                .and_then(|rest| rest.strip_suffix(']'));
            inode.is_some_and(|inode| listeners.iter().any(|listener| listener.inode == inode))
        })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_listener_of_this_process_has_a_living_owner() {
        let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        assert!(living_owner(address, None).is_some());
        assert!(matches!(
            admin(address),
            Err(Error::PortTaken { address: taken }) if taken == address
        ));
        drop(listener);
        assert!(living_owner(address, None).is_none());
        assert!(admin(address).is_ok());
    }

    #[test]
    fn a_process_that_was_killed_or_has_ended_does_not_live() {
        let status = |state, pending, shared| {
            format!("Name:\tx\nState:\t{state}\nSigPnd:\t{pending}\nShdPnd:\t{shared}\n")
        };
        let none = "0000000000000000";
        assert!(!is_ending(&status("S (sleeping)", none, none)));
        assert!(!is_ending(&status("R (running)", "0000000000004000", none)));
        assert!(is_ending(&status("Z (zombie)", none, none)));
        assert!(is_ending(&status("R (running)", "0000000000000100", none)));
        assert!(is_ending(&status(
            "D (disk sleep)",
            none,
            "0000000000000100"
        )));
        assert!(is_ending(""), "it is gone");
    }
}
