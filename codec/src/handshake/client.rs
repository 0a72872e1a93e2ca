use std::borrow::Cow;

use base64::Engine as _;

use super::header::write_header;
use super::{BASE64, VERSION};

/// A client's request for a connection (RFC 6455 4.1).
///
/// ```
/// use tidewheel_codec::handshake::{ClientRequest, Limits, Request};
///
/// let mut bytes = Vec::new();
/// ClientRequest::new("example.com", "/chat?room=1", *b"the sample nonce")
///     .with_protocol("superchat")
///     .write(&mut bytes);
/// let (request, size) = Request::parse(&bytes, &Limits::default()).unwrap().unwrap();
/// assert_eq!((request.path(), request.query()), ("/chat", Some("room=1")));
/// assert!(request.upgrade().is_ok());
/// assert_eq!(size, bytes.len());
/// ```
#[derive(Clone, Debug)]
pub struct ClientRequest<'a> {
    host: Cow<'a, str>,
    target: Cow<'a, str>,
    key: String,
    origin: Option<Cow<'a, str>>,
    protocols: Vec<Cow<'a, str>>,
    extensions: Vec<Cow<'a, str>>,
    headers: Vec<(Cow<'a, str>, Cow<'a, str>)>,
}

impl<'a> ClientRequest<'a> {
    /// Creates a request to `host` for `target`, which is a path with an optional query. `nonce` must be
    /// random: use [`Endpoint::handshake_nonce`](crate::Endpoint::handshake_nonce).
    #[must_use]
    pub fn new(
        host: impl Into<Cow<'a, str>>,
        target: impl Into<Cow<'a, str>>,
        nonce: [u8; 16],
    ) -> Self {
        Self {
            host: host.into(),
            target: target.into(),
            key: BASE64.encode(nonce),
            origin: None,
            protocols: Vec::new(),
            extensions: Vec::new(),
            headers: Vec::new(),
        }
    }

    /// Sets the `Origin` header.
    #[must_use]
    pub fn with_origin(mut self, origin: impl Into<Cow<'a, str>>) -> Self {
        self.origin = Some(origin.into());
        self
    }

    /// Requests a subprotocol. Call it in the order of preference.
    #[must_use]
    pub fn with_protocol(mut self, protocol: impl Into<Cow<'a, str>>) -> Self {
        self.protocols.push(protocol.into());
        self
    }

    /// Offers an extension with its parameters. Call it in the order of preference.
    #[must_use]
    pub fn with_extension(mut self, extension: impl Into<Cow<'a, str>>) -> Self {
        self.extensions.push(extension.into());
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

    /// Returns the `Sec-WebSocket-Key`.
    #[must_use]
    pub fn key(&self) -> &str {
        &self.key
    }

    /// Returns the requested subprotocols in order.
    pub fn protocols(&self) -> impl Iterator<Item = &str> {
        self.protocols.iter().map(AsRef::as_ref)
    }

    /// Returns the offered extensions with their parameters in order.
    pub fn extensions(&self) -> impl Iterator<Item = &str> {
        self.extensions.iter().map(AsRef::as_ref)
    }

    /// Appends the request to `out`. Spaces and control characters in the target are sent as `_`.
    pub fn write(&self, out: &mut Vec<u8>) {
        let on_one_line = |byte: u8| if byte.is_ascii_graphic() { byte } else { b'_' };
        out.extend_from_slice(b"GET ");
        out.extend(self.target.bytes().map(on_one_line));
        out.extend_from_slice(b" HTTP/1.1\r\n");
        write_header("Host", &self.host, out);
        out.extend_from_slice(b"Upgrade: websocket\r\nConnection: Upgrade\r\n");
        write_header("Sec-WebSocket-Key", &self.key, out);
        write_header("Sec-WebSocket-Version", VERSION, out);
        if let Some(origin) = &self.origin {
            write_header("Origin", origin, out);
        }
        if !self.protocols.is_empty() {
            write_header("Sec-WebSocket-Protocol", &self.protocols.join(", "), out);
        }
        if !self.extensions.is_empty() {
            write_header("Sec-WebSocket-Extensions", &self.extensions.join(", "), out);
        }
        for (name, value) in &self.headers {
            write_header(name, value, out);
        }
        out.extend_from_slice(b"\r\n");
    }
}
