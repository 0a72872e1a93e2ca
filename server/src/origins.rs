//! The origins of the pages that may connect.

use std::str::FromStr;

use tidewheel_codec::handshake::Rejection;

use crate::{
    Request,
    site::{self, Site},
};

/// The origins of the pages whose scripts may connect (RFC 6455 10.2).
///
/// A page of any site can open a connection, and the browser sends the cookies of its user. But the page cannot
/// change the `Origin` header. A client without an `Origin` is not a browser, and may connect.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
#[non_exhaustive]
pub enum Origins {
    /// Any page may connect.
    #[default]
    Any,
    /// Pages of the listed origins may connect.
    Listed {
        /// Whether pages may connect whose host and port are those that they connect to.
        same: bool,
        /// Other origins that may connect.
        others: Vec<OriginPattern>,
    },
}

/// An origin (RFC 6454), or all origins below a domain.
///
/// Examples are `https://example.com`, `http://localhost:3000`, `chrome-extension://abc`, `https://*.example.com`
/// (without `https://example.com` itself), and `null`, which pages without an origin send. A default port can be
/// left out.
///
/// ```
/// use tidewheel::OriginPattern;
///
/// assert!("https://*.example.com".parse::<OriginPattern>().is_ok());
/// let error = "example.com".parse::<OriginPattern>().unwrap_err();
/// assert!(error.to_string().ends_with("write https://example.com"));
/// ```
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct OriginPattern(Pattern);

#[derive(Clone, Debug, Eq, PartialEq)]
enum Pattern {
    /// `null`, the origin of pages without one.
    Null,
    Site {
        scheme: String,
        /// The host, or with `is_domain` the end of the host, from a dot.
        host: String,
        is_domain: bool,
        port: Option<u16>,
    },
}

/// A text that is not an origin. No page can send it in `Origin`.
#[derive(Clone, Debug, Eq, PartialEq, thiserror::Error)]
#[error("`{text}` is not an origin; {advice}")]
pub struct InvalidOrigin {
    text: String,
    advice: String,
}

impl FromStr for OriginPattern {
    type Err = InvalidOrigin;

    /// Parses an origin. Spaces around it are ignored.
    fn from_str(text: &str) -> Result<Self, InvalidOrigin> {
        let text = text.trim();
        let example = || "any, same, null or an origin such as https://example.com".to_owned();
        let with_advice = |advice: String| InvalidOrigin {
            text: text.to_owned(),
            advice,
        };
        let invalid = |suggestion: String| with_advice(format!("write {suggestion}"));
        let not_a_site = |site: &str| match site::advice(site) {
            Some(advice) => with_advice(advice.replace("*.example", "https://*.example")),
            None => invalid(example()),
        };
        if text.eq_ignore_ascii_case("null") {
            return Ok(Self(Pattern::Null));
        }
        if text == "*" {
            return Err(invalid("any".to_owned()));
        }
        let Some((scheme, rest)) = text.split_once("://") else {
            let site = Site::parse("https", text).filter(Site::is_pattern);
            return Err(match site {
                Some(site) if site.is_local() => invalid(format!("http://{text}")),
                Some(_) => invalid(format!("https://{text}")),
                None => not_a_site(text),
            });
        };
        match scheme.to_ascii_lowercase().as_str() {
            // Pages are served over HTTP.
            "ws" => return Err(invalid(format!("http://{rest}"))),
            "wss" => return Err(invalid(format!("https://{rest}"))),
            "file" | "data" | "about" => return Err(invalid("null".to_owned())),
            "javascript" | "blob" => return Err(invalid(example())),
            scheme if is_scheme(scheme) => {}
            _ => return Err(not_a_site(rest)),
        }
        if let Some(end) = rest.find(['/', '?', '#'])
            && end > 0
        {
            return Err(invalid(format!("{scheme}://{}", &rest[..end])));
        }
        let Some(site) = Site::parse(scheme, rest).filter(Site::is_pattern) else {
            return Err(not_a_site(rest));
        };
        Ok(Self(Pattern::Site {
            scheme: scheme.to_ascii_lowercase(),
            host: site.domain().unwrap_or(site.host).to_ascii_lowercase(),
            is_domain: site.domain().is_some(),
            port: site.port,
        }))
    }
}

