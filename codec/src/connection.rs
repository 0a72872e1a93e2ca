//! One open WebSocket: its state, and the transitions of RFC 6455 7.

use std::mem::size_of;

use crate::deflate::Agreement;
use crate::disconnect::{Cause, Disconnect, Initiator, Traffic};
use crate::receiver::Receiver;
use crate::time::Time;

mod acknowledged;
mod close;
mod deadline;
mod error;
mod input;
mod receive;
mod send;
mod state;
mod transmit;

use state::State;

pub use acknowledged::Acknowledged;
pub use error::{CloseError, Closed, PingError};
pub use input::Input;
pub use transmit::Transmit;

/// A WebSocket connection after its opening handshake.
///
/// Pass the same [`Endpoint`](crate::Endpoint) to all methods of a connection. Another one is not
/// detected, and mixes up buffers and compression settings. An idle connection without context takeover
/// has no memory on the heap.
#[derive(Debug)]
pub struct Connection {
    state: State,
    opened: Time,
    /// The time of the last byte from the peer, or of its last
    /// [acknowledgement](Connection::note_acknowledged).
    heard: Time,
    /// The time of the last message from the peer.
    last_message: Time,
    traffic: Traffic,
}

const _: () = assert!(size_of::<Connection>() <= 88);

impl Connection {
    /// Creates a connection whose opening handshake was completed at `now`.
    ///
    /// `phase` distributes the pings of connections that were opened together. Each ping is early by
    /// `phase / 65,536` of an eighth of the ping interval.
    #[must_use]
    pub fn new(now: Time, phase: u16) -> Self {
        let state = State::Open {
            receiver: Receiver::default(),
            pinged: now,
            phase,
            deflate: None,
            streams: None,
        };
        Self {
            state,
            opened: now,
            heard: now,
            last_message: now,
            traffic: Traffic::default(),
        }
    }

    /// Enables permessage-deflate as negotiated by the opening handshake with the same endpoint. Call it
    /// before the first message.
    ///
    /// # Panics
    ///
    /// If the connection is closing or closed.
    #[must_use]
    pub fn with_deflate(mut self, agreement: Agreement) -> Self {
        let State::Open {
            deflate, streams, ..
        } = &mut self.state
        else {
            panic!("permessage-deflate cannot be enabled on a closing connection");
        };
        let (terms, own_streams) = agreement.into_parts();
        *deflate = Some(terms);
        *streams = own_streams;
        self
    }

    /// Notes that bytes arrived at `time` which are not received yet. They restart the ping interval.
    #[inline]
    pub fn note_heard(&mut self, time: Time) {
        self.heard = self.heard.max(time);
    }

    /// Notes the end of the transport by the peer: FIN, or a read of 0 bytes.
    pub fn receive_eof(&mut self, now: Time) {
        self.end_transport(Initiator::Network, Cause::EofWithoutClose, now);
    }

    /// Notes that the transport was reset or failed.
    pub fn receive_reset(&mut self, now: Time) {
        self.end_transport(Initiator::Network, Cause::Reset, now);
    }

    /// Ends the connection at once, without a Close. The transport is to be reset.
    ///
    /// The cause is [`Cause::Shutdown`], or that of our Close if one was sent.
    pub fn abandon(&mut self, now: Time) {
        self.end_transport(Initiator::Local, Cause::Shutdown, now);
    }

    /// Reports how the connection ended. Returns `Some` once, as soon as the end is certain.
    #[inline]
    pub fn poll_disconnect(&mut self) -> Option<Disconnect> {
        match &mut self.state {
            State::Open { .. } | State::Closing { .. } => None,
            State::Lingering { end, .. }
            | State::AwaitingEof { end, .. }
            | State::Expired { end }
            | State::Released { end, .. } => end.take().map(|end| *end),
        }
    }

    /// Returns the next action of the transport. The value stays the same until the state changes.
    #[inline]
    #[must_use]
    pub const fn poll_transmit(&self) -> Transmit {
        match self.state {
            State::Open { .. } | State::Closing { .. } | State::AwaitingEof { .. } => {
                Transmit::Nothing
            }
            State::Lingering { .. } => Transmit::Finish,
            State::Expired { .. } => Transmit::Reset,
            State::Released { .. } => Transmit::Release,
        }
    }

    /// Returns whether messages may be sent.
    #[inline]
    #[must_use]
    pub const fn is_open(&self) -> bool {
        matches!(self.state, State::Open { .. })
    }

    /// Returns the messages and bytes that were sent and received so far.
    #[inline]
    #[must_use]
    pub const fn traffic(&self) -> Traffic {
        self.traffic
    }

    /// Returns the time at which the opening handshake was completed.
    #[inline]
    #[must_use]
    pub const fn opened(&self) -> Time {
        self.opened
    }
}
