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

/// A client's request that meets all requirements of RFC 6455 4.2.1.
#[derive(Clone, Debug)]
pub struct Request<'a> {
    path: &'a str,
    query: Option<&'a str>,
    headers: Headers<'a>,
    host: &'a str,
    key: &'a str,
}

impl<'a> Request<'a> {
    /// Parses the request at the start of `bytes`, which are all bytes received so far. Returns the request
    /// and its size in bytes, including its body, or `None` if it is incomplete.
    ///
    /// # Errors
    ///
    /// The response to send, with status 400, 405, 413, 426, 431, 501 or 505.
    pub fn parse(bytes: &'a [u8], limits: &Limits) -> Result<Option<(Self, usize)>, Rejection> {
        let Some((target, headers, size)) = parse_head(bytes, limits)? else {
            return Ok(None);
        };
        if bytes.len() < size {
            return Ok(None);
        }
        let target = Target::parse(target)?;
        let (host, key) = check_headers(&headers)?;
        let request = Self {
            path: target.path,
            query: target.query,
            headers,
            host: target.host.unwrap_or(host),
            key,
        };
        Ok(Some((request, size)))
    }

    /// Returns the size in bytes of the request at the start of `bytes`, including its body, or `None` if
    /// its head is incomplete. The request need not be parsed again before this number of bytes has
    /// arrived.
    ///
    /// # Errors
    ///
    /// Those of [`Request::parse`] that depend on the request line, the size and the body.
    pub fn whole_size(bytes: &[u8], limits: &Limits) -> Result<Option<usize>, Rejection> {
        Ok(parse_head(bytes, limits)?.map(|(_, _, size)| size))
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

    /// Returns the `Sec-WebSocket-Key` header.
    #[must_use]
    pub const fn key(&self) -> &'a str {
        self.key
    }

    /// Returns the response that opens the connection.
    #[must_use]
    pub fn accept(&self) -> Accept<'static> {
        Accept::new(self.key)
    }
}

/// Parses a request head. Returns the target, the headers, and the size in bytes including the body, or
/// `None` if the head is incomplete.
fn parse_head<'a>(
    bytes: &'a [u8],
    limits: &Limits,
) -> Result<Option<(&'a str, Headers<'a>, usize)>, Rejection> {
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
    check_start_line(&request)?;
    let headers = Headers::new(request.headers);
    let size = head_size + body_size(&headers, limits.max_bytes - head_size)?;
    Ok(Some((request.path.unwrap_or_default(), headers, size)))
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

/// Checks the version and the method (RFC 6455 4.2.1 1: "An HTTP/1.1 or higher GET request").
fn check_start_line(request: &httparse::Request<'_, '_>) -> Result<(), Rejection> {
    if request.version != Some(1) {
        return Err(version_not_supported());
    }
    match request.method {
        Some("GET") => Ok(()),
        method => {
            let message = format!(
                "method {} is not allowed; use GET",
                method.unwrap_or_default()
            );
            Err(Rejection::new(405, message).with_header("Allow", "GET"))
        }
    }
}

/// Returns the size of the body in bytes. The body has no meaning for a WebSocket, but precedes the frames.
fn body_size(headers: &Headers<'_>, limit: usize) -> Result<usize, Rejection> {
    if headers.count("Transfer-Encoding") > 0 {
        return Err(Rejection::new(
            501,
            "a transfer coding in an opening handshake is not supported",
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

/// Checks the headers (RFC 6455 4.2.1 2-6). Returns the host and the key.
fn check_headers<'a>(headers: &Headers<'a>) -> Result<(&'a str, &'a str), Rejection> {
    let host = only(headers, "Host")?;
    if !is_authority(host) {
        return Err(Rejection::new(
            400,
            "Host header is neither a host nor a host and a port",
        ));
    }
    if !headers.has_token("Upgrade", "websocket") {
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
    Ok((host, key))
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
