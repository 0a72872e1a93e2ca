//! Values of single options, as the command line writes them.

use std::str::FromStr;

use tidewheel_codec::handshake::is_token;

use super::{choice::Policy, file_value};
use crate::{
    CloseCode, HostPattern, Hosts, InvalidProxy, OriginPattern, Origins, TopicRule, TrustedProxy,
    topic::check_pattern,
};

/// The number of shards.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) enum Shards {
    /// One per core.
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
                "`{text}` is not a number of shards; write 1 to {}, or auto",
                u16::MAX
            )),
        }
    }
}

/// A value of `--topic-policy`: `PATTERN=POLICY`.
#[derive(Clone, Debug, Eq, PartialEq)]
pub(super) struct TopicPolicy(pub(super) TopicRule);

impl FromStr for TopicPolicy {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let text = text.trim();
        if let Some(advice) = comma_advice::<Self>(text) {
            return Err(advice);
        }
        // The last `=`, because a pattern may contain one.
        let Some((pattern, policy)) = text.rsplit_once('=') else {
            return Err(format!(
                "`{text}` is not a topic policy; write a pattern and a policy, such as prices/>=conflate"
            ));
        };
        let policy: Policy = policy.parse()?;
        let pattern = pattern.trim();
        match check_pattern(pattern) {
            Ok(()) => Ok(Self(TopicRule::new(pattern, policy.into()))),
            Err(error) => Err(format!("`{pattern}` is not a topic pattern: {error}")),
        }
    }
}

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
        const ALL: &str = "any for all pages, same for pages of the server's own host, or null for pages without an \
             origin";
        let text = text.trim();
        let suggestion = match text.to_ascii_lowercase().as_str() {
            "any" => return Ok(Self::Any),
            "same" => return Ok(Self::Same),
            "all" | "on" | "true" => "any",
            "self" | "'self'" => "same",
            "none" | "off" | "no" | "false" => ALL,
            _ => {
                let origin = text.parse().map(Self::Listed);
                return origin
                    .map_err(|error| comma_advice::<Self>(text).unwrap_or(error.to_string()));
            }
        };
        Err(format!("`{text}` is not an origin; write {suggestion}"))
    }
}

/// Values separated by commas.
#[derive(Clone, Debug)]
pub(super) struct List<T>(pub(super) Vec<T>);

impl<T: FromStr<Err = String>> FromStr for List<T> {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let parts = text.split(',');
        if text.contains(',') && parts.clone().any(|part| part.trim().is_empty()) {
            return Err(format!("there is an extra comma in `{text}`"));
        }
        parts.map(str::parse).collect::<Result<_, _>>().map(Self)
    }
}

/// Advice for several values that are separated by spaces.
fn comma_advice<T: FromStr>(text: &str) -> Option<String> {
    let values: Vec<&str> = text.split_whitespace().collect();
    let is_list = values.len() > 1 && values.iter().all(|value| value.parse::<T>().is_ok());
    is_list.then(|| format!("separate values with commas; write {}", values.join(",")))
}

/// The origins that a list of values allows.
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
                "`{text}` is not a host name; write any, or a name such as example.com"
            )),
            text => match text.parse() {
                Ok(pattern) => Ok(Self::Listed(pattern)),
                Err(error) => Err(comma_advice::<Self>(text).unwrap_or(format!("{error}, or any"))),
            },
        }
    }
}

/// The hosts that a list of values allows.
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

/// A value of `--trusted-proxies`.
#[derive(Clone, Debug, Eq, PartialEq)]
pub(super) struct Proxy(pub(super) TrustedProxy);

impl FromStr for Proxy {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let proxy = text.parse().map(Self);
        proxy.map_err(|error: InvalidProxy| {
            comma_advice::<Self>(text.trim()).unwrap_or(error.to_string())
        })
    }
}

/// The name of a subprotocol: a token (RFC 6455 4.1).
#[derive(Clone, Debug, Eq, PartialEq)]
pub(super) struct Subprotocol(pub(super) String);

impl FromStr for Subprotocol {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        match text.trim() {
            text if text.starts_with(['\'', '"']) => Err(format!(
                "`{text}` is not a subprotocol; the value has quotes in it; leave them out"
            )),
            token if is_token(token) => Ok(Self(token.to_owned())),
            text => Err(comma_advice::<Self>(text).unwrap_or(format!(
                "`{text}` is not a subprotocol; write a name such as chat.v1, of letters, digits and \
                 !#$%&'*+-.^_`|~"
            ))),
        }
    }
}

/// The close code of a drain.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) struct DrainCode(pub(super) CloseCode);

