use std::fmt;

use crate::occupancy::Occupancy;
use crate::pool::{Chain, Pool};
use crate::timer::Label;
use crate::{HORIZON_TICKS, SLOTS, Tick, Timer};

/// The caller's records, which [`Wheel::advance`] accesses by their ids.
pub trait Timers {
    /// Returns the timer of record `id`, or `None` if the record is removed. Then its entry is dropped.
    ///
    /// The timer of a new record starts as [`Timer::new`] if this method returned `None` for its id before.
    fn timer(&mut self, id: u32) -> Option<&mut Timer>;

    /// Announces a call of [`timer`](Self::timer) for `id`, so that the cache line can be fetched. Does nothing by default.
    fn prefetch(&self, id: u32) {
        let _ = id;
    }

    /// Handles the expiry of the timer of record `id`, which has no deadline any more.
    ///
    /// May set and clear this and any other timer of the wheel.
    fn expire(&mut self, wheel: &mut Wheel, id: u32);
}

/// A timer wheel. The [crate documentation](crate) has its guarantees and costs.
pub struct Wheel {
    slots: Box<[Chain; SLOTS]>,
    /// The slots with entries, in their chain or in that of the collector.
    occupancy: Occupancy,
    pool: Pool,
    /// The current tick. Its slot has entries only during `advance`, and after one that ran out of budget.
    now: Tick,
    /// The number of entries in all chains.
    entries: usize,
    /// The number of entries that were superseded by an earlier one since the last collection began.
    superseded: usize,
    collector: Collector,
}

/// The collection of superseded entries, which is a part of `advance`.
#[derive(Debug)]
enum Collector {
    Idle,
    /// Slots before `slot` are complete. `rest` has the remaining entries of `slot`, whose timers have the label of the
    /// previous generation. Entries that are kept move to the slot's chain and get its label, which distinguishes them
    /// from a second entry of the same timer.
    Running {
        slot: usize,
        rest: Chain,
    },
}

impl Wheel {
    /// Creates an empty wheel whose current tick is `now`. It takes about 34 KB, and 4 to 6 bytes for each timer that is
    /// set.
    #[must_use]
    pub fn new(now: Tick) -> Self {
        let slots: Vec<Chain> = (0..SLOTS)
            .map(|slot| Chain::new(Label::new(slot)))
            .collect();
        Self {
            slots: slots
                .into_boxed_slice()
                .try_into()
                .expect("the length is SLOTS"),
            occupancy: Occupancy::new(),
            pool: Pool::new(),
            now,
            entries: 0,
            superseded: 0,
            collector: Collector::Idle,
        }
    }

    /// Returns the current tick. During [`advance`](Self::advance), this is the tick whose entries are being checked.
    #[must_use]
    pub const fn now(&self) -> Tick {
        self.now
    }

    /// Returns the number of entries: one for each timer that is set, and those of moved, cleared and removed timers that
    /// the wheel has not reached yet.
    #[must_use]
    pub const fn entries(&self) -> usize {
        self.entries
    }

    /// Returns the memory of the wheel in bytes, including `Self`.
    #[must_use]
    pub const fn memory(&self) -> usize {
        size_of::<Self>() + size_of::<[Chain; SLOTS]>() + self.pool.heap_bytes()
    }

    /// Sets or moves the deadline of record `id`, whose timer is `timer`.
    ///
    /// The timer expires in the first [`advance`](Self::advance) that reaches `deadline`, or at the next tick if
    /// `deadline` is not after the current one. `deadline` must be less than 2^31 ticks from the current tick. If the
    /// timer is set and its entry is not after `deadline`, this is one store into `timer`, and nothing else is accessed.
    ///
    /// # Panics
    ///
    /// If the wheel has about 2^32 entries.
    #[inline]
    pub fn set(&mut self, id: u32, timer: &mut Timer, deadline: Tick) {
        // A set timer has an entry. A deadline in the past is before any entry, and `set_anew` handles it.
        let entry = self.ticks_to_slot(timer.queued().slot()).cast_signed();
        if timer.is_set() && entry <= deadline.ahead_of(self.now) {
            timer.postpone(deadline);
        } else {
            self.set_anew(id, timer, deadline);
        }
    }

    fn set_anew(&mut self, id: u32, timer: &mut Timer, deadline: Tick) {
        timer.arm(deadline);
        let ahead = self.ticks_ahead(deadline);
        let queued = timer.queued();
        if queued.is_none() {
            self.queue(id, timer, ahead);
        } else if self.ticks_to_slot(queued.slot()) > ahead {
            self.superseded += 1;
            self.queue(id, timer, ahead);
        }
    }

