//! The timers that an application sets for its connections.
//!
//! The timers of a connection are a list in the order of their deadlines. The wheel knows only the first one, as one
//! of the deadlines of the connection, which share an entry of the wheel.

use std::{
    any::{Any, TypeId},
    collections::HashMap,
    fmt,
    rc::Rc,
    time::Duration,
};

use slab::Slab;
use tidewheel_codec::Time;
use tidewheel_timerwheel::Tick;

use crate::{
    Conn, Handler,
    call::{Call, Repeated},
    config::bounds::DEADLINE_MAX,
    shard::ticks,
};

/// Timers of one connection, at most.
pub(crate) const TIMERS_MAX: usize = 1024;

/// Delay of a timer, at least. So a timer never expires in the turn that sets it, and a closure that sets itself again
/// ends a turn.
const DELAY_MIN: Duration = Duration::from_millis(1);

/// The end of a list.
const NIL: u32 = u32::MAX;

/// A timer of a connection, by which it is [cancelled](crate::Link::cancel).
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct TimerId {
    index: u32,
    serial: u32,
}

/// The timers of the connections of a shard.
///
/// A timer takes 16 bytes. A connection takes 4 bytes from the first timer on, and a closure that captures values takes
/// their memory and 64 bytes.
#[derive(Default)]
pub(crate) struct Timers {
    /// The first timer of each slot, up to the highest slot that has ever had one.
    first: Vec<u32>,
    entries: Vec<Entry>,
    /// The first free entry.
    free: Option<u32>,
    actions: Actions,
    /// Number of timers.
    count: usize,
    /// The serial number of the last timer.
    serial: u32,
}

/// A timer, or a free entry.
#[derive(Clone, Copy)]
struct Entry {
    deadline: Tick,
    /// The connection's next timer, which expires later, or the next free entry.
    next: u32,
    action: u32,
    /// Distinguishes the timer from others that had the same index. 0 for a free entry.
    serial: u32,
}

const _: () = assert!(size_of::<Entry>() == 16);

/// The closures of timers.
#[derive(Default)]
struct Actions {
    entries: Slab<Action>,
    /// The entries of closures that capture nothing, not even a zero-sized value with a destructor. All timers with
    /// such a closure share one.
    shared: HashMap<TypeId, u32>,
}

struct Action {
    /// A [`Repeated`] of a handler.
    call: Rc<dyn Any>,
    is_shared: bool,
}

