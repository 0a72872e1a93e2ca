//! Durations: `20s`, `500ms`, `1.5s`, `2m`, `1h`.

use std::{fmt, str::FromStr, time::Duration};

use super::{is_off, number_and_unit};
use crate::{
    cli::file_value,
    config::{bounds::DEADLINE_MAX, notation},
};

/// A duration: `20s`, `500ms`, `1.5s`, `2m` or `1h`; at least 1 ms or zero, and at most a year.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Span(pub Duration);

/// A duration, or `off`. `MS_MIN` is the minimum of the option in milliseconds.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct SpanOrOff<const MS_MIN: u64 = 1>(pub Option<Duration>);

/// The resolution of the clock, and the shortest duration that is not zero.
const SPAN_MIN: Duration = Duration::from_millis(1);

/// Examples of durations.
const EXAMPLES: &str = "write 20s, 500ms, 1.5s, 2m or 1h";

impl FromStr for Span {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        span(text, SPAN_MIN).map(Self)
    }
}

/// Parses the duration of an option with the minimum `min`.
fn span(text: &str, min: Duration) -> Result<Duration, String> {
    let text = text.trim();
    if text.is_empty() {
        return Err(format!("the duration is empty; {EXAMPLES}"));
    }
    let wrong = || format!("`{text}` is not a duration; {EXAMPLES}");
    let is_possible = |text: &str| span(text, min).is_ok_and(|span| span >= min);
    let (number, unit) = number_and_unit(text).ok_or_else(wrong)?;
    let seconds = match unit {
        "ms" => 0.001,
        "s" => 1.0,
        "m" => 60.0,
        "h" => 3600.0,
        // A zero without a unit is more likely meant as `off` than as a duration.
        "" if number.parse() == Ok(0.0) => return Err(wrong()),
        "" => {
            let mut suggestions = [format!("{number}s"), format!("{number}ms")].to_vec();
            suggestions.retain(|suggestion| is_possible(suggestion));
            return Err(match suggestions.is_empty() {
                true => wrong(),
                false => format!("`{text}` has no unit; write {}", suggestions.join(" or ")),
            });
        }
        unit => {
            let suggestion = suggestion(number, unit).ok_or_else(wrong)?;
            return Err(match is_possible(&suggestion) {
                true => format!("`{text}` is not a duration; write {suggestion}"),
                false => wrong(),
            });
        }
    };
    let number: f64 = number.parse().map_err(|_| wrong())?;
    let too_long = || {
        format!(
            "`{text}` is more than a year; write at most {}",
            notation::duration(DEADLINE_MAX)
        )
    };
    let span = Duration::try_from_secs_f64(number * seconds).map_err(|_| too_long())?;
    if span > DEADLINE_MAX {
        return Err(too_long());
    }
    if !span.is_zero() && span < SPAN_MIN {
        return Err(format!(
            "`{text}` is less than {min}; write {min}",
            min = notation::duration(min)
        ));
    }
    // Rounded to microseconds, because a decimal fraction is seldom exact in binary.
    Ok(Duration::from_micros(
        span.as_micros() as u64 + u64::from(span.subsec_nanos() % 1000 >= 500),
    ))
}

impl<const MS_MIN: u64> FromStr for SpanOrOff<MS_MIN> {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        match text.trim() {
            text if is_off(text) => Ok(Self(None)),
            text => match span(text, Duration::from_millis(MS_MIN)) {
                Ok(span) => Ok(Self(Some(span))),
                Err(error) => Err(format!("{error}, or off")),
            },
        }
    }
}

/// The duration that is probably meant by a number with another spelling of a unit.
fn suggestion(number: &str, unit: &str) -> Option<String> {
    let unit = match unit.trim().to_ascii_lowercase().as_str() {
        "ms" | "msec" | "msecs" | "millis" | "millisecond" | "milliseconds" => "ms",
        "s" | "sec" | "secs" | "second" | "seconds" => "s",
        "m" | "min" | "mins" | "minute" | "minutes" => "m",
        "h" | "hr" | "hrs" | "hour" | "hours" => "h",
        "d" | "day" | "days" => {
            let hours = number.parse::<f64>().ok()? * 24.0;
            return Some(format!("{hours}h"));
        }
        _ => return None,
    };
    Some(format!("{number}{unit}"))
}

