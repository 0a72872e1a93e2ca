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

/// A server is ready within this time, on a machine however busy.
const READY_WITHIN: Duration = Duration::from_secs(30);

/// A running `tidewheel echo`; it ends with this value.
pub(crate) struct Server {
    child: Child,
    pub(crate) address: SocketAddr,
    admin: SocketAddr,
    log: Option<JoinHandle<String>>,
}

/// The program, or the one that `TIDEWHEEL_PROGRAM` names, with nothing of our environment, nor of what our
/// parent has ignored: the tests may run under `nohup`.
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

/// `tidewheel echo` on ports of the kernel's choosing.
pub(crate) fn echo(flags: &str) -> Command {
    echo_at("127.0.0.1:0", flags)
}

/// The same at an address; the admin listener is local all the same.
pub(crate) fn echo_at(listen: &str, flags: &str) -> Command {
    command_at("echo", listen, flags)
}

/// `tidewheel serve` on ports of the kernel's choosing.
pub(crate) fn serve(flags: &str) -> Command {
    command_at("serve", "127.0.0.1:0", flags)
}

/// A subcommand at an address.
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

    /// Starts `command`, which is one of [`echo`].
    #[track_caller]
    pub(crate) fn spawn(command: &mut Command) -> Self {
        match Self::try_spawn(command) {
            Ok(server) => server,
            Err((status, log)) => panic!("the server is not ready: {status}\n{log}"),
        }
    }

    /// The same; if it ends instead, gives its status and its log.
    pub(crate) fn try_spawn(command: &mut Command) -> Result<Self, (ExitStatus, String)> {
        let mut child = command
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .expect("the program starts");
        let mut stderr = child.stderr.take().expect("it is piped");
        let log = std::thread::spawn(move || {
            let mut log = String::new();
            let _ = stderr.read_to_string(&mut log);
            log
        });
        let stdout = BufReader::new(child.stdout.take().expect("it is piped"));
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
        match (told(&lines, "admin on "), told(&lines, "listening on ")) {
            (Some(admin), Some(address)) => {
                server.admin = admin;
                server.address = address;
                Ok(server)
            }
            _ => Err(server.wait(READY_WITHIN)),
        }
    }

    pub(crate) fn admin_address(&self) -> SocketAddr {
        self.admin
    }

    pub(crate) fn port(&self) -> u16 {
        self.address.port()
    }

    /// Where the admin listener is.
    pub(crate) fn admin_url(&self) -> String {
        format!("http://{}", self.admin)
    }

    pub(crate) fn url(&self) -> String {
        format!("ws://{}/", self.address)
    }

    pub(crate) fn signal(&self, signal: Signal) {
        let pid = Pid::from_child(&self.child);
        kill_process(pid, signal).expect("the server is our child, and not waited for");
    }

    /// Waits until it has ended; gives its status and its log.
    #[track_caller]
    pub(crate) fn wait(self, limit: Duration) -> (ExitStatus, String) {
        self.wait_since(wait::now(), limit)
    }

    /// The same, within `limit` of `start`.
    #[track_caller]
    pub(crate) fn wait_since(mut self, start: Instant, limit: Duration) -> (ExitStatus, String) {
        let mut status = None;
        wait::until_since(start, limit, "the server ends", || {
            status = self.child.try_wait().expect("it is our child");
            status.is_some()
        });
        let log = self
            .log
            .take()
            .map(|log| log.join().expect("it only reads"));
        (
            status.expect("it was waited for"),
            log.expect("it is taken once"),
        )
    }

    /// What the admin listener says about `path`.
    pub(crate) fn admin(&self, path: &str) -> String {
        get(self.admin, path)
    }

    /// What the admin listener answers to a whole request, after which it closes.
    pub(crate) fn admin_raw(&self, request: &str) -> String {
        ask(self.admin, request)
    }

    /// The sum of a metric's values over all shards and labels that contain `label`.
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
        assert!(!values.is_empty(), "{name} with {label} is in:\n{metrics}");
        values.iter().sum()
    }

    /// How many connections hold a slot and a descriptor.
    pub(crate) fn connections(&self) -> u64 {
        self.metric("tidewheel_connections", "")
    }

    /// How many connections have ended for `cause`.
    pub(crate) fn closes(&self, cause: &str) -> u64 {
        self.metric("tidewheel_closes_total", &format!("cause=\"{cause}\""))
    }

    /// Waits until no connection is left, and says how long that took.
    #[track_caller]
    pub(crate) fn until_empty(&self, limit: Duration) -> Duration {
        self.until_empty_since(wait::now(), limit)
    }

    /// The same, within `limit` of `start`.
    #[track_caller]
    pub(crate) fn until_empty_since(&self, start: Instant, limit: Duration) -> Duration {
        wait::until_since(start, limit, "all connections are gone", || {
            self.connections() == 0
        })
    }

    /// Waits until `count` connections are there.
    #[track_caller]
    pub(crate) fn until_connections(&self, count: u64) {
        wait::until(Duration::from_secs(10), "all are accepted", || {
            self.connections() == count
        });
    }

    /// Bytes of a field of `/proc/PID/status`, such as `VmRSS`.
    pub(crate) fn memory(&self, field: &str) -> u64 {
        let path = format!("/proc/{}/status", self.child.id());
        let status = std::fs::read_to_string(path).expect("the process runs");
        let line = status
            .lines()
            .find_map(|line| line.strip_prefix(field)?.strip_prefix(':'))
            .expect("the kernel counts it");
        let kib = line.trim().trim_end_matches(" kB").parse::<u64>();
        kib.expect("a number") * 1024
    }

    /// How many descriptors the process has.
    pub(crate) fn descriptors(&self) -> usize {
        self.descriptor_directory("fd").count()
    }

    /// How many direct descriptors its rings hold (fdinfo of an io_uring lists them under
    /// `UserFiles`); `None` while a ring is too busy to tell.
    pub(crate) fn direct_descriptors(&self) -> Option<usize> {
        let mut count = 0;
        for info in self.descriptor_directory("fdinfo") {
            // A descriptor that was closed meanwhile was no ring.
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
        // Each ring that has any is there twice: others wake it by the second descriptor.
        Some(count / 2)
    }

    fn descriptor_directory(&self, kind: &str) -> impl Iterator<Item = std::path::PathBuf> {
        let path = format!("/proc/{}/{kind}", self.child.id());
        let entries = std::fs::read_dir(path).expect("the process runs");
        entries.map(|entry| entry.expect("the directory is readable").path())
    }
}

