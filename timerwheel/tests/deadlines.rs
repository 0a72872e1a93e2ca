//! Guarantees of the wheel, one in each test.

use tidewheel_timerwheel::{HORIZON_TICKS, SLOTS, Tick, Timer, Timers, Wheel};

type Reaction = fn(&mut Records, &mut Wheel, u32);

struct Records {
    timers: Vec<Option<Timer>>,
    /// The number of calls of `timer`.
    checked: usize,
    /// The id and the tick of each expiry.
    expired: Vec<(u32, u32)>,
    /// Called by `expire`.
    reaction: Reaction,
}

impl Records {
    fn new(count: usize) -> Self {
        let timers = (0..count).map(|_| Some(Timer::new())).collect();
        Self {
            timers,
            checked: 0,
            expired: Vec::new(),
            reaction: |_, _, _| {},
        }
    }

    fn set(&mut self, wheel: &mut Wheel, id: u32, deadline: u32) {
        let timer = self.timers[id as usize]
            .as_mut()
            .expect("the record exists");
        wheel.set(id, timer, Tick::new(deadline));
    }

    fn clear(&mut self, wheel: &mut Wheel, id: u32) {
        wheel.clear(
            self.timers[id as usize]
                .as_mut()
                .expect("the record exists"),
        );
    }

    /// Advances tick by tick to `last`.
    fn advance_to(&mut self, wheel: &mut Wheel, last: u32) {
        while wheel.now() != Tick::new(last) {
            assert!(wheel.advance(wheel.now().wrapping_add(1), usize::MAX, self));
        }
    }
}

impl Timers for Records {
    fn timer(&mut self, id: u32) -> Option<&mut Timer> {
        self.checked += 1;
        self.timers[id as usize].as_mut()
    }

    fn expire(&mut self, wheel: &mut Wheel, id: u32) {
        self.expired.push((id, wheel.now().get()));
        (self.reaction)(self, wheel, id);
    }
}

#[test]
fn a_timer_expires_once_at_its_deadline() {
    let mut wheel = Wheel::new(Tick::new(0));
    let mut records = Records::new(3);
    records.set(&mut wheel, 0, 1);
    records.set(&mut wheel, 1, HORIZON_TICKS);
    records.set(&mut wheel, 2, 700);
    assert_eq!(wheel.next_wake(), Some(Tick::new(1)));
    records.advance_to(&mut wheel, 3 * HORIZON_TICKS);
    assert_eq!(records.expired, [(0, 1), (2, 700), (1, HORIZON_TICKS)]);
    assert_eq!(wheel.next_wake(), None);
}

#[test]
fn deadlines_beyond_the_horizon_are_exact() {
    let deadlines = [
        HORIZON_TICKS + 1,
        HORIZON_TICKS + 2,
        2 * HORIZON_TICKS,
        100_000,
    ];
    let mut wheel = Wheel::new(Tick::new(0));
    let mut records = Records::new(deadlines.len());
    for (id, deadline) in (0..).zip(deadlines) {
        records.set(&mut wheel, id, deadline);
    }
    records.advance_to(&mut wheel, 150_000);
    assert_eq!(
        records.expired,
        [
            (0, deadlines[0]),
            (1, deadlines[1]),
            (2, deadlines[2]),
            (3, deadlines[3])
        ]
    );
}

#[test]
fn a_deadline_in_the_past_expires_at_the_next_tick() {
    let mut wheel = Wheel::new(Tick::new(10_000));
    let mut records = Records::new(3);
    records.set(&mut wheel, 0, 0);
    records.set(&mut wheel, 1, 9_999);
    records.set(&mut wheel, 2, 10_000);
    assert!(wheel.advance(Tick::new(10_000), usize::MAX, &mut records));
    assert_eq!(records.expired, []);
    assert_eq!(wheel.next_wake(), Some(Tick::new(10_001)));
    records.advance_to(&mut wheel, 10_001);
    records.expired.sort_unstable();
    assert_eq!(records.expired, [(0, 10_001), (1, 10_001), (2, 10_001)]);
}

#[test]
fn ticks_wrap_around() {
    let start = u32::MAX - 10;
    let mut wheel = Wheel::new(Tick::new(start));
    let mut records = Records::new(4);
    records.set(&mut wheel, 0, u32::MAX);
    records.set(&mut wheel, 1, 0);
    records.set(&mut wheel, 2, 5);
    records.set(&mut wheel, 3, HORIZON_TICKS);
    records.advance_to(&mut wheel, 2 * HORIZON_TICKS);
    assert_eq!(
        records.expired,
        [(0, u32::MAX), (1, 0), (2, 5), (3, HORIZON_TICKS)]
    );
}

