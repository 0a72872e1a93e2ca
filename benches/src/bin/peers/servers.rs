//! The servers, each as its own users would write it well: on one thread, with the fast path that
//! its documentation names, `TCP_NODELAY`, and the same allocator for all.

mod actix_ws;
mod echo_loop;
mod fastwebsockets;
mod send_loop;
mod sockudo_ws;
mod tidewheel;
mod tokio_tungstenite;

use std::{
    fmt,
    io::{Read, Write},
    net::{SocketAddr, TcpListener, TcpStream},
    process::ExitCode,
    thread,
};

use bytes::Bytes;
use clap::{Args, ValueEnum};
use rustix::process::{Signal, set_parent_process_death_signal};
use tidewheel_codec::{
    frame::{FrameHeader, Opcode, encode_frame},
    handshake::{Limits, Request},
    mask::mask,
};

use crate::child::{announce, become_one};

/// The subcommand that turns this program into a server.
pub(crate) const ARGUMENT: &str = "server";

/// Messages that a broadcast channel keeps for the slowest task: more than are ever in flight.
pub(crate) const CHANNEL_CAPACITY: usize = 64;

/// A server.
#[derive(Clone, Copy, Debug, Eq, PartialEq, ValueEnum)]
pub(crate) enum Kind {
    /// For fan-out: one send(2) for each subscriber and message, and nothing else
    SendLoop,
    /// For echo: one read(2), unmasking where the frames lie, and one write(2), and nothing else
    EchoLoop,
    /// Tidewheel: `tidewheel echo`, or a handler like that of `tidewheel serve`
    Tidewheel,
    /// fastwebsockets, on hyper
    Fastwebsockets,
    /// tokio-tungstenite; for fan-out a task for each connection, which sends message by message
    TokioTungstenite,
    /// The same with `StreamExt::forward`, which flushes when there is no next message
    TokioTungsteniteForward,
    /// sockudo-ws
    SockudoWs,
    /// actix-ws, on actix-web
    ActixWs,
}

/// What a server is to do.
#[derive(Clone, Copy, Debug, Eq, PartialEq, ValueEnum)]
pub(crate) enum Work {
    /// Send each message back
    Echo,
    /// Send each message to all
    Fanout,
}

impl Kind {
    /// Those that echo. What forwards does so by itself.
    pub(crate) const ECHO: &[Self] = &[
        Self::EchoLoop,
        Self::Tidewheel,
        Self::Fastwebsockets,
        Self::TokioTungstenite,
        Self::SockudoWs,
        Self::ActixWs,
    ];

    /// Those that do everything else that is asked of a server of echoes.
    pub(crate) const SERVERS: &[Self] = &[
        Self::Tidewheel,
        Self::Fastwebsockets,
        Self::TokioTungstenite,
        Self::SockudoWs,
        Self::ActixWs,
    ];

    /// Those that fan out.
    pub(crate) const FANOUT: &[Self] = &[
        Self::SendLoop,
        Self::Tidewheel,
        Self::TokioTungstenite,
        Self::TokioTungsteniteForward,
        Self::Fastwebsockets,
        Self::SockudoWs,
        Self::ActixWs,
    ];
}

impl fmt::Display for Kind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let value = self.to_possible_value().expect("none is skipped");
        f.write_str(value.get_name())
    }
}

/// What the server is told by who starts it.
#[derive(Args, Clone, Copy, Debug)]
pub(crate) struct Order {
    /// Which one
    kind: Kind,
    /// What it is to do
    work: Work,
    /// Where it listens
    #[arg(long, default_value = "127.0.0.1:0")]
    listen: SocketAddr,
    /// The core that it keeps to; it ends when its standard input does. Without, it is on that of
    /// its parent, and ends by a signal
    #[arg(long)]
    core: Option<usize>,
    #[command(flatten)]
    settings: Settings,
}

/// What is not as by default.
#[derive(Args, Clone, Copy, Debug, Default)]
pub(crate) struct Settings {
    /// Very many connections that say little, where the server's documentation has a word on that
    #[arg(long)]
    pub(crate) many: bool,
    /// Seconds of silence before a ping, for those that ping
    #[arg(long)]
    pub(crate) ping_interval: Option<u32>,
    /// Seconds to wait for a pong, and then for a Close, for those that ping
    #[arg(long)]
    pub(crate) patience: Option<u32>,
}

impl Settings {
    /// As on the command line.
    pub(crate) fn arguments(self) -> String {
        let mut text = String::new();
        if self.many {
            text += " --many";
        }
        for (name, seconds) in [
            ("ping-interval", self.ping_interval),
            ("patience", self.patience),
        ] {
            if let Some(seconds) = seconds {
                text += &format!(" --{name} {seconds}");
            }
        }
        text
    }
}

