//! Hosts and ports, as they stand in the headers `Origin` and `Host`.

use std::net::Ipv6Addr;

/// A scheme, a host and a port, which is `None` where it is the scheme's default.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) struct Site<'a> {
    pub(crate) scheme: &'a str,
    pub(crate) host: &'a str,
    pub(crate) port: Option<u16>,
}

impl<'a> Site<'a> {
    /// That of an `Origin` header (RFC 6454 7).
    pub(crate) fn of_origin(origin: &'a str) -> Option<Self> {
        let (scheme, rest) = origin.split_once("://")?;
        Self::parse(scheme, rest)
    }

    /// Splits a host from a port.
    pub(crate) fn parse(scheme: &'a str, rest: &'a str) -> Option<Self> {
        // The colons of an IPv6 address are in brackets.
        let colon = rest.rfind(':').filter(|at| !rest[*at..].contains(']'));
        let (host, port) = match colon {
            Some(at) => (&rest[..at], Some(rest[at + 1..].parse().ok()?)),
            None => (rest, None),
        };
        let default = match scheme {
            _ if scheme.eq_ignore_ascii_case("http") => Some(80),
            _ if scheme.eq_ignore_ascii_case("https") => Some(443),
            _ => None,
        };
        Some(Self {
            scheme,
            host,
            port: port.filter(|_| port != default),
        })
    }

    /// The domain of which any host is meant: `.example.com` of `*.example.com`.
    pub(crate) fn domain(&self) -> Option<&'a str> {
        self.host.strip_prefix('*')
    }

    /// Whether a page can come from such a host, or from one below such a domain. Browsers send names in
    /// ASCII (RFC 5890).
    pub(crate) fn is_host_valid(&self) -> bool {
        let host = match self.domain() {
            Some(domain) => domain.strip_prefix('.').unwrap_or_default(),
            None => self.host,
        };
        let is_address = host
            .strip_prefix('[')
            .and_then(|host| host.strip_suffix(']'))
            .is_some_and(|address| address.parse::<Ipv6Addr>().is_ok());
        let is_in_name = |c: char| c.is_ascii_alphanumeric() || matches!(c, '-' | '.' | '_');
        is_address || !host.is_empty() && !host.starts_with('.') && host.chars().all(is_in_name)
    }

    /// Whether its host is this one, or, if `is_domain`, ends with it.
    pub(crate) fn is_of(&self, host: &str, is_domain: bool) -> bool {
        match self.host.len().checked_sub(host.len()) {
            Some(0) => !is_domain && self.host.eq_ignore_ascii_case(host),
            Some(cut) => {
                is_domain
                    && self.host.is_char_boundary(cut)
                    && self.host[cut..].eq_ignore_ascii_case(host)
            }
            None => false,
        }
    }
}
