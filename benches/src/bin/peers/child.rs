//! A server as a child process of the comparison.

use std::{
    fs,
    io::{BufRead, BufReader, Read},
    net::SocketAddr,
    path::{Path, PathBuf},
    process::{self, ChildStdin, ChildStdout, Command, Stdio},
    thread,
    time::Duration,
};

use crate::cores;

/// What a server says when it listens, before its address.
const READY: &str = "listening on ";

/// A running server. Dropping it ends it.
pub(crate) struct Child {
    process: process::Child,
    /// Closed, it ends the server.
    stdin: Option<ChildStdin>,
    stdout: BufReader<ChildStdout>,
    pub(crate) address: SocketAddr,
    /// The kernel's thread that works off what the network has for the server's core, when that is
    /// more than it does on the spot.
    softirqs: PathBuf,
    core: usize,
}

impl Child {
    /// Runs this program with other arguments, the last of which is its `core`, and waits until it
    /// listens.
    pub(crate) fn start(arguments: &[&str], core: usize) -> Self {
        let mut process = Command::new("/proc/self/exe")
            .args(arguments)
            .arg(core.to_string())
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .expect("this program can be run");
        let mut line = String::new();
        let stdout = process.stdout.take().expect("it is piped");
        let mut stdout = BufReader::new(stdout);
        let read = stdout.read_line(&mut line);
        let address = line.trim().strip_prefix(READY);
        let Some(address) = address.and_then(|address| address.parse().ok()) else {
            panic!("{arguments:?} does not listen; it said {line:?} ({read:?})");
        };
        Self {
            stdin: process.stdin.take(),
            stdout,
            process,
            address,
            softirqs: kernel_thread(&format!("ksoftirqd/{core}")),
            core,
        }
    }

    /// The next line that the server says.
    pub(crate) fn hear(&mut self) -> String {
        let mut line = String::new();
        self.stdout.read_line(&mut line).expect("it is piped");
        line.trim_end().to_owned()
    }

    /// What the server has used so far; exact when its threads sleep.
    pub(crate) fn cpu_time(&self) -> CpuTime {
        let tasks = format!("/proc/{}/task", self.process.id());
        let tasks = fs::read_dir(tasks).expect("the server runs");
        CpuTime {
            own: tasks.flatten().map(|task| running(&task.path())).sum(),
            softirqs: running(&self.softirqs),
            stolen: stolen(self.core),
        }
    }
}

/// CPU time on a server's core.
#[derive(Clone, Copy)]
pub(crate) struct CpuTime {
    /// That of the server's threads, the kernel's on their behalf included.
    pub(crate) own: Duration,
    /// That of the core's `ksoftirqd`: on a busy core the kernel leaves to it what a send over the
    /// loopback leads to, of the server as of all others.
    pub(crate) softirqs: Duration,
    /// When a hypervisor did not let the core run, to a hundredth of a second; in none of the
    /// others.
    pub(crate) stolen: Duration,
}

/// How long a thread has been on a CPU (proc(5), schedstat).
fn running(thread: &Path) -> Duration {
    let text = fs::read_to_string(thread.join("schedstat")).expect("the thread is there");
    let running = text.split(' ').next().expect("a text has a first word");
    Duration::from_nanos(running.parse().expect("proc(5) says nanoseconds"))
}

/// For how long a core was not let run (proc(5), stat).
pub(crate) fn stolen(core: usize) -> Duration {
    let text = fs::read_to_string("/proc/stat").expect("proc is mounted");
    let name = format!("cpu{core} ");
    let ticks = text.lines().find_map(|line| line.strip_prefix(&name));
    let steal = ticks.and_then(|ticks| ticks.split(' ').nth(7)?.parse().ok());
    Duration::from_millis(10 * steal.unwrap_or(0_u64))
}

/// Where proc has a thread of the kernel.
fn kernel_thread(name: &str) -> PathBuf {
    let processes = fs::read_dir("/proc").expect("proc is mounted");
    processes
        .flatten()
        .map(|process| process.path())
        .find(|path| fs::read_to_string(path.join("comm")).is_ok_and(|comm| comm.trim() == name))
        .unwrap_or_else(|| panic!("{name} is not to be seen here, and its time counts"))
}

impl Drop for Child {
    fn drop(&mut self) {
        drop(self.stdin.take());
        let status = self.process.wait().expect("it is ours");
        assert!(status.success(), "the server failed: {status}");
    }
}

/// Makes this process a server's, which keeps to a core and ends with its parent.
pub(crate) fn become_one(core: usize) {
    cores::pin(core);
    end_with_parent();
}

/// Lets this process end with its parent.
pub(crate) fn end_with_parent() {
    thread::spawn(|| {
        // Nothing is ever written there.
        let _ = std::io::stdin().read(&mut [0]);
        process::exit(0);
    });
}

/// Tells the parent that a server listens.
pub(crate) fn announce(address: SocketAddr) {
    println!("{READY}{address}");
}
