//! Servers' halves that receive text messages: ours and the peers'.

use std::future::Future;
use std::pin::pin;
use std::task::{Context, Poll, Waker};

use fastwebsockets::{FragmentCollector, OpCode, WebSocket as FastWebSocket};
use futures_core::Stream;
use tidewheel_codec::{Config, Connection, Endpoint, Event, Role, Time};
use tungstenite::protocol::{Role as TungsteniteRole, WebSocket as TungsteniteWebSocket};

use crate::wire::Wire;

/// One candidate, with a connection that is open.
pub trait Receiver {
    fn name(&self) -> &'static str;

    /// Receives `messages` text messages at least, and gives their number and bytes.
    fn receive(&mut self, messages: usize) -> (usize, usize);
}

/// All of them.
pub fn all(wire: &Wire) -> Vec<Box<dyn Receiver>> {
    vec![
        Box::new(Tidewheel::new(wire.clone())),
        Box::new(Fast::new(wire.clone())),
        Box::new(Tungstenite::new(wire.clone())),
        Box::new(TokioWebsockets::new(wire.clone())),
    ]
}

pub struct Tidewheel {
    endpoint: Endpoint,
    connection: Connection,
    wire: Wire,
    buffer: Vec<u8>,
    out: Vec<u8>,
}

impl Tidewheel {
    pub fn new(wire: Wire) -> Self {
        Self {
            endpoint: Endpoint::new(Config::new(Role::Server)).expect("the default is valid"),
            connection: Connection::new(Time::from_millis(0), 0),
            buffer: vec![0; wire.bytes().len()],
            wire,
            out: Vec::new(),
        }
    }
}

impl Receiver for Tidewheel {
    fn name(&self) -> &'static str {
        "tidewheel"
    }

    /// The copy stands for the kernel's: the peers' readers have it, too.
    fn receive(&mut self, messages: usize) -> (usize, usize) {
        let (mut count, mut bytes) = (0, 0);
        while count < messages {
            self.buffer.copy_from_slice(self.wire.bytes());
            let mut input = self
                .connection
                .receive(&mut self.buffer, Time::from_millis(1));
            while let Some(event) =
                self.connection
                    .poll_event(&mut self.endpoint, &mut input, &mut self.out)
            {
                if let Event::Message(message) = event {
                    count += 1;
                    bytes += message.as_text().expect("text was sent").len();
                }
            }
        }
        assert!(self.connection.is_open());
        (count, bytes)
    }
}

struct Fast {
    socket: FragmentCollector<Wire>,
}

impl Fast {
    fn new(wire: Wire) -> Self {
        let socket = FastWebSocket::after_handshake(wire, fastwebsockets::Role::Server);
        Self {
            socket: FragmentCollector::new(socket),
        }
    }
}

impl Receiver for Fast {
    fn name(&self) -> &'static str {
        "fastwebsockets"
    }

    fn receive(&mut self, messages: usize) -> (usize, usize) {
        let mut bytes = 0;
        for _ in 0..messages {
            let frame = ready(self.socket.read_frame()).expect("the frames are valid");
            assert!(frame.opcode == OpCode::Text);
            bytes += frame.payload.len();
        }
        (messages, bytes)
    }
}

struct Tungstenite {
    socket: TungsteniteWebSocket<Wire>,
}

impl Tungstenite {
    fn new(wire: Wire) -> Self {
        Self {
            socket: TungsteniteWebSocket::from_raw_socket(wire, TungsteniteRole::Server, None),
        }
    }
}

impl Receiver for Tungstenite {
    fn name(&self) -> &'static str {
        "tungstenite"
    }

    fn receive(&mut self, messages: usize) -> (usize, usize) {
        let mut bytes = 0;
        for _ in 0..messages {
            let message = self.socket.read().expect("the frames are valid");
            assert!(message.is_text());
            bytes += message.len();
        }
        (messages, bytes)
    }
}

struct TokioWebsockets {
    socket: tokio_websockets::WebSocketStream<Wire>,
}

impl TokioWebsockets {
    fn new(wire: Wire) -> Self {
        Self {
            socket: tokio_websockets::ServerBuilder::new().serve(wire),
        }
    }
}

impl Receiver for TokioWebsockets {
    fn name(&self) -> &'static str {
        "tokio-websockets"
    }

    fn receive(&mut self, messages: usize) -> (usize, usize) {
        let mut bytes = 0;
        for _ in 0..messages {
            let next = std::future::poll_fn(|context| pin!(&mut self.socket).poll_next(context));
            let message = ready(next)
                .expect("the wire is endless")
                .expect("the frames are valid");
            bytes += message.as_text().expect("text was sent").len();
        }
        (messages, bytes)
    }
}

/// The output of a future that waits for nothing but its turn.
fn ready<F: Future>(future: F) -> F::Output {
    let mut future = pin!(future);
    let mut context = Context::from_waker(Waker::noop());
    loop {
        if let Poll::Ready(output) = future.as_mut().poll(&mut context) {
            return output;
        }
    }
}
