//! The due times of the events of a run, fixed before the run.

use std::time::Duration;

use crate::measure::clock::Moment;

/// The due times of `count` events: all at `start`, or spread evenly over `window` from `start` on.
///
/// A due time depends only on the number of the event. A generator that falls behind does not
/// change it, so the delay of a late send is part of the latency.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Plan {
    start: Moment,
    window: Duration,
    count: u32,
}

impl Plan {
    /// Plans `count` events over `window`. With a window of zero all are due at `start`.
    pub(crate) const fn new(start: Moment, window: Duration, count: u32) -> Self {
        Self {
            start,
            window,
            count,
        }
    }

    /// Returns the due time of the first event.
    pub(crate) const fn start(&self) -> Moment {
        self.start
    }

    /// Returns the number of events.
    pub(crate) const fn count(&self) -> u32 {
        self.count
    }

    /// Returns the due time of event `index`.
    ///
    /// # Panics
    /// If `index` is not below the number of events.
    pub(crate) fn due(&self, index: u32) -> Moment {
        assert!(index < self.count, "event {index} of {}", self.count);
        let share = self.window.as_nanos() * u128::from(index) / u128::from(self.count);
        self.start + Duration::from_nanos(u64::try_from(share).unwrap_or(u64::MAX))
    }

    /// Returns how many events are due at `now`. They are the events of the lowest numbers.
    pub(crate) fn due_by(&self, now: Moment) -> u32 {
        if self.count == 0 || now < self.start {
            return 0;
        }
        let passed = now.since(self.start).as_nanos();
        if passed >= self.window.as_nanos() {
            return self.count;
        }
        // The greatest index whose share of the window, rounded down, has passed, plus one.
        let events = ((passed + 1) * u128::from(self.count)).div_ceil(self.window.as_nanos());
        u32::try_from(events).map_or(self.count, |events| events.min(self.count))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const START: Moment = Moment::from_nanos(1_000);

    #[test]
    fn without_a_window_all_events_are_due_at_the_start() {
        let plan = Plan::new(START, Duration::ZERO, 10_000);
        assert_eq!(plan.due(0), START);
        assert_eq!(plan.due(9_999), START);
        assert_eq!(plan.due_by(Moment::from_nanos(999)), 0);
        assert_eq!(plan.due_by(START), 10_000);
    }

    #[test]
    fn a_window_spreads_the_events_evenly() {
        let plan = Plan::new(START, Duration::from_nanos(100), 4);
        let due: Vec<_> = (0..4).map(|index| plan.due(index)).collect();
        assert_eq!(due, [1000, 1025, 1050, 1075].map(Moment::from_nanos));
    }

    #[test]
    fn the_count_of_due_events_agrees_with_each_due_time() {
        for (window, count) in [(0, 3), (7, 3), (100, 7), (100, 1), (5, 50), (1_000, 999)] {
            let plan = Plan::new(START, Duration::from_nanos(window), count);
            for now in (900..2_200).map(Moment::from_nanos) {
                let naive = (0..count).filter(|&index| plan.due(index) <= now).count();
                assert_eq!(plan.due_by(now) as usize, naive, "{window} {count} {now:?}");
            }
        }
    }

    #[test]
    fn an_empty_plan_has_nothing_due() {
        let plan = Plan::new(START, Duration::from_secs(1), 0);
        assert_eq!(plan.due_by(Moment::from_nanos(u64::MAX)), 0);
    }
}
