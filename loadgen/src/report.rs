//! The report of a run. Everything that prints, plots or judges works on a [`Report`].

pub(crate) mod files;
mod histograms;
pub(crate) mod judgement;
mod junit;
mod markdown;
pub(crate) mod metric_names;
mod plots;
pub(crate) mod status;
pub(crate) mod summary;
mod terminal;
mod text;
pub(crate) mod threshold;

use std::{collections::BTreeMap, net::SocketAddr, time::Duration};

use crate::{
    fleet::outcome::{Outcome, Tally},
    measure::{figures::Figures, latency::Latency, usage::Usage},
    report::{
        judgement::{GeneratorDelay, Judgement, Verdict, generator_limit, starvation},
        metric_names::{LatencyForm, MetricNames},
        status::{Failures, Problem},
        summary::{GeneratorIdentity, LatencySummary, SCHEMA, ServerIdentity, Summary},
        text::outcome_lines,
        threshold::Threshold,
    },
};

/// The results of a scenario.
#[derive(Debug)]
pub(crate) struct Findings {
    /// Options to show in the report, by name.
    pub(crate) settings: Vec<(&'static str, String)>,
    /// The expected outcomes. Any other is a failure.
    pub(crate) expected: Vec<Outcome>,
    /// Resource use in the measured window.
    pub(crate) usage: Usage,
    /// Time from the planned moment to the actual send.
    pub(crate) lateness: Latency,
    /// Time for which answers may have been unread, if it is measured.
    pub(crate) unread: Option<Latency>,
    pub(crate) latencies: Vec<Latency>,
    pub(crate) figures: Figures,
    /// Failures other than unexpected outcomes.
    pub(crate) failures: Failures,
    pub(crate) exposure: Exposure,
}

/// The means by which the generator can be the limit of the measurement.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) enum Exposure {
    /// It cannot: it only waits, or a bound was met in spite of its lateness.
    None,
    /// By a saturated core.
    Cpu,
    /// By a saturated core, or by lateness in the reported latency. The value is the 99th
    /// percentile of that latency.
    Lateness(Duration),
    /// By not running for a large part of the shortest deadline of the server. It is the limit only
    /// if connections ended unexpectedly.
    Deadlines {
        /// Longest time for which the generator did not run.
        stall: Duration,
        shortest: Duration,
    },
}

/// Server and generator of a run.
#[derive(Debug)]
pub(crate) struct Participants {
    pub(crate) scenario: &'static str,
    pub(crate) address: SocketAddr,
    pub(crate) child: bool,
    pub(crate) process_id: Option<i32>,
    /// Cores of the server and of the generator.
    pub(crate) cores: Option<(usize, usize)>,
    pub(crate) causes: BTreeMap<String, u64>,
    pub(crate) seed: u64,
    pub(crate) rings: usize,
    /// Whether `--url` was given.
    pub(crate) has_url: bool,
    /// Notes for the report.
    pub(crate) notes: Vec<String>,
}

/// The results of a run, with all data that its files need.
#[derive(Debug)]
pub(crate) struct Report {
    pub(crate) summary: Summary,
    /// Latencies with at least one value. The lateness and `unread` are last.
    pub(crate) latencies: Vec<Latency>,
    pub(crate) figures: Figures,
    /// One line for each outcome that occurred, with the detail of its first connection.
    outcome_lines: Vec<String>,
    /// The summary to compare with.
    baseline: Option<Summary>,
    /// All failures, including unexpected outcomes and failed gates.
    failures: Failures,
    /// The problems that decide the exit status.
    problems: Vec<Problem>,
}

