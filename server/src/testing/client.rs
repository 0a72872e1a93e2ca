//! A client of a test.

use std::{cell::RefCell, fmt, rc::Rc, time::Duration};

use tidewheel_codec::{CloseCode, Disconnect, handshake::ClientRequest};

use super::{AnyWorld, PATIENCE, clients::TestResponse, run};
use crate::Outgoing;

/// The `Host` of all requests.
const HOST: &str = "test";

/// A request of a client of a [`TestServer`](super::TestServer).
pub struct TestRequest {
    world: Rc<RefCell<dyn AnyWorld>>,
    target: String,
    headers: Vec<(String, String)>,
}

impl TestRequest {
    pub(super) fn new(world: Rc<RefCell<dyn AnyWorld>>, target: &str) -> Self {
        Self {
            world,
            target: target.to_owned(),
            headers: Vec::new(),
        }
    }

    /// Adds a header, such as `Authorization`, `Cookie`, `Origin` or `Sec-WebSocket-Protocol`.
    #[must_use]
    pub fn header(mut self, name: &str, value: &str) -> Self {
        self.headers.push((name.to_owned(), value.to_owned()));
        self
    }

    /// Opens a WebSocket connection.
    ///
    /// # Errors
    /// The response, if the server refuses it.
    ///
    /// # Panics
    /// If the server does not answer.
    pub fn connect(self) -> Result<TestClient, TestResponse> {
        let client = self.begin();
        let Some(result) = client.wait(|peer| match peer.take_response() {
            Some(response) => Some(Err(response)),
            None => peer.opening().map(|_| Ok(())),
        }) else {
            panic!("the server does not answer the request");
        };
        result.map(|()| client)
    }

    /// Sends the request for a WebSocket without waiting for the answer, for which
    /// [`TestClient::expect`] waits.
    #[must_use]
    pub fn begin(self) -> TestClient {
        let index = {
            let mut world = self.world.borrow_mut();
            let clients = world.clients();
            let mut request = ClientRequest::new(HOST, self.target, clients.nonce());
            for (name, value) in self.headers {
                request = match name.eq_ignore_ascii_case("Sec-WebSocket-Protocol") {
                    true => value.split(',').fold(request, |request, protocol| {
                        request.with_protocol(protocol.trim().to_owned())
                    }),
                    false => request.with_header(name, value),
                };
            }
            let mut bytes = Vec::new();
            request.write(&mut bytes);
            clients.connect(&bytes, Some(request))
        };
        TestClient {
            world: self.world,
            index,
        }
    }

    /// Sends an HTTP request with this method and body, and waits for the response.
    ///
    /// # Panics
    /// If the server does not answer.
    #[must_use]
    pub fn send(self, method: &str, body: &str) -> TestResponse {
        let mut request = format!("{method} {} HTTP/1.1\r\nHost: {HOST}\r\n", self.target);
        for (name, value) in &self.headers {
            request += &format!("{name}: {value}\r\n");
        }
        if !body.is_empty() {
            request += &format!("Content-Length: {}\r\n", body.len());
        }
        request += &format!("\r\n{body}");
        let index = self
            .world
            .borrow_mut()
            .clients()
            .connect(request.as_bytes(), None);
        let client = TestClient {
            world: self.world,
            index,
        };
        let response = client.wait(super::clients::Peer::take_response);
        response.unwrap_or_else(|| panic!("the server does not answer {method} {}", self.target))
    }
}

impl fmt::Debug for TestRequest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("TestRequest")
            .field("target", &self.target)
            .field("headers", &self.headers)
            .finish_non_exhaustive()
    }
}

/// A client of a [`TestServer`](super::TestServer).
///
/// It reads and answers everything, also while the test waits for another client. When it is dropped, its connection
/// stays open.
pub struct TestClient {
    world: Rc<RefCell<dyn AnyWorld>>,
    index: usize,
}