impl FromStr for DrainCode {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        match text.trim() {
            "1001" => Ok(Self(CloseCode::GOING_AWAY)),
            "1012" => Ok(Self(CloseCode::SERVICE_RESTART)),
            text => Err(format!(
                "`{text}` is not a drain code; write 1001 (going away) or 1012 (service restart)"
            )),
        }
    }
}

file_value::from_file!(Shards, DrainCode);

#[cfg(test)]
mod tests {
    use super::*;
    use crate::SlowConsumer;

    #[test]
    fn a_number_of_shards_is_from_1_to_65535_or_auto() {
        assert_eq!("Auto".parse(), Ok(Shards::Auto));
        assert_eq!(" 65535".parse(), Ok(Shards::Count(65535)));
        let error = "0".parse::<Shards>().unwrap_err();
        let expected = "`0` is not a number of shards; write 1 to 65535, or auto";
        assert_eq!(error, expected);
    }

    #[test]
    fn a_drain_code_is_1001_or_1012() {
        assert_eq!("1012".parse(), Ok(DrainCode(CloseCode::SERVICE_RESTART)));
        let error = "1000".parse::<DrainCode>().unwrap_err();
        let expected =
            "`1000` is not a drain code; write 1001 (going away) or 1012 (service restart)";
        assert_eq!(error, expected);
    }

    #[test]
    fn a_topic_policy_is_a_pattern_and_a_policy() {
        let rule = |pattern: &str| Ok(TopicPolicy(TopicRule::new(pattern, SlowConsumer::Conflate)));
        assert_eq!("prices/>=conflate".parse(), rule("prices/>"));
        assert_eq!(" prices/* = Conflate ".parse(), rule("prices/*"));
        for (text, expected) in [
            ("prices", "such as prices/>=conflate"),
            ("", "such as prices/>=conflate"),
            ("prices=", "write close, "),
            ("prices=keep", "`keep` is unknown; write close, "),
            ("=conflate", "`` is not a topic pattern: a level is empty"),
            ("/a=close", "`/a` is not a topic pattern: a level is empty"),
            (
                "a>=close",
                "`a>` is not a topic pattern: `*` and `>` match whole levels only",
            ),
        ] {
            let error = text.parse::<TopicPolicy>().unwrap_err();
            assert!(error.contains(expected), "{error}");
        }
    }

    #[test]
    fn the_error_for_a_word_that_is_not_an_origin_says_what_to_write() {
        let all = "any for all pages, same for pages of the server's own host, or null ";
        for (text, expected) in [
            ("none", all),
            ("Off", all),
            ("false", all),
            ("self", "same"),
            ("'self'", "same"),
            ("ALL", "any"),
            ("true", "any"),
            ("*", "any"),
            ("a.example", "https://a.example"),
        ] {
            let error = text.parse::<Origin>().unwrap_err();
            let advice = error.split_once("; write ").map(|(_, advice)| advice);
            assert!(
                advice.is_some_and(|advice| advice.starts_with(expected)),
                "{error}"
            );
        }
    }

    #[test]
    fn the_error_for_values_separated_by_spaces_says_to_write_commas() {
        let expected = |list: &str| format!("separate values with commas; write {list}");
        let origin = |text: &str| text.parse::<Origin>().unwrap_err();
        let host = |text: &str| text.parse::<Host>().unwrap_err();
        let subprotocol = |text: &str| text.parse::<Subprotocol>().unwrap_err();
        let policy = |text: &str| text.parse::<TopicPolicy>().unwrap_err();
        for (error, list) in [
            (origin("https://a https://b"), "https://a,https://b"),
            (origin(" same  null "), "same,null"),
            (host("a.example b.example:81"), "a.example,b.example:81"),
            (subprotocol("chat.v2 chat.v1"), "chat.v2,chat.v1"),
            (policy("a=close b/>=conflate"), "a=close,b/>=conflate"),
        ] {
            assert_eq!(error, expected(list));
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
    fn a_trusted_proxy_is_an_address_or_a_range() {
        assert_eq!(
            " 10.0.0.0/8".parse(),
            Ok(Proxy("10.0.0.0/8".parse().unwrap()))
        );
        let error = "localhost".parse::<Proxy>().unwrap_err();
        let expected = "`localhost` is not an address; write one such as 192.0.2.1, or a range such as 10.0.0.0/8";
        assert_eq!(error, expected);
        let error = "10.0.0.1 ::1".parse::<Proxy>().unwrap_err();
        assert_eq!(error, "separate values with commas; write 10.0.0.1,::1");
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
