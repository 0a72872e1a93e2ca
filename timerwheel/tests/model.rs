//! Comparison of the wheel with a `BTreeMap` of deadlines, over random operations inside and outside of callbacks.

use std::collections::BTreeMap;

use proptest::collection::vec;
use proptest::prelude::*;
use tidewheel_timerwheel::{SLOTS, Tick, Timer, Timers, Wheel};

const IDS: u32 = 12;

#[derive(Clone, Debug)]
enum Operation {
    Set {
        id: u32,
        ahead: i32,
    },
    /// Moves one deadline to an earlier tick, `from - 1` times: each step supersedes an entry.
    MoveEarlier {
        id: u32,
        from: i32,
    },
    Clear {
        id: u32,
    },
    /// Replaces the record by a new one, while the wheel may have an entry of the old one.
    Reuse {
        id: u32,
    },
    Remove {
        id: u32,
    },
    Advance {
        ticks: u32,
        budget: usize,
    },
}

#[derive(Copy, Clone, Debug)]
struct Due {
    deadline: Tick,
    /// The last tick at which it may expire.
    latest: Tick,
}

/// The records, and the model of their deadlines.
struct Records {
    timers: Vec<Option<Timer>>,
    due: BTreeMap<u32, Due>,
    reactions: Vec<Operation>,
    expired: usize,
    /// The number of removed records, whose entries may remain.
    removed: usize,
    /// The tick to which `advance` is moving.
    target: Tick,
}

impl Records {
    fn set(&mut self, wheel: &mut Wheel, id: u32, deadline: Tick) {
        let timer = self.timers[id as usize].get_or_insert_default();
        wheel.set(id, timer, deadline);
        assert_eq!(timer.deadline(), Some(deadline));
        let next = wheel.now().wrapping_add(1);
        let latest = if deadline.is_before(next) {
            next
        } else {
            deadline
        };
        self.due.insert(id, Due { deadline, latest });
    }

    /// Applies an operation that is not `Advance`.
    fn apply(&mut self, wheel: &mut Wheel, operation: &Operation) {
        let now = self.target;
        match *operation {
            Operation::Set { id, ahead } => {
                self.set(wheel, id, now.wrapping_add(ahead.cast_unsigned()));
            }
            Operation::MoveEarlier { id, from } => {
                for ahead in (1..from).rev() {
                    self.set(wheel, id, now.wrapping_add(ahead.cast_unsigned()));
                }
            }
            Operation::Clear { id } => {
                if let Some(timer) = &mut self.timers[id as usize] {
                    wheel.clear(timer);
                    assert!(!timer.is_set());
                }
                self.due.remove(&id);
            }
            Operation::Reuse { id } => {
                self.removed +=
                    usize::from(self.timers[id as usize].replace(Timer::new()).is_some());
                self.due.remove(&id);
            }
            Operation::Remove { id } => {
                self.removed += usize::from(self.timers[id as usize].take().is_some());
                self.due.remove(&id);
            }
            Operation::Advance { .. } => unreachable!("a callback does not advance"),
        }
    }

    fn advance(&mut self, wheel: &mut Wheel, ticks: u32, budget: usize) -> bool {
        self.target = self.target.wrapping_add(ticks);
        let done = wheel.advance(self.target, budget, self);
        if done {
            assert_eq!(wheel.now(), self.target);
            for (id, due) in &self.due {
                assert!(
                    wheel.now().is_before(due.latest),
                    "timer {id} is late: {due:?} at {:?}",
                    wheel.now()
                );
            }
            let live = self.timers.len() + self.removed;
            assert!(
                wheel.entries() <= 2 * (live + SLOTS),
                "{} entries",
                wheel.entries()
            );
        }
        done
    }

