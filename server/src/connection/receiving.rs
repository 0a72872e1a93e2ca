//! The receive of a connection: at most one is with the kernel.
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
//! Filling is not paused: it takes no more than its message has room for. Leave changes a state with no
//! receive under way into Idle.

/// The state of a connection's receive.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) struct Receiving {
    state: State,
}

#[derive(Clone, Copy, Debug, Eq, PartialEq)]
enum State {
    /// None is under way: it was not armed yet, or is over.
    Idle,
    /// The kernel has one into provided buffers.
    Armed,
    /// It is being cancelled, because a large message is arriving.
    Switching,
    /// The kernel has one into the message that is arriving.
    Filling,
    /// It ended for want of a buffer, and is armed again when there is one.
    Starved,
    /// It is being cancelled, because nothing more is to be read for now.
    Pausing,
    /// None is under way until what was received is read.
    Paused,
    /// The same, and the peer's FIN was received.
    PausedAtEnd,
}

/// An event of a receive.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) enum ReceiveEvent {
    /// A receive into provided buffers is submitted.
    Arm,
    /// None is, because no buffer is free.
    Starve,
    /// A receive into the message that is arriving is submitted.
    Fill,
    /// Much of a message is to come, and had better be received into it.
    Switch,
    /// Nothing more is to be read for now.
    Pause,
    /// The receive has completed for the last time; `at_end` with the peer's FIN.
    Complete { at_end: bool },
    /// Everything that was received before the peer's FIN has been read.
    ReachEnd,
    /// The connection leaves: nothing is received any more.
    Leave,
}

/// The action that an event asks for.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) enum ReceiveAction {
    Nothing,
    /// The receive under way is to be cancelled.
    Cancel,
}

impl State {
    /// The one place where a receive changes its state.
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
            // Its message was there before the pause.
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

    /// Changes the state by an event; gives the action that it asks for.
    ///
    /// # Panics
    /// If the event cannot happen in this state.
    #[inline]
    pub(crate) fn on(&mut self, event: ReceiveEvent) -> ReceiveAction {
        let (state, action) = self.state.on(event);
        self.state = state;
        action
    }

    /// Whether a receive has yet to complete for the last time.
    #[inline]
    pub(crate) fn is_under_way(self) -> bool {
        match self.state {
            State::Armed | State::Switching | State::Filling | State::Pausing => true,
            State::Idle | State::Starved | State::Paused | State::PausedAtEnd => false,
        }
    }

    /// Whether the kernel has one into provided buffers that nobody has cancelled.
    #[inline]
    pub(crate) fn is_armed(self) -> bool {
        self.state == State::Armed
    }

    /// Whether it waits for a buffer.
    pub(crate) fn is_starved(self) -> bool {
        self.state == State::Starved
    }

    /// Whether receiving goes on only when what was received is read.
    #[inline]
    pub(crate) fn is_paused(self) -> bool {
        matches!(
            self.state,
            State::Pausing | State::Paused | State::PausedAtEnd
        )
    }

    /// Whether the peer's FIN was received behind what is yet to be read.
    #[inline]
    pub(crate) fn is_at_end(self) -> bool {
        self.state == State::PausedAtEnd
    }

    /// Whether one may be armed: at once, or once nothing keeps the connection from reading.
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

/// Whether a receive is to be armed.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) enum Wants {
    /// One is under way, or waits for something else.
    Nothing,
    /// At once.
    Now,
    /// When what was received is read, and there is room for answers.
    WhenRead,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_event_leads_where_the_table_says() {
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
        /// Where an event leads; `None` if it cannot happen.
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
