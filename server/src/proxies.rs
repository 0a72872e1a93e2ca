//! The address of a client behind proxies.

use std::{borrow::Cow, fmt, net::IpAddr, str::FromStr};

use ipnet::{IpNet, Ipv4Net};

/// The address of a proxy, or a range of addresses in CIDR notation.
///
/// ```
/// use tidewheel::TrustedProxy;
///
/// let range: TrustedProxy = "10.0.0.0/8".parse()?;
/// assert_eq!(range.to_string(), "10.0.0.0/8");
/// assert!("192.0.2.1".parse::<TrustedProxy>().is_ok());
/// # Ok::<(), tidewheel::InvalidProxy>(())
/// ```
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct TrustedProxy(IpNet);

/// A text that is neither an address nor a range of addresses.
#[derive(Clone, Debug, Eq, PartialEq, thiserror::Error)]
#[error("`{text}` is not an address; write one such as 192.0.2.1, or a range such as 10.0.0.0/8")]
pub struct InvalidProxy {
    text: String,
}

impl FromStr for TrustedProxy {
    type Err = InvalidProxy;

    /// Parses an address or a range. Spaces around it are ignored, and so are the bits of the address behind the
    /// prefix.
    fn from_str(text: &str) -> Result<Self, InvalidProxy> {
        let text = text.trim();
        let address = text.parse::<IpAddr>().map(IpNet::from);
        let range = address.or_else(|_| text.parse::<IpNet>());
        match range {
            Ok(range) => Ok(Self(canonical(range).trunc())),
            Err(_) => Err(InvalidProxy {
                text: text.to_owned(),
            }),
        }
    }
}

/// Converts a range of IPv4-mapped IPv6 addresses to IPv4 (RFC 4291 2.5.5.2), as addresses of peers are.
fn canonical(range: IpNet) -> IpNet {
    let (IpAddr::V4(address), IpNet::V6(mapped)) = (range.addr().to_canonical(), range) else {
        return range;
    };
    let prefix = mapped.prefix_len().checked_sub(96);
    let range_v4 = prefix.and_then(|prefix| Ipv4Net::new(address, prefix).ok());
    range_v4.map_or(range, IpNet::V4)
}

impl fmt::Display for TrustedProxy {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

/// The header in which trusted proxies name their clients.
///
/// A server reads one header only: proxies pass on the other one as the client has sent it.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub enum ProxyHeader {
    /// `X-Forwarded-For`, a list of addresses.
    #[default]
    XForwardedFor,
    /// `Forwarded` (RFC 7239), the parameter `for`.
    Forwarded,
}

/// The trusted proxies of a server.
#[derive(Clone, Debug, Default)]
pub(crate) struct Proxies {
    pub(crate) trusted: Vec<TrustedProxy>,
    pub(crate) header: ProxyHeader,
}

impl Proxies {
    /// Returns the address of the client whose request came from `peer`. `lines` returns the values of all headers
    /// with a name, in order.
    ///
    /// Each proxy appends the address of its own client. So the addresses are read from the last one, as long as the
    /// proxy that has appended it is trusted. A part without an address ends the search.
    pub(crate) fn client<'l>(
        &self,
        peer: IpAddr,
        lines: impl FnOnce(&'static str) -> Vec<&'l [u8]>,
    ) -> IpAddr {
        if !self.is_trusted(peer) {
            return peer;
        }
        let (name, address_of): (_, fn(&str) -> Option<IpAddr>) = match self.header {
            ProxyHeader::XForwardedFor => ("X-Forwarded-For", address),
            ProxyHeader::Forwarded => ("Forwarded", forwarded_for),
        };
        let lines = lines(name);
        let lines: Vec<_> = lines.into_iter().map(String::from_utf8_lossy).collect();
        // Commas in quotes also separate: a client's quotes cannot enclose what a proxy has appended.
        let parts = lines.iter().map(Cow::as_ref).rev();
        let parts = parts.flat_map(|line: &str| line.rsplit(',').map(str::trim));
        let mut last = peer;
        for part in parts.filter(|part| !part.is_empty()) {
            match address_of(part) {
                Some(address) if self.is_trusted(address) => last = address,
                Some(address) => return address,
                None => break,
            }
        }
        last
    }

