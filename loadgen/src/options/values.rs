//! Parsers of option values.

use std::{
    net::{SocketAddr, ToSocketAddrs},
    time::Duration,
};

use rustls::pki_types::ServerName;
use tidewheel::cli::units::{Size, Span};
use ureq::http::Uri;

use crate::fleet::target::Target;

/// Form of a URL in error messages.
const URL_FORM: &str = "ws://HOST:PORT/PATH or wss://HOST:PORT/PATH, such as ws://127.0.0.1:9001/";

/// Form of a header in error messages.
const HEADER_FORM: &str = "a header is NAME: VALUE, such as 'Cookie: a=b'";

/// Shortest duration that timeouts and measurements resolve.
const SPAN_MIN: Duration = Duration::from_millis(1);

/// Parses a count of at least 1; `k` stands for thousands and `M` for millions.
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
        Some(0) => Err("the smallest count is 1".to_owned()),
        Some(count) => Ok(count),
        None => Err(format!("the largest count is {}", u32::MAX)),
    }
}

/// Parses a rate: a count per second.
pub(crate) fn rate(text: &str) -> Result<u32, String> {
    count(text.strip_suffix("/s").unwrap_or(text))
}

/// Parses a duration in the units of the server's command line.
pub(crate) fn duration(text: &str) -> Result<Duration, String> {
    text.parse().map(|Span(duration)| duration)
}

/// Parses a duration of at least 1 ms.
pub(crate) fn span(text: &str) -> Result<Duration, String> {
    match duration(text)? {
        Duration::ZERO => Err("the shortest duration is 1ms".to_owned()),
        span if span < SPAN_MIN => Err("the shortest duration is 1ms".to_owned()),
        span => Ok(span),
    }
}

/// Parses a seed.
pub(super) fn seed(text: &str) -> Result<u64, String> {
    text.parse()
        .map_err(|_| format!("`{text}` is not a seed; write a whole number, such as 42"))
}

/// Parses a number of shards.
pub(super) fn shards(text: &str) -> Result<u16, String> {
    match text.parse() {
        Ok(shards @ 1..) => Ok(shards),
        Ok(0) | Err(_) => Err(format!(
            "`{text}` is not a number of shards; write 1 to 65535"
        )),
    }
}

/// Parses the address of a listener.
pub(super) fn address(text: &str) -> Result<SocketAddr, String> {
    const FORM: &str = "an address is IP:PORT, such as 127.0.0.1:9100";
    match text.parse::<SocketAddr>() {
        Ok(address) if address.port() == 0 => Err(format!("no server listens at port 0; {FORM}")),
        Ok(address) => Ok(address),
        Err(_) => Err(FORM.to_owned()),
    }
}

/// Parses a number of bytes in the units of the server's command line.
pub(crate) fn size(text: &str) -> Result<usize, String> {
    text.parse().map(|Size(size)| size)
}

/// Parses a share, such as `50%` or `0.5`.
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

/// Parses a header `NAME: VALUE`.
pub(super) fn header(text: &str) -> Result<(String, String), String> {
    let (name, value) = text.split_once(':').ok_or_else(|| HEADER_FORM.to_owned())?;
    let (name, value) = (name.trim(), value.trim());
    if !is_token(name) || value.bytes().any(|byte| byte < b' ') {
        return Err(HEADER_FORM.to_owned());
    }
    Ok((name.to_owned(), value.to_owned()))
}

/// Parses the name of a subprotocol (RFC 6455 4.1: a token).
pub(super) fn subprotocol(text: &str) -> Result<String, String> {
    match is_token(text) {
        true => Ok(text.to_owned()),
        false => {
            Err("a subprotocol is one name without spaces and separators, such as chat".to_owned())
        }
    }
}

/// Returns whether `text` is a token (RFC 9110 5.6.2).
fn is_token(text: &str) -> bool {
    let is_allowed = |byte: u8| byte.is_ascii_graphic() && !b"()<>@,;:\\\"/[]?={}".contains(&byte);
    !text.is_empty() && text.bytes().all(is_allowed)
}

