//! Gates: what a run must hold to, as `--assert` says it.
//!
//! ```text
//! gate  = NAME RELATION bound        close.p99.9<50ms    lost==0    echo.p99<=1.15x+2ms
//! bound = VALUE | RATIO "x" ["+" VALUE]                  the latter against the baseline
//! ```
//!
//! A ratio alone fails on noise where the figure is small, a floor alone where it is large: so
//! they come together.

use std::{fmt, str::FromStr};

use serde::{Deserialize, Serialize};

use crate::{
    figures::{Unit, bytes_unit, precise_bytes},
    names::{CONNECTIONS, Meaning, Names},
    summary::Summary,
};

/// Units of a bound; a duration is compared in seconds, a size in bytes, a share as one of 1.
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

/// The form of a gate.
const FORM: &str = "a gate is a name, one of < <= > >= == !=, and a limit, such as \
                    'protocol_error==0' or 'generator.cpu_seconds<=1.15x+2s'";

/// Relations as other languages write them, and those that are meant.
const MISTAKEN: [(&str, &str); 5] = [
    ("=", "=="),
    ("===", "=="),
    ("=<", "<="),
    ("=>", ">="),
    ("<>", "!="),
];

const RELATIONS: [(&str, Relation); 6] = [
    ("<=", Relation::AtMost),
    (">=", Relation::AtLeast),
    ("==", Relation::Equal),
    ("!=", Relation::Unequal),
    ("<", Relation::Below),
    (">", Relation::Above),
];

/// One `--assert`.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Gate {
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

/// A number, and what it counts if it has a unit.
#[derive(Clone, Copy, Debug, PartialEq)]
struct Value {
    number: f64,
    /// The unit in which it was written, in seconds, bytes or the like.
    scale: f64,
    unit: Option<Unit>,
}

/// What came of a gate.
#[derive(Clone, Debug, Deserialize, Serialize)]
pub(crate) struct GateResult {
    /// As it was given.
    pub(crate) gate: String,
    pub(crate) passed: bool,
    /// In seconds, bytes, or a share of 1, or as it is; `None` if there is nothing of that name.
    pub(crate) measured: Option<f64>,
    /// What it was compared with.
    pub(crate) bound: Option<f64>,
    /// The value of the baseline, if there is one.
    #[serde(default)]
    pub(crate) baseline: Option<f64>,
    /// Bytes of the unit in which sizes are told; `None` follows from the bound.
    #[serde(skip)]
    bytes_unit: Option<f64>,
    /// The unit of all of them, if they have one.
    #[serde(default)]
    pub(crate) unit: Option<Unit>,
    /// Why nothing was compared.
    pub(crate) error: Option<String>,
}

impl FromStr for Gate {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let is_sign = |character| matches!(character, '<' | '=' | '>' | '!');
        let start = text.find(is_sign).ok_or_else(|| FORM.to_owned())?;
        let rest = &text[start..];
        let sign = &rest[..rest.find(|it| !is_sign(it)).unwrap_or(rest.len())];
        let relation = RELATIONS.iter().find(|(known, _)| *known == sign);
        let (_, relation) =
            relation.ok_or_else(|| match MISTAKEN.iter().find(|(known, _)| *known == sign) {
                Some((_, meant)) => format!("`{sign}` is no relation, write `{meant}`: {FORM}"),
                None => format!("`{sign}` is no relation: {FORM}"),
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

/// Reads a bound.
fn bound(text: &str) -> Result<Bound, String> {
    if let Some((ratio, floor)) = text.split_once('x') {
        let ratio = number(ratio.trim())?;
        let floor = match floor.trim().strip_prefix('+') {
            Some(floor) => Some(value(floor.trim())?),
            None if floor.trim().is_empty() => None,
            None => {
                return Err(format!(
                    "behind a ratio stands + and a floor, such as 1.15x+2ms, not `{floor}`"
                ));
            }
        };
        return Ok(Bound::Relative { ratio, floor });
    }
    Ok(Bound::Absolute(value(text)?))
}

/// Reads a number with a unit or without.
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
        format!("`{unit}` is no unit; ns, us, ms, s, B, KiB, MiB, GiB, % and /s are")
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
            "`{text}` is no number; a limit is one with a unit or without, such as 50ms, 200B, 5% or 0"
        )),
    }
}

impl Gate {
    /// Whether it needs a baseline.
    pub(crate) const fn is_relative(&self) -> bool {
        matches!(self.bound, Bound::Relative { .. })
    }

    /// The gate as it was given.
    pub(crate) fn text(&self) -> &str {
        &self.text
    }

    /// The name of what it is about.
    pub(crate) fn name(&self) -> &str {
        &self.name
    }

