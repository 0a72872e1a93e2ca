use std::fmt;

use crate::occupancy::Occupancy;
use crate::pool::{Chain, Pool};
use crate::timer::Label;
use crate::{HORIZON, SLOTS, Tick, Timer};

/// The caller's records, as [`Wheel::advance`] needs them.
pub trait Timers {
    /// The timer of the record `id`, or `None` if there is no such record any more, in which case the entry is dropped.
    ///
    /// A record that comes into being under an `id` that was `None` begins with [`Timer::new`].
    fn timer(&mut self, id: u32) -> Option<&mut Timer>;

    /// Hints that [`timer`](Self::timer) will be asked for `id` soon, so that its cache line can be fetched.
    fn prefetch(&self, id: u32) {
        let _ = id;
    }

    /// The deadline of the record `id` has been reached; its timer is no longer set.
    ///
    /// May set and clear this and any other timer of the wheel.
    fn expire(&mut self, wheel: &mut Wheel, id: u32);
}

/// The timer wheel. See the [crate's page](crate) for what it promises and what it costs.
pub struct Wheel {
    slots: Box<[Chain; SLOTS]>,
    /// The slots that hold entries, in their chain or in the collector's.
    occupancy: Occupancy,
    pool: Pool,
    /// The tick that has been reached. Its slot holds entries only while `advance` is at it.
    now: Tick,
    /// Entries in all chains.
    entries: usize,
    /// Entries left behind by a timer that moved to an earlier slot, since the last collection began.
    superseded: usize,
    collector: Collector,
}

/// The collection of superseded entries, which `advance` performs when they are too many.
#[derive(Debug)]
enum Collector {
    Idle,
    /// Slots before `slot` are done. `rest` is what is left of `slot`, whose timers carry the label of the generation
    /// before; those that are kept move to the slot's own chain and take its label, so that a second entry of the
    /// same timer is told from the first.
    Running {
        slot: usize,
        rest: Chain,
    },
}

impl Wheel {
    /// An empty wheel that has reached `now`. It takes about 34 KB, and further memory as timers are set.
    #[must_use]
    pub fn new(now: Tick) -> Self {
        let slots: Vec<Chain> = (0..SLOTS)
            .map(|slot| Chain::new(Label::new(slot)))
            .collect();
        Self {
            slots: slots
                .into_boxed_slice()
                .try_into()
                .expect("as many as were made"),
            occupancy: Occupancy::new(),
            pool: Pool::new(),
            now,
            entries: 0,
            superseded: 0,
            collector: Collector::Idle,
        }
    }

    /// The tick that [`advance`](Self::advance) has reached. Within it, the one whose entries it is looking at.
    #[must_use]
    pub const fn now(&self) -> Tick {
        self.now
    }

    /// Entries in the wheel: one for each timer that is set or was set a short while ago, and superseded ones.
    #[must_use]
    pub const fn entries(&self) -> usize {
        self.entries
    }

    /// Bytes of memory that the wheel holds, itself included.
    #[must_use]
    pub const fn memory(&self) -> usize {
        size_of::<Self>() + size_of::<[Chain; SLOTS]>() + self.pool.heap_bytes()
    }