    fn check(&self, wheel: &Wheel) {
        for (timer, id) in self.timers.iter().zip(0..) {
            let deadline = timer.as_ref().and_then(Timer::deadline);
            assert_eq!(
                deadline,
                self.due.get(&id).map(|due| due.deadline),
                "timer {id}"
            );
        }
        for (id, due) in &self.due {
            let wake = wheel.next_wake().expect("a timer is set");
            let overdue = wake == wheel.now();
            assert!(
                overdue || !due.latest.is_before(wake),
                "next_wake {wake:?} is after timer {id}: {due:?}"
            );
        }
    }
}

impl Timers for Records {
    fn timer(&mut self, id: u32) -> Option<&mut Timer> {
        self.timers[id as usize].as_mut()
    }

    fn expire(&mut self, wheel: &mut Wheel, id: u32) {
        let due = self
            .due
            .remove(&id)
            .unwrap_or_else(|| panic!("timer {id} expired without a deadline"));
        assert!(
            !self.target.is_before(due.deadline),
            "timer {id} is early: {due:?} at {:?}",
            self.target
        );
        assert!(
            !self.timers[id as usize]
                .as_ref()
                .expect("an expired timer has a record")
                .is_set()
        );
        if !self.reactions.is_empty() {
            let reaction = self.reactions[self.expired % self.reactions.len()].clone();
            self.apply(wheel, &reaction);
        }
        self.expired += 1;
    }
}

fn ahead() -> impl Strategy<Value = i32> {
    prop_oneof![4 => -3..20, 2 => -100..1500, 2 => 4000..4200, 1 => 8100..8300, 1 => 0..200_000]
}

/// Operations inside and outside of callbacks.
fn reaction() -> impl Strategy<Value = Operation> {
    prop_oneof![
        8 => (0..IDS, ahead()).prop_map(|(id, ahead)| Operation::Set { id, ahead }),
        2 => (0..IDS).prop_map(|id| Operation::Clear { id }),
        1 => (0..IDS).prop_map(|id| Operation::Reuse { id }),
        1 => (0..IDS).prop_map(|id| Operation::Remove { id }),
    ]
}

fn operation() -> impl Strategy<Value = Operation> {
    let ticks =
        prop_oneof![6 => 0..4_u32, 4 => 0..200_u32, 2 => 4000..4200_u32, 1 => 0..300_000_u32];
    let budget = prop_oneof![4 => 1..4_usize, 2 => 1..3000_usize, 4 => Just(usize::MAX)];
    prop_oneof![
        12 => reaction(),
        1 => (0..IDS, 2..4200_i32).prop_map(|(id, from)| Operation::MoveEarlier { id, from }),
        8 => (ticks, budget).prop_map(|(ticks, budget)| Operation::Advance { ticks, budget }),
    ]
}

fn run(start: u32, operations: &[Operation], reactions: Vec<Operation>) {
    let start = Tick::new(start);
    let mut wheel = Wheel::new(start);
    let mut records = Records {
        timers: (0..IDS).map(|_| Some(Timer::new())).collect(),
        due: BTreeMap::new(),
        reactions,
        expired: 0,
        removed: 0,
        target: start,
    };
    for operation in operations {
        match *operation {
            Operation::Advance { ticks, budget } => {
                records.advance(&mut wheel, ticks, budget);
            }
            _ => records.apply(&mut wheel, operation),
        }
        records.check(&wheel);
    }
    // Without further operations, every timer expires in time, and no entry remains.
    records.reactions.clear();
    while !records.advance(&mut wheel, 0, 100) {}
    while let Some(wake) = wheel.next_wake() {
        let ticks = wake.since(records.target);
        while !records.advance(&mut wheel, ticks, 1000) {}
        records.check(&wheel);
    }
    assert!(records.due.is_empty());
    assert_eq!(wheel.entries(), 0);
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 400, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn the_wheel_equals_the_model(
        start in prop_oneof![Just(0), u32::MAX - 5000..=u32::MAX, any::<u32>()],
        operations in vec(operation(), 1..250),
        reactions in vec(reaction(), 0..8),
    ) {
        run(start, &operations, reactions);
    }
}
