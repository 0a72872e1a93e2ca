//! The send of a connection, and our FIN behind the last byte. At most one send is in flight.
//!
//! ```text
//!            ┌───────────── everything was taken ─────────────┐
//!            ▼                                                │
//!   Idle ── bytes are queued ──► Silent, or Reported if its end is awaited
//!    ▲                                                        │
//!    │                                                        ▼ the send was short
//!    └── the socket is writable ── Polling ◄── flush ── Stalled
//! ```
//!
//! FIN follows the last byte: with the last send, or by itself if nothing is queued.
//!
//! ```text
//!   No ── the connection ends ──► Wanted ── the last byte is sent, or was ──► InFlight ── complete ──► Done
//!                                   ▲                                            │
//!                                   └────── the send before it was short ────────┘
//! ```
//!
//! `No` and `Wanted` become `Done` when the TCP connection has ended.

use crate::ring::SendMode;

/// The state of a connection's send and FIN.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) struct Sending {
    flight: Flight,
    fin: Fin,
}

/// The state of the send.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
enum Flight {
    /// No send is in flight.
    Idle,
    /// No send is in flight. The last one was short, so the socket has to be polled.
    Stalled,
    /// The socket is being polled until it is writable.
    Polling,
    /// A send that completes only if it was short. If it has not completed at the next reap, it took
    /// everything.
    Silent,
    /// A send that completes in any case.
    Reported,
}

/// The state of our FIN.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
enum Fin {
    /// Not requested.
    No,
    /// To be sent behind the last queued byte.
    Wanted,
    /// Submitted.
    InFlight,
    /// Sent, or the TCP connection has ended.
    Done,
}

/// An event of a send or of a FIN.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) enum SendEvent {
    /// FIN has to follow the queue.
    WantFin,
    /// The turn ends, or the connection ends.
    Flush(Queued),
    /// A silent send has ended without a completion, so it took everything.
    Retire,
    /// A send has completed.
    Settle(SendResult),
    /// The socket is writable, or has failed.
    Writable,
    /// The FIN has completed.
    FinComplete(FinResult),
    /// The TCP connection has ended, so no FIN can be sent.
    PeerGone,
}

/// The content of the send queue when it is flushed.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) enum Queued {
    Nothing,
    Bytes {
        /// Whether one send takes all of it.
        is_whole: bool,
        /// Whether the end of the send is awaited.
        is_awaited: bool,
    },
}

/// The result of a send.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) enum SendResult {
    /// The socket took everything.
    Whole,
    /// The socket took a part.
    Short,
    /// The TCP connection has ended.
    Failed,
}

/// The result of a FIN.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) enum FinResult {
    /// It was sent; or the TCP connection has ended, which the receive reports.
    Done,
    /// It was linked to a send that was short.
    Cancelled,
    /// The ring had no descriptor for it. The ring uses another method for the next one.
    Again,
}

/// The action that an event requires.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) enum SendAction {
    Nothing,
    /// Send the queue, and FIN behind it if `finish`.
    Send {
        mode: SendMode,
        finish: bool,
    },
    /// Send FIN.
    Finish,
    /// Poll the socket until it is writable.
    Poll,
}

impl Sending {
    pub(crate) const fn new() -> Self {
        Self {
            flight: Flight::Idle,
            fin: Fin::No,
        }
    }

    /// Changes the state. Returns the required action.
    ///
    /// # Panics
    /// If the event cannot happen in this state.
    // Each caller passes a constant event, so inlining removes most of the table. The compiler inlines it only
    // if forced.
    #[inline(always)]
    pub(crate) fn on(&mut self, event: SendEvent) -> SendAction {
        let (next, action) = self.next(event);
        *self = next;
        action
    }

