//! How late this machine lets a thread run.
//!
//! The tests hold the server to bounds in real time, on machines that have other work as well. That a
//! thread has to wait for its core is no fault of the server. So a thread on each core wants to wake
//! every millisecond, and notes how late it does: a bound is extended by that, and by nothing else.

use std::{
    collections::VecDeque,
    sync::{LazyLock, Mutex, MutexGuard, PoisonError},
    time::{Duration, Instant},
};

use rustix::thread::{CpuSet, sched_getaffinity, sched_setaffinity};

use super::wait;

/// Between two wake-ups.
const INTERVAL: Duration = Duration::from_millis(1);

/// A shorter delay is no disturbance.
const NOTED_MIN: Duration = Duration::from_millis(1);

/// For how long a delay is remembered: longer than any test takes.
const MEMORY: Duration = Duration::from_secs(600);

/// Threads that take over from each other before a test sees what the server has done: the client, the
/// shard, the client again, and whoever answers for the server's state. Each may be delayed.
const HAND_OVERS: u32 = 4;

/// One for each core.
static METERS: LazyLock<Vec<&'static Meter>> = LazyLock::new(|| {
    let cores = sched_getaffinity(None).expect("a thread may run somewhere");
    let cores = (0..CpuSet::MAX_CPU).filter(|core| cores.is_set(*core));
    cores.map(Meter::start).collect()
});

/// The delays that one thread notes.
#[derive(Debug)]
struct Meter(Mutex<Notes>);

#[derive(Debug)]
struct Notes {
    /// When it wants to wake next.
    due: Instant,
    /// When it woke late, and how late that was.
    delays: VecDeque<(Instant, Duration)>,
}

/// Begins to measure, unless it has begun.
pub(crate) fn measure() {
    LazyLock::force(&METERS);
}

/// By how much a bound on what began at `start` is extended, as of now.
pub(crate) fn since(start: Instant) -> Duration {
    let worst = METERS.iter().map(|meter| meter.worst(start)).max();
    HAND_OVERS * worst.unwrap_or_default()
}

/// The same for the 99th percentile of what has been going on since `start`.
pub(crate) fn p99_since(start: Instant) -> Duration {
    let p99 = METERS.iter().map(|meter| meter.p99(start)).max();
    HAND_OVERS * p99.unwrap_or_default()
}

impl Meter {
    fn start(core: usize) -> &'static Self {
        let notes = Notes {
            due: wait::clock(),
            delays: VecDeque::new(),
        };
        // It measures until the process ends.
        let meter: &'static Self = Box::leak(Box::new(Self(Mutex::new(notes))));
        std::thread::spawn(move || {
            let mut only = CpuSet::new();
            only.set(core);
            // Where that is forbidden, it measures wherever it is.
            let _ = sched_setaffinity(None, &only);
            loop {
                meter.notes().due = wait::clock() + INTERVAL;
                wait::pause(INTERVAL);
                meter.notes().wake(wait::clock());
            }
        });
        meter
    }

    fn notes(&self) -> MutexGuard<'_, Notes> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The 99th percentile of what a thread would have waited that wanted to run at any moment since
    /// `start`.
    fn p99(&self, start: Instant) -> Duration {
        let notes = self.notes();
        let recent = notes.delays.iter().rev();
        let recent = recent.take_while(|(woke, _)| *woke > start);
        // In a delay, a thread may have become ready at any moment.
        let mut waits: Vec<Duration> = recent
            .flat_map(|(_, late)| (0..late.as_millis() as u32).map(|ms| *late - INTERVAL * ms))
            .collect();
        waits.sort_unstable_by(|one, other| other.cmp(one));
        let moments = start.elapsed().as_millis() as usize;
        waits.get(moments / 100).copied().unwrap_or_default()
    }

    /// The longest delay since `start`, one that goes on included.
    fn worst(&self, start: Instant) -> Duration {
        let notes = self.notes();
        let now = wait::clock();
        let going_on = (now, now.saturating_duration_since(notes.due));
        let delays = notes.delays.iter().rev().copied();
        let recent = delays.take_while(|(woke, _)| *woke > start);
        // Of one that had begun before, the part since then counts.
        let since = |(woke, late): (Instant, Duration)| late.min(woke - start);
        let worst = recent.map(since).max().unwrap_or_default();
        worst.max(going_on.1.min(now.saturating_duration_since(start)))
    }
}

impl Notes {
    fn wake(&mut self, now: Instant) {
        let late = now.saturating_duration_since(self.due);
        if late >= NOTED_MIN {
            self.delays.push_back((now, late));
        }
        while let Some((woke, _)) = self.delays.front()
            && now.duration_since(*woke) > MEMORY
        {
            self.delays.pop_front();
        }
    }
}
