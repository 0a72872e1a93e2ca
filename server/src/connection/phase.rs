//! The phase of a connection, from accept to the closed descriptor.
//!
//! ```text
//!  Handshake ──► [Undecided ──►] Open ───────┐
//!      │ │           │ │                       ├──► [Flushing ──►] Leaving: Closing ──► Closed
//!      │ └───────────│─┴───────► Answered ─────┤
//!      └─────────────┴─────────────────────────┘
//! ```
//!
//! A connection enters Undecided if the application answers its request later.
//! A connection enters Flushing if its peer has ended its direction in order, and skips it if it is reset.

use std::net::SocketAddr;

use tidewheel_codec::{Connection as Protocol, Time};

use super::{AckWait, Head, Undecided};
use crate::admission::Refusal;

/// The phase of a connection.
pub(crate) enum Phase<S> {
    /// The request of the client at `peer` is awaited until `deadline`. `head` is the part that has arrived. A
    /// connection over a limit gets `refusal` as the answer.
    Handshake {
        head: Head,
        peer: SocketAddr,
        deadline: Time,
        refusal: Option<Refusal>,
    },
    /// The request has arrived. The application decides on the answer until `deadline`.
    #[cfg_attr(not(feature = "tasks"), expect(dead_code))]
    Undecided {
        request: Box<Undecided>,
        deadline: Time,
    },
    /// The request was answered without a WebSocket, and FIN follows. Reset at `deadline`.
    Answered { deadline: Time },
    /// The WebSocket is open, or the closing handshake is in progress.
    Open { protocol: Protocol, state: S },
    /// The peer has ended its direction in order. The queue and our FIN are sent. The descriptor stays open
    /// until the peer has acknowledged everything.
    Flushing { ack_wait: AckWait },
    /// Nothing is sent or received. The slot is freed when the descriptor is closed and no operation is in
    /// flight.
    Leaving(Descriptor),
}

/// The descriptor of a connection in [`Phase::Leaving`].
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) enum Descriptor {
    /// The close is submitted.
    Closing,
    /// The close has completed.
    Closed,
}

/// A phase without its data.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
enum Step {
    Handshake,
    Undecided,
    Answered,
    Open,
    Flushing,
    Leaving(Descriptor),
}

impl Step {
    /// Returns whether `next` may follow this phase. This is the only place that decides it.
    fn may_become(self, next: Self) -> bool {
        use Descriptor::{Closed, Closing};
        matches!(
            (self, next),
            (Self::Handshake, Self::Undecided)
                | (
                    Self::Handshake | Self::Undecided,
                    Self::Answered | Self::Open
                )
                | (
                    Self::Handshake | Self::Undecided | Self::Answered | Self::Open,
                    Self::Flushing | Self::Leaving(Closing),
                )
                | (Self::Flushing, Self::Leaving(Closing))
                | (Self::Leaving(Closing), Self::Leaving(Closed))
        )
    }
}

impl<S> Phase<S> {
    fn step(&self) -> Step {
        match self {
            Self::Handshake { .. } => Step::Handshake,
            Self::Undecided { .. } => Step::Undecided,
            Self::Answered { .. } => Step::Answered,
            Self::Open { .. } => Step::Open,
            Self::Flushing { .. } => Step::Flushing,
            Self::Leaving(descriptor) => Step::Leaving(*descriptor),
        }
    }

    /// Enters the next phase. Returns the previous one.
    ///
    /// # Panics
    /// If `next` may not follow this phase.
    pub(super) fn advance(&mut self, next: Self) -> Self {
        let (from, to) = (self.step(), next.step());
        assert!(from.may_become(to), "{to:?} cannot follow {from:?}");
        std::mem::replace(self, next)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_phase_is_followed_by_those_in_the_table() {
        let [closing, closed] = [Descriptor::Closing, Descriptor::Closed].map(Step::Leaving);
        #[rustfmt::skip]
        let table = [
            (Step::Handshake, &[Step::Undecided, Step::Answered, Step::Open, Step::Flushing, closing][..]),
            (Step::Undecided, &[Step::Answered, Step::Open, Step::Flushing, closing]),
            (Step::Answered,  &[Step::Flushing, closing]),
            (Step::Open,      &[Step::Flushing, closing]),
            (Step::Flushing,  &[closing]),
            (closing,         &[closed]),
            (closed,          &[]),
        ];
        for (from, followers) in table {
            for (to, _) in table {
                let expected = followers.contains(&to);
                assert_eq!(from.may_become(to), expected, "{to:?} behind {from:?}");
            }
        }
    }
}
