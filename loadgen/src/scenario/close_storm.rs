//! Close storm: all connections end at the same moment.

pub(super) mod close;
mod release;

use std::time::Duration;

use clap::{Args, ValueEnum};
use tidewheel::cli::units::Span;

use crate::{
    host::addresses::is_local,
    measure::{
        figures::{FigureNames, Unit},
        hiccup::HiccupMeter,
        latency_names::{HICCUP, LATENESS, UNREAD},
        usage::resident_bytes,
    },
    options::{common::CommonOptions, deadlines::Deadlines, values::duration},
    progress::print_line,
    report::{
        Findings, Report,
        judgement::Verdict,
        metric_names::{LatencyForm, MetricNames},
        summary::Discarded,
    },
    run::{
        Run,
        error::RunError,
        requirements::{MESSAGE_BYTES_DEFAULT, Requirements},
    },
    scenario::{costs::RESIDENT, phases::IDLE_BEFORE_WINDOW},
    server::service::Service,
};

/// Help text of the scenario.
pub(crate) const ABOUT: &str = "\
Open connections, end all of them at the same moment, and measure how long the server takes.

A connection counts as open when its first message has come back unchanged. When all are open, \
the generator plans a moment at which all of them end:

  close   Each client sends Close 1000. Measured for each connection: the time until the \
server's Close arrives (latency `close`), and until its FIN arrives (latency `fin`). Expected: \
Close 1000, then FIN.
  reset   Each client resets its connection (RST). Measured: the time until the server holds no \
connection, by its own metrics or, without them, by the kernel's socket table. Limit: 1 s.
  silent  Each client stops reading and answering, and stays connected. Measured: the time until \
the server's metrics and the kernel's socket table show no connection, and the number of sockets \
that the kernel still keeps half a second later (FIN_WAIT1, CLOSING, LAST_ACK). Limits: ping \
interval + ping timeout + close timeout + 0.8 s, and 0 sockets. A child's three deadlines are 1 \
s by default; with --url the three options are required.

The run passes if each connection ends as expected, and within these limits.

Latencies count from the planned moment, so a slow generator makes them longer, never shorter. \
The report also shows the uncorrected latencies, counted from the actual send, and the \
generator's lateness, which is the time from the planned moment to the actual send. If all \
closes are planned for one moment, some lateness is inevitable, because one thread sends them \
one after the other. The true latency of the server lies between the corrected and the \
uncorrected one. --window spreads the closes over a time, so that the generator can send them \
punctually.

In mode close, without --window, --url, --assert and --baseline, an INVALID run is repeated with \
the closes spread over 2 s, and if necessary over 10 s. The last run is the result. Its report \
lists the earlier ones.

Without --url the server is a child process on one core, and the generator runs on another. In \
mode close, if real-time priority is permitted, a thread on each of the two cores wakes every 4 \
ms and records how late it ran (latency `hiccup`). The cause is either the host of a virtual \
machine or uninterruptible work of the kernel, which may be work for the server. \
machine.stolen_seconds is the host's part.";

/// Default number of connections.
const CONNECTIONS: u32 = 10_000;

/// Default deadlines of a child in mode silent.
const SILENT_DEADLINE: Duration = Duration::from_secs(1);

/// Windows of the repetitions of a run of which the generator was the limit.
const REPEAT_WINDOWS: [Duration; 2] = [Duration::from_secs(2), Duration::from_secs(10)];

/// Options of close-storm.
#[derive(Args, Clone, Debug)]
#[command(after_long_help = crate::options::after_help::AFTER_HELP)]
pub(crate) struct Options {
    #[command(flatten)]
    pub(crate) common: CommonOptions,

    /// Way in which the connections end
    #[arg(long, value_enum, default_value_t = Mode::Close)]
    pub(crate) mode: Mode,

    /// Time over which the closes or resets are spread evenly [default: 0s, all at one moment]
    #[arg(long, value_name = "DURATION", value_parser = duration)]
    window: Option<Duration>,
}

/// The way in which the connections of a close storm end.
#[derive(Clone, Copy, Debug, Eq, PartialEq, ValueEnum)]
pub(crate) enum Mode {
    /// By the closing handshake, with Close 1000
    Close,
    /// By RST
    Reset,
    /// By the server's timeouts, after the clients stop answering
    Silent,
}

impl Mode {
    const fn name(self) -> &'static str {
        match self {
            Self::Close => "close",
            Self::Reset => "reset",
            Self::Silent => "silent",
        }
    }
}

