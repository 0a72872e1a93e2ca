//! The kernel's table of TCP sockets, `/proc/net/tcp` (proc_pid_net(5)), in the network namespace
//! of the calling thread.

use std::time::Duration;

use super::{sock_diag, wait};

/// A state of TCP, by the kernel's number (include/net/tcp_states.h).
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) enum State {
    Established = 1,
    FinWait1 = 4,
    FinWait2 = 5,
    TimeWait = 6,
    CloseWait = 8,
    LastAck = 9,
    Closing = 11,
    Other,
}

/// One socket.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Row {
    pub(crate) local_port: u16,
    pub(crate) remote_port: u16,
    pub(crate) state: State,
    /// Bytes that the peer has not acknowledged.
    pub(crate) unsent: u64,
    /// Bytes that the process has not read.
    pub(crate) unread: u64,
}

/// All sockets whose own port is `port`.
pub(crate) fn sockets(port: u16) -> Vec<Row> {
    rows(port, |row| row.local_port == port)
}

/// All sockets whose peer's port is `port`.
pub(crate) fn sockets_to(port: u16) -> Vec<Row> {
    rows(port, |row| row.remote_port == port)
}

/// The sockets of which one end has this port, and for which `wanted` holds.
fn rows(port: u16, wanted: impl Fn(&Row) -> bool) -> Vec<Row> {
    let table =
        std::fs::read_to_string("/proc/thread-self/net/tcp").expect("the kernel has a table");
    // Others may have left very many: only what may be ours is looked at.
    let shown = format!(":{port:04X} ");
    let lines = table.lines().skip(1).filter(|line| line.contains(&shown));
    let rows = lines.map(|line| row(line).expect("a row"));
    rows.filter(wanted).collect()
}

/// The socket between these two ports, on the side of the first. The table is no snapshot: while sockets
/// of others come and go, one that is there may be passed over.
#[track_caller]
pub(crate) fn held(local_port: u16, remote_port: u16) -> Row {
    let mut held = None;
    wait::until(Duration::from_millis(500), "the socket is there", || {
        let mut rows = sockets(local_port).into_iter();
        held = rows.find(|row| row.remote_port == remote_port);
        held.is_some()
    });
    held.expect("it was found")
}

/// How many resets the namespace has sent (`OutRsts` in RFC 4022).
pub(crate) fn resets_sent() -> u64 {
    let counts = std::fs::read_to_string("/proc/thread-self/net/snmp").expect("the kernel counts");
    let mut lines = counts.lines().filter_map(|line| line.strip_prefix("Tcp: "));
    let mut fields = || lines.next().expect("two lines").split_whitespace();
    let value = fields().zip(fields()).find(|(name, _)| *name == "OutRsts");
    value.expect("it is counted").1.parse().expect("a number")
}

/// The state of the socket between these two ports, on the side of the first.
pub(crate) fn state(local_port: u16, remote_port: u16) -> Option<State> {
    let rows = sockets(local_port).into_iter();
    rows.filter(|row| row.remote_port == remote_port)
        .map(|row| row.state)
        .next()
}

/// Sockets that the kernel keeps for want of an answer from the peer.
pub(crate) fn orphans(port: u16) -> usize {
    sock_diag::count(port, &[State::FinWait1, State::Closing, State::LastAck])
}

/// R10: half a second after a bound the kernel keeps nothing any more. Says how long it did.
#[track_caller]
pub(crate) fn assert_no_orphans_soon(port: u16) -> Duration {
    wait::until(Duration::from_millis(500), "no orphan is left", || {
        orphans(port) == 0
    })
}

fn row(line: &str) -> Option<Row> {
    let mut fields = line.split_whitespace().skip(1);
    let mut port = || {
        let (_, port) = fields.next()?.split_once(':')?;
        u16::from_str_radix(port, 16).ok()
    };
    let (local_port, remote_port) = (port()?, port()?);
    let state = match u8::from_str_radix(fields.next()?, 16).ok()? {
        1 => State::Established,
        4 => State::FinWait1,
        5 => State::FinWait2,
        6 => State::TimeWait,
        8 => State::CloseWait,
        9 => State::LastAck,
        11 => State::Closing,
        _ => State::Other,
    };
    let (unsent, unread) = fields.next()?.split_once(':')?;
    Some(Row {
        local_port,
        remote_port,
        state,
        unsent: u64::from_str_radix(unsent, 16).ok()?,
        unread: u64::from_str_radix(unread, 16).ok()?,
    })
}
