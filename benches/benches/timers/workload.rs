//! The same operations in the same order for every candidate.

use std::time::Duration;

use rustix::time::{ClockId, clock_gettime};

use crate::allocated;
use crate::candidates::Candidate;

/// Ticks of 16 ms in 20 s: the keepalive.
const KEEPALIVE: u32 = 1250;
/// And in 2 s: how much it varies, and how often on average each timer is rescheduled.
const TWO_SECONDS: u32 = 125;
/// And in one.
const ONE_SECOND: u32 = 62;
/// One timer in so many belongs to a connection that has gone silent, and expires.
const SILENT: u32 = 1000;
/// Ticks of keepalive that are measured: 24 s, so that each entry comes up at least once.
const MEASURED: u32 = 1500;

/// Ticks that are let pass before the first timer is due.
const IDLE: u32 = 1000;

/// Nanoseconds each, unless they say otherwise.
#[derive(Clone, Debug, Default, PartialEq)]
pub(crate) struct Figures {
    pub insert: f64,
    /// An `advance` by one tick when no timer is due and none has been moved.
    pub idle_tick: f64,
    pub reschedule: f64,
    /// What `advance` cost during the keepalive, for each reschedule.
    pub sweep: f64,
    pub longest_keepalive_us: f64,
    pub clear: f64,
    pub expiry_second: f64,
    pub longest_second_us: f64,
    pub expiry_tick: f64,
    pub longest_tick_us: f64,
    /// Bytes for each timer after the keepalive, those in the caller's record included.
    pub bytes: f64,
    pub expired: f64,
}

impl Figures {
    fn fields(&mut self) -> [&mut f64; 12] {
        [
            &mut self.insert,
            &mut self.idle_tick,
            &mut self.reschedule,
            &mut self.sweep,
            &mut self.longest_keepalive_us,
            &mut self.clear,
            &mut self.expiry_second,
            &mut self.longest_second_us,
            &mut self.expiry_tick,
            &mut self.longest_tick_us,
            &mut self.bytes,
            &mut self.expired,
        ]
    }

    pub(crate) fn into_line(mut self) -> String {
        self.fields().map(|field| field.to_string()).join(" ")
    }

    pub(crate) fn from_line(line: &str) -> Self {
        let mut figures = Self::default();
        let mut numbers = line.split_whitespace();
        for field in figures.fields() {
            *field = numbers
                .next()
                .and_then(|number| number.parse().ok())
                .expect("a number for each figure");
        }
        figures
    }

    /// The least of each figure by itself: what disturbs a run only ever adds to it.
    pub(crate) fn least(mut runs: Vec<Self>) -> Self {
        let mut least = runs.pop().expect("one run at least");
        for mut run in runs {
            for (least, figure) in least.fields().into_iter().zip(run.fields()) {
                *least = least.min(*figure);
            }
        }
        least
    }
}

/// The processor time of this thread, which a busy machine distorts far less than the time of day.
fn clock() -> Duration {
    let time = clock_gettime(ClockId::ThreadCPUTime);
    Duration::new(
        time.tv_sec.unsigned_abs(),
        time.tv_nsec.unsigned_abs() as u32,
    )
}

struct Run<C> {
    candidate: C,
    count: u32,
    now: u32,
    random: fastrand::Rng,
}

impl<C: Candidate> Run<C> {
    fn keepalive_deadline(&mut self) -> u32 {
        self.now + KEEPALIVE - TWO_SECONDS + self.random.u32(0..=2 * TWO_SECONDS)
    }

    /// All ids, each once, far from the one before.
    fn shuffled(&self) -> impl Iterator<Item = u32> + use<C> {
        let count = u64::from(self.count);
        // Coprime to every count, as a prime greater than all of them.
        (0..count).map(move |i| (i * 2_654_435_761 % count) as u32)
    }

    /// One tick; the time of all steps, and that of the longest.
    fn tick(&mut self) -> (Duration, Duration) {
        self.now += 1;
        self.candidate.pass(self.now);
        let (mut all, mut longest) = (Duration::ZERO, Duration::ZERO);
        loop {
            let start = clock();
            let done = self.candidate.advance(self.now);
            let took = clock() - start;
            all += took;
            longest = longest.max(took);
            if done {
                return (all, longest);
            }
        }
    }

