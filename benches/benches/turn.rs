//! Instructions of a shard's turn under callgrind, with one message or many, on one connection or many. Needs valgrind.
//!
//! `cargo bench -p benches --bench turn`. The ring is simulated, and its work for a pushed operation is not counted.

use std::process::Command;

use benches::results::{Figure, Output, Run, host::command};
use clap::Parser;
use tidewheel::{
    Config, Conn, Handler, Message, Request, Time, Verdict,
    ring::sim::{ClientId, Faults, Network, SimRing, Simulation},
    shard::{Capacity, Next, Parts, Shard},
};
use tidewheel_codec::{Endpoint, Role, handshake::ClientRequest};

/// A text frame of 8 bytes whose masking key is zero.
const FRAME: [u8; 14] = *b"\x81\x88\0\0\0\0publish!";

/// Receive buffers: one for each connection.
const RECEIVE_BUFFERS: u16 = 1024;

/// Turns of a child process; a second one has twice as many.
const TURNS: u32 = 16;

/// Cases: name, connections, frames of each connection in a turn, subscribers of the messages.
const CASES: [(&str, u32, u32, u32); 6] = [
    ("echo, 1 connection x 1 message", 1, 1, 0),
    ("echo, 64 connections x 1 message", 64, 1, 0),
    ("echo, 1,024 connections x 1 message", 1024, 1, 0),
    ("echo, 1 connection x 64 messages", 1, 64, 0),
    ("echo, 1 connection x 1,024 messages", 1, 1024, 0),
    ("fan-out, 1 message to 100", 1, 1, 100),
];

#[derive(Parser)]
struct Arguments {
    /// Set by `cargo bench`
    #[arg(long, hide = true)]
    bench: bool,
    /// Run one case as a child process: connections, frames, subscribers, turns
    #[arg(long, hide = true, num_args = 4)]
    child: Option<Vec<u32>>,
    #[command(flatten)]
    output: Output,
}

fn main() {
    let arguments = Arguments::parse();
    if let Some([connections, frames, subscribers, turns]) = arguments.child.as_deref() {
        return Bench::new(*connections, *subscribers).run(*frames, *turns);
    }
    println!("| turn | instructions | for each message |\n|---|--:|--:|");
    let mut run = Run::new("turn", command("bench -p benches --bench turn"));
    for (name, connections, frames, subscribers) in CASES {
        let instructions = |turns: u32| {
            trace([connections, frames, subscribers, turns].map(|number| number.to_string()))
        };
        let turn = (instructions(2 * TURNS) - instructions(TURNS)) / f64::from(TURNS);
        let messages = f64::from((connections * frames).max(subscribers));
        println!("| {name} | {turn:.0} | {:.0} |", turn / messages);
        run.add(name, 1, "instructions", Figure::median(turn / messages));
    }
    arguments.output.save(&run);
}

/// Runs a child process under callgrind. Returns the instructions of its turns.
fn trace(child: [String; 4]) -> f64 {
    let program = std::env::current_exe().expect("this program has a path");
    let child = Command::new("valgrind")
        .args(["--tool=callgrind", "--callgrind-out-file=/dev/null"])
        .arg("--toggle-collect=*take_turn*")
        .arg("--toggle-collect=*SimRing as tidewheel::ring::Ring>::push*")
        .arg(program)
        .arg("--child")
        .args(child)
        .output()
        .expect("valgrind runs");
    let stderr = String::from_utf8_lossy(&child.stderr);
    assert!(child.status.success(), "{stderr}");
    let collected = stderr
        .lines()
        .find_map(|line| line.split_once("Collected : "));
    let (_, instructions) = collected.expect("callgrind prints what it collected");
    instructions
        .trim()
        .parse()
        .expect("callgrind prints a number")
}

/// A handler that echoes messages, or publishes them to all connections that do not send.
struct Application {
    publishes: bool,
}

impl Handler for Application {
    /// Whether the client of this connection sends.
    type State = bool;

    fn upgrade(&mut self, request: &Request<'_>) -> Verdict<bool> {
        Verdict::accept(request.path() == "/first")
    }

    fn open(&mut self, conn: &mut Conn<'_, Self>) {
        if self.publishes && !*conn.state() {
            conn.subscribe("all").expect("the topic is valid");
        }
    }

    fn message(&mut self, conn: &mut Conn<'_, Self>, message: Message<'_>) {
        if self.publishes {
            conn.publish("all", message.as_text().expect("clients send text"))
                .expect("the memory for messages has room");
        } else {
            conn.send(message);
        }
    }
}

/// A shard with its simulated network.
struct Bench {
    shard: Shard<SimRing, Application>,
    network: Network,
    /// Clients that send.
    senders: Vec<ClientId>,
}

/// Takes one turn. Callgrind counts the instructions of this function only.
#[inline(never)]
fn take_turn(shard: &mut Shard<SimRing, Application>, now: Time) -> Next {
    shard.turn(now)
}

impl Bench {
    fn new(connections: u32, subscribers: u32) -> Self {
        let mut config = Config::default();
        config.receive_buffers = RECEIVE_BUFFERS;
        let ring = SimRing::new(Simulation {
            sockets: 4096,
            buffers: RECEIVE_BUFFERS,
            buffer_size: config.receive_buffer_size,
            latency_ms_max: 0,
            faults: Faults::NONE,
            ..Simulation::default()
        });
        let ring = ring.expect("receive buffers can be allocated");
        let network = ring.network();
        let capacity = Capacity {
            places: 4096,
            connections: 4000,
        };
        let endpoint = Endpoint::new(config.protocol());
        let shard = Shard::new(
            ring,
            Application {
                publishes: subscribers > 0,
            },
            &config,
            endpoint.expect("the defaults are valid"),
            Parts::alone(capacity, &config),
            network.now(),
        );
        let mut bench = Self {
            shard: shard.expect("the configuration is valid"),
            network,
            senders: Vec::new(),
        };
        let mut client = Endpoint::new(tidewheel_codec::Config::new(Role::Client))
            .expect("the defaults are valid");
        for at in 0..connections + subscribers {
            let id = bench.network.connect();
            let path = if at < connections { "/first" } else { "/" };
            let mut request = Vec::new();
            ClientRequest::new("bench", path, client.handshake_nonce()).write(&mut request);
            bench.network.send(id, &request);
            if at < connections {
                bench.senders.push(id);
            }
        }
        bench.settle();
        assert_eq!(
            bench.shard.connections(),
            (connections + subscribers) as usize
        );
        bench
    }

    /// Takes turns until the shard has nothing to do. Clients read all that they receive.
    fn settle(&mut self) {
        loop {
            let now = self.network.now();
            self.network.wake_at(Time::from_millis(now.as_millis() + 1));
            let next = take_turn(&mut self.shard, now);
            let Next::Enter(wait) = next else {
                unreachable!("the shard was not stopped")
            };
            self.shard
                .enter(wait)
                .expect("a simulated ring never fails");
            let reached = self.network.take_reached();
            for client in &reached {
                while self.network.read(*client).is_some() {}
            }
            if reached.is_empty() && self.network.now() > now {
                return;
            }
        }
    }

    /// Sends `frames` frames from each sender and handles them, `turns` times.
    fn run(&mut self, frames: u32, turns: u32) {
        let bytes = FRAME.repeat(frames as usize);
        for _ in 0..turns {
            for client in &self.senders {
                self.network.send(*client, &bytes);
            }
            self.settle();
        }
    }
}
