//! What a run has found. Everything that prints, plots or judges works from one [`Report`].

mod files;
mod histograms;
mod junit;
mod markdown;
mod plots;
mod terminal;

use std::{collections::BTreeMap, net::SocketAddr, time::Duration};

pub(crate) use self::files::{WriteError, write_files};
use crate::{
    figures::Figures,
    gate::{Gate, GateResult},
    judgement::{Judgement, Own, generator_limit, starvation},
    latency::Latency,
    outcome::{Outcome, Tally},
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
    pub(crate) failures: Vec<String>,
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
}

impl Report {
    /// Sums up, and judges.
    pub(crate) fn new(
        parties: Parties,
        findings: Findings,
        tally: &Tally,
        gates: &[Gate],
        baseline: Option<Summary>,
    ) -> Self {
        let mut figures = usage_figures(&findings.usage);
        figures.append(findings.figures);
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
            failures.push(format!(
                "{otherwise} of {total} connections ended otherwise than asked for"
            ));
        }
        let mut latencies = findings.latencies;
        latencies.push(findings.lateness);
        latencies.extend(findings.unread);
        latencies.retain(|latency| latency.corrected.percentiles().count > 0);
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
        };
        summary.gates = gates
            .iter()
            .map(|gate| gate.judge(&summary, baseline.as_ref()))
            .collect();
        failures.extend(summary.gates.iter().filter_map(failure));
        let judgement = Judgement::new(failures, invalid);
        (summary.verdict, summary.reasons) = (judgement.verdict, judgement.reasons);
        Self {
            summary,
            latencies,
            figures,
            outcome_lines: terminal::outcome_lines(tally),
            baseline,
        }
    }
}

/// Why a gate failed, if it did.
fn failure(result: &GateResult) -> Option<String> {
    (!result.passed).then(|| format!("gate {result}"))
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
    figures.seconds("machine.stolen_seconds", usage.stolen);
    figures
}