impl Actions {
    fn add<H: Handler, F: Fn(&mut H, &mut Conn<'_, H>) + 'static>(&mut self, call: F) -> u32 {
        let is_shared = size_of::<F>() == 0 && !std::mem::needs_drop::<F>();
        let kind = TypeId::of::<F>();
        if is_shared && let Some(action) = self.shared.get(&kind) {
            return *action;
        }
        let call: Repeated<H> = Box::new(call);
        let action = self.entries.insert(Action {
            call: Rc::new(call),
            is_shared,
        }) as u32;
        if is_shared {
            self.shared.insert(kind, action);
        }
        action
    }

    /// Takes the closure of a timer that has ended.
    fn take(&mut self, action: u32) -> Call {
        Call::repeated(match self.entries[action as usize].is_shared {
            true => Rc::clone(&self.entries[action as usize].call),
            false => self.entries.remove(action as usize).call,
        })
    }
}

impl Timers {
    /// Adds a timer of a connection, which expires `delay` after `now`: [`DELAY_MIN`] after it at the earliest, and a year
    /// after it at the latest. `None` if the connection has [`TIMERS_MAX`] timers.
    pub(crate) fn add<H: Handler>(
        &mut self,
        slot: u32,
        now: Time,
        delay: Duration,
        call: impl Fn(&mut H, &mut Conn<'_, H>) + 'static,
    ) -> Option<TimerId> {
        let deadline = ticks::after(now + delay.clamp(DELAY_MIN, DEADLINE_MAX));
        let (mut before, mut next, mut count) = (NIL, self.first(slot), 0);
        while next != NIL && !deadline.is_before(self.entries[next as usize].deadline) {
            (before, next) = (next, self.entries[next as usize].next);
            count += 1;
        }
        let mut rest = next;
        while rest != NIL && count < TIMERS_MAX {
            rest = self.entries[rest as usize].next;
            count += 1;
        }
        if count >= TIMERS_MAX {
            return None;
        }
        self.serial = self.serial.checked_add(1).unwrap_or(1);
        let serial = self.serial;
        let entry = Entry {
            deadline,
            next,
            action: self.actions.add(call),
            serial,
        };
        let index = self.insert(entry);
        self.count += 1;
        self.link(slot, before, index);
        Some(TimerId { index, serial })
    }

    /// Cancels a timer of a connection. Returns whether it was still to expire.
    pub(crate) fn cancel(&mut self, slot: u32, timer: TimerId) -> bool {
        let (mut before, mut index) = (NIL, self.first(slot));
        while index != NIL {
            let Entry { next, serial, .. } = self.entries[index as usize];
            if index == timer.index && serial == timer.serial {
                self.link(slot, before, next);
                drop(self.remove(index));
                return true;
            }
            (before, index) = (index, next);
        }
        false
    }

    /// Cancels all timers of a connection.
    pub(crate) fn forget(&mut self, slot: u32) {
        while let Some(call) = self.take_first(slot) {
            drop(call);
        }
    }

    /// Time at which the first timer of a connection expires, as seen at `now`.
    #[inline]
    pub(crate) fn next(&self, slot: u32, now: Time) -> Option<Time> {
        let first = *self.first.get(slot as usize)?;
        let entry = self.entries.get(first as usize)?;
        Some(now + ticks::until(entry.deadline, now))
    }

    /// Takes the first timer of a connection, if it has expired.
    pub(crate) fn take_expired(&mut self, slot: u32, now: Time) -> Option<Call> {
        match self.next(slot, now)? <= now {
            true => self.take_first(slot),
            false => None,
        }
    }

    /// Number of timers.
    pub(crate) fn count(&self) -> usize {
        self.count
    }

    fn take_first(&mut self, slot: u32) -> Option<Call> {
        let index = self.first(slot);
        let next = self.entries.get(index as usize)?.next;
        self.link(slot, NIL, next);
        Some(self.remove(index))
    }

    fn first(&self, slot: u32) -> u32 {
        self.first.get(slot as usize).copied().unwrap_or(NIL)
    }

    /// Makes `index` the timer behind `before`, or the first one.
    fn link(&mut self, slot: u32, before: u32, index: u32) {
        if before != NIL {
            self.entries[before as usize].next = index;
            return;
        }
        if self.first.len() <= slot as usize {
            self.first.resize(slot as usize + 1, NIL);
        }
        self.first[slot as usize] = index;
    }

    fn insert(&mut self, entry: Entry) -> u32 {
        match self.free {
            Some(index) => {
                let free = &mut self.entries[index as usize];
                self.free = Some(free.next).filter(|next| *next != NIL);
                *free = entry;
                index
            }
            None => {
                self.entries.push(entry);
                self.entries.len() as u32 - 1
            }
        }
    }

    /// Removes a timer that is in no list.
    fn remove(&mut self, index: u32) -> Call {
        let next = self.free.replace(index).unwrap_or(NIL);
        let entry = &mut self.entries[index as usize];
        let action = entry.action;
        self.count -= 1;
        (entry.next, entry.serial) = (next, 0);
        self.actions.take(action)
    }
}

impl fmt::Debug for Timers {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Timers")
            .field("entries", &self.entries.len())
            .finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use proptest::{collection::vec, prelude::*};

    use super::*;
    use crate::{Message, Request, Verdict, shard::TICK_MS};

    struct Nothing;

    impl Handler for Nothing {
        type State = ();

        fn upgrade(&mut self, _: &Request<'_>) -> Verdict<()> {
            Verdict::accept(())
        }

        fn message(&mut self, _: &mut Conn<'_, Self>, _: Message<'_>) {}
    }

