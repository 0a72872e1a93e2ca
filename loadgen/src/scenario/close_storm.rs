//! The close storm: all connections end at the same moment.

pub(super) mod close;
mod departure;

use std::time::Duration;

use clap::{Args, ValueEnum};
use tidewheel::cli::units::Span;

use super::LEAD;
use crate::{
    child::Service,
    cli::{Common, Deadlines, duration},
    error::RunError,
    figures::Unit,
    hiccup::{HICCUP, HiccupMeter},
    judgement::Verdict,
    limits,
    names::{Counted, FigureNames, Names},
    progress::say,
    report::{Findings, LATENESS, Report, UNREAD},
    summary::Discarded,
    trial::{Needs, SMALL, Trial},
    usage::resident_bytes,
};

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

/// Connections of a run for which nothing else was said.
const CONNECTIONS: u32 = 10_000;

/// The deadlines of a child server in mode silent, where none were given.
const SILENT_DEADLINE: Duration = Duration::from_secs(1);

/// Windows of the runs that follow one of which the generator was the limit.
const REPEAT_WINDOWS: [Duration; 2] = [Duration::from_secs(2), Duration::from_secs(10)];

/// What a server may take beyond its deadlines to let go of silent clients.
const SILENT_SLACK: Duration = Duration::from_millis(800);

/// What a server may take to let go of reset clients.
const RESET_BOUND: Duration = Duration::from_secs(1);

/// The options of the close storm.
#[derive(Args, Clone, Debug)]
#[command(after_long_help = crate::cli::EXIT_STATUS)]
pub(crate) struct Options {
    #[command(flatten)]
    pub(crate) common: Common,

    /// How the connections end
    #[arg(long, value_enum, default_value_t = Mode::Close)]
    pub(crate) mode: Mode,

    /// Time over which the closes or resets are spread evenly [default: 0s, all at one moment]
    #[arg(long, value_name = "DURATION", value_parser = duration)]
    window: Option<Duration>,
}

/// How the connections of a close storm end.
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
    /// Whether the options make sense together.
    pub(crate) fn check(&self) -> Result<(), String> {
        if self.mode == Mode::Silent && self.window.is_some_and(|window| !window.is_zero()) {
            return Err(
                "--window has no meaning with --mode silent: all fall silent at once".to_owned(),
            );
        }
        let common = &self.common;
        if self.mode == Mode::Silent
            && common.url_is_given()
            && let missing = common.deadlines.missing_for_silence()
            && !missing.is_empty()
        {
            return Err(format!(
                "--mode silent waits until the deadlines of the server have passed: say what they \
                 are for the server of --url, with {}",
                missing.join(", ")
            ));
        }
        Ok(())
    }

    /// The time that the ends are spread over.
    fn window(&self) -> Duration {
        self.window.unwrap_or_default()
    }

    /// Whether a run that says nothing about the server is to be repeated with a longer window:
    /// where none was asked for, with a child, and where nothing is compared.
    pub(crate) fn may_be_repeated(&self) -> bool {
        let common = &self.common;
        self.mode == Mode::Close
            && self.window.is_none()
            && !common.url_is_given()
            && common.gates.is_empty()
            && common.baseline.is_none()
    }
}

/// Figures of a server that is to let go of its clients.
const EMPTIED: FigureNames = &[
    ("emptied.seconds", Unit::Seconds),
    ("emptied.resolution_seconds", Unit::Seconds),
    ("emptied.bound_seconds", Unit::Seconds),
];

/// Further figures if the kernel knows it too.
const ORPHANS: FigureNames = &[("emptied.orphans", Unit::Count)];

/// What a close storm needs.
pub(crate) fn needs(options: &Options) -> Needs {
    let deadlines = options.common.deadlines;
    Needs {
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
        message_size: SMALL,
        names: names(options),
    }
}

fn names(options: &Options) -> Names {
    let common = &options.common;
    let is_started = common.server_is_started();
    let names = Names::of_all(common)
        .server_window(common)
        .server_end(common)
        .figures_if(is_started, super::RESIDENT);
    match options.mode {
        Mode::Close => {
            let has_hiccups = is_started && HiccupMeter::is_possible();
            names
                .latencies(Counted::Twice, &["close", "fin"])
                .latencies_if(has_hiccups, Counted::Once, &[HICCUP])
                .latencies(Counted::Once, &[LATENESS, UNREAD])
        }
        Mode::Reset => names.figures(EMPTIED).latencies(Counted::Once, &[LATENESS]),
        Mode::Silent => names.figures(EMPTIED).figures(ORPHANS),
    }
}

/// Lets a storm run, and again with a longer window as long as that says nothing about the server. The
/// last report is the result; it tells what came before.
///
/// # Errors
/// Those of `run`.
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
        say(format_args!(
            "INVALID: {reason}\nrepeating, with the ends spread over {}",
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

/// Runs the storm.
///
/// # Errors
/// If there is nothing to report.
pub(crate) fn run(options: &Options, trial: &mut Trial) -> Result<Findings, RunError> {
    let address = trial.target.address;
    match options.mode {
        Mode::Reset | Mode::Silent if !limits::is_local(address) => {
            return Err(RunError::Unknowable(address));
        }
        Mode::Close | Mode::Reset | Mode::Silent => {}
    }
    trial.session.open_all(trial.approach)?;
    trial.session.turn_until(trial.clock.now() + LEAD)?;
    let resident = trial.server.pid().map(resident_bytes).transpose()?;
    let mut findings = match options.mode {
        Mode::Close => {
            let hiccups = HiccupMeter::start(trial.server.cores.as_ref(), trial.clock);
            let mut findings = close::run(options.window(), options.common.timeout, trial)?;
            findings.latencies.push(hiccups.stop());
            findings
        }
        Mode::Reset => departure::reset(options, trial)?,
        Mode::Silent => departure::silence(options, trial)?,
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
    use crate::{
        gate::tests::summary,
        report::tests::report,
        status::{Failures, Sign},
    };

    #[derive(Parser)]
    struct Line {
        #[command(flatten)]
        options: Options,
    }

    fn options(arguments: &[&str]) -> Options {
        Line::parse_from([&["loadgen"], arguments].concat()).options
    }

    /// The windows of the runs, of which the first few are INVALID, and the last report.
    fn runs(invalid: usize, failure: Option<Sign>) -> (Vec<u64>, Report) {
        let windows = RefCell::new(Vec::new());
        let last = repeat(&options(&[]), |options| {
            let run = windows.borrow().len();
            assert_eq!(options.common.seed, (run > 0).then_some(1), "the same run");
            windows.borrow_mut().push(options.window().as_secs());
            let mut summary = summary(10);
            summary.invalid = (run < invalid).then(|| format!("limit of run {run}"));
            let mut failures = Failures::default();
            if let Some(sign) = failure {
                failures.add(sign, "it failed".to_owned());
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
        assert_eq!(runs(3, Some(Sign::ServerFault)).0, [0]);
        assert_eq!(runs(0, Some(Sign::NotAsAsked)).0, [0]);
        // It may have failed because of the generator.
        assert_eq!(runs(1, Some(Sign::NotAsAsked)).0, [0, 2]);
    }

    #[test]
    fn what_was_asked_for_is_not_changed() {
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
