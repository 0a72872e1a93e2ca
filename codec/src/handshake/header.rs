/// A header of a request or response.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Header<'a> {
    /// The name as received. Names are compared without case.
    pub name: &'a str,
    /// The value without surrounding white space.
    pub value: &'a [u8],
}

/// The headers of a request or response, in order.
#[derive(Clone, Debug)]
pub(super) struct Headers<'a>(Vec<Header<'a>>);

impl<'a> Headers<'a> {
    pub(super) fn new(headers: &[httparse::Header<'a>]) -> Self {
        Self(
            headers
                .iter()
                .map(|header| Header {
                    name: header.name,
                    value: header.value,
                })
                .collect(),
        )
    }

    pub(super) fn iter(&self) -> impl Iterator<Item = Header<'a>> + '_ {
        self.0.iter().copied()
    }

    /// Returns the values of all headers `name` in order.
    pub(super) fn all<'h>(&'h self, name: &'h str) -> impl Iterator<Item = &'a [u8]> + 'h {
        self.iter()
            .filter(|header| header.name.eq_ignore_ascii_case(name))
            .map(|header| header.value)
    }

    /// Returns the first value of header `name` that is valid UTF-8.
    pub(super) fn text(&self, name: &str) -> Option<&'a str> {
        self.all(name)
            .find_map(|value| std::str::from_utf8(value).ok())
    }

    /// Returns the elements of all lists in headers `name` (RFC 9110 5.3), without values that are not
    /// valid UTF-8.
    pub(super) fn tokens<'h>(&'h self, name: &'h str) -> impl Iterator<Item = &'a str> + 'h {
        self.all(name)
            .filter_map(|value| std::str::from_utf8(value).ok())
            .flat_map(|value| value.split(','))
            .map(|token| token.trim_matches([' ', '\t']))
            .filter(|token| !token.is_empty())
    }

    /// Returns whether a list in headers `name` has the element `token`, without case.
    pub(super) fn has_token(&self, name: &str, token: &str) -> bool {
        self.tokens(name)
            .any(|each| each.eq_ignore_ascii_case(token))
    }

    pub(super) fn count(&self, name: &str) -> usize {
        self.all(name).count()
    }
}

/// Appends a header line. Line breaks and NUL are written as spaces, so that a value cannot add another
/// header.
pub fn write_header(name: &str, value: &str, out: &mut Vec<u8>) {
    let on_one_line = |byte: u8| {
        if matches!(byte, b'\r' | b'\n' | 0) {
            b' '
        } else {
            byte
        }
    };
    out.extend(name.bytes().map(on_one_line));
    out.extend_from_slice(b": ");
    out.extend(value.bytes().map(on_one_line));
    out.extend_from_slice(b"\r\n");
}

/// Returns whether `token` is a token (RFC 9110 5.6.2). Names of subprotocols are tokens.
#[must_use]
pub fn is_token(token: &str) -> bool {
    let is_token_byte =
        |byte: u8| byte.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(&byte);
    !token.is_empty() && token.bytes().all(is_token_byte)
}