impl TestClient {
    /// Runs the server until `done` returns a value. `None` if it does not in time.
    fn wait<T>(&self, mut done: impl FnMut(&mut super::clients::Peer) -> Option<T>) -> Option<T> {
        run(&self.world, PATIENCE, |clients| {
            done(clients.peer(self.index))
        })
    }

    /// Sends a message: strings as text, and bytes as binary.
    ///
    /// # Panics
    /// If the connection is not open.
    pub fn say<'m>(&self, message: impl Into<Outgoing<'m>>) {
        let mut world = self.world.borrow_mut();
        let is_sent = world.clients().say(self.index, &message.into());
        assert!(is_sent, "the connection of the client is not open");
    }

    /// Waits for the next message, and checks that it is this one.
    ///
    /// # Panics
    /// If another message arrives, the connection ends, or nothing arrives.
    #[track_caller]
    pub fn expect<'m>(&self, message: impl Into<Outgoing<'m>>) {
        let expected = message.into();
        let received = self.next();
        assert!(
            received.parts() == expected.parts(),
            "expected {expected:?}, received {received:?}"
        );
    }

    /// Waits for the next message.
    ///
    /// # Panics
    /// If the connection ends, or nothing arrives.
    #[must_use]
    #[track_caller]
    pub fn next(&self) -> Outgoing<'static> {
        let received = self.wait(|peer| match peer.take_message() {
            Some(message) => Some(Ok(message)),
            None => match peer.end() {
                Some(end) => Some(Err(format!("the connection ended: {end:?}"))),
                None => {
                    let refusal = peer.take_response();
                    refusal.map(|response| Err(format!("the server refused: {response:?}")))
                }
            },
        });
        match received {
            Some(Ok(message)) => message,
            Some(Err(why)) => panic!("expected a message, but {why}"),
            None => panic!("expected a message, but none arrived"),
        }
    }

    /// Lets `time` pass, and checks that no message arrives.
    ///
    /// # Panics
    /// If one arrives.
    #[track_caller]
    pub fn expect_nothing(&self, time: Duration) {
        let take = |clients: &mut super::clients::Clients| clients.peer(self.index).take_message();
        if let Some(message) = run(&self.world, time, take) {
            panic!("expected no message, received {message:?}");
        }
    }

    /// Waits for the end of the connection, and checks that the server has sent Close with this code. Returns the
    /// reason. Messages that arrive before it are dropped.
    ///
    /// # Panics
    /// If the connection does not end, or ends in another way.
    #[track_caller]
    pub fn expect_close(&self, code: CloseCode) -> String {
        let end = self.end();
        match &end.received {
            Some(close) if close.code == code => close.reason.to_string(),
            _ => panic!("expected Close {}, got {end:?}", code.0),
        }
    }

    /// Waits for the end of the connection. Messages that arrive before it are dropped.
    ///
    /// # Panics
    /// If it does not end.
    #[track_caller]
    pub fn end(&self) -> Disconnect {
        let end = self.wait(|peer| {
            while peer.take_message().is_some() {}
            peer.end().cloned()
        });
        end.unwrap_or_else(|| panic!("the connection does not end"))
    }

    /// A header of the response that opened the connection.
    #[must_use]
    pub fn header(&self, name: &str) -> Option<String> {
        let mut world = self.world.borrow_mut();
        let opening = world.clients().peer(self.index).opening()?;
        opening.header(name).map(str::to_owned)
    }

    /// Starts the closing handshake.
    ///
    /// # Panics
    /// If the code must not be sent, or the reason is longer than 123 bytes.
    pub fn close(&self, code: CloseCode, reason: &str) {
        let mut world = self.world.borrow_mut();
        world.clients().close(self.index, code, reason);
    }

    /// Cuts the network: nothing reaches the client or comes from it any more, as when a device leaves its WiFi.
    pub fn cut(&self) {
        self.world.borrow_mut().clients().cut(self.index);
    }

    /// Resets the connection (TCP RST).
    pub fn reset(&self) {
        self.world.borrow_mut().clients().reset(self.index);
    }
}

impl fmt::Debug for TestClient {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("TestClient").finish_non_exhaustive()
    }
}
