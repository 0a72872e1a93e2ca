//! Negotiation of the parameters of permessage-deflate (RFC 7692 7.1).

use std::fmt;

use super::budget::{Budget, Reservation};
use super::extension::{self, Extension};
use super::streams::{Streams, compressor_size, decompressor_size};
use super::{Deflate, WINDOW_BITS};
use crate::role::Role;

const NAME: &str = "permessage-deflate";
const SERVER_NO_CONTEXT_TAKEOVER: &str = "server_no_context_takeover";
const CLIENT_NO_CONTEXT_TAKEOVER: &str = "client_no_context_takeover";
const SERVER_MAX_WINDOW_BITS: &str = "server_max_window_bits";
const CLIENT_MAX_WINDOW_BITS: &str = "client_max_window_bits";

/// The window bits that RFC 7692 7.1.2 allows.
const RFC_WINDOW_BITS: std::ops::RangeInclusive<u8> = 8..=15;

/// The parameters of one offer or response.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
struct Parameters {
    server_no_context_takeover: bool,
    client_no_context_takeover: bool,
    server_max_window_bits: Option<u8>,
    client_max_window_bits: Option<ClientWindowBits>,
}

/// The value of `client_max_window_bits`. An offer may have the parameter without a value (7.1.2.2).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum ClientWindowBits {
    Any,
    AtMost(u8),
}

/// The negotiated parameters, from the view of one side.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Terms {
    /// The window bits of our compressor.
    pub(crate) window_bits: u8,
    /// Whether our messages may refer to earlier ones.
    pub(crate) takeover: bool,
    /// Whether the peer's messages may refer to earlier ones.
    pub(crate) peer_takeover: bool,
}

/// The negotiated parameters of permessage-deflate for one connection.
///
/// Pass it to [`Connection::with_deflate`](crate::Connection::with_deflate). `Display` writes the value of
/// the response's `Sec-WebSocket-Extensions`. An agreement with context takeover reserves memory until it,
/// or its connection, is dropped.
#[derive(Debug)]
pub struct Agreement {
    parameters: Parameters,
    terms: Terms,
    /// The memory of the connection's streams; `None` without context takeover.
    reservation: Option<Reservation>,
}

/// A server's response that contradicts our offer: the client must fail the connection (RFC 7692 7.1).
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum InvalidAgreement {
    /// The response has permessage-deflate more than once.
    #[error("permessage-deflate was accepted more than once")]
    Repeated,
    /// A parameter is unknown, repeated, or has an invalid value.
    #[error("a parameter of permessage-deflate is invalid")]
    Parameter,
    /// The response allows context takeover, which the offer ruled out.
    #[error("server_no_context_takeover was offered and is missing")]
    ContextTakeover,
    /// The server's window is larger than the offer allows.
    #[error("server_max_window_bits is above {limit} or missing")]
    ServerWindow {
        /// The window bits of the offer.
        limit: u8,
    },
    /// The response asks for a compression window that zlib does not support.
    #[error("client_max_window_bits is {got}; 9 to 15 are supported")]
    ClientWindow {
        /// The window bits of the response.
        got: u8,
    },
}

