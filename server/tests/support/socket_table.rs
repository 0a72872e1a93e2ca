//! The kernel's table of TCP sockets in the calling thread's network namespace: `/proc/net/tcp`
//! (proc_pid_net(5)).

use std::time::Duration;

use super::{ms, sock_diag, wait};

/// A TCP state, with the kernel's number (include/net/tcp_states.h).
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

/// A socket in the table.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Row {
    pub(crate) local_port: u16,
    pub(crate) remote_port: u16,
    pub(crate) state: State,
    /// Sent bytes that the peer has not acknowledged, and bytes not yet sent.
    pub(crate) unsent: u64,
    /// Received bytes that the process has not read.
    pub(crate) unread: u64,
}

/// Returns all sockets with local port `port`.
pub(crate) fn sockets(port: u16) -> Vec<Row> {
    rows(port, |row| row.local_port == port)
}

/// Returns all sockets with remote port `port`.
pub(crate) fn sockets_to(port: u16) -> Vec<Row> {
    rows(port, |row| row.remote_port == port)
}

/// Returns the sockets that have `port` at one end and for which `wanted` holds.
fn rows(port: u16, wanted: impl Fn(&Row) -> bool) -> Vec<Row> {
    let path = "/proc/thread-self/net/tcp";
    let table = std::fs::read_to_string(path).expect("the table is readable");
    // Filtered before parsing: the host may have very many sockets.
    let shown = format!(":{port:04X} ");
    let lines = table.lines().skip(1).filter(|line| line.contains(&shown));
    let rows = lines.map(|line| parse(line).expect("a row of the table"));
    rows.filter(wanted).collect()
}

/// Returns the socket between two ports. It looks several times: the table is not a snapshot, and may
/// omit a socket while sockets of other processes are opened and closed.
///
/// # Panics
/// If the socket is not found within 500 ms.
#[track_caller]
pub(crate) fn socket(local_port: u16, remote_port: u16) -> Row {
    let mut found = None;
    wait::until(ms(500), "the socket is in the table", || {
        let mut rows = sockets(local_port).into_iter();
        found = rows.find(|row| row.remote_port == remote_port);
        found.is_some()
    });
    found.expect("the socket was found")
}

/// Returns the number of RSTs that the namespace has sent (`OutRsts`, RFC 4022).
pub(crate) fn resets_sent() -> u64 {
    let counts =
        std::fs::read_to_string("/proc/thread-self/net/snmp").expect("the file is readable");
    let mut lines = counts.lines().filter_map(|line| line.strip_prefix("Tcp: "));
    let mut fields = || lines.next().expect("two lines").split_whitespace();
    let value = fields().zip(fields()).find(|(name, _)| *name == "OutRsts");
    value.expect("OutRsts").1.parse().expect("a number")
}

/// Returns the state of the socket between two ports, if it exists.
pub(crate) fn state(local_port: u16, remote_port: u16) -> Option<State> {
    let rows = sockets(local_port).into_iter();
    rows.filter(|row| row.remote_port == remote_port)
        .map(|row| row.state)
        .next()
}

/// Returns the number of sockets that the kernel keeps until the peer answers.
pub(crate) fn orphans(port: u16) -> usize {
    sock_diag::count(port, &[State::FinWait1, State::Closing, State::LastAck])
}

/// R10: asserts that the kernel keeps no orphan half a second from now. Returns the time until then.
#[track_caller]
pub(crate) fn assert_no_orphans_soon(port: u16) -> Duration {
    wait::until(ms(500), "no orphan is left", || orphans(port) == 0)
}

fn parse(line: &str) -> Option<Row> {
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
