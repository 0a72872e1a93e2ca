//! The process in its environment: a failing log, a restart, signals, few descriptors.

use std::{
    fs::File,
    io::{BufRead, BufReader},
    net::TcpListener,
    process::{Child, ChildStdout, Command, Stdio},
};

use rustix::process::{Pid, Signal, kill_process};

use crate::support::{
    client::{self, Client, End},
    ms,
    process::{self, Server, echo, tidewheel},
    wait,
};

/// A running server whose standard error the test does not read.
struct Program {
    child: Child,
    stdout: BufReader<ChildStdout>,
}

impl Program {
    /// Starts `tidewheel echo` with a log line for each connection.
    fn start(stderr: Stdio) -> Self {
        let mut command = echo("--shards 2 --ping-interval off");
        command
            .env("TIDEWHEEL_LOG", "debug")
            .stdout(Stdio::piped())
            .stderr(stderr);
        let mut child = command.spawn().expect("the program starts");
        let stdout = BufReader::new(child.stdout.take().expect("the stream is piped"));
        Self { child, stdout }
    }

    /// Returns the address in the next line of standard output.
    fn address(&mut self) -> std::net::SocketAddr {
        let mut line = String::new();
        self.stdout
            .read_line(&mut line)
            .expect("the server prints an address");
        let (_, address) = line.trim().rsplit_once(' ').expect("an address");
        address.parse().expect("an address")
    }
}

/// Asserts that a server whose log fails serves 6,000 connections, and drains.
fn assert_serves(what: &str, stderr: Stdio) {
    let mut program = Program::start(stderr);
    let (admin, address) = (program.address(), program.address());
    let open = || {
        let mut client = Client::connect_to(address).expect("the server accepts a connection");
        client.send(client::REQUEST.as_bytes());
        client.accept();
        client
    };
    for _ in 0..6000 {
        let mut client = open();
        client.send(&client::close(1000, ""));
        assert_eq!(client.frame().close_code(), 1000, "{what}");
        assert_eq!(client.end(), End::Fin, "{what}");
    }
    let mut clients: Vec<Client> = (0..100).map(|_| open()).collect();
    for client in &mut clients {
        client.send(&client::text("hello"));
        client.expect(client::FIN | client::TEXT, "hello");
    }
    let metrics = process::get(admin, "/metrics");
    let lost = metrics
        .lines()
        .find_map(|line| line.strip_prefix("tidewheel_log_lines_lost_total "))
        .expect("the metric is there");
    assert_ne!(lost, "0", "{what}");
    let pid = Pid::from_child(&program.child);
    kill_process(pid, Signal::TERM).expect("the server runs");
    for client in &mut clients {
        assert_eq!(client.frame().close_code(), 1001, "{what}");
        client.send(&client::close(1001, ""));
        assert_eq!(client.end(), End::Fin, "{what}");
    }
    drop(clients);
    let mut status = None;
    wait::until(ms(5000), "the program ends", || {
        status = program
            .child
            .try_wait()
            .expect("the server is a child process");
        status.is_some()
    });
    assert_eq!(status.and_then(|it| it.code()), Some(0), "{what}");
}

#[test]
fn a_log_on_a_full_disk_does_not_stop_the_server() {
    let full = File::options().write(true).open("/dev/full");
    assert_serves("a full disk", full.expect("/dev/full").into());
}

#[test]
fn a_log_into_a_closed_pipe_does_not_stop_the_server() {
    let (reader, writer) = std::io::pipe().expect("a pipe");
    drop(reader);
    assert_serves("a closed pipe", writer.into());
}

#[test]
fn a_log_into_a_full_pipe_does_not_block_the_server() {
    let (reader, writer) = std::io::pipe().expect("a pipe");
    assert_serves("a full pipe", writer.into());
    drop(reader);
}

#[test]
fn the_last_log_lines_are_written_before_the_process_exits() {
    let server = Server::spawn(&mut echo("--shards 2"));
    server.signal(Signal::TERM);
    let (status, log) = server.wait(ms(5000));
    assert_eq!(status.code(), Some(0));
    assert!(log.contains("draining"), "{log}");
}

#[test]
fn r26_two_signals_at_once_start_one_drain_that_is_logged_once() {
    let server = Server::spawn(&mut echo("--shards 4 --close-timeout 1s"));
    let mut clients = Client::open_many(&server, 30);
    server.signal(Signal::TERM);
    // Process managers may send a second signal.
    server.signal(Signal::INT);
    // All connections are open until they get the Close.
    for client in &mut clients {
        assert_eq!(client.frame().close_code(), 1001);
    }
    drop(clients);
    let (status, log) = server.wait(ms(5000));
    assert_eq!(status.code(), Some(0));
    let lines: Vec<&str> = log.lines().filter(|it| it.contains("drain")).collect();
    assert_eq!(
        lines.len(),
        2,
        "expected one line at the start and one at the end: {log}"
    );
    assert!(lines[0].ends_with("draining connections=30"), "{log}");
    assert!(lines[1].contains("drained took_ms="), "{log}");
}

