//! `tidewheel check`: the limits of this host, and the commands that raise them.

use std::{io::Write, process::ExitCode, time::Duration};

use rustix::process::{Resource, getrlimit};

use crate::{
    Config, Conn, Error, Handler, Message, Request, Server, Verdict, host,
    ring::{RingError, kernel_release, raise_descriptors},
};

/// A limit of the host.
struct Finding {
    name: &'static str,
    value: String,
    /// `None`: the limit is high enough.
    advice: Option<String>,
}

/// Maximum duration of the drain of the trial server.
const DRAIN_TIMEOUT: Duration = Duration::from_secs(1);

/// The handler of the trial server, which gets no connections.
struct Trial;

impl Handler for Trial {
    type State = ();

    fn upgrade(&mut self, _: &Request<'_>) -> Verdict<()> {
        Verdict::accept(())
    }

    fn message(&mut self, _: &mut Conn<'_, Self>, _: Message<'_>) {}
}

/// Starts a server with the default configuration, and drains it at once.
fn try_server() -> Result<(), Error> {
    let any_port = "127.0.0.1:0";
    let server = Server::builder().listen(any_port).admin(any_port).bind()?;
    let running = server.start(|_| Ok(Trial))?;
    running.drain(DRAIN_TIMEOUT);
    running.join()
}

/// The error of io_uring, if the trial failed for one. A lack of descriptors is another cause.
fn ring_error(tried: &Result<(), Error>) -> Option<&RingError> {
    match tried {
        Err(Error::Ring { error, .. } | Error::AdminRing(error)) => {
            Some(error).filter(|error| !matches!(error, RingError::Sockets { .. }))
        }
        Ok(()) | Err(_) => None,
    }
}

