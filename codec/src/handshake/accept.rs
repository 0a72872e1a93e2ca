use std::borrow::Cow;

use super::header::write_header;
use super::{ACCEPT_SIZE, accept_key};

/// A response that opens a connection: 101 Switching Protocols (RFC 6455 4.2.2).
#[derive(Clone, Debug)]
pub struct Accept<'a> {
    accept: [u8; ACCEPT_SIZE],
    protocol: Option<Cow<'a, str>>,
    extensions: Option<Cow<'a, str>>,
    headers: Vec<(Cow<'a, str>, Cow<'a, str>)>,
}

impl<'a> Accept<'a> {
    /// Creates the response to a request whose `Sec-WebSocket-Key` is `key`.
    #[must_use]
    pub fn new(key: &str) -> Self {
        Self {
            accept: accept_key(key),
            protocol: None,
            extensions: None,
            headers: Vec::new(),
        }
    }

    /// Chooses a subprotocol. A client fails the connection if it did not request that subprotocol.
    #[must_use]
    pub fn with_protocol(mut self, protocol: impl Into<Cow<'a, str>>) -> Self {
        self.protocol = Some(protocol.into());
        self
    }

    /// Chooses extensions. `extensions` is the complete value of `Sec-WebSocket-Extensions`.
    #[must_use]
    pub fn with_extensions(mut self, extensions: impl Into<Cow<'a, str>>) -> Self {
        self.extensions = Some(extensions.into());
        self
    }

    /// Adds a header. Line breaks in its name and value are sent as spaces.
    #[must_use]
    pub fn with_header(
        mut self,
        name: impl Into<Cow<'a, str>>,
        value: impl Into<Cow<'a, str>>,
    ) -> Self {
        self.headers.push((name.into(), value.into()));
        self
    }

    /// Returns the chosen subprotocol.
    #[must_use]
    pub fn protocol(&self) -> Option<&str> {
        self.protocol.as_deref()
    }

    /// Appends the response to `out`. Frames may follow it at once.
    pub fn write(&self, out: &mut Vec<u8>) {
        out.extend_from_slice(
            b"HTTP/1.1 101 Switching Protocols\r\n\
              Upgrade: websocket\r\n\
              Connection: Upgrade\r\n\
              Sec-WebSocket-Accept: ",
        );
        out.extend_from_slice(&self.accept);
        out.extend_from_slice(b"\r\n");
        if let Some(protocol) = &self.protocol {
            write_header("Sec-WebSocket-Protocol", protocol, out);
        }
        if let Some(extensions) = &self.extensions {
            write_header("Sec-WebSocket-Extensions", extensions, out);
        }
        for (name, value) in &self.headers {
            write_header(name, value, out);
        }
        out.extend_from_slice(b"\r\n");
    }
}
