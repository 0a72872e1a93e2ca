//! The compared structures. Each keeps a record of one cache line for each timer, and touches it in every operation.

use std::cmp::Reverse;
use std::collections::{BTreeSet, BinaryHeap};
use std::convert::Infallible;
use std::future::poll_fn;
use std::pin::pin;
use std::task::{Context, Poll, Waker};
use std::time::Duration;

use hierarchical_hash_wheel_timer::wheels::Skip;
use hierarchical_hash_wheel_timer::wheels::cancellable::QuadWheelWithOverflow;
use hierarchical_hash_wheel_timer::{IdOnlyTimerEntry, TimerError};
use tidewheel_timerwheel::{Tick, Timer, Timers, Wheel};
use tokio::runtime::{Builder, Runtime};
use tokio::time::Instant;
use tokio_util::time::DelayQueue;
use tokio_util::time::delay_queue::Key;

use crate::TICK;

/// A structure of timers, whose ids are the numbers below a count. Deadlines and `now` are ticks from 0.
pub(crate) trait Candidate {
    /// Bytes of each timer in the caller's record.
    const RECORD_BYTES: f64;

    /// Creates the structure for `count` timers, none of which is set.
    fn new(count: u32) -> Self;
    /// Sets or reschedules a timer.
    fn set(&mut self, id: u32, deadline: u32);
    /// Clears a timer.
    fn clear(&mut self, id: u32);
    /// Advances an external clock, whose cost is not measured.
    fn advance_clock(&mut self, now: u32) {
        let _ = now;
    }
    /// Takes a step towards `now`, which is one tick after the previous `now`. Returns whether `now` is reached.
    fn advance(&mut self, now: u32) -> bool;
    /// Returns the number of expiries so far.
    fn expired(&self) -> u64;
}

/// A caller's record of a timer.
#[derive(Default)]
#[repr(align(64))]
pub(crate) struct Record<T> {
    pub timer: T,
    touched: u32,
    expired: u32,
}

impl<T> Record<T> {
    pub(crate) fn touch(&mut self) -> &mut T {
        self.touched = self.touched.wrapping_add(1);
        &mut self.timer
    }
}

/// The records of all timers.
pub(crate) struct Records<T>(Vec<Record<T>>);

impl<T: Default> Records<T> {
    pub(crate) fn new(count: u32) -> Self {
        const { assert!(size_of::<Record<T>>() == 64) };
        Self((0..count).map(|_| Record::default()).collect())
    }

    #[inline]
    pub(crate) fn touch(&mut self, id: u32) -> &mut T {
        self.0[id as usize].touch()
    }

    #[inline]
    pub(crate) fn expire(&mut self, id: u32) -> &mut T {
        let record = &mut self.0[id as usize];
        record.expired += 1;
        record.touch()
    }

    pub(crate) fn expired(&self) -> u64 {
        self.0.iter().map(|record| u64::from(record.expired)).sum()
    }
}

/// No structure: only touches the record, which is the cost that all others include.
pub(crate) struct Touch(Records<u32>);

impl Candidate for Touch {
    const RECORD_BYTES: f64 = 0.0;

    fn new(count: u32) -> Self {
        Self(Records::new(count))
    }

    fn set(&mut self, id: u32, deadline: u32) {
        *self.0.touch(id) = deadline;
    }

    fn clear(&mut self, id: u32) {
        *self.0.touch(id) = 0;
    }

    fn advance(&mut self, _: u32) -> bool {
        true
    }

    fn expired(&self) -> u64 {
        0
    }
}

/// The wheel of this project.
pub(crate) struct Tidewheel {
    wheel: Wheel,
    records: Records<Timer>,
}

impl Tidewheel {
    /// Entries that one `advance` checks at most.
    const ADVANCE_ENTRIES_MAX: usize = 8192;
}

impl Candidate for Tidewheel {
    const RECORD_BYTES: f64 = size_of::<Timer>() as f64;

