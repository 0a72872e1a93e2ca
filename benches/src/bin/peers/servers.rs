//! The servers that are compared. Each runs on one thread, as its documentation advises for speed, with `TCP_NODELAY`
//! and the same allocator.

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

use crate::server_process::{pin_and_end_with_parent, report_listening};

/// Subcommand that runs a server.
pub(crate) const ARGUMENT: &str = "server";

/// Messages that a broadcast channel keeps for the slowest task, which is more than are in flight.
pub(crate) const CHANNEL_CAPACITY: usize = 64;

/// A server.
#[derive(Clone, Copy, Debug, Eq, PartialEq, ValueEnum)]
pub(crate) enum Kind {
    /// For fan-out: send(2) for each subscriber and message, and nothing else
    SendLoop,
    /// For echo: read(2), unmasking in place, write(2), and nothing else
    EchoLoop,
    /// Tidewheel: `tidewheel echo`, or a handler like that of `tidewheel serve`
    Tidewheel,
    /// Tidewheel with a task for each connection, which never ends
    TidewheelTasks,
    /// fastwebsockets, on hyper
    Fastwebsockets,
    /// tokio-tungstenite; for fan-out, a task for each connection that awaits `send` for each message
    TokioTungstenite,
    /// tokio-tungstenite with `StreamExt::forward`, which flushes when no message waits
    TokioTungsteniteForward,
    /// sockudo-ws
    SockudoWs,
    /// actix-ws, on actix-web
    ActixWs,
}

/// Work of a server.
#[derive(Clone, Copy, Debug, Eq, PartialEq, ValueEnum)]
pub(crate) enum Work {
    /// Send each message back
    Echo,
    /// Send each message to all
    Fanout,
}

impl Kind {
    /// Servers of the echo comparison.
    pub(crate) const ECHO: &[Self] = &[
        Self::EchoLoop,
        Self::Tidewheel,
        Self::Fastwebsockets,
        Self::TokioTungstenite,
        Self::SockudoWs,
        Self::ActixWs,
    ];

    /// Servers of the comparison of a server with tasks and one without.
    pub(crate) const TASKS: &[Self] = &[Self::Tidewheel, Self::TidewheelTasks];

    /// Servers of the comparisons of handshakes, idle connections and closes.
    pub(crate) const SERVERS: &[Self] = &[
        Self::Tidewheel,
        Self::Fastwebsockets,
        Self::TokioTungstenite,
        Self::SockudoWs,
        Self::ActixWs,
    ];

    /// Servers of the fan-out comparison.
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
        let value = self.to_possible_value().expect("every kind has a name");
        f.write_str(value.get_name())
    }
}

/// Arguments of a server.
#[derive(Args, Clone, Copy, Debug)]
pub(crate) struct Invocation {
    /// Kind of the server
    kind: Kind,
    /// Work of the server
    work: Work,
    /// Address of the listener
    #[arg(long, default_value = "127.0.0.1:0")]
    listen: SocketAddr,
    /// Core of the server, which then ends with its standard input; without it, the server keeps its parent's core and
    /// ends by a signal
    #[arg(long)]
    core: Option<usize>,
    #[command(flatten)]
    settings: Settings,
}

/// Settings that differ from the defaults.
#[derive(Args, Clone, Copy, Debug, Default)]
pub(crate) struct Settings {
    /// Use the settings that the server's documentation advises for many connections
    #[arg(long)]
    pub(crate) many: bool,
    /// Silence in seconds before a Ping, for servers that ping
    #[arg(long)]
    pub(crate) ping_interval: Option<u32>,
    /// Ping timeout and close timeout in seconds, for servers that ping
    #[arg(long)]
    pub(crate) timeout: Option<u32>,
}

impl Settings {
    /// Returns the settings as arguments of the command line.
    pub(crate) fn arguments(self) -> String {
        let mut text = String::new();
        if self.many {
            text += " --many";
        }
        for (name, seconds) in [
            ("ping-interval", self.ping_interval),
            ("timeout", self.timeout),
        ] {
            if let Some(seconds) = seconds {
                text += &format!(" --{name} {seconds}");
            }
        }
        text
    }
}

