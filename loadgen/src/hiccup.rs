//! How late a core is for whoever wants to run on it, whatever its priority.

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
    clock::{Clock, Moment},
    latency::Latency,
    limits::Cores,
};

/// The latency of the machine itself is reported by this name.
pub(crate) const HICCUP: &str = "hiccup";

/// Between two moments at which a thread wants to run: what is longer cannot be missed.
const INTERVAL: Duration = Duration::from_millis(4);

/// Watches the cores of server and generator, with a thread on each that wants to run at fixed
/// moments, before all others that have no real-time priority. What it is late by, the host of a
/// virtual machine let others run, or the kernel did something that it does not interrupt: be it for
/// the server, so that a hiccup alone does not acquit it. Gil Tene's jHiccup measures the like, from
/// within a process.
#[derive(Debug)]
pub(crate) struct HiccupMeter {
    is_over: Arc<AtomicBool>,
    threads: Vec<JoinHandle<Vec<Wake>>>,
}

/// When a thread wanted to run, and when it did.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
struct Wake {
    due: Moment,
    at: Moment,
}

impl HiccupMeter {
    /// Begins to watch. Where server and generator have no cores of their own, or without the right
    /// to real-time priority (`CAP_SYS_NICE` or `RLIMIT_RTPRIO`), it measures nothing.
    pub(crate) fn start(cores: Option<&Cores>, clock: Clock) -> Self {
        let is_over = Arc::<AtomicBool>::default();
        let watch = |core| {
            let is_over = is_over.clone();
            thread::spawn(move || {
                if enter(&core) {
                    watch(clock, &is_over)
                } else {
                    Vec::new()
                }
            })
        };
        let cores = cores.map(Cores::sets).into_iter().flatten();
        let threads = cores.map(watch).collect();
        Self { is_over, threads }
    }

    /// Whether a run on this host can measure hiccups, see [`start`](Self::start).
    pub(crate) fn is_possible() -> bool {
        let Ok(Some(cores)) = Cores::pick() else {
            return false;
        };
        let [core, _] = cores.sets();
        let trial = thread::spawn(move || enter(&core));
        trial.join().expect("a watch does not panic")
    }

    /// What was measured.
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
        let wakes = threads.map(|thread| thread.join().expect("a watch does not panic"));
        wakes.flatten().collect()
    }
}

impl Drop for HiccupMeter {
    fn drop(&mut self) {
        self.join();
    }
}

/// Moves this thread to a core, with the lowest real-time priority.
fn enter(core: &CpuSet) -> bool {
    let policy = ThreadSchedulePolicy::Realtime(RealtimeThreadSchedulePolicy::Fifo);
    sched_setaffinity(None, core).is_ok()
        && set_thread_priority_and_policy(thread_native_id(), ThreadPriority::Min, policy).is_ok()
}

/// Only notes the moments: whatever it did with them here, the core's others would wait for.
#[expect(
    clippy::disallowed_methods,
    reason = "how late it wakes is what is measured"
)]
fn watch(clock: Clock, is_over: &AtomicBool) -> Vec<Wake> {
    let mut wakes = Vec::new();
    let mut due = clock.now() + INTERVAL;
    loop {
        thread::sleep(due.since(clock.now()));
        due = note_missed(&mut wakes, due, clock.now());
        if is_over.load(Ordering::Relaxed) {
            return wakes;
        }
    }
}

/// All moments until `at` were missed, not only the first. The next one.
fn note_missed(wakes: &mut Vec<Wake>, mut due: Moment, at: Moment) -> Moment {
    while due <= at {
        wakes.push(Wake { due, at });
        due = due + INTERVAL;
    }
    due
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_long_hiccup_counts_for_all_moments_within() {
        let mut wakes = Vec::new();
        let start = Moment::default();
        let at = start + INTERVAL * 3 + Duration::from_millis(1);
        let next = note_missed(&mut wakes, start + INTERVAL, at);
        let millis = |wake: &Wake| wake.at.since(wake.due).as_millis();
        assert_eq!(wakes.iter().map(millis).collect::<Vec<_>>(), [9, 5, 1]);
        assert_eq!(next, start + INTERVAL * 4);
        assert_eq!(note_missed(&mut wakes, next, at), next);
    }

    #[test]
    fn without_cores_nothing_is_measured() {
        let hiccup = HiccupMeter::start(None, Clock::start()).stop();
        assert_eq!(hiccup.corrected.percentiles().count, 0);
    }

    #[test]
    fn both_cores_are_watched_where_that_is_allowed() {
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
