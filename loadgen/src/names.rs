//! The names of a run's figures, outcomes and latencies, known before it starts: `--assert` is
//! checked against them.

use crate::{
    cli::Common,
    figures::Unit,
    gate::Gate,
    latency::Percentiles,
    outcome::Outcome,
    report::{LATENESS, UNREAD, wrap},
};

/// The figures of one part of a run, with their units.
pub(crate) type FigureNames = &'static [(&'static str, Unit)];

/// The likeness of two names, of 1, if one may have been meant by the other.
const LIKENESS_MIN: f64 = 0.8;

/// Names that are suggested in place of an unknown one, at most.
const SUGGESTIONS_MAX: usize = 3;

/// The number of all connections has this name.
pub(crate) const CONNECTIONS: &str = "connections";

const ALWAYS: FigureNames = &[
    ("window_seconds", Unit::Seconds),
    ("generator.busy", Unit::Share),
    ("generator.waiting", Unit::Share),
    ("generator.stolen", Unit::Share),
    ("machine.stolen_seconds", Unit::Seconds),
    ("generator.cpu_seconds", Unit::Seconds),
];

/// Of a server that is started here.
const SERVER: FigureNames = &[
    ("server.busy", Unit::Share),
    ("server.window_cpu_seconds", Unit::Seconds),
    ("server.window_softirq_seconds", Unit::Seconds),
    ("server.cpu_seconds", Unit::Seconds),
];

/// Of a tidewheel that reports.
const REPORTED: FigureNames = &[("server.starvations", Unit::Count)];

const SYSCALLS: FigureNames = &[
    ("server.window_syscalls", Unit::Count),
    ("server.syscalls_per_million", Unit::Count),
];

const TLS: FigureNames = &[
    ("tls.handshakes_full", Unit::Count),
    ("tls.handshakes_resumed", Unit::Count),
];

/// The names of one run.
#[derive(Clone, Debug)]
pub(crate) struct Names {
    figures: Vec<(&'static str, Unit)>,
    latencies: Vec<&'static str>,
}

/// The meaning of a name.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) struct Meaning {
    pub(crate) unit: Unit,
    /// Whether it is a duration of a latency, and no figure.
    pub(crate) is_latency: bool,
}

impl Names {
    /// Those that every run with these options has.
    pub(crate) fn of_all(common: &Common) -> Self {
        let parts = [
            Some(ALWAYS),
            common.server_is_started().then_some(SERVER),
            common.server_reports().then_some(REPORTED),
            common.count_syscalls.then_some(SYSCALLS),
            common.is_secure().then_some(TLS),
        ];
        Self {
            figures: parts.into_iter().flatten().flatten().copied().collect(),
            latencies: vec![LATENESS, UNREAD],
        }
    }

    /// Adds figures.
    pub(crate) fn figures(mut self, names: FigureNames) -> Self {
        self.figures.extend(names);
        self
    }

    /// Adds figures that there are only under a condition.
    pub(crate) fn figures_if(self, condition: bool, names: FigureNames) -> Self {
        match condition {
            true => self.figures(names),
            false => self,
        }
    }

