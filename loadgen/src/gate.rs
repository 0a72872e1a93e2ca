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

use crate::summary::Summary;

/// Units of a bound; a latency is compared in seconds, a size in bytes.
const UNITS: [(&str, f64); 9] = [
    ("ns", 1e-9),
    ("us", 1e-6),
    ("ms", 1e-3),
    ("KiB", 1024.0),
    ("MiB", 1_048_576.0),
    ("B", 1.0),
    ("/s", 1.0),
    ("s", 1.0),
    ("%", 0.01),
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
    Absolute { value: f64, has_unit: bool },
    Relative { ratio: f64, floor: f64 },
}

/// What came of a gate.
#[derive(Clone, Debug, Deserialize, Serialize)]
pub(crate) struct GateResult {
    /// As it was given.
    pub(crate) gate: String,
    pub(crate) passed: bool,
    /// In seconds or bytes, or as it is; `None` if there is nothing of that name.
    pub(crate) measured: Option<f64>,
    /// What it was compared with.
    pub(crate) bound: Option<f64>,
    /// Why nothing was compared.
    pub(crate) error: Option<String>,
}

impl FromStr for Gate {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let found = text
            .char_indices()
            .find_map(|(index, _)| {
                let rest = &text[index..];
                let relation = RELATIONS.iter().find(|(sign, _)| rest.starts_with(sign));
                relation.map(|(sign, relation)| (index, sign.len(), *relation))
            })
            .ok_or_else(|| {
                "a gate is a name, one of < <= > >= == !=, and a bound, such as \
                 close.p99.9<50ms or echo.p99<=1.15x+2ms"
                    .to_owned()
            })?;
        let (start, length, relation) = found;
        let name = text[..start].trim();
        if name.is_empty() {
            return Err("the name is missing".to_owned());
        }
        Ok(Self {
            text: text.to_owned(),
            name: name.to_owned(),
            relation,
            bound: bound(text[start + length..].trim())?,
        })
    }
}

/// Reads a bound.
fn bound(text: &str) -> Result<Bound, String> {
    if let Some((ratio, floor)) = text.split_once('x') {
        let ratio = number(ratio.trim())?;
        let floor = match floor.trim().strip_prefix('+') {
            Some(floor) => value(floor.trim())?.0,
            None if floor.trim().is_empty() => 0.0,
            None => {
                return Err(format!(
                    "behind a ratio stands + and a floor, not `{floor}`"
                ));
            }
        };
        return Ok(Bound::Relative { ratio, floor });
    }
    let (value, has_unit) = value(text)?;
    Ok(Bound::Absolute { value, has_unit })
}

/// Reads a number with a unit or without, and says whether there was one.
fn value(text: &str) -> Result<(f64, bool), String> {
    for (unit, scale) in UNITS {
        if let Some(digits) = text.strip_suffix(unit) {
            return Ok((number(digits.trim())? * scale, true));
        }
    }
    Ok((number(text)?, false))
}

fn number(text: &str) -> Result<f64, String> {
    match text.parse() {
        Ok(number) if f64::is_finite(number) => Ok(number),
        Ok(_) | Err(_) => Err(format!(
            "`{text}` is no number; units are ns, us, ms, s, B, KiB, MiB, % and /s"
        )),
    }
}

impl Gate {
    /// Whether it needs a baseline.
    pub(crate) const fn is_relative(&self) -> bool {
        matches!(self.bound, Bound::Relative { .. })
    }

    /// Compares what was measured with the bound.
    pub(crate) fn judge(&self, summary: &Summary, baseline: Option<&Summary>) -> GateResult {
        let mut result = GateResult {
            gate: self.text.clone(),
            passed: false,
            measured: None,
            bound: None,
            error: None,
        };
        let measured = match figure(summary, &self.name) {
            Some(measured) => measured,
            None => {
                result.error = Some(format!("there is no {} in this run", self.name));
                return result;
            }
        };
        result.measured = Some(measured.value);
        let bound = match self.bound {
            Bound::Absolute {
                has_unit: false, ..
            } if measured.is_latency => {
                result.error = Some("a latency is compared with a duration, such as 50ms".into());
                return result;
            }
            Bound::Absolute { value, .. } => value,
            Bound::Relative { ratio, floor } => {
                match baseline.and_then(|baseline| figure(baseline, &self.name)) {
                    Some(before) => before.value * ratio + floor,
                    None => {
                        result.error = Some(format!("there is no {} in the baseline", self.name));
                        return result;
                    }
                }
            }
        };
        result.bound = Some(bound);
        result.passed = match self.relation {
            Relation::Below => measured.value < bound,
            Relation::AtMost => measured.value <= bound,
            Relation::Above => measured.value > bound,
            Relation::AtLeast => measured.value >= bound,
            Relation::Equal => measured.value == bound,
            Relation::Unequal => measured.value != bound,
        };
        result
    }
}

struct Measured {
    value: f64,
    is_latency: bool,
}

/// Finds a figure, an outcome or a percentile by name.
fn figure(summary: &Summary, name: &str) -> Option<Measured> {
    let plain = |value| Measured {
        value,
        is_latency: false,
    };
    if let Some(value) = summary.figures.get(name) {
        return Some(plain(*value));
    }
    if let Some(count) = summary.outcomes.get(name) {
        return Some(plain(*count as f64));
    }
    if name == "connections" {
        return Some(plain(summary.connections as f64));
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
    let value = percentiles.get(rest)?;
    if rest == "count" {
        return Some(plain(value as f64));
    }
    Some(Measured {
        value: value as f64 / 1e9,
        is_latency: true,
    })
}

impl fmt::Display for GateResult {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let result = if self.passed { "holds" } else { "FAILS" };
        write!(f, "{result}  {}", self.gate)?;
        match (self.measured, self.bound, &self.error) {
            (_, _, Some(error)) => write!(f, "  ({error})"),
            (Some(measured), Some(bound), None) => {
                write!(f, "  (measured {measured:.6}, bound {bound:.6})")
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
        }
    }

    fn holds(gate: &str, baseline: Option<&Summary>) -> bool {
        gate.parse::<Gate>()
            .unwrap()
            .judge(&summary(10), baseline)
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
        for gate in ["ehco.p99<1s", "echo.p98<1s", "echo.p99<50", "closd==0"] {
            let result = gate.parse::<Gate>().unwrap().judge(&summary(10), None);
            assert!(!result.passed && result.error.is_some(), "{gate}");
        }
    }

    #[test]
    fn what_is_no_gate_is_refused() {
        for text in [
            "",
            "lost",
            "<5",
            "lost==",
            "lost==x5",
            "a<1.5x-2ms",
            "a<NaN",
        ] {
            assert!(text.parse::<Gate>().is_err(), "{text}");
        }
    }
}
