//! One edge of the contract per test, with a record for each id and a note of what expired when.

use tidewheel_timerwheel::{HORIZON, SLOTS, Tick, Timer, Timers, Wheel};

type Reaction = fn(&mut Records, &mut Wheel, u32);

struct Records {
    timers: Vec<Option<Timer>>,
    /// Asked for by `timer`: the cost, in records touched.
    looked_at: usize,
    expired: Vec<(u32, u32)>,
    reaction: Reaction,
}

impl Records {
    fn new(count: usize) -> Self {
        let timers = (0..count).map(|_| Some(Timer::new())).collect();
        Self {
            timers,
            looked_at: 0,
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

    /// Advances tick by tick up to and including `last`, noting each expiry.
    fn walk(&mut self, wheel: &mut Wheel, last: u32) {
        while wheel.now() != Tick::new(last) {
            assert!(wheel.advance(wheel.now().wrapping_add(1), usize::MAX, self));
        }
    }
}

impl Timers for Records {
    fn timer(&mut self, id: u32) -> Option<&mut Timer> {
        self.looked_at += 1;
        self.timers[id as usize].as_mut()
    }

    fn expire(&mut self, wheel: &mut Wheel, id: u32) {
        self.expired.push((id, wheel.now().get()));
        (self.reaction)(self, wheel, id);
    }
}

#[test]
fn a_deadline_expires_at_its_tick_once() {
    let mut wheel = Wheel::new(Tick::new(0));
    let mut records = Records::new(3);
    records.set(&mut wheel, 0, 1);
    records.set(&mut wheel, 1, HORIZON);
    records.set(&mut wheel, 2, 700);
    assert_eq!(wheel.next_wake(), Some(Tick::new(1)));
    records.walk(&mut wheel, 3 * HORIZON);
    assert_eq!(records.expired, [(0, 1), (2, 700), (1, HORIZON)]);
    assert_eq!(wheel.next_wake(), None);
}

#[test]
fn beyond_the_horizon_is_exact_too() {
    let deadlines = [HORIZON + 1, HORIZON + 2, 2 * HORIZON, 100_000];
    let mut wheel = Wheel::new(Tick::new(0));
    let mut records = Records::new(deadlines.len());
    for (id, deadline) in (0..).zip(deadlines) {
        records.set(&mut wheel, id, deadline);
    }
    records.walk(&mut wheel, 150_000);
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
    records.walk(&mut wheel, 10_001);
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
    records.set(&mut wheel, 3, HORIZON);
    records.walk(&mut wheel, 2 * HORIZON);
    assert_eq!(
        records.expired,
        [(0, u32::MAX), (1, 0), (2, 5), (3, HORIZON)]
    );
}

#[test]
fn postponing_touches_nothing_but_the_timer() {
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
        "early, as the entry was not moved"
    );
    records.walk(&mut wheel, 50_000);
    assert_eq!(records.expired, [(0, 50_000)]);
}

#[test]
fn a_cleared_deadline_never_expires_and_its_entry_serves_the_next() {
    let mut wheel = Wheel::new(Tick::new(0));
    let mut records = Records::new(1);
    for round in 0..1000 {
        records.set(&mut wheel, 0, 100 + round / 2);
        records.clear(&mut wheel, 0);
    }
    assert_eq!(wheel.entries(), 1);
    records.walk(&mut wheel, 5000);
    assert_eq!(records.expired, []);
    assert_eq!(wheel.entries(), 0);
    records.set(&mut wheel, 0, 5001);
    records.walk(&mut wheel, 10_000);
    assert_eq!(records.expired, [(0, 5001)]);
}

#[test]
fn an_earlier_deadline_counts_and_the_superseded_entry_does_not() {
    let mut wheel = Wheel::new(Tick::new(0));
    let mut records = Records::new(1);
    records.set(&mut wheel, 0, 200);
    records.set(&mut wheel, 0, 100);
    records.reaction = |records, wheel, _| {
        records.reaction = |_, _, _| {};
        records.set(wheel, 0, 200);
    };
    records.walk(&mut wheel, 5000);
    assert_eq!(
        records.expired,
        [(0, 100), (0, 200)],
        "two entries in one slot, one expiry"
    );
}

#[test]
fn a_superseded_entry_is_dropped_when_it_comes_up() {
    let mut wheel = Wheel::new(Tick::new(0));
    let mut records = Records::new(1);
    records.set(&mut wheel, 0, 200);
    records.set(&mut wheel, 0, 100);
    records.walk(&mut wheel, 100);
    records.set(&mut wheel, 0, 300);
    assert_eq!(wheel.entries(), 2);
    records.walk(&mut wheel, 200);
    assert_eq!(wheel.entries(), 1);
}

#[test]
fn a_callback_may_set_the_tick_that_is_being_swept() {
    let mut wheel = Wheel::new(Tick::new(0));
    let mut records = Records::new(1);
    records.set(&mut wheel, 0, 5);
    records.reaction = |records, wheel, id| {
        if records.expired.len() < 3 {
            let now = wheel.now().get();
            records.set(wheel, id, now);
        }
    };
    records.walk(&mut wheel, 50);
    assert_eq!(
        records.expired,
        [(0, 5), (0, 6), (0, 7)],
        "not in the same tick again, which could go on for ever"
    );
}

#[test]
fn a_callback_may_set_and_clear_those_that_are_due_in_the_same_tick() {
    let mut wheel = Wheel::new(Tick::new(0));
    let mut records = Records::new(3);
    for id in 0..3 {
        records.set(&mut wheel, id, 5);
    }
    // Whichever comes first clears the one after it and moves the one before it.
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
fn the_budget_stops_in_mid_slot_and_resumes_there() {
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
    // Those still waiting may be moved to their own tick, to a later one, or cleared.
    let waiting: Vec<u32> = (0..1000)
        .filter(|&id| records.timers[id as usize].as_ref().unwrap().is_set())
        .collect();
    records.set(&mut wheel, waiting[0], 7);
    records.set(&mut wheel, waiting[1], 21);
    records.clear(&mut wheel, waiting[2]);
    assert!(wheel.advance(now, 100, &mut records));
    assert_eq!(wheel.now(), now);
    assert_eq!(records.expired.len(), 998);
    records.walk(&mut wheel, 21);
    assert_eq!(records.expired.last(), Some(&(waiting[1], 21)));
    let mut ids: Vec<u32> = records.expired.iter().map(|&(id, _)| id).collect();
    ids.sort_unstable();
    assert_eq!(
        ids,
        (0..1000).filter(|&id| id != waiting[2]).collect::<Vec<_>>()
    );
}

#[test]
fn an_advance_within_a_callback_expires_each_once() {
    let stops_in_mid_slot: Reaction = |records, wheel, _| {
        records.reaction = |_, _, _| {};
        assert!(!wheel.advance(Tick::new(6), 100, records));
    };
    let each_time: Reaction = |records, wheel, _| {
        wheel.advance(Tick::new(6), 3, records);
    };
    for reaction in [stops_in_mid_slot, each_time] {
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
fn an_old_entry_does_not_speak_for_a_reused_id() {
    let mut wheel = Wheel::new(Tick::new(0));
    let mut records = Records::new(3);
    for id in 0..3 {
        records.set(&mut wheel, id, 100);
        records.timers[id as usize] = Some(Timer::new());
    }
    records.set(&mut wheel, 0, 200);
    records.set(&mut wheel, 1, 100);
    records.set(&mut wheel, 2, 50);
    records.walk(&mut wheel, 5000);
    assert_eq!(records.expired, [(2, 50), (1, 100), (0, 200)]);
}

#[test]
fn an_entry_without_a_record_is_dropped() {
    let mut wheel = Wheel::new(Tick::new(0));
    let mut records = Records::new(1);
    records.set(&mut wheel, 0, 100);
    records.timers[0] = None;
    records.walk(&mut wheel, 100);
    assert_eq!((records.expired.len(), wheel.entries()), (0, 0));
}

#[test]
fn back_and_forth_a_million_times_takes_no_more_memory() {
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
            records.looked_at < 6_000_000,
            "the collector looked at {}",
            records.looked_at
        );
        let deadline = wheel.now().get() + 5000;
        records.set(&mut wheel, 0, deadline);
        records.expired.clear();
        while !wheel.advance(wheel.now(), 1000, &mut records) {}
        records.walk(&mut wheel, deadline + 5000);
        assert_eq!(records.expired, [(0, deadline)]);
        assert_eq!(wheel.entries(), 0);
    }
}

#[test]
fn returning_to_the_same_deadline_leaves_no_second_entry_there() {
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
    records.walk(&mut wheel, 5000);
    assert_eq!(records.expired.len(), count as usize);
    assert!(records.expired.iter().all(|&(_, tick)| tick == 4050));
}

#[test]
fn a_crowd_that_moves_forward_again_and_again_stays_within_twice_its_number() {
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
    records.walk(&mut wheel, 5000);
    assert_eq!(records.expired.len(), count as usize);
    assert!(
        records
            .expired
            .iter()
            .all(|&(id, tick)| tick == 3000 - 70 * 39 - id % 50)
    );
}

#[test]
fn a_long_sleep_costs_what_is_in_the_wheel() {
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
            records.looked_at <= 3 * 300,
            "{} looks after {sleep} ticks",
            records.looked_at
        );
        records.walk(&mut wheel, 5 + sleep + 1000);
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
fn time_does_not_go_back() {
    let mut wheel = Wheel::new(Tick::new(100));
    let mut records = Records::new(1);
    records.set(&mut wheel, 0, 150);
    assert!(wheel.advance(Tick::new(50), usize::MAX, &mut records));
    assert_eq!(wheel.now(), Tick::new(100));
    records.walk(&mut wheel, 150);
    assert_eq!(records.expired, [(0, 150)]);
}

#[test]
fn a_mass_expiry_gives_its_memory_back() {
    let mut wheel = Wheel::new(Tick::new(0));
    let empty = wheel.memory();
    let mut records = Records::new(500_000);
    for id in 0..500_000 {
        records.set(&mut wheel, id, 9);
    }
    assert!(wheel.memory() - empty < 500_000 * 5);
    records.walk(&mut wheel, 9);
    assert_eq!(records.expired.len(), 500_000);
    assert!(
        wheel.memory() - empty < 100_000,
        "{} bytes",
        wheel.memory() - empty
    );
}