/// Parses a `ws://` or `wss://` URL, and resolves its host.
pub(super) fn target(text: &str) -> Result<Target, String> {
    let wrong = |what: &str| format!("{what}; write {URL_FORM}");
    let (scheme, rest) = text
        .split_once("://")
        .ok_or_else(|| wrong("this is not the URL of a WebSocket server"))?;
    let (is_secure, default_port) = match scheme {
        "ws" => (false, 80),
        "wss" => (true, 443),
        other => return Err(wrong(&format!("the scheme is {other}://"))),
    };
    if rest.is_empty() || rest.starts_with(['/', ':', '?']) {
        return Err(wrong("the host is missing"));
    }
    let uri: Uri = text.parse().map_err(|error| wrong(&format!("{error}")))?;
    let authority = uri
        .authority()
        .ok_or_else(|| wrong("the host is missing"))?;
    let host = authority.host();
    if authority.as_str().contains('@') {
        return Err(
            "the URL of a WebSocket server has no name and password; write \
                    --header 'Authorization: Basic ...'"
                .to_owned(),
        );
    }
    let port = match (authority.port_u16(), authority.as_str().len() > host.len()) {
        (Some(0), _) => return Err(wrong("no server listens at port 0")),
        (Some(port), _) => port,
        // The text after the host is not a port.
        (None, true) => return Err(wrong("a port is 1 to 65535")),
        (None, false) => default_port,
    };
    let name = host.trim_start_matches('[').trim_end_matches(']');
    let address = (name, port)
        .to_socket_addrs()
        .map_err(|error| format!("{host}: {error}"))?
        .next()
        .ok_or_else(|| format!("{host} has no address"))?;
    let authority = authority.as_str();
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
    }

    #[test]
    fn an_invalid_url_is_rejected_with_the_form_to_write() {
        for (text, expected) in [
            ("", "not the URL"),
            ("ws:/x", "not the URL"),
            ("ws:", "not the URL"),
            ("localhost", "not the URL"),
            ("localhost:9001", "not the URL"),
            ("127.0.0.1:80", "not the URL"),
            ("//localhost:80", "not the URL"),
            ("http://", "the scheme is http://"),
            ("https://127.0.0.1", "the scheme is https://"),
            ("://x", "the scheme is ://"),
            ("ws://", "the host is missing"),
            ("wss:///chat", "the host is missing"),
            ("ws://:9001/", "the host is missing"),
            ("ws://?x", "the host is missing"),
            ("ws://127.0.0.1:0/", "no server listens at port 0"),
            ("ws://127.0.0.1:99999/", "a port is 1 to 65535"),
            ("ws://127.0.0.1:-1/", "ws://HOST:PORT/PATH"),
            ("ws://127.0.0.1:/", "a port is 1 to 65535"),
            ("ws://host:x/", "ws://HOST:PORT/PATH"),
            ("ws://a b/", "ws://HOST:PORT/PATH"),
        ] {
            let message = target(text).unwrap_err();
            assert!(message.contains(expected), "{text}: {message}");
            assert!(message.contains(URL_FORM), "{text}: {message}");
        }
        let message = target("ws://me:secret@127.0.0.1/").unwrap_err();
        assert!(message.contains("--header 'Authorization: "), "{message}");
    }

    #[test]
    fn a_span_is_at_least_one_millisecond() {
        assert_eq!(span("1ms"), Ok(Duration::from_millis(1)));
        for text in ["0s", "0ms", "0.5ms", "-5s", "5", ""] {
            assert!(span(text).is_err(), "{text}");
        }
        assert_eq!(duration("0s"), Ok(Duration::ZERO));
    }

    #[test]
    fn errors_of_seeds_shards_and_addresses_give_an_example() {
        assert_eq!((seed("7"), shards("3")), (Ok(7), Ok(3)));
        assert_eq!(address("[::1]:9"), Ok("[::1]:9".parse().unwrap()));
        assert!(seed("x").unwrap_err().contains("such as 42"));
        for text in ["0", "-1", "65536", "auto"] {
            assert!(shards(text).unwrap_err().contains("1 to 65535"), "{text}");
        }
        for text in [
            "localhost:80",
            "127.0.0.1",
            "127.0.0.1:0",
            "http://127.0.0.1:9/",
        ] {
            let message = address(text).unwrap_err();
            assert!(
                message.contains("such as 127.0.0.1:9100"),
                "{text}: {message}"
            );
        }
    }
}