impl Options {
    /// Checks that the options do not contradict each other.
    ///
    /// # Errors
    /// A message for the command line.
    pub(crate) fn check(&self) -> Result<(), String> {
        if self.mode == Mode::Silent && self.window.is_some_and(|window| !window.is_zero()) {
            return Err(
                "--window has no effect with --mode silent: all clients stop answering at once"
                    .to_owned(),
            );
        }
        let common = &self.common;
        if self.mode == Mode::Silent
            && common.url_is_given()
            && let missing = common.deadlines.missing_for_silence_timeout()
            && !missing.is_empty()
        {
            return Err(format!(
                "--mode silent waits for the deadlines of the server: give those of the server of --url, \
                 with {}",
                missing.join(", ")
            ));
        }
        Ok(())
    }

    /// Returns the time over which the ends are spread.
    fn window(&self) -> Duration {
        self.window.unwrap_or_default()
    }

    /// Returns whether an INVALID run is repeated with a longer window: with a child, and without
    /// `--window`, `--assert` and `--baseline`.
    pub(crate) fn may_be_repeated(&self) -> bool {
        let common = &self.common;
        self.mode == Mode::Close
            && self.window.is_none()
            && !common.url_is_given()
            && common.gates.is_empty()
            && common.baseline.is_none()
    }
}

/// Figures of modes reset and silent.
const EMPTIED: FigureNames = &[
    ("emptied.seconds", Unit::Seconds),
    ("emptied.resolution_seconds", Unit::Seconds),
    ("emptied.bound_seconds", Unit::Seconds),
];

/// Further figure of mode silent.
const ORPHANS: FigureNames = &[("emptied.orphans", Unit::Count)];

/// Returns the requirements of close-storm.
pub(crate) fn requirements(options: &Options) -> Requirements {
    let deadlines = options.common.deadlines;
    Requirements {
        scenario: "close-storm",
        connections: CONNECTIONS,
        service: Service::Echo,
        deadlines: match options.mode {
            Mode::Close | Mode::Reset => deadlines,
            Mode::Silent => Deadlines {
                handshake_timeout: deadlines.handshake_timeout,
                ..deadlines.or(SILENT_DEADLINE)
            },
        },
        message_size: MESSAGE_BYTES_DEFAULT,
        names: names(options),
    }
}

fn names(options: &Options) -> MetricNames {
    let common = &options.common;
    let is_started = common.server_is_started();
    let names = MetricNames::of_all(common)
        .server_window(common)
        .server_end(common)
        .figures_if(is_started, RESIDENT);
    match options.mode {
        Mode::Close => {
            let has_hiccups = is_started && HiccupMeter::is_possible();
            names
                .latencies(LatencyForm::WithUncorrected, &["close", "fin"])
                .latencies_if(has_hiccups, LatencyForm::Corrected, &[HICCUP])
                .latencies(LatencyForm::Corrected, &[LATENESS, UNREAD])
        }
        Mode::Reset => names
            .figures(EMPTIED)
            .latencies(LatencyForm::Corrected, &[LATENESS]),
        Mode::Silent => names.figures(EMPTIED).figures(ORPHANS),
    }
}

/// Runs a storm, and repeats it with a longer window while it is INVALID. Returns the last report,
/// which lists the discarded runs.
///
/// # Errors
/// Errors of `run`.
pub(crate) fn repeat(
    options: &Options,
    run: impl Fn(&Options) -> Result<Report, RunError>,
) -> Result<Report, RunError> {
    let mut options = options.clone();
    let mut report = run(&options)?;
    for window in REPEAT_WINDOWS {
        let summary = &report.summary;
        let Some(reason) = &summary.invalid else {
            break;
        };
        if summary.verdict != Verdict::Invalid {
            break;
        }
        print_line(format_args!(
            "INVALID: {reason}\nrepeating with the ends spread over {}",
            Span(window)
        ));
        let mut discarded = summary.discarded.clone();
        discarded.push(Discarded {
            window_seconds: options.window().as_secs_f64(),
            reason: reason.clone(),
        });
        options.window = Some(window);
        options.common.seed = Some(summary.generator.seed);
        report = run(&options)?;
        report.summary.discarded = discarded;
    }
    Ok(report)
}