#[test]
fn r26_a_server_serves_at_once_after_its_predecessor_was_killed() {
    let mut server = Server::spawn(&mut process::echo_at("127.0.0.1:0", "--shards 2"));
    let (address, admin) = (server.address, server.admin_address());
    for round in 0..20 {
        let clients = Client::open_many(&server, 200);
        server.signal(Signal::KILL);
        let mut command = tidewheel();
        command
            .args(["echo", "--shards", "2", "--listen", &address.to_string()])
            .args(["--admin", &admin.to_string()]);
        let next = match Server::try_spawn(&mut command) {
            Ok(next) => next,
            Err((status, log)) => panic!("round {round}: {status}\n{log}"),
        };
        server = next;
        drop(clients);
        let mut client = Client::open(&server);
        client.send(&client::text("hello"));
        client.expect(client::FIN | client::TEXT, "hello");
    }
}

#[test]
fn a_port_of_a_running_process_is_an_error_at_once() {
    let other = TcpListener::bind("127.0.0.1:0").expect("a free port");
    let taken = other
        .local_addr()
        .expect("the listener is bound")
        .to_string();
    let server = Server::start("--shards 2");
    let (listen, admin) = (
        server.address.to_string(),
        server.admin_address().to_string(),
    );
    for (flags, address) in [
        (["--listen", &taken], &taken),
        (["--listen", &listen], &listen),
        (["--admin", &taken], &taken),
        (["--admin", &admin], &admin),
    ] {
        let mut command = tidewheel();
        command
            .args(["echo", "--listen", "127.0.0.1:0"])
            .args(flags);
        if flags[0] == "--listen" {
            command = tidewheel();
            command.arg("echo").args(flags);
        }
        let output = command.output().expect("the program starts");
        let log = String::from_utf8_lossy(&output.stderr);
        assert_eq!(output.status.code(), Some(1), "{log}");
        let message = format!("cannot listen on {address}: the port is taken");
        assert!(log.contains(&message), "{log}");
        assert!(!log.contains("waiting up to"), "{log}");
    }
}

/// Starts a server whose drain lasts until its only client answers the Close.
fn start_with_one_client() -> (Server, Client) {
    let server = Server::start("--shards 2 --close-timeout 2s");
    let client = Client::open(&server);
    (server, client)
}

#[test]
fn two_signals_within_half_a_second_count_as_one() {
    for (round, pair) in [
        [Signal::TERM, Signal::TERM],
        [Signal::INT, Signal::INT],
        [Signal::TERM, Signal::INT],
    ]
    .iter()
    .cycle()
    .take(12)
    .enumerate()
    {
        let (server, mut client) = start_with_one_client();
        server.signal(pair[0]);
        assert_eq!(client.frame().close_code(), 1001);
        wait::pause(ms(round as u64 * 20));
        server.signal(pair[1]);
        client.send(&client::close(1001, ""));
        assert_eq!(client.end(), End::Fin, "round {round}");
        let (status, log) = server.wait(ms(5000));
        assert_eq!(status.code(), Some(0), "round {round}: {log}");
    }
}

/// Returns a command that runs `tidewheel echo` with `limit` descriptors.
pub(crate) fn with_descriptors(limit: u32) -> Command {
    let mut command = Command::new("sh");
    let run = format!(
        "ulimit -n {limit}; exec \"$0\" echo --shards 2 --listen 127.0.0.1:0 --admin 127.0.0.1:0"
    );
    command
        .env_clear()
        .args(["-c", &run])
        .arg(tidewheel().get_program())
        .stdin(Stdio::null());
    command
}

#[test]
fn too_few_descriptors_are_an_error_and_never_a_panic() {
    let mut starts = None;
    for limit in 3..40 {
        match Server::try_spawn(&mut with_descriptors(limit)) {
            Ok(server) => {
                starts.get_or_insert(limit);
                server.signal(Signal::TERM);
                let (status, log) = server.wait(ms(5000));
                assert_eq!(status.code(), Some(0), "with {limit}: {log}");
            }
            Err((status, log)) => {
                assert_eq!(starts, None, "with {limit}: {log}");
                // With fewer, the dynamic loader fails.
                if limit < 5 && log.contains("shared libraries") {
                    continue;
                }
                assert_eq!(status.code(), Some(1), "with {limit}: {log}");
                for part in [
                    "error: ",
                    &format!("RLIMIT_NOFILE is {limit}"),
                    "ulimit -n ",
                ] {
                    assert!(log.contains(part), "with {limit}: {part} is not in {log}");
                }
            }
        }
    }
    assert!(
        starts.is_some(),
        "the server does not start with 39 descriptors"
    );
}
