//! Receivers of text messages: the codec and other implementations.

use std::future::Future;
use std::pin::pin;
use std::task::{Context, Poll, Waker};

use fastwebsockets::{FragmentCollector, OpCode, WebSocket as FastWebSocket};
use futures_core::Stream;
use tidewheel_codec::{Config, Connection, Endpoint, Event, Role, Time};
use tungstenite::protocol::{Role as TungsteniteRole, WebSocket as TungsteniteWebSocket};

use crate::frame_stream::FrameStream;

/// An implementation, with an open connection.
pub trait Receiver {
    fn name(&self) -> &'static str;

    /// Receives at least `messages` text messages. Returns their number and their bytes.
    fn receive(&mut self, messages: usize) -> (usize, usize);
}

/// Returns all receivers.
pub fn all(stream: &FrameStream) -> Vec<Box<dyn Receiver>> {
    vec![
        Box::new(Tidewheel::new(stream.clone())),
        Box::new(Fast::new(stream.clone())),
        Box::new(Tungstenite::new(stream.clone())),
        Box::new(TokioWebsockets::new(stream.clone())),
    ]
}

pub struct Tidewheel {
    endpoint: Endpoint,
    connection: Connection,
    stream: FrameStream,
    buffer: Vec<u8>,
    out: Vec<u8>,
}

impl Tidewheel {
    pub fn new(stream: FrameStream) -> Self {
        Self {
            endpoint: Endpoint::new(Config::new(Role::Server)).expect("the default is valid"),
            connection: Connection::new(Time::from_millis(0), 0),
            buffer: vec![0; stream.bytes().len()],
            stream,
            out: Vec::new(),
        }
    }
}

impl Receiver for Tidewheel {
    fn name(&self) -> &'static str {
        "tidewheel"
    }

    /// Copies the frames first, as the kernel does. The readers of the other implementations copy, too.
    fn receive(&mut self, messages: usize) -> (usize, usize) {
        let (mut count, mut bytes) = (0, 0);
        while count < messages {
            self.buffer.copy_from_slice(self.stream.bytes());
            let mut input = self
                .connection
                .receive(&mut self.buffer, Time::from_millis(1));
            while let Some(event) =
                self.connection
                    .poll_event(&mut self.endpoint, &mut input, &mut self.out)
            {
                if let Event::Message(message) = event {
                    count += 1;
                    bytes += message.as_text().expect("the client sends text").len();
                }
            }
        }
        assert!(self.connection.is_open());
        (count, bytes)
    }
}

struct Fast {
    socket: FragmentCollector<FrameStream>,
}

impl Fast {
    fn new(stream: FrameStream) -> Self {
        let socket = FastWebSocket::after_handshake(stream, fastwebsockets::Role::Server);
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
    socket: TungsteniteWebSocket<FrameStream>,
}

impl Tungstenite {
    fn new(stream: FrameStream) -> Self {
        Self {
            socket: TungsteniteWebSocket::from_raw_socket(stream, TungsteniteRole::Server, None),
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
    socket: tokio_websockets::WebSocketStream<FrameStream>,
}

impl TokioWebsockets {
    fn new(stream: FrameStream) -> Self {
        Self {
            socket: tokio_websockets::ServerBuilder::new().serve(stream),
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
                .expect("the stream is endless")
                .expect("the frames are valid");
            bytes += message.as_text().expect("the client sends text").len();
        }
        (messages, bytes)
    }
}

/// Polls a future until it is ready. The future waits for no event.
fn ready<F: Future>(future: F) -> F::Output {
    let mut future = pin!(future);
    let mut context = Context::from_waker(Waker::noop());
    loop {
        if let Poll::Ready(output) = future.as_mut().poll(&mut context) {
            return output;
        }
    }
}
