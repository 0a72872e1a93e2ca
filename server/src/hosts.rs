//! Under which names the server may be reached.

use std::str::FromStr;

use tidewheel_codec::handshake::Rejection;

use crate::site::{self, Site};

/// The values of the header `Host` that are served.
///
/// This answers DNS rebinding: a page of `evil.example` connects to its own host, whose address has been
/// changed to that of the server. Such a page has the origin that it connects to, which
/// [`Origins`](crate::Origins) allows; but its `Host` is `evil.example`.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub enum Hosts {
    /// Any.
    #[default]
    Any,
    /// Those listed.
    Listed(Vec<HostPattern>),
}

/// A host, with any port or with one: `example.com`, `example.com:8443`, `127.0.0.1`, `[::1]:8080`, or all
/// hosts below a domain: `*.example.com` (not `example.com` itself).
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
    /// The host; or its end, from a dot on, if `is_domain`.
    host: String,
    is_domain: bool,
    port: Option<u16>,
}

/// A text that is not a host, so that no client would ever name it.
#[derive(Clone, Debug, Eq, PartialEq, thiserror::Error)]
#[error("`{text}` is not a host that a client can name; {advice}")]
pub struct InvalidHost {
    text: String,
    advice: String,
}

impl FromStr for HostPattern {
    type Err = InvalidHost;

    /// Reads a host; spaces around it are ignored.
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
            None => Err(invalid(site::cause(authority).unwrap_or(
                "write one such as example.com, or example.com:8443".to_owned(),
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
        // A client leaves out the port that is its scheme's default.
        let is_port = match (self.port, site.port) {
            (None, _) | (Some(80 | 443), None) => true,
            (port, given) => port == given,
        };
        is_port && site.is_of(&self.host, self.is_domain)
    }
}

impl Hosts {
    /// Checks the value of a request's `Host`.
    ///
    /// # Errors
    /// 421, if it is not served (RFC 9110 15.5.20).
    pub fn check(&self, host: &str) -> Result<(), Rejection> {
        let Self::Listed(allowed) = self else {
            return Ok(());
        };
        let is_allowed = parse(host)
            .filter(Site::is_host)
            .is_some_and(|site| allowed.iter().any(|allowed| allowed.matches(&site)));
        match (is_allowed, host.trim()) {
            (true, _) => Ok(()),
            (false, "") => Err(Rejection::new(421, "the request names no host; see --host")),
            (false, _) => Err(Rejection::new(
                421,
                format!("{host} is not served here; see --host"),
            )),
        }
    }
}

/// A host and a port. The name of the root of all domains at its end, a dot, says nothing (RFC 1034 3.1).
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
    fn the_listed_are_served_and_no_others() {
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
    fn what_no_client_can_name_is_refused_with_what_is_meant() {
        let example = "write one such as example.com, or example.com:8443";
        let star = "`*` stands in front of a domain, as in *.example.com";
        for (text, meant) in [
            ("", example),
            ("*", example),
            ("a b", example),
            ("a.example:x", "`x` is no port; write one from 1 to 65535"),
            (
                "a.example:+80",
                "`+80` is no port; write one from 1 to 65535",
            ),
            ("::1", "an IPv6 address stands in brackets; write [::1]"),
            (
                "'a.example'",
                "the quotes are not part of it; leave them out",
            ),
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
            assert_eq!(error.advice, meant, "{text}");
        }
    }
}
