use std::mem::MaybeUninit;

use base64::{
    Engine as _, alphabet,
    engine::general_purpose::{GeneralPurpose, GeneralPurposeConfig},
};

use super::accept::Accept;
use super::header::{Header, Headers, is_token};
use super::rejection::Rejection;
use super::target::{Target, is_authority};
use super::{HEADERS_MAX, Limits, VERSION};

/// Base64 whose unused last bits may have any value, as in the example of a key in RFC 6455 4.1.
const KEY_BASE64: GeneralPurpose = GeneralPurpose::new(
    &alphabet::STANDARD,
    GeneralPurposeConfig::new().with_decode_allow_trailing_bits(true),
);

/// A client's HTTP/1.1 request with the method GET, HEAD or POST.
///
/// [`Request::upgrade`] checks whether it opens a WebSocket.
#[derive(Clone, Debug)]
pub struct Request<'a> {
    method: &'a str,
    path: &'a str,
    query: Option<&'a str>,
    host: &'a str,
    headers: Headers<'a>,
    body: &'a [u8],
}

impl<'a> Request<'a> {
    /// Parses the request at the start of `bytes`, which are all bytes received so far. Returns the request
    /// and its size in bytes, including its body, or `None` if it is incomplete.
    ///
    /// # Errors
    ///
    /// The response to send, with status 400, 405, 413, 431, 501 or 505.
    pub fn parse(bytes: &'a [u8], limits: &Limits) -> Result<Option<(Self, usize)>, Rejection> {
        let parsed = Self::parse_head(bytes, limits)?;
        Ok(parsed.filter(|(_, size)| bytes.len() >= *size))
    }

    /// Like [`Request::parse`], and also returns a request whose body is incomplete:
    /// [`body`](Self::body) is then the part of it that has arrived. The request need not be parsed again
    /// before the returned number of bytes has arrived.
    ///
    /// # Errors
    ///
    /// As [`Request::parse`].
    pub fn parse_head(
        bytes: &'a [u8],
        limits: &Limits,
    ) -> Result<Option<(Self, usize)>, Rejection> {
        let mut headers = [const { MaybeUninit::uninit() }; HEADERS_MAX];
        let mut request = httparse::Request::new(&mut []);
        let mut parser = httparse::ParserConfig::default();
        parser.allow_multiple_spaces_in_request_line_delimiters(false);
        let head_size =
            match parser.parse_request_with_uninit_headers(&mut request, bytes, &mut headers) {
                Ok(httparse::Status::Complete(size)) => size,
                Ok(httparse::Status::Partial) if bytes.len() >= limits.max_bytes => {
                    return Err(too_large(limits));
                }
                Ok(httparse::Status::Partial) => return Ok(None),
                Err(httparse::Error::TooManyHeaders) => return Err(too_many_headers(limits)),
                Err(httparse::Error::Version) => return Err(version_not_supported()),
                Err(error) => {
                    return Err(Rejection::new(400, format!("malformed request: {error}")));
                }
            };
        if head_size > limits.max_bytes {
            return Err(too_large(limits));
        }
        if request.headers.len() > limits.max_headers {
            return Err(too_many_headers(limits));
        }
        if request.version != Some(1) {
            return Err(version_not_supported());
        }
        let headers = Headers::new(request.headers);
        let method = request.method.unwrap_or_default();
        match method {
            "GET" => {}
            "HEAD" | "POST" if !asks_for_websocket(&headers) => {}
            _ if asks_for_websocket(&headers) => return Err(method_not_allowed(method, "GET")),
            _ => return Err(method_not_allowed(method, "GET, HEAD, POST")),
        }
        let size = head_size + body_size(&headers, limits.max_bytes - head_size)?;
        let target = Target::parse(request.path.unwrap_or_default())?;
        let host = only(&headers, "Host")?;
        if !is_authority(host) {
            return Err(Rejection::new(
                400,
                "Host header is neither a host nor a host and a port",
            ));
        }
        let request = Self {
            method,
            path: target.path,
            query: target.query,
            host: target.host.unwrap_or(host),
            headers,
            body: &bytes[head_size..size.min(bytes.len())],
        };
        Ok(Some((request, size)))
    }