impl OriginPattern {
    /// Whether the value of an `Origin` header matches.
    fn matches(&self, origin: &str) -> bool {
        let Pattern::Site {
            scheme,
            host,
            is_domain,
            port,
        } = &self.0
        else {
            return origin == "null";
        };
        let Some(site) = Site::of_origin(origin).filter(Site::is_host) else {
            return false;
        };
        site.is_of(host, *is_domain)
            && site.scheme.eq_ignore_ascii_case(scheme)
            && site.port == *port
    }
}

/// Whether a text is a scheme (RFC 3986 3.1).
fn is_scheme(text: &str) -> bool {
    let is_in_scheme = |c: char| c.is_ascii_alphanumeric() || matches!(c, '+' | '-' | '.');
    text.starts_with(|c: char| c.is_ascii_alphabetic()) && text.chars().all(is_in_scheme)
}

impl Origins {
    /// Only pages whose host and port are those that they connect to.
    pub const SAME: Self = Self::Listed {
        same: true,
        others: Vec::new(),
    };

    /// Checks the origin of a request.
    ///
    /// # Errors
    /// A rejection with status 403 if its page may not connect.
    pub(crate) fn check(&self, request: &Request<'_>) -> Result<(), Rejection> {
        let (Self::Listed { same, others }, Some(origin)) = (self, request.origin()) else {
            return Ok(());
        };
        // The scheme of the page, because a proxy may terminate TLS.
        let page = Site::of_origin(origin).filter(|page| page.is_host() && page.is_of_web());
        let is_same = *same
            && page.is_some_and(|page| {
                let own = Site::parse(page.scheme, request.host().trim());
                own.is_some_and(|own| own.port == page.port && own.is_of(page.host, false))
            });
        if is_same || others.iter().any(|allowed| allowed.matches(origin)) {
            Ok(())
        } else {
            Err(Rejection::new(
                403,
                format!("pages of {origin} may not connect to this server"),
            ))
        }
    }
}

#[cfg(test)]
mod tests {
    use tidewheel_codec::handshake::{self, Limits};

    use super::*;
    use crate::request::tests::of_parsed;

    fn is_allowed(origins: &Origins, host: &str, origin: Option<&str>) -> bool {
        let origin = origin.map_or_else(String::new, |origin| format!("Origin: {origin}\r\n"));
        let request = format!(
            "GET / HTTP/1.1\r\nHost: {host}\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\
             Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\nSec-WebSocket-Version: 13\r\n\
             {origin}\r\n"
        );
        let (request, _) = handshake::Request::parse(request.as_bytes(), &Limits::default())
            .unwrap()
            .unwrap();
        origins.check(&of_parsed(request)).is_ok()
    }

    #[test]
    fn a_page_may_connect_to_its_own_host_and_port() {
        let same = Origins::SAME;
        assert!(is_allowed(&same, "a.example", Some("https://a.example")));
        assert!(is_allowed(
            &same,
            "A.example:81",
            Some("http://a.example:81")
        ));
        assert!(
            is_allowed(&same, "a.example", None),
            "a client without an origin"
        );
        for origin in [
            "https://b.example",
            "http://a.example:81",
            "null",
            "https://",
        ] {
            assert!(!is_allowed(&same, "a.example", Some(origin)), "{origin}");
        }
    }

