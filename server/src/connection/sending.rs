//! The send of a connection, of which one is under way at most, and our FIN behind the last one.
//!
//! ```text
//!            ┌───────────── everything was taken ─────────────┐
//!            ▼                                                │
//!   Idle ── bytes are queued ──► Silent, or Told if something follows its end
//!    ▲                                                        │
//!    │                                                        ▼ not everything was taken
//!    └── it may take bytes ── Polling ◄── the turn ends ── Stalled
//! ```
//!
//! FIN goes behind the last byte: with the last send, or by itself if nothing is queued.
//!
//! ```text
//!   No ── the connection is to end ──► Wanted ── the last byte is sent, or was ──► InFlight ── complete ──► Done
//!                                        ▲                                            │
//!                                        └────── the send in front was not whole ─────┘
//! ```
//!
//! `No` and `Wanted` become `Done` when the connection has ended underneath.

use crate::ring::SendMode;

/// The state of a connection's send, and of our FIN.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) struct Sending {
    flight: Flight,
    fin: Fin,
}

/// The state of the send.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
enum Flight {
    /// None is under way.
    Idle,
    /// None is, but the last one was short: the socket is to be waited for.
    Stalled,
    /// None is until the socket takes bytes again.
    Polling,
    /// One that completes only if it was short; else it is over with the next look at the ring.
    Silent,
    /// One that completes in any case.
    Told,
}

/// The state of our FIN.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
enum Fin {
    /// Not due.
    No,
    /// Due behind the last byte that is queued.
    Wanted,
    /// Submitted.
    InFlight,
    /// Sent; or there is nobody left to send it to.
    Done,
}

/// An event of a send or of a FIN.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) enum SendEvent {
    /// FIN is to follow what is queued.
    WantFin,
    /// The turn ends, or the connection does.
    Flush(Queued),
    /// A silent send of which nothing was heard has taken everything. One that has completed is not silent
    /// any more.
    Retire,
    /// A send has completed.
    Settle(SendResult),
    /// The socket may take bytes again.
    Writable,
    /// The FIN has completed.
    FinComplete(FinResult),
    /// The connection has ended underneath: nobody is left to send FIN to.
    PeerGone,
}

/// The content of the send queue when it is flushed.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) enum Queued {
    Nothing,
    Bytes {
        /// Whether one send takes all of it.
        is_whole: bool,
        /// Whether something is to follow when the send is over.
        is_awaited: bool,
    },
}

/// The result of a send.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) enum SendResult {
    /// The socket took all of it.
    Whole,
    /// It took less.
    Short,
    /// The connection has ended underneath.
    Failed,
}

/// The result of a FIN.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) enum FinResult {
    /// It is out, or has found the peer gone: what is under way tells of that.
    Done,
    /// It was linked to a send that was short.
    Cancelled,
    /// There was no descriptor to send it by; the ring takes another way now.
    Again,
}

/// The action that an event asks for.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) enum SendAction {
    Nothing,
    /// Send what is queued; FIN follows it if `finish`.
    Send {
        mode: SendMode,
        finish: bool,
    },
    /// Send FIN.
    Finish,
    /// Wait until the socket takes bytes again.
    Poll,
}

impl Sending {
    pub(crate) const fn new() -> Self {
        Self {
            flight: Flight::Idle,
            fin: Fin::No,
        }
    }

    /// Changes the state by an event; gives the action that it asks for.
    ///
    /// # Panics
    /// If the event cannot happen in this state.
    // The caller knows the event, so little is left of the table. The compiler inlines it only if told to.
    #[inline(always)]
    pub(crate) fn on(&mut self, event: SendEvent) -> SendAction {
        let (next, action) = self.next(event);
        *self = next;
        action
    }

