//! What a run is worth: whether the server did as asked, and whether it was the server that was
//! measured.

use std::{fmt, time::Duration};

use serde::{Deserialize, Serialize};

use crate::{
    status::{Failure, Failures, Sign, Status, decide},
    usage::Usage,
};

/// Shorter windows are below what the kernel's accounting resolves.
const WINDOW_MIN: Duration = Duration::from_millis(20);

/// A generator that is busy for this share of the window had no time to spare.
const GENERATOR_BUSY: f64 = 0.95;

/// A server that is busy for less than this had time to spare.
const SERVER_BUSY: f64 = 0.80;

/// More than this share of what is reported must not be the generator's own lateness.
const LATENESS_SHARE_MAX: f64 = 0.5;

/// Answers must not have lain unread for more than this share of what is reported, where they may have: one
/// that comes at any moment between two turns lies for half as long, on average.
const UNREAD_SHARE_MAX: f64 = 1.0;

/// Peers that are to be alive have answered within less than this share of a deadline.
const STALL_SHARE_MAX: f64 = 0.5;

/// A server that could not run for this share of the time is not to blame for being late.
const STARVED: f64 = 0.25;

/// The generator's own work is what made it late if it took this share of its core.
const OWN_WORK: f64 = 0.5;

/// Others did not make it late if they took less than this share of its core: the figure
/// reported is a 99th percentile.
const TAKEN_MIN: f64 = 0.01;

/// No scheduler promises to be more punctual.
const LATENESS_MIN: Duration = Duration::from_millis(1);

/// The result of a run.
#[derive(Clone, Copy, Debug, Deserialize, Eq, PartialEq, Serialize)]
#[serde(rename_all = "lowercase")]
pub(crate) enum Verdict {
    /// Everything was as asked for.
    Passed,
    /// Something was not.
    Failed,
    /// The generator was the limit.
    Invalid,
}

/// A verdict with its reasons.
#[derive(Clone, Debug, Eq, PartialEq)]
pub(crate) struct Judgement {
    /// The signs from which the exit status follows.
    pub(crate) signs: Vec<Sign>,
    pub(crate) verdict: Verdict,
    /// One sentence each, the reason for the verdict first; none if it passed.
    pub(crate) reasons: Vec<String>,
}

impl Judgement {
    /// Weighs what failed, and why the run says nothing about the server if so.
    pub(crate) fn new(failures: &Failures, invalid: Option<&str>) -> Self {
        let limit = invalid.map(|_| Sign::Invalid);
        let signs: Vec<_> = failures.iter().map(|it| it.sign).chain(limit).collect();
        let verdict = match decide(signs.iter().copied()) {
            Status::Passed => Verdict::Passed,
            Status::Failed => Verdict::Failed,
            Status::Unusable | Status::Interrupted => Verdict::Invalid,
        };
        let failures = failures.iter().map(|Failure { reason, .. }| reason.clone());
        let invalid = invalid.map(str::to_owned);
        Self {
            signs,
            verdict,
            reasons: match verdict {
                Verdict::Failed => failures.chain(invalid).collect(),
                Verdict::Passed | Verdict::Invalid => invalid.into_iter().chain(failures).collect(),
            },
        }
    }
}

/// What of a latency is the generator's own, by the 99th percentile of each.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Own {
    /// How late it sent.
    pub(crate) lateness: Duration,
    /// How long it may have left the answer unread.
    pub(crate) unread: Duration,
}

/// Why the generator was the limit, if it was: it had no time to spare, or what is reported (if
/// anything) is mostly its own lateness, while the server was not known to be busy; or all of what is
/// reported may be time in which it did not read.
///
/// A busy server got as much work as it could do, however late each piece of it came. But what it has
/// answered, it has answered.
pub(crate) fn generator_limit(
    usage: &Usage,
    own: Own,
    reported_p99: Option<Duration>,
) -> Option<String> {
    if usage.window < WINDOW_MIN {
        return None;
    }
    let mostly = |own: Duration, share_max: f64| {
        let share = own.as_secs_f64() / reported_p99?.as_secs_f64().max(1e-9);
        (own >= LATENESS_MIN && share >= share_max).then_some(share * 100.0)
    };
    if mostly(own.unread, UNREAD_SHARE_MAX).is_some() {
        return Some(format!(
            "answers may have lain unread for {:.1?}, which is all of what is reported; {}",
            own.unread,
            Limit::of(usage)
        ));
    }
    let server = usage.server_busy();
    if server.is_some_and(|share| share >= SERVER_BUSY) {
        return None;
    }
    let server = match server {
        Some(share) => format!("the server was busy for {:.0} % of the time", share * 100.0),
        None => "it is not known how busy the server was".to_owned(),
    };
    let limit = Limit::of(usage);
    if limit.own + limit.waiting + limit.stolen >= GENERATOR_BUSY {
        return Some(format!(
            "the generator had no time to spare; {limit}; {server}"
        ));
    }
    let percent = mostly(own.lateness, LATENESS_SHARE_MAX)?;
    Some(format!(
        "{percent:.0} % of what is reported is the generator's lateness; {limit}; {server}"
    ))
}

