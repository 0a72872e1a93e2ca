//! An answer to a request, other than a WebSocket.

use std::borrow::Cow;

use bytes::Bytes;
use tidewheel_codec::handshake::{Rejection, is_token, reason_phrase, write_header};

#[cfg(feature = "tasks")]
use crate::later::Later;
use crate::{Cookie, Request};

/// Headers that the server sends itself.
const OWN_HEADERS: [&str; 3] = ["Connection", "Content-Length", "Transfer-Encoding"];

/// An HTTP response.
///
/// The connection ends after it: the server sends `Connection: close`, and the client has
/// [`Config::close_timeout`](crate::Config::close_timeout) to take the response. So responses should be small.
///
/// ```
/// use tidewheel::Response;
///
/// let response = Response::json(429, r#"{"error":"too many requests"}"#).header("Retry-After", "5");
/// assert_eq!(response.status(), 429);
/// ```
#[derive(Debug)]
pub struct Response {
    status: u16,
    headers: Vec<Field>,
    body: Bytes,
    /// The response, if it is not there yet. The other fields are then those of the builder.
    #[cfg(feature = "tasks")]
    later: Option<Later<Self>>,
    /// Whether the request has the method HEAD, so that the body is not sent.
    is_for_head: bool,
}

/// The name and the value of a header.
pub(crate) type Field = (Cow<'static, str>, Cow<'static, str>);

impl Response {
    /// A response without a body. A status that is not from 200 to 599 is replaced by 500.
    #[must_use]
    pub fn new(status: u16) -> Self {
        Self {
            status: match status {
                200..=599 => status,
                _ => 500,
            },
            headers: Vec::new(),
            body: Bytes::new(),
            #[cfg(feature = "tasks")]
            later: None,
            is_for_head: false,
        }
    }

    /// A response that a future returns, which runs on the thread of the shard like the futures of
    /// [`Link::spawn`](crate::Link::spawn). Headers that are added to it are added to the response of the future.
    ///
    /// The client gets 503 at the end of [`Config::handshake_timeout`](crate::Config::handshake_timeout), or if the
    /// shard has too many tasks, and 500 if the future panics. The future is dropped when the client goes.
    #[cfg(feature = "tasks")]
    #[must_use]
    pub fn later(response: impl Future<Output = Self> + 'static) -> Self {
        Self {
            later: Some(Later::new(response)),
            ..Self::new(200)
        }
    }

    /// A response with plain text.
    #[must_use]
    pub fn text(status: u16, text: impl Into<String>) -> Self {
        Self::typed(status, "text/plain; charset=utf-8", text.into())
    }

    /// A response with an HTML page. Escape everything in it that comes from a client.
    #[must_use]
    pub fn html(status: u16, page: impl Into<String>) -> Self {
        Self::typed(status, "text/html; charset=utf-8", page.into())
    }

    /// A response with JSON text.
    #[must_use]
    pub fn json(status: u16, json: impl Into<String>) -> Self {
        Self::typed(status, "application/json", json.into())
    }

    fn typed(status: u16, content_type: &'static str, body: String) -> Self {
        let response = Self::new(status).body(body);
        response.header("Content-Type", content_type)
    }

    /// Adds a header.
    ///
    /// Line breaks and NUL in its value are sent as spaces. A header is not sent if its name is not a token (RFC 9110
    /// 5.6.2), or is `Connection`, `Content-Length` or `Transfer-Encoding`, which the server sends itself.
    #[must_use]
    pub fn header(
        mut self,
        name: impl Into<Cow<'static, str>>,
        value: impl Into<Cow<'static, str>>,
    ) -> Self {
        self.headers.push((name.into(), value.into()));
        self
    }

    /// Sets a cookie.
    #[must_use]
    pub fn cookie(self, cookie: &Cookie) -> Self {
        self.header("Set-Cookie", cookie.to_string())
    }

    /// Replaces the body. A response with status 204, 205 or 304 has none (RFC 9110 6.4.1).
    #[must_use]
    pub fn body(mut self, body: impl Into<Bytes>) -> Self {
        self.body = body.into();
        self
    }

    /// The status, from 200 to 599.
    #[must_use]
    pub fn status(&self) -> u16 {
        self.status
    }

    /// The answer to a request that should be one for a WebSocket.
    pub(crate) fn upgrade_required(request: &Request<'_>) -> Self {
        match request.parsed().upgrade() {
            Ok(_) => Self::new(426),
            Err(rejection) => rejection.into(),
        }
    }

    /// The answer to a request whose callback has panicked, or has returned an impossible answer.
    pub(crate) fn internal_server_error() -> Self {
        Self::text(500, "internal server error\n")
    }

    /// The answer to a request that cannot be served at the moment.
    pub(crate) fn busy(why: &str) -> Self {
        Self::text(503, format!("{why}\n")).header("Retry-After", "1")
    }

    /// The response to this request: without a body if its method is HEAD.
    pub(crate) fn to(self, request: &Request<'_>) -> Self {
        self.for_head(request.method() == "HEAD")
    }

    /// The response without its body, if `is_for_head`.
    pub(crate) fn for_head(mut self, is_for_head: bool) -> Self {
        self.is_for_head = is_for_head;
        self
    }

    /// Returns whether the response is not there yet.
    #[cfg(feature = "tasks")]
    pub(crate) fn is_later(&self) -> bool {
        self.later.is_some()
    }

    /// Waits for the response.
    #[cfg(feature = "tasks")]
    pub(crate) async fn resolved(mut self) -> Self {
        while let Some(later) = self.later.take() {
            let mut response = later.await;
            response.headers.append(&mut self.headers);
            self = response;
        }
        self
    }

