//! A client's request, as a handler sees it.

use std::{
    borrow::Cow,
    fmt,
    net::{IpAddr, SocketAddr},
};

use percent_encoding::percent_decode_str;
use tidewheel_codec::handshake;

use crate::proxies::Proxies;

/// A client's HTTP/1.1 request. Its method is GET, HEAD or POST.
///
/// Names of headers are compared without case. A header whose value is not valid UTF-8 is left out, except in
/// [`headers`](Self::headers).
pub struct Request<'a> {
    parsed: handshake::Request<'a>,
    peer: SocketAddr,
    local: SocketAddr,
    client: IpAddr,
}

impl<'a> Request<'a> {
    pub(crate) fn new(
        parsed: handshake::Request<'a>,
        peer: SocketAddr,
        local: SocketAddr,
        proxies: &Proxies,
    ) -> Self {
        let client = proxies.client(peer.ip(), |name| {
            let headers = parsed.headers();
            let lines = headers.filter(|header| header.name.eq_ignore_ascii_case(name));
            lines.map(|header| header.value).collect()
        });
        Self {
            parsed,
            peer,
            local,
            client,
        }
    }

    /// The request without the facts about its connection.
    pub(crate) fn parsed(&self) -> &handshake::Request<'a> {
        &self.parsed
    }

    /// The method: `GET`, `HEAD` or `POST`. A request for a WebSocket has the method `GET`.
    #[must_use]
    pub fn method(&self) -> &'a str {
        self.parsed.method()
    }

    /// The path as received, without the query. It begins with `/`.
    #[must_use]
    pub fn path(&self) -> &'a str {
        self.parsed.path()
    }

    /// The parts of the path between slashes, percent-decoded: `/rooms/caf%C3%A9` has `rooms` and `café`. The path
    /// `/` has none. An encoded slash is part of its segment.
    ///
    /// All are valid UTF-8: a request with another path gets status 400, and reaches no handler.
    pub fn segments(&self) -> impl Iterator<Item = Cow<'a, str>> {
        let path = self.path();
        let path = path.strip_prefix('/').unwrap_or(path);
        let segments = (!path.is_empty()).then(|| path.split('/'));
        let decode = |segment| percent_decode_str(segment).decode_utf8_lossy();
        segments.into_iter().flatten().map(decode)
    }

    /// Returns whether all [`segments`](Self::segments) are valid UTF-8.
    pub(crate) fn has_utf8_path(&self) -> bool {
        percent_decode_str(self.path()).decode_utf8().is_ok()
    }

    /// The query as received: the target after the first `?`.
    #[must_use]
    pub fn query(&self) -> Option<&'a str> {
        self.parsed.query()
    }

    /// The parameters of the query in order, decoded as a browser encodes a form
    /// (`application/x-www-form-urlencoded`). Bytes that are not valid UTF-8 are replaced by U+FFFD.
    pub fn parameters(&self) -> impl Iterator<Item = (Cow<'a, str>, Cow<'a, str>)> {
        form_urlencoded::parse(self.query().unwrap_or_default().as_bytes())
    }

    /// The first [parameter](Self::parameters) with this name.
    #[must_use]
    pub fn parameter(&self, name: &str) -> Option<Cow<'a, str>> {
        let mut parameters = self.parameters();
        parameters
            .find(|(given, _)| given == name)
            .map(|(_, value)| value)
    }

    /// The first value of a header.
    #[must_use]
    pub fn header(&self, name: &str) -> Option<&'a str> {
        self.parsed.header(name)
    }

    /// The names and values of all headers, as received, in order.
    pub fn headers(&self) -> impl Iterator<Item = (&'a str, &'a [u8])> {
        let headers = self.parsed.headers();
        headers.map(|header| (header.name, header.value))
    }

    /// The names and values of the cookies in order (RFC 6265 5.4), as received.
    pub fn cookies(&self) -> impl Iterator<Item = (&'a str, &'a str)> {
        let lines = self
            .headers()
            .filter(|(name, _)| name.eq_ignore_ascii_case("Cookie"))
            .filter_map(|(_, value)| std::str::from_utf8(value).ok());
        lines.flat_map(|line| line.split(';')).filter_map(|pair| {
            let (name, value) = pair.split_once('=')?;
            let (name, value) = (name.trim(), value.trim());
            (!name.is_empty()).then_some((name, value))
        })
    }

    /// The value of the first cookie with this name, as received: characters that [`Cookie`](crate::Cookie) has
    /// percent-encoded are still encoded.
    #[must_use]
    pub fn cookie(&self, name: &str) -> Option<&'a str> {
        let mut cookies = self.cookies();
        cookies
            .find(|(given, _)| *given == name)
            .map(|(_, value)| value)
    }

    /// The token of `Authorization: Bearer` (RFC 6750 2.1). Browsers cannot send it with a request for a WebSocket:
    /// their tokens come in a cookie or a parameter.
    #[must_use]
    pub fn bearer(&self) -> Option<&'a str> {
        let (scheme, token) = self.header("Authorization")?.split_once(' ')?;
        let token = token.trim_matches(' ');
        let is_token = scheme.eq_ignore_ascii_case("Bearer") && !token.is_empty();
        is_token.then_some(token)
    }

    /// The requested host, with its port if given: the host of the target if that is an absolute URI (RFC 9112
    /// 3.2.2), else the value of the `Host` header.
    #[must_use]
    pub fn host(&self) -> &'a str {
        self.parsed.host()
    }

    /// The `Origin` header. Browsers always send it with a request for a WebSocket (RFC 6455 10.2).
    #[must_use]
    pub fn origin(&self) -> Option<&'a str> {
        self.parsed.origin()
    }

    /// The subprotocols that the client offers, in its order of preference.
    pub fn protocols(&self) -> impl Iterator<Item = &'a str> {
        self.parsed.protocols()
    }

    /// The first subprotocol in the client's order that is among the `supported` ones.
    #[must_use]
    pub fn choose_protocol(&self, supported: &[&str]) -> Option<&'a str> {
        self.parsed.choose_protocol(supported)
    }

    /// The address and the port of the TCP peer: of the client, or of a proxy. An IPv4-mapped IPv6 address is given as
    /// IPv4.
    #[must_use]
    pub fn peer(&self) -> SocketAddr {
        self.peer
    }

    /// The address of the client: that of the [`peer`](Self::peer), unless the peer is one of
    /// [`Config::trusted_proxies`](crate::Config::trusted_proxies). Then it is the last address in
    /// [`Config::proxy_header`](crate::Config::proxy_header) that is not a trusted proxy. If the header has none, or an
    /// unknown one behind it, it is the address of the last trusted proxy before.
    #[must_use]
    pub fn client(&self) -> IpAddr {
        self.client
    }

    /// The address that the server listens on, as [`Server::address`](crate::Server::address).
    #[must_use]
    pub fn local(&self) -> SocketAddr {
        self.local
    }

    /// The body; empty if there is none. With the rest of the request it is at most
    /// [`Config::request_limits`](crate::Config::request_limits) bytes long.
    #[must_use]
    pub fn body(&self) -> &'a [u8] {
        self.parsed.body()
    }
}

