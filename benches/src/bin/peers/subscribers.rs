//! Many subscribers in child processes, which read only on command.
//!
//! Meanwhile messages stay in their receive buffers, so that they take no CPU from the measurement.

use std::{
    io::{BufRead, BufReader, Read, Write},
    net::{Ipv4Addr, SocketAddr, TcpStream},
    process::{Child, ChildStdin, ChildStdout, Command, Stdio},
    thread,
    time::Duration,
};

use clap::Args;
use rustix::net::sockopt::set_socket_linger;

use crate::{fanout::message, handshake, host};

/// Subcommand that runs a part of the subscribers.
pub(crate) const ARGUMENT: &str = "subscribers";

/// Subscribers of one process, which `RLIMIT_NOFILE` limits.
const PER_PROCESS_MAX: usize = 16_000;

/// Connections to one address of the server. From one address to another there are as many connections as ports, and
/// connect(2) is slow when most ports are in use.
const PER_ADDRESS_MAX: usize = 10_000;

/// Receive buffer of a subscriber in bytes, by the kernel's count: a small message takes more than a thousand.
const RECEIVE_BUFFER_BYTES: usize = 512 << 10;

/// Time without a delivery after which a message counts as lost.
const DELIVERY_TIMEOUT: Duration = Duration::from_secs(10);

/// Line of a child process when all its connections are open.
const CONNECTED: &str = "connected";
/// Line of a child process when it has read all messages.
const READ: &str = "read";

/// Subscribers in child processes. Dropping the value ends the processes.
pub(crate) struct Subscribers {
    processes: Vec<Process>,
}

struct Process {
    child: Child,
    stdin: Option<ChildStdin>,
    stdout: BufReader<ChildStdout>,
}

/// Subscribers of one process.
#[derive(Args)]
pub(crate) struct Range {
    /// Port of the server on all loopback addresses
    port: u16,
    /// Path of the opening handshake
    path: String,
    /// Number of the first subscriber
    first: usize,
    /// Number of subscribers
    count: usize,
}

impl Subscribers {
    /// Connects `count` subscribers, and waits until all are connected.
    pub(crate) fn connect(port: u16, path: &str, count: usize) -> Self {
        let firsts = (0..count).step_by(PER_PROCESS_MAX);
        let start =
            |first: usize| Process::start(port, path, first, PER_PROCESS_MAX.min(count - first));
        let mut subscribers = Self {
            processes: firsts.map(start).collect(),
        };
        for process in &mut subscribers.processes {
            process.expect_line(CONNECTED);
        }
        subscribers
    }

    /// Lets all subscribers read and check the messages since the last read. `published` is the number of messages
    /// since the start.
    pub(crate) fn read(&mut self, published: u64) {
        for process in &mut self.processes {
            let stdin = process.stdin.as_mut();
            let stdin = stdin.expect("standard input is open until the drop");
            writeln!(stdin, "{published}").expect("the child reads its standard input");
        }
        for process in &mut self.processes {
            process.expect_line(READ);
        }
    }
}

impl Process {
    fn start(port: u16, path: &str, first: usize, count: usize) -> Self {
        let mut child = Command::new("/proc/self/exe")
            .args([ARGUMENT, &port.to_string(), path])
            .args([first.to_string(), count.to_string()])
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .expect("this program can be started");
        let stdout = child.stdout.take().expect("standard output is a pipe");
        Self {
            stdin: child.stdin.take(),
            stdout: BufReader::new(stdout),
            child,
        }
    }

    fn expect_line(&mut self, expected: &str) {
        let mut line = String::new();
        self.stdout
            .read_line(&mut line)
            .expect("standard output is a pipe");
        assert_eq!(line.trim_end(), expected, "a process of subscribers failed");
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        drop(self.stdin.take());
        // A failure shows in the lines of the process.
        let _ = self.child.wait();
    }
}

/// Connects a range of subscribers, and reads whenever a line of standard input says so, until it ends.
pub(crate) fn run(range: &Range) {
    let mut subscribers: Vec<TcpStream> = (range.first..range.first + range.count)
        .map(|number| connect(number, range))
        .collect();
    println!("{CONNECTED}");
    let mut received = 0;
    for line in std::io::stdin().lines() {
        let line = line.expect("standard input is text");
        let published: u64 = line.parse().expect("the line is a number of messages");
        let expected: Vec<u8> = (received..published).flat_map(message::delivered).collect();
        read_on_all_cores(&mut subscribers, &expected);
        received = published;
        println!("{READ}");
    }
}

fn connect(number: usize, range: &Range) -> TcpStream {
    let first = Ipv4Addr::LOCALHOST.to_bits();
    let ip = Ipv4Addr::from_bits(first + (number / PER_ADDRESS_MAX) as u32);
    let address = SocketAddr::from((ip, range.port));
    let socket = handshake::open(address, &range.path, Some(RECEIVE_BUFFER_BYTES));
    let timeout = socket.set_read_timeout(Some(DELIVERY_TIMEOUT));
    timeout.expect("the timeout is not zero");
    // Closing resets the connection, so that no port stays in TIME_WAIT.
    set_socket_linger(&socket, Some(Duration::ZERO)).expect("the socket is open");
    socket
}

/// Reads on all cores. The kernel frees memory on the core that reads; with one core only, the others would have to
/// allocate new memory.
fn read_on_all_cores(subscribers: &mut [TcpStream], expected: &[u8]) {
    let cores = host::allowed_cores();
    let share = subscribers.len().div_ceil(cores.len());
    thread::scope(|scope| {
        for (&core, subscribers) in cores.iter().zip(subscribers.chunks_mut(share)) {
            scope.spawn(move || {
                host::pin(core);
                let mut frames = vec![0; expected.len()];
                for subscriber in subscribers {
                    subscriber
                        .read_exact(&mut frames)
                        .expect("all messages are delivered");
                    assert!(
                        frames == expected,
                        "the delivered frames are the published ones"
                    );
                }
            });
        }
    });
}
