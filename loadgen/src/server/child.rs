//! The process of the server under test.

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
    host::cores::Cores,
    interrupt::{Interrupt, Interrupted},
    progress::print_line,
    server::launch::Launch,
};

/// Longest time until a child listens.
const START_TIMEOUT: Duration = Duration::from_secs(10);

/// Time between two checks whether a server is ready.
const READY_CHECK_INTERVAL: Duration = Duration::from_millis(5);

/// Longest wait for the server to close the warm-up connection.
const WARM_UP_CLOSE_WAIT_MAX: Duration = Duration::from_secs(1);

/// Time after its close timeout at which the server is killed.
const STOP_SLACK: Duration = Duration::from_secs(2);

/// Close timeout of the server if none is set.
const CLOSE_TIMEOUT_DEFAULT: Duration = Duration::from_secs(10);

/// Longest excerpt, in bytes, of the stderr of a failed server.
const STDERR_EXCERPT_BYTES_MAX: usize = 4096;

/// A running server process. Dropping it ends the process.
#[derive(Debug)]
pub(crate) struct ChildServer {
    process: Child,
    /// Address of its WebSocket listener.
    pub(crate) address: SocketAddr,
    /// Address of its admin listener, if it has one.
    pub(crate) admin: Option<SocketAddr>,
    stderr: File,
    /// Longest time that it may take to end after SIGTERM.
    stop_timeout: Duration,
    /// Exit status, once it has ended.
    status: Option<ExitStatus>,
    /// Output before it was ready.
    printed: Vec<u8>,
    /// Pipe from a child of this program; kept open so that its output does not fail.
    stdout: Option<ChildStdout>,
}

