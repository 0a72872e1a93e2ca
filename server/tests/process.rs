//! A server changes nothing of its process. A program of its own, because the test changes the limit of descriptors.

use std::sync::mpsc;

use rustix::{
    process::{Resource, Rlimit, getrlimit, setrlimit},
    thread::sched_getaffinity,
};
use tidewheel::{Conn, Handler, Message, Request, Server, ServerBuilder, Verdict};

struct Silent;

impl Handler for Silent {
    type State = ();

    fn upgrade(&mut self, _: &Request<'_>) -> Verdict<()> {
        Verdict::accept(())
    }

    fn message(&mut self, _: &mut Conn<'_, Self>, _: Message<'_>) {}
}

/// The settings of a server with two shards on a free port.
fn builder() -> ServerBuilder {
    Server::builder()
        .listen("127.0.0.1:0")
        .configure(|config| config.shards = Some(2))
}

/// The state of the process that a server might change.
#[derive(Debug, Eq, PartialEq)]
struct Process {
    descriptor_limit: Option<u64>,
    /// Of the main thread.
    cores: u32,
    /// The masks of signals that are caught, and that are ignored (proc_pid_status(5)).
    signals: Vec<String>,
}

impl Process {
    fn now() -> Self {
        let status = std::fs::read_to_string("/proc/self/status").expect("/proc is mounted");
        let signals = status
            .lines()
            .filter(|line| line.starts_with("SigCgt") || line.starts_with("SigIgn"));
        Self {
            descriptor_limit: getrlimit(Resource::Nofile).current,
            cores: cores(),
            signals: signals.map(str::to_owned).collect(),
        }
    }
}

/// The number of cores that the calling thread may use.
fn cores() -> u32 {
    sched_getaffinity(None).expect("the thread exists").count()
}

/// Starts a server, and returns the number of cores that its shards may use.
fn shard_cores(builder: ServerBuilder) -> Vec<u32> {
    let server = builder.bind().expect("a free port");
    let (sender, receiver) = mpsc::channel();
    let _running = server
        .start(move |_| {
            sender.send(cores())?;
            Ok(Silent)
        })
        .expect("io_uring is available");
    receiver.into_iter().take(2).collect()
}

#[test]
fn a_server_changes_nothing_of_its_process_unless_it_is_asked_to() {
    let maximum = getrlimit(Resource::Nofile).maximum;
    let current = maximum.map_or(4096, |maximum| maximum - 1);
    let lowered = Rlimit {
        current: Some(current),
        maximum,
    };
    setrlimit(Resource::Nofile, lowered).expect("the soft limit can be lowered");
    let before = Process::now();
    assert_eq!(shard_cores(builder()), [before.cores; 2]);
    assert_eq!(Process::now(), before);
    let asked = builder().pin_threads(true).raise_descriptor_limit(true);
    assert_eq!(shard_cores(asked), [1, 1]);
    let after = Process {
        descriptor_limit: maximum,
        ..before
    };
    assert_eq!(Process::now(), after);
}