    #[test]
    fn only_pages_of_listed_origins_may_connect() {
        let listed = Origins::Listed {
            same: false,
            others: ["https://a.example", "https://*.b.example", "null"]
                .map(|origin| origin.parse().expect("an origin"))
                .into(),
        };
        for origin in [
            "https://A.example",
            "https://x.b.example",
            "https://x.y.b.example",
            "null",
        ] {
            assert!(is_allowed(&listed, "c.example", Some(origin)), "{origin}");
        }
        for origin in [
            "http://a.example",
            "https://b.example",
            "https://.b.example",
            "https://xb.example",
            "https://a.example.evil",
            "https://evil.com/.b.example",
            "https://evil.com#.b.example",
            "https://evil\\.b.example",
            "https://..b.example",
            "https:// .b.example",
            "https://a.example:+443",
            "https://c.example",
            "a.example",
        ] {
            assert!(!is_allowed(&listed, "c.example", Some(origin)), "{origin}");
        }
        assert!(is_allowed(&Origins::Any, "c.example", Some("https://evil")));
    }

    #[test]
    fn a_default_port_can_be_left_out() {
        for (host, origin) in [
            ("a.example:443", "https://a.example"),
            ("a.example", "https://a.example:443"),
            ("a.example:80", "http://a.example"),
            ("a.example:", "http://a.example"),
            ("[::1]:443", "https://[::1]"),
            ("[::1]:8080", "http://[::1]:8080"),
            ("[0:0::1]:8080", "http://[::1]:8080"),
        ] {
            assert!(is_allowed(&Origins::SAME, host, Some(origin)), "{origin}");
            let listed = Origins::Listed {
                same: false,
                others: vec![origin.parse().expect("an origin")],
            };
            assert!(is_allowed(&listed, "b.example", Some(origin)), "{origin}");
        }
        for (host, origin) in [
            ("a.example:80", "https://a.example"),
            ("a.example:444", "https://a.example"),
            ("", "https://"),
            ("a.example", "file://a.example"),
            ("[::1]:8080", "http://[::1]"),
        ] {
            assert!(!is_allowed(&Origins::SAME, host, Some(origin)), "{origin}");
        }
        let with_port = "https://a.example:443".parse::<OriginPattern>();
        assert_eq!(with_port, "https://a.example".parse());
    }

    #[test]
    fn the_error_for_a_wrong_origin_says_what_to_write() {
        let example = "write any, same, null or an origin such as https://example.com";
        let star = "`*` is allowed only before a domain, as in https://*.example.com";
        let quotes = "the value has quotes in it; leave them out";
        for (text, expected) in [
            ("", example),
            ("*", "write any"),
            ("a.example", "write https://a.example"),
            ("*.a.example", "write https://*.a.example"),
            ("localhost:3000", "write http://localhost:3000"),
            ("127.0.0.1:3000", "write http://127.0.0.1:3000"),
            ("app.localhost", "write http://app.localhost"),
            ("'https://a.example'", quotes),
            ("https://::1", "an IPv6 address needs brackets; write [::1]"),
            ("https://a.example/", "write https://a.example"),
            ("https://a.example/chat?x", "write https://a.example"),
            ("https://", example),
            ("https://*", example),
            ("https://*a.example", star),
            ("https://a.*.example", star),
            (
                "https://a.example:99999",
                "`99999` is not a port; write one from 1 to 65535",
            ),
            ("https://user@a.example", example),
            (
                "https://b\u{fc}cher.example",
                "the name is not ASCII; write its xn-- form",
            ),
            ("://a.example", example),
            ("https://a b", example),
            ("https://a..b", example),
            ("https://a.", example),
            ("https://-", example),
            ("https://127.1", example),
            ("https://999.999.999.999", example),
            ("https://*.127.0.0.1", example),
            ("https://*.[::1]", example),
            (
                "https://a.example:+443",
                "`+443` is not a port; write one from 1 to 65535",
            ),
            ("javascript://x", example),
            ("file://x", "write null"),
            ("wss://a.example", "write https://a.example"),
            ("ws://a.example:81", "write http://a.example:81"),
        ] {
            let error = text.parse::<OriginPattern>().unwrap_err();
            assert_eq!(error.advice, expected, "{text}");
        }
        for text in [
            " https://a.example ",
            "NULL",
            "http://127.0.0.1:3000",
            "https://[::1]",
            "chrome-extension://abc",
            "https://*.a.example:8443",
        ] {
            assert!(text.parse::<OriginPattern>().is_ok(), "{text}");
        }
    }
}
