//! The servers.

mod fastwebsockets;
mod send_loop;
mod tidewheel;
mod tungstenite;

use std::{fmt, net::TcpListener};

use clap::ValueEnum;

use crate::child::announce;

/// A server. The first one is the baseline.
#[derive(Clone, Copy, Debug, Eq, PartialEq, ValueEnum)]
pub(crate) enum Kind {
    /// One send(2) for each subscriber and message, and nothing else
    SendLoop,
    /// Tidewheel with a handler like that of `tidewheel serve`
    Tidewheel,
    /// A task for each connection, which sends message by message
    TokioTungstenite,
    /// The same with `StreamExt::forward`, which flushes when the channel is empty
    TokioTungsteniteForward,
    /// A task for each connection, which writes frame by frame
    Fastwebsockets,
}

impl fmt::Display for Kind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let value = self.to_possible_value().expect("none is skipped");
        f.write_str(value.get_name())
    }
}

/// Messages that a broadcast channel keeps for the slowest task: more than are ever in flight.
pub(super) const CHANNEL_CAPACITY: usize = 64;

/// Serves until the process ends.
pub(crate) fn serve(kind: Kind) {
    if kind == Kind::Tidewheel {
        return tidewheel::serve();
    }
    let listener = TcpListener::bind(("127.0.0.1", 0)).expect("there is a loopback");
    announce(listener.local_addr().expect("it is bound"));
    match kind {
        Kind::SendLoop => send_loop::serve(&listener),
        Kind::Tidewheel => unreachable!("it binds for itself"),
        Kind::TokioTungstenite => tungstenite::serve(listener, tungstenite::Sending::Each),
        Kind::TokioTungsteniteForward => {
            tungstenite::serve(listener, tungstenite::Sending::Forward);
        }
        Kind::Fastwebsockets => fastwebsockets::serve(listener),
    }
}

/// A runtime of one thread, and the listener on it.
fn run_on_tokio<F: Future>(
    listener: TcpListener,
    serve: impl FnOnce(tokio::net::TcpListener) -> F,
) -> F::Output {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .expect("a runtime needs some descriptors only");
    runtime.block_on(async {
        listener.set_nonblocking(true).expect("it is a socket");
        let listener = tokio::net::TcpListener::from_std(listener).expect("it is nonblocking");
        serve(listener).await
    })
}

/// The answer to the request at the start of `bytes`, if it is whole.
fn answer(bytes: &[u8]) -> Option<Vec<u8>> {
    use tidewheel_codec::handshake::{Limits, Request};
    let parsed = Request::parse(bytes, &Limits::default()).expect("clients are well-behaved");
    let (request, _) = parsed?;
    let mut answer = Vec::new();
    request.accept().write(&mut answer);
    Some(answer)
}
