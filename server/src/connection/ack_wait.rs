//! The wait until a client that has ended its direction has acknowledged everything that was sent to it.
//!
//! The kernel would send the rest also after a close, but with timeouts that the server does not control: the
//! kernel's timeout cuts off a client that reads slowly, and never expires for a client that repeats old
//! acknowledgements. So the descriptor stays open, and the shard queries the number of unacknowledged bytes.

use std::time::Duration;

use tidewheel_codec::Time;

/// Time until the second query. Each later interval is twice as long as the one before.
const PAUSE_MIN: Duration = Duration::from_millis(16);

/// Longest interval between two queries.
const PAUSE_MAX: Duration = Duration::from_millis(128);

/// The state of the wait for one client.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) struct AckWait {
    /// End of the wait if the client acknowledges nothing more.
    deadline: Time,
    /// Whether the deadline is never extended.
    is_final: bool,
    /// Unacknowledged bytes at the last query, if there was one.
    left: Option<u64>,
    pause: Duration,
    /// Time of the next query.
    next: Time,
}

/// The result of a query.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) enum AckStatus {
    /// Everything is acknowledged.
    Delivered,
    /// The next query follows at [`AckWait::next`].
    Waits {
        /// Whether nothing was acknowledged since the last query. The client may have reset the connection.
        is_stalled: bool,
    },
    /// The deadline has passed. Unless it is final, nothing was acknowledged since it was set.
    Expired,
}

impl AckWait {
    /// Begins a wait at `now` until `deadline`. Unless `is_final`, the deadline is extended while the client
    /// acknowledges bytes.
    pub(crate) fn new(now: Time, deadline: Time, is_final: bool) -> Self {
        Self {
            deadline,
            is_final,
            left: None,
            pause: PAUSE_MIN,
            next: deadline.min(now + PAUSE_MIN),
        }
    }

    /// Time of the next query.
    pub(crate) fn next(&self) -> Time {
        self.next
    }

    /// Notes that `left` bytes are unacknowledged at `now`. If they are fewer than before, extends the deadline
    /// to `close_by`.
    pub(crate) fn note_left(&mut self, left: u64, now: Time, close_by: Time) -> AckStatus {
        if left == 0 {
            return AckStatus::Delivered;
        }
        let before = self.left.replace(left);
        if before.is_some_and(|before| left < before) && !self.is_final {
            self.deadline = self.deadline.max(close_by);
        }
        if self.deadline <= now {
            return AckStatus::Expired;
        }
        self.next = self.deadline.min(now + self.pause);
        self.pause = (2 * self.pause).min(PAUSE_MAX);
        AckStatus::Waits {
            is_stalled: before == Some(left),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const fn at(millis: u64) -> Time {
        Time::from_millis(millis)
    }

    /// Makes each query when it is due, until the wait ends. `left` gives the unacknowledged bytes at a time in
    /// milliseconds. A client that acknowledges bytes gets one more second each time.
    fn ask(is_final: bool, left: impl Fn(u64) -> u64) -> (AckStatus, u64) {
        let mut ack_wait = AckWait::new(at(0), at(1000), is_final);
        let (mut now, mut last) = (ack_wait.next().as_millis(), None);
        loop {
            let progress = ack_wait.note_left(left(now), at(now), at(now + 1000));
            let AckStatus::Waits { is_stalled } = progress else {
                return (progress, now);
            };
            assert_eq!(is_stalled, last == Some(left(now)));
            last = Some(left(now));
            let next = ack_wait.next().as_millis();
            assert!(next > now && next - now <= 128, "{now} ms, then {next} ms");
            now = next;
        }
    }

    #[test]
    fn a_client_that_has_acknowledged_everything_needs_one_query() {
        assert_eq!(ask(false, |_| 0), (AckStatus::Delivered, 16));
    }

    #[test]
    fn a_client_that_acknowledges_nothing_has_until_the_deadline() {
        assert_eq!(ask(false, |_| 5), (AckStatus::Expired, 1000));
        assert_eq!(ask(true, |_| 5), (AckStatus::Expired, 1000));
    }

    #[test]
    fn a_client_that_acknowledges_a_byte_now_and_then_has_longer() {
        let (progress, took) = ask(false, |now| 10_u64.saturating_sub(now / 900));
        assert_eq!(progress, AckStatus::Delivered);
        assert!((9000..=9128).contains(&took), "{took} ms");
        // The client stops.
        let (progress, took) = ask(false, |now| 10 - (now / 900).min(4));
        assert_eq!(progress, AckStatus::Expired);
        assert!((4600..=4728).contains(&took), "{took} ms");
    }

    #[test]
    fn a_final_deadline_is_not_extended() {
        let slow = |now| 10_u64.saturating_sub(now / 900);
        assert_eq!(ask(true, slow), (AckStatus::Expired, 1000));
        let quick = |now| 10_u64.saturating_sub(now / 50);
        let (progress, took) = ask(true, quick);
        assert_eq!(progress, AckStatus::Delivered);
        assert!((500..=628).contains(&took), "{took} ms");
    }
}