/// Runs close-storm.
///
/// # Errors
/// If there is no report.
pub(crate) fn run(options: &Options, run: &mut Run) -> Result<Findings, RunError> {
    let address = run.target.address;
    match options.mode {
        Mode::Reset | Mode::Silent if !is_local(address) => {
            return Err(RunError::NotObservable(address));
        }
        Mode::Close | Mode::Reset | Mode::Silent => {}
    }
    run.session.open_all(run.opening)?;
    run.session
        .turn_until(run.clock.now() + IDLE_BEFORE_WINDOW)?;
    let resident = run.server.pid().map(resident_bytes).transpose()?;
    let mut findings = match options.mode {
        Mode::Close => {
            let hiccups = HiccupMeter::start(run.server.cores.as_ref(), run.clock);
            let mut findings = close::run(options.window(), options.common.timeout, run)?;
            findings.latencies.push(hiccups.stop());
            findings
        }
        Mode::Reset => release::reset(options.window(), options.common.timeout, run)?,
        Mode::Silent => release::silence(options.common.timeout, run)?,
    };
    if let Some(resident) = resident {
        findings
            .figures
            .bytes("server.resident_bytes", resident as f64);
    }
    let mode = options.mode.name().to_owned();
    findings.settings.push(("mode", mode));
    if !options.window().is_zero() {
        let window = Span(options.window()).to_string();
        findings.settings.push(("window", window));
    }
    Ok(findings)
}

#[cfg(test)]
mod tests {
    use std::cell::RefCell;

    use clap::Parser;

    use super::*;
    use crate::report::{
        status::{Failures, Problem},
        summary::tests::summary,
        tests::report,
    };

    #[derive(Parser)]
    struct Line {
        #[command(flatten)]
        options: Options,
    }

    fn options(arguments: &[&str]) -> Options {
        Line::parse_from([&["loadgen"], arguments].concat()).options
    }

    /// Returns the windows of the runs, of which the first `invalid` are INVALID, and the last report.
    fn runs(invalid: usize, failure: Option<Problem>) -> (Vec<u64>, Report) {
        let windows = RefCell::new(Vec::new());
        let last = repeat(&options(&[]), |options| {
            let run = windows.borrow().len();
            assert_eq!(options.common.seed, (run > 0).then_some(1), "the same run");
            windows.borrow_mut().push(options.window().as_secs());
            let mut summary = summary(10);
            summary.invalid = (run < invalid).then(|| format!("limit of run {run}"));
            let mut failures = Failures::default();
            if let Some(problem) = failure {
                failures.add(problem, "it failed".to_owned());
            }
            Ok(report(summary, failures))
        });
        (windows.into_inner(), last.unwrap())
    }

    #[test]
    fn a_run_of_which_the_generator_was_the_limit_is_repeated_twice_at_most() {
        for (invalid, windows) in [
            (0, &[0][..]),
            (1, &[0, 2]),
            (2, &[0, 2, 10]),
            (3, &[0, 2, 10]),
        ] {
            let (ran, last) = runs(invalid, None);
            assert_eq!(ran, windows);
            let discarded = &last.summary.discarded;
            assert_eq!(discarded.len(), windows.len() - 1);
            for (run, discarded) in discarded.iter().enumerate() {
                assert_eq!(discarded.window_seconds, windows[run] as f64);
                assert_eq!(discarded.reason, format!("limit of run {run}"));
                assert!(last.to_string().contains(&discarded.reason));
            }
            let verdict = match invalid {
                3 => Verdict::Invalid,
                _ => Verdict::Passed,
            };
            assert_eq!(last.summary.verdict, verdict);
        }
    }

    #[test]
    fn a_run_that_failed_is_not_repeated() {
        assert_eq!(runs(3, Some(Problem::ServerFault)).0, [0]);
        assert_eq!(runs(0, Some(Problem::Unexpected)).0, [0]);
        // The generator may be the cause of this failure.
        assert_eq!(runs(1, Some(Problem::Unexpected)).0, [0, 2]);
    }

    #[test]
    fn a_run_with_a_window_a_url_or_a_comparison_is_not_repeated() {
        assert!(options(&[]).may_be_repeated());
        for arguments in [
            &["--window", "0s"][..],
            &["--window", "1s"],
            &["--mode", "reset"],
            &["--url", "ws://127.0.0.1:1/"],
            &["--assert", "closed==1"],
            &["--baseline", "summary.json"],
        ] {
            assert!(!options(arguments).may_be_repeated(), "{arguments:?}");
        }
    }
}