    /// Returns whether the request asks for a WebSocket: whether it has `Upgrade: websocket`. Its method is
    /// then GET.
    #[must_use]
    pub fn asks_for_websocket(&self) -> bool {
        asks_for_websocket(&self.headers)
    }

    /// Checks the requirements of RFC 6455 4.2.1. Returns the response that opens the connection.
    ///
    /// # Errors
    ///
    /// The response to send, with status 400 or 426.
    pub fn upgrade(&self) -> Result<Accept<'static>, Rejection> {
        check_upgrade(&self.headers).map(Accept::new)
    }

    /// Returns whether the client waits for 100 Continue before it sends the body (RFC 9110 10.1.1).
    #[must_use]
    pub fn expects_continue(&self) -> bool {
        self.headers.has_token("Expect", "100-continue")
    }

    /// Returns the method: `GET`, `HEAD` or `POST`.
    #[must_use]
    pub const fn method(&self) -> &'a str {
        self.method
    }

    /// Returns the body. It is empty if the request has none.
    #[must_use]
    pub const fn body(&self) -> &'a [u8] {
        self.body
    }

    /// Returns the path of the target. It starts with `/`, and percent-encoding is not decoded.
    #[must_use]
    pub const fn path(&self) -> &'a str {
        self.path
    }

    /// Returns the query: the target after the first `?`, not decoded.
    #[must_use]
    pub const fn query(&self) -> Option<&'a str> {
        self.query
    }

    /// Returns the requested host, with its port if given: the host of the target if that is an absolute
    /// URI (RFC 9112 3.2.2), else the value of the `Host` header.
    #[must_use]
    pub const fn host(&self) -> &'a str {
        self.host
    }

    /// Returns the `Origin` header, which browsers always send (RFC 6455 10.2).
    #[must_use]
    pub fn origin(&self) -> Option<&'a str> {
        self.header("Origin")
    }

    /// Returns the requested subprotocols in the client's order of preference.
    pub fn protocols(&self) -> impl Iterator<Item = &'a str> + '_ {
        self.headers.tokens("Sec-WebSocket-Protocol")
    }

    /// Returns the client's first choice among the `supported` subprotocols.
    pub fn choose_protocol(&self, supported: &[&str]) -> Option<&'a str> {
        self.protocols()
            .find(|protocol| supported.contains(protocol))
    }

    /// Returns the values of the `Sec-WebSocket-Extensions` headers. Each is a list of offers.
    pub fn extensions(&self) -> impl Iterator<Item = &'a str> + '_ {
        self.headers
            .all("Sec-WebSocket-Extensions")
            .filter_map(|value| std::str::from_utf8(value).ok())
    }

    /// Returns the first value of header `name` that is valid UTF-8. Names are compared without case.
    #[must_use]
    pub fn header(&self, name: &str) -> Option<&'a str> {
        self.headers.text(name)
    }

    /// Returns all headers in order.
    pub fn headers(&self) -> impl Iterator<Item = Header<'a>> + '_ {
        self.headers.iter()
    }
}

fn too_large(limits: &Limits) -> Rejection {
    Rejection::new(
        431,
        format!(
            "request head is too large; limit is {} bytes",
            limits.max_bytes
        ),
    )
}

fn too_many_headers(limits: &Limits) -> Rejection {
    let limit = limits.max_headers.min(HEADERS_MAX);
    Rejection::new(431, format!("too many request headers; limit is {limit}"))
}

fn version_not_supported() -> Rejection {
    Rejection::new(505, "HTTP version is not supported; use HTTP/1.1")
}