    fn nothing(_: &mut Nothing, _: &mut Conn<'_, Nothing>) {}

    fn ms(millis: u64) -> Duration {
        Duration::from_millis(millis)
    }

    #[derive(Clone, Debug)]
    enum Act {
        Add {
            slot: u32,
            delay: u64,
            captures: bool,
        },
        Cancel(usize),
        Forget(u32),
        Wait(u64),
    }

    fn act() -> impl Strategy<Value = Act> {
        prop_oneof![
            4 => (0..4_u32, 0..500_u64, any::<bool>())
                .prop_map(|(slot, delay, captures)| Act::Add { slot, delay, captures }),
            1 => any::<usize>().prop_map(Act::Cancel),
            1 => (0..4_u32).prop_map(Act::Forget),
            2 => (0..300_u64).prop_map(Act::Wait),
        ]
    }

    proptest! {
        #[test]
        fn timers_agree_with_a_sorted_map(acts in vec(act(), 0..100)) {
            let (mut timers, mut now) = (Timers::default(), Time::from_millis(0));
            // The slot and the id of each timer, by its tick and its number.
            let mut model = BTreeMap::new();
            let mut added = Vec::new();
            let alive = Rc::new(());
            for act in acts {
                match act {
                    Act::Add { slot, delay, captures } => {
                        let value = Rc::clone(&alive);
                        let id = match captures {
                            true => timers.add(slot, now, ms(delay), move |_: &mut Nothing, _: &mut Conn<'_, _>| {
                                let _ = &value;
                            }),
                            false => timers.add(slot, now, ms(delay), nothing),
                        };
                        let id = id.expect("there are few timers");
                        let tick = (now + ms(delay.max(1))).as_millis().div_ceil(TICK_MS);
                        model.insert((tick, added.len()), (slot, id));
                        added.push((slot, id));
                    }
                    Act::Cancel(number) if !added.is_empty() => {
                        let (slot, id) = added[number % added.len()];
                        let before = model.len();
                        model.retain(|_, timer| *timer != (slot, id));
                        prop_assert_eq!(timers.cancel(slot, id), model.len() < before);
                    }
                    Act::Cancel(_) => {}
                    Act::Forget(slot) => {
                        model.retain(|_, timer| timer.0 != slot);
                        timers.forget(slot);
                    }
                    Act::Wait(millis) => {
                        now = now + ms(millis);
                        for slot in 0..4 {
                            let is_due = |tick: u64| tick * TICK_MS <= now.as_millis();
                            let due = model.iter().filter(|(key, timer)| is_due(key.0) && timer.0 == slot);
                            let expected = due.count();
                            model.retain(|key, timer| !is_due(key.0) || timer.0 != slot);
                            let mut expired = 0;
                            while timers.take_expired(slot, now).is_some() {
                                expired += 1;
                            }
                            prop_assert_eq!(expired, expected);
                        }
                    }
                }
                prop_assert_eq!(timers.count(), model.len());
                for slot in 0..4 {
                    let first = model.iter().find(|(_, timer)| timer.0 == slot);
                    let expected = first.map(|(key, _)| Time::from_millis(key.0 * TICK_MS).max(now));
                    prop_assert_eq!(timers.next(slot, now), expected);
                }
            }
            for slot in 0..4 {
                timers.forget(slot);
            }
            prop_assert_eq!(Rc::strong_count(&alive), 1, "captured values are dropped with their timers");
        }
    }

    #[test]
    fn a_timer_whose_closure_captures_nothing_takes_16_bytes() {
        const COUNT: u32 = 100_000;
        let mut timers = Timers::default();
        for slot in 0..COUNT {
            for _ in 0..4 {
                assert!(
                    timers
                        .add(slot, Time::default(), ms(1000), nothing)
                        .is_some()
                );
            }
        }
        assert_eq!(
            (timers.entries.len(), timers.actions.entries.len()),
            (4 * COUNT as usize, 1)
        );
        assert_eq!(
            (
                size_of_val(&timers.entries[0]),
                size_of_val(&timers.first[0])
            ),
            (16, 4)
        );
    }

    #[test]
    fn a_timer_without_a_delay_does_not_expire_in_the_turn_that_sets_it() {
        for now in [0, 1, 15, 16, 32].map(Time::from_millis) {
            let mut timers = Timers::default();
            for delay in [Duration::ZERO, Duration::from_nanos(1)] {
                assert!(timers.add(7, now, delay, nothing).is_some());
                assert!(timers.take_expired(7, now).is_none(), "{now:?} {delay:?}");
            }
            assert!(timers.take_expired(7, now + ms(TICK_MS)).is_some());
        }
    }

    #[test]
    fn a_connection_has_a_limited_number_of_timers() {
        let mut timers = Timers::default();
        let mut add = |delay| timers.add(7, Time::default(), ms(delay), nothing);
        assert!((0..TIMERS_MAX as u64).all(|number| add(number * 37 % 1000).is_some()));
        assert!([0, 500, 2000].iter().all(|delay| add(*delay).is_none()));
        assert!(timers.take_expired(7, Time::from_millis(16)).is_some());
        assert!(timers.add(7, Time::default(), ms(500), nothing).is_some());
    }
}
