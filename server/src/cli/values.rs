//! Other values as they stand on a command line.

use std::{
    net::{Ipv6Addr, SocketAddr},
    str::FromStr,
};

use clap::ValueEnum;
use tidewheel_codec::handshake::is_token;

use super::text;
use crate::{
    CloseCode, HostPattern, Hosts, OriginPattern, Origins, SlowConsumer, TopicRule,
    topic::check_pattern,
};

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
            text if text::is_off(text) => Ok(Self(None)),
            text => match address(text, "9090") {
                Ok(address) => Ok(Self(Some(address))),
                Err(error) => Err(format!("{error}; or off")),
            },
        }
    }
}

/// Checks the form of an address; `example` is a port for examples. The name of a host is not resolved.
fn address(text: &str, example: &str) -> Result<String, String> {
    let text = text.trim();
    let any =
        |port: &str| format!("write 127.0.0.1:{port}, or 0.0.0.0:{port} to serve other hosts too");
    let no_port = |host: &str| format!("`{text}` has no port; write {host}:{example}");
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
        return Err(format!("the address is empty; {}", any(example)));
    }
    if is_port(text) {
        return Err(format!("`{text}` has no host; {}", any(text)));
    }
    if let Some((_, rest)) = text.split_once("://") {
        let host = rest.split(['/', '?', '#']).next().unwrap_or_default();
        let meant = match address(host, example) {
            Ok(address) => address,
            Err(_) if is_name(host) => format!("{host}:{example}"),
            Err(_) => format!("127.0.0.1:{example}"),
        };
        return Err(format!("`{text}` is a URL; write {meant}"));
    }
    let wrong = || format!("`{text}` is no address; {}", any(example));
    let is_ipv6 = |host: &str| host.parse::<Ipv6Addr>().is_ok();
    let Some((host, port)) = text.rsplit_once(':') else {
        let is_word = ["true", "false", "on", "off", "yes", "no", "auto"].contains(&text);
        return Err(match is_name(text) && !is_word {
            true => no_port(text),
            false => wrong(),
        });
    };
    // The last group of an address without a port looks like one.
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
            "`{text}` is no address; write 0.0.0.0:{port}, or [::]:{port} for IPv6"
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
            "`{port}` is no port; write one from 1 to 65535, as in {host}:{example}, or 0 for a free one"
        ));
    }
    Ok(text.to_owned())
}

/// A number of shards.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) enum Shards {
    Auto,
    Count(u16),
}

impl FromStr for Shards {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let text = text.trim();
        if text.eq_ignore_ascii_case("auto") {
            return Ok(Self::Auto);
        }
        match text.parse() {
            Ok(count @ 1..) => Ok(Self::Count(count)),
            Ok(0) | Err(_) => Err(format!(
                "`{text}` is no number of shards; write 1 to {}, or auto",
                u16::MAX
            )),
        }
    }
}

/// The policy for a client that reads too slowly.
#[derive(Clone, Copy, Debug, Eq, PartialEq, ValueEnum)]
pub(super) enum Policy {
    /// It is closed with 1008
    #[value(alias = "close-1008")]
    Close,
    /// It is closed with 1013, try again later
    #[value(name = "close-1013")]
    CloseTryAgain,
    /// The oldest messages to it are dropped until there is room
    DropOldest,
    /// New messages to it are dropped until it has caught up
    DropNewest,
    /// A new message to it replaces those that wait
    Conflate,
}

impl From<Policy> for SlowConsumer {
    fn from(policy: Policy) -> Self {
        match policy {
            Policy::Close => Self::Close,
            Policy::CloseTryAgain => Self::CloseTryAgain,
            Policy::DropOldest => Self::DropOldest,
            Policy::DropNewest => Self::DropNewest,
            Policy::Conflate => Self::Conflate,
        }
    }
}

/// The policy for slow readers of some topics.
#[derive(Clone, Debug, Eq, PartialEq)]
pub(super) struct TopicPolicy(pub(super) TopicRule);

impl FromStr for TopicPolicy {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let text = text.trim();
        if let Some(told) = listed::<Self>(text) {
            return Err(told);
        }
        // A pattern may end with `>`, and has no `=` by itself.
        let Some((pattern, policy)) = text.rsplit_once('=') else {
            return Err(format!(
                "`{text}` is no rule; write a pattern and a policy, such as prices/>=conflate"
            ));
        };
        let policy: Policy = policy.parse()?;
        let pattern = pattern.trim();
        match check_pattern(pattern) {
            Ok(()) => Ok(Self(TopicRule {
                pattern: pattern.to_owned(),
                slow_consumer: policy.into(),
            })),
            Err(error) => Err(format!("`{pattern}` is no pattern of topics: {error}")),
        }
    }
}

