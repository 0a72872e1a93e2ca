//! io_uring on the running kernel: guarantees of `Ring` whose failure a shard cannot detect.

mod fill;
mod operations;
mod other_rings;
mod queues;

use std::{
    net::{TcpListener, TcpStream},
    time::Duration,
};

use tidewheel::ring::{Completion, Op, Ring, Setup, Socket, Token, Uring, Wait};

/// A ring whose socket 0 is connected, and the socket's peer.
pub(crate) fn connected() -> (Uring, TcpStream) {
    let listener = TcpListener::bind("127.0.0.1:0").expect("bind to port 0");
    let mut ring = Uring::new(&Setup::default(), None).expect("io_uring is available");
    let connect = Op::Connect {
        socket: Socket(0),
        peer: listener.local_addr().expect("the listener is bound"),
    };
    ring.push(connect, Token::new(0, 0));
    let connected = next(&mut ring);
    assert!(connected.result >= 0, "{connected:?}");
    let (peer, _) = listener.accept().expect("the client has connected");
    (ring, peer)
}

/// Enters the ring, and takes the next completion.
pub(crate) fn next(ring: &mut Uring) -> Completion {
    ring.enter(Wait::For(Duration::from_secs(10)))
        .expect("enter succeeds");
    ring.reap()
        .expect("an operation completes within ten seconds")
}
