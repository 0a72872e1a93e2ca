//! The program `tidewheel` as a process.

use std::{
    io::{BufRead, BufReader, Read, Write},
    net::{SocketAddr, TcpStream},
    os::unix::process::CommandExt as _,
    process::{Child, Command, ExitStatus, Stdio},
    sync::mpsc,
    thread::JoinHandle,
    time::{Duration, Instant},
};

use rustix::process::{Pid, Signal, kill_process};

use super::wait;

/// Longest time until a server is ready, also on a busy machine.
const READY_TIMEOUT: Duration = Duration::from_secs(30);

/// A running `tidewheel echo` or `tidewheel serve`, killed on drop.
pub(crate) struct Server {
    child: Child,
    pub(crate) address: SocketAddr,
    admin: SocketAddr,
    log: Option<JoinHandle<String>>,
}

/// Returns a command that runs the program, or the one that `TIDEWHEEL_PROGRAM` names. It inherits no
/// environment variable and does not ignore SIGHUP, although the tests may run under `nohup`.
pub(crate) fn tidewheel() -> Command {
    let program = std::env::var_os("TIDEWHEEL_PROGRAM");
    let program = program.unwrap_or_else(|| env!("CARGO_BIN_EXE_tidewheel").into());
    let mut command = Command::new(program);
    command.env_clear().stdin(Stdio::null());
    // SAFETY: signal(2) is async-signal-safe, and nothing else happens between fork and exec.
    unsafe {
        command.pre_exec(|| match libc::signal(libc::SIGHUP, libc::SIG_DFL) {
            libc::SIG_ERR => Err(std::io::Error::last_os_error()),
            _ => Ok(()),
        });
    }
    command
}

/// Returns `tidewheel echo` on ports that the kernel chooses.
pub(crate) fn echo(flags: &str) -> Command {
    echo_at("127.0.0.1:0", flags)
}

/// Returns `tidewheel echo` on an address, with its admin listener on the loopback address.
pub(crate) fn echo_at(listen: &str, flags: &str) -> Command {
    command_at("echo", listen, flags)
}

/// Returns `tidewheel serve` on ports that the kernel chooses.
pub(crate) fn serve(flags: &str) -> Command {
    command_at("serve", "127.0.0.1:0", flags)
}

/// Returns a subcommand on an address, with its admin listener on the loopback address.
pub(crate) fn command_at(subcommand: &str, listen: &str, flags: &str) -> Command {
    let mut command = tidewheel();
    command
        .args([subcommand, "--listen", listen])
        .args(["--admin", "127.0.0.1:0"])
        .args(flags.split_whitespace());
    command
}

impl Server {
    /// Starts `tidewheel echo` with `flags`, and waits until it is ready.
    pub(crate) fn start(flags: &str) -> Self {
        Self::spawn(&mut echo(flags))
    }

    /// Starts `command`, and waits until the server is ready.
    #[track_caller]
    pub(crate) fn spawn(command: &mut Command) -> Self {
        match Self::try_spawn(command) {
            Ok(server) => server,
            Err((status, log)) => panic!("the server is not ready: {status}\n{log}"),
        }
    }

    /// Starts `command`, and waits until the server is ready.
    ///
    /// # Errors
    /// Exit status and log, if the process ends instead.
    pub(crate) fn try_spawn(command: &mut Command) -> Result<Self, (ExitStatus, String)> {
        let mut child = command
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .expect("the program starts");
        let mut stderr = child.stderr.take().expect("the stream is piped");
        let log = std::thread::spawn(move || {
            let mut log = String::new();
            let _ = stderr.read_to_string(&mut log);
            log
        });
        let stdout = BufReader::new(child.stdout.take().expect("the stream is piped"));
        let (line_sender, lines) = mpsc::channel();
        std::thread::spawn(move || {
            for line in stdout.lines().map_while(Result::ok) {
                let _ = line_sender.send(line);
            }
        });
        let unknown = SocketAddr::from(([0, 0, 0, 0], 0));
        let mut server = Self {
            child,
            address: unknown,
            admin: unknown,
            log: Some(log),
        };
        match (
            address_in(&lines, "admin on "),
            address_in(&lines, "listening on "),
        ) {
            (Some(admin), Some(address)) => {
                server.admin = admin;
                server.address = address;
                Ok(server)
            }
            _ => Err(server.wait(READY_TIMEOUT)),
        }
    }

