//! Which parameters both sides agree on (RFC 7692 7.1).

use std::fmt;

use super::budget::{Budget, Reservation};
use super::codec::{compressor_size, decompressor_size};
use super::extension::{self, Extension};
use super::{Deflate, WINDOW_BITS};
use crate::role::Role;

const NAME: &str = "permessage-deflate";
const SERVER_NO_CONTEXT_TAKEOVER: &str = "server_no_context_takeover";
const CLIENT_NO_CONTEXT_TAKEOVER: &str = "client_no_context_takeover";
const SERVER_MAX_WINDOW_BITS: &str = "server_max_window_bits";
const CLIENT_MAX_WINDOW_BITS: &str = "client_max_window_bits";

/// What RFC 7692 allows for window bits.
const RFC_WINDOW_BITS: std::ops::RangeInclusive<u8> = 8..=15;

/// The parameters of one offer or response, as they stand on the wire.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
struct Parameters {
    server_no_context_takeover: bool,
    client_no_context_takeover: bool,
    server_max_window_bits: Option<u8>,
    client_max_window_bits: Option<ClientWindowBits>,
}

/// A client may say that it understands the parameter, without a number (7.1.2.2).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum ClientWindowBits {
    Any,
    AtMost(u8),
}

/// What a connection needs to know of the parameters.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Terms {
    /// Our compressor's window.
    pub(crate) window_bits: u8,
    /// Our messages may refer to those before them.
    pub(crate) takeover: bool,
    /// The peer's messages may.
    pub(crate) peer_takeover: bool,
}

/// permessage-deflate as it was negotiated for one connection: hand it to
/// [`Connection::with_deflate`](crate::Connection::with_deflate). Displayed, it is the value of the
/// response's `Sec-WebSocket-Extensions`.
#[derive(Debug)]
pub struct Agreement {
    parameters: Parameters,
    pub(crate) terms: Terms,
    /// The memory of streams of its own; none without context takeover.
    pub(super) reservation: Option<Reservation>,
}

/// A server's response that does not fit our offer: the client must fail the connection (RFC 7692
/// 7.1).
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum InvalidAgreement {
    /// More than one permessage-deflate, or it was not offered.
    #[error("permessage-deflate was accepted without an offer, or twice")]
    Unasked,
    /// A parameter that is unknown, repeated, or has a value that is not allowed.
    #[error("a parameter of permessage-deflate is invalid")]
    Parameter,
    /// The server compresses with context, though we asked it not to.
    #[error("server_no_context_takeover was asked for, and is missing")]
    ContextTakeover,
    /// The server's window is larger than we asked for.
    #[error("server_max_window_bits was to be {limit} at most")]
    ServerWindow {
        /// What we asked for.
        limit: u8,
    },
    /// We are to compress with a window that zlib does not have.
    #[error("client_max_window_bits is {got}; 9 to 15 are supported")]
    ClientWindow {
        /// What the server asks for.
        got: u8,
    },
}

impl Deflate {
    /// Server: the first offer that can be accepted; those that are malformed, unknown or not
    /// possible are declined by being passed over.
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

    /// The response to an offer; `None` to decline it.
    fn answer(&self, offer: Parameters) -> Option<Parameters> {
        // 7.1.2.1: accepted "by including [...] the same or smaller value".
        let server_max_window_bits = offer
            .server_max_window_bits
            .map(|limit| self.max_window_bits.min(limit));
        if server_max_window_bits.is_some_and(|bits| !WINDOW_BITS.contains(&bits)) {
            return None;
        }
        let client_max_window_bits = match offer.client_max_window_bits {
            // 7.1.2.2: without it in the offer, it must not be in the response.
            None => None,
            Some(ClientWindowBits::Any) => Some(self.peer_max_window_bits),
            // A hint, which we may ignore: any window can be decompressed.
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

    /// Client: the offer for the request's `Sec-WebSocket-Extensions`.
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

    /// Client: what the server made of our offer; `None` if it declined.
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
            return Err(InvalidAgreement::Unasked);
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
            // 7.1.2.2: a number is required in a response.
            Some(ClientWindowBits::Any) => Err(InvalidAgreement::Parameter),
            Some(ClientWindowBits::AtMost(got)) if !WINDOW_BITS.contains(&got) => {
                Err(InvalidAgreement::ClientWindow { got })
            }
            Some(ClientWindowBits::AtMost(_)) | None => {
                Ok(Some(self.agree(Role::Client, response, budget)))
            }
        }
    }

    /// The agreement of these parameters, within the budget as far as we may still choose.
    fn agree(&self, role: Role, mut parameters: Parameters, budget: &Budget) -> Agreement {
        let mut terms = self.terms(role, parameters);
        let mut cost = terms.cost();
        if role == Role::Server && !budget.has_room_for(cost) {
            // 7.1.1: a server may say either, whatever was offered.
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

impl Terms {
    /// Bytes of the streams that a connection has of its own.
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
    /// `None` if a parameter is malformed, unknown, repeated, or has a value that it must not
    /// have (7.1).
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

/// 7.1.2: "a decimal integer value without leading zeroes between 8 to 15 inclusive".
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