    fn new(count: u32) -> Self {
        Self {
            wheel: Wheel::new(Tick::new(0)),
            records: Records::new(count),
        }
    }

    fn set(&mut self, id: u32, deadline: u32) {
        self.wheel
            .set(id, self.records.touch(id), Tick::new(deadline));
    }

    fn clear(&mut self, id: u32) {
        self.wheel.clear(self.records.touch(id));
    }

    fn advance(&mut self, now: u32) -> bool {
        self.wheel
            .advance(Tick::new(now), Self::ADVANCE_ENTRIES_MAX, &mut self.records)
    }

    fn expired(&self) -> u64 {
        self.records.expired()
    }
}

impl Timers for Records<Timer> {
    #[inline]
    fn timer(&mut self, id: u32) -> Option<&mut Timer> {
        self.0.get_mut(id as usize).map(|record| &mut record.timer)
    }

    #[inline]
    fn prefetch(&self, id: u32) {
        prefetch(self.0.get(id as usize));
    }

    #[inline]
    fn expire(&mut self, _: &mut Wheel, id: u32) {
        Records::expire(self, id);
    }
}

#[inline]
fn prefetch<T>(record: Option<&T>) {
    #[cfg(target_arch = "x86_64")]
    if let Some(record) = record {
        use std::arch::x86_64::{_MM_HINT_T0, _mm_prefetch};
        // SAFETY: a prefetch has no effect that the program can observe, and the address is that of a live reference.
        unsafe { _mm_prefetch::<_MM_HINT_T0>(std::ptr::from_ref(record).cast()) };
    }
    #[cfg(not(target_arch = "x86_64"))]
    let _ = record;
}

/// `DelayQueue` of tokio-util with a paused clock, which `advance_clock` advances.
pub(crate) struct DelayQueueTimers {
    runtime: Runtime,
    start: Instant,
    passed: u32,
    queue: DelayQueue<u32>,
    records: Records<Option<Key>>,
}

impl Candidate for DelayQueueTimers {
    const RECORD_BYTES: f64 = size_of::<Option<Key>>() as f64;

    fn new(count: u32) -> Self {
        let runtime = Builder::new_current_thread()
            .enable_time()
            .start_paused(true)
            .build()
            .expect("a runtime can be built");
        let (start, queue) = runtime.block_on(async { (Instant::now(), DelayQueue::new()) });
        Self {
            runtime,
            start,
            passed: 0,
            queue,
            records: Records::new(count),
        }
    }

    fn set(&mut self, id: u32, deadline: u32) {
        let _inside = self.runtime.enter();
        let deadline = self.start + TICK * deadline;
        match self.records.touch(id) {
            Some(key) => self.queue.reset_at(key, deadline),
            none => *none = Some(self.queue.insert_at(id, deadline)),
        }
    }

    fn clear(&mut self, id: u32) {
        let _inside = self.runtime.enter();
        if let Some(key) = self.records.touch(id).take() {
            self.queue.remove(&key);
        }
    }

    fn advance_clock(&mut self, now: u32) {
        let ticks = now - self.passed;
        self.passed = now;
        self.runtime.block_on(async {
            tokio::time::advance(TICK * ticks).await;
            assert_eq!(Instant::now() - self.start, TICK * now);
        });
    }

    fn advance(&mut self, _: u32) -> bool {
        let _inside = self.runtime.enter();
        let mut context = Context::from_waker(Waker::noop());
        let records = &mut self.records;
        let queue = &mut self.queue;
        let next = pin!(poll_fn(|context| {
            while let Poll::Ready(Some(expired)) = queue.poll_expired(context) {
                *records.expire(expired.into_inner()) = None;
            }
            Poll::Ready(())
        }));
        next.poll(&mut context).is_ready()
    }

    fn expired(&self) -> u64 {
        self.records.expired()
    }
}