    fn ticks(&mut self, ticks: u32) -> (Duration, Duration) {
        (0..ticks).map(|_| self.tick()).fold(
            (Duration::ZERO, Duration::ZERO),
            |(all, longest), (took, step)| (all + took, longest.max(step)),
        )
    }

    fn per_timer(&self, took: Duration) -> f64 {
        took.as_nanos() as f64 / f64::from(self.count)
    }

    fn fill(&mut self, deadline: impl Fn(&mut Self) -> u32) {
        for id in self.shuffled() {
            let deadline = deadline(self);
            self.candidate.set(id, deadline);
        }
    }

    /// Reschedules as many timers as a tick brings traffic for; returns their number.
    fn traffic(&mut self) -> u32 {
        let reschedules = (self.count / TWO_SECONDS).max(1);
        for _ in 0..reschedules {
            let id = self.random.u32(0..self.count);
            let id = if id.is_multiple_of(SILENT) {
                id + 1
            } else {
                id
            };
            let deadline = self.keepalive_deadline();
            self.candidate.set(id, deadline);
        }
        reschedules
    }
}

/// Keepalive, then mass expiry, over `count` timers.
pub(crate) fn measure<C: Candidate>(count: u32) -> Figures {
    let mut run = Run {
        candidate: C::new(count),
        count,
        now: 0,
        random: fastrand::Rng::with_seed(1),
    };
    let mut figures = Figures::default();
    let heap = allocated::bytes();

    let start = clock();
    run.fill(Run::keepalive_deadline);
    figures.insert = run.per_timer(clock() - start);

    figures.idle_tick = run.ticks(IDLE).0.as_nanos() as f64 / f64::from(IDLE);
    run.fill(Run::keepalive_deadline);

    let (mut rescheduled, mut moving, mut sweeping) = (0, Duration::ZERO, Duration::ZERO);
    let mut longest = Duration::ZERO;
    for _ in 0..MEASURED {
        let start = clock();
        rescheduled += run.traffic();
        moving += clock() - start;
        let (took, step) = run.tick();
        sweeping += took;
        longest = longest.max(step);
    }
    figures.reschedule = moving.as_nanos() as f64 / f64::from(rescheduled);
    figures.sweep = sweeping.as_nanos() as f64 / f64::from(rescheduled);
    figures.longest_keepalive_us = longest.as_nanos() as f64 / 1e3;
    figures.bytes = (allocated::bytes() - heap) as f64 / f64::from(count) + C::RECORD_BYTES;

    let start = clock();
    for id in run.shuffled() {
        run.candidate.clear(id);
    }
    figures.clear = run.per_timer(clock() - start);
    let expired = run.candidate.expired();
    run.ticks(KEEPALIVE + TWO_SECONDS);
    assert_eq!(run.candidate.expired(), expired, "a cleared timer expired");

    run.fill(|run| run.now + 100 + run.random.u32(0..ONE_SECOND));
    run.ticks(99);
    let (took, longest) = run.ticks(ONE_SECOND);
    figures.expiry_second = run.per_timer(took);
    figures.longest_second_us = longest.as_nanos() as f64 / 1e3;

    run.fill(|run| run.now + 100);
    run.ticks(99);
    let (took, longest) = run.tick();
    figures.expiry_tick = run.per_timer(took);
    figures.longest_tick_us = longest.as_nanos() as f64 / 1e3;

    figures.expired = run.candidate.expired() as f64;
    figures
}

/// Sets every timer, and then reschedules `reschedules` of them: a run for cachegrind, to be compared with one of 0.
pub(crate) fn reschedule_only<C: Candidate>(count: u32, reschedules: u32) {
    let mut run = Run {
        candidate: C::new(count),
        count,
        now: 0,
        random: fastrand::Rng::with_seed(1),
    };
    run.fill(Run::keepalive_deadline);
    for _ in 0..reschedules {
        let id = run.random.u32(0..count);
        run.candidate.set(id, 2 * KEEPALIVE);
    }
}