    /// Removes the deadline: one store. The entry stays until the wheel reaches it, and a `set` before that reuses it.
    #[inline]
    pub const fn clear(&mut self, timer: &mut Timer) {
        timer.disarm();
    }

    /// Moves the current tick to `now`, and expires the timers whose deadline is reached. The order within a tick is
    /// unspecified.
    ///
    /// Checks at most `budget` entries. Returns whether all work is done. If not, call it again with the same or a later
    /// `now` after more urgent work. A `now` before the current tick does not move it.
    ///
    /// The time depends on the number of entries, not of ticks: empty slots and whole turns are skipped.
    pub fn advance<T: Timers>(&mut self, now: Tick, budget: usize, timers: &mut T) -> bool {
        let mut budget = budget;
        while self.sweep(now, &mut budget, timers) {
            let ahead = now.ahead_of(self.now);
            if ahead <= 0 {
                return self.collect(&mut budget, timers);
            }
            let ahead = ahead.cast_unsigned();
            // After more than one turn, all slots are due, and one turn checks all of them.
            let skipped = ahead.saturating_sub(SLOTS as u32);
            let from = self.now.wrapping_add(skipped);
            let step = self
                .occupancy
                .distance_after(slot_of(from))
                .unwrap_or(u32::MAX);
            self.now = from.wrapping_add(step.min(ahead - skipped));
        }
        false
    }

    /// Returns the earliest tick at which [`advance`](Self::advance) may have work, or `None` without entries.
    ///
    /// It is not after the earliest deadline, but may be before it, because entries of moved and cleared timers have to be
    /// checked as well. If `advance` ran out of budget, it is `now()`, which may be after a deadline.
    #[must_use]
    pub fn next_wake(&self) -> Option<Tick> {
        if self.occupancy.contains(slot_of(self.now)) || self.must_collect() {
            return Some(self.now);
        }
        self.occupancy
            .distance_after(slot_of(self.now))
            .map(|step| self.now.wrapping_add(step))
    }

    /// Checks the entries of the current slot. Returns whether the budget sufficed.
    fn sweep<T: Timers>(&mut self, now: Tick, budget: &mut usize, timers: &mut T) -> bool {
        let mut fetched = None;
        loop {
            // Computed each time, because an `advance` within `expire` may have changed the current tick.
            let slot = slot_of(self.now);
            if !self.occupancy.contains(slot) {
                return true;
            }
            if *budget == 0 {
                return false;
            }
            if fetched.replace(slot) != Some(slot) {
                self.prefetch_first(self.chain_to_sweep(slot), *budget, timers);
            }
            *budget -= 1;
            let id = self.pop_to_sweep(slot, timers);
            self.check_entry(id, slot, now, timers);
        }
    }

    /// Checks an entry that was removed from `slot`: expires its timer, inserts a new entry, or drops it.
    fn check_entry<T: Timers>(&mut self, id: u32, slot: usize, now: Tick, timers: &mut T) {
        let Some(timer) = timers.timer(id) else {
            return;
        };
        if !timer.queued().same_slot(Label::new(slot)) {
            return;
        }
        match timer.deadline() {
            None => timer.queue(Label::NONE),
            // The current tick is after `now` if `advance` was called with an earlier tick, or within `expire` with a
            // later one.
            Some(deadline) if now.is_before(deadline) && self.now.is_before(deadline) => {
                self.queue(id, timer, self.ticks_ahead(deadline));
            }
            Some(_) => {
                timer.queue(Label::NONE);
                timer.disarm();
                timers.expire(self, id);
            }
        }
    }

    /// Inserts an entry of `timer` into the slot `ahead` ticks after the current one.
    fn queue(&mut self, id: u32, timer: &mut Timer, ahead: u32) {
        let number = slot_of(self.now.wrapping_add(ahead));
        let chain = &mut self.slots[number];
        if chain.is_empty() {
            self.occupancy.insert(number);
        }
        timer.queue(chain.label());
        self.pool.push(chain, id);
        self.entries += 1;
    }

    /// Returns the distance in ticks of an entry for `deadline`: 1 to `HORIZON_TICKS`.
    #[inline]
    fn ticks_ahead(&self, deadline: Tick) -> u32 {
        deadline
            .ahead_of(self.now)
            .clamp(1, HORIZON_TICKS.cast_signed())
            .cast_unsigned()
    }