/// An error of the server process.
#[derive(Debug, thiserror::Error)]
pub(crate) enum ChildError {
    /// A system call about the process failed.
    #[error("the server cannot be run: {0}")]
    Run(#[from] io::Error),
    /// The process ended by itself, or with an error after SIGTERM.
    #[error("the server failed ({status}){}", describe_stderr(stderr))]
    Failed {
        /// Exit status.
        status: ExitStatus,
        /// End of its stderr.
        stderr: String,
    },
    /// The server did not listen in time.
    #[error("the server does not listen{} after {}{}", describe_address(*address), Span(*timeout), describe_stderr(stderr))]
    Late {
        /// Address of `--url` at which it is to listen.
        address: Option<SocketAddr>,
        /// Time for which it was waited.
        timeout: Duration,
        /// End of its stderr.
        stderr: String,
    },
    /// The run was interrupted while the server started.
    #[error(transparent)]
    Interrupted(#[from] Interrupted),
}

/// Returns the stderr of a server as the end of an error message.
fn describe_stderr(stderr: &str) -> String {
    match stderr {
        "" => "; its stderr is empty".to_owned(),
        text => format!("; its stderr ends with:\n{text}"),
    }
}

/// Returns the address of `--url` as a part of an error message.
fn describe_address(address: Option<SocketAddr>) -> String {
    address.map_or(String::new(), |address| {
        format!(" at {address}, the address of --url,")
    })
}

/// Runs the server in this process. `arguments` are the arguments after
/// [`SERVER_ARGUMENT`](crate::server::launch::SERVER_ARGUMENT).
pub(crate) fn main(arguments: impl Iterator<Item = OsString>) -> ExitCode {
    // The server ends with the generator, also when the generator is killed.
    if let Err(error) = set_parent_process_death_signal(Some(Signal::TERM)) {
        print_line(format_args!("loadgen: prctl(PR_SET_PDEATHSIG): {error}"));
        return ExitCode::FAILURE;
    }
    tidewheel::cli::main(
        std::iter::once(OsString::from("tidewheel")).chain(arguments),
        None,
    )
}

impl ChildServer {
    /// Starts a server on its core, if `cores` are given, and waits until it listens. This thread moves
    /// to the generator's core.
    ///
    /// # Errors
    /// If the process does not start, ends, or does not listen in time.
    pub(crate) fn start(
        launch: &Launch,
        cores: Option<&Cores>,
        interrupt: &Interrupt,
    ) -> Result<Self, ChildError> {
        let timeout = match launch {
            Launch::Child(_) => START_TIMEOUT,
            Launch::Command { timeout, .. } => *timeout,
        };
        let mut server = Self::spawn(launch, cores)?;
        let mut waited = Duration::ZERO;
        while !server.is_ready()? {
            interrupt.pause(READY_CHECK_INTERVAL)?;
            waited += READY_CHECK_INTERVAL;
            if waited >= timeout {
                let stderr = server.stderr_excerpt()?;
                let address = server.stdout.is_none().then_some(server.address);
                return Err(ChildError::Late {
                    address,
                    timeout,
                    stderr,
                });
            }
        }
        if server.stdout.is_none() {
            warm_up(server.address)?;
        }
        Ok(server)
    }

    /// Starts a server without waiting until it [is ready](Self::is_ready).
    ///
    /// # Errors
    /// If the process does not start.
    pub(crate) fn spawn(launch: &Launch, cores: Option<&Cores>) -> Result<Self, ChildError> {
        let (mut command, address, close_timeout) = match launch {
            Launch::Child(plan) => (plan.command(), None, plan.deadlines.close_timeout),
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
            stop_timeout: close_timeout.unwrap_or(CLOSE_TIMEOUT_DEFAULT) + STOP_SLACK,
            status: None,
            printed: Vec::new(),
            stdout,
        })
    }

    /// Returns whether the server listens: a child prints its addresses, and another program accepts a
    /// connection.
    ///
    /// # Errors
    /// If the process has ended.
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
            let stderr = self.stderr_excerpt()?;
            return Err(ChildError::Failed { status, stderr });
        }
        Ok(is_ready)
    }

    /// Returns the process id.
    pub(crate) fn pid(&self) -> i32 {
        Pid::from_child(&self.process).as_raw_pid()
    }

    /// Sends SIGTERM.
    ///
    /// # Errors
    /// Errors of kill(2).
    pub(crate) fn terminate(&self) -> io::Result<()> {
        Ok(kill_process(Pid::from_child(&self.process), Signal::TERM)?)
    }

    /// Stops the process by SIGSTOP, until [`resume`](Self::resume).
    ///
    /// # Errors
    /// Errors of kill(2).
    pub(crate) fn pause(&self) -> io::Result<()> {
        Ok(kill_process(Pid::from_child(&self.process), Signal::STOP)?)
    }

    /// Continues the process by SIGCONT.
    ///
    /// # Errors
    /// Errors of kill(2).
    pub(crate) fn resume(&self) -> io::Result<()> {
        Ok(kill_process(Pid::from_child(&self.process), Signal::CONT)?)
    }

    /// Returns the exit status, if the process has ended.
    ///
    /// # Errors
    /// Errors of waitpid(2).
    pub(crate) fn try_wait(&mut self) -> io::Result<Option<ExitStatus>> {
        self.status = self.process.try_wait()?;
        Ok(self.status)
    }

    /// Ends the process: SIGTERM, and after the timeout SIGKILL.
    ///
    /// # Errors
    /// If a child ends with an error, or a system call fails.
    pub(crate) fn stop(mut self) -> Result<(), ChildError> {
        let status = self.end()?;
        // The exit status of another program is not checked.
        if status.success() || self.stdout.is_none() {
            return Ok(());
        }
        let stderr = self.stderr_excerpt()?;
        Err(ChildError::Failed { status, stderr })
    }

    fn end(&mut self) -> io::Result<ExitStatus> {
        if let Some(status) = self.try_wait()? {
            return Ok(status);
        }
        let ended = pidfd_open(Pid::from_child(&self.process), PidfdFlags::empty())?;
        self.terminate()?;
        let limit = Timespec::try_from(self.stop_timeout).unwrap_or(Timespec {
            tv_sec: i64::MAX,
            tv_nsec: 0,
        });
        if poll(&mut [PollFd::new(&ended, PollFlags::IN)], Some(&limit)) != Ok(1) {
            self.process.kill()?;
        }
        self.process.wait()
    }

    /// Returns the end of its stderr.
    fn stderr_excerpt(&mut self) -> io::Result<String> {
        let mut text = Vec::new();
        self.stderr.rewind()?;
        self.stderr.read_to_end(&mut text)?;
        let start = text.len().saturating_sub(STDERR_EXCERPT_BYTES_MAX);
        Ok(String::from_utf8_lossy(&text[start..])
            .trim_end()
            .to_owned())
    }
}

impl Drop for ChildServer {
    fn drop(&mut self) {
        if let Err(error) = self.end() {
            print_line(format_args!(
                "loadgen: the server (process {}) could not be ended: {error}",
                self.pid()
            ));
        }
    }
}

/// Appends the bytes that can be read without waiting.
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

/// Connects to a server, sends FIN, and waits until the server closes the connection. Afterwards the
/// server has initialised itself, and its resident memory is that of an idle server.
///
/// # Errors
/// If the server does not listen.
fn warm_up(address: SocketAddr) -> io::Result<()> {
    let mut stream = TcpStream::connect(address)?;
    stream.shutdown(Shutdown::Write)?;
    stream.set_read_timeout(Some(WARM_UP_CLOSE_WAIT_MAX))?;
    // An answer is ignored.
    let _ = stream.read(&mut [0; 1024]);
    Ok(())
}

/// Returns the addresses of the admin and the WebSocket listener, once the server has printed both.
fn addresses(text: &str) -> Option<(SocketAddr, SocketAddr)> {
    // The text after the last line break is an incomplete line.
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
