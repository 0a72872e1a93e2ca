//! Scheduling latency of the cores of server and generator.

use std::{
    mem,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    thread::{self, JoinHandle},
    time::Duration,
};

use rustix::thread::{CpuSet, sched_setaffinity};
use thread_priority::{
    RealtimeThreadSchedulePolicy, ThreadPriority, ThreadSchedulePolicy,
    set_thread_priority_and_policy, thread_native_id,
};

use crate::{
    host::cores::Cores,
    measure::{
        clock::{Clock, Moment},
        latency::Latency,
        latency_names::HICCUP,
    },
};

/// Time between two wake-ups of a thread; no longer pause of a core is missed.
const WAKE_INTERVAL: Duration = Duration::from_millis(4);

/// Measures the scheduling latency of the cores of server and generator by a thread on each of them,
/// which wakes at fixed moments with real-time priority.
///
/// A late wake-up means that the host of a virtual machine ran other machines, or that the kernel did
/// work that it does not interrupt, perhaps for the server. So a late wake-up alone does not show that
/// the server is not the cause. Gil Tene's jHiccup measures the same within a process.
#[derive(Debug)]
pub(crate) struct HiccupMeter {
    is_over: Arc<AtomicBool>,
    threads: Vec<JoinHandle<Vec<Wake>>>,
}

/// A wake-up: the planned and the actual moment.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
struct Wake {
    due: Moment,
    at: Moment,
}

impl HiccupMeter {
    /// Starts the measurement. Without `cores`, or without the right to real-time priority
    /// (`CAP_SYS_NICE` or `RLIMIT_RTPRIO`), the latency stays empty.
    pub(crate) fn start(cores: Option<&Cores>, clock: Clock) -> Self {
        let is_over = Arc::<AtomicBool>::default();
        let start = |core| {
            let is_over = is_over.clone();
            thread::spawn(move || {
                if enter(&core) {
                    record_wakes(clock, &is_over)
                } else {
                    Vec::new()
                }
            })
        };
        let cores = cores.map(Cores::sets).into_iter().flatten();
        let threads = cores.map(start).collect();
        Self { is_over, threads }
    }

    /// Returns whether a run on this host can measure the latency, see [`start`](Self::start).
    pub(crate) fn is_possible() -> bool {
        let Ok(Some(cores)) = Cores::pick() else {
            return false;
        };
        let [core, _] = cores.sets();
        let attempt = thread::spawn(move || enter(&core));
        attempt.join().expect("the measuring thread does not panic")
    }

    /// Stops the measurement, and returns the latency.
    pub(crate) fn stop(mut self) -> Latency {
        let mut wakes = self.join();
        wakes.sort_unstable_by_key(|wake| wake.at);
        let mut hiccup = Latency::new(HICCUP);
        for Wake { due, at } in wakes {
            hiccup.record_planned(at, due);
        }
        hiccup
    }

    fn join(&mut self) -> Vec<Wake> {
        self.is_over.store(true, Ordering::Relaxed);
        let threads = mem::take(&mut self.threads).into_iter();
        let wakes =
            threads.map(|thread| thread.join().expect("the measuring thread does not panic"));
        wakes.flatten().collect()
    }
}

impl Drop for HiccupMeter {
    fn drop(&mut self) {
        self.join();
    }
}

/// Moves this thread to a core, with the lowest real-time priority; returns whether that is allowed.
fn enter(core: &CpuSet) -> bool {
    let policy = ThreadSchedulePolicy::Realtime(RealtimeThreadSchedulePolicy::Fifo);
    sched_setaffinity(None, core).is_ok()
        && set_thread_priority_and_policy(thread_native_id(), ThreadPriority::Min, policy).is_ok()
}

/// Records wake-ups, and does no other work, because other threads of the core would wait for it.
#[expect(
    clippy::disallowed_methods,
    reason = "the latency of the wake-up is measured"
)]
fn record_wakes(clock: Clock, is_over: &AtomicBool) -> Vec<Wake> {
    let mut wakes = Vec::new();
    let mut due = clock.now() + WAKE_INTERVAL;
    loop {
        thread::sleep(due.since(clock.now()));
        due = record_missed(&mut wakes, due, clock.now());
        if is_over.load(Ordering::Relaxed) {
            return wakes;
        }
    }
}

/// Records all planned moments up to `at` as wake-ups at `at`; returns the next planned moment.
fn record_missed(wakes: &mut Vec<Wake>, mut due: Moment, at: Moment) -> Moment {
    while due <= at {
        wakes.push(Wake { due, at });
        due = due + WAKE_INTERVAL;
    }
    due
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_long_pause_counts_for_all_planned_moments_within() {
        let mut wakes = Vec::new();
        let start = Moment::default();
        let at = start + WAKE_INTERVAL * 3 + Duration::from_millis(1);
        let next = record_missed(&mut wakes, start + WAKE_INTERVAL, at);
        let millis = |wake: &Wake| wake.at.since(wake.due).as_millis();
        assert_eq!(wakes.iter().map(millis).collect::<Vec<_>>(), [9, 5, 1]);
        assert_eq!(next, start + WAKE_INTERVAL * 4);
        assert_eq!(record_missed(&mut wakes, next, at), next);
    }

    #[test]
    fn without_cores_nothing_is_measured() {
        let hiccup = HiccupMeter::start(None, Clock::start()).stop();
        assert_eq!(hiccup.corrected.percentiles().count, 0);
    }

    #[test]
    fn both_cores_are_measured_if_that_is_allowed() {
        let Some(cores) = Cores::pick().unwrap() else {
            return;
        };
        let hiccup = HiccupMeter::start(Some(&cores), Clock::start()).stop();
        let [core, _] = cores.sets();
        let is_allowed = thread::spawn(move || enter(&core)).join().unwrap();
        let count = hiccup.corrected.percentiles().count;
        assert_eq!(count >= 2, is_allowed, "{count}");
    }
}
