//! Durations, sizes and counts as they stand on a command line.

use std::{fmt, ops::RangeInclusive, str::FromStr, time::Duration};

use super::text;
use crate::config::{DEADLINE_MAX, MEMORY_MAX, SIZE_UNITS, written, written_size};

/// A duration: `20s`, `500ms`, `1.5s`, `2m`, `1h`.
///
/// The advice of an error keeps to the bounds of the option, which are parameters of the types here; the bounds
/// themselves are checked with the configuration.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Span(pub Duration);

/// A duration, or `off`.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct SpanOrOff<const MS_MIN: u64 = 1>(pub Option<Duration>);

/// A number of bytes: `65536`, `64KiB`, `1MiB`, `1GiB`.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Size(pub usize);

/// A number of bytes within the bounds of an option.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct SizeWithin<const MIN: usize, const MAX: usize = MEMORY_MAX>(pub usize);

/// A number of at least 1.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Count<const MIN: u32 = 1, const MAX: u32 = { u32::MAX }>(pub u32);

/// A number of at least 1, or `off`: no limit.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct CountOrOff(pub Option<u32>);

/// The clock counts in these.
const SPAN_MIN: Duration = Duration::from_millis(1);

/// Examples of durations.
const SPANS: &str = "write 20s, 500ms, 1.5s, 2m or 1h";

/// Examples of sizes.
const SIZES: [(&str, usize); 4] = [
    ("65536", 1 << 16),
    ("64KiB", 1 << 16),
    ("1MiB", 1 << 20),
    ("1GiB", 1 << 30),
];

impl FromStr for Span {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        span(text, SPAN_MIN).map(Self)
    }
}

/// Reads a duration of an option whose least one is `least`.
fn span(text: &str, least: Duration) -> Result<Duration, String> {
    let text = text.trim();
    if text.is_empty() {
        return Err(format!("the duration is empty; {SPANS}"));
    }
    let wrong = || format!("`{text}` is no duration; {SPANS}");
    let is_possible = |text: &str| span(text, least).is_ok_and(|span| span >= least);
    let (number, unit) = number_and_unit(text).ok_or_else(wrong)?;
    let seconds = match unit {
        "ms" => 0.001,
        "s" => 1.0,
        "m" => 60.0,
        "h" => 3600.0,
        // None in any unit is no duration that can be meant.
        "" if number.parse() == Ok(0.0) => return Err(wrong()),
        "" => {
            let mut meant = [format!("{number}s"), format!("{number}ms")].to_vec();
            meant.retain(|meant| is_possible(meant));
            return Err(match meant.is_empty() {
                true => wrong(),
                false => format!("`{text}` has no unit; write {}", meant.join(" or ")),
            });
        }
        unit => {
            let meant = span_meant(number, unit).ok_or_else(wrong)?;
            return Err(match is_possible(&meant) {
                true => format!("`{text}` is no duration; write {meant}"),
                false => wrong(),
            });
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
        return Err(format!(
            "`{text}` is less than {least}; write {least}",
            least = written(least)
        ));
    }
    // Whole microseconds: what a fraction of a second leaves behind is no one's wish.
    Ok(Duration::from_micros(
        span.as_micros() as u64 + u64::from(span.subsec_nanos() % 1000 >= 500),
    ))
}

impl<const MS_MIN: u64> FromStr for SpanOrOff<MS_MIN> {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        match text.trim() {
            text if text::is_off(text) => Ok(Self(None)),
            text => match span(text, Duration::from_millis(MS_MIN)) {
                Ok(span) => Ok(Self(Some(span))),
                Err(error) => Err(format!("{error}, or off")),
            },
        }
    }
}

impl FromStr for Size {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        size(text, &(0..=MEMORY_MAX)).map(Self)
    }
}

impl<const MIN: usize, const MAX: usize> FromStr for SizeWithin<MIN, MAX> {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        size(text, &(MIN..=MAX)).map(Self)
    }
}