    pub(crate) fn admin_address(&self) -> SocketAddr {
        self.admin
    }

    pub(crate) fn port(&self) -> u16 {
        self.address.port()
    }

    /// Returns the URL of the admin listener.
    pub(crate) fn admin_url(&self) -> String {
        format!("http://{}", self.admin)
    }

    pub(crate) fn url(&self) -> String {
        format!("ws://{}/", self.address)
    }

    pub(crate) fn signal(&self, signal: Signal) {
        let pid = Pid::from_child(&self.child);
        kill_process(pid, signal).expect("the server has not been waited for");
    }

    /// Waits until the process has ended, and returns its exit status and log.
    #[track_caller]
    pub(crate) fn wait(self, limit: Duration) -> (ExitStatus, String) {
        self.wait_since(wait::now(), limit)
    }

    /// Waits until the process has ended, within `limit` of `start`, and returns its exit status and log.
    #[track_caller]
    pub(crate) fn wait_since(mut self, start: Instant, limit: Duration) -> (ExitStatus, String) {
        let mut status = None;
        wait::until_since(start, limit, "the server ends", || {
            status = self
                .child
                .try_wait()
                .expect("the server is a child process");
            status.is_some()
        });
        let log = self
            .log
            .take()
            .map(|log| log.join().expect("the log's reader does not panic"));
        (
            status.expect("the process has ended"),
            log.expect("the log is taken once"),
        )
    }

    /// Returns the admin listener's response to `GET path`.
    pub(crate) fn admin(&self, path: &str) -> String {
        get(self.admin, path)
    }

    /// Sends a request as it is to the admin listener, and returns everything until it closes.
    pub(crate) fn admin_raw(&self, request: &str) -> String {
        exchange(self.admin, request)
    }

    /// Returns the sum of a metric's values over all series whose labels contain `label`.
    pub(crate) fn metric(&self, name: &str, label: &str) -> u64 {
        let metrics = self.admin("/metrics");
        let values: Vec<u64> = metrics
            .lines()
            .filter_map(|line| line.strip_prefix(name)?.strip_prefix('{'))
            .filter(|line| line.contains(label))
            .map(|line| {
                let (_, value) = line.rsplit_once(' ').expect("a value");
                value.parse().expect("a number")
            })
            .collect();
        assert!(
            !values.is_empty(),
            "{name} with label {label:?} is not in:\n{metrics}"
        );
        values.iter().sum()
    }

    /// Returns the number of connections with a slot and a descriptor.
    pub(crate) fn connections(&self) -> u64 {
        self.metric("tidewheel_connections", "")
    }

    /// Returns the number of connections that have ended with `cause`.
    pub(crate) fn closes(&self, cause: &str) -> u64 {
        self.metric("tidewheel_closes_total", &format!("cause=\"{cause}\""))
    }

    /// Waits until no connection is left, and returns the time that this took.
    #[track_caller]
    pub(crate) fn until_empty(&self, limit: Duration) -> Duration {
        self.until_empty_since(wait::now(), limit)
    }

    /// Waits until no connection is left, within `limit` of `start`, and returns the time since then.
    #[track_caller]
    pub(crate) fn until_empty_since(&self, start: Instant, limit: Duration) -> Duration {
        wait::until_since(start, limit, "all connections are gone", || {
            self.connections() == 0
        })
    }

    /// Waits until the server has `count` connections.
    #[track_caller]
    pub(crate) fn until_connections(&self, count: u64) {
        wait::until(
            Duration::from_secs(10),
            "the server has the expected number of connections",
            || self.connections() == count,
        );
    }