/// The use of the time of the generator's core, in shares of the window, and so whose doing it is
/// that the generator was late.
#[derive(Clone, Copy, Debug)]
struct Limit {
    /// The generator's own work.
    own: f64,
    /// Other threads, while it was ready to run.
    waiting: f64,
    /// The host of a virtual machine, which let others run.
    stolen: f64,
}

impl Limit {
    fn of(usage: &Usage) -> Self {
        let share = |time: Duration| {
            let share = time.as_secs_f64() / usage.window.as_secs_f64().max(1e-9);
            share.min(1.0)
        };
        let (waiting, stolen) = (
            share(usage.generator.waiting),
            share(usage.generator_stolen),
        );
        // A kernel that does not know better counts what the host took as the thread's own.
        let left = (1.0 - waiting - stolen).max(0.0);
        Self {
            own: share(usage.generator.running).min(left),
            waiting,
            stolen,
        }
    }
}

impl Limit {
    /// Whether others made the generator late.
    fn is_taken(&self) -> bool {
        let taken = self.waiting + self.stolen;
        taken >= TAKEN_MIN && (self.own < OWN_WORK || taken >= self.own)
    }
}

impl fmt::Display for Limit {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let [own, waiting, stolen] =
            [self.own, self.waiting, self.stolen].map(|share| share * 100.0);
        if !self.is_taken() && self.own < OWN_WORK {
            write!(
                f,
                "the generator was late, though its own work took only {own:.0} % of its core and no \
                 other program is known to have used it: the kernel's own work on this core may be \
                 the reason, or a host of this machine that does not report what it takes"
            )
        } else if !self.is_taken() {
            write!(
                f,
                "the generator was the limit: its own work took {own:.0} % of its core"
            )
        } else if stolen > waiting {
            write!(
                f,
                "the host of this machine was the limit: it took the generator's core for \
                 {stolen:.0} % of the time, and the generator's own work took {own:.0} %"
            )
        } else {
            write!(
                f,
                "other work on this machine was the limit: it had the generator's core for \
                 {waiting:.0} % of the time, and the generator's own work took {own:.0} %"
            )
        }
    }
}

