//! The answer to a request for a WebSocket.

use std::borrow::Cow;

use tidewheel_codec::handshake::Accept;

#[cfg(feature = "tasks")]
use crate::later::Later;
use crate::{
    Cookie, Response,
    response::{Field, sendable},
};

/// Headers of the 101 that the server sends itself.
const OWN_HEADERS: [&str; 7] = [
    "Connection",
    "Content-Length",
    "Sec-WebSocket-Accept",
    "Sec-WebSocket-Extensions",
    "Sec-WebSocket-Protocol",
    "Transfer-Encoding",
    "Upgrade",
];

/// The answer to a request for a WebSocket.
///
/// ```
/// use tidewheel::{Response, Verdict};
///
/// let verdict = Verdict::accept("Ada").protocol("chat.v1").header("X-Room", "1");
/// let verdict: Verdict<&str> = Verdict::reject(Response::text(401, "a token is required"));
/// ```
#[derive(Debug)]
pub struct Verdict<S> {
    pub(crate) decision: Decision<S>,
    protocol: Option<String>,
    headers: Vec<Field>,
}

/// Whether a connection opens.
#[derive(Debug)]
pub(crate) enum Decision<S> {
    /// It opens with this state.
    Accept(S),
    /// The client gets this response, and the connection ends.
    Reject(Response),
    /// The verdict is not there yet.
    #[cfg(feature = "tasks")]
    Later(Later<Verdict<S>>),
}

/// The response that opens a connection, without its key.
#[derive(Debug)]
pub(crate) struct Opening {
    protocol: Option<String>,
    headers: Vec<Field>,
}

impl<S> Verdict<S> {
    fn new(decision: Decision<S>) -> Self {
        Self {
            decision,
            protocol: None,
            headers: Vec::new(),
        }
    }

    /// The connection opens with this state: the client gets 101.
    #[must_use]
    pub fn accept(state: S) -> Self {
        Self::new(Decision::Accept(state))
    }

    /// The client gets this response, and the connection ends.
    #[must_use]
    pub fn reject(response: impl Into<Response>) -> Self {
        Self::new(Decision::Reject(response.into()))
    }

    /// A future returns the verdict. It runs on the thread of the shard, like the futures of
    /// [`Link::spawn`](crate::Link::spawn), while other connections are served. Headers and a subprotocol that are added
    /// here are added to its verdict.
    ///
    /// The client gets 503 at the end of [`Config::handshake_timeout`](crate::Config::handshake_timeout), or if the
    /// shard has too many tasks, and 500 if the future panics. The future is dropped when the client goes.
    ///
    /// ```
    /// use tidewheel::{Response, Verdict};
    ///
    /// # async fn find_user(_: Option<String>) -> Option<String> { None }
    /// fn verdict(token: Option<String>) -> Verdict<String> {
    ///     Verdict::later(async move {
    ///         match find_user(token).await {
    ///             Some(user) => Verdict::accept(user),
    ///             None => Verdict::reject(Response::json(401, r#"{"error":"token"}"#)),
    ///         }
    ///     })
    /// }
    /// ```
    #[cfg(feature = "tasks")]
    #[must_use]
    pub fn later(verdict: impl Future<Output = Self> + 'static) -> Self {
        Self::new(Decision::Later(Later::new(verdict)))
    }

    /// Returns whether the verdict is not there yet.
    #[cfg(feature = "tasks")]
    pub(crate) fn is_later(&self) -> bool {
        match &self.decision {
            Decision::Accept(_) => false,
            Decision::Reject(response) => response.is_later(),
            Decision::Later(_) => true,
        }
    }

    /// Waits for the verdict.
    #[cfg(feature = "tasks")]
    pub(crate) async fn resolved(mut self) -> Self {
        while let Decision::Later(later) = self.decision {
            let mut verdict = later.await;
            verdict.headers.append(&mut self.headers);
            verdict.protocol = verdict.protocol.or(self.protocol);
            self = verdict;
        }
        if let Decision::Reject(response) = self.decision {
            self.decision = Decision::Reject(response.resolved().await);
        }
        self
    }

