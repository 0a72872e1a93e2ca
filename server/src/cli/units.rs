//! Durations, sizes and addresses as they stand on a command line.

use std::{fmt, str::FromStr, time::Duration};

use serde::{Deserialize, Deserializer, de};

/// A duration: `20s`, `500ms`, `1.5s`, `2m`, `1h`.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Span(pub Duration);

/// A duration, or `off`.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct SpanOrOff(pub Option<Duration>);

/// A number of bytes: `65536`, `64KiB`, `1MiB`, `1GiB`.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Size(pub usize);

/// How many, or `off`: any number.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct CountOrOff(pub Option<u32>);

/// Longer than anybody waits, and short enough to be counted in milliseconds.
const SPAN_MAX: Duration = Duration::from_secs(10 * 365 * 24 * 60 * 60);

impl FromStr for Span {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let wrong = || format!("`{text}` is no duration; 20s, 500ms, 1.5s, 2m and 1h are");
        let digits = text
            .find(|c: char| !c.is_ascii_digit() && c != '.')
            .ok_or_else(wrong)?;
        let (number, unit) = text.split_at(digits);
        let seconds = match unit {
            "ms" => 0.001,
            "s" => 1.0,
            "m" => 60.0,
            "h" => 3600.0,
            _ => return Err(wrong()),
        };
        let number: f64 = number.parse().map_err(|_| wrong())?;
        let span = Duration::try_from_secs_f64(number * seconds).map_err(|_| wrong())?;
        if span > SPAN_MAX {
            return Err(format!("`{text}` is more than ten years"));
        }
        // Whole microseconds: what a fraction of a second leaves behind is no one's wish.
        Ok(Self(Duration::from_micros(
            span.as_micros() as u64 + u64::from(span.subsec_nanos() % 1000 >= 500),
        )))
    }
}

impl FromStr for SpanOrOff {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        match text {
            "off" => Ok(Self(None)),
            _ => match text.parse() {
                Ok(Span(span)) => Ok(Self(Some(span))),
                Err(error) => Err(format!("{error}, and so is off")),
            },
        }
    }
}

impl FromStr for CountOrOff {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        match text {
            "off" => Ok(Self(None)),
            _ => match text.parse() {
                Ok(count @ 1..) => Ok(Self(Some(count))),
                Ok(0) | Err(_) => Err(format!("`{text}` is no count; 1 and more are, and off")),
            },
        }
    }
}

impl FromStr for Size {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let wrong = || format!("`{text}` is no size; 65536, 64KiB, 1MiB and 1GiB are");
        let digits = text
            .find(|c: char| !c.is_ascii_digit())
            .unwrap_or(text.len());
        let (number, unit) = text.split_at(digits);
        let bytes: usize = match unit {
            "" => 1,
            "KiB" => 1 << 10,
            "MiB" => 1 << 20,
            "GiB" => 1 << 30,
            _ => return Err(wrong()),
        };
        let number: usize = number.parse().map_err(|_| wrong())?;
        number.checked_mul(bytes).map(Self).ok_or_else(wrong)
    }
}

impl fmt::Display for Span {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Debug::fmt(&self.0, f)
    }
}

macro_rules! from_file {
    ($($name:ident),*) => {$(
        impl<'de> Deserialize<'de> for $name {
            /// As text, in the form of the command line.
            fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
                String::deserialize(deserializer)?.parse().map_err(de::Error::custom)
            }
        }
    )*};
}
from_file!(Span, SpanOrOff);

macro_rules! from_file_or_number {
    ($($name:ident),*) => {$(
        impl<'de> Deserialize<'de> for $name {
            /// As text in the form of the command line, or as a number.
            fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
                TextOrNumber::deserialize(deserializer)?.0.parse().map_err(de::Error::custom)
            }
        }
    )*};
}
from_file_or_number!(Size, CountOrOff);

/// A number as it would stand on the command line.
struct TextOrNumber(String);

impl<'de> Deserialize<'de> for TextOrNumber {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        #[derive(Deserialize)]
        #[serde(untagged)]
        enum Either {
            Number(u64),
            Text(String),
        }
        Ok(match Either::deserialize(deserializer)? {
            Either::Number(number) => Self(number.to_string()),
            Either::Text(text) => Self(text),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn durations() {
        let span = |text: &str| text.parse::<Span>().map(|span| span.0);
        assert_eq!(span("20s"), Ok(Duration::from_secs(20)));
        assert_eq!(span("500ms"), Ok(Duration::from_millis(500)));
        assert_eq!(span("1.5s"), Ok(Duration::from_millis(1500)));
        assert_eq!(span("0.1s"), Ok(Duration::from_millis(100)));
        assert_eq!(span("2m"), Ok(Duration::from_secs(120)));
        for wrong in [
            "",
            "20",
            "s",
            "-1s",
            "1.2.3s",
            "20 s",
            "20S",
            "1d",
            "off",
            "nans",
            "99999999h",
        ] {
            assert!(span(wrong).is_err(), "{wrong}");
        }
        assert_eq!("off".parse(), Ok(SpanOrOff(None)));
        assert!("Off".parse::<SpanOrOff>().is_err());
    }

    #[test]
    fn counts() {
        assert_eq!("7".parse(), Ok(CountOrOff(Some(7))));
        assert_eq!("off".parse(), Ok(CountOrOff(None)));
        for wrong in ["", "0", "-1", "1.5", "4294967296"] {
            assert!(wrong.parse::<CountOrOff>().is_err(), "{wrong}");
        }
    }

    #[test]
    fn sizes() {
        let size = |text: &str| text.parse::<Size>().map(|size| size.0);
        assert_eq!(size("65536"), Ok(65536));
        assert_eq!(size("64KiB"), Ok(65536));
        assert_eq!(size("1MiB"), Ok(1 << 20));
        for wrong in [
            "",
            "KiB",
            "1kb",
            "1.5MiB",
            "-1",
            "1 MiB",
            "18446744073709551615GiB",
        ] {
            assert!(size(wrong).is_err(), "{wrong}");
        }
    }
}