#[test]
fn a_later_deadline_changes_nothing_but_the_timer() {
    let mut wheel = Wheel::new(Tick::new(0));
    let mut records = Records::new(1);
    records.set(&mut wheel, 0, 1250);
    for deadline in 1251..=50_000 {
        records.set(&mut wheel, 0, deadline);
    }
    assert_eq!(wheel.entries(), 1);
    assert_eq!(
        wheel.next_wake(),
        Some(Tick::new(1250)),
        "the tick of the entry, which did not move"
    );
    records.advance_to(&mut wheel, 50_000);
    assert_eq!(records.expired, [(0, 50_000)]);
}

#[test]
fn a_cleared_timer_does_not_expire_and_reuses_its_entry() {
    let mut wheel = Wheel::new(Tick::new(0));
    let mut records = Records::new(1);
    for round in 0..1000 {
        records.set(&mut wheel, 0, 100 + round / 2);
        records.clear(&mut wheel, 0);
    }
    assert_eq!(wheel.entries(), 1);
    records.advance_to(&mut wheel, 5000);
    assert_eq!(records.expired, []);
    assert_eq!(wheel.entries(), 0);
    records.set(&mut wheel, 0, 5001);
    records.advance_to(&mut wheel, 10_000);
    assert_eq!(records.expired, [(0, 5001)]);
}

#[test]
fn a_timer_with_two_entries_in_one_slot_expires_once() {
    let mut wheel = Wheel::new(Tick::new(0));
    let mut records = Records::new(1);
    records.set(&mut wheel, 0, 200);
    records.set(&mut wheel, 0, 100);
    records.reaction = |records, wheel, _| {
        records.reaction = |_, _, _| {};
        records.set(wheel, 0, 200);
    };
    records.advance_to(&mut wheel, 5000);
    assert_eq!(
        records.expired,
        [(0, 100), (0, 200)],
        "one expiry at 200, where the timer has two entries"
    );
}

#[test]
fn a_superseded_entry_is_dropped_at_its_tick() {
    let mut wheel = Wheel::new(Tick::new(0));
    let mut records = Records::new(1);
    records.set(&mut wheel, 0, 200);
    records.set(&mut wheel, 0, 100);
    records.advance_to(&mut wheel, 100);
    records.set(&mut wheel, 0, 300);
    assert_eq!(wheel.entries(), 2);
    records.advance_to(&mut wheel, 200);
    assert_eq!(wheel.entries(), 1);
}

#[test]
fn a_callback_that_sets_the_current_tick_is_called_at_the_next_one() {
    let mut wheel = Wheel::new(Tick::new(0));
    let mut records = Records::new(1);
    records.set(&mut wheel, 0, 5);
    records.reaction = |records, wheel, id| {
        if records.expired.len() < 3 {
            let now = wheel.now().get();
            records.set(wheel, id, now);
        }
    };
    records.advance_to(&mut wheel, 50);
    assert_eq!(
        records.expired,
        [(0, 5), (0, 6), (0, 7)],
        "once in each tick, so that advance returns"
    );
}

#[test]
fn a_callback_may_set_and_clear_timers_of_the_same_tick() {
    let mut wheel = Wheel::new(Tick::new(0));
    let mut records = Records::new(3);
    for id in 0..3 {
        records.set(&mut wheel, id, 5);
    }
    // The first expiry clears one timer and moves the other.
    records.reaction = |records, wheel, id| {
        records.reaction = |_, _, _| {};
        records.clear(wheel, (id + 1) % 3);
        records.set(wheel, (id + 2) % 3, 9);
    };
    for _ in 0..100 {
        let now = wheel.now();
        if wheel.advance(now, 1, &mut records) {
            wheel.advance(now.wrapping_add(1), 1, &mut records);
        }
    }
    let first = records.expired[0].0;
    assert_eq!(records.expired, [(first, 5), ((first + 2) % 3, 9)]);
}

