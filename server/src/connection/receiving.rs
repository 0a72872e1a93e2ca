//! The receive of a connection. At most one is in flight.
//!
//! ```text
//!  Idle, Starved, Paused ── Arm ──► Armed ── Switch ──► Switching
//!  Idle, Starved, Paused ── Fill ─► Filling
//!  Idle, Starved, Paused ── Starve ──► Starved
//!  Armed, Switching, Filling ── Complete ──► Idle
//!  Armed, Switching ── Pause ──► Pausing ── Complete ──► Paused, or PausedAtEnd
//!  Idle, Starved ── Pause ──► Paused
//!  PausedAtEnd ── ReachEnd ──► Idle
//! ```
//!
//! Filling is not paused, because it receives no more than the rest of its message. Leave changes a state
//! without a receive in flight into Idle.

/// The state of a connection's receive.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) struct Receiving {
    state: State,
}

#[derive(Clone, Copy, Debug, Eq, PartialEq)]
enum State {
    /// No receive is in flight.
    Idle,
    /// A receive into provided buffers is in flight.
    Armed,
    /// The receive is being cancelled, because a large message is arriving.
    Switching,
    /// A receive into the message that is arriving is in flight.
    Filling,
    /// The receive waits for a free buffer.
    Starved,
    /// The receive is being cancelled, because nothing more may be read for now.
    Pausing,
    /// No receive is in flight until the unread bytes are read.
    Paused,
    /// Paused, and the peer's FIN was received.
    PausedAtEnd,
}

/// An event of a receive.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) enum ReceiveEvent {
    /// A receive into provided buffers is submitted.
    Arm,
    /// No receive is submitted, because no buffer is free.
    Starve,
    /// A receive into the message that is arriving is submitted.
    Fill,
    /// A large message is arriving, and should be received into its own buffer.
    Switch,
    /// Nothing more may be read for now.
    Pause,
    /// The receive has completed for the last time; `at_end` if with the peer's FIN.
    Complete { at_end: bool },
    /// All bytes before the peer's FIN were read.
    ReachEnd,
    /// The connection receives nothing any more.
    Leave,
}

/// The action that an event requires.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) enum ReceiveAction {
    Nothing,
    /// Cancel the receive in flight.
    Cancel,
}

impl State {
    /// Computes the next state. This is the only place that changes the state of a receive.
    #[inline]
    fn on(self, event: ReceiveEvent) -> (Self, ReceiveAction) {
        use ReceiveAction::{Cancel, Nothing};
        use ReceiveEvent::{Arm, Complete, Fill, Leave, Pause, ReachEnd, Starve, Switch};
        match (self, event) {
            (Self::Idle | Self::Starved | Self::Paused, Arm) => (Self::Armed, Nothing),
            (Self::Idle | Self::Starved | Self::Paused, Starve) => (Self::Starved, Nothing),
            (Self::Idle | Self::Starved | Self::Paused, Fill) => (Self::Filling, Nothing),

            (Self::Armed, Switch) => (Self::Switching, Cancel),

            (Self::Armed, Pause) => (Self::Pausing, Cancel),
            (Self::Switching, Pause) => (Self::Pausing, Nothing),
            (Self::Idle | Self::Starved, Pause) => (Self::Paused, Nothing),
            // It receives no more than the rest of its message.
            (Self::Filling, Pause) => (Self::Filling, Nothing),
            (Self::Pausing | Self::Paused | Self::PausedAtEnd, Pause) => (self, Nothing),

            (Self::Armed | Self::Switching | Self::Filling, Complete { .. }) => {
                (Self::Idle, Nothing)
            }
            (Self::Pausing, Complete { at_end: false }) => (Self::Paused, Nothing),
            (Self::Pausing, Complete { at_end: true }) => (Self::PausedAtEnd, Nothing),

            (Self::PausedAtEnd, ReachEnd) => (Self::Idle, Nothing),

            (Self::Armed | Self::Switching | Self::Filling | Self::Pausing, Leave) => {
                (self, Nothing)
            }
            (Self::Idle | Self::Starved | Self::Paused | Self::PausedAtEnd, Leave) => {
                (Self::Idle, Nothing)
            }

            (
                Self::Armed | Self::Switching | Self::Filling | Self::Pausing | Self::PausedAtEnd,
                Arm | Starve | Fill,
            )
            | (
                Self::Idle
                | Self::Switching
                | Self::Filling
                | Self::Starved
                | Self::Pausing
                | Self::Paused
                | Self::PausedAtEnd,
                Switch,
            )
            | (Self::Idle | Self::Starved | Self::Paused | Self::PausedAtEnd, Complete { .. })
            | (
                Self::Idle
                | Self::Armed
                | Self::Switching
                | Self::Filling
                | Self::Starved
                | Self::Pausing
                | Self::Paused,
                ReachEnd,
            ) => unreachable!("{event:?} while {self:?}"),
        }
    }
}

