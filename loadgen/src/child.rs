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

use tidewheel::cli::units::Span;

use crate::{
    cli::Deadlines,
    interrupt::{Interrupt, Interrupted},
    limits::Cores,
    progress::say,
};

/// The first argument that turns this program into the server.
pub(crate) const SERVER_ARGUMENT: &str = "__server";

/// A child of this program listens within this time, or has failed.
const START_TIMEOUT: Duration = Duration::from_secs(10);

/// Between two looks whether a server is ready.
const ATTEMPT_INTERVAL: Duration = Duration::from_millis(5);

/// A server that does not care that a client has nothing to say is not waited for any longer.
const FAREWELL: Duration = Duration::from_secs(1);

/// Beyond its close timeout the server has this time to end; then it is killed.
const STOP_SLACK: Duration = Duration::from_secs(2);

/// The close timeout of the server's defaults.
const CLOSE_TIMEOUT_DEFAULT: Duration = Duration::from_secs(10);

/// A failed server is quoted by this much of the end of what it said.
const STDERR_SHOWN_MAX: usize = 4096;

/// What a server does with messages.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) enum Service {
    /// Each goes back to its sender.
    Echo,
    /// So it does, and what is published elsewhere goes to all.
    Broadcast,
    /// Each goes to all subscribers of the topic in the sender's path.
    Topics {
        /// How many topics there are.
        count: u32,
        /// Whether the sender is one of them.
        sender_included: bool,
    },
}

impl Service {
    /// A child's command for it.
    const fn command(self) -> &'static str {
        match self {
            Self::Echo | Self::Broadcast => "echo",
            Self::Topics { .. } => "serve",
        }
    }

    /// The path that a child is asked for.
    pub(crate) const fn path(self) -> &'static str {
        match self {
            Self::Echo | Self::Broadcast => "/",
            Self::Topics {
                sender_included: true,
                ..
            } => "/fanout/{topic}",
            Self::Topics {
                sender_included: false,
                ..
            } => "/fanout/{topic}?echo=false",
        }
    }

    pub(crate) const fn topics(self) -> u32 {
        match self {
            Self::Echo | Self::Broadcast => 1,
            Self::Topics { count, .. } => count,
        }
    }
}

/// How a server is started.
#[derive(Clone, Debug)]
pub(crate) enum Launch {
    /// As a child that is this program.
    Ours(ChildPlan),
    /// By a command, after which it listens at an address.
    Command {
        command: String,
        address: SocketAddr,
        /// It listens within this time, or has failed.
        timeout: Duration,
    },
}

/// What a child is to be.
#[derive(Clone, Debug)]
pub(crate) struct ChildPlan {
    /// Where it listens.
    pub(crate) listen: SocketAddr,
    pub(crate) shards: u16,
    pub(crate) service: Service,
    /// What must be said to publish; without it nobody may.
    pub(crate) publish_token: Option<String>,
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
    /// What it has printed until it was ready.
    printed: Vec<u8>,
    /// If it is ours; kept, so that printing does not fail.
    stdout: Option<ChildStdout>,
}

