//! What a run has found. Everything that prints, plots or judges works from one [`Report`].

mod files;
mod histograms;
mod junit;
mod markdown;
mod plots;
mod terminal;

use std::{collections::BTreeMap, net::SocketAddr, time::Duration};

pub(crate) use self::{
    files::{WriteError, check_directory, write_files},
    terminal::wrap,
};
use crate::{
    figures::Figures,
    gate::Gate,
    judgement::{Judgement, Own, generator_limit, starvation},
    latency::Latency,
    names::{Counted, Names},
    outcome::{Outcome, Tally},
    status::{Failures, Sign},
    summary::{GeneratorIdentity, LatencySummary, SCHEMA, ServerIdentity, Summary},
    usage::Usage,
};

/// The lateness of the generator is reported as a latency of this name.
pub(crate) const LATENESS: &str = "lateness";

/// So is how long answers may have lain unread; a phase of a run has a name before this one.
pub(crate) const UNREAD: &str = "unread";

/// What a scenario gives back.
#[derive(Debug)]
pub(crate) struct Findings {
    /// Options that are worth a mention, by name.
    pub(crate) settings: Vec<(&'static str, String)>,
    /// The outcomes that were asked for; any other is a failure.
    pub(crate) asked: Vec<Outcome>,
    /// What was used in the measured window.
    pub(crate) usage: Usage,
    /// From planned to actually done.
    pub(crate) lateness: Latency,
    /// How long what the server said may have lain unread, where that matters.
    pub(crate) unread: Option<Latency>,
    pub(crate) latencies: Vec<Latency>,
    pub(crate) figures: Figures,
    /// What failed, besides connections that ended otherwise than asked for.
    pub(crate) failures: Failures,
    pub(crate) exposure: Exposure,
}

/// How the generator could be the limit of what was measured.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) enum Exposure {
    /// It could not: it only waits, or a bound was kept however late it was.
    None,
    /// By having no time to spare.
    Cpu,
    /// Also by being late for the latency reported, of which this is the 99th percentile.
    Lateness(Duration),
    /// By not running for a good part of the server's shortest deadline. It is the limit only where
    /// connections ended otherwise than asked for.
    Deadlines {
        /// The longest time that it did not run for.
        stall: Duration,
        shortest: Duration,
    },
}

/// Whom a run was about.
#[derive(Debug)]
pub(crate) struct Parties {
    pub(crate) scenario: &'static str,
    pub(crate) address: SocketAddr,
    pub(crate) child: bool,
    pub(crate) process_id: Option<i32>,
    /// Of the server and of the generator.
    pub(crate) cores: Option<(usize, usize)>,
    pub(crate) causes: BTreeMap<String, u64>,
    pub(crate) seed: u64,
    pub(crate) rings: usize,
    /// Whether the server is that of --url.
    pub(crate) has_url: bool,
    /// Notes on the run.
    pub(crate) notes: Vec<String>,
}

/// What a run has found, with everything that is needed to show it.
#[derive(Debug)]
pub(crate) struct Report {
    pub(crate) summary: Summary,
    /// Those with values, the generator's own last.
    pub(crate) latencies: Vec<Latency>,
    pub(crate) figures: Figures,
    /// Each outcome that occurred, as text, with what was said about its first connection.
    outcome_lines: Vec<String>,
    /// What it is compared with.
    baseline: Option<Summary>,
    /// The failures: everything that is not as asked for.
    failures: Failures,
    /// The signs from which the exit status follows.
    signs: Vec<Sign>,
}

