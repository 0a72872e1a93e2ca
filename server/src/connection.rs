//! The slot of a connection: everything that a shard keeps for it.
//!
//! It has four small state machines: its [phase](phase), its [receive](receiving), its [send and FIN](sending),
//! and the [reason](reading) why it is not read.

mod ack_wait;
mod head;
mod phase;
mod reading;
mod receiving;
mod sending;
mod undecided;

use std::net::SocketAddr;

use tidewheel_codec::Time;
use tidewheel_timerwheel::Timer;

pub(crate) use self::{
    ack_wait::{AckStatus, AckWait},
    head::Head,
    phase::{Descriptor, Phase},
    reading::{Reading, WaitReason},
    receiving::{ReceiveAction, ReceiveEvent, Receiving, Wants},
    sending::{FinResult, Queued, SendAction, SendEvent, SendResult, Sending},
    undecided::Undecided,
};
use crate::{
    admission::Refusal,
    fanout::PublishHistory,
    outbox::{Queue, QueuePool, SendLimits},
    ring::{Socket, Token},
};

/// One connection, from its accept to its last completion.
pub(crate) struct Connection<S> {
    /// The timer of its next deadline.
    pub(crate) timer: Timer,
    socket: Socket,
    /// Distinguishes it from earlier connections in the same slot; 24 bits.
    generation: u32,
    pub(crate) receiving: Receiving,
    pub(crate) sending: Sending,
    pub(crate) reading: Reading,
    flags: Flags,
    /// The messages that it has published.
    pub(crate) publish_history: PublishHistory,
    pub(crate) rate: MessageRate,
    /// The send queue; `None` while nothing is to be sent.
    pub(crate) queue: Option<Box<Queue>>,
    pub(crate) phase: Phase<S>,
}

// Two cache lines for a connection whose application has no state.
const _: () = assert!(size_of::<Connection<()>>() <= 128);

/// Facts about a connection, one bit each.
#[derive(Clone, Copy, Debug)]
struct Flags(u8);

impl Flags {
    /// It is listed for the flush at the end of the turn.
    const DIRTY: u8 = 1;
    /// A query to the kernel is in flight.
    const QUERYING: u8 = 1 << 1;
    /// It counts as admitted.
    const ADMITTED: u8 = 1 << 2;
    /// Its last receive had many bytes.
    const BUSY_SENDER: u8 = 1 << 3;

    fn new(is_admitted: bool) -> Self {
        Self(if is_admitted { Self::ADMITTED } else { 0 })
    }

    fn has(self, mark: u8) -> bool {
        self.0 & mark != 0
    }

    /// Sets or clears a flag. Returns whether it was set.
    fn replace(&mut self, mark: u8, is_set: bool) -> bool {
        let before = self.has(mark);
        self.0 = if is_set {
            self.0 | mark
        } else {
            self.0 & !mark
        };
        before
    }
}

/// Number of messages received in the current second.
#[derive(Debug, Default)]
pub(crate) struct MessageRate {
    second: u32,
    count: u32,
}

impl MessageRate {
    /// Counts a message. Returns whether there were more than `limit` in this second.
    pub(crate) fn exceeds(&mut self, limit: u32, now: Time) -> bool {
        let second = (now.as_millis() / 1000) as u32;
        if self.second != second {
            self.second = second;
            self.count = 0;
        }
        self.count += 1;
        self.count > limit
    }
}

impl<S> Connection<S> {
    pub(crate) fn new(
        socket: Socket,
        generation: u32,
        peer: SocketAddr,
        deadline: Time,
        refusal: Option<Refusal>,
    ) -> Self {
        Self {
            timer: Timer::new(),
            socket,
            generation,
            receiving: Receiving::new(),
            sending: Sending::new(),
            reading: Reading::new(),
            flags: Flags::new(refusal.is_none()),
            publish_history: PublishHistory::Unknown,
            rate: MessageRate::default(),
            queue: None,
            phase: Phase::Handshake {
                head: Head::default(),
                peer,
                deadline,
                refusal,
            },
        }
    }

    pub(crate) fn socket(&self) -> Socket {
        self.socket
    }

    pub(crate) fn generation(&self) -> u32 {
        self.generation
    }

    /// Returns whether it counts as admitted.
    pub(crate) fn is_admitted(&self) -> bool {
        self.flags.has(Flags::ADMITTED)
    }

