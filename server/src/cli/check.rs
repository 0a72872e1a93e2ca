//! `tidewheel check`: what this host allows.

use std::{io::Write, process::ExitCode};

use rustix::process::{Resource, getrlimit};

use crate::{
    Config, Conn, Error, Handler, Message, Request, Server, Verdict, host,
    ring::{RingError, kernel_release, raise_descriptors},
};

/// One thing that was looked at.
struct Finding {
    about: &'static str,
    value: String,
    advice: Option<String>,
}

/// A handler for a server that nobody connects to.
struct Trial;

impl Handler for Trial {
    type State = ();

    fn upgrade(&mut self, _: &Request<'_>) -> Verdict<()> {
        Verdict::accept(())
    }

    fn message(&mut self, _: &mut Conn<'_, ()>, _: Message<'_>) {}
}

/// Starts a server as `serve` does, and ends it at once.
fn try_server() -> Result<(), Error> {
    let running = Server::bind("127.0.0.1:0", Config::default())?.start(|_| Trial)?;
    let remote = running.remote();
    running.until_signal_once_ready(|| remote.drain())
}

/// The reason for which io_uring is not usable. Too few descriptors are no fault of it.
fn ring_error(tried: &Result<(), Error>) -> Option<&RingError> {
    match tried {
        Err(Error::Ring { error, .. } | Error::ControlRing(error)) => {
            Some(error).filter(|error| !matches!(error, RingError::Sockets { .. }))
        }
        Ok(()) | Err(_) => None,
    }
}

/// Prints what was found; the status is 1 if a server cannot run here.
pub(super) fn run() -> ExitCode {
    let limit = host::raise_descriptor_limit();
    let tried = try_server();
    let findings = [
        Finding {
            about: "kernel",
            value: kernel_release(),
            advice: None,
        },
        match ring_error(&tried) {
            Some(error) => Finding {
                about: "io_uring",
                value: "not usable".to_owned(),
                advice: Some(error.to_string()),
            },
            None => Finding {
                about: "io_uring",
                value: "allowed".to_owned(),
                advice: None,
            },
        },
        Finding {
            about: "cores",
            value: host::cores().to_string(),
            advice: None,
        },
        descriptors(limit),
        memory(),
        sysctl(
            "backlog",
            "net/core/somaxconn",
            4096,
            "clients that wait to be accepted are dropped beyond it",
        ),
        sysctl(
            "SYN backlog",
            "net/ipv4/tcp_max_syn_backlog",
            1024,
            "handshakes under way are dropped beyond it",
        ),
        sysctl(
            "files",
            "fs/file-max",
            1 << 20,
            "all sockets of the host count against it",
        ),
        established(),
        huge_pages(),
    ];
    let findings: Vec<Finding> = findings.into_iter().chain(tracked()).collect();
    let mut out = std::io::stdout().lock();
    for Finding {
        about,
        value,
        advice,
    } in &findings
    {
        // Who closed standard output does not want to know.
        let _ = writeln!(out, "{about:<16}{value}");
        if let Some(advice) = advice {
            let _ = writeln!(out, "{:<16}{advice}", "");
        }
    }
    let advised = findings.iter().filter(|it| it.advice.is_some()).count();
    let _ = writeln!(out, "{}", verdict(&tried, advised));
    match tried {
        Ok(()) => ExitCode::SUCCESS,
        Err(_) => ExitCode::FAILURE,
    }
}

/// The last line: whether a server can run here, and to how many points there is advice.
fn verdict(tried: &Result<(), Error>, advised: usize) -> String {
    let points = match advised {
        1 => "1 point".to_owned(),
        more => format!("{more} points"),
    };
    match (tried, advised) {
        _ if ring_error(tried).is_some() => {
            "A server cannot run here: io_uring is not usable.".to_owned()
        }
        (Err(error), _) => format!("A server cannot run here: {error}."),
        (Ok(()), 0) => "Nothing stands in the way of a server.".to_owned(),
        (Ok(()), _) => {
            format!("A server runs here; for very many connections see the advice on {points}.")
        }
    }
}

