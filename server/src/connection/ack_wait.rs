//! The wait until the client has taken everything that was sent to it, after it has ended its direction.
//!
//! The kernel would deliver it after a close as well, but for how long a client may hold that up is not in
//! our hands: its own timeout cuts a client that reads slowly, and never ends for one that repeats old
//! acknowledgements. So the descriptor stays open, and the shard asks how many bytes are left.

use std::time::Duration;

use tidewheel_codec::Time;

/// The first pause between two questions; each pause is twice the one before.
const PAUSE_MIN: Duration = Duration::from_millis(16);

/// The longest pause.
const PAUSE_MAX: Duration = Duration::from_millis(128);

/// The progress of the ack_wait to one client.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) struct AckWait {
    /// The end of the wait if the client takes nothing more.
    deadline: Time,
    /// Whether nothing moves the deadline.
    is_final: bool,
    /// Bytes that were left at the last question, if there was one.
    left: Option<u64>,
    pause: Duration,
    /// The time of the next question.
    next: Time,
}

/// The consequence of an answer.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) enum AckProgress {
    /// The client has everything.
    Delivered,
    /// It is asked again at [`AckWait::next`].
    Waits {
        /// Whether it has taken nothing since the last question: it may have reset the connection.
        is_stalled: bool,
    },
    /// It has taken nothing until the deadline.
    Expired,
}

impl AckWait {
    /// A ack_wait that begins at `now`. The client has until `deadline`; and longer while it takes bytes, unless
    /// `is_final`.
    pub(crate) fn new(now: Time, deadline: Time, is_final: bool) -> Self {
        Self {
            deadline,
            is_final,
            left: None,
            pause: PAUSE_MIN,
            next: deadline.min(now + PAUSE_MIN),
        }
    }

    /// The time of the next question.
    pub(crate) fn next(&self) -> Time {
        self.next
    }

    /// Notes that `left` bytes are left at `now`. If they are fewer than before, the client has until
    /// `close_by`.
    pub(crate) fn note_left(&mut self, left: u64, now: Time, close_by: Time) -> AckProgress {
        if left == 0 {
            return AckProgress::Delivered;
        }
        let before = self.left.replace(left);
        if before.is_some_and(|before| left < before) && !self.is_final {
            self.deadline = self.deadline.max(close_by);
        }
        if self.deadline <= now {
            return AckProgress::Expired;
        }
        self.next = self.deadline.min(now + self.pause);
        self.pause = (2 * self.pause).min(PAUSE_MAX);
        AckProgress::Waits {
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

    /// Asks whenever it is due about a client that has `left` bytes to take, until the wait is over. A client
    /// that takes bytes has a second more each time.
    fn ask(is_final: bool, left: impl Fn(u64) -> u64) -> (AckProgress, u64) {
        let mut ack_wait = AckWait::new(at(0), at(1000), is_final);
        let (mut now, mut last) = (ack_wait.next().as_millis(), None);
        loop {
            let progress = ack_wait.note_left(left(now), at(now), at(now + 1000));
            let AckProgress::Waits { is_stalled } = progress else {
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
    fn what_is_delivered_already_needs_no_second_question() {
        assert_eq!(ask(false, |_| 0), (AckProgress::Delivered, 16));
    }

    #[test]
    fn a_client_that_takes_nothing_has_until_the_deadline() {
        assert_eq!(ask(false, |_| 5), (AckProgress::Expired, 1000));
        assert_eq!(ask(true, |_| 5), (AckProgress::Expired, 1000));
    }

    #[test]
    fn a_client_that_takes_a_byte_now_and_then_has_longer() {
        let (progress, took) = ask(false, |now| 10_u64.saturating_sub(now / 900));
        assert_eq!(progress, AckProgress::Delivered);
        assert!((9000..=9128).contains(&took), "{took} ms");
        // It stops.
        let (progress, took) = ask(false, |now| 10 - (now / 900).min(4));
        assert_eq!(progress, AckProgress::Expired);
        assert!((4600..=4728).contains(&took), "{took} ms");
    }

    #[test]
    fn a_final_deadline_is_not_moved() {
        let slow = |now| 10_u64.saturating_sub(now / 900);
        assert_eq!(ask(true, slow), (AckProgress::Expired, 1000));
        let quick = |now| 10_u64.saturating_sub(now / 50);
        let (progress, took) = ask(true, quick);
        assert_eq!(progress, AckProgress::Delivered);
        assert!((500..=628).contains(&took), "{took} ms");
    }
}
