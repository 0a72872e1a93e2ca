//! The rate at which a subscriber is served over a link that is long and narrow, by each of several servers.
//!
//! `cargo run --release -p benches --bin long_link -- --server target/release/tidewheel`, as root.
//!
//! Two network namespaces are joined by a link of this process's own, with a rate, a delay and a buffer
//! (`link.rs`). On one side there are a server, `tidewheel serve`, and a publisher that sends it more than
//! the link carries; on the other a subscriber that reads all it gets.

#![expect(
    clippy::disallowed_methods,
    reason = "a clock and a schedule are what a link and a measurement are made of"
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

use clap::Parser;
use tidewheel::cli::units::Span;

use self::link::{Link, Side};

/// Bytes of a message that is published.
const MESSAGE: usize = 16 << 10;

#[derive(Debug, Parser)]
struct Arguments {
    /// A program `tidewheel`; several are compared, in turns
    #[arg(long, required = true, value_name = "PROGRAM")]
    server: Vec<PathBuf>,
    /// Millions of bits that the link carries in a second
    #[arg(long, default_value_t = 100, value_name = "MBIT")]
    rate: u32,
    /// Time that a packet takes from one side to the other
    #[arg(long, default_value = "50ms", value_name = "DURATION")]
    delay: Span,
    /// Time that is measured in each turn of a server
    #[arg(long, default_value = "10s", value_name = "DURATION")]
    duration: Span,
    /// Time for which the subscriber reads before that
    #[arg(long, default_value = "5s", value_name = "DURATION")]
    warm_up: Span,
    /// Rounds, in each of which every server has its turn
    #[arg(long, default_value_t = 5, value_name = "N")]
    rounds: usize,
}

fn main() {
    let arguments = Arguments::parse();
    let link = Link::new(arguments.rate, arguments.delay.0).unwrap_or_else(|error| {
        eprintln!(
            "error: no link can be made, which needs root, iproute2 and /dev/net/tun: {error}"
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
    for (server, mut rates) in arguments.server.iter().zip(rates) {
        rates.sort_by(f64::total_cmp);
        let (least, most) = (rates[0], rates[rates.len() - 1]);
        let median = rates[rates.len() / 2];
        println!(
            "| {} | {median:.1} ({least:.1} to {most:.1}) |",
            server.display()
        );
    }
}

/// Millions of bits that a subscriber reads in a second.
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

/// A server that ends with this value.
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
        let stdout = child.stdout.take().expect("it is piped");
        let line = BufReader::new(stdout).lines().next();
        let line = line.expect("it says where it listens").expect("text");
        let address = line.strip_prefix("listening on ").expect("it listens");
        Self {
            address: address.to_owned(),
            child,
        }
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        // It may have ended.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// A client that has subscribed to the topic `a`, and does not get what it publishes.
fn open(address: &str) -> TcpStream {
    let mut stream = TcpStream::connect(address).expect("it listens");
    let request = "GET /a?echo=false HTTP/1.1\r\nHost: a\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\
                   Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\nSec-WebSocket-Version: 13\r\n\r\n";
    stream.write_all(request.as_bytes()).expect("it reads");
    let mut head = Vec::new();
    while !head.ends_with(b"\r\n\r\n") {
        let mut byte = [0];
        stream.read_exact(&mut byte).expect("it answers");
        head.extend(byte);
    }
    assert!(head.starts_with(b"HTTP/1.1 101 "), "it accepts");
    stream
}

/// Publishes twice what the link carries.
fn publish(near: &Side, server: &Server, rate: u32, is_over: &AtomicBool) {
    let mut stream = near.within(|| open(&server.address));
    // A masked frame, with a key of zeroes.
    let mut frame = vec![
        0x82,
        0x80 | 126,
        (MESSAGE >> 8) as u8,
        MESSAGE as u8,
        0,
        0,
        0,
        0,
    ];
    frame.resize(frame.len() + MESSAGE, b'p');
    let pause = Duration::from_secs_f64(MESSAGE as f64 * 8.0 / (2e6 * f64::from(rate)));
    let begin = Instant::now();
    for number in 0.. {
        if is_over.load(Ordering::Relaxed) {
            return;
        }
        stream.write_all(&frame).expect("the server reads on");
        std::thread::sleep((pause * number).saturating_sub(begin.elapsed()));
    }
}

/// Reads for a time; gives the bytes, and the time that it was.
fn read_for(stream: &mut TcpStream, time: Duration) -> (usize, Duration) {
    let (begin, mut bytes) = (Instant::now(), 0);
    let patience = Some(Duration::from_millis(100));
    stream.set_read_timeout(patience).expect("an option");
    let mut chunk = vec![0; 1 << 20];
    while begin.elapsed() < time {
        match stream.read(&mut chunk) {
            Ok(0) => panic!("the server ends the connection"),
            Ok(count) => bytes += count,
            Err(error) if error.kind() == ErrorKind::WouldBlock => {}
            Err(error) => panic!("the server sends on, but: {error}"),
        }
    }
    (bytes, begin.elapsed())
}
