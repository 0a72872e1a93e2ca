//! Message templates: text with placeholders for the client and the number of the message.

use std::{fmt::Write, str::FromStr};

/// The parsed text of `--message`.
#[derive(Clone, Debug, Eq, PartialEq)]
pub(crate) struct Template(Vec<Piece>);

#[derive(Clone, Debug, Eq, PartialEq)]
enum Piece {
    Text(String),
    Client,
    Number,
}

impl FromStr for Template {
    type Err = String;

    /// Parses a template. `{client}` and `{number}` are placeholders; `{{` and `}}` are literal
    /// braces.
    fn from_str(text: &str) -> Result<Self, String> {
        let mut pieces = Vec::new();
        let mut plain = String::new();
        let mut rest = text;
        while let Some(at) = rest.find(['{', '}']) {
            plain.push_str(&rest[..at]);
            let tail = &rest[at..];
            let (placeholder, length) = if tail.starts_with("{{") || tail.starts_with("}}") {
                plain.push_str(&tail[..1]);
                (None, 2)
            } else if tail.starts_with("{client}") {
                (Some(Piece::Client), "{client}".len())
            } else if tail.starts_with("{number}") {
                (Some(Piece::Number), "{number}".len())
            } else {
                return Err(format!(
                    "unknown placeholder at `{tail}`; write {{client}} or {{number}}, or {{{{ and }}}} \
                     for literal braces"
                ));
            };
            if let Some(placeholder) = placeholder {
                pieces.push(Piece::Text(std::mem::take(&mut plain)));
                pieces.push(placeholder);
            }
            rest = &tail[length..];
        }
        plain.push_str(rest);
        pieces.push(Piece::Text(plain));
        Ok(Self(pieces))
    }
}

impl Template {
    /// Writes message `number` of `client` into `out`, which is cleared first.
    pub(crate) fn render(&self, client: u32, number: u32, out: &mut String) {
        out.clear();
        for piece in &self.0 {
            let written = match piece {
                Piece::Text(text) => out.write_str(text),
                Piece::Client => write!(out, "{client}"),
                Piece::Number => write!(out, "{number}"),
            };
            written.expect("writing to a String cannot fail");
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn rendered(text: &str) -> String {
        let mut out = "before".to_owned();
        let template: Template = text.parse().unwrap();
        template.render(7, 42, &mut out);
        out
    }

    #[test]
    fn placeholders_are_replaced() {
        assert_eq!(rendered(""), "");
        assert_eq!(rendered("hello"), "hello");
        assert_eq!(rendered("{client}/{number}"), "7/42");
        assert_eq!(
            rendered(r#"{{"id":{number},"from":"{client}"}}"#),
            r#"{"id":42,"from":"7"}"#
        );
        assert_eq!(rendered("{client}{client}ü"), "77ü");
    }

    #[test]
    fn unknown_placeholders_and_single_braces_are_refused() {
        for text in ["{", "}", "{clients}", "{number", "a{ }"] {
            assert!(text.parse::<Template>().is_err(), "{text}");
        }
    }
}