    /// Computes the next state. This is the only place that changes the states of a send and a FIN.
    #[inline(always)]
    fn next(self, event: SendEvent) -> (Self, SendAction) {
        let Self { flight, fin } = self;
        let (flight, fin, action) = match event {
            SendEvent::WantFin => match fin {
                Fin::No => (flight, Fin::Wanted, SendAction::Nothing),
                Fin::Wanted | Fin::InFlight | Fin::Done => (flight, fin, SendAction::Nothing),
            },
            SendEvent::Flush(queued) => match (flight, queued, fin) {
                (Flight::Polling | Flight::Silent | Flight::Reported, _, _) => {
                    (flight, fin, SendAction::Nothing)
                }
                (Flight::Stalled, _, _) => (Flight::Polling, fin, SendAction::Poll),
                (Flight::Idle, Queued::Nothing, Fin::Wanted) => {
                    (flight, Fin::InFlight, SendAction::Finish)
                }
                (Flight::Idle, Queued::Nothing, Fin::No | Fin::InFlight | Fin::Done) => {
                    (flight, fin, SendAction::Nothing)
                }
                (
                    Flight::Idle,
                    Queued::Bytes {
                        is_whole,
                        is_awaited,
                    },
                    _,
                ) => {
                    let (flight, mode) = match is_awaited || !is_whole {
                        true => (Flight::Reported, SendMode::Reported),
                        false => (Flight::Silent, SendMode::Silent),
                    };
                    let finish = is_whole && fin == Fin::Wanted;
                    let fin = if finish { Fin::InFlight } else { fin };
                    (flight, fin, SendAction::Send { mode, finish })
                }
            },
            SendEvent::Retire => match flight {
                Flight::Silent => (Flight::Idle, fin, SendAction::Nothing),
                Flight::Idle | Flight::Stalled | Flight::Polling | Flight::Reported => {
                    self.refuse(event)
                }
            },
            SendEvent::Settle(result) => match flight {
                Flight::Silent | Flight::Reported => {
                    let flight = match result {
                        SendResult::Whole | SendResult::Failed => Flight::Idle,
                        SendResult::Short => Flight::Stalled,
                    };
                    let fin = match (fin, result) {
                        // It was linked to this send, and is cancelled.
                        (Fin::InFlight, SendResult::Short | SendResult::Failed) => Fin::Wanted,
                        (Fin::InFlight, SendResult::Whole)
                        | (Fin::No | Fin::Wanted | Fin::Done, _) => fin,
                    };
                    (flight, fin, SendAction::Nothing)
                }
                Flight::Idle | Flight::Stalled | Flight::Polling => self.refuse(event),
            },
            SendEvent::Writable => match flight {
                Flight::Polling => (Flight::Idle, fin, SendAction::Nothing),
                Flight::Idle | Flight::Stalled | Flight::Silent | Flight::Reported => {
                    self.refuse(event)
                }
            },
            SendEvent::FinComplete(result) => match (fin, result) {
                (Fin::InFlight, FinResult::Done) => (flight, Fin::Done, SendAction::Nothing),
                (Fin::InFlight, FinResult::Again) => (flight, Fin::Wanted, SendAction::Nothing),
                (Fin::InFlight, FinResult::Cancelled) => (flight, fin, SendAction::Nothing),
                // The result of the send that it was linked to has changed the state already.
                (Fin::No | Fin::Wanted | Fin::Done, _) => (flight, fin, SendAction::Nothing),
            },
            SendEvent::PeerGone => match fin {
                Fin::InFlight => (flight, fin, SendAction::Nothing),
                Fin::No | Fin::Wanted | Fin::Done => (flight, Fin::Done, SendAction::Nothing),
            },
        };
        (Self { flight, fin }, action)
    }

    #[cold]
    fn refuse(self, event: SendEvent) -> ! {
        unreachable!("{event:?} while {self:?}")
    }

    /// Returns whether a send or a poll is in flight.
    #[inline]
    pub(crate) fn is_under_way(self) -> bool {
        match self.flight {
            Flight::Silent | Flight::Reported | Flight::Polling => true,
            Flight::Idle | Flight::Stalled => false,
        }
    }

    /// Returns whether a silent send is in flight.
    #[inline]
    pub(crate) fn is_silent(self) -> bool {
        self.flight == Flight::Silent
    }

    /// Returns whether the socket is being polled.
    #[inline]
    pub(crate) fn is_polling(self) -> bool {
        self.flight == Flight::Polling
    }