    /// Returns whether the last receive had many bytes.
    pub(crate) fn is_busy_sender(&self) -> bool {
        self.flags.has(Flags::BUSY_SENDER)
    }

    /// Notes whether a receive had many bytes.
    pub(crate) fn note_busy_sender(&mut self, is_busy: bool) {
        self.flags.replace(Flags::BUSY_SENDER, is_busy);
    }

    /// The token of an operation on this connection, which is in `slot`.
    pub(crate) fn token(&self, slot: u32) -> Token {
        Token::new(self.generation, slot)
    }

    /// Enters the next phase. Returns the previous one.
    pub(crate) fn advance(&mut self, next: Phase<S>) -> Phase<S> {
        self.phase.advance(next)
    }

    /// Sets the dirty flag. Returns whether it was clear.
    pub(crate) fn mark_dirty(&mut self) -> bool {
        !self.flags.replace(Flags::DIRTY, true)
    }

    /// Clears the dirty flag. Returns whether it was set.
    pub(crate) fn take_dirty(&mut self) -> bool {
        self.flags.replace(Flags::DIRTY, false)
    }

    /// Notes that a query is in flight. Returns whether none was.
    pub(crate) fn begin_query(&mut self) -> bool {
        !self.flags.replace(Flags::QUERYING, true)
    }

    /// Notes that the query has completed.
    pub(crate) fn end_query(&mut self) {
        self.flags.replace(Flags::QUERYING, false);
    }

    /// The send queue, taken from `pool` if there is none.
    pub(crate) fn queue_mut(&mut self, pool: &mut QueuePool) -> &mut Queue {
        self.queue.get_or_insert_with(|| pool.take())
    }

    /// Returns whether an operation on the descriptor is in flight.
    pub(crate) fn is_busy(&self) -> bool {
        self.receiving.is_under_way()
            || self.sending.is_under_way()
            || self.sending.is_fin_under_way()
            || self.flags.has(Flags::QUERYING)
    }

    /// Returns whether an operation in flight may never complete, unless it is cancelled.
    pub(crate) fn is_armed(&self) -> bool {
        self.receiving.is_under_way() || self.sending.is_polling()
    }

    /// Returns whether everything was sent, including our FIN.
    pub(crate) fn is_flushed(&self) -> bool {
        let queue = self.queue.as_ref();
        queue.is_none_or(|queue| queue.is_empty()) && self.sending.is_over()
    }

    /// Returns whether the descriptor is being closed, or is closed.
    pub(crate) fn is_leaving(&self) -> bool {
        matches!(self.phase, Phase::Leaving(_))
    }

    /// Returns whether the descriptor is closed, and no operation is in flight.
    pub(crate) fn is_over(&self) -> bool {
        matches!(self.phase, Phase::Leaving(Descriptor::Closed)) && !self.is_busy()
    }

    /// Returns whether a message should be received into its own buffer: at least `least` bytes of it are to
    /// come, and the connection is not congested.
    pub(crate) fn is_worth_filling(&self, least: u64, send: &SendLimits) -> bool {
        match &self.phase {
            Phase::Open { protocol, .. } => protocol.to_come() >= least && !self.is_congested(send),
            Phase::Handshake { .. }
            | Phase::Undecided { .. }
            | Phase::Answered { .. }
            | Phase::Flushing { .. }
            | Phase::Leaving(_) => false,
        }
    }

    /// Returns whether messages can be sent and received.
    pub(crate) fn is_open(&self) -> bool {
        match &self.phase {
            Phase::Open { protocol, .. } => protocol.is_open(),
            Phase::Handshake { .. }
            | Phase::Undecided { .. }
            | Phase::Answered { .. }
            | Phase::Flushing { .. }
            | Phase::Leaving(_) => false,
        }
    }

    /// Returns whether received bytes are kept unread.
    pub(crate) fn has_unread(&self) -> bool {
        let queue = self.queue.as_deref();
        queue.is_some_and(|queue| !queue.unread.is_empty())
    }

    /// Returns whether no message should be read now: the queue is stalled, or may have no space for answers,
    /// or earlier bytes are unread.
    pub(crate) fn is_congested(&self, send: &SendLimits) -> bool {
        self.queue.as_deref().is_some_and(|queue| {
            queue.is_stalled() || queue.held() >= send.pause_at() || !queue.unread.is_empty()
        })
    }
}