/// Reads a size of an option with these bounds.
fn size(text: &str, bounds: &RangeInclusive<usize>) -> Result<usize, String> {
    let (least, most) = (*bounds.start(), *bounds.end());
    let text = text.trim();
    if text.is_empty() {
        return Err(format!("the size is empty; {}", size_examples(bounds)));
    }
    let wrong = || format!("`{text}` is no size; {}", size_examples(bounds));
    let (number, unit) = number_and_unit(text).ok_or_else(wrong)?;
    let unit_bytes = match SIZE_UNITS.iter().find(|(name, _)| *name == unit) {
        Some((_, bytes)) => Some(*bytes),
        None => unit.is_empty().then_some(1),
    };
    let too_large = || {
        format!(
            "`{text}` is too large; write at most {}",
            written_size(most)
        )
    };
    let Some(unit_bytes) = unit_bytes.filter(|_| !number.contains('.')) else {
        let (binary, decimal) = size_meant(number, unit).ok_or_else(wrong)?;
        let meant = [Some(written_size(binary)), decimal.map(|it| it.to_string())];
        let is_possible =
            [Some(binary), decimal].map(|it| it.is_some_and(|it| bounds.contains(&it)));
        let meant = meant.into_iter().flatten().zip(is_possible);
        let meant: Vec<String> = meant.filter(|(_, is)| *is).map(|(it, _)| it).collect();
        return Err(match meant.is_empty() {
            false => format!("`{text}` is no size; write {}", meant.join(" or ")),
            true if binary > most => too_large(),
            true => format!(
                "`{text}` is too small; write at least {}",
                written_size(least)
            ),
        });
    };
    let number: usize = number.parse().map_err(|_| too_large())?;
    let bytes = number.checked_mul(unit_bytes);
    let bytes = bytes.filter(|bytes| *bytes <= MEMORY_MAX);
    bytes.ok_or_else(too_large)
}

/// Examples of sizes within these bounds.
fn size_examples(bounds: &RangeInclusive<usize>) -> String {
    let possible = SIZES.iter().filter(|(_, bytes)| bounds.contains(bytes));
    let names: Vec<&str> = possible.map(|(name, _)| *name).collect();
    match names.split_last() {
        Some((last, others)) if !others.is_empty() => {
            format!("write {} or {last}", others.join(", "))
        }
        _ => format!("write at least {}", written_size(*bounds.start())),
    }
}

impl<const MIN: u32, const MAX: u32> FromStr for Count<MIN, MAX> {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        match text.trim().parse() {
            Ok(count @ 1..) => Ok(Self(count)),
            Ok(0) | Err(_) => Err(match count_meant(text) {
                Some(meant) if (MIN..=MAX).contains(&meant) => {
                    format!("`{text}` is no count; write {meant}")
                }
                Some(_) | None => format!("`{text}` is no count; write {MIN} to {MAX}"),
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
                Ok(Count::<1>(count)) => Ok(Self(Some(count))),
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

impl fmt::Display for Span {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&written(self.0))
    }
}

text::from_file!(
    Span,
    Size,
    { const MS_MIN: u64 } SpanOrOff<MS_MIN>,
    { const MIN: usize, const MAX: usize } SizeWithin<MIN, MAX>,
    { const MIN: u32, const MAX: u32 } Count<MIN, MAX>,
    CountOrOff
);

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
            assert_eq!(off.parse(), Ok(SpanOrOff::<1>(None)), "{off}");
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
        assert_eq!(" 7".parse::<Count>(), Ok(Count(7)));
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
            let told = format!("`{text}` is too large; write at most 1024GiB");
            assert_eq!(error, told);
        }
        assert_eq!("1024GiB".parse::<Size>(), Ok(Size(1 << 40)));
    }

    #[test]
    fn advice_keeps_to_the_bounds_of_the_option() {
        let error_of = |parsed: Result<(), String>| parsed.unwrap_err();
        let size = |text: &str| error_of(text.parse::<SizeWithin<256, { 1 << 20 }>>().map(drop));
        let memory = |text: &str| error_of(text.parse::<SizeWithin<{ 1 << 20 }>>().map(drop));
        let count = |text: &str| error_of(text.parse::<Count<5, 128>>().map(drop));
        let span = |text: &str| error_of(text.parse::<SpanOrOff<8>>().map(drop));
        for (error, told) in [
            (size(""), "the size is empty; write 65536, 64KiB or 1MiB"),
            (size("1.5MiB"), "`1.5MiB` is too large; write at most 1MiB"),
            (size("1.03MB"), "`1.03MB` is no size; write 1030000"),
            (size("9e9"), "`9e9` is no size; write 65536, 64KiB or 1MiB"),
            (
                size("99999999999999999999"),
                "`99999999999999999999` is too large; write at most 1MiB",
            ),
            (size("1 b"), "`1 b` is too small; write at least 256"),
            (memory("1kib"), "`1kib` is too small; write at least 1MiB"),
            (memory("1MB"), "`1MB` is no size; write 1MiB"),
            (memory("x"), "`x` is no size; write 1MiB or 1GiB"),
            (count("0"), "`0` is no count; write 5 to 128"),
            (count("10k"), "`10k` is no count; write 5 to 128"),
            (count("1e2"), "`1e2` is no count; write 100"),
            (span("5"), "`5` has no unit; write 5s, or off"),
            (span("0.4ms"), "`0.4ms` is less than 8ms; write 8ms, or off"),
            (
                span("9999d"),
                "`9999d` is no duration; write 20s, 500ms, 1.5s, 2m or 1h, or off",
            ),
        ] {
            assert_eq!(error, told);
        }
    }
}