/// Whether to do something.
#[derive(Clone, Copy, Debug, Eq, PartialEq, ValueEnum)]
pub(super) enum Switch {
    /// Messages are compressed
    #[value(alias = "true")]
    On,
    /// Messages are sent as they are
    #[value(alias = "false")]
    Off,
}

/// The form of the log.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq, ValueEnum)]
pub(super) enum LogFormat {
    /// A line for people
    #[default]
    Text,
    /// A JSON object in each line
    Json,
}

/// The word of a list that a text stands for, in any case.
fn word<T: ValueEnum>(text: &str) -> Result<T, String> {
    let text = text.trim();
    T::from_str(text, true).map_err(|_| {
        let values = T::value_variants().iter();
        let names: Vec<String> = values
            .filter_map(|value| Some(value.to_possible_value()?.get_name().to_owned()))
            .collect();
        let (last, others) = names.split_last().expect("there are words");
        format!("`{text}` is unknown; write {} or {last}", others.join(", "))
    })
}

macro_rules! words {
    ($($name:ident),*) => {$(
        impl FromStr for $name {
            type Err = String;

            fn from_str(text: &str) -> Result<Self, String> {
                word(text)
            }
        }
    )*};
}
words!(Policy, Switch, LogFormat);

/// A value of `--origin`.
#[derive(Clone, Debug)]
pub(super) enum Origin {
    Any,
    Same,
    Listed(OriginPattern),
}

impl FromStr for Origin {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        const UNCLEAR: &str = "any for all pages, same for those of the server's own host, or null for pages \
                               without an origin";
        let text = text.trim();
        let meant = match text.to_ascii_lowercase().as_str() {
            "any" => return Ok(Self::Any),
            "same" => return Ok(Self::Same),
            "all" | "on" | "true" => "any",
            "self" | "'self'" => "same",
            "none" | "off" | "no" | "false" => UNCLEAR,
            _ => {
                let origin = text.parse().map(Self::Listed);
                return origin.map_err(|error| listed::<Self>(text).unwrap_or(error.to_string()));
            }
        };
        Err(format!("`{text}` is not an origin; write {meant}"))
    }
}

/// Values with commas between.
#[derive(Clone, Debug)]
pub(super) struct List<T>(pub(super) Vec<T>);

impl<T: FromStr<Err = String>> FromStr for List<T> {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let parts = text.split(',');
        if text.contains(',') && parts.clone().any(|part| part.trim().is_empty()) {
            return Err(format!("there is a comma too many in `{text}`"));
        }
        parts.map(str::parse).collect::<Result<_, _>>().map(Self)
    }
}

/// Advice for a text that is several values with spaces between.
fn listed<T: FromStr>(text: &str) -> Option<String> {
    let values: Vec<&str> = text.split_whitespace().collect();
    let is_list = values.len() > 1 && values.iter().all(|value| value.parse::<T>().is_ok());
    is_list.then(|| format!("commas stand between values; write {}", values.join(",")))
}

/// The meaning of these values of `--origin` together.
pub(super) fn origins(values: Vec<Origin>) -> Origins {
    let (mut same, mut others) = (false, Vec::new());
    for origin in values {
        match origin {
            Origin::Any => return Origins::Any,
            Origin::Same => same = true,
            Origin::Listed(pattern) => others.push(pattern),
        }
    }
    Origins::Listed { same, others }
}

/// A value of `--host`.
#[derive(Clone, Debug)]
pub(super) enum Host {
    Any,
    Listed(HostPattern),
}

impl FromStr for Host {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        const WORDS: [&str; 6] = ["off", "none", "null", "same", "true", "false"];
        let text = text.trim();
        let is = |word: &&str| text.eq_ignore_ascii_case(word);
        match text {
            _ if is(&"any") => Ok(Self::Any),
            _ if WORDS.iter().any(is) => Err(format!(
                "`{text}` is no name of a host; write any, or one such as example.com"
            )),
            text => match text.parse() {
                Ok(pattern) => Ok(Self::Listed(pattern)),
                Err(error) => Err(listed::<Self>(text).unwrap_or(format!("{error}, or any"))),
            },
        }
    }
}

