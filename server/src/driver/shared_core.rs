//! The turns of shards that share a core.
//!
//! Of the shards whose next turn is due at once, one runs at a time, and hands over to the shard that has
//! waited longest. The kernel's scheduler alone is fair in time, not in turns: a shard that has run a
//! millisecond longer than sixty others would wait until each of them has run for a millisecond, and so would
//! its clients. A shard that waits in the ring does not take part: the kernel runs it when an operation
//! completes.

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

/// Duration of a turn after which the next shard does not wait for its end: the handler blocks, or the kernel
/// runs another thread on this core.
const TURN_STALL_TIME: Duration = Duration::from_millis(5);

/// Time between two checks for a stalled turn, by each waiting shard.
const STALL_CHECK_INTERVAL: Timespec = Timespec {
    tv_sec: 0,
    tv_nsec: 10_000_000,
};

/// Delay of the first turn when all shards wake together. The kernel lets a running thread run for
/// milliseconds. Without the delay, the first shard would take many turns before the others run.
const FIRST_TURN_DELAY: Timespec = Timespec {
    tv_sec: 0,
    tv_nsec: 1_000_000,
};

/// States of a shard.
const WAITING: u32 = 0;
const RUNNING: u32 = 1;

/// The turns of the shards on one core.
#[derive(Debug)]
pub(crate) struct SharedCore {
    turns: Mutex<TurnQueue>,
    clock: Clock,
    stalled: Duration,
}

/// The shard whose turn it is, and the waiting shards.
#[derive(Debug)]
struct TurnQueue {
    /// The state of the shard whose turn it is.
    holder: Option<Arc<AtomicU32>>,
    /// Begin of the turn, by the clock of the shared core.
    since: Duration,
    waiting: VecDeque<Arc<AtomicU32>>,
}

/// One shard on a shared core. Dropping it ends its turn.
#[derive(Debug)]
pub(crate) struct CoreUser {
    shared_core: Arc<SharedCore>,
    state: Arc<AtomicU32>,
}

impl Default for SharedCore {
    fn default() -> Self {
        Self::new(TURN_STALL_TIME)
    }
}

impl SharedCore {
    fn new(stalled: Duration) -> Self {
        let turns = TurnQueue {
            holder: None,
            since: Duration::ZERO,
            waiting: VecDeque::new(),
        };
        Self {
            turns: Mutex::new(turns),
            clock: Clock::start(),
            stalled,
        }
    }

    fn turns(&self) -> MutexGuard<'_, TurnQueue> {
        // A panic cannot leave the queue inconsistent.
        self.turns.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Hands over to the shard that has waited longest.
    fn hand_over(&self, mut turns: MutexGuard<'_, TurnQueue>) {
        let next = turns.waiting.pop_front();
        turns.holder.clone_from(&next);
        turns.since = self.clock.elapsed();
        if let Some(state) = next {
            // While the queue is locked, so that no shard sees a holder that waits.
            state.store(RUNNING, Ordering::Release);
            drop(turns);
            // It fails only for an invalid address.
            let _ = futex::wake(&state, futex::Flags::PRIVATE, 1);
        }
    }
}

impl CoreUser {
    pub(crate) fn new(shared_core: Arc<SharedCore>) -> Self {
        Self {
            shared_core,
            state: Arc::new(AtomicU32::new(WAITING)),
        }
    }

    /// Waits for its turn.
    pub(crate) fn wait_for_turn(&mut self) {
        let mut turns = self.shared_core.turns();
        if turns.holder.is_none() {
            turns.holder = Some(Arc::clone(&self.state));
            turns.since = self.shared_core.clock.elapsed();
            return;
        }
        self.state.store(WAITING, Ordering::Relaxed);
        turns.waiting.push_back(Arc::clone(&self.state));
        drop(turns);
        self.wait();
    }

    /// Waits for its turn after all shards were held up and wake together. The first shard waits until the
    /// others have queued.
    pub(crate) fn wait_for_turn_among_others(&mut self) {
        self.wait_for_turn();
        if self.shared_core.turns().waiting.is_empty() {
            // A signal may end the sleep early, which is harmless.
            let _ = nanosleep(&FIRST_TURN_DELAY);
        }
    }

    /// Ends its turn, unless another shard has ended it because it stalled.
    pub(crate) fn end_turn(&mut self) {
        let turns = self.shared_core.turns();
        if turns.is_held_by(&self.state) {
            self.shared_core.hand_over(turns);
        }
    }

    /// Waits until its turn begins. If the turn of the holder stalls, hands over in its place.
    fn wait(&self) {
        while self.state.load(Ordering::Acquire) == WAITING {
            // The loop checks the state after every wake-up.
            let result = futex::wait(
                &self.state,
                futex::Flags::PRIVATE,
                WAITING,
                Some(&STALL_CHECK_INTERVAL),
            );
            if result == Err(Errno::TIMEDOUT) {
                let shared_core = &self.shared_core;
                let turns = shared_core.turns();
                if shared_core.clock.elapsed().saturating_sub(turns.since) >= shared_core.stalled {
                    shared_core.hand_over(turns);
                }
            }
        }
    }
}

