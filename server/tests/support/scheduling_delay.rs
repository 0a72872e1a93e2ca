//! Measures the delay with which this machine schedules a thread.
//!
//! The tests hold the server to bounds in real time, also on a machine with other load. A thread on each
//! core sleeps for a millisecond at a time and records how late it wakes. Bounds are extended by that delay only.

use std::{
    collections::VecDeque,
    sync::{LazyLock, Mutex, MutexGuard, PoisonError},
    time::{Duration, Instant},
};

use rustix::thread::{CpuSet, sched_getaffinity, sched_setaffinity};

use super::wait;

/// Time between two wake-ups.
const INTERVAL: Duration = Duration::from_millis(1);

/// Shortest delay that is recorded.
const DELAY_MIN: Duration = Duration::from_millis(1);

/// Time for which a delay is kept; longer than any test.
const RETENTION: Duration = Duration::from_secs(600);

/// Number of threads that run in sequence before a test sees a result: the client, the shard, the client
/// again, and the admin listener. Each may be delayed.
const THREADS_IN_SEQUENCE: u32 = 4;

/// One meter for each core.
static METERS: LazyLock<Vec<&'static Meter>> = LazyLock::new(|| {
    let cores = sched_getaffinity(None).expect("a thread may run somewhere");
    let cores = (0..CpuSet::MAX_CPU).filter(|core| cores.is_set(*core));
    cores.map(Meter::start).collect()
});

/// The delays that the thread of one core records.
#[derive(Debug)]
struct Meter(Mutex<Record>);

#[derive(Debug)]
struct Record {
    /// Time of the next wake-up.
    due: Instant,
    /// Time of each late wake-up, and its delay.
    delays: VecDeque<(Instant, Duration)>,
}

/// Starts the meters, unless they run.
pub(crate) fn measure() {
    LazyLock::force(&METERS);
}

/// Returns the extension of a bound that began at `start`.
pub(crate) fn since(start: Instant) -> Duration {
    let worst = METERS.iter().map(|meter| meter.worst(start)).max();
    THREADS_IN_SEQUENCE * worst.unwrap_or_default()
}

/// Returns the extension of a bound for a 99th percentile of measurements since `start`.
pub(crate) fn p99_since(start: Instant) -> Duration {
    let p99 = METERS.iter().map(|meter| meter.p99(start)).max();
    THREADS_IN_SEQUENCE * p99.unwrap_or_default()
}

impl Meter {
    fn start(core: usize) -> &'static Self {
        let record = Record {
            due: wait::clock(),
            delays: VecDeque::new(),
        };
        // The thread runs until the process ends.
        let meter: &'static Self = Box::leak(Box::new(Self(Mutex::new(record))));
        std::thread::spawn(move || {
            let mut only = CpuSet::new();
            only.set(core);
            // Without the permission, the kernel chooses the core.
            let _ = sched_setaffinity(None, &only);
            loop {
                meter.record().due = wait::clock() + INTERVAL;
                wait::pause(INTERVAL);
                meter.record().wake(wait::clock());
            }
        });
        meter
    }

    fn record(&self) -> MutexGuard<'_, Record> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Returns the 99th percentile of the delays of a thread that becomes ready at a random time since
    /// `start`.
    fn p99(&self, start: Instant) -> Duration {
        let record = self.record();
        let recent = record.delays.iter().rev();
        let recent = recent.take_while(|(woke, _)| *woke > start);
        // One sample for each millisecond of a delay.
        let mut waits: Vec<Duration> = recent
            .flat_map(|(_, late)| (0..late.as_millis() as u32).map(|ms| *late - INTERVAL * ms))
            .collect();
        waits.sort_unstable_by(|one, other| other.cmp(one));
        let samples = start.elapsed().as_millis() as usize;
        waits.get(samples / 100).copied().unwrap_or_default()
    }

    /// Returns the longest delay since `start`, including the current one.
    fn worst(&self, start: Instant) -> Duration {
        let record = self.record();
        let now = wait::clock();
        let current = now.saturating_duration_since(record.due);
        let delays = record.delays.iter().rev().copied();
        let recent = delays.take_while(|(woke, _)| *woke > start);
        // Of a delay that began before `start`, only the part after `start` counts.
        let since = |(woke, late): (Instant, Duration)| late.min(woke - start);
        let worst = recent.map(since).max().unwrap_or_default();
        worst.max(current.min(now.saturating_duration_since(start)))
    }
}

impl Record {
    fn wake(&mut self, now: Instant) {
        let late = now.saturating_duration_since(self.due);
        if late >= DELAY_MIN {
            self.delays.push_back((now, late));
        }
        while let Some((woke, _)) = self.delays.front()
            && now.duration_since(*woke) > RETENTION
        {
            self.delays.pop_front();
        }
    }
}
