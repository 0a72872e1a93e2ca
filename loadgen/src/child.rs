//! The server under test as a child process of the generator.

use std::{
    ffi::OsString,
    fs::File,
    io::{self, Read, Seek},
    net::{Shutdown, SocketAddr, TcpStream},
    process::{Child, ChildStdout, Command, ExitCode, ExitStatus, Stdio},
    time::Duration,
};

use rustix::{
    event::{PollFd, PollFlags, poll},
    process::{Pid, PidfdFlags, Signal, kill_process, pidfd_open, set_parent_process_death_signal},
    time::Timespec,
};

use crate::{
    cli::Deadlines,
    interrupt::{Interrupt, Interrupted},
    limits::Cores,
};

/// The first argument that turns this program into the server.
pub(crate) const SERVER_ARGUMENT: &str = "__server";

/// The server listens within this time, or has failed.
const START_TIMEOUT: Duration = Duration::from_secs(10);

/// Between two attempts to connect to a server that does not say when it is ready.
const ATTEMPT_INTERVAL: Duration = Duration::from_millis(20);

/// A server that does not care that a client has nothing to say is not waited for any longer.
const FAREWELL: Duration = Duration::from_secs(1);

/// Beyond its close timeout the server has this time to end; then it is killed.
const STOP_SLACK: Duration = Duration::from_secs(2);

/// The close timeout of the server's defaults.
const CLOSE_TIMEOUT_DEFAULT: Duration = Duration::from_secs(10);

/// A failed server is quoted by this much of the end of what it said.
const STDERR_SHOWN_MAX: usize = 4096;

/// What a child is to be.
#[derive(Clone, Copy, Debug)]
pub(crate) struct ChildPlan {
    pub(crate) shards: u16,
    /// Whether it listens on all addresses of the host, or on one of loopback.
    pub(crate) any_address: bool,
    pub(crate) deadlines: Deadlines,
}

/// A running server. Dropping it ends it.
#[derive(Debug)]
pub(crate) struct ChildServer {
    process: Child,
    /// Where it listens for WebSocket connections.
    pub(crate) address: SocketAddr,
    /// Where it reports, if it does.
    pub(crate) admin: Option<SocketAddr>,
    stderr: File,
    stop_limit: Duration,
    /// How it ended, once that is known.
    status: Option<ExitStatus>,
    /// Whether a status other than 0 is a failure.
    is_ours: bool,
    /// Kept, so that printing does not fail.
    stdout: Option<ChildStdout>,
}

