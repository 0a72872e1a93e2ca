use std::mem::MaybeUninit;

use super::client::ClientRequest;
use super::header::{Header, Headers};
use super::{HEADERS_MAX, Limits, accept_key};

/// A server's response that opens the connection (RFC 6455 4.1, the client's requirements).
#[derive(Clone, Debug)]
pub struct Response<'a> {
    headers: Headers<'a>,
    protocol: Option<&'a str>,
}

/// Why a connection was not opened.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum Refusal {
    /// The response is not HTTP.
    #[error("malformed response: {0}")]
    Malformed(httparse::Error),
    /// The head of the response is above the limits.
    #[error("response head is too large; limits are {max_bytes} bytes and {max_headers} headers")]
    TooLarge {
        /// [`Limits::max_bytes`].
        max_bytes: usize,
        /// [`Limits::max_headers`].
        max_headers: usize,
    },
    /// The server answered in HTTP: redirected, asked for credentials, or refused.
    #[error("status is {got}; 101 opens a connection")]
    Status {
        /// The status.
        got: u16,
    },
    /// `Upgrade` is not `websocket`.
    #[error("Upgrade: websocket is missing")]
    Upgrade,
    /// `Connection` has no `Upgrade`.
    #[error("Connection: Upgrade is missing")]
    Connection,
    /// `Sec-WebSocket-Accept` does not answer our key.
    #[error("Sec-WebSocket-Accept does not answer the key")]
    Accept,
    /// A subprotocol that was not asked for.
    #[error("subprotocol {got:?} was not asked for")]
    Protocol {
        /// The subprotocol.
        got: String,
    },
    /// An extension that was not offered.
    #[error("extension {got:?} was not offered")]
    Extension {
        /// The extension.
        got: String,
    },
}

impl<'a> Response<'a> {
    /// Parses the response to `request` at the start of `bytes`, which is all that was received so
    /// far. Gives the response and the size of its head; `None` while it is incomplete.
    ///
    /// # Errors
    ///
    /// The first rule of RFC 6455 4.1 that the response does not meet.
    pub fn parse(
        bytes: &'a [u8],
        limits: &Limits,
        request: &ClientRequest<'_>,
    ) -> Result<Option<(Self, usize)>, Refusal> {
        let too_large = Refusal::TooLarge {
            max_bytes: limits.max_bytes,
            max_headers: limits.max_headers.min(HEADERS_MAX),
        };
        let mut headers = [const { MaybeUninit::uninit() }; HEADERS_MAX];
        let mut response = httparse::Response::new(&mut []);
        let parser = httparse::ParserConfig::default();
        let size =
            match parser.parse_response_with_uninit_headers(&mut response, bytes, &mut headers) {
                Ok(httparse::Status::Complete(size)) if size <= limits.max_bytes => size,
                Ok(httparse::Status::Partial) if bytes.len() < limits.max_bytes => return Ok(None),
                Ok(_) | Err(httparse::Error::TooManyHeaders) => return Err(too_large),
                Err(error) => return Err(Refusal::Malformed(error)),
            };
        if response.headers.len() > limits.max_headers {
            return Err(too_large);
        }
        if response.version != Some(1) {
            return Err(Refusal::Malformed(httparse::Error::Version));
        }
        match response.code {
            Some(101) => {}
            got => {
                return Err(Refusal::Status {
                    got: got.unwrap_or_default(),
                });
            }
        }
        let headers = Headers::new(response.headers);
        let protocol = check_headers(&headers, request)?;
        Ok(Some((Self { headers, protocol }, size)))
    }

    /// The subprotocol that the server chose.
    #[must_use]
    pub const fn protocol(&self) -> Option<&'a str> {
        self.protocol
    }

    /// The extensions that the server chose, with their parameters, in order.
    pub fn extensions(&self) -> impl Iterator<Item = &'a str> + '_ {
        self.headers.tokens("Sec-WebSocket-Extensions")
    }

    /// The first value of a header, if it is text; names are equal in any case.
    #[must_use]
    pub fn header(&self, name: &str) -> Option<&'a str> {
        self.headers.text(name)
    }

    /// All headers, in order.
    pub fn headers(&self) -> impl Iterator<Item = Header<'a>> + '_ {
        self.headers.iter()
    }
}

/// RFC 6455 4.1, the list after "The client MUST validate the server's response"; gives the
/// subprotocol.
fn check_headers<'a>(
    headers: &Headers<'a>,
    request: &ClientRequest<'_>,
) -> Result<Option<&'a str>, Refusal> {
    if !headers.has_token("Upgrade", "websocket") {
        return Err(Refusal::Upgrade);
    }
    if !headers.has_token("Connection", "Upgrade") {
        return Err(Refusal::Connection);
    }
    let mut accepts = headers.all("Sec-WebSocket-Accept");
    if accepts.next() != Some(&accept_key(request.key())) || accepts.next().is_some() {
        return Err(Refusal::Accept);
    }
    for extension in headers.tokens("Sec-WebSocket-Extensions") {
        if !request
            .extensions()
            .any(|offer| extension_name(offer) == extension_name(extension))
        {
            return Err(Refusal::Extension {
                got: extension.to_owned(),
            });
        }
    }
    let mut protocols = headers.tokens("Sec-WebSocket-Protocol");
    let protocol = protocols.next();
    match protocols.next().or(protocol) {
        None => Ok(None),
        Some(got) if protocol == Some(got) && request.protocols().any(|asked| asked == got) => {
            Ok(protocol)
        }
        Some(got) => Err(Refusal::Protocol {
            got: got.to_owned(),
        }),
    }
}

fn extension_name(extension: &str) -> &str {
    extension
        .split(';')
        .next()
        .unwrap_or_default()
        .trim_matches([' ', '\t'])
}