/// Why there is no server.
#[derive(Debug, thiserror::Error)]
pub(crate) enum ChildError {
    /// The process could not be made or looked after.
    #[error("the server cannot be run: {0}")]
    Run(#[from] io::Error),
    /// It ended by itself, or with an error when it was told to end.
    #[error("the server failed ({status}){}", said(stderr))]
    Failed {
        /// Its exit status.
        status: ExitStatus,
        /// The end of what it wrote to stderr.
        stderr: String,
    },
    /// It did not listen in time.
    #[error("the server does not listen{} after {}{}", at(*address), Span(*timeout), said(stderr))]
    Late {
        /// The address at which it is to listen, if that was said.
        address: Option<SocketAddr>,
        /// The time waited for that.
        timeout: Duration,
        /// The end of what it wrote to stderr.
        stderr: String,
    },
    /// The run was interrupted while it started.
    #[error(transparent)]
    Interrupted(#[from] Interrupted),
}

/// The lines that a server wrote to stderr, as the end of a sentence.
fn said(stderr: &str) -> String {
    match stderr {
        "" => ", and said nothing".to_owned(),
        text => format!("; it said:\n{text}"),
    }
}

fn at(address: Option<SocketAddr>) -> String {
    address.map_or(String::new(), |address| {
        format!(" at {address}, the address of --url,")
    })
}

/// Runs the server in this process; `arguments` are those behind [`SERVER_ARGUMENT`].
pub(crate) fn main(arguments: impl Iterator<Item = OsString>) -> ExitCode {
    // Whatever becomes of the generator, the server does not outlive it.
    if let Err(error) = set_parent_process_death_signal(Some(Signal::TERM)) {
        say(format_args!("loadgen: prctl(PR_SET_PDEATHSIG): {error}"));
        return ExitCode::FAILURE;
    }
    tidewheel::cli::main(
        std::iter::once(OsString::from("tidewheel")).chain(arguments),
        None,
    )
}

impl ChildServer {
    /// Starts a server on the server's core where there are two, and waits until it listens. This
    /// thread moves to the generator's.
    ///
    /// # Errors
    /// With what the server said, if it failed.
    pub(crate) fn start(
        launch: &Launch,
        cores: Option<&Cores>,
        interrupt: &Interrupt,
    ) -> Result<Self, ChildError> {
        let timeout = match launch {
            Launch::Ours(_) => START_TIMEOUT,
            Launch::Command { timeout, .. } => *timeout,
        };
        let mut server = Self::spawn(launch, cores)?;
        let mut waited = Duration::ZERO;
        while !server.is_ready()? {
            interrupt.pause(ATTEMPT_INTERVAL)?;
            waited += ATTEMPT_INTERVAL;
            if waited >= timeout {
                let stderr = server.said()?;
                let address = server.stdout.is_none().then_some(server.address);
                return Err(ChildError::Late {
                    address,
                    timeout,
                    stderr,
                });
            }
        }
        if server.stdout.is_none() {
            greet(server.address)?;
        }
        Ok(server)
    }

    /// Starts a server, and does not wait until it [is ready](Self::is_ready).
    ///
    /// # Errors
    /// If there is no process.
    pub(crate) fn spawn(launch: &Launch, cores: Option<&Cores>) -> Result<Self, ChildError> {
        let (mut command, address, close_timeout) = match launch {
            Launch::Ours(plan) => (plan.command(), None, plan.deadlines.close_timeout),
            Launch::Command {
                command, address, ..
            } => {
                let mut shell = Command::new("sh");
                shell
                    .args(["-c", &format!("exec {command}")])
                    .stdout(Stdio::null());
                (shell, Some(*address), None)
            }
        };
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
            address: address.unwrap_or(SocketAddr::from(([0, 0, 0, 0], 0))),
            admin: None,
            stderr,
            stop_limit: close_timeout.unwrap_or(CLOSE_TIMEOUT_DEFAULT) + STOP_SLACK,
            status: None,
            printed: Vec::new(),
            stdout,
        })
    }

    /// Looks whether it listens: it has said so, or, being another's program, it takes a connection.
    ///
    /// # Errors
    /// With what it said, if it has ended.
    pub(crate) fn is_ready(&mut self) -> Result<bool, ChildError> {
        let is_ready = match &mut self.stdout {
            None => TcpStream::connect(self.address).is_ok(),
            Some(stdout) => {
                read_available(stdout, &mut self.printed)?;
                match addresses(&String::from_utf8_lossy(&self.printed)) {
                    Some((admin, address)) => {
                        (self.admin, self.address) = (Some(admin), address);
                        true
                    }
                    None => false,
                }
            }
        };
        if !is_ready && let Some(status) = self.try_wait()? {
            let stderr = self.said()?;
            return Err(ChildError::Failed { status, stderr });
        }
        Ok(is_ready)
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

    /// Stops it where it is, until it is to [go on](Self::go_on).
    ///
    /// # Errors
    /// Those of kill(2).
    pub(crate) fn stand_still(&self) -> io::Result<()> {
        Ok(kill_process(Pid::from_child(&self.process), Signal::STOP)?)
    }

    /// Lets it go on.
    ///
    /// # Errors
    /// Those of kill(2).
    pub(crate) fn go_on(&self) -> io::Result<()> {
        Ok(kill_process(Pid::from_child(&self.process), Signal::CONT)?)
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
        // What another's program ends with is its own affair.
        if status.success() || self.stdout.is_none() {
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
            say(format_args!(
                "loadgen: the server (process {}) is not ended: {error}",
                self.pid()
            ));
        }
    }
}

impl Launch {
    /// The same at an address that is known by now.
    pub(crate) fn at(self, address: SocketAddr) -> Self {
        match self {
            Self::Ours(plan) => Self::Ours(ChildPlan {
                listen: address,
                ..plan
            }),
            command @ Self::Command { .. } => command,
        }
    }
}

impl ChildPlan {
    fn command(&self) -> Command {
        let mut command = Command::new("/proc/self/exe");
        command
            .args([SERVER_ARGUMENT, self.service.command()])
            .args(["--shards", &self.shards.to_string()])
            .args(["--listen", &self.listen.to_string()])
            .args(["--admin", "127.0.0.1:0"])
            .args(flags(&self.deadlines))
            .stdout(Stdio::piped());
        if let Some(token) = &self.publish_token {
            command.env("TIDEWHEEL_PUBLISH_TOKEN", token);
        }
        command
    }
}

/// Appends what can be read without waiting.
fn read_available(stdout: &mut ChildStdout, text: &mut Vec<u8>) -> io::Result<()> {
    let now = Timespec::default();
    while poll(&mut [PollFd::new(&*stdout, PollFlags::IN)], Some(&now)) == Ok(1) {
        let mut bytes = [0; 1024];
        match stdout.read(&mut bytes)? {
            0 => break,
            length => text.extend_from_slice(&bytes[..length]),
        }
    }
    Ok(())
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
