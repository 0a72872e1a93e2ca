//! Turns on a core that several shards share.
//!
//! Of the shards that would go on at once, one runs at a time, and hands over to the one that has
//! waited longest. The kernel's scheduler is fair in time, not in turns: who has had a millisecond more
//! than sixty others waits until each of them has had that, too, and whoever echoes there waits as
//! long. A shard that the network wakes is not part of this: it runs when the kernel lets it.

use std::{
    collections::VecDeque,
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicU32, Ordering},
    },
    time::Duration,
};

use rustix::{
    io::Errno,
    thread::{
        futex::{self, Timespec},
        nanosleep,
    },
};

use super::Clock;

/// A turn that takes so long holds up the others no longer: its handler blocks, or the kernel has put
/// off its shard for one that the network woke.
const STALLED: Duration = Duration::from_millis(5);

/// How often those that wait look whether that is so.
const LOOK: Timespec = Timespec {
    tv_sec: 0,
    tv_nsec: 10_000_000,
};

/// The kernel lets who is running run on for milliseconds: until all others have come, the first would
/// take turn after turn.
const GATHERING: Timespec = Timespec {
    tv_sec: 0,
    tv_nsec: 1_000_000,
};

/// What a runner's word says.
const WAITS: u32 = 0;
const RUNS: u32 = 1;

/// The shards of a core.
#[derive(Debug)]
pub(crate) struct Relay {
    course: Mutex<Course>,
    clock: Clock,
    stalled: Duration,
}

#[derive(Debug)]
struct Course {
    /// Whose turn it is, and who is to hand over.
    holder: Option<Arc<AtomicU32>>,
    /// Since when, by the relay's clock.
    since: Duration,
    waiting: VecDeque<Arc<AtomicU32>>,
}

/// A shard's part in it. Dropping it hands over.
#[derive(Debug)]
pub(crate) struct Runner {
    relay: Arc<Relay>,
    word: Arc<AtomicU32>,
}

impl Default for Relay {
    fn default() -> Self {
        Self::new(STALLED)
    }
}

impl Relay {
    fn new(stalled: Duration) -> Self {
        let course = Course {
            holder: None,
            since: Duration::ZERO,
            waiting: VecDeque::new(),
        };
        Self {
            course: Mutex::new(course),
            clock: Clock::start(),
            stalled,
        }
    }

    fn course(&self) -> MutexGuard<'_, Course> {
        // Nothing in there can be half done.
        self.course.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Hands over to who has waited longest.
    fn hand_over(&self, mut course: MutexGuard<'_, Course>) {
        let next = course.waiting.pop_front();
        course.holder.clone_from(&next);
        course.since = self.clock.elapsed();
        if let Some(word) = next {
            // Before another can find that it waits no longer.
            word.store(RUNS, Ordering::Release);
            drop(course);
            // It fails only for an address that is none.
            let _ = futex::wake(&word, futex::Flags::PRIVATE, 1);
        }
    }
}

impl Runner {
    pub(crate) fn new(relay: Arc<Relay>) -> Self {
        Self {
            relay,
            word: Arc::new(AtomicU32::new(WAITS)),
        }
    }

    /// Waits for its turn.
    pub(crate) fn step_in(&mut self) {
        let mut course = self.relay.course();
        if course.holder.is_none() {
            course.holder = Some(Arc::clone(&self.word));
            course.since = self.relay.clock.elapsed();
            return;
        }
        self.word.store(WAITS, Ordering::Relaxed);
        course.waiting.push_back(Arc::clone(&self.word));
        drop(course);
        self.wait();
    }

    /// Waits for its turn when all shards have been held up, and wake at the same moment: the first lets
    /// the others come before it goes on.
    pub(crate) fn gather(&mut self) {
        self.step_in();
        if self.relay.course().waiting.is_empty() {
            // A signal may end it early, which does no harm.
            let _ = nanosleep(&GATHERING);
        }
    }

    /// Its turn is over: hands over, unless another has done so in its place.
    pub(crate) fn step_out(&mut self) {
        let course = self.relay.course();
        if course.is_held_by(&self.word) {
            self.relay.hand_over(course);
        }
    }