/// A `BinaryHeap` whose entries are removed at the top only. An entry is valid if its deadline is that of the record.
pub(crate) struct Heap {
    heap: BinaryHeap<Reverse<(u32, u32)>>,
    records: Records<u32>,
}

impl Candidate for Heap {
    const RECORD_BYTES: f64 = size_of::<u32>() as f64;

    fn new(count: u32) -> Self {
        Self {
            heap: BinaryHeap::new(),
            records: Records::new(count),
        }
    }

    fn set(&mut self, id: u32, deadline: u32) {
        *self.records.touch(id) = deadline;
        self.heap.push(Reverse((deadline, id)));
    }

    fn clear(&mut self, id: u32) {
        *self.records.touch(id) = 0;
    }

    fn advance(&mut self, now: u32) -> bool {
        while let Some(&Reverse((deadline, id))) = self.heap.peek()
            && deadline <= now
        {
            self.heap.pop();
            if self.records.0[id as usize].timer == deadline {
                *self.records.expire(id) = 0;
            }
        }
        true
    }

    fn expired(&self) -> u64 {
        self.records.expired()
    }
}

/// A `BTreeSet` of deadlines and ids.
pub(crate) struct Tree {
    tree: BTreeSet<(u32, u32)>,
    records: Records<u32>,
}

impl Candidate for Tree {
    const RECORD_BYTES: f64 = size_of::<u32>() as f64;

    fn new(count: u32) -> Self {
        Self {
            tree: BTreeSet::new(),
            records: Records::new(count),
        }
    }

    fn set(&mut self, id: u32, deadline: u32) {
        let old = std::mem::replace(self.records.touch(id), deadline);
        if old != 0 {
            self.tree.remove(&(old, id));
        }
        self.tree.insert((deadline, id));
    }

    fn clear(&mut self, id: u32) {
        let old = std::mem::take(self.records.touch(id));
        self.tree.remove(&(old, id));
    }

    fn advance(&mut self, now: u32) -> bool {
        while let Some(&(deadline, id)) = self.tree.first()
            && deadline <= now
        {
            self.tree.pop_first();
            *self.records.expire(id) = 0;
        }
        true
    }

    fn expired(&self) -> u64 {
        self.records.expired()
    }
}

/// The cancellable wheel of `hierarchical_hash_wheel_timer`, in which a millisecond stands for a tick.
pub(crate) struct Hierarchical {
    wheel: QuadWheelWithOverflow<IdOnlyTimerEntry<u32>>,
    now: u32,
    records: Records<bool>,
}

impl Hierarchical {
    fn cancel(&mut self, id: u32) {
        let done: Result<(), TimerError<Infallible>> = self.wheel.cancel(&id);
        done.expect("the timer is set");
    }
}

impl Candidate for Hierarchical {
    const RECORD_BYTES: f64 = size_of::<bool>() as f64;

    fn new(count: u32) -> Self {
        Self {
            wheel: QuadWheelWithOverflow::new(),
            now: 0,
            records: Records::new(count),
        }
    }

    fn set(&mut self, id: u32, deadline: u32) {
        if std::mem::replace(self.records.touch(id), true) {
            self.cancel(id);
        }
        let delay = Duration::from_millis((deadline - self.now).into());
        self.wheel
            .insert(IdOnlyTimerEntry { id, delay })
            .expect("the delay is above 0");
    }

    fn clear(&mut self, id: u32) {
        if std::mem::take(self.records.touch(id)) {
            self.cancel(id);
        }
    }

    fn advance(&mut self, now: u32) -> bool {
        if matches!(self.wheel.can_skip(), Skip::Empty) {
            self.now = now;
            return true;
        }
        self.now += 1;
        assert_eq!(self.now, now);
        for entry in self.wheel.tick() {
            *self.records.expire(entry.id) = false;
        }
        true
    }

    fn expired(&self) -> u64 {
        self.records.expired()
    }
}