#[test]
fn advance_stops_in_a_slot_at_its_budget_and_continues_there() {
    let mut wheel = Wheel::new(Tick::new(0));
    let mut records = Records::new(1000);
    for id in 0..1000 {
        records.set(&mut wheel, id, 7);
    }
    let now = Tick::new(20);
    for step in 1..=10 {
        assert!(!wheel.advance(now, 90, &mut records), "step {step}");
        assert_eq!(records.expired.len(), step * 90);
        assert_eq!(wheel.next_wake(), Some(wheel.now()));
    }
    // A waiting timer may be set to the same tick or a later one, or cleared.
    let waiting: Vec<u32> = (0..1000)
        .filter(|&id| records.timers[id as usize].as_ref().unwrap().is_set())
        .collect();
    records.set(&mut wheel, waiting[0], 7);
    records.set(&mut wheel, waiting[1], 21);
    records.clear(&mut wheel, waiting[2]);
    assert!(wheel.advance(now, 100, &mut records));
    assert_eq!(wheel.now(), now);
    assert_eq!(records.expired.len(), 998);
    records.advance_to(&mut wheel, 21);
    assert_eq!(records.expired.last(), Some(&(waiting[1], 21)));
    let mut ids: Vec<u32> = records.expired.iter().map(|&(id, _)| id).collect();
    ids.sort_unstable();
    assert_eq!(
        ids,
        (0..1000).filter(|&id| id != waiting[2]).collect::<Vec<_>>()
    );
}

#[test]
fn advance_within_a_callback_expires_each_timer_once() {
    let once_within_budget: Reaction = |records, wheel, _| {
        records.reaction = |_, _, _| {};
        assert!(!wheel.advance(Tick::new(6), 100, records));
    };
    let in_each_callback: Reaction = |records, wheel, _| {
        wheel.advance(Tick::new(6), 3, records);
    };
    for reaction in [once_within_budget, in_each_callback] {
        let mut wheel = Wheel::new(Tick::new(0));
        let mut records = Records::new(200);
        for id in 0..200 {
            records.set(&mut wheel, id, 5 + id % 3);
        }
        records.reaction = reaction;
        while !wheel.advance(Tick::new(7), 10, &mut records) {}
        records.expired.sort_unstable();
        let ids: Vec<u32> = records.expired.iter().map(|&(id, _)| id).collect();
        assert_eq!(ids, (0..200).collect::<Vec<_>>());
    }
}

#[test]
fn the_entry_of_a_removed_record_does_not_expire_the_next_one_with_its_id() {
    let mut wheel = Wheel::new(Tick::new(0));
    let mut records = Records::new(3);
    for id in 0..3 {
        records.set(&mut wheel, id, 100);
        records.timers[id as usize] = Some(Timer::new());
    }
    records.set(&mut wheel, 0, 200);
    records.set(&mut wheel, 1, 100);
    records.set(&mut wheel, 2, 50);
    records.advance_to(&mut wheel, 5000);
    assert_eq!(records.expired, [(2, 50), (1, 100), (0, 200)]);
}

#[test]
fn the_entry_of_a_removed_record_is_dropped() {
    let mut wheel = Wheel::new(Tick::new(0));
    let mut records = Records::new(1);
    records.set(&mut wheel, 0, 100);
    records.timers[0] = None;
    records.advance_to(&mut wheel, 100);
    assert_eq!((records.expired.len(), wheel.entries()), (0, 0));
}

#[test]
fn moving_one_deadline_a_million_times_takes_bounded_memory() {
    for reset_at in [1, 100] {
        let mut wheel = Wheel::new(Tick::new(0));
        let mut records = Records::new(1);
        let (mut entries_max, mut memory_max) = (0, 0);
        for round in 0..1_000_000 / 4 {
            let now = wheel.now().get();
            for ahead in [4000, 2500, 1200, 600 - round % 599] {
                records.set(&mut wheel, 0, now + ahead);
            }
            if round % reset_at == 0 {
                records.set(&mut wheel, 0, now + 2);
                wheel.advance(Tick::new(now + 1), 64, &mut records);
            }
            entries_max = entries_max.max(wheel.entries());
            memory_max = memory_max.max(wheel.memory());
        }
        assert!(
            entries_max <= 2 * (1 + SLOTS) + 5 * 100,
            "{entries_max} entries"
        );
        assert!(memory_max <= 1 << 20, "{memory_max} bytes");
        assert!(
            records.checked < 6_000_000,
            "{} records were checked",
            records.checked
        );
        let deadline = wheel.now().get() + 5000;
        records.set(&mut wheel, 0, deadline);
        records.expired.clear();
        while !wheel.advance(wheel.now(), 1000, &mut records) {}
        records.advance_to(&mut wheel, deadline + 5000);
        assert_eq!(records.expired, [(0, deadline)]);
        assert_eq!(wheel.entries(), 0);
    }
}