    /// Checks that the bound is one of what the name means.
    ///
    /// # Errors
    /// A message that tells the right units.
    pub(crate) fn check_unit(&self, meaning: Meaning) -> Result<(), String> {
        let value = match self.bound {
            Bound::Absolute(value) => value,
            Bound::Relative { floor: None, .. } => return Ok(()),
            Bound::Relative {
                floor: Some(floor), ..
            } => floor,
        };
        if meaning.unit == Unit::Seconds && value.number < 0.0 {
            return Err(format!(
                "--assert: {} is a duration, and never negative",
                self.name
            ));
        }
        if meaning.unit == Unit::Share && value.unit.is_none() && value.number > 1.0 {
            let number = value.number;
            return Err(format!(
                "--assert: {} is a share, and `{number}` is above 1: write a percentage, such as \
                 {number}%, or a fraction from 0 to 1, such as 0.5",
                self.name
            ));
        }
        match value.unit {
            Some(unit) if unit == meaning.unit => return Ok(()),
            None if !meaning.is_latency => return Ok(()),
            Some(_) | None => {}
        }
        let (kind, units, example) = match meaning.unit {
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

    fn missing_in_baseline(&self) -> String {
        format!("there is no {} in the baseline", self.name)
    }

    /// Checks that a baseline has what a relative gate compares with.
    ///
    /// # Errors
    /// If it has not.
    pub(crate) fn check_baseline(&self, baseline: &Summary) -> Result<(), String> {
        match figure(baseline, &self.name) {
            None if self.is_relative() => Err(self.missing_in_baseline()),
            Some(_) | None => Ok(()),
        }
    }

    /// Compares what was measured with the bound; `names` are those of the run.
    pub(crate) fn judge(
        &self,
        summary: &Summary,
        baseline: Option<&Summary>,
        names: &Names,
    ) -> GateResult {
        let meaning = names.meaning(&self.name);
        let mut result = GateResult {
            gate: self.text.clone(),
            passed: false,
            measured: figure(summary, &self.name),
            bound: None,
            baseline: baseline.and_then(|baseline| figure(baseline, &self.name)),
            bytes_unit: match self.bound {
                Bound::Absolute(value) => Some(value.scale),
                Bound::Relative { .. } => None,
            },
            unit: meaning.map(|meaning| meaning.unit),
            error: None,
        };
        let Some(measured) = result.measured else {
            result.error = Some(format!("nothing was measured as {}", self.name));
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

/// Finds a figure, an outcome or a percentile by name.
fn figure(summary: &Summary, name: &str) -> Option<f64> {
    if let Some(value) = summary.figures.get(name) {
        return Some(*value);
    }
    if let Some(count) = summary.outcomes.get(name) {
        return Some(*count as f64);
    }
    if name == CONNECTIONS {
        return Some(summary.connections as f64);
    }
    let (latency, rest) = name.split_once('.')?;
    let latency = summary.latencies.get(latency)?;
    let (percentiles, rest) = match rest.strip_prefix("uncorrected.") {
        Some(rest) => (latency.uncorrected.as_ref()?, rest),
        None => (
            &latency.corrected,
            rest.strip_prefix("corrected.").unwrap_or(rest),
        ),
    };
    let value = percentiles.get(rest)? as f64;
    match rest {
        "count" => Some(value),
        _ => Some(value / 1e9),
    }
}

impl GateResult {
    /// A value of it with its unit. Sizes are all in one unit, so that they can be compared.
    pub(crate) fn told(&self, value: f64) -> String {
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

impl fmt::Display for GateResult {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let result = if self.passed { "holds" } else { "FAILS" };
        write!(f, "{result}  {}", self.gate)?;
        match (self.measured, self.bound, &self.error) {
            (_, _, Some(error)) => write!(f, "  ({error})"),
            (Some(measured), Some(bound), None) => {
                let (measured, bound) = (self.told(measured), self.told(bound));
                write!(f, "  (measured {measured}, limit {bound}")?;
                if let Some(baseline) = self.baseline {
                    write!(f, ", baseline {}", self.told(baseline))?;
                }
                write!(f, ")")
            }
            (None, _, None) | (_, None, None) => Ok(()),
        }
    }
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;
    use crate::{
        judgement::Verdict,
        latency::Percentiles,
        names::tests::names,
        summary::{GeneratorIdentity, LatencySummary, SCHEMA, ServerIdentity},
    };

    /// A summary with a latency, a figure and an outcome.
    pub(crate) fn summary(p99_millis: u64) -> Summary {
        let percentiles = Percentiles {
            count: 100,
            p99: p99_millis * 1_000_000,
            p99_9: 2 * p99_millis * 1_000_000,
            ..Percentiles::default()
        };
        let latency = LatencySummary {
            corrected: percentiles,
            uncorrected: None,
            curve: vec![(0.0, 1), (1.0, 2)],
        };
        Summary {
            schema: SCHEMA,
            version: "0".to_owned(),
            scenario: "echo".to_owned(),
            settings: [].into(),
            server: ServerIdentity {
                address: "127.0.0.1:1".parse().unwrap(),
                child: true,
                process_id: Some(1),
                core: None,
                causes: [].into(),
            },
            generator: GeneratorIdentity {
                core: None,
                seed: 1,
                rings: 1,
            },
            connections: 3,
            outcomes: [("closed".to_owned(), 3)].into(),
            latencies: [("echo".to_owned(), latency)].into(),
            figures: [
                ("lost".to_owned(), 0.0),
                ("server.bytes_per_connection".to_owned(), 180.0),
            ]
            .into(),
            gates: Vec::new(),
            verdict: Verdict::Passed,
            reasons: Vec::new(),
            invalid: None,
            notes: Vec::new(),
            discarded: Vec::new(),
        }
    }

    fn holds(gate: &str, baseline: Option<&Summary>) -> bool {
        gate.parse::<Gate>()
            .unwrap()
            .judge(&summary(10), baseline, &names())
            .passed
    }

    #[test]
    fn absolute_gates() {
        for gate in [
            "echo.p99<50ms",
            "echo.p99.9<=20ms",
            "echo.corrected.p99 == 10 ms",
            "echo.count==100",
            "lost==0",
            "closed==3",
            "connections>2",
            "server.bytes_per_connection<0.2KiB",
            "echo.p99!=11ms",
        ] {
            assert!(holds(gate, None), "{gate}");
        }
        for gate in ["echo.p99<10ms", "lost>0", "closed>=4"] {
            assert!(!holds(gate, None), "{gate}");
        }
    }

    #[test]
    fn a_relative_gate_has_ratio_and_floor() {
        let baseline = summary(8);
        assert!(holds("echo.p99<=1.25x", Some(&baseline)));
        assert!(!holds("echo.p99<=1.15x", Some(&baseline)));
        assert!(holds("echo.p99<=1.15x+2ms", Some(&baseline)));
        assert!(!holds("echo.p99<=2x", None));
    }

    #[test]
    fn what_cannot_be_compared_fails() {
        for gate in ["ehco.p99<1s", "echo.uncorrected.p99<1s", "echo.rate>1/s"] {
            let gate: Gate = gate.parse().unwrap();
            let result = gate.judge(&summary(10), None, &names());
            assert!(!result.passed && result.error.is_some(), "{gate:?}");
        }
    }

    #[test]
    fn what_was_measured_and_the_limit_are_told_with_their_units() {
        let baseline = summary(8);
        for (gate, told) in [
            (
                "echo.p99<50ms",
                "holds  echo.p99<50ms  (measured 10 ms, limit 50 ms, baseline 8 ms)",
            ),
            (
                "echo.p99<9.5ms",
                "FAILS  echo.p99<9.5ms  (measured 10 ms, limit 9.5 ms, baseline 8 ms)",
            ),
            (
                "echo.p99<=1x+1ms",
                "FAILS  echo.p99<=1x+1ms  (measured 10 ms, limit 9 ms, baseline 8 ms)",
            ),
            (
                "lost==0",
                "holds  lost==0  (measured 0, limit 0, baseline 0)",
            ),
            (
                "server.bytes_per_connection<1KiB",
                "holds  server.bytes_per_connection<1KiB  (measured 0.17578 KiB, limit 1 KiB, \
                 baseline 0.17578 KiB)",
            ),
            (
                "server.bytes_per_connection<2000B",
                "holds  server.bytes_per_connection<2000B  (measured 180 B, limit 2000 B, baseline \
                 180 B)",
            ),
            (
                "server.bytes_per_connection<=2x",
                "holds  server.bytes_per_connection<=2x  (measured 180 B, limit 360 B, baseline 180 B)",
            ),
        ] {
            let gate: Gate = gate.parse().unwrap();
            let result = gate.judge(&summary(10), Some(&baseline), &names());
            assert_eq!(result.to_string(), told);
        }
    }

    #[test]
    fn a_baseline_without_the_figure_is_no_baseline() {
        let gate: Gate = "echo.rate>=0.9x".parse().unwrap();
        let message = gate.check_baseline(&summary(8)).unwrap_err();
        assert_eq!(message, "there is no echo.rate in the baseline");
        let gate: Gate = "echo.p99<=2x".parse().unwrap();
        assert_eq!(gate.check_baseline(&summary(8)), Ok(()));
        let gate: Gate = "echo.rate>=5/s".parse().unwrap();
        assert_eq!(gate.check_baseline(&summary(8)), Ok(()));
    }

    #[test]
    fn what_is_no_gate_is_refused_with_what_to_write() {
        for (text, told) in [
            ("", "a gate is a name"),
            ("lost", "a gate is a name"),
            ("<5", "the name is missing"),
            ("lost==", "the limit is missing"),
            ("lost==x5", "is no number"),
            ("a<1.5x-2ms", "such as 1.15x+2ms"),
            ("a<NaN", "is no number"),
            ("a<5parsecs", "`parsecs` is no unit; ns, us, ms, s"),
            ("a<5mss", "`mss` is no unit"),
            ("a<ms", "is no number"),
            ("a=0", "`=` is no relation, write `==`"),
            ("a=<5", "`=<` is no relation, write `<=`"),
            ("a=>5", "write `>=`"),
            ("a<>5", "write `!=`"),
            ("a=!5", "`=!` is no relation: a gate is"),
        ] {
            let message = text.parse::<Gate>().unwrap_err();
            assert!(message.contains(told), "{text}: {message}");
        }
    }
}