    /// Waits until it is handed to. If nobody hands over for too long, it does so in the holder's place.
    fn wait(&self) {
        while self.word.load(Ordering::Acquire) == WAITS {
            // Anything else is said again by the word.
            let result = futex::wait(&self.word, futex::Flags::PRIVATE, WAITS, Some(&LOOK));
            if result == Err(Errno::TIMEDOUT) {
                let relay = &self.relay;
                let course = relay.course();
                if relay.clock.elapsed().saturating_sub(course.since) >= relay.stalled {
                    relay.hand_over(course);
                }
            }
        }
    }
}

impl Course {
    fn is_held_by(&self, word: &Arc<AtomicU32>) -> bool {
        let holder = self.holder.as_ref();
        holder.is_some_and(|holder| Arc::ptr_eq(holder, word))
    }
}

impl Drop for Runner {
    fn drop(&mut self) {
        self.step_out();
    }
}

#[cfg(test)]
mod tests {
    use std::thread;

    use super::*;

    /// One in which nobody is passed over, however slow the machine is.
    fn patient() -> Arc<Relay> {
        Arc::new(Relay::new(Duration::MAX))
    }

    impl Runner {
        fn is_holder(&self) -> bool {
            self.relay.course().is_held_by(&self.word)
        }
    }

    /// Waits until so many wait for their turn.
    fn until_waiting(relay: &Relay, count: usize) {
        while relay.course().waiting.len() != count {
            thread::yield_now();
        }
    }

    #[test]
    fn each_has_its_turn_before_any_has_another() {
        const RUNNERS: usize = 5;
        const ROUNDS: usize = 200;
        let relay = patient();
        let log = Mutex::new(Vec::new());
        let mut first = Runner::new(Arc::clone(&relay));
        first.step_in();
        thread::scope(|scope| {
            for number in 0..RUNNERS {
                let (log, relay) = (&log, Arc::clone(&relay));
                until_waiting(&relay, number);
                scope.spawn(move || {
                    let mut runner = Runner::new(relay);
                    for round in 1..=ROUNDS {
                        runner.step_in();
                        assert!(runner.is_holder());
                        log.lock().unwrap().push(number);
                        if round < ROUNDS {
                            until_waiting(&runner.relay, RUNNERS - 1);
                        }
                        runner.step_out();
                    }
                });
            }
            until_waiting(&relay, RUNNERS);
            first.step_out();
        });
        let expected: Vec<usize> = (0..RUNNERS).cycle().take(RUNNERS * ROUNDS).collect();
        assert_eq!(*log.lock().unwrap(), expected);
        assert!(relay.course().holder.is_none());
    }

    #[test]
    fn who_is_alone_goes_on() {
        let mut runner = Runner::new(Arc::default());
        runner.step_in();
        runner.step_out();
        runner.step_in();
        assert!(runner.is_holder());
        let relay = Arc::clone(&runner.relay);
        drop(runner);
        assert!(relay.course().holder.is_none());
    }

    #[test]
    fn who_gathers_has_its_turn_before_those_that_come() {
        let relay = patient();
        let mut first = Runner::new(Arc::clone(&relay));
        first.gather();
        assert!(first.is_holder());
        let second = thread::spawn({
            let mut runner = Runner::new(Arc::clone(&relay));
            move || {
                runner.gather();
                runner.is_holder()
            }
        });
        until_waiting(&relay, 1);
        assert!(relay.course().holder.is_some());
        first.step_out();
        assert!(second.join().unwrap());
    }

    #[test]
    fn one_that_never_hands_over_holds_up_nobody_for_long() {
        let relay = Arc::new(Relay::default());
        let mut stuck = Runner::new(Arc::clone(&relay));
        stuck.step_in();
        let mut other = Runner::new(Arc::clone(&relay));
        other.step_in();
        assert!(other.is_holder());
        // And it does not hand over what it has no longer.
        stuck.step_out();
        assert!(other.is_holder());
        drop(other);
        assert!(relay.course().holder.is_none());
    }

    #[test]
    fn one_that_panics_hands_over() {
        let relay = patient();
        let mut panics = Runner::new(Arc::clone(&relay));
        panics.step_in();
        let other = thread::spawn({
            let relay = Arc::clone(&relay);
            move || {
                let mut runner = Runner::new(relay);
                runner.step_in();
                runner.is_holder()
            }
        });
        until_waiting(&relay, 1);
        let thread = thread::spawn(move || {
            let _runner = panics;
            std::panic::resume_unwind(Box::new(()));
        });
        assert!(thread.join().is_err());
        assert!(other.join().unwrap());
    }
}