/// Prints the limits, and a verdict. The exit status is 1 if a server cannot run here.
pub(super) fn run() -> ExitCode {
    host::raise_descriptor_limit();
    let descriptor_limit = u32::try_from(host::descriptor_limit()).unwrap_or(u32::MAX);
    let tried = try_server();
    let findings = findings(descriptor_limit, ring_error(&tried));
    let mut out = std::io::stdout().lock();
    for Finding {
        name,
        value,
        advice,
    } in &findings
    {
        // Errors are ignored, because standard output may be closed.
        let _ = writeln!(out, "{name:<16}{value}");
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

fn findings(descriptor_limit: u32, ring_error: Option<&RingError>) -> Vec<Finding> {
    let mut findings = vec![
        Finding {
            name: "kernel",
            value: kernel_release(),
            advice: None,
        },
        Finding {
            name: "io_uring",
            value: match ring_error {
                Some(_) => "not usable".to_owned(),
                None => "allowed".to_owned(),
            },
            advice: ring_error.map(ToString::to_string),
        },
        Finding {
            name: "cores",
            value: host::cores().to_string(),
            advice: None,
        },
        descriptors(descriptor_limit),
        memory(),
        sysctl(
            "backlog",
            "net/core/somaxconn",
            4096,
            "clients over this number that wait to be accepted are dropped",
        ),
        sysctl(
            "SYN backlog",
            "net/ipv4/tcp_max_syn_backlog",
            1024,
            "TCP handshakes in progress over this number are dropped",
        ),
        sysctl(
            "files",
            "fs/file-max",
            1 << 20,
            "it limits the open files and sockets of the whole host",
        ),
        established(),
        huge_pages(),
    ];
    findings.extend(tracked());
    findings
}

/// The last line: whether a server can run here, and the number of limits with advice.
fn verdict(tried: &Result<(), Error>, advised: usize) -> String {
    let limits = match advised {
        1 => "1 limit".to_owned(),
        more => format!("{more} limits"),
    };
    match (tried, advised) {
        _ if ring_error(tried).is_some() => {
            "A server cannot run here: io_uring is not usable.".to_owned()
        }
        (Err(error), _) => format!("A server cannot run here: {error}."),
        (Ok(()), 0) => "A server runs here, and no limit is low.".to_owned(),
        (Ok(()), _) => {
            format!("A server runs here. For very many connections, follow the advice on {limits}.")
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
            "it limits the connections to {} on {shards} shards, {each} on each; {} or more --shards raise \
             that",
            u64::from(each) * u64::from(shards),
            raise_descriptors(1 << 20)
        )
    });
    Finding {
        name: "RLIMIT_NOFILE",
        value: limit.to_string(),
        advice,
    }
}

fn memory() -> Finding {
    let name = "RLIMIT_MEMLOCK";
    match getrlimit(Resource::Memlock).current {
        None => Finding {
            name,
            value: "unlimited".to_owned(),
            advice: None,
        },
        Some(limit) => Finding {
            name,
            value: format!("{limit} bytes"),
            advice: (limit < 8 << 20).then(|| {
                "it limits the memory of io_uring without CAP_IPC_LOCK; `ulimit -l unlimited` (or \
                 LimitMEMLOCK=infinity in the systemd unit) raises it"
                    .to_owned()
            }),
        },
    }
}

/// The hash table in which the kernel looks up the connection of each packet. With more connections than
/// buckets, a look-up walks a chain.
fn established() -> Finding {
    const BUCKETS_MIN: i64 = 1 << 20;
    let name = "TCP table";
    let setting = "net.ipv4.tcp_ehash_entries";
    // Negative in a network namespace that shares the table of the initial namespace.
    let Some(buckets) =
        read("net/ipv4/tcp_ehash_entries").and_then(|text| text.parse::<i64>().ok())
    else {
        return Finding {
            name,
            value: format!("{setting} cannot be read"),
            advice: None,
        };
    };
    Finding {
        name,
        value: format!("{} ({setting})", buckets.abs()),
        advice: (buckets.abs() < BUCKETS_MIN).then(|| {
            format!(
                "with more connections, the kernel takes longer to find the connection of a packet; \
                 `thash_entries={BUCKETS_MIN}` on the kernel's command line raises it, and `sysctl -w \
                 net.ipv4.tcp_child_ehash_entries={BUCKETS_MIN}` gives each new network namespace a table"
            )
        }),
    }
}

/// The policy for transparent huge pages. The allocator of this program does not ask for them.
fn huge_pages() -> Finding {
    let name = "huge pages";
    let path = "/sys/kernel/mm/transparent_hugepage/enabled";
    let Ok(text) = std::fs::read_to_string(path) else {
        return Finding {
            name,
            value: "none".to_owned(),
            advice: None,
        };
    };
    let always = text.contains("[always]");
    Finding {
        name,
        value: text.trim().to_owned(),
        advice: always.then(|| {
            format!(
                "the first access to a huge page of 2 MiB may take milliseconds; `echo madvise > {path}` \
                 limits huge pages to programs that ask for them"
            )
        }),
    }
}

/// The limit on tracked connections, if the host tracks connections.
fn tracked() -> Option<Finding> {
    let tracked = read("net/netfilter/nf_conntrack_count")?;
    (tracked != "0").then(|| {
        sysctl(
            "tracking",
            "net/netfilter/nf_conntrack_max",
            1 << 20,
            "packets of connections over this number are dropped, unless a `notrack` rule exempts the port",
        )
    })
}

/// The value of a kernel setting.
fn read(path: &str) -> Option<String> {
    let text = std::fs::read_to_string(format!("/proc/sys/{path}")).ok()?;
    Some(text.trim().to_owned())
}

/// A kernel setting, with advice to raise it if it is below `min`. `effect` is the effect of a low value.
fn sysctl(name: &'static str, path: &str, min: u64, effect: &str) -> Finding {
    let setting = path.replace('/', ".");
    let Some(value) = read(path) else {
        return Finding {
            name,
            value: format!("{setting} cannot be read"),
            advice: None,
        };
    };
    let is_low = value.parse::<u64>().is_ok_and(|value| value < min);
    let advice = is_low.then(|| format!("{effect}; `sysctl -w {setting}={min}` raises it"));
    Finding {
        name,
        value: format!("{value} ({setting})"),
        advice,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_last_line_says_whether_a_server_runs_and_counts_the_limits_with_advice() {
        for (tried, advised, expected) in [
            (Ok(()), 0, "A server runs here, and no limit is low."),
            (Ok(()), 1, "advice on 1 limit."),
            (Ok(()), 3, "advice on 3 limits."),
            (Err(Error::Interrupted), 1, "A server cannot run here: "),
        ] {
            let verdict = verdict(&tried, advised);
            assert!(verdict.contains(expected), "{verdict}");
        }
    }
}