    /// Returns a field of `/proc/PID/status`, such as `VmRSS`, in bytes.
    pub(crate) fn memory(&self, field: &str) -> u64 {
        let path = format!("/proc/{}/status", self.child.id());
        let status = std::fs::read_to_string(path).expect("the process runs");
        let line = status
            .lines()
            .find_map(|line| line.strip_prefix(field)?.strip_prefix(':'))
            .expect("the field is there");
        let kib = line.trim().trim_end_matches(" kB").parse::<u64>();
        kib.expect("a number") * 1024
    }

    /// Returns the number of descriptors of the process.
    pub(crate) fn descriptors(&self) -> usize {
        self.descriptor_directory("fd").count()
    }

    /// Returns the number of direct descriptors that the rings hold, from `UserFiles` in their fdinfo, or
    /// `None` while a ring is too busy to list them.
    pub(crate) fn direct_descriptors(&self) -> Option<usize> {
        let mut count = 0;
        for info in self.descriptor_directory("fdinfo") {
            // A descriptor that has been closed since was not a ring.
            let Ok(info) = std::fs::read_to_string(info) else {
                continue;
            };
            let Some((_, files)) = info.split_once("\nUserFiles:") else {
                continue;
            };
            let mut lines = files.lines();
            let size: u32 = lines.next()?.trim().parse().ok()?;
            let indices = lines.map_while(|line| {
                let (index, _) = line.split_once(':')?;
                index.trim().parse::<u32>().ok().filter(|it| *it < size)
            });
            count += indices.count();
        }
        // Each ring has two descriptors: the second is for wake-ups from other threads.
        Some(count / 2)
    }

    fn descriptor_directory(&self, kind: &str) -> impl Iterator<Item = std::path::PathBuf> {
        let path = format!("/proc/{}/{kind}", self.child.id());
        let entries = std::fs::read_dir(path).expect("the process runs");
        entries.map(|entry| entry.expect("the directory is readable").path())
    }
}

/// Returns the response of the admin listener `admin` to `GET path`.
pub(crate) fn get(admin: SocketAddr, path: &str) -> String {
    let request = format!("GET {path} HTTP/1.1\r\nHost: admin\r\nConnection: close\r\n\r\n");
    exchange(admin, &request)
}

fn exchange(admin: SocketAddr, request: &str) -> String {
    let mut stream = TcpStream::connect(admin).expect("the admin listener accepts");
    stream
        .set_read_timeout(Some(Duration::from_secs(10)))
        .expect("the timeout is not zero");
    let sent = stream.write_all(request.as_bytes());
    sent.expect("the admin listener reads");
    let mut response = String::new();
    let received = stream.read_to_string(&mut response);
    received.expect("the admin listener responds");
    response
}

/// Returns the address behind `prefix` in the next line, or `None` if the process has ended.
fn address_in(lines: &mpsc::Receiver<String>, prefix: &str) -> Option<SocketAddr> {
    let line = match lines.recv_timeout(READY_TIMEOUT) {
        Ok(line) => line,
        Err(mpsc::RecvTimeoutError::Disconnected) => return None,
        Err(mpsc::RecvTimeoutError::Timeout) => {
            panic!("the server printed no line within {READY_TIMEOUT:?}")
        }
    };
    let address = line.strip_prefix(prefix).and_then(|it| it.parse().ok());
    assert!(
        address.is_some(),
        "expected `{prefix}ADDRESS`, got `{line}`"
    );
    address
}

impl Drop for Server {
    fn drop(&mut self) {
        // Fails if the process has ended already.
        let _ = self.child.kill();
        let _ = self.child.wait();
        if std::thread::panicking()
            && let Some(log) = self.log.take()
            && let Ok(log) = log.join()
        {
            eprintln!("the server's log:\n{log}");
        }
    }
}