/// What the admin listener at an address says about `path`.
pub(crate) fn get(admin: SocketAddr, path: &str) -> String {
    let request = format!("GET {path} HTTP/1.1\r\nHost: admin\r\nConnection: close\r\n\r\n");
    ask(admin, &request)
}

fn ask(admin: SocketAddr, request: &str) -> String {
    let mut stream = TcpStream::connect(admin).expect("the admin listener accepts");
    stream
        .set_read_timeout(Some(Duration::from_secs(10)))
        .expect("it is not zero");
    stream.write_all(request.as_bytes()).expect("it reads");
    let mut response = String::new();
    stream.read_to_string(&mut response).expect("it answers");
    response
}

/// The address in the next line, which begins with `prefix`; `None` if no line comes any more.
fn told(lines: &mpsc::Receiver<String>, prefix: &str) -> Option<SocketAddr> {
    let line = match lines.recv_timeout(READY_WITHIN) {
        Ok(line) => line,
        Err(mpsc::RecvTimeoutError::Disconnected) => return None,
        Err(mpsc::RecvTimeoutError::Timeout) => panic!("the server says nothing"),
    };
    let address = line.strip_prefix(prefix).and_then(|it| it.parse().ok());
    assert!(
        address.is_some(),
        "`{prefix}ADDRESS` comes next, not `{line}`"
    );
    address
}

impl Drop for Server {
    fn drop(&mut self) {
        // It may have ended by itself.
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
