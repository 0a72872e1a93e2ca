//! Durations, sizes and counts as they stand on a command line.

use std::{fmt, str::FromStr, time::Duration};

use super::text;
use crate::config::{DEADLINE_MAX, MEMORY_MAX, written};

/// A duration: `20s`, `500ms`, `1.5s`, `2m`, `1h`.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Span(pub Duration);

/// A duration, or `off`.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct SpanOrOff(pub Option<Duration>);

/// A number of bytes: `65536`, `64KiB`, `1MiB`, `1GiB`.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Size(pub usize);

/// A number of at least 1.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Count(pub u32);

/// A number of at least 1, or `off`: no limit.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct CountOrOff(pub Option<u32>);

/// The clock counts in these.
const SPAN_MIN: Duration = Duration::from_millis(1);

/// Examples of durations.
const SPANS: &str = "write 20s, 500ms, 1.5s, 2m or 1h";

/// Examples of sizes.
const SIZES: &str = "write 65536, 64KiB, 1MiB or 1GiB";

/// The units of sizes, the largest first.
const SIZE_UNITS: [(&str, usize); 3] = [("GiB", 1 << 30), ("MiB", 1 << 20), ("KiB", 1 << 10)];

impl FromStr for Span {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let text = text.trim();
        if text.is_empty() {
            return Err(format!("the duration is empty; {SPANS}"));
        }
        let wrong = || format!("`{text}` is no duration; {SPANS}");
        let (number, unit) = number_and_unit(text).ok_or_else(wrong)?;
        let seconds = match unit {
            "ms" => 0.001,
            "s" => 1.0,
            "m" => 60.0,
            "h" => 3600.0,
            // None in any unit is no duration that can be meant.
            "" if number.parse() == Ok(0.0) => return Err(wrong()),
            "" => {
                return Err(format!(
                    "`{text}` has no unit; write {number}s or {number}ms"
                ));
            }
            unit => {
                let meant = span_meant(number, unit).ok_or_else(wrong)?;
                return Err(format!("`{text}` is no duration; write {meant}"));
            }
        };
        let number: f64 = number.parse().map_err(|_| wrong())?;
        let too_long = || {
            format!(
                "`{text}` is more than a year; write at most {}",
                written(DEADLINE_MAX)
            )
        };
        let span = Duration::try_from_secs_f64(number * seconds).map_err(|_| too_long())?;
        if span > DEADLINE_MAX {
            return Err(too_long());
        }
        if !span.is_zero() && span < SPAN_MIN {
            return Err(format!("`{text}` is less than 1ms; write 1ms"));
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
        match text.trim() {
            text if text::is_off(text) => Ok(Self(None)),
            text => match text.parse() {
                Ok(Span(span)) => Ok(Self(Some(span))),
                Err(error) => Err(format!("{error}, or off")),
            },
        }
    }
}

impl FromStr for Size {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let text = text.trim();
        if text.is_empty() {
            return Err(format!("the size is empty; {SIZES}"));
        }
        let wrong = || format!("`{text}` is no size; {SIZES}");
        let (number, unit) = number_and_unit(text).ok_or_else(wrong)?;
        let unit_bytes = match SIZE_UNITS.iter().find(|(name, _)| *name == unit) {
            Some((_, bytes)) => Some(*bytes),
            None => unit.is_empty().then_some(1),
        };
        let too_large = || {
            let most = in_units(MEMORY_MAX);
            format!("`{text}` is more memory than a host has; write at most {most}")
        };
        let Some(unit_bytes) = unit_bytes.filter(|_| !number.contains('.')) else {
            let (meant, decimal) = size_meant(number, unit).ok_or_else(wrong)?;
            if meant > MEMORY_MAX {
                return Err(too_large());
            }
            let or = decimal.map_or_else(String::new, |bytes| format!(" or {bytes}"));
            return Err(format!(
                "`{text}` is no size; write {}{or}",
                in_units(meant)
            ));
        };
        let number: usize = number.parse().map_err(|_| too_large())?;
        let bytes = number.checked_mul(unit_bytes);
        let bytes = bytes.filter(|bytes| *bytes <= MEMORY_MAX);
        bytes.map(Self).ok_or_else(too_large)
    }
}

