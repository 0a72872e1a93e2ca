//! The verdict on a run: whether the server behaved as expected, and whether the generator limited
//! the measurement.

use std::{fmt, time::Duration};

use serde::{Deserialize, Serialize};

use crate::{
    measure::usage::Usage,
    report::status::{Failure, Failures, Problem, Status, decide},
};

/// Shortest window that is judged. The CPU accounting of the kernel does not resolve shorter ones.
const WINDOW_MIN: Duration = Duration::from_millis(20);

/// Share of the window from which on the core of the generator counts as saturated.
const GENERATOR_BUSY_SHARE_MIN: f64 = 0.95;

/// Share of the window below which the server counts as not saturated.
const SERVER_BUSY_SHARE_MIN: f64 = 0.80;

/// Highest share of the reported latency that can be lateness of the generator.
const LATENESS_SHARE_MAX: f64 = 0.5;

/// Highest share of the reported latency for which answers can have been unread. `unread` is an
/// upper bound: an answer that arrives at a random moment between two turns is unread for half of
/// it on average.
const UNREAD_SHARE_MAX: f64 = 1.0;

/// Highest share of the shortest deadline for which the generator can have stood still. A live peer
/// answers within the remaining time.
const STALL_SHARE_MAX: f64 = 0.5;

/// Highest share of the window for which the server can have waited for a CPU. Above it, a missed
/// deadline is not its fault.
const SERVER_WAITING_SHARE_MAX: f64 = 0.25;

/// Share of its core from which on the own work of the generator is the cause of its lateness.
const OWN_WORK_SHARE_MIN: f64 = 0.5;

/// Share of its core below which preemption is not the cause of the lateness. The reported figure
/// is a 99th percentile.
const PREEMPTED_SHARE_MIN: f64 = 0.01;

/// Shortest delay that is judged. No scheduler guarantees less.
const DELAY_MIN: Duration = Duration::from_millis(1);

/// The verdict on a run.
#[derive(Clone, Copy, Debug, Deserialize, Eq, PartialEq, Serialize)]
#[serde(rename_all = "lowercase")]
pub(crate) enum Verdict {
    /// Everything was as expected.
    Passed,
    /// Something was not as expected.
    Failed,
    /// The generator or its machine was the limit.
    Invalid,
}

/// A verdict with its reasons.
#[derive(Clone, Debug, Eq, PartialEq)]
pub(crate) struct Judgement {
    /// The problems that decide the exit status.
    pub(crate) problems: Vec<Problem>,
    pub(crate) verdict: Verdict,
    /// One sentence for each reason, the decisive one first. Empty if the run passed.
    pub(crate) reasons: Vec<String>,
}

impl Judgement {
    /// Judges a run by its failures, and by the reason for which it is invalid, if it is.
    pub(crate) fn new(failures: &Failures, invalid: Option<&str>) -> Self {
        let limit = invalid.map(|_| Problem::Invalid);
        let problems: Vec<_> = failures.iter().map(|it| it.problem).chain(limit).collect();
        let verdict = match decide(problems.iter().copied()) {
            Status::Passed => Verdict::Passed,
            Status::Failed => Verdict::Failed,
            Status::Unusable | Status::Interrupted => Verdict::Invalid,
        };
        let failures = failures.iter().map(|Failure { reason, .. }| reason.clone());
        let invalid = invalid.map(str::to_owned);
        Self {
            problems,
            verdict,
            reasons: match verdict {
                Verdict::Failed => failures.chain(invalid).collect(),
                Verdict::Passed | Verdict::Invalid => invalid.into_iter().chain(failures).collect(),
            },
        }
    }
}

/// Delays in the generator, as the 99th percentile of each.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct GeneratorDelay {
    /// Lateness of its sends.
    pub(crate) lateness: Duration,
    /// Upper bound of the time for which answers were unread.
    pub(crate) unread: Duration,
}

