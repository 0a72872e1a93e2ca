//! Throughput to one subscriber over a link with a long delay, compared between several versions of the server.
//!
//! `cargo run --release -p benches --bin long_link -- --server target/release/tidewheel`, as root.
//!
//! Two network namespaces are connected by a link with a rate, a delay and a buffer (`link.rs`). The near side has
//! `tidewheel serve` and a publisher with twice the rate of the link; the far side has a subscriber that reads at once.

#![expect(
    clippy::disallowed_methods,
    reason = "a link and a measurement need a clock"
)]

mod link;

use std::{
    io::{BufRead as _, BufReader, ErrorKind, Read as _, Write as _},
    net::TcpStream,
    path::PathBuf,
    process::{Child, Command, Stdio},
    sync::atomic::{AtomicBool, Ordering},
    time::{Duration, Instant},
};

use benches::results::{Figure, Output, Run, host::command};
use clap::Parser;
use tidewheel::cli::units::Span;

use self::link::{Link, Side};

/// Bytes of a published message.
const MESSAGE_BYTES: usize = 16 << 10;

/// Measure the throughput of servers over a link with a long delay
#[derive(Debug, Parser)]
struct Arguments {
    /// Path of a `tidewheel` program; may be given several times
    #[arg(long, required = true, value_name = "PROGRAM")]
    server: Vec<PathBuf>,
    /// Rate of the link in millions of bits a second
    #[arg(long, default_value_t = 100, value_name = "MBIT")]
    rate: u32,
    /// Delay of a packet from one side to the other
    #[arg(long, default_value = "50ms", value_name = "DURATION")]
    delay: Span,
    /// Time of each measurement
    #[arg(long, default_value = "10s", value_name = "DURATION")]
    duration: Span,
    /// Time for which the subscriber reads before the measurement
    #[arg(long, default_value = "5s", value_name = "DURATION")]
    warm_up: Span,
    /// Rounds; each measures every server once
    #[arg(long, default_value_t = 5, value_name = "N",
          value_parser = clap::value_parser!(u16).range(1..))]
    rounds: u16,
    #[command(flatten)]
    output: Output,
}

fn main() {
    let arguments = Arguments::parse();
    let link = Link::new(arguments.rate, arguments.delay.0).unwrap_or_else(|error| {
        eprintln!(
            "error: cannot create a link, which needs root, iproute2 and /dev/net/tun: {error}"
        );
        std::process::exit(1);
    });
    let mut rates = vec![Vec::new(); arguments.server.len()];
    for round in 1..=arguments.rounds {
        for (server, rates) in arguments.server.iter().zip(&mut rates) {
            let rate = measure(&link, server, &arguments);
            println!("round {round}: {}: {rate:.1} Mbit/s", server.display());
            rates.push(rate);
        }
    }
    println!(
        "\n| server | Mbit/s of payload and headers, of {} |\n|---|--:|",
        arguments.rate
    );
    let mut run = Run::new(
        "long-link",
        command("run --release -p benches --bin long_link"),
    );
    for (server, rates) in arguments.server.iter().zip(rates) {
        let (server, n) = (server.display().to_string(), rates.len());
        let rate = Figure::of(rates);
        println!("| {server} | {rate:.1} |");
        run.add(&server, n, "Mbit/s", rate);
    }
    arguments.output.save(&run);
}

/// Returns the rate of the subscriber, in millions of bits a second.
fn measure(link: &Link, server: &PathBuf, arguments: &Arguments) -> f64 {
    let server = link.near.within(|| Server::start(server));
    let mut subscriber = link.far.within(|| open(&server.address));
    let is_over = AtomicBool::new(false);
    std::thread::scope(|scope| {
        scope.spawn(|| publish(&link.near, &server, arguments.rate, &is_over));
        read_for(&mut subscriber, arguments.warm_up.0);
        let (bytes, time) = read_for(&mut subscriber, arguments.duration.0);
        is_over.store(true, Ordering::Relaxed);
        bytes as f64 * 8e-6 / time.as_secs_f64()
    })
}

/// A running server. Dropping the value ends it.
struct Server {
    child: Child,
    address: String,
}

impl Server {
    fn start(program: &PathBuf) -> Self {
        let mut child = Command::new(program)
            .args(["serve", "--listen", &format!("{}:0", Side::NEAR)])
            .args(["--slow-consumer", "drop-oldest"])
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .spawn()
            .expect("the program starts");
        let stdout = child.stdout.take().expect("standard output is a pipe");
        let line = BufReader::new(stdout).lines().next();
        let line = line
            .expect("the server prints a line")
            .expect("the line is text");
        let address = line
            .strip_prefix("listening on ")
            .expect("the line has the address");
        Self {
            address: address.to_owned(),
            child,
        }
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        // The server may have ended.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// Connects a subscriber of the topic `a` that does not receive its own messages.
fn open(address: &str) -> TcpStream {
    let mut stream = TcpStream::connect(address).expect("the server listens");
    let request = "GET /a?echo=false HTTP/1.1\r\nHost: a\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\
                   Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\nSec-WebSocket-Version: 13\r\n\r\n";
    stream
        .write_all(request.as_bytes())
        .expect("the server reads");
    let mut head = Vec::new();
    while !head.ends_with(b"\r\n\r\n") {
        let mut byte = [0];
        stream.read_exact(&mut byte).expect("the server answers");
        head.extend(byte);
    }
    assert!(
        head.starts_with(b"HTTP/1.1 101 "),
        "the server accepts the handshake"
    );
    stream
}

/// Publishes at twice the rate of the link, until `is_over`.
fn publish(near: &Side, server: &Server, rate: u32, is_over: &AtomicBool) {
    let mut stream = near.within(|| open(&server.address));
    // A binary frame whose masking key is zero.
    let mut frame = vec![
        0x82,
        0x80 | 126,
        (MESSAGE_BYTES >> 8) as u8,
        MESSAGE_BYTES as u8,
        0,
        0,
        0,
        0,
    ];
    frame.resize(frame.len() + MESSAGE_BYTES, b'p');
    let pause = Duration::from_secs_f64(MESSAGE_BYTES as f64 * 8.0 / (2e6 * f64::from(rate)));
    let begin = Instant::now();
    for number in 0.. {
        if is_over.load(Ordering::Relaxed) {
            return;
        }
        stream.write_all(&frame).expect("the server keeps reading");
        std::thread::sleep((pause * number).saturating_sub(begin.elapsed()));
    }
}

/// Reads for a time. Returns the number of bytes and the exact time.
fn read_for(stream: &mut TcpStream, time: Duration) -> (usize, Duration) {
    let (begin, mut bytes) = (Instant::now(), 0);
    let timeout = Some(Duration::from_millis(100));
    stream
        .set_read_timeout(timeout)
        .expect("the timeout is not zero");
    let mut chunk = vec![0; 1 << 20];
    while begin.elapsed() < time {
        match stream.read(&mut chunk) {
            Ok(0) => panic!("the server closed the connection"),
            Ok(count) => bytes += count,
            Err(error) if error.kind() == ErrorKind::WouldBlock => {}
            Err(error) => panic!("the connection failed: {error}"),
        }
    }
    (bytes, begin.elapsed())
}