    fn is_trusted(&self, address: IpAddr) -> bool {
        self.trusted.iter().any(|range| range.0.contains(&address))
    }
}

/// Returns the address in a `for` parameter (RFC 7239 4).
fn forwarded_for(element: &str) -> Option<IpAddr> {
    let mut values = element.split(';').filter_map(|pair| {
        let (name, value) = pair.split_once('=')?;
        name.trim()
            .eq_ignore_ascii_case("for")
            .then_some(value.trim())
    });
    let (value, None) = (values.next()?, values.next()) else {
        return None;
    };
    let unquoted = value.strip_prefix('"').and_then(|it| it.strip_suffix('"'));
    address(unquoted.unwrap_or(value))
}

/// Parses an address, with a port or without: a node of RFC 7239 6, or an IPv6 address without brackets.
fn address(node: &str) -> Option<IpAddr> {
    let address = match node.parse::<IpAddr>() {
        Ok(address) => address,
        Err(_) => {
            let (host, port) = match node.strip_prefix('[') {
                Some(node) => node.split_once(']')?,
                None => node.split_at(node.find(':')?),
            };
            let is_port = |byte: u8| byte.is_ascii_alphanumeric() || b"._-".contains(&byte);
            let port = port.strip_prefix(':').unwrap_or(port);
            if !port.bytes().all(is_port) {
                return None;
            }
            match node.starts_with('[') {
                true => IpAddr::V6(host.parse().ok()?),
                false => IpAddr::V4(host.parse().ok()?),
            }
        }
    };
    Some(address.to_canonical())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn client(header: ProxyHeader, peer: &str, lines: &[&[u8]]) -> String {
        let trusted = [
            "10.0.0.0/8",
            "192.0.2.1",
            "2001:db8::/32",
            "::ffff:172.16.0.0/108",
        ];
        let proxies = Proxies {
            trusted: trusted.map(|range| range.parse().unwrap()).into(),
            header,
        };
        let client = proxies.client(peer.parse().unwrap(), |_| lines.to_vec());
        client.to_string()
    }

    #[test]
    fn the_last_address_that_no_trusted_proxy_has_is_the_client() {
        for (peer, lines, expected) in [
            // Without a trusted peer, headers do not matter.
            ("203.0.113.1", &["198.51.100.1"][..], "203.0.113.1"),
            ("192.0.2.2", &["198.51.100.1"], "192.0.2.2"),
            ("10.0.0.1", &[], "10.0.0.1"),
            ("10.0.0.1", &[""], "10.0.0.1"),
            ("10.0.0.1", &["198.51.100.1"], "198.51.100.1"),
            ("192.0.2.1", &["198.51.100.1:4711"], "198.51.100.1"),
            ("172.16.5.5", &["198.51.100.1"], "198.51.100.1"),
            ("2001:db8::1", &["2a00::1"], "2a00::1"),
            ("10.0.0.1", &["[2a00::1]:80"], "2a00::1"),
            ("10.0.0.1", &["[2a00::1]"], "2a00::1"),
            ("10.0.0.1", &["::ffff:198.51.100.1"], "198.51.100.1"),
            // Addresses on the left are those that the client has sent.
            ("10.0.0.1", &["1.1.1.1, 198.51.100.1"], "198.51.100.1"),
            ("10.0.0.1", &["1.1.1.1", "198.51.100.1"], "198.51.100.1"),
            ("10.0.0.1", &["10.9.9.9, 198.51.100.1"], "198.51.100.1"),
            // Trusted proxies behind the first one.
            (
                "10.0.0.1",
                &["198.51.100.1, 10.0.0.2,192.0.2.1"],
                "198.51.100.1",
            ),
            (
                "10.0.0.1",
                &["198.51.100.1 , 10.0.0.2", "10.0.0.3"],
                "198.51.100.1",
            ),
            ("10.0.0.1", &["10.0.0.3, 10.0.0.2"], "10.0.0.3"),
            ("10.0.0.1", &["198.51.100.1,, ,"], "198.51.100.1"),
            // A part without an address.
            ("10.0.0.1", &["198.51.100.1, unknown"], "10.0.0.1"),
            ("10.0.0.1", &["198.51.100.1, x, 10.0.0.2"], "10.0.0.2"),
            ("10.0.0.1", &["198.51.100.1:8 0"], "10.0.0.1"),
            ("10.0.0.1", &["[198.51.100.1]:80"], "10.0.0.1"),
            ("10.0.0.1", &["198.51.100.1]"], "10.0.0.1"),
            ("10.0.0.1", &["[2a00::1"], "10.0.0.1"),
            ("10.0.0.1", &["198.51.100.256"], "10.0.0.1"),
            ("10.0.0.1", &["for=198.51.100.1"], "10.0.0.1"),
        ] {
            let bytes: Vec<&[u8]> = lines.iter().map(|line| line.as_bytes()).collect();
            let got = client(ProxyHeader::XForwardedFor, peer, &bytes);
            assert_eq!(got, expected, "{peer} {lines:?}");
        }
    }

    #[test]
    fn the_parameter_for_of_forwarded_names_the_client() {
        for (lines, expected) in [
            (&["for=198.51.100.1"][..], "198.51.100.1"),
            (&["For=\"198.51.100.1:4711\""], "198.51.100.1"),
            (&["proto=https ; FOR = \"[2a00::1]:80\";by=_x"], "2a00::1"),
            (&["for=\"[2a00::1]\""], "2a00::1"),
            (&["for=\"198.51.100.1:_obfuscated\""], "198.51.100.1"),
            (&["for=1.1.1.1, for=198.51.100.1;host=a"], "198.51.100.1"),
            (
                &["for=198.51.100.1, for=10.0.0.2", "for=10.0.0.3"],
                "198.51.100.1",
            ),
            (&["for=198.51.100.1, for=_hidden, for=10.0.0.2"], "10.0.0.2"),
            (&["for=unknown"], "10.0.0.1"),
            (&["for=\"\""], "10.0.0.1"),
            (&["for=1.1.1.1;for=198.51.100.1"], "10.0.0.1"),
            (&["host=a"], "10.0.0.1"),
            (&["198.51.100.1"], "10.0.0.1"),
            // Quotes of the client do not enclose what the proxy has appended.
            (&["for=\"1.1.1.1, for=198.51.100.1"], "198.51.100.1"),
            (&["for=1.1.1.1, x=\", for=\"[2a00::1]\""], "2a00::1"),
        ] {
            let bytes: Vec<&[u8]> = lines.iter().map(|line| line.as_bytes()).collect();
            let got = client(ProxyHeader::Forwarded, "10.0.0.1", &bytes);
            assert_eq!(got, expected, "{lines:?}");
        }
    }

    /// Otherwise the client could have the line that its proxy has appended to ignored.
    #[test]
    fn a_line_that_is_not_utf_8_is_read_too() {
        let lines = [&b"1.1.1.1"[..], b"\xff, 198.51.100.1"];
        let got = client(ProxyHeader::XForwardedFor, "10.0.0.1", &lines);
        assert_eq!(got, "198.51.100.1");
        let got = client(
            ProxyHeader::XForwardedFor,
            "10.0.0.1",
            &[b"1.1.1.1", b"\xff"],
        );
        assert_eq!(got, "10.0.0.1");
    }

    #[test]
    fn a_trusted_proxy_is_an_address_or_a_range() {
        for (text, expected) in [
            ("10.0.0.0/8", "10.0.0.0/8"),
            (" 10.1.2.3/8 ", "10.0.0.0/8"),
            ("192.0.2.1", "192.0.2.1/32"),
            ("::1", "::1/128"),
            ("2001:db8::/32", "2001:db8::/32"),
            ("::ffff:10.0.0.0/104", "10.0.0.0/8"),
            ("::/0", "::/0"),
        ] {
            let range = text.parse::<TrustedProxy>().map(|it| it.to_string());
            assert_eq!(range.as_deref(), Ok(expected), "{text}");
        }
        for text in [
            "",
            "10.0.0.0/33",
            "10.0.0/8",
            "localhost",
            "10.0.0.1:80",
            "*",
        ] {
            assert!(text.parse::<TrustedProxy>().is_err(), "{text}");
        }
    }
}
