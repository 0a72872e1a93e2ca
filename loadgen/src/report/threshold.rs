//! Thresholds of `--assert`, which the report calls gates.
//!
//! ```text
//! gate  = NAME RELATION bound        close.p99.9<50ms    lost==0    echo.p99<=1.15x+2ms
//! bound = VALUE | RATIO "x" ["+" VALUE]                  the latter relative to the baseline
//! ```
//!
//! A ratio alone fails on noise if the figure is small, and a floor alone if it is large; so a bound may
//! have both.

use std::{fmt, str::FromStr};

use serde::{Deserialize, Serialize};

use crate::measure::figures::{Unit, bytes_unit, precise_bytes};

/// Units of a bound, with their scale: durations are compared in seconds, sizes in bytes, and shares as
/// fractions of 1.
const UNITS: [(&str, f64, Unit); 10] = [
    ("ns", 1e-9, Unit::Seconds),
    ("us", 1e-6, Unit::Seconds),
    ("ms", 1e-3, Unit::Seconds),
    ("KiB", 1024.0, Unit::Bytes),
    ("MiB", 1_048_576.0, Unit::Bytes),
    ("GiB", 1_073_741_824.0, Unit::Bytes),
    ("B", 1.0, Unit::Bytes),
    ("/s", 1.0, Unit::PerSecond),
    ("s", 1.0, Unit::Seconds),
    ("%", 0.01, Unit::Share),
];

/// Form of a threshold in error messages.
const FORM: &str = "a gate is a name, one of < <= > >= == !=, and a limit, such as \
                    'protocol_error==0' or 'generator.cpu_seconds<=1.15x+2s'";

/// Spellings of relations in other languages, and the spelling here.
const MISSPELT_RELATIONS: [(&str, &str); 5] = [
    ("=", "=="),
    ("===", "=="),
    ("=<", "<="),
    ("=>", ">="),
    ("<>", "!="),
];

/// Spellings of relations; a longer one comes before its prefix.
const RELATIONS: [(&str, Relation); 6] = [
    ("<=", Relation::AtMost),
    (">=", Relation::AtLeast),
    ("==", Relation::Equal),
    ("!=", Relation::Unequal),
    ("<", Relation::Below),
    (">", Relation::Above),
];

/// A threshold of one `--assert`.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Threshold {
    text: String,
    name: String,
    relation: Relation,
    bound: Bound,
}

#[derive(Clone, Copy, Debug, Eq, PartialEq)]
enum Relation {
    Below,
    AtMost,
    Above,
    AtLeast,
    Equal,
    Unequal,
}

#[derive(Clone, Copy, Debug, PartialEq)]
enum Bound {
    Absolute(Value),
    Relative { ratio: f64, floor: Option<Value> },
}

/// A number with its unit.
#[derive(Clone, Copy, Debug, PartialEq)]
struct Value {
    number: f64,
    /// The written unit, in seconds, bytes or the base unit of the figure.
    scale: f64,
    unit: Option<Unit>,
}

/// The result of a threshold.
#[derive(Clone, Debug, Deserialize, Serialize)]
pub(crate) struct ThresholdResult {
    /// The threshold as it was given.
    pub(crate) gate: String,
    pub(crate) passed: bool,
    /// The measured value in the base unit; `None` if the run has no value of this name.
    pub(crate) measured: Option<f64>,
    /// The bound in the base unit.
    pub(crate) bound: Option<f64>,
    /// The value of the baseline, if there is one.
    #[serde(default)]
    pub(crate) baseline: Option<f64>,
    /// Unit in bytes in which sizes are shown; `None` chooses it by the bound.
    #[serde(skip)]
    bytes_unit: Option<f64>,
    /// Base unit of the values.
    #[serde(default)]
    pub(crate) unit: Option<Unit>,
    /// The reason if no comparison was possible.
    pub(crate) error: Option<String>,
}

/// Kind of a metric.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) struct MetricKind {
    pub(crate) unit: Unit,
    /// Whether it is a percentile of a latency, rather than a figure.
    pub(crate) is_latency: bool,
}

