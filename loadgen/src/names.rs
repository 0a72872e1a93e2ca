//! The names of a run's figures, outcomes and latencies, known before it starts. `--assert` is
//! checked against them, and the report has exactly these, as far as there was something to measure.

use crate::{
    cli::Common,
    figures::Unit,
    gate::Gate,
    latency::Percentiles,
    outcome::Outcome,
    report::wrap,
    report::{LATENESS, UNREAD},
    server::softirqs_are_visible,
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

/// Of a server that is started here, in the measured window.
const SERVER_WINDOW: FigureNames = &[
    ("server.busy", Unit::Share),
    ("server.window_cpu_seconds", Unit::Seconds),
];

/// The name is reported only if the kernel's thread for the network is visible.
const SOFTIRQS: FigureNames = &[("server.window_softirq_seconds", Unit::Seconds)];

/// The name is reported only if system calls are counted.
const SYSCALLS: FigureNames = &[("server.window_syscalls", Unit::Count)];

/// CPU time of a server that is started here.
pub(crate) const SERVER_CPU: &str = "server.cpu_seconds";

/// Of a server that is started here and still runs at the end.
const SERVER_END: FigureNames = &[(SERVER_CPU, Unit::Seconds)];

/// Of a tidewheel that reports, and still runs at the end.
pub(crate) const STARVATIONS: &str = "server.starvations";
const REPORTED: FigureNames = &[(STARVATIONS, Unit::Count)];

const TLS: FigureNames = &[
    ("tls.handshakes_full", Unit::Count),
    ("tls.handshakes_resumed", Unit::Count),
];

/// The names of one run.
#[derive(Clone, Debug)]
pub(crate) struct Names {
    figures: Vec<(&'static str, Unit)>,
    latencies: Vec<LatencyName>,
}

/// A latency of a run.
#[derive(Clone, Copy, Debug)]
struct LatencyName {
    name: &'static str,
    counted: Counted,
}

/// The moments from which a latency is counted.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) enum Counted {
    /// From one moment: there is no uncorrected one.
    Once,
    /// From the planned moment, and from the send (`uncorrected`).
    Twice,
}

/// The meaning of a name.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) struct Meaning {
    pub(crate) unit: Unit,
    /// Whether it is a duration of a latency, and no figure.
    pub(crate) is_latency: bool,
}

impl Names {
    /// Those that every run with these options has, whatever its server does.
    pub(crate) fn of_all(common: &Common) -> Self {
        let parts = [Some(ALWAYS), common.is_secure().then_some(TLS)];
        Self {
            figures: parts.into_iter().flatten().flatten().copied().collect(),
            latencies: Vec::new(),
        }
    }

    /// Those of a run that exchanges messages: in an open loop by a plan; in a closed loop a message is sent when
    /// the answer to the one before has come, so that there is no lateness, and one latency.
    pub(crate) fn of_messages(
        common: &Common,
        is_open_loop: bool,
        latencies: &[&'static str],
    ) -> Self {
        let counted = match is_open_loop {
            true => Counted::Twice,
            false => Counted::Once,
        };
        Self::of_all(common)
            .server_window(common)
            .server_end(common)
            .latencies(counted, latencies)
            .latencies_if(is_open_loop, Counted::Once, &[LATENESS])
            .latencies(Counted::Once, &[UNREAD])
    }

    /// Adds those of a server that runs in the measured window.
    pub(crate) fn server_window(self, common: &Common) -> Self {
        let is_started = common.server_is_started();
        self.figures_if(is_started, SERVER_WINDOW)
            .figures_if(is_started && softirqs_are_visible(), SOFTIRQS)
            .figures_if(common.count_syscalls, SYSCALLS)
    }

    /// Adds those of a server that still runs at the end.
    pub(crate) fn server_end(self, common: &Common) -> Self {
        self.figures_if(common.server_is_started(), SERVER_END)
            .figures_if(common.server_reports(), REPORTED)
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

    /// Adds latencies.
    pub(crate) fn latencies(mut self, counted: Counted, names: &[&'static str]) -> Self {
        let latencies = names.iter().map(|&name| LatencyName { name, counted });
        self.latencies.extend(latencies);
        self
    }

    /// Adds latencies that there are only under a condition.
    pub(crate) fn latencies_if(
        self,
        condition: bool,
        counted: Counted,
        names: &[&'static str],
    ) -> Self {
        match condition {
            true => self.latencies(counted, names),
            false => self,
        }
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
        let (percentile, counted) = match percentile.strip_prefix("uncorrected.") {
            Some(percentile) => (percentile, Counted::Twice),
            None => (
                percentile.strip_prefix("corrected.").unwrap_or(percentile),
                Counted::Once,
            ),
        };
        if !self.has_latency(latency, counted) {
            return None;
        }
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

    /// Whether there is a latency of this name, counted from these moments at least.
    pub(crate) fn has_latency(&self, name: &str, counted: Counted) -> bool {
        self.latencies.iter().any(|latency| {
            latency.name == name && (latency.counted == counted || counted == Counted::Once)
        })
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

    /// The latencies that are counted from these moments at least.
    fn latency_names(&self, counted: Counted) -> impl Iterator<Item = &'static str> {
        let names = self.latencies.iter().map(|latency| latency.name);
        names.filter(move |name| self.has_latency(name, counted))
    }

    /// All names that a gate may have.
    fn all(&self) -> impl Iterator<Item = String> {
        let figures = self.figures.iter().map(|(name, _)| (*name).to_owned());
        let outcomes = Outcome::ALL.iter().map(|it| it.key().to_owned());
        let percentiles_of = |latency: String| {
            Percentiles::NAMES
                .iter()
                .map(move |percentile| format!("{latency}.{percentile}"))
        };
        let once = self.latency_names(Counted::Once);
        let once = once.map(str::to_owned);
        let twice = self.latency_names(Counted::Twice);
        let twice = twice.map(|name| format!("{name}.uncorrected"));
        let latencies = once.chain(twice).flat_map(percentiles_of);
        figures
            .chain([CONNECTIONS.to_owned()])
            .chain(outcomes)
            .chain(latencies)
    }

    /// Says that there is no such name, which ones are like it, and which ones there are.
    fn unknown(&self, name: &str) -> String {
        let wanted = name.to_ascii_lowercase();
        let mut near: Vec<_> = self
            .all()
            .map(|known| (strsim::jaro_winkler(&wanted, &known), known))
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
            list("latencies", self.latency_names(Counted::Once).collect()),
            list(
                "latencies from the send as well (LATENCY.uncorrected)",
                self.latency_names(Counted::Twice).collect()
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
            latencies: Vec::new(),
        }
        .latencies(Counted::Twice, &["echo"])
        .latencies(Counted::Once, &["unread"])
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
            assert!(message.contains(told), "{wrong}: {message}");
        }
    }
}