impl Report {
    /// Sums up, and judges.
    pub(crate) fn new(
        parties: Parties,
        findings: Findings,
        tally: &Tally,
        gates: &[Gate],
        names: &Names,
        baseline: Option<Summary>,
    ) -> Self {
        let mut figures = usage_figures(&findings.usage);
        figures.append(findings.figures);
        figures.iter().for_each(|figure| {
            let meaning = names.meaning(figure.name);
            let is_known = meaning.is_some_and(|known| known.unit == figure.unit);
            debug_assert!(is_known, "{figure:?} is not among the names of the run");
        });
        let otherwise = tally.other_than(&findings.asked);
        let invalid = match findings.exposure {
            Exposure::Deadlines { .. } if otherwise == 0 => None,
            exposure => {
                let p99 =
                    |latency: &Latency| Duration::from_nanos(latency.corrected.percentiles().p99);
                let own = Own {
                    lateness: p99(&findings.lateness),
                    unread: findings.unread.as_ref().map(p99).unwrap_or_default(),
                };
                invalid(&findings.usage, own, exposure)
            }
        };
        let mut failures = findings.failures;
        if otherwise > 0 {
            let total = tally.total();
            blame(tally, &findings.asked, &parties, &mut failures);
            failures.push(format!(
                "{otherwise} of {total} connections ended otherwise than asked for"
            ));
        }
        let mut latencies = findings.latencies;
        latencies.push(findings.lateness);
        latencies.extend(findings.unread);
        latencies.retain(|latency| latency.corrected.percentiles().count > 0);
        latencies.iter().for_each(|latency| {
            let counted = match latency.uncorrected.percentiles().count {
                0 => Counted::Once,
                _ => Counted::Twice,
            };
            let is_known = names.has_latency(latency.name, counted);
            debug_assert!(
                is_known,
                "{} is not among the names of the run",
                latency.name
            );
        });
        let outcomes = Outcome::ALL.iter();
        let mut summary = Summary {
            schema: SCHEMA,
            version: env!("CARGO_PKG_VERSION").to_owned(),
            scenario: parties.scenario.to_owned(),
            settings: findings
                .settings
                .into_iter()
                .map(|(name, value)| (name.to_owned(), value))
                .collect(),
            server: ServerIdentity {
                address: parties.address,
                child: parties.child,
                process_id: parties.process_id,
                core: parties.cores.map(|(server, _)| server),
                causes: parties.causes,
            },
            generator: GeneratorIdentity {
                core: parties.cores.map(|(_, generator)| generator),
                seed: parties.seed,
                rings: parties.rings,
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
            verdict: crate::judgement::Verdict::Passed,
            reasons: Vec::new(),
            invalid,
            notes: parties.notes,
            discarded: Vec::new(),
        };
        if let Some(baseline) = &baseline {
            let differences = summary.differences(baseline);
            summary.notes.extend(differences);
        }
        summary.gates = gates
            .iter()
            .map(|gate| gate.judge(&summary, baseline.as_ref(), names))
            .collect();
        for gate in summary.gates.iter().filter(|gate| !gate.passed) {
            failures.add(Sign::GateFailed, format!("gate {gate}"));
        }
        let mut report = Self {
            summary,
            latencies,
            figures,
            outcome_lines: terminal::outcome_lines(tally),
            baseline,
            failures,
            signs: Vec::new(),
        };
        report.judge();
        report
    }

    /// Adds what failed after all was measured.
    pub(crate) fn fail(&mut self, sign: Sign, reason: String) {
        self.failures.add(sign, reason);
        self.judge();
    }

    fn judge(&mut self) {
        let summary = &mut self.summary;
        let judgement = Judgement::new(&self.failures, summary.invalid.as_deref());
        (summary.verdict, summary.reasons) = (judgement.verdict, judgement.reasons);
        self.signs = judgement.signs;
    }

    /// The signs from which the exit status follows.
    pub(crate) fn signs(&self) -> Vec<Sign> {
        self.signs.clone()
    }
}

/// The note on a connection that the server ended because of a message (RFC 6455 7.4.1).
const TOO_BIG: &str = "Close 1009";

/// Says what connections that ended otherwise than asked for have in common, and what to do about it.
fn blame(tally: &Tally, asked: &[Outcome], parties: &Parties, failures: &mut Failures) {
    let address = parties.address;
    let count = |outcome| match asked.contains(&outcome) {
        true => 0,
        false => tally.count(outcome),
    };
    let total = tally.total();
    let refused = count(Outcome::Refused);
    if refused > 0 {
        let advice = match parties.has_url {
            true => ": start the server, or mend --url",
            false => "",
        };
        let reason = format!(
            "{refused} of {total} connections were refused, as nobody listens at {address}{advice}"
        );
        failures.add(Sign::ServerFault, reason);
    }
    let broken = count(Outcome::ProtocolError);
    if broken > 0 {
        let reason = format!("the server broke the protocol on {broken} of {total} connections");
        failures.add(Sign::ServerFault, reason);
    }
    let failed = count(Outcome::HandshakeFailed);
    let first = tally.first(Outcome::HandshakeFailed).unwrap_or_default();
    // The first line of the report ends at a semicolon.
    let first = first.replace("; ", ", ");
    if failed == total {
        let settings = match parties.has_url {
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
            "no first message came back as it was sent ({first}): --no-echo is for servers that do \
             not echo"
        ));
    }
}

/// Why the run says nothing about the server, if so.
fn invalid(usage: &Usage, own: Own, exposure: Exposure) -> Option<String> {
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

    /// A report of this summary, with what failed besides.
    pub(crate) fn report(summary: Summary, failures: Failures) -> Report {
        let mut report = Report {
            summary,
            latencies: Vec::new(),
            figures: Figures::default(),
            outcome_lines: Vec::new(),
            baseline: None,
            failures,
            signs: Vec::new(),
        };
        report.judge();
        report
    }

    #[test]
    fn what_fails_after_all_was_measured_is_told() {
        let mut report = report(crate::gate::tests::summary(10), Failures::default());
        assert!(report.signs().is_empty());
        report.fail(Sign::ServerFault, "the server failed".to_owned());
        assert_eq!(report.signs(), [Sign::ServerFault]);
        assert!(report.to_string().ends_with("FAILED\n  the server failed"));
        let first = report.to_string().lines().next().map(str::to_owned);
        assert_eq!(first.as_deref(), Some("FAILED: the server failed"));
    }

    #[test]
    fn a_failure_does_not_hide_that_the_run_is_invalid() {
        let mut summary = crate::gate::tests::summary(10);
        summary.invalid = Some("the generator was the limit".to_owned());
        let mut failures = Failures::default();
        failures.add(
            Sign::MessagesWrong,
            "one message was not answered".to_owned(),
        );
        let text = report(summary, failures).to_string();
        let end = "FAILED, and INVALID besides\n  one message was not answered\n  the generator was the limit";
        assert!(text.ends_with(end), "{text}");
        assert!(text.starts_with("FAILED: one message was not answered\n\n"));
    }

    #[test]
    fn connections_that_were_refused_are_told_with_what_to_do() {
        let parties = Parties {
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
        blame(&tally, &[Outcome::Closed], &parties, &mut failures);
        let told: Vec<_> = failures.iter().collect();
        assert_eq!(told.len(), 1);
        assert_eq!(told[0].sign, Sign::ServerFault);
        assert!(
            told[0]
                .reason
                .starts_with("1 of 2 connections were refused")
        );
        // A server that is being replaced may refuse.
        let mut failures = Failures::default();
        let asked = [Outcome::Closed, Outcome::Refused];
        blame(&tally, &asked, &parties, &mut failures);
        assert!(failures.is_empty());
    }
}