#[test]
fn moving_deadlines_between_two_ticks_keeps_the_entries_bounded() {
    let count = 20;
    let mut wheel = Wheel::new(Tick::new(0));
    let mut records = Records::new(count as usize);
    for now in 1..=4000 {
        for id in 0..count {
            records.set(&mut wheel, id, now);
            records.set(&mut wheel, id, 4050);
        }
        while !wheel.advance(Tick::new(now), 1000, &mut records) {}
        assert!(
            wheel.entries() <= 2 * (count as usize + SLOTS),
            "{} entries",
            wheel.entries()
        );
    }
    records.advance_to(&mut wheel, 5000);
    assert_eq!(records.expired.len(), count as usize);
    assert!(records.expired.iter().all(|&(_, tick)| tick == 4050));
}

#[test]
fn moving_many_deadlines_to_earlier_ticks_keeps_the_entries_bounded() {
    let count = 20_000;
    let mut wheel = Wheel::new(Tick::new(0));
    let mut records = Records::new(count as usize);
    for round in 0..40 {
        for id in 0..count {
            records.set(&mut wheel, id, 3000 - 70 * round - id % 50);
        }
        while !wheel.advance(wheel.now(), 1000, &mut records) {}
        assert!(
            wheel.entries() <= 2 * (count as usize + SLOTS),
            "{} entries",
            wheel.entries()
        );
    }
    records.advance_to(&mut wheel, 5000);
    assert_eq!(records.expired.len(), count as usize);
    assert!(
        records
            .expired
            .iter()
            .all(|&(id, tick)| tick == 3000 - 70 * 39 - id % 50)
    );
}

#[test]
fn the_cost_of_a_long_sleep_depends_on_the_entries_alone() {
    for sleep in [
        SLOTS as u32 - 1,
        SLOTS as u32,
        SLOTS as u32 + 1,
        1_000_000,
        1 << 30,
    ] {
        let mut wheel = Wheel::new(Tick::new(5));
        let mut records = Records::new(300);
        for id in 0..100 {
            records.set(&mut wheel, id, 10 + 50 * id);
            records.set(&mut wheel, 100 + id, 5 + sleep - id);
            records.set(&mut wheel, 200 + id, 5 + sleep + 1 + id);
        }
        assert!(wheel.advance(Tick::new(5 + sleep), usize::MAX, &mut records));
        assert_eq!(
            records.expired.len(),
            if sleep < 5000 { 100 + 82 } else { 200 },
            "{sleep}"
        );
        assert!(
            records.checked <= 3 * 300,
            "{} records were checked after {sleep} ticks",
            records.checked
        );
        records.advance_to(&mut wheel, 5 + sleep + 1000);
        assert_eq!(records.expired.len(), 300);
        let last = &records.expired[200..];
        assert!(
            last.iter()
                .all(|&(id, tick)| id < 100 || tick == 5 + sleep + 1 + (id - 200)),
            "{last:?}"
        );
    }
}

#[test]
fn advance_to_an_earlier_tick_does_not_move_the_current_tick() {
    let mut wheel = Wheel::new(Tick::new(100));
    let mut records = Records::new(1);
    records.set(&mut wheel, 0, 150);
    assert!(wheel.advance(Tick::new(50), usize::MAX, &mut records));
    assert_eq!(wheel.now(), Tick::new(100));
    records.advance_to(&mut wheel, 150);
    assert_eq!(records.expired, [(0, 150)]);
}

#[test]
fn memory_is_freed_after_a_mass_expiry() {
    let mut wheel = Wheel::new(Tick::new(0));
    let empty = wheel.memory();
    let mut records = Records::new(500_000);
    for id in 0..500_000 {
        records.set(&mut wheel, id, 9);
    }
    assert!(wheel.memory() - empty < 500_000 * 5);
    records.advance_to(&mut wheel, 9);
    assert_eq!(records.expired.len(), 500_000);
    assert!(
        wheel.memory() - empty < 100_000,
        "{} bytes",
        wheel.memory() - empty
    );
}
