//! Names of the figures, outcomes and latencies of a run. They are known before it starts, so that
//! `--assert` can be checked; the report has no others.

use crate::{
    fleet::outcome::Outcome,
    measure::{
        figures::{FigureNames, Unit},
        latency::Percentiles,
    },
    report::{
        text::wrap,
        threshold::{MetricKind, Threshold},
    },
};

/// Smallest Jaro-Winkler similarity of a suggested name.
const SIMILARITY_MIN: f64 = 0.8;

/// Largest number of names that are suggested for an unknown name.
const SUGGESTIONS_MAX: usize = 3;

/// Name of the number of all connections.
pub(crate) const CONNECTIONS: &str = "connections";

/// Names of the figures and latencies of one run.
#[derive(Clone, Debug, Default)]
pub(crate) struct MetricNames {
    figures: Vec<(&'static str, Unit)>,
    latencies: Vec<LatencyName>,
}

/// Name and form of a latency.
#[derive(Clone, Copy, Debug)]
struct LatencyName {
    name: &'static str,
    form: LatencyForm,
}

/// Form of a latency in the report.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) enum LatencyForm {
    /// One latency, from the planned moment.
    Corrected,
    /// A latency from the planned moment, and one from the send (`uncorrected`).
    WithUncorrected,
}

impl MetricNames {
    /// Adds figures.
    pub(crate) fn figures(mut self, names: FigureNames) -> Self {
        self.figures.extend(names);
        self
    }

    /// Adds figures if `condition` holds.
    pub(crate) fn figures_if(self, condition: bool, names: FigureNames) -> Self {
        match condition {
            true => self.figures(names),
            false => self,
        }
    }