impl Deflate {
    /// Server: accepts the first valid and supported offer. All others are declined.
    pub(crate) fn accept<'a>(
        &self,
        values: impl IntoIterator<Item = &'a str>,
        budget: &Budget,
    ) -> Option<Agreement> {
        values
            .into_iter()
            .flat_map(extension::parse)
            .filter(|extension| extension.name == NAME)
            .filter_map(Parameters::parse)
            .find_map(|offer| self.answer(offer))
            .map(|parameters| self.agree(Role::Server, parameters, budget))
    }

    /// Returns the response to an offer, or `None` to decline it.
    fn answer(&self, offer: Parameters) -> Option<Parameters> {
        // 7.1.2.1: accepted "by including [...] the same or smaller value".
        let server_max_window_bits = offer
            .server_max_window_bits
            .map(|limit| self.max_window_bits.min(limit));
        if server_max_window_bits.is_some_and(|bits| !WINDOW_BITS.contains(&bits)) {
            return None;
        }
        let client_max_window_bits = match offer.client_max_window_bits {
            // 7.1.2.2: the response may have it only if the offer has it.
            None => None,
            Some(ClientWindowBits::Any) => Some(self.peer_max_window_bits),
            // A hint, which may be ignored: any window can be decompressed.
            Some(ClientWindowBits::AtMost(hint)) => {
                Some(self.peer_max_window_bits.min(hint)).filter(|bits| WINDOW_BITS.contains(bits))
            }
        };
        Some(Parameters {
            server_no_context_takeover: offer.server_no_context_takeover || !self.context_takeover,
            client_no_context_takeover: offer.client_no_context_takeover || !self.context_takeover,
            server_max_window_bits,
            client_max_window_bits: client_max_window_bits
                .filter(|&bits| bits < *WINDOW_BITS.end())
                .map(ClientWindowBits::AtMost),
        })
    }

    /// Client: returns the offer for the request's `Sec-WebSocket-Extensions`.
    pub(crate) fn offer(&self, budget: &Budget) -> String {
        self.offered(budget).to_string()
    }

    fn offered(&self, budget: &Budget) -> Parameters {
        let cost = compressor_size(self.max_window_bits) + decompressor_size();
        let takeover = self.context_takeover && budget.has_room_for(cost);
        let below_max = |bits: u8| Some(bits).filter(|bits| bits < WINDOW_BITS.end());
        Parameters {
            server_no_context_takeover: !takeover,
            client_no_context_takeover: !takeover,
            server_max_window_bits: below_max(self.peer_max_window_bits),
            client_max_window_bits: Some(
                below_max(self.max_window_bits)
                    .map_or(ClientWindowBits::Any, ClientWindowBits::AtMost),
            ),
        }
    }

    /// Client: returns the agreement of the server's response, or `None` if the server declined.
    pub(crate) fn confirm<'a>(
        &self,
        values: impl IntoIterator<Item = &'a str>,
        budget: &Budget,
    ) -> Result<Option<Agreement>, InvalidAgreement> {
        let mut accepted = values
            .into_iter()
            .flat_map(extension::parse)
            .filter(|extension| extension.name == NAME);
        let Some(extension) = accepted.next() else {
            return Ok(None);
        };
        if accepted.next().is_some() {
            return Err(InvalidAgreement::Repeated);
        }
        let response = Parameters::parse(extension).ok_or(InvalidAgreement::Parameter)?;
        if !self.context_takeover && !response.server_no_context_takeover {
            return Err(InvalidAgreement::ContextTakeover);
        }
        let limit = self.peer_max_window_bits;
        if limit < *WINDOW_BITS.end()
            && response
                .server_max_window_bits
                .is_none_or(|bits| bits > limit)
        {
            return Err(InvalidAgreement::ServerWindow { limit });
        }
        match response.client_max_window_bits {
            // 7.1.2.2: a response must have a number.
            Some(ClientWindowBits::Any) => Err(InvalidAgreement::Parameter),
            Some(ClientWindowBits::AtMost(got)) if !WINDOW_BITS.contains(&got) => {
                Err(InvalidAgreement::ClientWindow { got })
            }
            Some(ClientWindowBits::AtMost(_)) | None => {
                Ok(Some(self.agree(Role::Client, response, budget)))
            }
        }
    }

    /// Returns the agreement of these parameters. A server without budget for context takeover disables
    /// it.
    fn agree(&self, role: Role, mut parameters: Parameters, budget: &Budget) -> Agreement {
        let mut terms = self.terms(role, parameters);
        let mut cost = terms.cost();
        if role == Role::Server && !budget.has_room_for(cost) {
            // 7.1.1: a server may disable context takeover for any offer.
            parameters.server_no_context_takeover = true;
            parameters.client_no_context_takeover = true;
            terms = self.terms(role, parameters);
            cost = 0;
        }
        let reservation = (cost > 0).then(|| budget.reserve(cost));
        Agreement {
            parameters,
            terms,
            reservation,
        }
    }

    fn terms(&self, role: Role, parameters: Parameters) -> Terms {
        let client_max_window_bits = match parameters.client_max_window_bits {
            Some(ClientWindowBits::AtMost(bits)) => Some(bits),
            Some(ClientWindowBits::Any) | None => None,
        };
        let (agreed_bits, no_takeover, peer_no_takeover) = match role {
            Role::Server => (
                parameters.server_max_window_bits,
                parameters.server_no_context_takeover,
                parameters.client_no_context_takeover,
            ),
            Role::Client => (
                client_max_window_bits,
                parameters.client_no_context_takeover,
                parameters.server_no_context_takeover,
            ),
        };
        Terms {
            window_bits: agreed_bits
                .map_or(self.max_window_bits, |bits| bits.min(self.max_window_bits)),
            takeover: !no_takeover && self.context_takeover,
            peer_takeover: !peer_no_takeover,
        }
    }
}