    /// Returns the distance in ticks from the current slot to `slot`; 0 for the current one, which may have entries.
    #[inline]
    const fn ticks_to_slot(&self, slot: usize) -> u32 {
        slot.wrapping_sub(slot_of(self.now)) as u32 % SLOTS as u32
    }

    /// Returns the chain of `slot` to be checked next: that of the collector before that of the slot.
    const fn chain_to_sweep(&self, slot: usize) -> Chain {
        match self.collector {
            Collector::Running {
                slot: collected,
                rest,
            } if collected == slot && !rest.is_empty() => rest,
            Collector::Running { .. } | Collector::Idle => self.slots[slot],
        }
    }

    fn pop_to_sweep<T: Timers>(&mut self, slot: usize, timers: &T) -> u32 {
        let chain = match &mut self.collector {
            Collector::Running {
                slot: collected,
                rest,
            } if *collected == slot && !rest.is_empty() => rest,
            Collector::Running { .. } | Collector::Idle => &mut self.slots[slot],
        };
        if let Some(id) = self.pool.id_a_chunk_ahead(*chain) {
            timers.prefetch(id);
        }
        let id = self.pool.pop(chain).expect("an occupied slot has entries");
        self.entries -= 1;
        self.vacate_if_empty(slot);
        id
    }

    fn vacate_if_empty(&mut self, slot: usize) {
        if self.chain_to_sweep(slot).is_empty() {
            self.occupancy.remove(slot);
        }
    }

    /// Returns whether superseded entries may be more than half of all entries plus [`SLOTS`].
    const fn must_collect(&self) -> bool {
        matches!(self.collector, Collector::Running { .. })
            || self.superseded > self.entries / 2 + SLOTS
    }

    /// Drops superseded entries if [`must_collect`](Self::must_collect). Returns whether the budget sufficed.
    fn collect<T: Timers>(&mut self, budget: &mut usize, timers: &mut T) -> bool {
        while self.must_collect() {
            match &mut self.collector {
                Collector::Idle => {
                    self.superseded = 0;
                    self.collect_slot_from(0, *budget, timers);
                }
                Collector::Running { slot, rest } if rest.is_empty() => {
                    let next = *slot + 1;
                    self.collect_slot_from(next, *budget, timers);
                }
                Collector::Running { .. } if *budget == 0 => return false,
                Collector::Running { slot, rest } => {
                    *budget -= 1;
                    if let Some(id) = self.pool.id_a_chunk_ahead(*rest) {
                        timers.prefetch(id);
                    }
                    let (slot, label) = (*slot, rest.label());
                    let id = self.pool.pop(rest).expect("the chain is not empty");
                    self.entries -= 1;
                    self.keep_or_drop(id, slot, label, timers);
                    self.vacate_if_empty(slot);
                }
            }
        }
        true
    }

    /// Continues the collection with the first occupied slot from `slot` on, or ends it.
    fn collect_slot_from<T: Timers>(&mut self, slot: usize, budget: usize, timers: &T) {
        self.collector = match self.occupancy.first_from(slot) {
            None => Collector::Idle,
            Some(slot) => {
                let chain = &mut self.slots[slot];
                let rest = std::mem::replace(chain, Chain::new(chain.label().other_generation()));
                self.prefetch_first(rest, budget, timers);
                Collector::Running { slot, rest }
            }
        };
    }

    /// Keeps an entry of the chain with `label`, under the slot's new label, if it is the current one of a set timer.
    fn keep_or_drop<T: Timers>(&mut self, id: u32, slot: usize, label: Label, timers: &mut T) {
        let Some(timer) = timers.timer(id) else {
            return;
        };
        if timer.queued() != label {
            return;
        }
        if timer.is_set() {
            let chain = &mut self.slots[slot];
            timer.queue(chain.label());
            self.pool.push(chain, id);
            self.entries += 1;
        } else {
            timer.queue(Label::NONE);
        }
    }

    fn prefetch_first<T: Timers>(&self, chain: Chain, budget: usize, timers: &T) {
        for &id in self.pool.first_ids(chain).iter().rev().take(budget) {
            timers.prefetch(id);
        }
    }
}

impl fmt::Debug for Wheel {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Wheel")
            .field("now", &self.now)
            .field("entries", &self.entries)
            .finish_non_exhaustive()
    }
}

const fn slot_of(tick: Tick) -> usize {
    tick.get() as usize % SLOTS
}
