//! Durations, sizes and counts in the notation of the command line.
//!
//! Each type parses its text, and an error says what to write instead. The bounds of an option are parameters
//! of the types: the advice in an error keeps to them. [`Config::check`](crate::Config::check) enforces them.

mod count;
mod duration;
mod size;

pub use self::{
    count::{Count, CountOrOff},
    duration::{Span, SpanOrOff},
    size::{Size, SizeWithin},
};

/// Whether a text disables an option: `off` or `false`, in any case.
pub(super) fn is_off(text: &str) -> bool {
    text.eq_ignore_ascii_case("off") || text.eq_ignore_ascii_case("false")
}

/// Splits decimal digits, with or without a fraction, from the unit after them.
fn number_and_unit(text: &str) -> Option<(&str, &str)> {
    let is_in_number = |c: char| c.is_ascii_digit() || c == '.';
    let end = text.find(|c| !is_in_number(c)).unwrap_or(text.len());
    let (number, unit) = text.split_at(end);
    let is_number = number.parse::<f64>().is_ok() && !number.ends_with('.');
    is_number.then_some((number, unit))
}
