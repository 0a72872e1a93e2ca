//! The bearer token of publishers.

use std::{fmt, str::FromStr};

use subtle::ConstantTimeEq;

/// The bearer token that `POST /publish/TOPIC` requires (`Authorization: Bearer`, RFC 6750 2.1).
///
/// It has at least one character, and visible ASCII characters only, because a header cannot carry others
/// unchanged. `Debug` does not print it.
///
/// ```
/// use tidewheel::{InvalidPublishToken, PublishToken};
///
/// let token: PublishToken = "s3cret".parse()?;
/// assert_eq!(format!("{token:?}"), "PublishToken(..)");
/// assert_eq!("".parse::<PublishToken>().unwrap_err(), InvalidPublishToken::Empty);
/// # Ok::<(), InvalidPublishToken>(())
/// ```
#[derive(Clone)]
pub struct PublishToken(Box<str>);

/// Error of a text that is no [`PublishToken`].
#[derive(Clone, Copy, Debug, Eq, PartialEq, thiserror::Error)]
#[non_exhaustive]
pub enum InvalidPublishToken {
    /// It is empty. A request without a token would be accepted.
    #[error("the publish token is empty; it needs at least one character")]
    Empty,
    /// It has a space, a control character, or a character that is not ASCII. The error does not contain the
    /// text, because most of it may be the secret.
    #[error(
        "character {at} of the publish token is a space, a control character or not ASCII; a header \
         carries visible ASCII characters only"
    )]
    Character {
        /// The position of the character, counted from 1.
        at: usize,
    },
}

impl PublishToken {
    /// Checks a token.
    ///
    /// # Errors
    /// If it is empty, or has a character other than visible ASCII.
    pub fn new(token: impl Into<String>) -> Result<Self, InvalidPublishToken> {
        let token = token.into();
        if token.is_empty() {
            return Err(InvalidPublishToken::Empty);
        }
        match token.chars().position(|it| !it.is_ascii_graphic()) {
            Some(at) => Err(InvalidPublishToken::Character { at: at + 1 }),
            None => Ok(Self(token.into())),
        }
    }

    /// Returns whether a request has this token. The time depends on the length of `presented` only, and not on
    /// its content.
    pub(crate) fn matches(&self, presented: &[u8]) -> bool {
        self.0.as_bytes().ct_eq(presented).into()
    }
}

impl FromStr for PublishToken {
    type Err = InvalidPublishToken;

    fn from_str(token: &str) -> Result<Self, InvalidPublishToken> {
        Self::new(token)
    }
}

impl fmt::Debug for PublishToken {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("PublishToken(..)")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_token_is_visible_ascii_and_not_empty() {
        assert_eq!(
            PublishToken::new("").unwrap_err(),
            InvalidPublishToken::Empty
        );
        for byte in 0..=u8::MAX {
            let character = char::from(byte);
            let token = PublishToken::new(format!("ab{character}d"));
            if character.is_ascii_graphic() {
                assert!(token.is_ok(), "{character:?}");
            } else {
                let error = InvalidPublishToken::Character { at: 3 };
                assert_eq!(token.unwrap_err(), error, "{character:?}");
            }
        }
    }

    #[test]
    fn only_the_whole_token_matches() {
        let token = PublishToken::new("s3cret").unwrap();
        assert!(token.matches(b"s3cret"));
        for wrong in ["", "s", "s3cre", "s3crets", "S3CRET", "terc3s"] {
            assert!(!token.matches(wrong.as_bytes()), "{wrong}");
        }
    }

    #[test]
    fn debug_does_not_print_the_token() {
        let token = PublishToken::new("s3cret").unwrap();
        assert_eq!(format!("{token:?} {:?}", Some(&token)).find("s3cret"), None);
    }
}