/// Returns the reason for which the generator was the limit, if it was. There are three: its core
/// was saturated, or its lateness is a large share of the reported latency, both while the server
/// was not known to be busy; or answers may have been unread for all of the reported latency.
///
/// A busy server had as much work as it could do, even if the work came late. Unread answers are
/// different: the server had already sent them.
pub(crate) fn generator_limit(
    usage: &Usage,
    own: GeneratorDelay,
    reported_p99: Option<Duration>,
) -> Option<String> {
    if usage.window < WINDOW_MIN {
        return None;
    }
    let mostly = |own: Duration, share_max: f64| {
        let share = own.as_secs_f64() / reported_p99?.as_secs_f64().max(1e-9);
        (own >= DELAY_MIN && share >= share_max).then_some(share * 100.0)
    };
    if mostly(own.unread, UNREAD_SHARE_MAX).is_some() {
        return Some(format!(
            "answers may have been unread for {:.1?}, as long as the reported latency; {}",
            own.unread,
            CoreUse::of(usage)
        ));
    }
    let server = usage.server_busy();
    if server.is_some_and(|share| share >= SERVER_BUSY_SHARE_MIN) {
        return None;
    }
    let server = match server {
        Some(share) => format!("the server was busy for {:.0} % of the time", share * 100.0),
        None => "the CPU time of the server is unknown".to_owned(),
    };
    let limit = CoreUse::of(usage);
    if limit.own + limit.waiting + limit.stolen >= GENERATOR_BUSY_SHARE_MIN {
        return Some(format!(
            "the generator's core was saturated; {limit}; {server}"
        ));
    }
    let percent = mostly(own.lateness, LATENESS_SHARE_MAX)?;
    Some(format!(
        "{percent:.0} % of the reported latency is the generator's lateness; {limit}; {server}"
    ))
}

/// Use of the generator's core, in shares of the window. It shows the cause of the lateness.
#[derive(Clone, Copy, Debug)]
struct CoreUse {
    /// Own work of the generator.
    own: f64,
    /// Other threads, while the generator was ready to run.
    waiting: f64,
    /// The host of a virtual machine (steal time).
    stolen: f64,
}

impl CoreUse {
    fn of(usage: &Usage) -> Self {
        let share = |time: Duration| {
            let share = time.as_secs_f64() / usage.window.as_secs_f64().max(1e-9);
            share.min(1.0)
        };
        let (waiting, stolen) = (
            share(usage.generator.waiting),
            share(usage.generator_stolen),
        );
        // Some kernels count stolen time as running time of the thread.
        let left = (1.0 - waiting - stolen).max(0.0);
        Self {
            own: share(usage.generator.running).min(left),
            waiting,
            stolen,
        }
    }
}

impl CoreUse {
    /// Returns whether other threads or the host made the generator late.
    fn is_preempted(&self) -> bool {
        let preempted = self.waiting + self.stolen;
        preempted >= PREEMPTED_SHARE_MIN && (self.own < OWN_WORK_SHARE_MIN || preempted >= self.own)
    }
}

impl fmt::Display for CoreUse {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let [own, waiting, stolen] =
            [self.own, self.waiting, self.stolen].map(|share| share * 100.0);
        if !self.is_preempted() && self.own < OWN_WORK_SHARE_MIN {
            write!(
                f,
                "the cause is unknown: the generator's own work took only {own:.0} % of its core, and no \
                 other program used it; it may be kernel work on this core, or a host that does not \
                 report steal time"
            )
        } else if !self.is_preempted() {
            write!(
                f,
                "the generator was the limit: its own work took {own:.0} % of its core"
            )
        } else if stolen > waiting {
            write!(
                f,
                "the host of this machine was the limit: it used the generator's core for \
                 {stolen:.0} % of the time, and the generator for {own:.0} %"
            )
        } else {
            write!(
                f,
                "other work on this machine was the limit: it used the generator's core for \
                 {waiting:.0} % of the time, and the generator for {own:.0} %"
            )
        }
    }
}