/// Why there is no server.
#[derive(Debug, thiserror::Error)]
pub(crate) enum ChildError {
    /// The process could not be made or looked after.
    #[error("the server cannot be run: {0}")]
    Run(#[from] io::Error),
    /// It ended by itself, or with an error when it was told to end.
    #[error("the server failed ({status}); it said:\n{stderr}")]
    Failed {
        /// Its exit status.
        status: ExitStatus,
        /// The end of what it wrote to stderr.
        stderr: String,
    },
    /// It did not listen in time.
    #[error("the server does not listen after {START_TIMEOUT:?}; it said:\n{stderr}")]
    Late {
        /// The end of what it wrote to stderr.
        stderr: String,
    },
    /// The run was interrupted while it started.
    #[error(transparent)]
    Interrupted(#[from] Interrupted),
}

/// Runs the server in this process; `arguments` are those behind [`SERVER_ARGUMENT`].
pub(crate) fn main(arguments: impl Iterator<Item = OsString>) -> ExitCode {
    // Whatever becomes of the generator, the server does not outlive it.
    if let Err(error) = set_parent_process_death_signal(Some(Signal::TERM)) {
        eprintln!("loadgen: prctl(PR_SET_PDEATHSIG): {error}");
        return ExitCode::FAILURE;
    }
    tidewheel::cli::main(std::iter::once(OsString::from("tidewheel")).chain(arguments))
}

impl ChildServer {
    /// Starts a server on the server's core where there are two, and waits until it listens. This
    /// thread moves to the generator's.
    ///
    /// # Errors
    /// With what the server said, if it failed.
    pub(crate) fn start(
        plan: &ChildPlan,
        cores: Option<&Cores>,
        interrupt: &Interrupt,
    ) -> Result<Self, ChildError> {
        let listen = if plan.any_address {
            "0.0.0.0:0"
        } else {
            "127.0.0.1:0"
        };
        let mut command = Command::new("/proc/self/exe");
        command
            .args([SERVER_ARGUMENT, "echo"])
            .args(["--shards", &plan.shards.to_string()])
            .args(["--listen", listen, "--admin", "127.0.0.1:0"])
            .args(flags(&plan.deadlines))
            .stdout(Stdio::piped());
        let mut server = Self::spawn(command, cores, plan.deadlines.close_timeout, true)?;
        server.read_addresses(interrupt)?;
        Ok(server)
    }

    /// Starts what `command` says in the same way, and waits until it listens at `address`.
    ///
    /// # Errors
    /// With what the server said, if it failed.
    pub(crate) fn start_command(
        command: &str,
        address: SocketAddr,
        cores: Option<&Cores>,
        interrupt: &Interrupt,
    ) -> Result<Self, ChildError> {
        let mut shell = Command::new("sh");
        shell
            .args(["-c", &format!("exec {command}")])
            .stdout(Stdio::null());
        let mut server = Self::spawn(shell, cores, None, false)?;
        server.address = address;
        let mut waited = Duration::ZERO;
        while greet(address).is_err() {
            interrupt.pause(ATTEMPT_INTERVAL)?;
            waited += ATTEMPT_INTERVAL;
            if let Some(status) = server.process.try_wait()? {
                let stderr = server.said()?;
                return Err(ChildError::Failed { status, stderr });
            }
            if waited >= START_TIMEOUT {
                let stderr = server.said()?;
                return Err(ChildError::Late { stderr });
            }
        }
        Ok(server)
    }

    fn spawn(
        mut command: Command,
        cores: Option<&Cores>,
        close_timeout: Option<Duration>,
        is_ours: bool,
    ) -> Result<Self, ChildError> {
        let stderr = tempfile::tempfile()?;
        command.stdin(Stdio::null()).stderr(stderr.try_clone()?);
        if let Some(cores) = cores {
            cores.enter_server()?;
        }
        let process = command.spawn();
        if let Some(cores) = cores {
            cores.enter_generator()?;
        }
        let mut process = process?;
        let stdout = process.stdout.take();
        Ok(Self {
            process,
            address: SocketAddr::from(([0, 0, 0, 0], 0)),
            admin: None,
            stderr,
            stop_limit: close_timeout.unwrap_or(CLOSE_TIMEOUT_DEFAULT) + STOP_SLACK,
            status: None,
            is_ours,
            stdout,
        })
    }

    /// Reads what it prints until it is ready.
    fn read_addresses(&mut self, interrupt: &Interrupt) -> Result<(), ChildError> {
        let timeout = Timespec::try_from(START_TIMEOUT).expect("a few seconds");
        let mut text = Vec::new();
        loop {
            let stdout = self.stdout.as_mut().expect("stdout is piped");
            let readable = PollFd::new(&*stdout, PollFlags::IN);
            let ready = poll(&mut [readable], Some(&timeout));
            interrupt.check()?;
            if ready.is_ok_and(|ready| ready == 0) {
                return Err(ChildError::Late {
                    stderr: self.said()?,
                });
            }
            let mut bytes = [0; 1024];
            let length = stdout.read(&mut bytes)?;
            if length == 0 {
                let status = self.process.wait()?;
                let stderr = self.said()?;
                return Err(ChildError::Failed { status, stderr });
            }
            text.extend_from_slice(&bytes[..length]);
            if let Some((admin, address)) = addresses(&String::from_utf8_lossy(&text)) {
                (self.admin, self.address) = (Some(admin), address);
                return Ok(());
            }
        }
    }

    /// Its process id.
    pub(crate) fn pid(&self) -> i32 {
        Pid::from_child(&self.process).as_raw_pid()
    }

    /// Asks it to end, by SIGTERM.
    ///
    /// # Errors
    /// Those of kill(2).
    pub(crate) fn terminate(&self) -> io::Result<()> {
        Ok(kill_process(Pid::from_child(&self.process), Signal::TERM)?)
    }

    /// How it has ended, if it has.
    ///
    /// # Errors
    /// Those of waitpid(2).
    pub(crate) fn try_wait(&mut self) -> io::Result<Option<ExitStatus>> {
        self.status = self.process.try_wait()?;
        Ok(self.status)
    }

    /// Ends it: SIGTERM, and SIGKILL if it does not go.
    ///
    /// # Errors
    /// If it failed, with what it said.
    pub(crate) fn stop(mut self) -> Result<(), ChildError> {
        let status = self.end()?;
        if status.success() || !self.is_ours {
            return Ok(());
        }
        let stderr = self.said()?;
        Err(ChildError::Failed { status, stderr })
    }

    fn end(&mut self) -> io::Result<ExitStatus> {
        if let Some(status) = self.try_wait()? {
            return Ok(status);
        }
        let ended = pidfd_open(Pid::from_child(&self.process), PidfdFlags::empty())?;
        self.terminate()?;
        let limit = Timespec::try_from(self.stop_limit).unwrap_or(Timespec {
            tv_sec: i64::MAX,
            tv_nsec: 0,
        });
        if poll(&mut [PollFd::new(&ended, PollFlags::IN)], Some(&limit)) != Ok(1) {
            self.process.kill()?;
        }
        self.process.wait()
    }

    /// The end of what it wrote to stderr.
    fn said(&mut self) -> io::Result<String> {
        let mut text = Vec::new();
        self.stderr.rewind()?;
        self.stderr.read_to_end(&mut text)?;
        let start = text.len().saturating_sub(STDERR_SHOWN_MAX);
        Ok(String::from_utf8_lossy(&text[start..])
            .trim_end()
            .to_owned())
    }
}

impl Drop for ChildServer {
    fn drop(&mut self) {
        if let Err(error) = self.end() {
            eprintln!(
                "loadgen: the server (process {}) is not ended: {error}",
                self.pid()
            );
        }
    }
}

/// Connects to a server, says that there is nothing to say, and waits until it has gone too, or for
/// [`FAREWELL`]: then it has all that it needs to serve, and its memory is what it takes idle.
///
/// # Errors
/// If it does not listen yet.
fn greet(address: SocketAddr) -> io::Result<()> {
    let mut stream = TcpStream::connect(address)?;
    stream.shutdown(Shutdown::Write)?;
    stream.set_read_timeout(Some(FAREWELL))?;
    // Whatever it says to that is of no interest.
    let _ = stream.read(&mut [0; 1024]);
    Ok(())
}

/// The flags for the deadlines that the run sets.
fn flags(deadlines: &Deadlines) -> Vec<String> {
    let flags = [
        ("--ping-interval", deadlines.ping_interval),
        ("--ping-timeout", deadlines.ping_timeout),
        ("--close-timeout", deadlines.close_timeout),
        ("--handshake-timeout", deadlines.handshake_timeout),
    ];
    flags
        .into_iter()
        .filter_map(|(flag, value)| Some((flag, value?)))
        .flat_map(|(flag, value)| [flag.to_owned(), format!("{}ms", value.as_millis())])
        .collect()
}

/// The addresses of the admin and the WebSocket listener, once the server has told both.
fn addresses(text: &str) -> Option<(SocketAddr, SocketAddr)> {
    // What is behind the last line break is not complete.
    let (complete, _) = text.rsplit_once('\n')?;
    let after = |prefix| {
        complete
            .lines()
            .find_map(|line| line.strip_prefix(prefix)?.parse().ok())
    };
    Some((after("admin on ")?, after("listening on ")?))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_server_is_ready_when_both_lines_are_complete() {
        let text = "admin on 127.0.0.1:9\nlistening on 127.0.0.1:10\n";
        for length in 0..text.len() {
            assert_eq!(addresses(&text[..length]), None, "{length}");
        }
        let (admin, address) = addresses(text).unwrap();
        assert_eq!((admin.port(), address.port()), (9, 10));
    }
}
