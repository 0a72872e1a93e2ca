//! Addresses to listen on, as the command line writes them: `HOST:PORT`.

use std::{
    net::{Ipv6Addr, SocketAddr},
    str::FromStr,
};

use super::{file_value, units::is_off};

/// An address to listen on: `HOST:PORT`.
#[derive(Clone, Debug, Eq, PartialEq)]
pub(super) struct Listen(pub(super) String);

impl FromStr for Listen {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        address(text, "8080").map(Self)
    }
}

/// The address of the admin listener, or `off`.
#[derive(Clone, Debug, Eq, PartialEq)]
pub(super) struct Admin(pub(super) Option<String>);

impl FromStr for Admin {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        match text.trim() {
            text if is_off(text) => Ok(Self(None)),
            text => match address(text, "9090") {
                Ok(address) => Ok(Self(Some(address))),
                Err(error) => Err(format!("{error}; or off")),
            },
        }
    }
}

/// Checks the form of an address. Does not resolve the name of a host. `example_port` is the port of the
/// examples in errors.
fn address(text: &str, example_port: &str) -> Result<String, String> {
    let text = text.trim();
    let any = |port: &str| {
        format!("write 127.0.0.1:{port}, or 0.0.0.0:{port} to accept clients from other hosts")
    };
    let no_port = |host: &str| format!("`{text}` has no port; write {host}:{example_port}");
    let is_port =
        |port: &str| port.bytes().all(|byte| byte.is_ascii_digit()) && port.parse::<u16>().is_ok();
    let is_name = |host: &str| {
        let is_in_name = |c: char| c.is_alphanumeric() || matches!(c, '-' | '.' | '_');
        !host.is_empty() && host.chars().all(is_in_name)
    };
    if text.parse::<SocketAddr>().is_ok() {
        return Ok(text.to_owned());
    }
    if text.is_empty() {
        return Err(format!("the address is empty; {}", any(example_port)));
    }
    if is_port(text) {
        return Err(format!("`{text}` has no host; {}", any(text)));
    }
    if let Some((_, rest)) = text.split_once("://") {
        let host = rest.split(['/', '?', '#']).next().unwrap_or_default();
        let suggestion = match address(host, example_port) {
            Ok(address) => address,
            Err(_) if is_name(host) => format!("{host}:{example_port}"),
            Err(_) => format!("127.0.0.1:{example_port}"),
        };
        return Err(format!("`{text}` is a URL; write {suggestion}"));
    }
    let wrong = || format!("`{text}` is not an address; {}", any(example_port));
    let is_ipv6 = |host: &str| host.parse::<Ipv6Addr>().is_ok();
    let Some((host, port)) = text.rsplit_once(':') else {
        let is_word = ["true", "false", "on", "off", "yes", "no", "auto"].contains(&text);
        return Err(match is_name(text) && !is_word {
            true => no_port(text),
            false => wrong(),
        });
    };
    // The last group of an IPv6 address without a port looks like a port.
    if is_ipv6(text) && !is_ipv6(host) {
        return Err(no_port(&format!("[{text}]")));
    }
    let in_brackets = |host: &str| {
        let inner = host.strip_prefix('[')?.strip_suffix(']')?;
        Some(is_ipv6(inner))
    };
    if in_brackets(text) == Some(true) {
        return Err(no_port(text));
    }
    if host.is_empty() && is_port(port) {
        return Err(format!("`{text}` has no host; {}", any(port)));
    }
    if host == "*" && is_port(port) {
        return Err(format!(
            "`{text}` is not an address; write 0.0.0.0:{port}, or [::]:{port} for IPv6"
        ));
    }
    let is_host = is_name(host) || is_ipv6(host) || in_brackets(host) == Some(true);
    if !is_host || port.contains('/') {
        return Err(wrong());
    }
    if port.is_empty() {
        return Err(no_port(host));
    }
    if !is_port(port) {
        return Err(format!(
            "`{port}` is not a port; write one from 1 to 65535, as in {host}:{example_port}, or 0 for a free one"
        ));
    }
    Ok(text.to_owned())
}

file_value::from_file!(Listen, Admin);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_address_has_a_host_and_a_port() {
        for text in [
            "127.0.0.1:8080",
            "0.0.0.0:0",
            "[::1]:8080",
            "[::]:65535",
            "::1:8080",
            "[fe80::1%2]:8080",
            "localhost:80",
            "my-host.example.com:8080",
            " localhost:80 ",
        ] {
            assert_eq!(text.parse(), Ok(Listen(text.trim().to_owned())), "{text}");
            let admin = Ok(Admin(Some(text.trim().to_owned())));
            assert_eq!(text.parse(), admin, "{text}");
        }
        for off in ["off", "Off", "false"] {
            assert_eq!(off.parse(), Ok(Admin(None)), "{off}");
            assert!(off.parse::<Listen>().is_err(), "{off}");
        }
    }

    #[test]
    fn the_error_for_a_wrong_address_says_what_to_write() {
        let any = |port: u16| {
            format!(
                "; write 127.0.0.1:{port}, or 0.0.0.0:{port} to accept clients from other hosts"
            )
        };
        for (text, expected) in [
            ("", format!("the address is empty{}", any(8080))),
            ("8080", format!("`8080` has no host{}", any(8080))),
            (":8080", format!("`:8080` has no host{}", any(8080))),
            (":0", format!("`:0` has no host{}", any(0))),
            ("443", format!("`443` has no host{}", any(443))),
            (":", format!("`:` is not an address{}", any(8080))),
            ("true", format!("`true` is not an address{}", any(8080))),
            ("on", format!("`on` is not an address{}", any(8080))),
            ("a b:80", format!("`a b:80` is not an address{}", any(8080))),
            (
                "unix:/run/app.sock",
                format!("`unix:/run/app.sock` is not an address{}", any(8080)),
            ),
            (
                "localhost",
                "`localhost` has no port; write localhost:8080".to_owned(),
            ),
            (
                "localhost:",
                "`localhost:` has no port; write localhost:8080".to_owned(),
            ),
            (
                "127.0.0.1",
                "`127.0.0.1` has no port; write 127.0.0.1:8080".to_owned(),
            ),
            ("::1", "`::1` has no port; write [::1]:8080".to_owned()),
            ("::", "`::` has no port; write [::]:8080".to_owned()),
            ("[::1]", "`[::1]` has no port; write [::1]:8080".to_owned()),
            (
                "*:80",
                "`*:80` is not an address; write 0.0.0.0:80, or [::]:80 for IPv6".to_owned(),
            ),
            (
                "ws://localhost:8081/chat",
                "`ws://localhost:8081/chat` is a URL; write localhost:8081".to_owned(),
            ),
            (
                "http://a.example",
                "`http://a.example` is a URL; write a.example:8080".to_owned(),
            ),
        ] {
            assert_eq!(text.parse::<Listen>(), Err(expected), "{text}");
        }
        for (text, port) in [
            ("127.0.0.1:99999", "99999"),
            ("localhost:http", "http"),
            ("localhost: 80", " 80"),
            ("localhost:-1", "-1"),
            ("localhost:+1", "+1"),
        ] {
            let error = text.parse::<Listen>().unwrap_err();
            let expected = format!("`{port}` is not a port; write one from 1 to 65535");
            assert!(error.starts_with(&expected), "{error}");
        }
        for text in ["", "9090", "localhost", "true", "localhost:x"] {
            let error = text.parse::<Admin>().unwrap_err();
            assert!(error.contains(":9090"), "{error}");
            assert!(error.ends_with("; or off"), "{error}");
        }
    }
}
