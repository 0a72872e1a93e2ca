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
Open connections, end them all at the same moment, and measure how long the server takes.

Each connection is opened, and counts as open when a first message has come back as it was sent. \
Then a moment in the near future is planned, at which all of them end:

  close   Each sends Close 1000. Measured, for each: until the server's Close arrives, and until \
its FIN does. Asked for: Close 1000, then FIN.
  reset   Each is reset (RST). Measured: until the server's own report shows no connection. \
Bound: 1 s.
  silent  Each stops reading and answering, and stays connected. Measured: until neither the \
server's own report nor the kernel's socket table shows a connection, and how many sockets the \
kernel still keeps half a second later (FIN_WAIT1, CLOSING, LAST_ACK). Bound: ping interval + ping \
timeout + close timeout + 0.8 s, and none. A child has 1 s for each of the three, unless they are \
given; with --url they have to be given.

All latencies are counted from the planned moment, whenever the generator came round to sending, \
so that a slow generator makes them longer and never shorter. Beside them stand the uncorrected \
ones, from the actual send, and the lateness, from the plan to the actual send. With all closes \
planned for one moment lateness is inherent: one thread sends them one after the other. The true \
latency of the server lies between the two. --window spreads the ends over a time that the \
generator can keep to. Where no --window is given, nor --url, --assert or --baseline, a run in mode \
close that is INVALID is repeated with the ends spread over 2 s, and if need be over 10 s: the last \
run is the result, and its report tells of those before.

Without --url the server is a child process on a core of its own, the generator on another. In mode \
close, with the right to real-time priority, a thread on each of them notes how late it may run, \
every 4 ms (`hiccup`): because the host of a virtual machine let others run, or because the kernel \
did something that it does not interrupt, be it for the server. What the host took is told apart \
(machine.stolen_seconds).";

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

    /// Spread the ends evenly over this time; with 0s all connections end at one moment [default: 0s.
    /// A run without --window is repeated with 2s, and then with 10s, if the generator was the limit]
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
    /// By the server, after the clients stop answering
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