impl Agreement {
    /// Returns the terms, and the streams of a connection with context takeover.
    pub(crate) fn into_parts(self) -> (Terms, Option<Box<Streams>>) {
        let streams = self
            .reservation
            .map(|reservation| Box::new(Streams::new(reservation)));
        (self.terms, streams)
    }
}

impl Terms {
    /// Returns the bytes of the streams that the connection owns.
    fn cost(self) -> usize {
        let compressor = if self.takeover {
            compressor_size(self.window_bits)
        } else {
            0
        };
        let decompressor = if self.peer_takeover {
            decompressor_size()
        } else {
            0
        };
        compressor + decompressor
    }
}

impl Parameters {
    /// Parses the parameters. Returns `None` if one is malformed, unknown, repeated, or has an invalid
    /// value (7.1).
    fn parse(extension: Extension<'_>) -> Option<Self> {
        let mut parsed = Self::default();
        for parameter in extension.parameters() {
            let parameter = parameter?;
            let is_first = match parameter.name {
                SERVER_NO_CONTEXT_TAKEOVER if parameter.value.is_none() => {
                    !std::mem::replace(&mut parsed.server_no_context_takeover, true)
                }
                CLIENT_NO_CONTEXT_TAKEOVER if parameter.value.is_none() => {
                    !std::mem::replace(&mut parsed.client_no_context_takeover, true)
                }
                SERVER_MAX_WINDOW_BITS => {
                    let bits = parse_window_bits(parameter.value?)?;
                    parsed.server_max_window_bits.replace(bits).is_none()
                }
                CLIENT_MAX_WINDOW_BITS => {
                    let bits = match parameter.value {
                        Some(value) => ClientWindowBits::AtMost(parse_window_bits(value)?),
                        None => ClientWindowBits::Any,
                    };
                    parsed.client_max_window_bits.replace(bits).is_none()
                }
                _ => return None,
            };
            if !is_first {
                return None;
            }
        }
        Some(parsed)
    }
}

/// Parses window bits (RFC 7692 7.1.2): "a decimal integer value without leading zeroes between 8 to 15 inclusive".
fn parse_window_bits(value: &str) -> Option<u8> {
    let bits = value
        .parse()
        .ok()
        .filter(|bits| RFC_WINDOW_BITS.contains(bits))?;
    value
        .bytes()
        .next()
        .is_some_and(|first| matches!(first, b'1'..=b'9'))
        .then_some(bits)
}

impl fmt::Display for Parameters {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(NAME)?;
        if self.server_no_context_takeover {
            write!(formatter, "; {SERVER_NO_CONTEXT_TAKEOVER}")?;
        }
        if self.client_no_context_takeover {
            write!(formatter, "; {CLIENT_NO_CONTEXT_TAKEOVER}")?;
        }
        if let Some(bits) = self.server_max_window_bits {
            write!(formatter, "; {SERVER_MAX_WINDOW_BITS}={bits}")?;
        }
        match self.client_max_window_bits {
            Some(ClientWindowBits::Any) => write!(formatter, "; {CLIENT_MAX_WINDOW_BITS}"),
            Some(ClientWindowBits::AtMost(bits)) => {
                write!(formatter, "; {CLIENT_MAX_WINDOW_BITS}={bits}")
            }
            None => Ok(()),
        }
    }
}

impl fmt::Display for Agreement {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(&self.parameters, formatter)
    }
}
