//! Topics, and patterns that match them.

mod handle;

pub use self::handle::{AsTopic, Topic};
pub(crate) use self::handle::{Place, TopicRef};

/// Length in bytes of a topic or a pattern, at most.
const LENGTH_MAX: usize = 255;

/// The character between two levels.
const SEPARATOR: char = '/';

/// The wildcard of a pattern that matches any one level.
const ANY: &str = "*";

/// The wildcard at the end of a pattern that matches one or more levels.
const REST: &str = ">";

/// Error of a topic or a pattern.
#[derive(Clone, Copy, Debug, Eq, PartialEq, thiserror::Error)]
#[non_exhaustive]
pub enum TopicError {
    /// The topic is empty, or has an empty level.
    #[error("a level is empty; levels are separated by single slashes")]
    EmptyLevel,
    /// The topic is too long.
    #[error("the topic is {got} bytes; limit is {LENGTH_MAX} bytes")]
    TooLong {
        /// Its length in bytes.
        got: usize,
    },
    /// A topic to publish to has a wildcard.
    #[error("a topic to publish to must not have the wildcards `*` and `>`")]
    Wildcard,
    /// A wildcard is only a part of a level.
    #[error("`*` and `>` match whole levels only")]
    PartialWildcard,
    /// `>` is not the last level.
    #[error("the wildcard `>` is possible as the last level only")]
    RestInTheMiddle,
}

/// A level of a pattern.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) enum Level<'a> {
    Name(&'a str),
    Any,
    Rest,
}

/// The levels of a topic or of a pattern.
pub(crate) fn levels(name: &str) -> impl Iterator<Item = &str> {
    name.split(SEPARATOR)
}

/// The levels of a valid pattern.
pub(crate) fn pattern_levels(pattern: &str) -> impl Iterator<Item = Level<'_>> {
    levels(pattern).map(|level| match level {
        ANY => Level::Any,
        REST => Level::Rest,
        name => Level::Name(name),
    })
}

/// Returns whether a valid pattern has a wildcard.
pub(crate) fn is_wild(pattern: &str) -> bool {
    pattern.contains(['*', '>'])
}

fn check(name: &str) -> Result<(), TopicError> {
    let got = name.len();
    if got > LENGTH_MAX {
        return Err(TopicError::TooLong { got });
    }
    if levels(name).any(str::is_empty) {
        return Err(TopicError::EmptyLevel);
    }
    Ok(())
}

/// Checks a topic to publish to.
pub(crate) fn check_topic(topic: &str) -> Result<(), TopicError> {
    check(topic)?;
    if is_wild(topic) {
        return Err(TopicError::Wildcard);
    }
    Ok(())
}

/// Checks a topic or pattern to subscribe to.
pub(crate) fn check_pattern(pattern: &str) -> Result<(), TopicError> {
    check(pattern)?;
    let mut seen_rest = false;
    for level in pattern_levels(pattern) {
        if seen_rest {
            return Err(TopicError::RestInTheMiddle);
        }
        match level {
            Level::Name(name) if is_wild(name) => return Err(TopicError::PartialWildcard),
            Level::Name(_) | Level::Any => {}
            Level::Rest => seen_rest = true,
        }
    }
    Ok(())
}

/// Returns whether a valid pattern matches a valid topic.
pub(crate) fn matches(pattern: &str, topic: &str) -> bool {
    let mut topic = levels(topic);
    for level in pattern_levels(pattern) {
        match (level, topic.next()) {
            (Level::Rest, Some(_)) => return true,
            (Level::Name(name), Some(got)) if name == got => {}
            (Level::Any, Some(_)) => {}
            _ => return false,
        }
    }
    topic.next().is_none()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_topic_has_non_empty_levels_and_no_wildcard() {
        for good in ["a", "a/b/c", "prices.eu", "ä/ö"] {
            assert_eq!(check_topic(good), Ok(()), "{good}");
        }
        for empty in ["", "/", "/a", "a/", "a//b"] {
            assert_eq!(check_topic(empty), Err(TopicError::EmptyLevel), "{empty}");
        }
        let long = "x".repeat(256);
        assert_eq!(check_topic(&long), Err(TopicError::TooLong { got: 256 }));
        assert_eq!(check_topic("a/*"), Err(TopicError::Wildcard));
    }

    #[test]
    fn a_wildcard_is_a_whole_level() {
        for good in ["*", ">", "a/*", "a/>", "*/b/>", "a/*/c"] {
            assert_eq!(check_pattern(good), Ok(()), "{good}");
        }
        for partial in ["a*", "a/b>", "**", "a/>>"] {
            assert_eq!(
                check_pattern(partial),
                Err(TopicError::PartialWildcard),
                "{partial}"
            );
        }
        assert_eq!(check_pattern(">/a"), Err(TopicError::RestInTheMiddle));
    }

    #[test]
    fn a_pattern_matches_level_by_level() {
        for (pattern, topic, expected) in [
            ("a/b", "a/b", true),
            ("a/b", "a/c", false),
            ("a/*", "a/b", true),
            ("a/*", "a", false),
            ("a/*", "a/b/c", false),
            ("*/b", "a/b", true),
            ("a/>", "a/b", true),
            ("a/>", "a/b/c", true),
            ("a/>", "a", false),
            (">", "a", true),
            ("*", "a/b", false),
        ] {
            assert_eq!(matches(pattern, topic), expected, "{pattern} {topic}");
        }
    }
}