impl fmt::Display for Span {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&notation::duration(self.0))
    }
}

file_value::from_file!(Span, { const MS_MIN: u64 } SpanOrOff<MS_MIN>);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_duration_below_1_ms_is_refused() {
        for text in ["0.4ms", "0.0001s"] {
            let error = text.parse::<Span>().unwrap_err();
            assert_eq!(error, format!("`{text}` is less than 1ms; write 1ms"));
        }
        for text in ["0s", "0ms", "1ms", "8760h"] {
            assert!(text.parse::<Span>().is_ok(), "{text}");
        }
        assert!("8761h".parse::<Span>().is_err());
    }

    #[test]
    fn a_duration_is_a_number_with_a_unit() {
        let span = |text: &str| text.parse::<Span>().map(|span| span.0);
        assert_eq!(span("20s"), Ok(Duration::from_secs(20)));
        assert_eq!(span("500ms"), Ok(Duration::from_millis(500)));
        assert_eq!(span("1.5s"), Ok(Duration::from_millis(1500)));
        assert_eq!(span("0.1s"), Ok(Duration::from_millis(100)));
        assert_eq!(span("2m"), Ok(Duration::from_secs(120)));
        assert_eq!(span(" 2m "), Ok(Duration::from_secs(120)));
        for off in ["off", "Off", " OFF ", "false"] {
            assert_eq!(off.parse(), Ok(SpanOrOff::<1>(None)), "{off}");
        }
    }

    #[test]
    fn the_error_for_a_wrong_duration_says_what_to_write() {
        let examples = "20s, 500ms, 1.5s, 2m or 1h";
        for (text, suggestion) in [
            ("", examples),
            (" ", examples),
            ("20", "20s or 20ms"),
            ("1.5", "1.5s or 1.5ms"),
            ("0", examples),
            ("20 s", "20s"),
            ("20S", "20s"),
            ("20sec", "20s"),
            ("100 Millis", "100ms"),
            ("5min", "5m"),
            ("2 hours", "2h"),
            ("1d", "24h"),
            ("1.5 days", "36h"),
            ("s", examples),
            ("-1s", examples),
            ("+1s", examples),
            ("1.2.3s", examples),
            ("1.s", examples),
            ("1,5s", examples),
            ("1h30m", examples),
            ("1us", examples),
            ("off", examples),
            ("nans", examples),
            ("soon", examples),
            ("99999999h", "at most 8760h"),
            ("9999999999999999999999s", "at most 8760h"),
            ("0.4ms", "1ms"),
        ] {
            let error = text.parse::<Span>().unwrap_err();
            assert!(error.ends_with(&format!("; write {suggestion}")), "{error}");
            if text != "off" {
                let or_off = text.parse::<SpanOrOff>().unwrap_err();
                assert_eq!(or_off, format!("{error}, or off"), "{text}");
            }
        }
    }

    #[test]
    fn the_text_of_a_duration_parses_to_itself() {
        for text in [
            "0s",
            "1ms",
            "1.5ms",
            "20ms",
            "999.999ms",
            "1s",
            "1.1s",
            "90s",
            "2m",
            "90m",
            "1h",
            "8760h",
        ] {
            let span: Span = text.parse().unwrap();
            assert_eq!(span.to_string(), text);
        }
        assert_eq!(Span(Duration::from_micros(500)).to_string(), "0.5ms");
    }

    #[test]
    fn a_suggestion_keeps_to_the_minimum_of_the_option() {
        let error = |text: &str| text.parse::<SpanOrOff<8>>().unwrap_err();
        for (text, expected) in [
            ("5", "`5` has no unit; write 5s, or off"),
            ("0.4ms", "`0.4ms` is less than 8ms; write 8ms, or off"),
            (
                "9999d",
                "`9999d` is not a duration; write 20s, 500ms, 1.5s, 2m or 1h, or off",
            ),
        ] {
            assert_eq!(error(text), expected);
        }
    }
}