/// Returns the reason for which missed deadlines are not the fault of the server, if there is one:
/// the generator did not run for a large part of the shortest deadline, or other threads used the
/// CPU of the server for a large part of the time.
pub(crate) fn starvation(usage: &Usage, stall: Duration, shortest: Duration) -> Option<String> {
    if stall >= shortest.mul_f64(STALL_SHARE_MAX) {
        return Some(format!(
            "the generator did not run for {stall:.1?}, and the server's shortest deadline is \
             {shortest:.1?}; {}",
            CoreUse::of(usage)
        ));
    }
    let waiting = usage.server?.waiting.as_secs_f64() / usage.window.as_secs_f64().max(1e-9);
    (waiting >= SERVER_WAITING_SHARE_MAX).then(|| {
        let percent = waiting * 100.0;
        format!(
            "other threads used the server's CPU for {percent:.0} % of the time; this host was the limit"
        )
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::measure::usage::CpuTime;

    fn usage(generator: u64, server: Option<u64>) -> Usage {
        let running = |millis| CpuTime {
            running: Duration::from_millis(millis),
            waiting: Duration::ZERO,
        };
        Usage {
            window: Duration::from_millis(100),
            generator: running(generator),
            server: server.map(running),
            server_cpu: Duration::ZERO,
            softirqs: None,
            syscalls: None,
            stolen: Duration::ZERO,
            generator_stolen: Duration::ZERO,
        }
    }

    fn is_limit(usage: &Usage, lateness: u64, reported: u64) -> bool {
        let millis = Duration::from_millis;
        let own = GeneratorDelay {
            lateness: millis(lateness),
            unread: Duration::ZERO,
        };
        generator_limit(usage, own, Some(millis(reported))).is_some()
    }

    #[test]
    fn a_late_generator_is_not_the_limit_of_a_busy_server() {
        assert!(!is_limit(&usage(100, Some(81)), 90, 100));
    }

    #[test]
    fn a_saturated_generator_is_the_limit_of_an_idle_server() {
        assert!(is_limit(&usage(95, Some(79)), 0, 100));
        assert!(is_limit(&usage(95, None), 0, 100));
        assert!(!is_limit(&usage(94, Some(79)), 0, 100));
    }

    #[test]
    fn lateness_of_half_of_the_latency_is_the_limit() {
        assert!(is_limit(&usage(10, Some(10)), 50, 100));
        assert!(!is_limit(&usage(10, Some(10)), 49, 100));
    }

    #[test]
    fn lateness_below_a_millisecond_is_not_the_limit() {
        assert!(is_limit(&usage(10, Some(10)), 1, 1));
        assert!(!is_limit(&usage(10, Some(10)), 0, 0));
    }

    #[test]
    fn without_a_reported_latency_lateness_is_not_judged() {
        let usage = usage(10, Some(10));
        let second = Duration::from_secs(1);
        let own = GeneratorDelay {
            lateness: second,
            unread: second,
        };
        assert_eq!(generator_limit(&usage, own, None), None);
    }

    #[test]
    fn unread_answers_are_the_limit_even_of_a_busy_server() {
        let millis = Duration::from_millis;
        let is_limit = |unread, reported| {
            let own = GeneratorDelay {
                lateness: Duration::ZERO,
                unread: millis(unread),
            };
            generator_limit(&usage(100, Some(100)), own, Some(millis(reported))).is_some()
        };
        assert!(is_limit(100, 100));
        assert!(!is_limit(99, 100));
        assert!(!is_limit(0, 0));
    }

    #[test]
    fn time_spent_waiting_for_a_cpu_counts_as_busy() {
        let mut usage = usage(50, Some(10));
        usage.generator.waiting = Duration::from_millis(45);
        assert!(is_limit(&usage, 0, 100));
        usage.server = Some(usage.generator);
        assert!(!is_limit(&usage, 0, 100));
    }

    #[test]
    fn a_short_window_is_not_judged() {
        let mut usage = usage(100, Some(0));
        usage.window = Duration::from_millis(19);
        assert!(!is_limit(&usage, 100, 100));
    }

    #[test]
    fn missed_deadlines_are_excused_if_generator_or_server_could_not_run() {
        let millis = Duration::from_millis;
        let mut usage = usage(10, Some(10));
        assert_eq!(starvation(&usage, millis(499), millis(1000)), None);
        assert!(starvation(&usage, millis(500), millis(1000)).is_some());
        let waiting = millis(25);
        usage.server = usage.server.map(|time| CpuTime { waiting, ..time });
        assert!(starvation(&usage, millis(0), millis(1000)).is_some());
        usage.server = None;
        assert_eq!(starvation(&usage, millis(0), millis(1000)), None);
    }

    #[test]
    fn the_reason_names_the_cause_of_the_lateness() {
        // Running, waiting and stolen, in percent; the cause that the reason names.
        let own = "the generator was the limit: its own work took ";
        let others = "other work on this machine was the limit: it used the generator's core for ";
        let host = "the host of this machine was the limit: it used the generator's core for ";
        for (running, waiting, stolen, limit) in [
            (98, 0, 0, format!("{own}98 % of its core")),
            (80, 16, 0, format!("{own}80 %")),
            (60, 20, 15, format!("{own}60 %")),
            (
                16,
                80,
                0,
                format!("{others}80 % of the time, and the generator for 16 %"),
            ),
            (47, 49, 0, format!("{others}49 %")),
            (16, 3, 0, format!("{others}3 %")),
            (16, 3, 4, format!("{host}4 %")),
            (
                16,
                0,
                80,
                format!("{host}80 % of the time, and the generator for 16 %"),
            ),
            // Stolen time may be counted as running.
            (
                98,
                0,
                80,
                format!("{host}80 % of the time, and the generator for 20 %"),
            ),
            (
                16,
                0,
                0,
                "the cause is unknown: the generator's own work took only 16 % of its core"
                    .to_owned(),
            ),
        ] {
            let millis = Duration::from_millis;
            let mut usage = usage(running, Some(10));
            usage.generator.waiting = millis(waiting);
            usage.generator_stolen = millis(stolen);
            let late = GeneratorDelay {
                lateness: millis(50),
                unread: Duration::ZERO,
            };
            let unread = GeneratorDelay {
                lateness: Duration::ZERO,
                unread: millis(100),
            };
            let no_time = running + waiting + stolen >= 95;
            for (reason, begins) in [
                (
                    generator_limit(&usage, late, Some(millis(100))),
                    match no_time {
                        true => "the generator's core was saturated; ",
                        false => "50 % of the reported latency is the generator's lateness; ",
                    },
                ),
                (
                    generator_limit(&usage, unread, Some(millis(100))),
                    "answers may have been unread for 100.0ms, as long as the reported latency; ",
                ),
                (
                    starvation(&usage, millis(500), millis(1000)),
                    "the generator did not run for 500.0ms, and the server's shortest deadline is 1.0s; ",
                ),
            ] {
                let reason = reason.unwrap();
                let behind = reason.strip_prefix(begins);
                let is_told = behind.is_some_and(|behind| behind.starts_with(&limit));
                assert!(is_told, "{begins}{limit}: {reason}");
            }
        }
    }

    #[test]
    fn a_core_that_the_host_used_is_saturated() {
        let mut usage = usage(16, Some(10));
        assert!(!is_limit(&usage, 0, 100));
        usage.generator_stolen = Duration::from_millis(80);
        assert!(is_limit(&usage, 0, 100));
    }

    #[test]
    fn an_invalid_run_excuses_only_failures_that_a_late_generator_may_cause() {
        let verdict = |failure: Option<Problem>, invalid| {
            let mut failures = Failures::default();
            if let Some(problem) = failure {
                failures.add(problem, "something failed".to_owned());
            }
            let judgement = Judgement::new(&failures, invalid);
            let reasons = usize::from(failure.is_some()) + usize::from(invalid.is_some());
            assert_eq!(judgement.reasons.len(), reasons);
            judgement.verdict
        };
        let limit = Some("the generator was the limit");
        assert_eq!(verdict(None, None), Verdict::Passed);
        assert_eq!(verdict(None, limit), Verdict::Invalid);
        assert_eq!(verdict(Some(Problem::Unexpected), None), Verdict::Failed);
        assert_eq!(verdict(Some(Problem::Unexpected), limit), Verdict::Invalid);
        for problem in [
            Problem::ServerFault,
            Problem::MessagesWrong,
            Problem::GateFailed,
        ] {
            assert_eq!(verdict(Some(problem), None), Verdict::Failed);
            assert_eq!(verdict(Some(problem), limit), Verdict::Failed);
        }
    }
}
