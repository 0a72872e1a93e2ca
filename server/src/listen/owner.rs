//! The process that owns a listening port, found in `/proc`.

use std::{
    fs,
    net::SocketAddr,
    path::{Path, PathBuf},
};

/// Stands for a process of another user, whose descriptors are not visible.
const INVISIBLE: &str = "/proc/unknown";

/// Returns the `/proc` directory of a living process with a socket that listens on the port. `before` is the
/// result of an earlier call, which is checked first.
pub(super) fn find(address: SocketAddr, before: Option<PathBuf>) -> Option<PathBuf> {
    let listeners = listeners(address.port());
    if let Some(process) = before
        && is_alive(&process)
        && owns(&process, &listeners)
    {
        return Some(process);
    }
    if listeners.is_empty() {
        // The address is bound without a listener, or its owner has just closed it.
        return None;
    }
    let own_user = rustix::process::geteuid();
    let all_are_visible =
        own_user.is_root() || listeners.iter().all(|it| it.user == own_user.as_raw());
    if !all_are_visible {
        return Some(PathBuf::from(INVISIBLE));
    }
    processes().find(|process| owns(process, &listeners) && is_alive(process))
}

/// A listening socket in `/proc/net/tcp`.
struct Listener {
    user: u32,
    inode: String,
}

/// All sockets that listen on a port.
fn listeners(port: u16) -> Vec<Listener> {
    let tables = ["/proc/self/net/tcp", "/proc/self/net/tcp6"];
    let tables = tables.map(|path| fs::read_to_string(path).unwrap_or_default());
    let lines = tables.iter().flat_map(|table| table.lines().skip(1));
    lines.filter_map(|line| listener(line, port)).collect()
}

/// Parses a line (proc_pid_net(5)); `None` if its socket does not listen on the port.
fn listener(line: &str, port: u16) -> Option<Listener> {
    const LISTEN: &str = "0A";
    let fields: Vec<&str> = line.split_whitespace().collect();
    let (_, local_port) = fields.get(1)?.rsplit_once(':')?;
    let is_match = u16::from_str_radix(local_port, 16) == Ok(port) && *fields.get(3)? == LISTEN;
    is_match.then_some(Listener {
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

/// Whether a process has neither ended nor been killed.
fn is_alive(process: &Path) -> bool {
    !is_ending(&fs::read_to_string(process.join("status")).unwrap_or_default())
}

/// Whether a process has ended or was killed, by its `status` (proc_pid_status(5)).
fn is_ending(status: &str) -> bool {
    const SIGKILL: u64 = 1 << (libc::SIGKILL - 1);
    let field = |name: &str| {
        let value = status.lines().find_map(|line| line.strip_prefix(name));
        value.unwrap_or_default().trim().to_owned()
    };
    let has_sigkill = |name| u64::from_str_radix(&field(name), 16).unwrap_or(0) & SIGKILL != 0;
    matches!(field("State:").get(..1), None | Some("Z" | "X"))
        || has_sigkill("SigPnd:")
        || has_sigkill("ShdPnd:")
}

/// Whether a process has a descriptor of one of these sockets.
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
    fn a_process_that_has_ended_or_was_killed_is_not_alive() {
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
        assert!(is_ending(""), "the process has ended");
    }
}