    /// Adds latencies.
    pub(crate) fn latencies(mut self, form: LatencyForm, names: &[&'static str]) -> Self {
        let latencies = names.iter().map(|&name| LatencyName { name, form });
        self.latencies.extend(latencies);
        self
    }

    /// Adds latencies if `condition` holds.
    pub(crate) fn latencies_if(
        self,
        condition: bool,
        form: LatencyForm,
        names: &[&'static str],
    ) -> Self {
        match condition {
            true => self.latencies(form, names),
            false => self,
        }
    }

    /// Returns the kind of the metric `name`, if the run has it.
    pub(crate) fn kind(&self, name: &str) -> Option<MetricKind> {
        let figure = |unit| MetricKind {
            unit,
            is_latency: false,
        };
        if let Some((_, unit)) = self.figures.iter().find(|(known, _)| *known == name) {
            return Some(figure(*unit));
        }
        if name == CONNECTIONS || Outcome::ALL.iter().any(|outcome| outcome.key() == name) {
            return Some(figure(Unit::Count));
        }
        let (latency, percentile) = name.split_once('.')?;
        let (percentile, form) = match percentile.strip_prefix("uncorrected.") {
            Some(percentile) => (percentile, LatencyForm::WithUncorrected),
            None => (
                percentile.strip_prefix("corrected.").unwrap_or(percentile),
                LatencyForm::Corrected,
            ),
        };
        if !self.has_latency(latency, form) {
            return None;
        }
        Percentiles::default().get(percentile)?;
        let is_latency = percentile != "count";
        Some(MetricKind {
            unit: match is_latency {
                true => Unit::Seconds,
                false => Unit::Count,
            },
            is_latency,
        })
    }

    /// Returns whether the run has a latency of this name and form.
    pub(crate) fn has_latency(&self, name: &str, form: LatencyForm) -> bool {
        self.latencies.iter().any(|latency| {
            latency.name == name && (latency.form == form || form == LatencyForm::Corrected)
        })
    }

    /// Checks that the run has the metric of each threshold, and that the units fit.
    ///
    /// # Errors
    /// A message that lists the names or the units.
    pub(crate) fn check(&self, gates: &[Threshold]) -> Result<(), String> {
        gates.iter().try_for_each(|gate| {
            let kind = self.kind(gate.name());
            let kind = kind.ok_or_else(|| self.unknown_name(gate.name()))?;
            gate.check_unit(kind)
        })
    }

    /// Returns the names of latencies of this form.
    fn latency_names(&self, form: LatencyForm) -> impl Iterator<Item = &'static str> {
        let names = self.latencies.iter().map(|latency| latency.name);
        names.filter(move |name| self.has_latency(name, form))
    }

    /// Returns all names that a threshold may have.
    fn all(&self) -> impl Iterator<Item = String> {
        let figures = self.figures.iter().map(|(name, _)| (*name).to_owned());
        let outcomes = Outcome::ALL.iter().map(|it| it.key().to_owned());
        let percentiles_of = |latency: String| {
            Percentiles::NAMES
                .iter()
                .map(move |percentile| format!("{latency}.{percentile}"))
        };
        let once = self.latency_names(LatencyForm::Corrected);
        let once = once.map(str::to_owned);
        let twice = self.latency_names(LatencyForm::WithUncorrected);
        let twice = twice.map(|name| format!("{name}.uncorrected"));
        let latencies = once.chain(twice).flat_map(percentiles_of);
        figures
            .chain([CONNECTIONS.to_owned()])
            .chain(outcomes)
            .chain(latencies)
    }

    /// Returns the message about an unknown name, with similar names and all names.
    fn unknown_name(&self, name: &str) -> String {
        let wanted = name.to_ascii_lowercase();
        let mut near: Vec<_> = self
            .all()
            .map(|known| (strsim::jaro_winkler(&wanted, &known), known))
            .filter(|(similarity, _)| *similarity >= SIMILARITY_MIN)
            .collect();
        near.sort_by(|a, b| b.0.total_cmp(&a.0));
        let near: Vec<_> = near
            .into_iter()
            .take(SUGGESTIONS_MAX)
            .map(|(_, known)| known)
            .collect();
        let near = match near.is_empty() {
            true => String::new(),
            false => format!("; did you mean {}?", near.join(", or ")),
        };
        let list = |kind: &str, names: Vec<&str>| match names.is_empty() {
            true => String::new(),
            false => format!("\n{kind}:\n  {}", wrap(&names.join(", ")).join("\n  ")),
        };
        let figures = self.figures.iter().map(|(name, _)| *name);
        let outcomes = Outcome::ALL.iter().map(|outcome| outcome.key());
        format!(
            "--assert: this run has no `{name}`{near}{}{}{}{}{}",
            list("figures", figures.chain([CONNECTIONS]).collect()),
            list("outcomes", outcomes.collect()),
            list(
                "latencies",
                self.latency_names(LatencyForm::Corrected).collect()
            ),
            list(
                "latencies from the send as well (LATENCY.uncorrected)",
                self.latency_names(LatencyForm::WithUncorrected).collect()
            ),
            list(
                "each latency with one of these, such as LATENCY.p99",
                match self.latencies.is_empty() {
                    true => Vec::new(),
                    false => Percentiles::NAMES.to_vec(),
                }
            ),
        )
    }
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;

    /// Names of a run with two latencies and some figures.
    pub(crate) fn names() -> MetricNames {
        MetricNames {
            figures: vec![
                ("lost", Unit::Count),
                ("echo.rate", Unit::PerSecond),
                ("server.busy", Unit::Share),
                ("drain.exit_seconds", Unit::Seconds),
                ("server.bytes_per_connection", Unit::Bytes),
            ],
            latencies: Vec::new(),
        }
        .latencies(LatencyForm::WithUncorrected, &["echo"])
        .latencies(LatencyForm::Corrected, &["unread"])
    }

    fn check(gate: &str) -> Result<(), String> {
        names().check(&[gate.parse().unwrap()])
    }

    #[test]
    fn an_unknown_name_is_rejected_with_similar_names_and_all_names() {
        let message = check("lots==0").unwrap_err();
        assert!(
            message.contains("no `lots`; did you mean lost?"),
            "{message}"
        );
        for name in names().all() {
            let parts = match name.strip_prefix("echo.").or(name.strip_prefix("unread.")) {
                Some("rate") | None => vec![name],
                Some(percentile) => percentile.splitn(2, '.').map(str::to_owned).collect(),
            };
            for part in parts {
                assert!(message.contains(&part), "{part}: {message}");
            }
        }
        assert!(message.lines().all(|line| line.len() <= 80), "{message}");
        let message = check("ehco.p99<1s").unwrap_err();
        assert!(message.contains("did you mean echo.p99"), "{message}");
        let message = check("ECHO.p99<1s").unwrap_err();
        assert!(message.contains("did you mean echo.p99"), "{message}");
        let message = check("unread.uncorrected.p99<1s").unwrap_err();
        assert!(message.contains("did you mean unread."), "{message}");
        let message = check("zzz<1").unwrap_err();
        assert!(!message.contains("did you mean"), "{message}");
        for wrong in [
            "echo<1s",
            "echo.<1s",
            "echo.p98<1s",
            ".p99<1s",
            "echo.uncorrected<1s",
            "unread.uncorrected.p99<1s",
        ] {
            assert!(check(wrong).is_err(), "{wrong}");
        }
    }

    #[test]
    fn each_kind_of_figure_has_its_units() {
        for right in [
            "lost==0",
            "closed>=3",
            "connections>2",
            "echo.rate>5/s",
            "echo.rate>5",
            "server.busy<50%",
            "server.busy<0.5",
            "drain.exit_seconds<2s",
            "drain.exit_seconds<2",
            "server.bytes_per_connection<1KiB",
            "server.bytes_per_connection<200",
            "echo.p99<5ms",
            "echo.uncorrected.p99.9<5us",
            "echo.count>=5",
            "lost<=1x+3",
            "echo.p99<=1.15x",
            "echo.p99<=1.15x+2ms",
        ] {
            assert_eq!(check(right), Ok(()), "{right}");
        }
        for (wrong, expected) in [
            (
                "lost<5ms",
                "lost is a count: its limit has no unit, such as lost<5",
            ),
            ("lost<5%", "lost is a count"),
            ("echo.count<5ms", "echo.count is a count"),
            ("echo.rate>5ms", "echo.rate is a rate: its limit is in /s"),
            (
                "server.busy<5B",
                "server.busy is a share: its limit is a percentage, or a fraction from 0 to 1",
            ),
            (
                "drain.exit_seconds<5B",
                "is a duration: its limit is in ns, us, ms or s",
            ),
            (
                "server.bytes_per_connection<5ms",
                "is a size: its limit is in B, KiB, MiB or GiB",
            ),
            ("echo.p99<5B", "echo.p99 is a duration"),
            ("echo.p99<50", "such as echo.p99<50ms"),
            ("echo.p99<=1.15x+2", "such as echo.p99<=1.15x+2ms"),
            ("lost<=2x+2ms", "lost is a count"),
        ] {
            let message = check(wrong).unwrap_err();
            assert!(message.contains(expected), "{wrong}: {message}");
        }
    }
}
