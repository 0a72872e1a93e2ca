//! The accepted values of the `Host` header.

use std::str::FromStr;

use tidewheel_codec::handshake::Rejection;

use crate::site::{self, Site};

/// The accepted values of the `Host` header.
///
/// A list prevents DNS rebinding: a page of `evil.example` connects to `evil.example` after its owner has changed
/// the address of that name to the address of this server. [`Origins`](crate::Origins) allows such a page, because
/// its origin is the host that it connects to; its `Host` is `evil.example`, which is not in the list.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
#[non_exhaustive]
pub enum Hosts {
    /// Accepts any value.
    #[default]
    Any,
    /// Accepts the listed hosts.
    Listed(Vec<HostPattern>),
}

/// A host with any port (`example.com`, `127.0.0.1`) or with one port (`example.com:8443`, `[::1]:8080`), or all
/// hosts below a domain (`*.example.com`, without `example.com` itself).
///
/// ```
/// use tidewheel::HostPattern;
///
/// assert!("*.example.com".parse::<HostPattern>().is_ok());
/// let error = "https://example.com/".parse::<HostPattern>().unwrap_err();
/// assert!(error.to_string().ends_with("write example.com"));
/// ```
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct HostPattern {
    /// The host, or with `is_domain` the end of the host, from a dot.
    host: String,
    is_domain: bool,
    port: Option<u16>,
}

/// A text that is not a host. No client can send it in `Host`.
#[derive(Clone, Debug, Eq, PartialEq, thiserror::Error)]
#[error("`{text}` is not a host name; {advice}")]
pub struct InvalidHost {
    text: String,
    advice: String,
}

impl FromStr for HostPattern {
    type Err = InvalidHost;

    /// Parses a host. Spaces around it are ignored.
    fn from_str(text: &str) -> Result<Self, InvalidHost> {
        let text = text.trim();
        let rest = text.split_once("://").map_or(text, |(_, rest)| rest);
        let authority = rest.split(['/', '?', '#']).next().unwrap_or_default();
        let site = parse(authority).filter(Site::is_pattern);
        let invalid = |advice: String| InvalidHost {
            text: text.to_owned(),
            advice,
        };
        match site {
            None => Err(invalid(site::advice(authority).unwrap_or(
                "write a name such as example.com or example.com:8443".to_owned(),
            ))),
            Some(_) if authority != text => Err(invalid(format!("write {authority}"))),
            Some(site) => Ok(Self {
                host: site.domain().unwrap_or(site.host).to_ascii_lowercase(),
                is_domain: site.domain().is_some(),
                port: site.port,
            }),
        }
    }
}

impl HostPattern {
    fn matches(&self, site: &Site<'_>) -> bool {
        // Clients leave out the default port of the scheme.
        let is_port = match (self.port, site.port) {
            (None, _) | (Some(80 | 443), None) => true,
            (port, given) => port == given,
        };
        is_port && site.is_of(&self.host, self.is_domain)
    }
}

impl Hosts {
    /// Checks the `Host` of a request.
    ///
    /// # Errors
    /// A rejection with status 421 if it is not accepted (RFC 9110 15.5.20).
    pub(crate) fn check(&self, host: &str) -> Result<(), Rejection> {
        let Self::Listed(allowed) = self else {
            return Ok(());
        };
        let is_allowed = parse(host)
            .filter(Site::is_host)
            .is_some_and(|site| allowed.iter().any(|allowed| allowed.matches(&site)));
        match (is_allowed, host.trim()) {
            (true, _) => Ok(()),
            (false, "") => Err(Rejection::new(421, "the request has an empty Host header")),
            (false, _) => Err(Rejection::new(
                421,
                format!("this server does not serve the host {host}"),
            )),
        }
    }
}

/// Parses a host and a port. A dot at the end, which stands for the root domain, is removed (RFC 1034 3.1).
fn parse(host: &str) -> Option<Site<'_>> {
    let site = Site::parse("", host.trim())?;
    Some(Site {
        host: site.host.strip_suffix('.').unwrap_or(site.host),
        ..site
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_listed_hosts_are_accepted() {
        let hosts = [
            "a.example",
            "b.example:8443",
            "*.c.example",
            "[::1]",
            "d.example:443",
        ];
        let hosts = hosts.map(|host| host.parse().expect("a host"));
        let hosts = Hosts::Listed(hosts.into());
        for host in [
            "a.example",
            "A.Example.",
            "a.example:1",
            "b.example:8443",
            "x.c.example",
            "[::1]:8080",
            "[0:0:0:0:0:0:0:1]",
            "d.example",
            "d.example:443",
        ] {
            assert!(hosts.check(host).is_ok(), "{host}");
        }
        for host in [
            "",
            "evil.example",
            "a.example.evil",
            "xa.example",
            "b.example",
            "b.example:8444",
            "c.example",
            "[::2]",
            "evil, x.c.example",
            "evil/x.c.example",
            "evil@x.c.example",
            "..c.example",
            "a.example:+1",
            "a.example:x",
            "d.example:444",
        ] {
            let status = hosts.check(host).map_err(|rejection| rejection.status());
            assert_eq!(status, Err(421), "{host}");
            assert!(Hosts::Any.check(host).is_ok());
        }
    }

    #[test]
    fn the_error_for_a_wrong_host_says_what_to_write() {
        let example = "write a name such as example.com or example.com:8443";
        let star = "`*` is allowed only before a domain, as in *.example.com";
        for (text, expected) in [
            ("", example),
            ("*", example),
            ("a b", example),
            (
                "a.example:x",
                "`x` is not a port; write one from 1 to 65535",
            ),
            (
                "a.example:+80",
                "`+80` is not a port; write one from 1 to 65535",
            ),
            ("::1", "an IPv6 address needs brackets; write [::1]"),
            ("'a.example'", "the value has quotes in it; leave them out"),
            (
                "b\u{fc}cher.example",
                "the name is not ASCII; write its xn-- form",
            ),
            ("a.*.example", star),
            ("a..b", example),
            ("127.1", example),
            ("*.[::1]", example),
            ("*a.example", star),
            ("https://a.example", "write a.example"),
            ("a.example/", "write a.example"),
            ("http://a.example:81/x", "write a.example:81"),
        ] {
            let error = text.parse::<HostPattern>().unwrap_err();
            assert_eq!(error.advice, expected, "{text}");
        }
    }
}
