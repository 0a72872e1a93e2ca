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
};

use rustix::{
    io::Errno,
    thread::{
        futex::{self, Timespec},
        nanosleep,
    },
};

/// Who is not handed to for so long has its turn all the same: one whose handler blocks holds up the
/// others no longer.
const PATIENCE: Timespec = Timespec {
    tv_sec: 0,
    tv_nsec: 50_000_000,
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
    patience: Option<Timespec>,
}

#[derive(Debug, Default)]
struct Course {
    /// Whether one has its turn, and is to hand over.
    is_taken: bool,
    waiting: VecDeque<Arc<AtomicU32>>,
}

/// A shard's part in it. Dropping it hands over.
#[derive(Debug)]
pub(crate) struct Runner {
    relay: Arc<Relay>,
    word: Arc<AtomicU32>,
    /// Whether it is to hand over.
    is_holder: bool,
}

impl Default for Relay {
    fn default() -> Self {
        Self {
            course: Mutex::default(),
            patience: Some(PATIENCE),
        }
    }
}

impl Relay {
    fn course(&self) -> MutexGuard<'_, Course> {
        // Nothing in there can be half done.
        self.course.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Runner {
    pub(crate) fn new(relay: Arc<Relay>) -> Self {
        Self {
            relay,
            word: Arc::new(AtomicU32::new(WAITS)),
            is_holder: false,
        }
    }

    /// Waits for its turn.
    pub(crate) fn step_in(&mut self) {
        let mut course = self.relay.course();
        if !std::mem::replace(&mut course.is_taken, true) {
            self.is_holder = true;
            return;
        }
        self.word.store(WAITS, Ordering::Relaxed);
        course.waiting.push_back(Arc::clone(&self.word));
        drop(course);
        self.is_holder = self.wait();
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

    /// Its turn is over: hands over to who has waited longest.
    pub(crate) fn step_out(&mut self) {
        if !std::mem::take(&mut self.is_holder) {
            return;
        }
        let mut course = self.relay.course();
        let next = course.waiting.pop_front();
        course.is_taken = next.is_some();
        if let Some(word) = next {
            // Before another can find that it waits no longer.
            word.store(RUNS, Ordering::Release);
            drop(course);
            // It fails only for an address that is none.
            let _ = futex::wake(&word, futex::Flags::PRIVATE, 1);
        }
    }

    /// Waits until another hands over; says whether one did, in time.
    fn wait(&self) -> bool {
        while self.word.load(Ordering::Acquire) == WAITS {
            let patience = self.relay.patience.as_ref();
            // Anything else is said again by the word.
            let result = futex::wait(&self.word, futex::Flags::PRIVATE, WAITS, patience);
            if result == Err(Errno::TIMEDOUT) {
                return !self.withdraw();
            }
        }
        true
    }

    /// Waits no longer; says whether it did until now.
    fn withdraw(&self) -> bool {
        let waiting = &mut self.relay.course().waiting;
        let place = waiting
            .iter()
            .position(|word| Arc::ptr_eq(word, &self.word));
        place.and_then(|place| waiting.remove(place)).is_some()
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
        Arc::new(Relay {
            patience: None,
            ..Relay::default()
        })
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
                        assert!(runner.is_holder);
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
        assert!(!relay.course().is_taken);
    }

    #[test]
    fn who_is_alone_goes_on() {
        let mut runner = Runner::new(Arc::default());
        runner.step_in();
        runner.step_out();
        runner.step_in();
        assert!(runner.relay.course().is_taken);
        let relay = Arc::clone(&runner.relay);
        drop(runner);
        assert!(!relay.course().is_taken);
    }

    #[test]
    fn who_gathers_has_its_turn_before_those_that_come() {
        let relay = patient();
        let mut first = Runner::new(Arc::clone(&relay));
        first.gather();
        assert!(first.is_holder);
        let second = thread::spawn({
            let mut runner = Runner::new(Arc::clone(&relay));
            move || {
                runner.gather();
                runner.is_holder
            }
        });
        until_waiting(&relay, 1);
        assert!(relay.course().is_taken);
        first.step_out();
        assert!(second.join().unwrap());
    }

    #[test]
    fn one_that_never_hands_over_does_not_hold_up_the_others_for_ever() {
        let relay = Arc::new(Relay::default());
        let mut stuck = Runner::new(Arc::clone(&relay));
        stuck.step_in();
        let mut other = Runner::new(Arc::clone(&relay));
        other.step_in();
        assert!(!other.is_holder, "nobody has handed over");
        assert!(relay.course().waiting.is_empty());
        // And it does not hand over what it does not have.
        drop(other);
        assert!(relay.course().is_taken);
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
                runner.is_holder
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
