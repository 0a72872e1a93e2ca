//! A cookie that a response sets.

use std::{fmt, time::Duration};

use percent_encoding::{AsciiSet, CONTROLS, utf8_percent_encode};

/// Bytes that an attribute cannot have (RFC 6265 4.1.1).
const NOT_IN_ATTRIBUTE: &AsciiSet = &CONTROLS.add(b';');

/// Bytes that a value cannot have (RFC 6265 4.1.1).
const NOT_IN_VALUE: &AsciiSet = &NOT_IN_ATTRIBUTE.add(b' ').add(b'"').add(b',').add(b'\\');

/// Bytes that a name, which is a token, cannot have (RFC 9110 5.6.2).
const NOT_IN_NAME: &AsciiSet = &NOT_IN_VALUE
    .add(b'(')
    .add(b')')
    .add(b'/')
    .add(b':')
    .add(b'<')
    .add(b'=')
    .add(b'>')
    .add(b'?')
    .add(b'@')
    .add(b'[')
    .add(b']')
    .add(b'{')
    .add(b'}');

/// A cookie that a response sets: a `Set-Cookie` header (RFC 6265 4.1).
///
/// Characters that a cookie cannot have are percent-encoded. Without attributes, a browser returns the cookie to
/// paths below that of the request, until it is closed.
///
/// ```
/// use std::time::Duration;
/// use tidewheel::{Cookie, SameSite};
///
/// let cookie = Cookie::new("session", "x y")
///     .path("/")
///     .max_age(Duration::from_secs(3600))
///     .secure()
///     .http_only()
///     .same_site(SameSite::Lax);
/// let expected = "session=x%20y; Path=/; Max-Age=3600; Secure; HttpOnly; SameSite=Lax";
/// assert_eq!(cookie.to_string(), expected);
/// ```
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Cookie(String);

/// The requests to which a browser adds a cookie when a page of another site sends them.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum SameSite {
    /// None.
    Strict,
    /// Navigation to a page. Requests for a WebSocket get no cookie.
    Lax,
    /// All. Browsers require [`Cookie::secure`] with it.
    None,
}

impl Cookie {
    /// A cookie with this name and value.
    #[must_use]
    pub fn new(name: &str, value: &str) -> Self {
        let name = utf8_percent_encode(name, NOT_IN_NAME);
        let value = utf8_percent_encode(value, NOT_IN_VALUE);
        Self(format!("{name}={value}"))
    }

    /// Paths for which a browser returns the cookie: this one, and those below it.
    #[must_use]
    pub fn path(self, path: &str) -> Self {
        let path = utf8_percent_encode(path, NOT_IN_ATTRIBUTE);
        self.attribute(format_args!("Path={path}"))
    }

    /// Hosts to which a browser returns the cookie: this one, and those below it.
    #[must_use]
    pub fn domain(self, domain: &str) -> Self {
        let domain = utf8_percent_encode(domain, NOT_IN_ATTRIBUTE);
        self.attribute(format_args!("Domain={domain}"))
    }

    /// Lifetime of the cookie, in whole seconds. Zero removes it from the browser.
    #[must_use]
    pub fn max_age(self, age: Duration) -> Self {
        self.attribute(format_args!("Max-Age={}", age.as_secs()))
    }

    /// The browser returns the cookie over TLS only.
    #[must_use]
    pub fn secure(self) -> Self {
        self.attribute(format_args!("Secure"))
    }

    /// Scripts of pages cannot read the cookie.
    #[must_use]
    pub fn http_only(self) -> Self {
        self.attribute(format_args!("HttpOnly"))
    }

    /// Restricts requests that pages of other sites send with the cookie.
    #[must_use]
    pub fn same_site(self, same_site: SameSite) -> Self {
        let name = match same_site {
            SameSite::Strict => "Strict",
            SameSite::Lax => "Lax",
            SameSite::None => "None",
        };
        self.attribute(format_args!("SameSite={name}"))
    }

    fn attribute(self, attribute: fmt::Arguments<'_>) -> Self {
        Self(format!("{}; {attribute}", self.0))
    }
}

impl fmt::Display for Cookie {
    /// Writes the value of the header.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_a_value_and_an_attribute_cannot_add_an_attribute() {
        let cookie = Cookie::new("a=b;c", "d; Domain=evil\r\ne")
            .path("/;f\n")
            .domain("g;\0");
        let expected = "a%3Db%3Bc=d%3B%20Domain=evil%0D%0Ae; Path=/%3Bf%0A; Domain=g%3B%00";
        assert_eq!(cookie.to_string(), expected);
    }
}