impl Receiving {
    pub(crate) const fn new() -> Self {
        Self { state: State::Idle }
    }

    /// Changes the state. Returns the required action.
    ///
    /// # Panics
    /// If the event cannot happen in this state.
    #[inline]
    pub(crate) fn on(&mut self, event: ReceiveEvent) -> ReceiveAction {
        let (state, action) = self.state.on(event);
        self.state = state;
        action
    }

    /// Returns whether a receive is in flight.
    #[inline]
    pub(crate) fn is_under_way(self) -> bool {
        match self.state {
            State::Armed | State::Switching | State::Filling | State::Pausing => true,
            State::Idle | State::Starved | State::Paused | State::PausedAtEnd => false,
        }
    }

    /// Returns whether a receive into provided buffers is in flight, and is not being cancelled.
    #[inline]
    pub(crate) fn is_armed(self) -> bool {
        self.state == State::Armed
    }

    /// Returns whether the receive waits for a free buffer.
    pub(crate) fn is_starved(self) -> bool {
        self.state == State::Starved
    }

    /// Returns whether receiving waits until the unread bytes are read.
    #[inline]
    pub(crate) fn is_paused(self) -> bool {
        matches!(
            self.state,
            State::Pausing | State::Paused | State::PausedAtEnd
        )
    }

    /// Returns whether the peer's FIN was received behind unread bytes.
    #[inline]
    pub(crate) fn is_at_end(self) -> bool {
        self.state == State::PausedAtEnd
    }

    /// The condition under which a receive should be armed.
    #[inline]
    pub(crate) fn wants(self) -> Wants {
        match self.state {
            State::Idle => Wants::Now,
            State::Paused => Wants::WhenRead,
            State::Armed
            | State::Switching
            | State::Filling
            | State::Starved
            | State::Pausing
            | State::PausedAtEnd => Wants::Nothing,
        }
    }
}

/// The condition under which a receive should be armed.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) enum Wants {
    /// Not now: one is in flight, or waits for another event.
    Nothing,
    /// At once.
    Now,
    /// When the unread bytes are read, and the send queue has space for answers.
    WhenRead,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_event_leads_to_the_state_in_the_table() {
        use ReceiveAction::{Cancel, Nothing};
        use ReceiveEvent::{Arm, Complete, Fill, Leave, Pause, ReachEnd, Starve, Switch};
        use State::{Armed, Filling, Idle, Paused, PausedAtEnd, Pausing, Starved, Switching};
        const STATES: [State; 8] = [
            Idle,
            Armed,
            Switching,
            Filling,
            Starved,
            Pausing,
            Paused,
            PausedAtEnd,
        ];
        /// The next state and the action; `None` if the event cannot happen.
        type Next = Option<(State, ReceiveAction)>;
        const TABLE: [(ReceiveEvent, [Next; 8]); 9] = {
            const fn to(state: State) -> Next {
                Some((state, Nothing))
            }
            const NO: Next = None;
            #[rustfmt::skip]
            let table = [
                //          Idle         Armed                    Switching      Filling       Starved       Pausing          Paused        PausedAtEnd
                (Arm,      [to(Armed),   NO,                      NO,            NO,           to(Armed),    NO,              to(Armed),    NO]),
                (Starve,   [to(Starved), NO,                      NO,            NO,           to(Starved),  NO,              to(Starved),  NO]),
                (Fill,     [to(Filling), NO,                      NO,            NO,           to(Filling),  NO,              to(Filling),  NO]),
                (Switch,   [NO,          Some((Switching, Cancel)), NO,          NO,           NO,           NO,              NO,           NO]),
                (Pause,    [to(Paused),  Some((Pausing, Cancel)), to(Pausing),   to(Filling),  to(Paused),   to(Pausing),     to(Paused),   to(PausedAtEnd)]),
                (Complete { at_end: false },
                           [NO,          to(Idle),                to(Idle),      to(Idle),     NO,           to(Paused),      NO,           NO]),
                (Complete { at_end: true },
                           [NO,          to(Idle),                to(Idle),      to(Idle),     NO,           to(PausedAtEnd), NO,           NO]),
                (ReachEnd, [NO,          NO,                      NO,            NO,           NO,           NO,              NO,           to(Idle)]),
                (Leave,    [to(Idle),    to(Armed),               to(Switching), to(Filling),  to(Idle),     to(Pausing),     to(Idle),     to(Idle)]),
            ];
            table
        };
        for (event, row) in TABLE {
            for (state, expected) in STATES.into_iter().zip(row) {
                let found = std::panic::catch_unwind(|| state.on(event)).ok();
                assert_eq!(found, expected, "{event:?} while {state:?}");
            }
        }
    }
}
