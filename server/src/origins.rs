//! Which pages may connect.

use tidewheel_codec::handshake::{Rejection, Request};

/// The pages whose scripts may connect (RFC 6455 10.2). A browser sends the cookies of a site's
/// user along with a connection that another site's page has opened; what a page cannot do is hide
/// its origin.
///
/// A client that sends no `Origin` is no browser, and may connect.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub enum Origins {
    /// Any page.
    #[default]
    Any,
    /// Pages that came from the host and port that they connect to, if `same`, and those listed:
    /// `https://example.com`, `https://*.example.com`, or `null`.
    Listed {
        /// Whether pages of the server's own origin may connect.
        same: bool,
        /// Which others may.
        others: Vec<String>,
    },
}

impl Origins {
    /// Pages of the server's own origin alone.
    pub const SAME: Self = Self::Listed {
        same: true,
        others: Vec::new(),
    };

    /// Checks a request's origin.
    ///
    /// # Errors
    /// 403, if its page may not connect.
    pub fn check(&self, request: &Request<'_>) -> Result<(), Rejection> {
        let (Self::Listed { same, others }, Some(origin)) = (self, request.origin()) else {
            return Ok(());
        };
        let is_same = *same
            && request.header("Host").is_some_and(|host| {
                host_of(origin).is_some_and(|from| from.eq_ignore_ascii_case(host.trim()))
            });
        if is_same || others.iter().any(|allowed| matches(allowed, origin)) {
            Ok(())
        } else {
            Err(Rejection::new(
                403,
                format!("pages of {origin} may not connect here; see --origin"),
            ))
        }
    }
}

/// Host and port of an origin: what follows the scheme.
fn host_of(origin: &str) -> Option<&str> {
    origin.split_once("://").map(|(_, host)| host)
}

/// Whether an origin is the one allowed, or below it where that begins with `*.`.
fn matches(allowed: &str, origin: &str) -> bool {
    let (Some((scheme, pattern)), Some((got, host))) =
        (allowed.split_once("://"), origin.split_once("://"))
    else {
        return allowed.eq_ignore_ascii_case(origin);
    };
    let is_host = match pattern.strip_prefix('*') {
        Some(end) => {
            let cut = host.len().checked_sub(end.len());
            cut.is_some_and(|cut| {
                cut > 0 && host.is_char_boundary(cut) && host[cut..].eq_ignore_ascii_case(end)
            })
        }
        None => pattern.eq_ignore_ascii_case(host),
    };
    scheme.eq_ignore_ascii_case(got) && is_host
}

#[cfg(test)]
mod tests {
    use tidewheel_codec::handshake::Limits;

    use super::*;

    fn is_allowed(origins: &Origins, host: &str, origin: Option<&str>) -> bool {
        let origin = origin.map_or_else(String::new, |origin| format!("Origin: {origin}\r\n"));
        let request = format!(
            "GET / HTTP/1.1\r\nHost: {host}\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\
             Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\nSec-WebSocket-Version: 13\r\n\
             {origin}\r\n"
        );
        let (request, _) = Request::parse(request.as_bytes(), &Limits::default())
            .unwrap()
            .unwrap();
        origins.check(&request).is_ok()
    }

    #[test]
    fn a_page_may_connect_to_where_it_came_from() {
        let same = Origins::SAME;
        assert!(is_allowed(&same, "a.example", Some("https://a.example")));
        assert!(is_allowed(
            &same,
            "A.example:81",
            Some("http://a.example:81")
        ));
        assert!(is_allowed(&same, "a.example", None), "no browser");
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
    fn the_listed_may_connect_and_no_others() {
        let listed = Origins::Listed {
            same: false,
            others: ["https://a.example", "https://*.b.example", "null"]
                .map(Into::into)
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
            "https://c.example",
            "a.example",
        ] {
            assert!(!is_allowed(&listed, "c.example", Some(origin)), "{origin}");
        }
        assert!(is_allowed(&Origins::Any, "c.example", Some("https://evil")));
    }
}
