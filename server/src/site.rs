//! Hosts and ports in the headers `Origin` and `Host`.

use std::net::IpAddr;

/// A scheme, a host and a port. The port is `None` if it is the default of the scheme.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) struct Site<'a> {
    pub(crate) scheme: &'a str,
    pub(crate) host: &'a str,
    pub(crate) port: Option<u16>,
}

impl<'a> Site<'a> {
    /// Parses the value of an `Origin` header (RFC 6454 7).
    pub(crate) fn of_origin(origin: &'a str) -> Option<Self> {
        let (scheme, rest) = origin.split_once("://")?;
        Self::parse(scheme, rest)
    }

    /// Splits a host and a port.
    pub(crate) fn parse(scheme: &'a str, rest: &'a str) -> Option<Self> {
        // The colons of an IPv6 address are in brackets.
        let colon = rest.rfind(':').filter(|at| !rest[*at..].contains(']'));
        // An empty port stands for the default one (RFC 3986 3.2.3).
        let (host, port) = match colon {
            Some(at) if at + 1 == rest.len() => (&rest[..at], None),
            Some(at) => (&rest[..at], Some(port(&rest[at + 1..])?)),
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

    /// The domain of a pattern for all its hosts: `.example.com` of `*.example.com`.
    pub(crate) fn domain(&self) -> Option<&'a str> {
        self.host.strip_prefix('*')
    }

    /// Whether it is a host in the form that browsers send: a name in ASCII (RFC 5890), or an address in its
    /// canonical form.
    pub(crate) fn is_host(&self) -> bool {
        match self.address() {
            Some(_) => true,
            None => is_name(self.host),
        }
    }

    /// Whether it is a host, or `*.` before a name.
    pub(crate) fn is_pattern(&self) -> bool {
        match self.domain() {
            Some(domain) => domain.strip_prefix('.').is_some_and(is_name),
            None => self.is_host(),
        }
    }

    /// Whether it is an address or a name below `localhost`: the host of a page in development, without TLS.
    pub(crate) fn is_local(&self) -> bool {
        let name = self.host.to_ascii_lowercase();
        self.address().is_some() || name == "localhost" || name.ends_with(".localhost")
    }

    /// Whether the scheme is `http` or `https`.
    pub(crate) fn is_of_web(&self) -> bool {
        let schemes = ["http", "https"];
        schemes
            .iter()
            .any(|it| self.scheme.eq_ignore_ascii_case(it))
    }

    /// The host as an IP address; `None` if it is a name.
    fn address(&self) -> Option<IpAddr> {
        let inner = self.host.strip_prefix('[');
        match inner.and_then(|inner| inner.strip_suffix(']')) {
            Some(inner) => inner.parse().ok().map(IpAddr::V6),
            None => self.host.parse().ok().map(IpAddr::V4),
        }
    }

    /// Whether its host is `host`, or with `is_domain` ends with it.
    pub(crate) fn is_of(&self, host: &str, is_domain: bool) -> bool {
        if let Some(address) = self.address() {
            return !is_domain && Site { host, ..*self }.address() == Some(address);
        }
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

/// Advice for an invalid host and port, for common mistakes.
pub(crate) fn advice(text: &str) -> Option<String> {
    if text.contains(['\'', '"']) {
        return Some("the value has quotes in it; leave them out".to_owned());
    }
    if text.parse::<std::net::Ipv6Addr>().is_ok() {
        return Some(format!("an IPv6 address needs brackets; write [{text}]"));
    }
    if !text.is_ascii() {
        return Some("the name is not ASCII; write its xn-- form".to_owned());
    }
    let at = text.rfind(':').filter(|at| !text[*at..].contains(']'));
    let (host, number) = text.split_at(at.unwrap_or(text.len()));
    let number = number.strip_prefix(':').filter(|it| !it.is_empty());
    if let Some(number) = number.filter(|it| port(it).is_none()) {
        return Some(format!(
            "`{number}` is not a port; write one from 1 to 65535"
        ));
    }
    if host.strip_prefix("*.").unwrap_or(host).contains('*') && host != "*" {
        return Some("`*` is allowed only before a domain, as in *.example.com".to_owned());
    }
    None
}

/// Parses a port of digits only; `u16::from_str` also accepts a sign.
fn port(text: &str) -> Option<u16> {
    let is_number = text.bytes().all(|byte| byte.is_ascii_digit());
    is_number.then(|| text.parse().ok()).flatten()
}

/// Whether a text is a name (RFC 1123 2.1, and underscores, which are in use), and not an address in another form
/// than the canonical one.
fn is_name(text: &str) -> bool {
    let is_label = |label: &str| {
        let is_in_label = |c: char| c.is_ascii_alphanumeric() || matches!(c, '-' | '_');
        !label.is_empty()
            && !label.starts_with('-')
            && !label.ends_with('-')
            && label.chars().all(is_in_label)
    };
    let last = text.rsplit('.').next().unwrap_or_default();
    let is_number = last.starts_with(|c: char| c.is_ascii_digit())
        && last
            .bytes()
            .all(|byte| byte.is_ascii_hexdigit() || byte == b'x');
    text.split('.').all(is_label) && !is_number
}