/// Why nothing can be said of deadlines that were not kept, if so: for a good part of the shortest
/// of them the generator did not run at all, or others had the server's CPU for a good part of the
/// time.
pub(crate) fn starvation(usage: &Usage, stall: Duration, shortest: Duration) -> Option<String> {
    if stall >= shortest.mul_f64(STALL_SHARE_MAX) {
        return Some(format!(
            "the generator did not run for {stall:.1?}, and the server's shortest deadline is \
             {shortest:.1?}; {}",
            Limit::of(usage)
        ));
    }
    let waiting = usage.server?.waiting.as_secs_f64() / usage.window.as_secs_f64().max(1e-9);
    (waiting >= STARVED).then(|| {
        let percent = waiting * 100.0;
        format!(
            "others had the server's CPU for {percent:.0} % of the time; this host was the limit"
        )
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::usage::CpuTime;

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
        let own = Own {
            lateness: millis(lateness),
            unread: Duration::ZERO,
        };
        generator_limit(usage, own, Some(millis(reported))).is_some()
    }

    #[test]
    fn a_busy_server_is_what_was_measured() {
        assert!(!is_limit(&usage(100, Some(81)), 90, 100));
    }

    #[test]
    fn a_saturated_generator_before_an_idle_server_is_the_limit() {
        assert!(is_limit(&usage(95, Some(79)), 0, 100));
        assert!(is_limit(&usage(95, None), 0, 100));
        assert!(!is_limit(&usage(94, Some(79)), 0, 100));
    }

    #[test]
    fn lateness_that_is_half_of_the_figure_is_the_limit() {
        assert!(is_limit(&usage(10, Some(10)), 50, 100));
        assert!(!is_limit(&usage(10, Some(10)), 49, 100));
    }

    #[test]
    fn lateness_below_what_a_scheduler_promises_is_none() {
        assert!(is_limit(&usage(10, Some(10)), 1, 1));
        assert!(!is_limit(&usage(10, Some(10)), 0, 0));
    }

    #[test]
    fn where_nothing_is_reported_lateness_is_no_part_of_it() {
        let usage = usage(10, Some(10));
        let second = Duration::from_secs(1);
        let own = Own {
            lateness: second,
            unread: second,
        };
        assert_eq!(generator_limit(&usage, own, None), None);
    }

    #[test]
    fn answers_that_lay_unread_are_not_late_however_busy_the_server_was() {
        let millis = Duration::from_millis;
        let is_limit = |unread, reported| {
            let own = Own {
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
    fn waiting_for_a_cpu_is_being_busy() {
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
    fn deadlines_say_nothing_where_nobody_could_run() {
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
    fn whose_doing_it_is_that_the_generator_was_late_is_told() {
        // Running, waiting and stolen, in percent; what the reason says behind what is wrong.
        let own = "the generator was the limit: its own work took ";
        let others = "other work on this machine was the limit: it had the generator's core for ";
        let host = "the host of this machine was the limit: it took the generator's core for ";
        for (running, waiting, stolen, limit) in [
            (98, 0, 0, format!("{own}98 % of its core")),
            (80, 16, 0, format!("{own}80 %")),
            (60, 20, 15, format!("{own}60 %")),
            (
                16,
                80,
                0,
                format!("{others}80 % of the time, and the generator's own work took 16 %"),
            ),
            (47, 49, 0, format!("{others}49 %")),
            (16, 3, 0, format!("{others}3 %")),
            (16, 3, 4, format!("{host}4 %")),
            (
                16,
                0,
                80,
                format!("{host}80 % of the time, and the generator's own work took 16 %"),
            ),
            // What was stolen may be counted as running.
            (
                98,
                0,
                80,
                format!("{host}80 % of the time, and the generator's own work took 20 %"),
            ),
            (
                16,
                0,
                0,
                "the generator was late, though its own work took only 16 % of its core".to_owned(),
            ),
        ] {
            let millis = Duration::from_millis;
            let mut usage = usage(running, Some(10));
            usage.generator.waiting = millis(waiting);
            usage.generator_stolen = millis(stolen);
            let late = Own {
                lateness: millis(50),
                unread: Duration::ZERO,
            };
            let unread = Own {
                lateness: Duration::ZERO,
                unread: millis(100),
            };
            let no_time = running + waiting + stolen >= 95;
            for (reason, begins) in [
                (
                    generator_limit(&usage, late, Some(millis(100))),
                    match no_time {
                        true => "the generator had no time to spare; ",
                        false => "50 % of what is reported is the generator's lateness; ",
                    },
                ),
                (
                    generator_limit(&usage, unread, Some(millis(100))),
                    "answers may have lain unread for 100.0ms, which is all of what is reported; ",
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
    fn a_core_that_the_host_took_is_not_the_generators() {
        let mut usage = usage(16, Some(10));
        assert!(!is_limit(&usage, 0, 100));
        usage.generator_stolen = Duration::from_millis(80);
        assert!(is_limit(&usage, 0, 100));
    }

    #[test]
    fn a_limit_excuses_what_it_may_have_caused_and_hides_nothing_else() {
        let verdict = |failure: Option<Sign>, invalid| {
            let mut failures = Failures::default();
            if let Some(sign) = failure {
                failures.add(sign, "something failed".to_owned());
            }
            let judgement = Judgement::new(&failures, invalid);
            let reasons = usize::from(failure.is_some()) + usize::from(invalid.is_some());
            assert_eq!(judgement.reasons.len(), reasons);
            judgement.verdict
        };
        let limit = Some("the generator was the limit");
        assert_eq!(verdict(None, None), Verdict::Passed);
        assert_eq!(verdict(None, limit), Verdict::Invalid);
        assert_eq!(verdict(Some(Sign::NotAsAsked), None), Verdict::Failed);
        assert_eq!(verdict(Some(Sign::NotAsAsked), limit), Verdict::Invalid);
        for sign in [Sign::ServerFault, Sign::MessagesWrong, Sign::GateFailed] {
            assert_eq!(verdict(Some(sign), None), Verdict::Failed);
            assert_eq!(verdict(Some(sign), limit), Verdict::Failed);
        }
    }
}
