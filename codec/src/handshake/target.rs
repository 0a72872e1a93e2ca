use std::net::Ipv6Addr;

use super::rejection::Rejection;

/// The target of a request.
pub(super) struct Target<'a> {
    /// The host of an absolute URI, with its port if given; `None` for a path.
    pub(super) host: Option<&'a str>,
    pub(super) path: &'a str,
    pub(super) query: Option<&'a str>,
}

impl<'a> Target<'a> {
    /// Parses a path, or an absolute HTTP URI (RFC 6455 4.2.1 1).
    pub(super) fn parse(target: &'a str) -> Result<Self, Rejection> {
        let invalid = || Rejection::new(400, "request target is neither a path nor an HTTP URI");
        // A fragment is not part of a target (RFC 9112 3.2).
        let (host, rest) = if target.contains('#') {
            return Err(invalid());
        } else if target.starts_with('/') {
            (None, target)
        } else {
            let (scheme, rest) = target.split_once("://").ok_or_else(invalid)?;
            if !["http", "https", "ws", "wss"]
                .iter()
                .any(|known| scheme.eq_ignore_ascii_case(known))
            {
                return Err(invalid());
            }
            let end = rest.find(['/', '?']).unwrap_or(rest.len());
            let (host, rest) = rest.split_at(end);
            // A host is not empty (RFC 9110 4.2.1).
            if host.is_empty() || host.starts_with(':') || !is_authority(host) {
                return Err(invalid());
            }
            (Some(host), rest)
        };
        let (path, query) = match rest.split_once('?') {
            Some((path, query)) => (path, Some(query)),
            None => (rest, None),
        };
        // An empty path is `/` (RFC 9110 4.2.3).
        let path = if path.is_empty() { "/" } else { path };
        Ok(Self { host, path, query })
    }
}

/// Returns whether `text` is a valid value of a `Host` header: a host with an optional port, or empty
/// (RFC 9112 3.2, RFC 3986 3.2.2 and 3.2.3).
#[must_use]
pub fn is_authority(text: &str) -> bool {
    // An IPv6 address has its colons in brackets.
    let colon = text.rfind(':').filter(|at| !text[*at..].contains(']'));
    let (host, port) = match colon {
        Some(at) => (&text[..at], &text[at + 1..]),
        None => (text, ""),
    };
    let is_port = port.bytes().all(|byte| byte.is_ascii_digit())
        && (port.is_empty() || port.parse::<u16>().is_ok());
    let address = host.strip_prefix('[').and_then(|it| it.strip_suffix(']'));
    let is_host = match address {
        Some(address) => address.parse::<Ipv6Addr>().is_ok(),
        None => is_name(host),
    };
    is_port && is_host
}

/// Returns whether `text` is a registered name, an IPv4 address (RFC 3986 3.2.2), or empty.
fn is_name(text: &str) -> bool {
    let is_in_name = |byte: u8| byte.is_ascii_alphanumeric() || b"-._~!$&'()*+,;=%".contains(&byte);
    let mut escapes = text.split('%').skip(1);
    text.bytes().all(is_in_name)
        && escapes.all(|rest| {
            let digits = rest.as_bytes().get(..2);
            digits.is_some_and(|digits| digits.iter().all(u8::is_ascii_hexdigit))
        })
}