    /// Sets or moves the deadline of the record `id`, whose timer is `timer`.
    ///
    /// The timer expires in the first [`advance`](Self::advance) that reaches `deadline`; if that has been reached
    /// already, at the next tick. A deadline lies less than 2^31 ticks ahead. As long as it is not moved to before the
    /// entry that the wheel has of it, this is one store into `timer` and touches nothing else.
    #[inline]
    pub fn set(&mut self, id: u32, timer: &mut Timer, deadline: Tick) {
        // A timer that is set has an entry. A deadline in the past compares as before it, which `set_anew` sorts out.
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

    /// Takes the deadline away: one store. The entry stays until its tick, and serves the next `set` before that.
    #[inline]
    pub const fn clear(&mut self, timer: &mut Timer) {
        timer.disarm();
    }

    /// Moves on to `now` and lets the timers whose deadline has been reached expire, in no particular order.
    ///
    /// Looks at no more than `budget` entries. Returns whether everything is done; if not, call it again, with the
    /// same or a later `now`, when more urgent work has been given its turn. Does nothing about a `now` before the
    /// one that was reached.
    ///
    /// The cost is that of the entries, not of the ticks: empty slots are leapt over, and so are whole turns of the
    /// wheel.
    pub fn advance<T: Timers>(&mut self, now: Tick, budget: usize, timers: &mut T) -> bool {
        let mut budget = budget;
        while self.sweep(now, &mut budget, timers) {
            let ahead = now.ahead_of(self.now);
            if ahead <= 0 {
                return self.collect(&mut budget, timers);
            }
            let ahead = ahead.cast_unsigned();
            // After more than one turn each slot is due, and one turn looks at all of them.
            let leap = ahead.saturating_sub(SLOTS as u32);
            let from = self.now.wrapping_add(leap);
            let step = self
                .occupancy
                .distance_after(slot_of(from))
                .unwrap_or(u32::MAX);
            self.now = from.wrapping_add(step.min(ahead - leap));
        }
        false
    }

    /// The earliest tick at which [`advance`](Self::advance) may find something to do; `None` while there is nothing.
    ///
    /// Never after the earliest deadline, but maybe before it: an entry also comes up when its timer has been moved
    /// or cleared since. After an `advance` that the budget cut short it is `now()`, even if that is past a deadline.
    #[must_use]
    pub fn next_wake(&self) -> Option<Tick> {
        if self.occupancy.contains(slot_of(self.now)) || self.must_collect() {
            return Some(self.now);
        }
        self.occupancy
            .distance_after(slot_of(self.now))
            .map(|step| self.now.wrapping_add(step))
    }

    /// Looks at what the current slot holds. Returns whether the budget sufficed for all of it.
    fn sweep<T: Timers>(&mut self, now: Tick, budget: &mut usize, timers: &mut T) -> bool {
        let mut fetched = None;
        loop {
            // Asked for each time, because an `advance` within `expire` may have moved on.
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
            self.look_at(id, slot, now, timers);
        }
    }

    /// An entry has come up: the timer expires, or is queued anew, or the entry no longer means anything.
    fn look_at<T: Timers>(&mut self, id: u32, slot: usize, now: Tick, timers: &mut T) {
        let Some(timer) = timers.timer(id) else {
            return;
        };
        if !timer.queued().same_slot(Label::new(slot)) {
            return;
        }
        match timer.deadline() {
            None => timer.queue(Label::NONE),
            // The wheel is past `now` if this `advance` was given an earlier one, or if one within `expire` went further.
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

    /// Gives `timer` an entry in the slot `ahead` of the current one.
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

    /// How far ahead of the current slot an entry for `deadline` goes: 1 to `HORIZON`.
    #[inline]
    fn ticks_ahead(&self, deadline: Tick) -> u32 {
        deadline
            .ahead_of(self.now)
            .clamp(1, HORIZON.cast_signed())
            .cast_unsigned()
    }

    /// How far ahead of the current slot `slot` lies; 0 if it is the current one, and still to be swept.
    #[inline]
    const fn ticks_to_slot(&self, slot: usize) -> u32 {
        slot.wrapping_sub(slot_of(self.now)) as u32 % SLOTS as u32
    }

    /// What is to be swept of `slot` next: what the collector has in hand comes before the slot's own chain.
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

    /// Whether superseded entries may be more than half of all, and more than a few.
    const fn must_collect(&self) -> bool {
        matches!(self.collector, Collector::Running { .. })
            || self.superseded > self.entries / 2 + SLOTS
    }

    /// Drops superseded entries, if they are too many. Returns whether the budget sufficed.
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

    /// Takes the first occupied slot from `slot` on in hand, or ends the collection.
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

    /// Keeps an entry of a chain labelled `label`, under the slot's new label, if its timer is set and has no other.
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