impl Report {
    /// Makes the report of a run, and judges the run.
    pub(crate) fn new(
        participants: Participants,
        findings: Findings,
        tally: &Tally,
        gates: &[Threshold],
        names: &MetricNames,
        baseline: Option<Summary>,
    ) -> Self {
        let mut figures = usage_figures(&findings.usage);
        figures.append(findings.figures);
        figures.iter().for_each(|figure| {
            let meaning = names.kind(figure.name);
            let is_known = meaning.is_some_and(|known| known.unit == figure.unit);
            debug_assert!(
                is_known,
                "figure {figure:?} is not declared by the scenario"
            );
        });
        let unexpected = tally.other_than(&findings.expected);
        let invalid = match findings.exposure {
            Exposure::Deadlines { .. } if unexpected == 0 => None,
            exposure => {
                let p99 =
                    |latency: &Latency| Duration::from_nanos(latency.corrected.percentiles().p99);
                let own = GeneratorDelay {
                    lateness: p99(&findings.lateness),
                    unread: findings.unread.as_ref().map(p99).unwrap_or_default(),
                };
                invalid(&findings.usage, own, exposure)
            }
        };
        let mut failures = findings.failures;
        if unexpected > 0 {
            let total = tally.total();
            explain_unexpected_ends(tally, &findings.expected, &participants, &mut failures);
            failures.push(format!(
                "{unexpected} of {total} connections ended unexpectedly"
            ));
        }
        let mut latencies = findings.latencies;
        latencies.push(findings.lateness);
        latencies.extend(findings.unread);
        latencies.retain(|latency| latency.corrected.percentiles().count > 0);
        latencies.iter().for_each(|latency| {
            let form = match latency.uncorrected.percentiles().count {
                0 => LatencyForm::Corrected,
                _ => LatencyForm::WithUncorrected,
            };
            let is_known = names.has_latency(latency.name, form);
            debug_assert!(
                is_known,
                "latency {} is not declared by the scenario",
                latency.name
            );
        });
        let outcomes = Outcome::ALL.iter();
        let mut summary = Summary {
            schema: SCHEMA,
            version: env!("CARGO_PKG_VERSION").to_owned(),
            scenario: participants.scenario.to_owned(),
            settings: findings
                .settings
                .into_iter()
                .map(|(name, value)| (name.to_owned(), value))
                .collect(),
            server: ServerIdentity {
                address: participants.address,
                child: participants.child,
                process_id: participants.process_id,
                core: participants.cores.map(|(server, _)| server),
                causes: participants.causes,
            },
            generator: GeneratorIdentity {
                core: participants.cores.map(|(_, generator)| generator),
                seed: participants.seed,
                rings: participants.rings,
            },
            connections: tally.total(),
            outcomes: outcomes
                .map(|&outcome| (outcome.key().to_owned(), tally.count(outcome)))
                .collect(),
            latencies: latencies
                .iter()
                .map(|latency| (latency.name.to_owned(), LatencySummary::of(latency)))
                .collect(),
            figures: figures
                .iter()
                .map(|figure| (figure.name.to_owned(), figure.value))
                .collect(),
            gates: Vec::new(),
            verdict: Verdict::Passed,
            reasons: Vec::new(),
            invalid,
            notes: participants.notes,
            discarded: Vec::new(),
        };
        if let Some(baseline) = &baseline {
            let differences = summary.differences(baseline);
            summary.notes.extend(differences);
        }
        summary.gates = gates
            .iter()
            .map(|gate| summary.evaluate(gate, baseline.as_ref(), names))
            .collect();
        for gate in summary.gates.iter().filter(|gate| !gate.passed) {
            failures.add(Problem::GateFailed, format!("gate {gate}"));
        }
        let mut report = Self {
            summary,
            latencies,
            figures,
            outcome_lines: outcome_lines(tally),
            baseline,
            failures,
            problems: Vec::new(),
        };
        report.judge();
        report
    }

    /// Adds a failure that occurred after the measurement, and judges again.
    pub(crate) fn fail(&mut self, problem: Problem, reason: String) {
        self.failures.add(problem, reason);
        self.judge();
    }

    fn judge(&mut self) {
        let summary = &mut self.summary;
        let judgement = Judgement::new(&self.failures, summary.invalid.as_deref());
        (summary.verdict, summary.reasons) = (judgement.verdict, judgement.reasons);
        self.problems = judgement.problems;
    }

    /// The problems that decide the exit status.
    pub(crate) fn problems(&self) -> Vec<Problem> {
        self.problems.clone()
    }
}

/// Start of the detail of a connection that the server closed because a message was too big (RFC
/// 6455 7.4.1).
const TOO_BIG: &str = "Close 1009";

/// Adds a failure for each common cause of unexpected ends, with advice.
fn explain_unexpected_ends(
    tally: &Tally,
    expected: &[Outcome],
    participants: &Participants,
    failures: &mut Failures,
) {
    let address = participants.address;
    let count = |outcome| match expected.contains(&outcome) {
        true => 0,
        false => tally.count(outcome),
    };
    let total = tally.total();
    let refused = count(Outcome::Refused);
    if refused > 0 {
        let advice = match participants.has_url {
            true => ": start the server, or correct --url",
            false => "",
        };
        let reason = format!(
            "{refused} of {total} connections were refused, because no server listens at {address}{advice}"
        );
        failures.add(Problem::ServerFault, reason);
    }
    let broken = count(Outcome::ProtocolError);
    if broken > 0 {
        let reason = format!("the server violated the protocol on {broken} of {total} connections");
        failures.add(Problem::ServerFault, reason);
    }
    let failed = count(Outcome::HandshakeFailed);
    let first = tally.first(Outcome::HandshakeFailed).unwrap_or_default();
    // The first line of the report ends at a semicolon.
    let first = first.replace("; ", ", ");
    if failed == total {
        let settings = match participants.has_url {
            true => {
                "is there a WebSocket server at --url, and are its scheme and path, --header and \
                     --subprotocol right?"
            }
            false => "are --header and --subprotocol right?",
        };
        failures.push(format!(
            "no opening handshake succeeded ({first}): {settings}"
        ));
    } else if failed > 0 {
        failures.push(format!(
            "{failed} of {total} opening handshakes failed ({first})"
        ));
    }
    let ended = count(Outcome::EndedEarly);
    let first = tally.first(Outcome::EndedEarly).unwrap_or_default();
    if ended > 0 && first.starts_with(TOO_BIG) {
        failures.push(format!(
            "the server ended {ended} of {total} connections, the first with {TOO_BIG}: a message was \
             too big for it, so lower --size, or raise the server's limit"
        ));
    }
    if count(Outcome::EchoFailed) == total {
        let first = tally.first(Outcome::EchoFailed).unwrap_or_default();
        failures.push(format!(
            "no first message was echoed correctly ({first}): if the server does not echo, add \
             --no-echo"
        ));
    }
}