fn descriptors(limit: u32) -> Finding {
    let advice = (limit < 1 << 20).then(|| {
        let shards = host::cores();
        let config = Config {
            shards: Some(shards),
            ..Config::default()
        };
        let each = host::capacity(&config, limit).connections;
        format!(
            "there is room for {} connections on {shards} shards, {each} on each; {} or more --shards make \
             room for more",
            u64::from(each) * u64::from(shards),
            raise_descriptors(1 << 20)
        )
    });
    Finding {
        about: "RLIMIT_NOFILE",
        value: limit.to_string(),
        advice,
    }
}

fn memory() -> Finding {
    let about = "RLIMIT_MEMLOCK";
    match getrlimit(Resource::Memlock).current {
        None => Finding {
            about,
            value: "unlimited".to_owned(),
            advice: None,
        },
        Some(limit) => Finding {
            about,
            value: format!("{limit} bytes"),
            advice: (limit < 8 << 20).then(|| {
                "rings count against it where CAP_IPC_LOCK is missing; `ulimit -l unlimited` (or \
                 LimitMEMLOCK=infinity in the systemd unit) raises it"
                    .to_owned()
            }),
        },
    }
}

/// The table in which the kernel looks up the connection of each packet; beyond one of each of its
/// chains, a look-up is a walk.
fn established() -> Finding {
    const ENOUGH: i64 = 1 << 20;
    let about = "TCP table";
    let name = "net.ipv4.tcp_ehash_entries";
    // Negative in a network namespace that shares the table of the first one.
    let Some(chains) = read("net/ipv4/tcp_ehash_entries").and_then(|text| text.parse::<i64>().ok())
    else {
        return Finding {
            about,
            value: format!("{name} cannot be read"),
            advice: None,
        };
    };
    Finding {
        about,
        value: format!("{} ({name})", chains.abs()),
        advice: (chains.abs() < ENOUGH).then(|| {
            format!(
                "with more connections each packet takes longer to find its own; \
                 `thash_entries={ENOUGH}` on the kernel's command line raises it, and `sysctl -w \
                 net.ipv4.tcp_child_ehash_entries={ENOUGH}` gives network namespaces that are made \
                 later tables of their own"
            )
        }),
    }
}

/// What the kernel does unasked. Our allocator does not ask.
fn huge_pages() -> Finding {
    let about = "huge pages";
    let path = "/sys/kernel/mm/transparent_hugepage/enabled";
    let Ok(text) = std::fs::read_to_string(path) else {
        return Finding {
            about,
            value: "none".to_owned(),
            advice: None,
        };
    };
    let always = text.contains("[always]");
    Finding {
        about,
        value: text.trim().to_owned(),
        advice: always.then(|| {
            format!(
                "memory is taken in pieces of 2 MiB, the first touch of which may take \
                 milliseconds; `echo madvise > {path}` leaves them to those that ask"
            )
        }),
    }
}

/// Where the host tracks connections, there is a bound on them.
fn tracked() -> Option<Finding> {
    let tracked = read("net/netfilter/nf_conntrack_count")?;
    (tracked != "0").then(|| {
        sysctl(
            "tracking",
            "net/netfilter/nf_conntrack_max",
            1 << 20,
            "packets of connections beyond it are dropped, unless a `notrack` rule exempts the port",
        )
    })
}

/// A setting of the kernel, as it is.
fn read(path: &str) -> Option<String> {
    let text = std::fs::read_to_string(format!("/proc/sys/{path}")).ok()?;
    Some(text.trim().to_owned())
}

/// A setting of the kernel, and the advice to raise it where it is below `enough`.
fn sysctl(about: &'static str, path: &str, enough: u64, why: &str) -> Finding {
    let name = path.replace('/', ".");
    let Some(value) = read(path) else {
        return Finding {
            about,
            value: format!("{name} cannot be read"),
            advice: None,
        };
    };
    let low = value.parse::<u64>().is_ok_and(|value| value < enough);
    let advice = low.then(|| format!("{why}; `sysctl -w {name}={enough}` raises it"));
    Finding {
        about,
        value: format!("{value} ({name})"),
        advice,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_last_line_is_a_verdict() {
        for (tried, advised, told) in [
            (Ok(()), 0, "Nothing stands in the way of a server."),
            (Ok(()), 1, "advice on 1 point."),
            (Ok(()), 3, "advice on 3 points."),
            (Err(Error::Interrupted), 1, "A server cannot run here: "),
        ] {
            let verdict = verdict(&tried, advised);
            assert!(verdict.contains(told), "{verdict}");
        }
    }
}
