//! A server as a child process of a comparison.

use std::{
    fs,
    io::{BufRead, BufReader, Read},
    net::SocketAddr,
    path::{Path, PathBuf},
    process::{self, Child, ChildStdin, ChildStdout, Command, Stdio},
    thread,
    time::Duration,
};

use crate::host;

/// Beginning of the line in which a server reports its address.
const LISTENING: &str = "listening on ";

/// A running server. Dropping the value ends it.
pub(crate) struct ServerProcess {
    child: Child,
    /// The server ends when its standard input does.
    stdin: Option<ChildStdin>,
    stdout: BufReader<ChildStdout>,
    pub(crate) address: SocketAddr,
    /// Directory in proc of `ksoftirqd` on the server's core. A busy kernel leaves network work to this thread.
    ksoftirqd: PathBuf,
    core: usize,
}

impl ServerProcess {
    /// Runs this program with `arguments` and `core` as the last one, and waits until it listens.
    pub(crate) fn start(arguments: &[&str], core: usize) -> Self {
        let mut child = Command::new("/proc/self/exe")
            .args(arguments)
            .arg(core.to_string())
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .expect("this program can be started");
        let mut line = String::new();
        let stdout = child.stdout.take().expect("standard output is a pipe");
        let mut stdout = BufReader::new(stdout);
        let read = stdout.read_line(&mut line);
        let address = line.trim().strip_prefix(LISTENING);
        let Some(address) = address.and_then(|address| address.parse().ok()) else {
            panic!("{arguments:?} printed {line:?} in place of its address ({read:?})");
        };
        Self {
            stdin: child.stdin.take(),
            stdout,
            child,
            address,
            ksoftirqd: kernel_thread(&format!("ksoftirqd/{core}")),
            core,
        }
    }

    /// Returns the next line of the server's standard output.
    pub(crate) fn read_line(&mut self) -> String {
        let mut line = String::new();
        self.stdout
            .read_line(&mut line)
            .expect("standard output is a pipe");
        line.trim_end().to_owned()
    }

    /// Returns the CPU time so far, which is exact when the server's threads sleep.
    pub(crate) fn cpu_time(&self) -> CpuTime {
        let tasks = format!("/proc/{}/task", self.child.id());
        let tasks = fs::read_dir(tasks).expect("the server runs");
        CpuTime {
            own: tasks.flatten().map(|task| run_time(&task.path())).sum(),
            softirqs: run_time(&self.ksoftirqd),
            stolen: stolen(self.core),
        }
    }
}

/// CPU time on a server's core.
#[derive(Clone, Copy)]
pub(crate) struct CpuTime {
    /// Time of the server's threads, in user space and in the kernel.
    pub(crate) own: Duration,
    /// Time of `ksoftirqd`, which does the receiving half of loopback sends when the core is busy.
    pub(crate) softirqs: Duration,
    /// Time in which the hypervisor did not run the core, in steps of 10 ms. The other times do not include it.
    pub(crate) stolen: Duration,
}

/// Returns the time that a thread has run (proc(5), schedstat).
fn run_time(thread: &Path) -> Duration {
    let text = fs::read_to_string(thread.join("schedstat")).expect("the thread exists");
    let nanos = text.split(' ').next().expect("a text has a first word");
    Duration::from_nanos(nanos.parse().expect("the first word is nanoseconds"))
}

/// Returns the time in which the hypervisor did not run a core (proc(5), stat).
pub(crate) fn stolen(core: usize) -> Duration {
    let text = fs::read_to_string("/proc/stat").expect("proc is mounted");
    let name = format!("cpu{core} ");
    let ticks = text.lines().find_map(|line| line.strip_prefix(&name));
    let steal = ticks.and_then(|ticks| ticks.split(' ').nth(7)?.parse().ok());
    Duration::from_millis(10 * steal.unwrap_or(0_u64))
}

/// Returns the directory in proc of a kernel thread.
fn kernel_thread(name: &str) -> PathBuf {
    let processes = fs::read_dir("/proc").expect("proc is mounted");
    processes
        .flatten()
        .map(|process| process.path())
        .find(|path| fs::read_to_string(path.join("comm")).is_ok_and(|comm| comm.trim() == name))
        .unwrap_or_else(|| panic!("/proc does not show {name}, whose time is part of the cost"))
}

impl Drop for ServerProcess {
    fn drop(&mut self) {
        drop(self.stdin.take());
        let status = self.child.wait().expect("the child was not waited for");
        assert!(status.success(), "the server failed: {status}");
    }
}

/// Pins this process to a core, and ends it with its parent.
pub(crate) fn pin_and_end_with_parent(core: usize) {
    host::pin(core);
    end_with_parent();
}

/// Ends this process when its parent closes its standard input.
pub(crate) fn end_with_parent() {
    thread::spawn(|| {
        // The parent writes nothing.
        let _ = std::io::stdin().read(&mut [0]);
        process::exit(0);
    });
}

/// Reports to the parent that the server listens.
pub(crate) fn report_listening(address: SocketAddr) {
    println!("{LISTENING}{address}");
}