impl fmt::Debug for Request<'_> {
    /// Writes the method and the path. Headers and the query may contain secrets.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Request")
            .field("method", &self.method())
            .field("path", &self.path())
            .finish_non_exhaustive()
    }
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;

    /// The request of a client at 192.0.2.1.
    pub(crate) fn of_parsed(parsed: handshake::Request<'_>) -> Request<'_> {
        let peer = SocketAddr::from(([192, 0, 2, 1], 50_000));
        let local = SocketAddr::from(([127, 0, 0, 1], 80));
        Request::new(parsed, peer, local, &Proxies::default())
    }

    /// Calls `test` with a request of this method and target, and these header lines.
    pub(crate) fn with_request<T>(
        start: &str,
        lines: &str,
        test: impl FnOnce(&Request<'_>) -> T,
    ) -> T {
        let bytes = format!("{start} HTTP/1.1\r\nHost: a.example\r\n{lines}\r\n");
        let parsed =
            handshake::Request::parse_head(bytes.as_bytes(), &handshake::Limits::default());
        let (parsed, _) = parsed
            .expect("the request is valid")
            .expect("it is complete");
        test(&of_parsed(parsed))
    }

    #[test]
    fn segments_are_decoded_one_by_one() {
        for (path, expected) in [
            ("/", &[][..]),
            ("/a", &["a"]),
            ("/a/b%2Fc/%63af%C3%A9", &["a", "b/c", "café"]),
            ("/a//b/", &["a", "", "b", ""]),
            ("/a+b/%zz", &["a+b", "%zz"]),
        ] {
            with_request(&format!("GET {path}"), "", |request| {
                assert!(request.has_utf8_path());
                assert_eq!(request.segments().collect::<Vec<_>>(), expected, "{path}");
            });
        }
        with_request("GET /a/%ff", "", |request| {
            assert!(!request.has_utf8_path());
        });
    }

    #[test]
    fn parameters_are_decoded_as_forms() {
        let target = "GET /?a=1&b=x%26y+z&a=2&empty=&flag&=none&%C3%BC=%ff";
        with_request(target, "", |request| {
            let parameters: Vec<_> = request.parameters().collect();
            let parameters: Vec<_> = parameters.iter().map(|(n, v)| (&**n, &**v)).collect();
            let expected = [
                ("a", "1"),
                ("b", "x&y z"),
                ("a", "2"),
                ("empty", ""),
                ("flag", ""),
                ("", "none"),
                ("ü", "\u{fffd}"),
            ];
            assert_eq!(parameters, expected);
            assert_eq!(request.parameter("a").as_deref(), Some("1"));
            assert_eq!(request.parameter("c"), None);
        });
        with_request("GET /", "", |request| {
            assert_eq!(request.parameters().count(), 0);
        });
    }

    #[test]
    fn cookies_of_all_lines_are_found() {
        let lines = "Cookie: a=1; b=\"x=y\";c; =d ;e= f \r\ncookie: a=2\r\n";
        with_request("GET /", lines, |request| {
            let expected = [("a", "1"), ("b", "\"x=y\""), ("e", "f"), ("a", "2")];
            assert_eq!(request.cookies().collect::<Vec<_>>(), expected);
            assert_eq!(request.cookie("a"), Some("1"));
            assert_eq!(request.cookie("A"), None);
        });
    }

    #[test]
    fn a_bearer_token_has_its_scheme_in_any_case() {
        for (value, expected) in [
            ("Bearer abc.d==", Some("abc.d==")),
            ("bEARER   abc", Some("abc")),
            ("Bearer", None),
            ("Bearer ", None),
            ("Basic abc", None),
            ("Bearerabc", None),
        ] {
            with_request("GET /", &format!("Authorization: {value}\r\n"), |request| {
                assert_eq!(request.bearer(), expected, "{value}");
            });
        }
        with_request("GET /", "", |request| assert_eq!(request.bearer(), None));
    }

    #[test]
    fn the_debug_output_of_a_request_has_no_secrets() {
        let lines = "Authorization: Bearer secret\r\n";
        let debug = with_request("GET /?token=secret", lines, |it| format!("{it:?}"));
        assert_eq!(debug, "Request { method: \"GET\", path: \"/\", .. }");
    }
}