fn method_not_allowed(method: &str, allowed: &'static str) -> Rejection {
    let message = format!("method {method} is not allowed; use {allowed}");
    Rejection::new(405, message).with_header("Allow", allowed)
}

fn asks_for_websocket(headers: &Headers<'_>) -> bool {
    headers.has_token("Upgrade", "websocket")
}

/// Returns the size of the body in bytes (RFC 9112 6.3). The body of a request for a WebSocket has no meaning,
/// but precedes the frames.
fn body_size(headers: &Headers<'_>, limit: usize) -> Result<usize, Rejection> {
    if headers.count("Transfer-Encoding") > 0 {
        return Err(Rejection::new(
            501,
            "Transfer-Encoding is not supported; send Content-Length",
        ));
    }
    let mut sizes = headers.all("Content-Length");
    let Some(size) = sizes.next() else {
        return Ok(0);
    };
    if sizes.any(|other| other != size) {
        return Err(Rejection::new(
            400,
            "Content-Length headers contradict each other",
        ));
    }
    let is_number = !size.is_empty() && size.iter().all(u8::is_ascii_digit);
    let size = std::str::from_utf8(size).unwrap_or_default();
    match size.parse::<usize>() {
        Ok(size) if is_number && size <= limit => Ok(size),
        // A number that does not fit into usize exceeds every limit.
        Ok(_) | Err(_) if is_number => Err(Rejection::new(
            413,
            format!("request body is {size} bytes; limit is {limit}"),
        )),
        Ok(_) | Err(_) => Err(Rejection::new(400, "Content-Length is not a number")),
    }
}

/// Checks the headers (RFC 6455 4.2.1 3-6). Returns the key.
fn check_upgrade<'a>(headers: &Headers<'a>) -> Result<&'a str, Rejection> {
    if !asks_for_websocket(headers) {
        return Err(Rejection::new(
            426,
            "this is a WebSocket server; Upgrade: websocket is missing",
        )
        .with_header("Upgrade", "websocket"));
    }
    if !headers.has_token("Connection", "Upgrade") {
        return Err(Rejection::new(
            400,
            "Connection: Upgrade is missing; a proxy may have removed it",
        ));
    }
    if headers.count("Sec-WebSocket-Version") == 0 {
        return Err(Rejection::new(400, "Sec-WebSocket-Version: 13 is missing"));
    }
    let version = only(headers, "Sec-WebSocket-Version")?;
    if version != VERSION {
        let message = format!("WebSocket version {version} is not supported; use 13");
        return Err(Rejection::new(426, message)
            .with_header("Upgrade", "websocket")
            .with_header("Sec-WebSocket-Version", VERSION));
    }
    if headers.count("Origin") > 1 {
        return Err(Rejection::new(400, "Origin header is repeated"));
    }
    if headers.count("Origin") == 1 && headers.text("Origin").is_none() {
        return Err(Rejection::new(400, "Origin header is not text"));
    }
    let key = only(headers, "Sec-WebSocket-Key")?;
    if KEY_BASE64.decode(key).map_or(0, |nonce| nonce.len()) != 16 {
        return Err(Rejection::new(
            400,
            "Sec-WebSocket-Key is not 16 bytes in base64",
        ));
    }
    if !headers.tokens("Sec-WebSocket-Protocol").all(is_token) {
        return Err(Rejection::new(
            400,
            "Sec-WebSocket-Protocol is not a list of tokens",
        ));
    }
    Ok(key)
}

/// Returns the value of a header that must be present once.
fn only<'a>(headers: &Headers<'a>, name: &'static str) -> Result<&'a str, Rejection> {
    let mut values = headers.all(name);
    match (values.next(), values.next()) {
        (Some(value), None) => std::str::from_utf8(value)
            .map_err(|_| Rejection::new(400, format!("{name} header is not text"))),
        (None, _) => Err(Rejection::new(400, format!("{name} header is missing"))),
        (Some(_), Some(_)) => Err(Rejection::new(400, format!("{name} header is repeated"))),
    }
}