/// The meaning of these values of `--host` together.
pub(super) fn hosts(values: Vec<Host>) -> Hosts {
    let mut listed = Vec::new();
    for host in values {
        match host {
            Host::Any => return Hosts::Any,
            Host::Listed(pattern) => listed.push(pattern),
        }
    }
    Hosts::Listed(listed)
}

/// The name of a subprotocol: a token (RFC 6455 4.1).
#[derive(Clone, Debug, Eq, PartialEq)]
pub(super) struct Subprotocol(pub(super) String);

impl FromStr for Subprotocol {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        match text.trim() {
            text if text.starts_with(['\'', '"']) => Err(format!(
                "`{text}` is no subprotocol; the quotes are not part of it; leave them out"
            )),
            token if is_token(token) => Ok(Self(token.to_owned())),
            text => Err(listed::<Self>(text).unwrap_or(format!(
                "`{text}` is no subprotocol; write a name such as chat.v1, of letters, digits and \
                 !#$%&'*+-.^_`|~"
            ))),
        }
    }
}

/// The code that a drain closes with.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) struct DrainCode(pub(super) CloseCode);

impl FromStr for DrainCode {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        match text.trim() {
            "1001" => Ok(Self(CloseCode::GOING_AWAY)),
            "1012" => Ok(Self(CloseCode::SERVICE_RESTART)),
            text => Err(format!(
                "`{text}` is no code for a drain; write 1001 (going away) or 1012 (service restart)"
            )),
        }
    }
}

