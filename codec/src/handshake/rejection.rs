use std::borrow::Cow;
use std::fmt;

use super::header::write_header;
use super::reason::reason_phrase;

/// An HTTP response that refuses a connection.
///
/// ```
/// use tidewheel_codec::handshake::Rejection;
///
/// let mut out = Vec::new();
/// Rejection::new(503, "too many connections").with_header("Retry-After", "5").write(&mut out);
/// assert!(out.starts_with(b"HTTP/1.1 503 Service Unavailable\r\nRetry-After: 5\r\n"));
/// assert!(out.ends_with(b"\r\n\r\ntoo many connections\n"));
/// ```
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Rejection {
    status: u16,
    message: Cow<'static, str>,
    headers: Vec<(Cow<'static, str>, Cow<'static, str>)>,
}

impl Rejection {
    /// Creates a response with an HTTP status from 300 to 599 and a line of text as its body. Another status
    /// would not refuse the connection, and is replaced by 500.
    #[must_use]
    pub fn new(status: u16, message: impl Into<Cow<'static, str>>) -> Self {
        Self {
            status: match status {
                300..=599 => status,
                _ => 500,
            },
            message: message.into(),
            headers: Vec::new(),
        }
    }

    /// Adds a header. Line breaks in its name and value are sent as spaces.
    #[must_use]
    pub fn with_header(
        mut self,
        name: impl Into<Cow<'static, str>>,
        value: impl Into<Cow<'static, str>>,
    ) -> Self {
        self.headers.push((name.into(), value.into()));
        self
    }

    /// Returns the HTTP status.
    #[must_use]
    pub const fn status(&self) -> u16 {
        self.status
    }

    /// Returns the headers in order, without those that [`write`](Self::write) adds.
    pub fn headers(&self) -> impl Iterator<Item = (&str, &str)> {
        self.headers.iter().map(|(name, value)| (&**name, &**value))
    }

    /// Returns the body without its line break.
    #[must_use]
    pub fn message(&self) -> &str {
        &self.message
    }

    /// Appends the response to `out`. Close the connection after it.
    pub fn write(&self, out: &mut Vec<u8>) {
        out.extend_from_slice(
            format!(
                "HTTP/1.1 {} {}\r\n",
                self.status,
                reason_phrase(self.status)
            )
            .as_bytes(),
        );
        for (name, value) in &self.headers {
            write_header(name, value, out);
        }
        if !self.has_header("Content-Type") {
            write_header("Content-Type", "text/plain; charset=utf-8", out);
        }
        write_header("Content-Length", &(self.message.len() + 1).to_string(), out);
        // RFC 9110 7.8: a sender of Upgrade names it in Connection.
        let connection = match self.has_header("Upgrade") {
            true => "upgrade, close",
            false => "close",
        };
        write_header("Connection", connection, out);
        out.extend_from_slice(b"\r\n");
        out.extend_from_slice(self.message.as_bytes());
        out.push(b'\n');
    }

    fn has_header(&self, name: &str) -> bool {
        let mut headers = self.headers.iter();
        headers.any(|(given, _)| given.eq_ignore_ascii_case(name))
    }
}

impl fmt::Display for Rejection {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            formatter,
            "{} {}: {}",
            self.status,
            reason_phrase(self.status),
            self.message
        )
    }
}

impl std::error::Error for Rejection {}
