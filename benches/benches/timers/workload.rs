//! The workload, which is the same for every candidate.

use std::time::Duration;

use rustix::time::{ClockId, clock_gettime};

use crate::candidates::Candidate;
use crate::counting_allocator;

/// Ticks of the keepalive interval: 20 s in ticks of 16 ms.
const KEEPALIVE_TICKS: u32 = 1250;
/// Ticks of 2 s: the variation of the interval in both directions, and the mean time between two reschedules of a timer.
const TWO_SECONDS_TICKS: u32 = 125;
/// Ticks of a second.
const ONE_SECOND_TICKS: u32 = 62;
/// Timers for each one that is never rescheduled, and so expires.
const TIMERS_PER_SILENT: u32 = 1000;
/// Ticks of the measured keepalive: 24 s, so that each entry is due at least once.
const MEASURED_TICKS: u32 = 1500;

/// Ticks before the first timer is due.
const IDLE_TICKS: u32 = 1000;

/// Figures of a candidate, in nanoseconds for each operation if nothing else is said.
#[derive(Clone, Debug, Default, PartialEq)]
pub(crate) struct Figures {
    pub insert: f64,
    /// An `advance` by one tick when no timer is due and none was rescheduled.
    pub idle_tick: f64,
    pub reschedule: f64,
    /// `advance` during the keepalive, for each reschedule.
    pub sweep: f64,
    pub longest_keepalive_us: f64,
    pub clear: f64,
    pub expiry_second: f64,
    pub longest_second_us: f64,
    pub expiry_tick: f64,
    pub longest_tick_us: f64,
    /// Memory of each timer after the keepalive in bytes, with the part of the caller's record.
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

    /// Returns the smallest value of each figure: other load only ever adds to a figure.
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

/// Returns the CPU time of this thread, which other load affects less than the monotonic clock.
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
        self.now + KEEPALIVE_TICKS - TWO_SECONDS_TICKS + self.random.u32(0..=2 * TWO_SECONDS_TICKS)
    }

    /// Returns each id once, in an order in which neighbours are far apart.
    fn shuffled(&self) -> impl Iterator<Item = u32> + use<C> {
        let count = u64::from(self.count);
        // A prime that is larger than every count, and so coprime to it.
        (0..count).map(move |i| (i * 2_654_435_761 % count) as u32)
    }

    /// Advances by one tick. Returns the time of all steps and the time of the longest.
    fn tick(&mut self) -> (Duration, Duration) {
        self.now += 1;
        self.candidate.advance_clock(self.now);
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

    /// Reschedules the timers of a tick, and returns their number.
    fn reschedule_some(&mut self) -> u32 {
        let reschedules = (self.count / TWO_SECONDS_TICKS).max(1);
        for _ in 0..reschedules {
            let id = self.random.u32(0..self.count);
            let id = if id.is_multiple_of(TIMERS_PER_SILENT) {
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

/// Measures keepalive, and then mass expiry, with `count` timers.
pub(crate) fn measure<C: Candidate>(count: u32) -> Figures {
    let mut run = Run {
        candidate: C::new(count),
        count,
        now: 0,
        random: fastrand::Rng::with_seed(1),
    };
    let mut figures = Figures::default();
    let heap = counting_allocator::bytes();

    let start = clock();
    run.fill(Run::keepalive_deadline);
    figures.insert = run.per_timer(clock() - start);

    figures.idle_tick = run.ticks(IDLE_TICKS).0.as_nanos() as f64 / f64::from(IDLE_TICKS);
    run.fill(Run::keepalive_deadline);

    let (mut rescheduled, mut moving, mut sweeping) = (0, Duration::ZERO, Duration::ZERO);
    let mut longest = Duration::ZERO;
    for _ in 0..MEASURED_TICKS {
        let start = clock();
        rescheduled += run.reschedule_some();
        moving += clock() - start;
        let (took, step) = run.tick();
        sweeping += took;
        longest = longest.max(step);
    }
    figures.reschedule = moving.as_nanos() as f64 / f64::from(rescheduled);
    figures.sweep = sweeping.as_nanos() as f64 / f64::from(rescheduled);
    figures.longest_keepalive_us = longest.as_nanos() as f64 / 1e3;
    figures.bytes =
        (counting_allocator::bytes() - heap) as f64 / f64::from(count) + C::RECORD_BYTES;

    let start = clock();
    for id in run.shuffled() {
        run.candidate.clear(id);
    }
    figures.clear = run.per_timer(clock() - start);
    let expired = run.candidate.expired();
    run.ticks(KEEPALIVE_TICKS + TWO_SECONDS_TICKS);
    assert_eq!(run.candidate.expired(), expired, "a cleared timer expired");

    run.fill(|run| run.now + 100 + run.random.u32(0..ONE_SECOND_TICKS));
    run.ticks(99);
    let (took, longest) = run.ticks(ONE_SECOND_TICKS);
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

/// Sets every timer, then reschedules `reschedules` of them. Cachegrind compares such a run with one of 0.
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
        run.candidate.set(id, 2 * KEEPALIVE_TICKS);
    }
}