text::from_file!(Listen, Admin, Shards, Policy, Switch, LogFormat, DrainCode);

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
    fn a_wrong_address_is_told_with_what_to_write() {
        let any = |port: u16| {
            format!("; write 127.0.0.1:{port}, or 0.0.0.0:{port} to serve other hosts too")
        };
        for (text, told) in [
            ("", format!("the address is empty{}", any(8080))),
            ("8080", format!("`8080` has no host{}", any(8080))),
            (":8080", format!("`:8080` has no host{}", any(8080))),
            (":0", format!("`:0` has no host{}", any(0))),
            ("443", format!("`443` has no host{}", any(443))),
            (":", format!("`:` is no address{}", any(8080))),
            ("true", format!("`true` is no address{}", any(8080))),
            ("on", format!("`on` is no address{}", any(8080))),
            ("a b:80", format!("`a b:80` is no address{}", any(8080))),
            (
                "unix:/run/app.sock",
                format!("`unix:/run/app.sock` is no address{}", any(8080)),
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
                "`*:80` is no address; write 0.0.0.0:80, or [::]:80 for IPv6".to_owned(),
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
            assert_eq!(text.parse::<Listen>(), Err(told), "{text}");
        }
        for (text, port) in [
            ("127.0.0.1:99999", "99999"),
            ("localhost:http", "http"),
            ("localhost: 80", " 80"),
            ("localhost:-1", "-1"),
            ("localhost:+1", "+1"),
        ] {
            let error = text.parse::<Listen>().unwrap_err();
            let told = format!("`{port}` is no port; write one from 1 to 65535");
            assert!(error.starts_with(&told), "{error}");
        }
        for text in ["", "9090", "localhost", "true", "localhost:x"] {
            let error = text.parse::<Admin>().unwrap_err();
            assert!(error.contains(":9090"), "{error}");
            assert!(error.ends_with("; or off"), "{error}");
        }
    }

    #[test]
    fn words_are_read_in_any_case_and_named_where_they_are_wrong() {
        for on in ["on", "On", " true "] {
            assert_eq!(on.parse(), Ok(Switch::On), "{on}");
        }
        for off in ["off", "OFF", "False"] {
            assert_eq!(off.parse(), Ok(Switch::Off), "{off}");
        }
        assert_eq!("Drop-Oldest".parse(), Ok(Policy::DropOldest));
        assert_eq!("JSON".parse(), Ok(LogFormat::Json));
        assert_eq!("Auto".parse(), Ok(Shards::Auto));
        for (error, told) in [
            (
                "1".parse::<Switch>().unwrap_err(),
                "`1` is unknown; write on or off",
            ),
            (
                "".parse::<LogFormat>().unwrap_err(),
                "`` is unknown; write text or json",
            ),
            (
                "drop".parse::<Policy>().unwrap_err(),
                "`drop` is unknown; write close, close-1013, drop-oldest, drop-newest or conflate",
            ),
            (
                "0".parse::<Shards>().unwrap_err(),
                "`0` is no number of shards; write 1 to 65535, or auto",
            ),
            (
                "1000".parse::<DrainCode>().unwrap_err(),
                "`1000` is no code for a drain; write 1001 (going away) or 1012 (service restart)",
            ),
        ] {
            assert_eq!(error, told);
        }
    }

    #[test]
    fn a_rule_for_topics_is_a_pattern_and_a_policy() {
        let rule = |pattern: &str| {
            Ok(TopicPolicy(TopicRule {
                pattern: pattern.to_owned(),
                slow_consumer: SlowConsumer::Conflate,
            }))
        };
        assert_eq!("prices/>=conflate".parse(), rule("prices/>"));
        assert_eq!(" prices/* = Conflate ".parse(), rule("prices/*"));
        for (text, told) in [
            ("prices", "such as prices/>=conflate"),
            ("", "such as prices/>=conflate"),
            ("prices=", "write close, "),
            ("prices=keep", "`keep` is unknown; write close, "),
            ("=conflate", "`` is no pattern of topics: a level is empty"),
            ("/a=close", "`/a` is no pattern of topics: a level is empty"),
            (
                "a>=close",
                "`a>` is no pattern of topics: `*` and `>` match whole levels only",
            ),
        ] {
            let error = text.parse::<TopicPolicy>().unwrap_err();
            assert!(error.contains(told), "{error}");
        }
    }

    #[test]
    fn a_word_that_is_no_origin_is_told_with_what_is_meant() {
        let unclear = "any for all pages, same for those of the server's own host, or null ";
        for (text, meant) in [
            ("none", unclear),
            ("Off", unclear),
            ("false", unclear),
            ("self", "same"),
            ("'self'", "same"),
            ("ALL", "any"),
            ("true", "any"),
            ("*", "any"),
            ("a.example", "https://a.example"),
        ] {
            let error = text.parse::<Origin>().unwrap_err();
            let told = error.split_once("; write ").map(|(_, told)| told);
            assert!(told.is_some_and(|told| told.starts_with(meant)), "{error}");
        }
    }

    #[test]
    fn values_with_spaces_between_are_told_with_commas() {
        let told = |list: &str| format!("commas stand between values; write {list}");
        let origin = |text: &str| text.parse::<Origin>().unwrap_err();
        let host = |text: &str| text.parse::<Host>().unwrap_err();
        let subprotocol = |text: &str| text.parse::<Subprotocol>().unwrap_err();
        let rule = |text: &str| text.parse::<TopicPolicy>().unwrap_err();
        for (error, list) in [
            (origin("https://a https://b"), "https://a,https://b"),
            (origin(" same  null "), "same,null"),
            (host("a.example b.example:81"), "a.example,b.example:81"),
            (subprotocol("chat.v2 chat.v1"), "chat.v2,chat.v1"),
            (rule("a=close b/>=conflate"), "a=close,b/>=conflate"),
        ] {
            assert_eq!(error, told(list));
        }
        for error in [
            origin("https://a and"),
            host("a.example ?"),
            subprotocol("a b/c"),
        ] {
            assert!(!error.contains("commas"), "{error}");
        }
    }

    #[test]
    fn a_subprotocol_is_a_token() {
        for text in ["chat", "chat.v1", "v1+json", " chat "] {
            let expected = Ok(Subprotocol(text.trim().to_owned()));
            assert_eq!(text.parse(), expected, "{text}");
        }
        for text in ["", " ", "a/b", "a;b", "b\u{fc}cher"] {
            let error = text.parse::<Subprotocol>().unwrap_err();
            assert!(error.contains("write a name such as chat.v1"), "{error}");
        }
    }

    #[test]
    fn hosts_are_listed_or_any() {
        let hosts_of = |texts: &[&str]| {
            let parsed = texts.iter().map(|text| text.parse::<Host>());
            parsed.collect::<Result<Vec<_>, _>>().map(hosts)
        };
        assert_eq!(hosts_of(&["Any"]), Ok(Hosts::Any));
        assert_eq!(hosts_of(&["a.example", "any"]), Ok(Hosts::Any));
        let one = vec!["a.example".parse().unwrap()];
        assert_eq!(hosts_of(&[" A.example "]), Ok(Hosts::Listed(one)));
        for word in ["off", "None", "null", "same", ""] {
            let error = hosts_of(&[word]).unwrap_err();
            assert!(error.contains("any"), "{error}");
        }
    }
}
