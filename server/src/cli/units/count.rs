//! Counts: whole numbers from 1.

use std::str::FromStr;

use super::is_off;
use crate::cli::file_value;

/// A whole number of at least 1. `MIN` and `MAX` are the bounds of the option.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Count<const MIN: u32 = 1, const MAX: u32 = { u32::MAX }>(pub u32);

/// A whole number of at least 1, or `off`.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct CountOrOff(pub Option<u32>);

impl<const MIN: u32, const MAX: u32> FromStr for Count<MIN, MAX> {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        match text.trim().parse() {
            Ok(count @ 1..) => Ok(Self(count)),
            Ok(0) | Err(_) => Err(match suggestion(text) {
                Some(suggestion) if (MIN..=MAX).contains(&suggestion) => {
                    format!("`{text}` is not a count; write {suggestion}")
                }
                Some(_) | None => format!("`{text}` is not a count; write {MIN} to {MAX}"),
            }),
        }
    }
}

impl FromStr for CountOrOff {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        match text.trim() {
            text if is_off(text) => Ok(Self(None)),
            text => match text.parse() {
                Ok(Count::<1>(count)) => Ok(Self(Some(count))),
                Err(error) => Err(format!("{error}, or off")),
            },
        }
    }
}

/// The count that is probably meant by a number with a unit, an exponent, or separators of thousands.
fn suggestion(text: &str) -> Option<u32> {
    let text = text.trim().to_ascii_lowercase();
    let (number, unit) = text.split_at(text.trim_end_matches(['k', 'm']).len());
    let scale = match unit {
        "k" => 1e3,
        "m" => 1e6,
        // A dot may be a decimal point or a separator of thousands.
        "" if !number.contains('.') => 1.0,
        _ => return None,
    };
    let number = number.replace(['_', ',', '\'', ' '], "");
    let count = number.parse::<f64>().ok()? * scale;
    let is_count = count.fract() == 0.0 && (1.0..=f64::from(u32::MAX)).contains(&count);
    is_count.then_some(count as u32)
}

file_value::from_file!({ const MIN: u32, const MAX: u32 } Count<MIN, MAX>, CountOrOff);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_count_is_a_whole_number_from_1() {
        assert_eq!("7".parse(), Ok(CountOrOff(Some(7))));
        assert_eq!(" 7".parse::<Count>(), Ok(Count(7)));
        for off in ["off", "OFF", "false"] {
            assert_eq!(off.parse(), Ok(CountOrOff(None)), "{off}");
        }
        let range = "1 to 4294967295";
        for (wrong, suggestion) in [
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
            assert_eq!(
                error,
                format!("`{wrong}` is not a count; write {suggestion}")
            );
            let or_off = wrong.parse::<CountOrOff>().unwrap_err();
            assert_eq!(or_off, format!("{error}, or off"));
        }
        assert!("off".parse::<Count>().is_err());
    }

    #[test]
    fn a_suggestion_keeps_to_the_bounds_of_the_option() {
        let error = |text: &str| text.parse::<Count<5, 128>>().unwrap_err();
        for (text, expected) in [
            ("0", "`0` is not a count; write 5 to 128"),
            ("10k", "`10k` is not a count; write 5 to 128"),
            ("1e2", "`1e2` is not a count; write 100"),
        ] {
            assert_eq!(error(text), expected);
        }
    }
}