impl FromStr for Count {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        match text.trim().parse() {
            Ok(count @ 1..) => Ok(Self(count)),
            Ok(0) | Err(_) => Err(match count_meant(text) {
                Some(meant) => format!("`{text}` is no count; write {meant}"),
                None => format!("`{text}` is no count; write 1 to {}", u32::MAX),
            }),
        }
    }
}

impl FromStr for CountOrOff {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        match text.trim() {
            text if text::is_off(text) => Ok(Self(None)),
            text => match text.parse() {
                Ok(Count(count)) => Ok(Self(Some(count))),
                Err(error) => Err(format!("{error}, or off")),
            },
        }
    }
}

/// Splits a number in decimal digits, with a fraction or without, from its unit.
fn number_and_unit(text: &str) -> Option<(&str, &str)> {
    let is_in_number = |c: char| c.is_ascii_digit() || c == '.';
    let end = text.find(|c| !is_in_number(c)).unwrap_or(text.len());
    let (number, unit) = text.split_at(end);
    let is_number = number.parse::<f64>().is_ok() && !number.ends_with('.');
    is_number.then_some((number, unit))
}

/// The duration that somebody means who writes a unit in another way.
fn span_meant(number: &str, unit: &str) -> Option<String> {
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

/// The count that somebody means who writes a unit, an exponent, or marks between the thousands.
fn count_meant(text: &str) -> Option<u32> {
    let text = text.trim().to_ascii_lowercase();
    let (number, unit) = text.split_at(text.trim_end_matches(['k', 'm']).len());
    let scale = match unit {
        "k" => 1e3,
        "m" => 1e6,
        // A dot may be a mark, too.
        "" if !number.contains('.') => 1.0,
        _ => return None,
    };
    let number = number.replace(['_', ',', '\'', ' '], "");
    let count = number.parse::<f64>().ok()? * scale;
    let is_count = count.fract() == 0.0 && (1.0..=f64::from(u32::MAX)).contains(&count);
    is_count.then_some(count as u32)
}

/// The bytes that somebody means who writes a unit in another way, or a fraction; and those that a unit such
/// as MB means where it is a power of 1000.
fn size_meant(number: &str, unit: &str) -> Option<(usize, Option<usize>)> {
    let unit = unit.trim().to_ascii_lowercase();
    let (power, is_binary) = match unit.as_str() {
        "" | "b" | "byte" | "bytes" => (0, true),
        "k" | "kb" => (1, false),
        "kib" | "ki" => (1, true),
        "m" | "mb" => (2, false),
        "mib" | "mi" => (2, true),
        "g" | "gb" => (3, false),
        "gib" | "gi" => (3, true),
        "t" | "tb" => (4, false),
        "tib" | "ti" => (4, true),
        _ => return None,
    };
    let number = number.parse::<f64>().ok()?;
    let bytes = |base: f64| (number * base.powi(power)).round() as usize;
    Some((bytes(1024.0), (!is_binary).then(|| bytes(1000.0))))
}

/// A size in the largest unit of which it is a multiple.
fn in_units(bytes: usize) -> String {
    let mut units = SIZE_UNITS.iter();
    match units.find(|(_, unit)| bytes > 0 && bytes.is_multiple_of(*unit)) {
        Some((name, unit)) => format!("{}{name}", bytes / unit),
        None => bytes.to_string(),
    }
}

impl fmt::Display for Span {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&written(self.0))
    }
}