    /// Adds headers.
    pub(crate) fn extend(&mut self, headers: Vec<Field>) {
        self.headers.extend(headers);
    }

    /// Appends the response to `out`.
    pub(crate) fn write(&self, out: &mut Vec<u8>) {
        let status = self.status;
        out.extend_from_slice(
            format!("HTTP/1.1 {status} {}\r\n", reason_phrase(status)).as_bytes(),
        );
        write_fields(&self.headers, &OWN_HEADERS, out);
        let has_body = !matches!(status, 204 | 205 | 304);
        if has_body {
            write_header("Content-Length", &self.body.len().to_string(), out);
        }
        // RFC 9110 7.8: a sender of Upgrade names it in Connection.
        let mut names = self.headers.iter().map(|(name, _)| name);
        let connection = match names.any(|name| name.eq_ignore_ascii_case("Upgrade")) {
            true => "upgrade, close",
            false => "close",
        };
        write_header("Connection", connection, out);
        out.extend_from_slice(b"\r\n");
        if has_body && !self.is_for_head {
            out.extend_from_slice(&self.body);
        }
    }
}

/// Appends headers of the application, without those in `own`.
fn write_fields(fields: &[Field], own: &[&str], out: &mut Vec<u8>) {
    for (name, value) in sendable(fields, own) {
        write_header(name, value, out);
    }
}

/// Returns the headers of the application that can be sent: their names are tokens, and not in `own`.
pub(crate) fn sendable<'f>(
    fields: &'f [Field],
    own: &[&str],
) -> impl Iterator<Item = (&'f str, &'f str)> {
    let is_sendable = |(name, _): &&Field| {
        let is_own = own.iter().any(|own| name.eq_ignore_ascii_case(own));
        if !is_token(name) {
            tracing::error!(
                target: "tidewheel::handshake",
                name = %name.escape_debug(),
                "a header of the handler is not sent, because its name is not a token"
            );
        }
        is_token(name) && !is_own
    };
    let sendable = fields.iter().filter(is_sendable);
    sendable.map(|(name, value)| (&**name, &**value))
}

impl From<Rejection> for Response {
    fn from(rejection: Rejection) -> Self {
        let response = Self::text(rejection.status(), format!("{}\n", rejection.message()));
        let headers = rejection.headers();
        headers.fold(response, |response, (name, value)| {
            response.header(name.to_owned(), value.to_owned())
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::request::tests::with_request;

    fn written(response: &Response) -> String {
        let mut out = Vec::new();
        response.write(&mut out);
        String::from_utf8(out).expect("the response is UTF-8")
    }

    #[test]
    fn a_response_has_its_length_and_ends_the_connection() {
        let response = Response::json(201, "{}")
            .header("X-One", "1")
            .cookie(&Cookie::new("a", "b"));
        let expected = "HTTP/1.1 201 Created\r\nContent-Type: application/json\r\nX-One: 1\r\n\
             Set-Cookie: a=b\r\nContent-Length: 2\r\nConnection: close\r\n\r\n{}";
        assert_eq!(written(&response), expected);
        let response = Response::new(599);
        let expected = "HTTP/1.1 599 \r\nContent-Length: 0\r\nConnection: close\r\n\r\n";
        assert_eq!(written(&response), expected);
    }

    /// RFC 9110 9.3.2.
    #[test]
    fn the_response_to_head_has_the_length_of_the_body_without_the_body() {
        let response = with_request("HEAD /", "", |it| Response::text(200, "hello").to(it));
        let text = written(&response);
        assert!(text.contains("\r\nContent-Length: 5\r\n"), "{text}");
        assert!(text.ends_with("\r\n\r\n"), "{text}");
    }

    /// RFC 9110 6.4.1 and 8.6.
    #[test]
    fn a_status_without_content_has_neither_body_nor_length() {
        for status in [204, 205, 304] {
            let text = written(&Response::text(status, "hello"));
            assert!(text.ends_with("\r\n\r\n"), "{text}");
            assert!(!text.contains("Content-Length"), "{text}");
        }
    }

    #[test]
    fn a_status_out_of_range_is_replaced_by_500() {
        for status in [0, 100, 101, 199, 600, u16::MAX] {
            assert_eq!(Response::new(status).status(), 500, "{status}");
        }
        for status in [200, 301, 404, 599] {
            assert_eq!(Response::new(status).status(), status);
        }
    }

    #[test]
    fn no_header_of_the_application_adds_a_line_or_changes_the_length() {
        let evil = "a\r\nSet-Cookie: evil\n\r\n\0x";
        let mut response = Response::text(200, "hello").header("X-One", evil);
        for name in [
            evil,
            "content-length",
            "Content-Length ",
            "Transfer-Encoding",
            "Connection",
            "",
            "a:b",
        ] {
            response = response.header(name, "7");
        }
        let expected = "HTTP/1.1 200 OK\r\nContent-Type: text/plain; charset=utf-8\r\n\
             X-One: a  Set-Cookie: evil    x\r\nContent-Length: 5\r\nConnection: close\r\n\r\nhello";
        assert_eq!(written(&response), expected);
    }

    #[test]
    fn a_rejection_keeps_its_status_text_and_headers() {
        let rejection = Rejection::new(426, "no").with_header("Upgrade", "websocket");
        let text = written(&rejection.into());
        let expected = "HTTP/1.1 426 Upgrade Required\r\nContent-Type: text/plain; charset=utf-8\r\n\
             Upgrade: websocket\r\nContent-Length: 3\r\nConnection: upgrade, close\r\n\r\nno\n";
        assert_eq!(text, expected);
    }
}
