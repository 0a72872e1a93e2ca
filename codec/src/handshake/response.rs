use std::mem::MaybeUninit;

use super::client::ClientRequest;
use super::header::{Header, Headers};
use super::{HEADERS_MAX, Limits, accept_key};

/// A server's response that opens the connection and meets the client's requirements of RFC 6455 4.1.
#[derive(Clone, Debug)]
pub struct Response<'a> {
    headers: Headers<'a>,
    protocol: Option<&'a str>,
}

/// The error of a response that does not open a connection.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum ResponseError {
    /// The response is not valid HTTP/1.1.
    #[error("malformed response: {0}")]
    Malformed(httparse::Error),
    /// The response head exceeds the limits.
    #[error("response head is too large; limits are {max_bytes} bytes and {max_headers} headers")]
    TooLarge {
        /// The limit on the head in bytes: [`Limits::max_bytes`].
        max_bytes: usize,
        /// The limit on headers: [`Limits::max_headers`], or [`HEADERS_MAX`] if that is less.
        max_headers: usize,
    },
    /// The status is not 101: the server redirects, requests credentials, or refuses the connection.
    #[error("status is {got}; 101 opens a connection")]
    Status {
        /// The received status.
        got: u16,
    },
    /// `Upgrade` does not have `websocket`.
    #[error("Upgrade: websocket is missing")]
    Upgrade,
    /// `Connection` does not have `Upgrade`.
    #[error("Connection: Upgrade is missing")]
    Connection,
    /// `Sec-WebSocket-Accept` does not match the key of the request.
    #[error("Sec-WebSocket-Accept does not match the key")]
    Accept,
    /// The server chose a subprotocol that the client did not request, or more than one.
    #[error("subprotocol {got:?} was not requested")]
    Protocol {
        /// The chosen subprotocol.
        got: String,
    },
    /// The server chose an extension that the client did not offer.
    #[error("extension {got:?} was not offered")]
    Extension {
        /// The chosen extension.
        got: String,
    },
}

impl<'a> Response<'a> {
    /// Parses the response to `request` at the start of `bytes`, which are all bytes received so far.
    /// Returns the response and the size of its head in bytes, or `None` if it is incomplete.
    ///
    /// # Errors
    ///
    /// The first requirement of RFC 6455 4.1 that the response does not meet.
    pub fn parse(
        bytes: &'a [u8],
        limits: &Limits,
        request: &ClientRequest<'_>,
    ) -> Result<Option<(Self, usize)>, ResponseError> {
        let too_large = ResponseError::TooLarge {
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
                Err(error) => return Err(ResponseError::Malformed(error)),
            };
        if response.headers.len() > limits.max_headers {
            return Err(too_large);
        }
        if response.version != Some(1) {
            return Err(ResponseError::Malformed(httparse::Error::Version));
        }
        match response.code {
            Some(101) => {}
            got => {
                return Err(ResponseError::Status {
                    got: got.unwrap_or_default(),
                });
            }
        }
        let headers = Headers::new(response.headers);
        let protocol = check_headers(&headers, request)?;
        Ok(Some((Self { headers, protocol }, size)))
    }

    /// Returns the chosen subprotocol.
    #[must_use]
    pub const fn protocol(&self) -> Option<&'a str> {
        self.protocol
    }

    /// Returns the chosen extensions with their parameters in order.
    pub fn extensions(&self) -> impl Iterator<Item = &'a str> + '_ {
        self.headers.tokens("Sec-WebSocket-Extensions")
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

/// Checks the list of RFC 6455 4.1 after "The client MUST validate the server's response". Returns the
/// subprotocol.
fn check_headers<'a>(
    headers: &Headers<'a>,
    request: &ClientRequest<'_>,
) -> Result<Option<&'a str>, ResponseError> {
    if !headers.has_token("Upgrade", "websocket") {
        return Err(ResponseError::Upgrade);
    }
    if !headers.has_token("Connection", "Upgrade") {
        return Err(ResponseError::Connection);
    }
    let mut accepts = headers.all("Sec-WebSocket-Accept");
    if accepts.next() != Some(&accept_key(request.key())) || accepts.next().is_some() {
        return Err(ResponseError::Accept);
    }
    for extension in headers.tokens("Sec-WebSocket-Extensions") {
        if !request
            .extensions()
            .any(|offer| extension_name(offer) == extension_name(extension))
        {
            return Err(ResponseError::Extension {
                got: extension.to_owned(),
            });
        }
    }
    let mut protocols = headers.tokens("Sec-WebSocket-Protocol");
    let protocol = protocols.next();
    match protocols.next().or(protocol) {
        None => Ok(None),
        Some(got)
            if protocol == Some(got) && request.protocols().any(|requested| requested == got) =>
        {
            Ok(protocol)
        }
        Some(got) => Err(ResponseError::Protocol {
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