text::from_file!(Span, SpanOrOff, Size, Count, CountOrOff);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_duration_below_the_clock_is_told() {
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
    fn durations() {
        let span = |text: &str| text.parse::<Span>().map(|span| span.0);
        assert_eq!(span("20s"), Ok(Duration::from_secs(20)));
        assert_eq!(span("500ms"), Ok(Duration::from_millis(500)));
        assert_eq!(span("1.5s"), Ok(Duration::from_millis(1500)));
        assert_eq!(span("0.1s"), Ok(Duration::from_millis(100)));
        assert_eq!(span("2m"), Ok(Duration::from_secs(120)));
        assert_eq!(span(" 2m "), Ok(Duration::from_secs(120)));
        for off in ["off", "Off", " OFF ", "false"] {
            assert_eq!(off.parse(), Ok(SpanOrOff(None)), "{off}");
        }
    }

    #[test]
    fn a_wrong_duration_is_told_with_what_to_write() {
        let examples = "20s, 500ms, 1.5s, 2m or 1h";
        for (text, meant) in [
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
            assert!(error.ends_with(&format!("; write {meant}")), "{error}");
            if text != "off" {
                let or_off = text.parse::<SpanOrOff>().unwrap_err();
                assert_eq!(or_off, format!("{error}, or off"), "{text}");
            }
        }
    }

    #[test]
    fn a_duration_is_written_as_it_is_read() {
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
    fn counts() {
        assert_eq!("7".parse(), Ok(CountOrOff(Some(7))));
        assert_eq!(" 7".parse(), Ok(Count(7)));
        for off in ["off", "OFF", "false"] {
            assert_eq!(off.parse(), Ok(CountOrOff(None)), "{off}");
        }
        let range = "1 to 4294967295";
        for (wrong, meant) in [
            ("", range),
            ("0", range),
            ("-1", range),
            ("1.5", range),
            ("10.000", range),
            ("4294967296", range),
            ("5000M", range),
            ("0k", range),
            ("1.0005k", range),
            ("inf", range),
            ("kk", range),
            ("many", range),
            ("10k", "10000"),
            ("10K", "10000"),
            ("1.5k", "1500"),
            ("2 M", "2000000"),
            ("10_000", "10000"),
            ("10,000", "10000"),
            ("10 000", "10000"),
            ("1e4", "10000"),
        ] {
            let error = wrong.parse::<Count>().unwrap_err();
            assert_eq!(error, format!("`{wrong}` is no count; write {meant}"));
            let or_off = wrong.parse::<CountOrOff>().unwrap_err();
            assert_eq!(or_off, format!("{error}, or off"));
        }
        assert!("off".parse::<Count>().is_err());
    }

    #[test]
    fn sizes() {
        let size = |text: &str| text.parse::<Size>().map(|size| size.0);
        assert_eq!(size("65536"), Ok(65536));
        assert_eq!(size("64KiB"), Ok(65536));
        assert_eq!(size(" 64KiB "), Ok(65536));
        assert_eq!(size("1MiB"), Ok(1 << 20));
        assert_eq!(size("2GiB"), Ok(2 << 30));
        assert_eq!(size("0"), Ok(0));
    }

    #[test]
    fn a_wrong_size_is_told_with_what_to_write() {
        let examples = "65536, 64KiB, 1MiB or 1GiB";
        for (text, meant) in [
            ("", examples),
            ("KiB", examples),
            ("-1", examples),
            ("1,5MiB", examples),
            ("1 parsec", examples),
            ("off", examples),
            ("1MB", "1MiB or 1000000"),
            ("1kb", "1KiB or 1000"),
            ("64k", "64KiB or 64000"),
            ("64K", "64KiB or 64000"),
            ("2g", "2GiB or 2000000000"),
            ("1.5MB", "1536KiB or 1500000"),
            ("1.5MiB", "1536KiB"),
            ("0.5KiB", "512"),
            ("1.3MiB", "1363149"),
            ("1 MiB", "1MiB"),
            ("1mib", "1MiB"),
            ("1Mi", "1MiB"),
            ("1TiB", "1024GiB"),
            ("1TB", "1024GiB or 1000000000000"),
            ("512B", "512"),
            ("100 bytes", "100"),
            ("1.5", "2"),
        ] {
            let error = text.parse::<Size>().unwrap_err();
            assert!(error.ends_with(&format!("; write {meant}")), "{error}");
        }
        for text in [
            "1025GiB",
            "1099511627777",
            "2TB",
            "1.5TiB",
            "18446744073709551615GiB",
            "99999999999999999999",
            "99999999999999999999TB",
        ] {
            let error = text.parse::<Size>().unwrap_err();
            let told = format!("`{text}` is more memory than a host has; write at most 1024GiB");
            assert_eq!(error, told);
        }
        assert_eq!("1024GiB".parse(), Ok(Size(1 << 40)));
    }
}
