//! Values as they stand on the command line.

use std::{net::ToSocketAddrs, time::Duration};

use rustls::pki_types::ServerName;
use tidewheel::cli::units::{Size, Span};
use ureq::http::Uri;

use crate::fleet::Target;

/// A number of connections: at least 1, with `k` for thousands and `M` for millions.
pub(crate) fn count(text: &str) -> Result<u32, String> {
    let (digits, unit) = match text.as_bytes().last() {
        Some(b'k' | b'K') => (&text[..text.len() - 1], 1_000),
        Some(b'm' | b'M') => (&text[..text.len() - 1], 1_000_000),
        _ => (text, 1),
    };
    let number: u32 = digits
        .parse()
        .map_err(|_| "a count is a whole number, such as 500, 10k or 1M".to_owned())?;
    match number.checked_mul(unit) {
        Some(0) => Err("the least is 1".to_owned()),
        Some(count) => Ok(count),
        None => Err(format!("the most is {}", u32::MAX)),
    }
}

/// A rate: a count in a second.
pub(crate) fn rate(text: &str) -> Result<u32, String> {
    count(text.strip_suffix("/s").unwrap_or(text))
}

/// A duration in the units of the server's command line.
pub(crate) fn duration(text: &str) -> Result<Duration, String> {
    text.parse().map(|Span(duration)| duration)
}

/// A number of bytes in the units of the server's command line.
pub(crate) fn size(text: &str) -> Result<usize, String> {
    text.parse().map(|Size(size)| size)
}

/// A share: `50%` or `0.5`.
pub(crate) fn share(text: &str) -> Result<f64, String> {
    let (digits, scale) = match text.strip_suffix('%') {
        Some(digits) => (digits, 0.01),
        None => (text, 1.0),
    };
    match digits.trim().parse::<f64>().map(|number| number * scale) {
        Ok(share) if (0.0..=1.0).contains(&share) => Ok(share),
        Ok(_) | Err(_) => Err("a share is 0% to 100%, or 0 to 1".to_owned()),
    }
}

/// A header: `NAME: VALUE`.
pub(super) fn header(text: &str) -> Result<(String, String), String> {
    let (name, value) = text
        .split_once(':')
        .ok_or("a header is NAME: VALUE".to_owned())?;
    let (name, value) = (name.trim(), value.trim());
    let is_token = |byte: u8| byte.is_ascii_graphic() && !b"()<>@,;:\\\"/[]?={}".contains(&byte);
    if name.is_empty() || !name.bytes().all(is_token) || value.bytes().any(|byte| byte < b' ') {
        return Err("a header is NAME: VALUE".to_owned());
    }
    Ok((name.to_owned(), value.to_owned()))
}

/// The server at a `ws://` or `wss://` URL, its name resolved.
pub(super) fn target(text: &str) -> Result<Target, String> {
    let uri: Uri = text.parse().map_err(|error| format!("{error}"))?;
    let (is_secure, port) = match uri.scheme_str() {
        Some("ws") => (false, 80),
        Some("wss") => (true, 443),
        Some(other) => return Err(format!("scheme is {other}://; it is ws:// or wss://")),
        None => return Err("the scheme is missing: ws://HOST:PORT/PATH, or wss://".to_owned()),
    };
    let host = uri.host().ok_or("the host is missing")?;
    let name = host.trim_start_matches('[').trim_end_matches(']');
    let address = (name, uri.port_u16().unwrap_or(port))
        .to_socket_addrs()
        .map_err(|error| format!("{host}: {error}"))?
        .next()
        .ok_or_else(|| format!("{host} has no address"))?;
    let authority = uri.authority().map_or(host, |authority| authority.as_str());
    let path = uri.path_and_query().map_or("/", |path| path.as_str());
    let name = is_secure.then(|| ServerName::try_from(name.to_owned()));
    let name = name.transpose();
    Ok(Target {
        name: name.map_err(|error| format!("{host}: {error}"))?,
        host: authority.to_owned(),
        path: path.to_owned(),
        ..Target::at(address)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn counts_have_units() {
        let table = [("1", 1), ("500", 500), ("10k", 10_000), ("1M", 1_000_000)];
        for (text, expected) in table {
            assert_eq!(count(text), Ok(expected), "{text}");
        }
        for text in [
            "", "k", "0", "0k", "-1", "1.5k", "10x", "5000M", "1 000", "é",
        ] {
            assert!(count(text).is_err(), "{text}");
        }
        assert_eq!((rate("2k"), rate("50/s")), (Ok(2_000), Ok(50)));
        assert_eq!((share("50%"), share("0.25")), (Ok(0.5), Ok(0.25)));
        assert!(
            ["101%", "-1", "half", "NaN"]
                .iter()
                .all(|text| share(text).is_err())
        );
    }

    #[test]
    fn headers_have_a_name_and_a_value() {
        let pair = |name: &str, value: &str| Ok((name.to_owned(), value.to_owned()));
        assert_eq!(header("Cookie: a=b: c"), pair("Cookie", "a=b: c"));
        for text in ["Cookie", ": x", "A B: x", "A: x\ny"] {
            assert!(header(text).is_err(), "{text}");
        }
    }

    #[test]
    fn urls_give_an_address_a_host_and_a_path() {
        let url = target("ws://127.0.0.1:9001/chat?room=1").unwrap();
        assert_eq!(url.address, "127.0.0.1:9001".parse().unwrap());
        assert_eq!((&*url.host, &*url.path), ("127.0.0.1:9001", "/chat?room=1"));
        let url = target("ws://[::1]").unwrap();
        assert_eq!(url.address, "[::1]:80".parse().unwrap());
        assert_eq!((&*url.host, &*url.path), ("[::1]", "/"));
        assert_eq!(url.name, None);
        let url = target("wss://127.0.0.1/chat").unwrap();
        assert_eq!(url.address, "127.0.0.1:443".parse().unwrap());
        assert_eq!(url.name, ServerName::try_from("127.0.0.1").ok());
        let url = target("wss://[::1]:9001").unwrap();
        assert_eq!(url.address, "[::1]:9001".parse().unwrap());
        assert_eq!(url.name, ServerName::try_from("::1").ok());
        for text in [
            "wss://",
            "wss:///chat",
            "http://127.0.0.1",
            "127.0.0.1:80",
            "ws://",
            "ws://host:x/",
        ] {
            assert!(target(text).is_err(), "{text}");
        }
    }
}
