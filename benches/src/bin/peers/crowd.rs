//! Very many subscribers that read nothing until they are asked to. What is sent to them meanwhile
//! lies in their receive buffers, so that they take no CPU from what is measured.

use std::{
    io::{BufRead, BufReader, Read, Write},
    net::{Ipv4Addr, SocketAddr, TcpStream},
    process::{Child, ChildStdin, ChildStdout, Command, Stdio},
    thread,
    time::Duration,
};

use clap::Args;
use rustix::net::sockopt::set_socket_linger;

use crate::{client, cores, fanout::message};

/// The subcommand that turns this program into a part of a crowd.
pub(crate) const ARGUMENT: &str = "crowd";

/// Of one process, which `RLIMIT_NOFILE` limits.
const MEMBERS_MAX: usize = 16_000;

/// To one address of the server: from one address to one other there are only as many connections
/// as ports, and connect(2) is slow when most of them are taken.
const TO_ADDRESS_MAX: usize = 10_000;

/// Room for what a member does not read, in bytes as the kernel counts them: a small message takes
/// more than a thousand.
const RECEIVE_BUFFER: usize = 512 << 10;

/// A server that delivers nothing for so long has lost a message.
const SILENCE_MAX: Duration = Duration::from_secs(10);

/// What a part says when all its members are subscribers, and when they have read.
const SEATED: &str = "seated";
const READ: &str = "read";

/// Subscribers in processes of their own. Dropping it ends them.
pub(crate) struct Crowd {
    parts: Vec<Part>,
}

struct Part {
    process: Child,
    stdin: Option<ChildStdin>,
    stdout: BufReader<ChildStdout>,
}

/// Which members a process has.
#[derive(Args)]
pub(crate) struct Seats {
    /// The server's port, on all addresses of loopback
    port: u16,
    /// What they ask for
    path: String,
    /// The number of the first member
    first: usize,
    /// How many there are
    count: usize,
}

impl Crowd {
    /// Connects `count` subscribers, and waits until all are.
    pub(crate) fn gather(port: u16, path: &str, count: usize) -> Self {
        let firsts = (0..count).step_by(MEMBERS_MAX);
        let start = |first: usize| Part::start(port, path, first, MEMBERS_MAX.min(count - first));
        let mut crowd = Self {
            parts: firsts.map(start).collect(),
        };
        crowd.parts.iter_mut().for_each(|part| part.hear(SEATED));
        crowd
    }

    /// Lets all read, and check every byte: those of the messages that were published since they
    /// last read, `published` of them in all.
    pub(crate) fn read(&mut self, published: u64) {
        for part in &mut self.parts {
            let stdin = part.stdin.as_mut().expect("it is closed at the end");
            writeln!(stdin, "{published}").expect("it reads");
        }
        self.parts.iter_mut().for_each(|part| part.hear(READ));
    }
}

impl Part {
    fn start(port: u16, path: &str, first: usize, count: usize) -> Self {
        let mut process = Command::new("/proc/self/exe")
            .args([ARGUMENT, &port.to_string(), path])
            .args([first.to_string(), count.to_string()])
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .expect("this program can be run");
        Self {
            stdin: process.stdin.take(),
            stdout: BufReader::new(process.stdout.take().expect("it is piped")),
            process,
        }
    }

    fn hear(&mut self, expected: &str) {
        let mut line = String::new();
        self.stdout.read_line(&mut line).expect("it is piped");
        assert_eq!(line.trim_end(), expected, "a part of the crowd has failed");
    }
}

impl Drop for Part {
    fn drop(&mut self) {
        drop(self.stdin.take());
        // What became of it shows in what it says.
        let _ = self.process.wait();
    }
}

/// Is a part of a crowd, until standard input ends.
pub(crate) fn sit(seats: &Seats) {
    let mut members: Vec<TcpStream> = (seats.first..seats.first + seats.count)
        .map(|number| {
            let nearest = Ipv4Addr::LOCALHOST.to_bits();
            let ip = Ipv4Addr::from_bits(nearest + (number / TO_ADDRESS_MAX) as u32);
            let address = SocketAddr::from((ip, seats.port));
            let member = client::open(address, &seats.path, Some(RECEIVE_BUFFER));
            let patience = member.set_read_timeout(Some(SILENCE_MAX));
            patience.expect("it is not zero");
            // They reset their connections when they leave, so that their ports are free at once.
            set_socket_linger(&member, Some(Duration::ZERO)).expect("it is a socket");
            member
        })
        .collect();
    println!("{SEATED}");
    let mut heard = 0;
    for line in std::io::stdin().lines() {
        let published: u64 = line
            .expect("it is text")
            .parse()
            .expect("a number of messages");
        let expected: Vec<u8> = (heard..published).flat_map(message::delivered).collect();
        read_on_all_cores(&mut members, &expected);
        heard = published;
        println!("{READ}");
    }
}

/// Reads on all cores alike. What is read is freed where it is read: if that were one core, the
/// kernel would have memory at hand there, and go looking for it on the others.
fn read_on_all_cores(members: &mut [TcpStream], expected: &[u8]) {
    let cores = cores::allowed();
    let share = members.len().div_ceil(cores.len());
    thread::scope(|scope| {
        for (&core, members) in cores.iter().zip(members.chunks_mut(share)) {
            scope.spawn(move || {
                cores::pin(core);
                let mut frames = vec![0; expected.len()];
                for member in members {
                    member.read_exact(&mut frames).expect("all was delivered");
                    assert!(frames == expected, "what is delivered was not published");
                }
            });
        }
    });
}
