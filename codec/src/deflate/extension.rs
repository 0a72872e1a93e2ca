//! Parser of a `Sec-WebSocket-Extensions` header (RFC 6455 9.1).

use crate::handshake::is_token;

/// One element of the list. Its parameters are not parsed yet.
#[derive(Clone, Copy, Debug)]
pub(super) struct Extension<'a> {
    pub(super) name: &'a str,
    /// The text after the first semicolon.
    parameters: Option<&'a str>,
}

/// One parameter of an extension.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Parameter<'a> {
    pub(super) name: &'a str,
    pub(super) value: Option<&'a str>,
}

/// Returns the elements of the list.
///
/// A quoted value must be a token without its quotes, so no valid value has a comma or a semicolon. An
/// invalid value splits into elements with unknown names.
pub(super) fn parse(value: &str) -> impl Iterator<Item = Extension<'_>> {
    value.split(',').map(|element| {
        let (name, parameters) = match element.split_once(';') {
            Some((name, parameters)) => (name, Some(parameters)),
            None => (element, None),
        };
        Extension {
            name: trim(name),
            parameters,
        }
    })
}

impl<'a> Extension<'a> {
    /// Returns the parameters in order, with `None` for a malformed one.
    pub(super) fn parameters(self) -> impl Iterator<Item = Option<Parameter<'a>>> {
        self.parameters
            .into_iter()
            .flat_map(|list| list.split(';'))
            .map(trim)
            .map(parse_parameter)
    }
}

fn parse_parameter(parameter: &str) -> Option<Parameter<'_>> {
    let (name, value) = match parameter.split_once('=') {
        Some((name, value)) => (trim(name), Some(unquote(trim(value)))),
        None => (parameter, None),
    };
    (is_token(name) && value.is_none_or(is_token)).then_some(Parameter { name, value })
}

fn unquote(value: &str) -> &str {
    value
        .strip_prefix('"')
        .and_then(|value| value.strip_suffix('"'))
        .unwrap_or(value)
}

fn trim(text: &str) -> &str {
    text.trim_matches([' ', '\t'])
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parameters(value: &str) -> Option<Vec<Parameter<'_>>> {
        parse(value).next().unwrap().parameters().collect()
    }

    #[test]
    fn names_and_parameters_are_split() {
        let names: Vec<_> = parse("a; b=1 , c,d;e")
            .map(|extension| extension.name)
            .collect();
        assert_eq!(names, ["a", "c", "d"]);
        let one = Parameter {
            name: "b",
            value: Some("1"),
        };
        let two = Parameter {
            name: "c",
            value: None,
        };
        assert_eq!(parameters("a;b=1; c"), Some(vec![one, two]));
        assert_eq!(parameters("a ;\tb = \"1\" ; c"), Some(vec![one, two]));
        assert_eq!(parameters("a"), Some(vec![]));
    }

    #[test]
    fn a_malformed_parameter_is_none() {
        for value in [
            "a; b=",
            "a; =1",
            "a; b=\"1",
            "a; b=\"\"",
            "a; b c",
            "a; b=1 2",
            "a; b; ; c",
        ] {
            assert_eq!(parameters(value), None, "{value}");
        }
    }
}