/// Serves until the process ends.
pub(crate) fn serve(invocation: Invocation) -> ExitCode {
    match invocation.core {
        Some(core) => pin_and_end_with_parent(core),
        // The server ends with the load generator, even if that is killed.
        None => set_parent_process_death_signal(Some(Signal::TERM)).expect("SIGTERM is a signal"),
    }
    let Invocation {
        listen, settings, ..
    } = invocation;
    match (invocation.work, invocation.kind) {
        (Work::Echo, Kind::Tidewheel) => return tidewheel::echo(listen, settings),
        (Work::Echo, Kind::TidewheelTasks) => tidewheel::echo_with_tasks(listen),
        (Work::Echo, Kind::Fastwebsockets) => on_tokio(listen, fastwebsockets::echo),
        (Work::Echo, Kind::TokioTungstenite | Kind::TokioTungsteniteForward) => {
            on_tokio(listen, |it| tokio_tungstenite::echo(it, settings));
        }
        (Work::Echo, Kind::SockudoWs) => on_tokio(listen, |it| sockudo_ws::echo(it, settings)),
        (Work::Echo, Kind::ActixWs) => actix_ws::echo(listen),
        (Work::Echo, Kind::EchoLoop) => echo_loop::echo(&bind(listen)),
        (Work::Echo, Kind::SendLoop) => panic!("send-loop is for fan-out only"),
        (Work::Fanout, Kind::TidewheelTasks) => panic!("tidewheel-tasks is for echo only"),
        (Work::Fanout, Kind::EchoLoop) => panic!("echo-loop is for echo only"),
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

/// Binds a blocking listener, and reports its address.
fn bind(listen: SocketAddr) -> TcpListener {
    let listener = TcpListener::bind(listen).expect("the address is free");
    report_listening(listener.local_addr().expect("the listener is bound"));
    listener
}

/// Serves on a runtime of one thread.
pub(crate) fn on_tokio<F: Future>(
    listen: SocketAddr,
    serve: impl FnOnce(tokio::net::TcpListener) -> F,
) {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .expect("descriptors are left");
    runtime.block_on(async {
        // tokio has a backlog of 1024; the standard library has 128.
        let listener = tokio::net::TcpListener::bind(listen).await;
        let listener = listener.expect("the address is free");
        report_listening(listener.local_addr().expect("the listener is bound"));
        serve(listener).await;
    });
}

/// Accepts a client, answers its handshake, and returns its blocking socket and its path; `None` if it left before its
/// request was complete.
pub(crate) fn accept(listener: &TcpListener) -> Option<(TcpStream, String)> {
    let (mut client, _) = listener.accept().expect("accept succeeds");
    client.set_nodelay(true).expect("the socket is TCP");
    let mut request = Vec::new();
    loop {
        let mut buffer = [0; 1024];
        let length = client.read(&mut buffer).ok().filter(|length| *length > 0)?;
        request.extend_from_slice(&buffer[..length]);
        if let Some((path, answer)) = answer(&request) {
            client.write_all(&answer).expect("the socket is open");
            return Some((client, path));
        }
    }
}

/// Converts a publisher's frames, which are complete, into frames for subscribers.
pub(crate) fn frames(mut messages: &mut [u8]) -> Vec<Bytes> {
    let mut frames = Vec::new();
    while !messages.is_empty() {
        let header = FrameHeader::parse(messages).expect("clients send valid frames and requests");
        let header = header.expect("frames are complete");
        let (message, others) = messages.split_at_mut(header.size() + header.payload_len as usize);
        let payload = &mut message[header.size()..];
        mask(
            payload,
            header.masking_key.expect("clients mask their frames"),
        );
        frames.push(encode_frame(Opcode::Text, payload));
        messages = others;
    }
    frames
}

/// Waits for the end of this process.
pub(crate) fn wait_for_exit() -> ! {
    loop {
        thread::park();
    }
}

/// Returns the path of the request in `bytes` and the response to it, if the request is complete.
fn answer(bytes: &[u8]) -> Option<(String, Vec<u8>)> {
    let parsed =
        Request::parse(bytes, &Limits::default()).expect("clients send valid frames and requests");
    let (request, _) = parsed?;
    let mut answer = Vec::new();
    let accept = request.upgrade().expect("clients ask for a WebSocket");
    accept.write(&mut answer);
    Some((request.path().to_owned(), answer))
}