/// Returns the reason for which the run is invalid, if it is.
fn invalid(usage: &Usage, own: GeneratorDelay, exposure: Exposure) -> Option<String> {
    match exposure {
        Exposure::None => None,
        Exposure::Cpu => generator_limit(usage, own, None),
        Exposure::Lateness(reported) => generator_limit(usage, own, Some(reported)),
        Exposure::Deadlines { stall, shortest } => starvation(usage, stall, shortest),
    }
}

fn usage_figures(usage: &Usage) -> Figures {
    let mut figures = Figures::default();
    let window = usage.window;
    figures.seconds("window_seconds", window);
    if let Some(busy) = usage.server_busy() {
        figures.share("server.busy", busy);
        figures.seconds("server.window_cpu_seconds", usage.server_cpu);
        if let Some(softirqs) = usage.softirqs {
            figures.seconds("server.window_softirq_seconds", softirqs);
        }
    }
    if let Some(count) = usage.syscalls {
        figures.count("server.window_syscalls", count);
    }
    figures.share("generator.busy", usage.generator_busy());
    figures.share(
        "generator.waiting",
        usage.generator.waiting.as_secs_f64() / window.as_secs_f64().max(1e-9),
    );
    figures.share(
        "generator.stolen",
        usage.generator_stolen.as_secs_f64() / window.as_secs_f64().max(1e-9),
    );
    figures.seconds("machine.stolen_seconds", usage.stolen);
    figures
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;
    use crate::report::summary::tests::summary;

    /// Makes a report of `summary` and `failures`.
    pub(crate) fn report(summary: Summary, failures: Failures) -> Report {
        let mut report = Report {
            summary,
            latencies: Vec::new(),
            figures: Figures::default(),
            outcome_lines: Vec::new(),
            baseline: None,
            failures,
            problems: Vec::new(),
        };
        report.judge();
        report
    }

    #[test]
    fn a_failure_after_the_measurement_is_reported() {
        let mut report = report(summary(10), Failures::default());
        assert!(report.problems().is_empty());
        report.fail(Problem::ServerFault, "the server failed".to_owned());
        assert_eq!(report.problems(), [Problem::ServerFault]);
        assert!(report.to_string().ends_with("FAILED\n  the server failed"));
        let first = report.to_string().lines().next().map(str::to_owned);
        assert_eq!(first.as_deref(), Some("FAILED: the server failed"));
    }

    #[test]
    fn a_failure_does_not_hide_that_the_run_is_invalid() {
        let mut summary = summary(10);
        summary.invalid = Some("the generator was the limit".to_owned());
        let mut failures = Failures::default();
        failures.add(
            Problem::MessagesWrong,
            "one message was not answered".to_owned(),
        );
        let text = report(summary, failures).to_string();
        let end = "FAILED, and also INVALID\n  one message was not answered\n  the generator was the limit";
        assert!(text.ends_with(end), "{text}");
        assert!(text.starts_with("FAILED: one message was not answered\n\n"));
    }

    #[test]
    fn refused_connections_are_reported_unless_expected() {
        let participants = Participants {
            scenario: "echo",
            address: "127.0.0.1:9".parse().unwrap(),
            child: false,
            process_id: None,
            cores: None,
            causes: BTreeMap::new(),
            seed: 1,
            rings: 1,
            has_url: true,
            notes: Vec::new(),
        };
        let mut tally = Tally::default();
        tally.record(Outcome::Refused, None);
        tally.record(Outcome::Closed, None);
        let mut failures = Failures::default();
        explain_unexpected_ends(&tally, &[Outcome::Closed], &participants, &mut failures);
        let reported: Vec<_> = failures.iter().collect();
        assert_eq!(reported.len(), 1);
        assert_eq!(reported[0].problem, Problem::ServerFault);
        assert!(
            reported[0]
                .reason
                .starts_with("1 of 2 connections were refused")
        );
        // A server that restarts may refuse connections.
        let mut failures = Failures::default();
        let expected = [Outcome::Closed, Outcome::Refused];
        explain_unexpected_ends(&tally, &expected, &participants, &mut failures);
        assert!(failures.is_empty());
    }
}