impl FromStr for Threshold {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let is_sign = |character| matches!(character, '<' | '=' | '>' | '!');
        let start = text.find(is_sign).ok_or_else(|| FORM.to_owned())?;
        let rest = &text[start..];
        let sign = &rest[..rest.find(|it| !is_sign(it)).unwrap_or(rest.len())];
        let relation = RELATIONS.iter().find(|(known, _)| *known == sign);
        let (_, relation) = relation.ok_or_else(|| {
            match MISSPELT_RELATIONS.iter().find(|(known, _)| *known == sign) {
                Some((_, meant)) => format!("`{sign}` is not a relation, write `{meant}`: {FORM}"),
                None => format!("`{sign}` is not a relation: {FORM}"),
            }
        })?;
        let name = text[..start].trim();
        if name.is_empty() {
            return Err(format!("the name is missing: {FORM}"));
        }
        let limit = text[start + sign.len()..].trim();
        if limit.is_empty() {
            return Err(format!("the limit is missing: {FORM}"));
        }
        Ok(Self {
            text: text.to_owned(),
            name: name.to_owned(),
            relation: *relation,
            bound: bound(limit)?,
        })
    }
}

/// Parses a bound.
fn bound(text: &str) -> Result<Bound, String> {
    if let Some((ratio, floor)) = text.split_once('x') {
        let ratio = number(ratio.trim())?;
        let floor = match floor.trim().strip_prefix('+') {
            Some(floor) => Some(value(floor.trim())?),
            None if floor.trim().is_empty() => None,
            None => {
                return Err(format!(
                    "a ratio is followed by + and a floor, such as 1.15x+2ms, not by `{floor}`"
                ));
            }
        };
        return Ok(Bound::Relative { ratio, floor });
    }
    Ok(Bound::Absolute(value(text)?))
}

/// Parses a number with or without a unit.
fn value(text: &str) -> Result<Value, String> {
    let digits = text.trim_end_matches(|it: char| it.is_ascii_alphabetic() || "/%".contains(it));
    let unit = &text[digits.len()..];
    if unit.is_empty() || digits.is_empty() {
        return Ok(Value {
            number: number(text)?,
            scale: 1.0,
            unit: None,
        });
    }
    let known = UNITS.iter().find(|(known, ..)| *known == unit);
    let (_, scale, counted) = known.ok_or_else(|| {
        format!("`{unit}` is not a unit; the units are ns, us, ms, s, B, KiB, MiB, GiB, % and /s")
    })?;
    Ok(Value {
        number: number(digits.trim())? * scale,
        scale: *scale,
        unit: Some(*counted),
    })
}

fn number(text: &str) -> Result<f64, String> {
    match text.parse() {
        Ok(number) if f64::is_finite(number) => Ok(number),
        Ok(_) | Err(_) => Err(format!(
            "`{text}` is not a number; a limit is a number with or without a unit, such as 50ms, 200B, 5% or 0"
        )),
    }
}

impl Threshold {
    /// Returns whether the bound is relative to a baseline.
    pub(crate) const fn is_relative(&self) -> bool {
        matches!(self.bound, Bound::Relative { .. })
    }

    /// Returns the threshold as it was given.
    pub(crate) fn text(&self) -> &str {
        &self.text
    }

    /// Returns the name of the metric.
    pub(crate) fn name(&self) -> &str {
        &self.name
    }

    /// Checks that the unit of the bound fits the metric.
    ///
    /// # Errors
    /// A message that names the units of the metric.
    pub(crate) fn check_unit(&self, kind: MetricKind) -> Result<(), String> {
        let value = match self.bound {
            Bound::Absolute(value) => value,
            Bound::Relative { floor: None, .. } => return Ok(()),
            Bound::Relative {
                floor: Some(floor), ..
            } => floor,
        };
        if kind.unit == Unit::Seconds && value.number < 0.0 {
            return Err(format!(
                "--assert: {} is a duration, which is never negative",
                self.name
            ));
        }
        if kind.unit == Unit::Share && value.unit.is_none() && value.number > 1.0 {
            let number = value.number;
            return Err(format!(
                "--assert: {} is a share, and `{number}` is above 1: write a percentage, such as \
                 {number}%, or a fraction from 0 to 1, such as 0.5",
                self.name
            ));
        }
        match value.unit {
            Some(unit) if unit == kind.unit => return Ok(()),
            None if !kind.is_latency => return Ok(()),
            Some(_) | None => {}
        }
        let (kind, units, example) = match kind.unit {
            Unit::Seconds => ("duration", "is in ns, us, ms or s", "ms"),
            Unit::Bytes => ("size", "is in B, KiB, MiB or GiB", "B"),
            Unit::Share => ("share", "is a percentage, or a fraction from 0 to 1", "%"),
            Unit::PerSecond => ("rate", "is in /s", "/s"),
            Unit::Count => ("count", "has no unit", ""),
        };
        let bare = self
            .text
            .trim_end_matches(|it: char| it.is_ascii_alphabetic() || "/%".contains(it));
        Err(format!(
            "--assert: {} is a {kind}: its limit {units}, such as {}{example}",
            self.name,
            bare.trim_end(),
        ))
    }