impl TurnQueue {
    fn is_held_by(&self, state: &Arc<AtomicU32>) -> bool {
        let holder = self.holder.as_ref();
        holder.is_some_and(|holder| Arc::ptr_eq(holder, state))
    }
}

impl Drop for CoreUser {
    fn drop(&mut self) {
        self.end_turn();
    }
}

#[cfg(test)]
mod tests {
    use std::thread;

    use super::*;

    /// A shared core on which no turn ever counts as stalled.
    fn never_stalls() -> Arc<SharedCore> {
        Arc::new(SharedCore::new(Duration::MAX))
    }

    impl CoreUser {
        fn is_holder(&self) -> bool {
            self.shared_core.turns().is_held_by(&self.state)
        }
    }

    /// Waits until `count` shards wait for their turn.
    fn until_waiting(shared_core: &SharedCore, count: usize) {
        while shared_core.turns().waiting.len() != count {
            thread::yield_now();
        }
    }

    #[test]
    fn every_shard_has_a_turn_before_any_has_another() {
        const RUNNERS: usize = 5;
        const ROUNDS: usize = 200;
        let shared_core = never_stalls();
        let log = Mutex::new(Vec::new());
        let mut first = CoreUser::new(Arc::clone(&shared_core));
        first.wait_for_turn();
        thread::scope(|scope| {
            for number in 0..RUNNERS {
                let (log, shared_core) = (&log, Arc::clone(&shared_core));
                until_waiting(&shared_core, number);
                scope.spawn(move || {
                    let mut core_user = CoreUser::new(shared_core);
                    for round in 1..=ROUNDS {
                        core_user.wait_for_turn();
                        assert!(core_user.is_holder());
                        log.lock().unwrap().push(number);
                        if round < ROUNDS {
                            until_waiting(&core_user.shared_core, RUNNERS - 1);
                        }
                        core_user.end_turn();
                    }
                });
            }
            until_waiting(&shared_core, RUNNERS);
            first.end_turn();
        });
        let expected: Vec<usize> = (0..RUNNERS).cycle().take(RUNNERS * ROUNDS).collect();
        assert_eq!(*log.lock().unwrap(), expected);
        assert!(shared_core.turns().holder.is_none());
    }

    #[test]
    fn a_single_shard_takes_turn_after_turn() {
        let mut core_user = CoreUser::new(Arc::default());
        core_user.wait_for_turn();
        core_user.end_turn();
        core_user.wait_for_turn();
        assert!(core_user.is_holder());
        let shared_core = Arc::clone(&core_user.shared_core);
        drop(core_user);
        assert!(shared_core.turns().holder.is_none());
    }

    #[test]
    fn a_shard_that_waits_for_others_to_queue_has_its_turn_before_them() {
        let shared_core = never_stalls();
        let mut first = CoreUser::new(Arc::clone(&shared_core));
        first.wait_for_turn_among_others();
        assert!(first.is_holder());
        let second = thread::spawn({
            let mut core_user = CoreUser::new(Arc::clone(&shared_core));
            move || {
                core_user.wait_for_turn_among_others();
                core_user.is_holder()
            }
        });
        until_waiting(&shared_core, 1);
        assert!(shared_core.turns().holder.is_some());
        first.end_turn();
        assert!(second.join().unwrap());
    }

    #[test]
    fn a_shard_that_never_hands_over_is_passed_over_when_its_turn_stalls() {
        let shared_core = Arc::new(SharedCore::default());
        let mut stuck = CoreUser::new(Arc::clone(&shared_core));
        stuck.wait_for_turn();
        let mut other = CoreUser::new(Arc::clone(&shared_core));
        other.wait_for_turn();
        assert!(other.is_holder());
        // Its end of turn does not end the turn of the other shard.
        stuck.end_turn();
        assert!(other.is_holder());
        drop(other);
        assert!(shared_core.turns().holder.is_none());
    }

    #[test]
    fn a_shard_that_panics_hands_over() {
        let shared_core = never_stalls();
        let mut panics = CoreUser::new(Arc::clone(&shared_core));
        panics.wait_for_turn();
        let other = thread::spawn({
            let shared_core = Arc::clone(&shared_core);
            move || {
                let mut core_user = CoreUser::new(shared_core);
                core_user.wait_for_turn();
                core_user.is_holder()
            }
        });
        until_waiting(&shared_core, 1);
        let thread = thread::spawn(move || {
            let _runner = panics;
            std::panic::resume_unwind(Box::new(()));
        });
        assert!(thread.join().is_err());
        assert!(other.join().unwrap());
    }
}