    /// The one place where a send and a FIN change their states.
    #[inline(always)]
    fn next(self, event: SendEvent) -> (Self, SendAction) {
        let Self { flight, fin } = self;
        let (flight, fin, action) = match event {
            SendEvent::WantFin => match fin {
                Fin::No => (flight, Fin::Wanted, SendAction::Nothing),
                Fin::Wanted | Fin::InFlight | Fin::Done => (flight, fin, SendAction::Nothing),
            },
            SendEvent::Flush(queued) => match (flight, queued, fin) {
                (Flight::Polling | Flight::Silent | Flight::Told, _, _) => {
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
                        true => (Flight::Told, SendMode::Told),
                        false => (Flight::Silent, SendMode::Silent),
                    };
                    let finish = is_whole && fin == Fin::Wanted;
                    let fin = if finish { Fin::InFlight } else { fin };
                    (flight, fin, SendAction::Send { mode, finish })
                }
            },
            SendEvent::Retire => match flight {
                Flight::Silent => (Flight::Idle, fin, SendAction::Nothing),
                Flight::Idle | Flight::Stalled | Flight::Polling | Flight::Told => {
                    self.refuse(event)
                }
            },
            SendEvent::Settle(result) => match flight {
                Flight::Silent | Flight::Told => {
                    let flight = match result {
                        SendResult::Whole | SendResult::Failed => Flight::Idle,
                        SendResult::Short => Flight::Stalled,
                    };
                    let fin = match (fin, result) {
                        // It was linked to this send, and is not done.
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
                Flight::Idle | Flight::Stalled | Flight::Silent | Flight::Told => {
                    self.refuse(event)
                }
            },
            SendEvent::FinComplete(result) => match (fin, result) {
                (Fin::InFlight, FinResult::Done) => (flight, Fin::Done, SendAction::Nothing),
                (Fin::InFlight, FinResult::Again) => (flight, Fin::Wanted, SendAction::Nothing),
                (Fin::InFlight, FinResult::Cancelled) => (flight, fin, SendAction::Nothing),
                // The send that it was linked to has told of it.
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

    /// Whether a send, or a wait for one, has yet to end.
    #[inline]
    pub(crate) fn is_under_way(self) -> bool {
        match self.flight {
            Flight::Silent | Flight::Told | Flight::Polling => true,
            Flight::Idle | Flight::Stalled => false,
        }
    }

    /// Whether a silent send is under way.
    #[inline]
    pub(crate) fn is_silent(self) -> bool {
        self.flight == Flight::Silent
    }

    /// Whether the socket is being waited for.
    #[inline]
    pub(crate) fn is_polling(self) -> bool {
        self.flight == Flight::Polling
    }

    /// Whether nothing is under way, and nothing more is to follow.
    pub(crate) fn is_over(self) -> bool {
        self.flight == Flight::Idle && matches!(self.fin, Fin::No | Fin::Done)
    }

    /// Whether FIN is to follow what is queued.
    #[inline]
    pub(crate) fn wants_fin(self) -> bool {
        self.fin == Fin::Wanted
    }

    /// Whether our FIN has yet to complete.
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
        Flight::Told,
    ];
    const FINS: [Fin; 4] = [Fin::No, Fin::Wanted, Fin::InFlight, Fin::Done];

    fn next(flight: Flight, fin: Fin, event: SendEvent) -> Option<(Flight, Fin, SendAction)> {
        let next = || Sending { flight, fin }.next(event);
        let (Sending { flight, fin }, action) = std::panic::catch_unwind(next).ok()?;
        Some((flight, fin, action))
    }

    #[test]
    fn each_event_leads_a_send_where_the_table_says() {
        use Flight::{Idle, Polling, Silent, Stalled, Told};
        let bytes = |is_whole, is_awaited| {
            SendEvent::Flush(Queued::Bytes {
                is_whole,
                is_awaited,
            })
        };
        #[rustfmt::skip]
        let table = [
            //                                  Idle           Stalled        Polling        Silent         Told
            (SendEvent::Flush(Queued::Nothing), [Some(Idle),   Some(Polling), Some(Polling), Some(Silent),  Some(Told)]),
            (bytes(true, false),                [Some(Silent), Some(Polling), Some(Polling), Some(Silent),  Some(Told)]),
            (bytes(true, true),                 [Some(Told),   Some(Polling), Some(Polling), Some(Silent),  Some(Told)]),
            (bytes(false, false),               [Some(Told),   Some(Polling), Some(Polling), Some(Silent),  Some(Told)]),
            (bytes(false, true),                [Some(Told),   Some(Polling), Some(Polling), Some(Silent),  Some(Told)]),
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
    fn each_event_leads_a_fin_where_the_table_says() {
        use Fin::{Done, No, InFlight, Wanted};
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
            (Flight::Told,   SendEvent::WantFin,                  [Wanted, Wanted,   InFlight, Done]),
            (Flight::Idle,   SendEvent::Flush(Queued::Nothing),   [No,     InFlight, InFlight, Done]),
            (Flight::Idle,   bytes(true),                         [No,     InFlight, InFlight, Done]),
            (Flight::Idle,   bytes(false),                        [No,     Wanted,   InFlight, Done]),
            (Flight::Told,   bytes(true),                         [No,     Wanted,   InFlight, Done]),
            (Flight::Stalled, bytes(true),                        [No,     Wanted,   InFlight, Done]),
            (Flight::Silent, SendEvent::Retire,                   [No,     Wanted,   InFlight, Done]),
            (Flight::Told,   SendEvent::Settle(SendResult::Whole),  [No,   Wanted,   InFlight, Done]),
            (Flight::Told,   SendEvent::Settle(SendResult::Short),  [No,   Wanted,   Wanted,   Done]),
            (Flight::Told,   SendEvent::Settle(SendResult::Failed), [No,   Wanted,   Wanted,   Done]),
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
    fn what_is_sent_is_followed_by_fin_when_it_is_the_last() {
        let bytes = |is_whole, is_awaited| {
            SendEvent::Flush(Queued::Bytes {
                is_whole,
                is_awaited,
            })
        };
        let send = |mode, finish| SendAction::Send { mode, finish };
        let (silent, told) = (SendMode::Silent, SendMode::Told);
        for (flight, fin, event, expected) in [
            (
                Flight::Idle,
                Fin::No,
                bytes(true, false),
                send(silent, false),
            ),
            (Flight::Idle, Fin::No, bytes(true, true), send(told, false)),
            (
                Flight::Idle,
                Fin::No,
                bytes(false, false),
                send(told, false),
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
                send(told, true),
            ),
            (
                Flight::Idle,
                Fin::Wanted,
                bytes(false, true),
                send(told, false),
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