    /// Returns the message about a baseline without a value of this name.
    pub(crate) fn missing_in_baseline(&self) -> String {
        format!("there is no {} in the baseline", self.name)
    }

    /// Compares a measured value with the bound. `baseline` is the value of the baseline, and `unit` the
    /// base unit of both.
    pub(crate) fn evaluate(
        &self,
        measured: Option<f64>,
        baseline: Option<f64>,
        unit: Option<Unit>,
    ) -> ThresholdResult {
        let mut result = ThresholdResult {
            gate: self.text.clone(),
            passed: false,
            measured,
            bound: None,
            baseline,
            bytes_unit: match self.bound {
                Bound::Absolute(value) => Some(value.scale),
                Bound::Relative { .. } => None,
            },
            unit,
            error: None,
        };
        let Some(measured) = result.measured else {
            result.error = Some(format!("the run has no value of {}", self.name));
            return result;
        };
        let bound = match self.bound {
            Bound::Absolute(value) => value.number,
            Bound::Relative { ratio, floor } => match result.baseline {
                Some(before) => before * ratio + floor.map_or(0.0, |floor| floor.number),
                None => {
                    result.error = Some(self.missing_in_baseline());
                    return result;
                }
            },
        };
        result.bound = Some(bound);
        result.passed = match self.relation {
            Relation::Below => measured < bound,
            Relation::AtMost => measured <= bound,
            Relation::Above => measured > bound,
            Relation::AtLeast => measured >= bound,
            Relation::Equal => measured == bound,
            Relation::Unequal => measured != bound,
        };
        result
    }
}

impl ThresholdResult {
    /// Formats a value with its unit. All sizes of one result have the same unit.
    pub(crate) fn format(&self, value: f64) -> String {
        match (
            self.unit.unwrap_or(Unit::Count),
            self.bytes_unit,
            self.bound,
        ) {
            (Unit::Bytes, Some(unit), _) => precise_bytes(value, unit),
            (Unit::Bytes, None, Some(bound)) => precise_bytes(value, bytes_unit(bound)),
            (unit, _, _) => unit.precise(value),
        }
    }
}

impl fmt::Display for ThresholdResult {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let result = if self.passed { "holds" } else { "FAILS" };
        write!(f, "{result}  {}", self.gate)?;
        match (self.measured, self.bound, &self.error) {
            (_, _, Some(error)) => write!(f, "  ({error})"),
            (Some(measured), Some(bound), None) => {
                let (measured, bound) = (self.format(measured), self.format(bound));
                write!(f, "  (measured {measured}, limit {bound}")?;
                if let Some(baseline) = self.baseline {
                    write!(f, ", baseline {}", self.format(baseline))?;
                }
                write!(f, ")")
            }
            (None, _, None) | (_, None, None) => Ok(()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_invalid_threshold_is_rejected_with_the_form_to_write() {
        for (text, expected) in [
            ("", "a gate is a name"),
            ("lost", "a gate is a name"),
            ("<5", "the name is missing"),
            ("lost==", "the limit is missing"),
            ("lost==x5", "is not a number"),
            ("a<1.5x-2ms", "such as 1.15x+2ms"),
            ("a<NaN", "is not a number"),
            (
                "a<5parsecs",
                "`parsecs` is not a unit; the units are ns, us, ms, s",
            ),
            ("a<5mss", "`mss` is not a unit"),
            ("a<ms", "is not a number"),
            ("a=0", "`=` is not a relation, write `==`"),
            ("a=<5", "`=<` is not a relation, write `<=`"),
            ("a=>5", "write `>=`"),
            ("a<>5", "write `!=`"),
            ("a=!5", "`=!` is not a relation: a gate is"),
        ] {
            let message = text.parse::<Threshold>().unwrap_err();
            assert!(message.contains(expected), "{text}: {message}");
        }
    }
}