    /// Converts the state of the connection.
    pub(crate) fn map<T: 'static>(self, convert: fn(S) -> T) -> Verdict<T>
    where
        S: 'static,
    {
        Verdict {
            decision: match self.decision {
                Decision::Accept(state) => Decision::Accept(convert(state)),
                Decision::Reject(response) => Decision::Reject(response),
                #[cfg(feature = "tasks")]
                Decision::Later(later) => {
                    Decision::Later(Later::new(async move { later.await.map(convert) }))
                }
            },
            protocol: self.protocol,
            headers: self.headers,
        }
    }

    /// Selects a subprotocol, which must be one of those that the client offers
    /// ([`Request::protocols`](crate::Request::protocols)): with another one, the client gets 500, and an error is
    /// logged. A rejection ignores it.
    #[must_use]
    pub fn protocol(mut self, protocol: impl Into<String>) -> Self {
        self.protocol = Some(protocol.into());
        self
    }

    /// Adds a header to the response.
    ///
    /// Line breaks and NUL in its value are sent as spaces. A header is not sent if its name is not a token, or is one
    /// that the server sends itself.
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

    /// Returns the decision, and the rest of the response that opens the connection.
    pub(crate) fn into_parts(self) -> (Decision<S>, Opening) {
        let Self {
            mut decision,
            protocol,
            mut headers,
        } = self;
        match &mut decision {
            Decision::Accept(_) => {}
            #[cfg(feature = "tasks")]
            Decision::Later(_) => {}
            Decision::Reject(response) => response.extend(std::mem::take(&mut headers)),
        }
        (decision, Opening { protocol, headers })
    }
}

impl Opening {
    /// The selected subprotocol.
    pub(crate) fn protocol(&self) -> Option<&str> {
        self.protocol.as_deref()
    }

    /// Adds the subprotocol and the headers to a response.
    pub(crate) fn add_to<'a>(&'a self, mut accept: Accept<'a>) -> Accept<'a> {
        if let Some(protocol) = &self.protocol {
            accept = accept.with_protocol(protocol);
        }
        sendable(&self.headers, &OWN_HEADERS).fold(accept, |accept, (name, value)| {
            accept.with_header(name, value)
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn headers_of_an_accepted_connection_cannot_change_the_handshake() {
        let (_, opening) = Verdict::accept(())
            .protocol("chat")
            .header("sec-websocket-accept", "x")
            .header("Upgrade", "h2c")
            .header("X-One: 1\r\nX-Two", "x")
            .header("X-Three", "a\r\nb")
            .cookie(&Cookie::new("a", "b"))
            .into_parts();
        let mut out = Vec::new();
        let accept = Accept::new("dGhlIHNhbXBsZSBub25jZQ==");
        opening.add_to(accept).write(&mut out);
        let expected = "HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\n\
             Connection: Upgrade\r\nSec-WebSocket-Accept: s3pPLMBiTxaQ9kYGzzhZRbK+xOo=\r\n\
             Sec-WebSocket-Protocol: chat\r\nX-Three: a  b\r\nSet-Cookie: a=b\r\n\r\n";
        assert_eq!(String::from_utf8(out).as_deref(), Ok(expected));
    }

    #[test]
    fn headers_of_a_verdict_are_also_added_to_a_rejection() {
        let (decision, _) = Verdict::<()>::reject(Response::new(401))
            .header("A", "b")
            .into_parts();
        let Decision::Reject(response) = decision else {
            panic!("the decision is a rejection");
        };
        let (mut out, mut expected) = (Vec::new(), Vec::new());
        response.write(&mut out);
        Response::new(401).header("A", "b").write(&mut expected);
        assert_eq!(out, expected);
    }
}
