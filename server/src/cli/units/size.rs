//! Sizes in bytes: `65536`, `64KiB`, `1MiB`, `1GiB`.

use std::{ops::RangeInclusive, str::FromStr};

use super::number_and_unit;
use crate::{
    cli::file_value,
    config::{
        bounds::MEMORY_MAX,
        notation::{self, SIZE_UNITS},
    },
};

/// A number of bytes: `65536`, `64KiB`, `1MiB` or `1GiB`; at most 1024 GiB.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Size(pub usize);

/// A number of bytes of an option with the bounds `MIN` and `MAX`, in bytes.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct SizeWithin<const MIN: usize, const MAX: usize = MEMORY_MAX>(pub usize);

/// Examples of sizes, in bytes.
const EXAMPLES: [(&str, usize); 4] = [
    ("65536", 1 << 16),
    ("64KiB", 1 << 16),
    ("1MiB", 1 << 20),
    ("1GiB", 1 << 30),
];

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

/// Parses the size of an option with these bounds.
fn size(text: &str, bounds: &RangeInclusive<usize>) -> Result<usize, String> {
    let (min, max) = (*bounds.start(), *bounds.end());
    let text = text.trim();
    if text.is_empty() {
        return Err(format!("the size is empty; {}", examples(bounds)));
    }
    let wrong = || format!("`{text}` is not a size; {}", examples(bounds));
    let (number, unit) = number_and_unit(text).ok_or_else(wrong)?;
    let unit_bytes = match SIZE_UNITS.iter().find(|(name, _)| *name == unit) {
        Some((_, bytes)) => Some(*bytes),
        None => unit.is_empty().then_some(1),
    };
    let too_large = || {
        format!(
            "`{text}` is too large; write at most {}",
            notation::size(max)
        )
    };
    let Some(unit_bytes) = unit_bytes.filter(|_| !number.contains('.')) else {
        let (binary, decimal) = suggested_bytes(number, unit).ok_or_else(wrong)?;
        let texts = [
            Some(notation::size(binary)),
            decimal.map(|it| it.to_string()),
        ];
        let is_possible =
            [Some(binary), decimal].map(|it| it.is_some_and(|it| bounds.contains(&it)));
        let suggestions = texts.into_iter().flatten().zip(is_possible);
        let suggestions: Vec<String> = suggestions
            .filter(|(_, is)| *is)
            .map(|(it, _)| it)
            .collect();
        return Err(match suggestions.is_empty() {
            false => format!("`{text}` is not a size; write {}", suggestions.join(" or ")),
            true if binary > max => too_large(),
            true => format!(
                "`{text}` is too small; write at least {}",
                notation::size(min)
            ),
        });
    };
    let number: usize = number.parse().map_err(|_| too_large())?;
    let bytes = number.checked_mul(unit_bytes);
    let bytes = bytes.filter(|bytes| *bytes <= MEMORY_MAX);
    bytes.ok_or_else(too_large)
}

/// Advice with the examples within these bounds.
fn examples(bounds: &RangeInclusive<usize>) -> String {
    let possible = EXAMPLES.iter().filter(|(_, bytes)| bounds.contains(bytes));
    let names: Vec<&str> = possible.map(|(name, _)| *name).collect();
    match names.split_last() {
        Some((last, others)) if !others.is_empty() => {
            format!("write {} or {last}", others.join(", "))
        }
        _ => format!("write at least {}", notation::size(*bounds.start())),
    }
}

/// The bytes that are probably meant by a fraction, or by another spelling of a unit: with powers of 1024,
/// and for a unit such as `MB` also with powers of 1000.
fn suggested_bytes(number: &str, unit: &str) -> Option<(usize, Option<usize>)> {
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

file_value::from_file!(Size, { const MIN: usize, const MAX: usize } SizeWithin<MIN, MAX>);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_size_is_a_number_of_bytes_or_with_a_binary_unit() {
        let size = |text: &str| text.parse::<Size>().map(|size| size.0);
        assert_eq!(size("65536"), Ok(65536));
        assert_eq!(size("64KiB"), Ok(65536));
        assert_eq!(size(" 64KiB "), Ok(65536));
        assert_eq!(size("1MiB"), Ok(1 << 20));
        assert_eq!(size("2GiB"), Ok(2 << 30));
        assert_eq!(size("0"), Ok(0));
    }

    #[test]
    fn the_error_for_a_wrong_size_says_what_to_write() {
        let examples = "65536, 64KiB, 1MiB or 1GiB";
        for (text, suggestion) in [
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
            assert!(error.ends_with(&format!("; write {suggestion}")), "{error}");
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
            let expected = format!("`{text}` is too large; write at most 1024GiB");
            assert_eq!(error, expected);
        }
        assert_eq!("1024GiB".parse::<Size>(), Ok(Size(1 << 40)));
    }

    #[test]
    fn a_suggestion_keeps_to_the_bounds_of_the_option() {
        let size = |text: &str| text.parse::<SizeWithin<256, { 1 << 20 }>>().unwrap_err();
        let memory = |text: &str| text.parse::<SizeWithin<{ 1 << 20 }>>().unwrap_err();
        for (error, expected) in [
            (size(""), "the size is empty; write 65536, 64KiB or 1MiB"),
            (size("1.5MiB"), "`1.5MiB` is too large; write at most 1MiB"),
            (size("1.03MB"), "`1.03MB` is not a size; write 1030000"),
            (
                size("9e9"),
                "`9e9` is not a size; write 65536, 64KiB or 1MiB",
            ),
            (
                size("99999999999999999999"),
                "`99999999999999999999` is too large; write at most 1MiB",
            ),
            (size("1 b"), "`1 b` is too small; write at least 256"),
            (memory("1kib"), "`1kib` is too small; write at least 1MiB"),
            (memory("1MB"), "`1MB` is not a size; write 1MiB"),
            (memory("x"), "`x` is not a size; write 1MiB or 1GiB"),
        ] {
            assert_eq!(error, expected);
        }
    }
}