    /// Returns whether no send is in flight, and no FIN is to follow.
    pub(crate) fn is_over(self) -> bool {
        self.flight == Flight::Idle && matches!(self.fin, Fin::No | Fin::Done)
    }

    /// Returns whether FIN has to follow the queue.
    #[inline]
    pub(crate) fn wants_fin(self) -> bool {
        self.fin == Fin::Wanted
    }

    /// Returns whether our FIN is in flight.
    #[inline]
    pub(crate) fn is_fin_under_way(self) -> bool {
        self.fin == Fin::InFlight
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const FLIGHTS: [Flight; 5] = [
        Flight::Idle,
        Flight::Stalled,
        Flight::Polling,
        Flight::Silent,
        Flight::Reported,
    ];
    const FINS: [Fin; 4] = [Fin::No, Fin::Wanted, Fin::InFlight, Fin::Done];

    fn next(flight: Flight, fin: Fin, event: SendEvent) -> Option<(Flight, Fin, SendAction)> {
        let next = || Sending { flight, fin }.next(event);
        let (Sending { flight, fin }, action) = std::panic::catch_unwind(next).ok()?;
        Some((flight, fin, action))
    }

    #[test]
    fn each_event_leads_a_send_to_the_state_in_the_table() {
        use Flight::{Idle, Polling, Reported, Silent, Stalled};
        let bytes = |is_whole, is_awaited| {
            SendEvent::Flush(Queued::Bytes {
                is_whole,
                is_awaited,
            })
        };
        #[rustfmt::skip]
        let table = [
            //                                  Idle           Stalled        Polling        Silent         Reported
            (SendEvent::Flush(Queued::Nothing), [Some(Idle),   Some(Polling), Some(Polling), Some(Silent),  Some(Reported)]),
            (bytes(true, false),                [Some(Silent), Some(Polling), Some(Polling), Some(Silent),  Some(Reported)]),
            (bytes(true, true),                 [Some(Reported),   Some(Polling), Some(Polling), Some(Silent),  Some(Reported)]),
            (bytes(false, false),               [Some(Reported),   Some(Polling), Some(Polling), Some(Silent),  Some(Reported)]),
            (bytes(false, true),                [Some(Reported),   Some(Polling), Some(Polling), Some(Silent),  Some(Reported)]),
            (SendEvent::Retire,                 [None,         None,          None,          Some(Idle),    None]),
            (SendEvent::Settle(SendResult::Whole),  [None,     None,          None,          Some(Idle),    Some(Idle)]),
            (SendEvent::Settle(SendResult::Short),  [None,     None,          None,          Some(Stalled), Some(Stalled)]),
            (SendEvent::Settle(SendResult::Failed), [None,     None,          None,          Some(Idle),    Some(Idle)]),
            (SendEvent::Writable,               [None,         None,          Some(Idle),    None,          None]),
            (SendEvent::WantFin,                FLIGHTS.map(Some)),
            (SendEvent::PeerGone,               FLIGHTS.map(Some)),
            (SendEvent::FinComplete(FinResult::Done),      FLIGHTS.map(Some)),
            (SendEvent::FinComplete(FinResult::Cancelled), FLIGHTS.map(Some)),
            (SendEvent::FinComplete(FinResult::Again),     FLIGHTS.map(Some)),
        ];
        for (event, row) in table {
            for fin in FINS {
                for (flight, expected) in FLIGHTS.into_iter().zip(row) {
                    let found = next(flight, fin, event).map(|(flight, ..)| flight);
                    assert_eq!(found, expected, "{event:?} while {flight:?}, {fin:?}");
                }
            }
        }
    }

    #[test]
    fn each_event_leads_a_fin_to_the_state_in_the_table() {
        use Fin::{Done, InFlight, No, Wanted};
        let bytes = |is_whole| {
            SendEvent::Flush(Queued::Bytes {
                is_whole,
                is_awaited: false,
            })
        };
        #[rustfmt::skip]
        let table = [
            //                                                     No      Wanted    InFlight  Done
            (Flight::Idle,   SendEvent::WantFin,                  [Wanted, Wanted,   InFlight, Done]),
            (Flight::Reported,   SendEvent::WantFin,                  [Wanted, Wanted,   InFlight, Done]),
            (Flight::Idle,   SendEvent::Flush(Queued::Nothing),   [No,     InFlight, InFlight, Done]),
            (Flight::Idle,   bytes(true),                         [No,     InFlight, InFlight, Done]),
            (Flight::Idle,   bytes(false),                        [No,     Wanted,   InFlight, Done]),
            (Flight::Reported,   bytes(true),                         [No,     Wanted,   InFlight, Done]),
            (Flight::Stalled, bytes(true),                        [No,     Wanted,   InFlight, Done]),
            (Flight::Silent, SendEvent::Retire,                   [No,     Wanted,   InFlight, Done]),
            (Flight::Reported,   SendEvent::Settle(SendResult::Whole),  [No,   Wanted,   InFlight, Done]),
            (Flight::Reported,   SendEvent::Settle(SendResult::Short),  [No,   Wanted,   Wanted,   Done]),
            (Flight::Reported,   SendEvent::Settle(SendResult::Failed), [No,   Wanted,   Wanted,   Done]),
            (Flight::Silent, SendEvent::Settle(SendResult::Short),  [No,   Wanted,   Wanted,   Done]),
            (Flight::Polling, SendEvent::Writable,                [No,     Wanted,   InFlight, Done]),
            (Flight::Idle,   SendEvent::FinComplete(FinResult::Done),      [No, Wanted, Done,     Done]),
            (Flight::Idle,   SendEvent::FinComplete(FinResult::Cancelled), [No, Wanted, InFlight, Done]),
            (Flight::Idle,   SendEvent::FinComplete(FinResult::Again),     [No, Wanted, Wanted,   Done]),
            (Flight::Idle,   SendEvent::PeerGone,                 [Done,   Done,     InFlight, Done]),
        ];
        for (flight, event, row) in table {
            for (fin, expected) in FINS.into_iter().zip(row) {
                let found = next(flight, fin, event).map(|(_, fin, _)| fin);
                assert_eq!(found, Some(expected), "{event:?} while {flight:?}, {fin:?}");
            }
        }
    }

    #[test]
    fn a_flush_submits_the_send_and_the_fin_of_the_table() {
        let bytes = |is_whole, is_awaited| {
            SendEvent::Flush(Queued::Bytes {
                is_whole,
                is_awaited,
            })
        };
        let send = |mode, finish| SendAction::Send { mode, finish };
        let (silent, reported) = (SendMode::Silent, SendMode::Reported);
        for (flight, fin, event, expected) in [
            (
                Flight::Idle,
                Fin::No,
                bytes(true, false),
                send(silent, false),
            ),
            (
                Flight::Idle,
                Fin::No,
                bytes(true, true),
                send(reported, false),
            ),
            (
                Flight::Idle,
                Fin::No,
                bytes(false, false),
                send(reported, false),
            ),
            (
                Flight::Idle,
                Fin::Wanted,
                bytes(true, false),
                send(silent, true),
            ),
            (
                Flight::Idle,
                Fin::Wanted,
                bytes(true, true),
                send(reported, true),
            ),
            (
                Flight::Idle,
                Fin::Wanted,
                bytes(false, true),
                send(reported, false),
            ),
            (
                Flight::Idle,
                Fin::Wanted,
                SendEvent::Flush(Queued::Nothing),
                SendAction::Finish,
            ),
            (
                Flight::Idle,
                Fin::Done,
                SendEvent::Flush(Queued::Nothing),
                SendAction::Nothing,
            ),
            (
                Flight::Stalled,
                Fin::Wanted,
                bytes(true, true),
                SendAction::Poll,
            ),
            (
                Flight::Polling,
                Fin::Wanted,
                bytes(true, true),
                SendAction::Nothing,
            ),
            (
                Flight::Silent,
                Fin::Wanted,
                bytes(true, true),
                SendAction::Nothing,
            ),
        ] {
            let found = next(flight, fin, event).map(|(.., action)| action);
            assert_eq!(found, Some(expected), "{event:?} while {flight:?}, {fin:?}");
        }
    }
}