/// Serves until the process ends.
pub(crate) fn serve(order: Order) -> ExitCode {
    match order.core {
        Some(core) => become_one(core),
        // Whatever becomes of the generator, the server does not outlive it.
        None => set_parent_process_death_signal(Some(Signal::TERM)).expect("it is a signal"),
    }
    let Order {
        listen, settings, ..
    } = order;
    match (order.work, order.kind) {
        (Work::Echo, Kind::Tidewheel) => return tidewheel::echo(listen, settings),
        (Work::Echo, Kind::Fastwebsockets) => on_tokio(listen, fastwebsockets::echo),
        (Work::Echo, Kind::TokioTungstenite | Kind::TokioTungsteniteForward) => {
            on_tokio(listen, |it| tokio_tungstenite::echo(it, settings));
        }
        (Work::Echo, Kind::SockudoWs) => on_tokio(listen, |it| sockudo_ws::echo(it, settings)),
        (Work::Echo, Kind::ActixWs) => actix_ws::echo(listen),
        (Work::Echo, Kind::EchoLoop) => echo_loop::echo(&bind(listen)),
        (Work::Echo, Kind::SendLoop) => panic!("it is for fan-out only"),
        (Work::Fanout, Kind::EchoLoop) => panic!("it is for echo only"),
        (Work::Fanout, Kind::SendLoop) => send_loop::fan_out(&bind(listen)),
        (Work::Fanout, Kind::Tidewheel) => tidewheel::fan_out(listen),
        (Work::Fanout, Kind::Fastwebsockets) => on_tokio(listen, fastwebsockets::fan_out),
        (Work::Fanout, Kind::TokioTungstenite) => {
            on_tokio(listen, |it| {
                tokio_tungstenite::fan_out(it, tokio_tungstenite::Sending::Each)
            });
        }
        (Work::Fanout, Kind::TokioTungsteniteForward) => {
            on_tokio(listen, |it| {
                tokio_tungstenite::fan_out(it, tokio_tungstenite::Sending::Forward)
            });
        }
        (Work::Fanout, Kind::SockudoWs) => on_tokio(listen, sockudo_ws::fan_out),
        (Work::Fanout, Kind::ActixWs) => actix_ws::fan_out(listen),
    }
    ExitCode::SUCCESS
}

/// A blocking listener.
fn bind(listen: SocketAddr) -> TcpListener {
    let listener = TcpListener::bind(listen).expect("the address is free");
    announce(listener.local_addr().expect("it is bound"));
    listener
}

/// Serves on a runtime of one thread.
fn on_tokio<F: Future>(listen: SocketAddr, serve: impl FnOnce(tokio::net::TcpListener) -> F) {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .expect("a runtime needs some descriptors only");
    runtime.block_on(async {
        // With a backlog of 1024, where the standard library has 128.
        let listener = tokio::net::TcpListener::bind(listen).await;
        let listener = listener.expect("the address is free");
        announce(listener.local_addr().expect("it is bound"));
        serve(listener).await;
    });
}

/// A blocking client, once its request is answered, and the path that it asked for; `None` if it has
/// left without asking for anything.
pub(crate) fn accept(listener: &TcpListener) -> Option<(TcpStream, String)> {
    let (mut client, _) = listener.accept().expect("one is there");
    client.set_nodelay(true).expect("it is a TCP socket");
    let mut request = Vec::new();
    loop {
        let mut buffer = [0; 1024];
        let length = client.read(&mut buffer).ok().filter(|length| *length > 0)?;
        request.extend_from_slice(&buffer[..length]);
        if let Some((path, answer)) = answer(&request) {
            client.write_all(&answer).expect("it is open");
            return Some((client, path));
        }
    }
}

/// The messages of a publisher, which come whole, as the frames that go out.
pub(crate) fn frames(mut messages: &mut [u8]) -> Vec<Bytes> {
    let mut frames = Vec::new();
    while !messages.is_empty() {
        let header = FrameHeader::parse(messages).expect("clients are well-behaved");
        let header = header.expect("messages come whole");
        let (message, others) = messages.split_at_mut(header.size() + header.payload_len as usize);
        let payload = &mut message[header.size()..];
        mask(payload, header.masking_key.expect("clients mask"));
        frames.push(encode_frame(Opcode::Text, payload));
        messages = others;
    }
    frames
}

/// The clients leave, and this process with them.
pub(crate) fn wait_for_the_end() -> ! {
    loop {
        thread::park();
    }
}

/// The path of the request at the start of `bytes`, if it is whole, and the answer to it.
fn answer(bytes: &[u8]) -> Option<(String, Vec<u8>)> {
    let parsed = Request::parse(bytes, &Limits::default()).expect("clients are well-behaved");
    let (request, _) = parsed?;
    let mut answer = Vec::new();
    request.accept().write(&mut answer);
    Some((request.path().to_owned(), answer))
}