    /// Adds latencies, before those of all runs.
    pub(crate) fn latencies(mut self, names: &[&'static str]) -> Self {
        self.latencies.splice(0..0, names.iter().copied());
        self
    }

    /// The meaning of `name`.
    pub(crate) fn meaning(&self, name: &str) -> Option<Meaning> {
        let figure = |unit| Meaning {
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
        if !self.latencies.contains(&latency) {
            return None;
        }
        let percentile = ["uncorrected.", "corrected."]
            .iter()
            .find_map(|prefix| percentile.strip_prefix(prefix))
            .unwrap_or(percentile);
        Percentiles::default().get(percentile)?;
        let is_latency = percentile != "count";
        Some(Meaning {
            unit: match is_latency {
                true => Unit::Seconds,
                false => Unit::Count,
            },
            is_latency,
        })
    }

    /// Whether there is a latency of this name.
    pub(crate) fn has_latency(&self, name: &str) -> bool {
        self.latencies.contains(&name)
    }

    /// Checks that each gate is about something that the run measures, in a unit of that.
    ///
    /// # Errors
    /// A message that tells the names, or the units.
    pub(crate) fn check(&self, gates: &[Gate]) -> Result<(), String> {
        gates.iter().try_for_each(|gate| {
            let meaning = self.meaning(gate.name());
            let meaning = meaning.ok_or_else(|| self.unknown(gate.name()))?;
            gate.check_unit(meaning)
        })
    }

    /// All names that a gate may have.
    fn all(&self) -> impl Iterator<Item = String> {
        let figures = self.figures.iter().map(|(name, _)| (*name).to_owned());
        let outcomes = Outcome::ALL.iter().map(|it| it.key().to_owned());
        let latencies = self.latencies.iter().flat_map(|latency| {
            Percentiles::NAMES
                .iter()
                .map(move |percentile| format!("{latency}.{percentile}"))
        });
        figures
            .chain([CONNECTIONS.to_owned()])
            .chain(outcomes)
            .chain(latencies)
    }

    /// Says that there is no such name, which ones are like it, and which ones there are.
    fn unknown(&self, name: &str) -> String {
        let mut near: Vec<_> = self
            .all()
            .map(|known| (strsim::jaro_winkler(name, &known), known))
            .filter(|(likeness, _)| *likeness >= LIKENESS_MIN)
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
        let list = |kind: &str, names: Vec<&str>| {
            let lines = wrap(&names.join(", "));
            format!("\n{kind}:\n  {}", lines.join("\n  "))
        };
        let figures = self.figures.iter().map(|(name, _)| *name);
        let outcomes = Outcome::ALL.iter().map(|outcome| outcome.key());
        format!(
            "--assert: this run has no `{name}`{near}{}{}{}{}",
            list("figures", figures.chain([CONNECTIONS]).collect()),
            list("outcomes", outcomes.collect()),
            list("latencies", self.latencies.clone()),
            list(
                "behind a latency and a dot (or behind LATENCY.uncorrected.)",
                Percentiles::NAMES.to_vec()
            ),
        )
    }
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;

    /// A run with a latency and some figures.
    pub(crate) fn names() -> Names {
        Names {
            figures: vec![
                ("lost", Unit::Count),
                ("echo.rate", Unit::PerSecond),
                ("server.busy", Unit::Share),
                ("drain.exit_seconds", Unit::Seconds),
                ("server.bytes_per_connection", Unit::Bytes),
            ],
            latencies: vec!["echo"],
        }
    }

    fn check(gate: &str) -> Result<(), String> {
        names().check(&[gate.parse().unwrap()])
    }

    #[test]
    fn a_name_that_is_unknown_is_told_with_all_that_are_known_and_those_like_it() {
        let message = check("lots==0").unwrap_err();
        assert!(
            message.contains("no `lots`; did you mean lost?"),
            "{message}"
        );
        for name in names().all() {
            let name = match name.strip_prefix("echo.p") {
                Some(percentile) => format!("p{percentile}"),
                None => name.replace("echo.", "").replace("rate", "echo.rate"),
            };
            assert!(message.contains(&name), "{name}: {message}");
        }
        assert!(message.lines().all(|line| line.len() <= 80), "{message}");
        let message = check("ehco.p99<1s").unwrap_err();
        assert!(message.contains("did you mean echo.p99"), "{message}");
        let message = check("zzz<1").unwrap_err();
        assert!(!message.contains("did you mean"), "{message}");
        for wrong in [
            "echo<1s",
            "echo.<1s",
            "echo.p98<1s",
            ".p99<1s",
            "echo.uncorrected<1s",
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
        for (wrong, told) in [
            (
                "lost<5ms",
                "lost is a count: its limit has no unit, such as lost<5",
            ),
            ("lost<5%", "lost is a count"),
            ("echo.count<5ms", "echo.count is a count"),
            ("echo.rate>5ms", "echo.rate is a rate: its limit is in /s"),
            (
                "server.busy<5B",
                "server.busy is a share: its limit is in %",
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
            assert!(message.contains(told), "{wrong}: {message}");
        }
    }
}
