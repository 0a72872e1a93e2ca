//! The slot of a connection: everything that a shard keeps for it.
//!
//! Four small state machines make up its life, each with one function that changes it: its [phase](phase),
//! its [receive](receiving), its [send and our FIN](sending), and what keeps it from [reading](reading).

mod ack_wait;
mod head;
mod phase;
mod reading;
mod receiving;
mod sending;

use tidewheel_codec::Time;
use tidewheel_timerwheel::Timer;

pub(crate) use self::{
    ack_wait::{AckWait, AckProgress},
    head::Head,
    phase::{Descriptor, Phase},
    reading::{WaitReason, Reading},
    receiving::{ReceiveAction, ReceiveEvent, Receiving, Wants},
    sending::{FinResult, Queued, SendAction, SendEvent, SendResult, Sending},
};
use crate::{
    admission::Refusal,
    fanout::PublishHistory,
    outbox::{Queue, QueuePool, SendLimits},
    ring::{Socket, Token},
};

/// One connection, from accept to the last completion.
pub(crate) struct Connection<S> {
    /// Its one timer, for whichever deadline is next.
    pub(crate) timer: Timer,
    socket: Socket,
    /// Tells it from those that had the slot before; 24 bits.
    generation: u32,
    pub(crate) receiving: Receiving,
    pub(crate) sending: Sending,
    pub(crate) reading: Reading,
    flags: Flags,
    /// Whether it publishes.
    pub(crate) publish_history: PublishHistory,
    pub(crate) rate: MessageRate,
    /// The send queue; none while nothing is to be sent.
    pub(crate) queue: Option<Box<Queue>>,
    pub(crate) phase: Phase<S>,
}

// Two cache lines for a connection of an application that keeps nothing of its own.
const _: () = assert!(size_of::<Connection<()>>() <= 128);

/// Facts about a connection, a bit each.
#[derive(Clone, Copy, Debug)]
struct Flags(u8);

impl Flags {
    /// It is on the list of those to look at when the turn ends.
    const DIRTY: u8 = 1;
    /// The kernel is being asked when the peer was last heard, or how much it has to take.
    const ASKING: u8 = 1 << 1;
    /// It is counted among those that have been admitted.
    const ADMITTED: u8 = 1 << 2;
    /// Its last receive brought many bytes.
    const BUSY_SENDER: u8 = 1 << 3;

    fn new(is_admitted: bool) -> Self {
        Self(if is_admitted { Self::ADMITTED } else { 0 })
    }

    fn has(self, mark: u8) -> bool {
        self.0 & mark != 0
    }

    /// Sets or clears a mark; says whether it was set.
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

/// Messages received within a second.
#[derive(Debug, Default)]
pub(crate) struct MessageRate {
    second: u32,
    count: u32,
}

impl MessageRate {
    /// Counts a message; says whether there are more than `limit` in this second.
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

    /// Whether it is counted among those that have been admitted.
    pub(crate) fn is_admitted(&self) -> bool {
        self.flags.has(Flags::ADMITTED)
    }

    /// Whether the last receive brought many bytes.
    pub(crate) fn is_busy_sender(&self) -> bool {
        self.flags.has(Flags::BUSY_SENDER)
    }

    /// Notes whether a receive has brought many bytes.
    pub(crate) fn note_busy_sender(&mut self, is_busy: bool) {
        self.flags.replace(Flags::BUSY_SENDER, is_busy);
    }

    /// The token of an operation on this connection, which is in `slot`.
    pub(crate) fn token(&self, slot: u32) -> Token {
        Token::new(self.generation, slot)
    }

    /// Becomes the next phase, and gives the one before.
    pub(crate) fn advance(&mut self, next: Phase<S>) -> Phase<S> {
        self.phase.advance(next)
    }

    /// Notes that it is to be looked at when the turn ends; says whether that is new.
    pub(crate) fn mark_dirty(&mut self) -> bool {
        !self.flags.replace(Flags::DIRTY, true)
    }

    /// Notes that it is looked at; says whether it was to be.
    pub(crate) fn take_dirty(&mut self) -> bool {
        self.flags.replace(Flags::DIRTY, false)
    }

    /// Notes that the kernel is asked about the peer; says whether that is new.
    pub(crate) fn begin_asking(&mut self) -> bool {
        !self.flags.replace(Flags::ASKING, true)
    }

    /// Notes that the kernel has answered.
    pub(crate) fn end_asking(&mut self) {
        self.flags.replace(Flags::ASKING, false);
    }

    /// The send queue, taken from `pool` if there is none.
    pub(crate) fn queue_mut(&mut self, pool: &mut QueuePool) -> &mut Queue {
        self.queue.get_or_insert_with(|| pool.take())
    }

    /// Whether something that was submitted for the descriptor has yet to complete.
    pub(crate) fn is_busy(&self) -> bool {
        self.receiving.is_under_way()
            || self.sending.is_under_way()
            || self.sending.is_fin_under_way()
            || self.flags.has(Flags::ASKING)
    }

    /// Whether an operation on the descriptor may wait without end, and has to be cancelled.
    pub(crate) fn is_armed(&self) -> bool {
        self.receiving.is_under_way() || self.sending.is_polling()
    }

    /// Whether everything that was queued has been sent, our FIN included.
    pub(crate) fn is_flushed(&self) -> bool {
        let queue = self.queue.as_ref();
        queue.is_none_or(|queue| queue.is_empty()) && self.sending.is_over()
    }

    /// Whether the descriptor is being closed, or is closed.
    pub(crate) fn is_leaving(&self) -> bool {
        matches!(self.phase, Phase::Leaving(_))
    }

    /// Whether its descriptor is closed, and no completion is to come for it.
    pub(crate) fn is_over(&self) -> bool {
        matches!(self.phase, Phase::Leaving(Descriptor::Closed)) && !self.is_busy()
    }

    /// Whether so much is to come of a message, at `least`, that it had better be received into it, and
    /// may be.
    pub(crate) fn is_worth_filling(&self, least: u64, send: &SendLimits) -> bool {
        match &self.phase {
            Phase::Open { protocol, .. } => protocol.to_come() >= least && !self.is_congested(send),
            Phase::Handshake { .. }
            | Phase::Refused { .. }
            | Phase::Flushing { .. }
            | Phase::Leaving(_) => false,
        }
    }

    /// Whether messages go both ways.
    pub(crate) fn is_open(&self) -> bool {
        match &self.phase {
            Phase::Open { protocol, .. } => protocol.is_open(),
            Phase::Handshake { .. }
            | Phase::Refused { .. }
            | Phase::Flushing { .. }
            | Phase::Leaving(_) => false,
        }
    }

    /// Whether received bytes are kept unread.
    pub(crate) fn has_unread(&self) -> bool {
        let queue = self.queue.as_deref();
        queue.is_some_and(|queue| !queue.unread.is_empty())
    }

    /// Whether a message should not be read now: the socket takes nothing, so much waits to be
    /// sent that answers might not find room, or what came before is not read yet.
    pub(crate) fn is_congested(&self, send: &SendLimits) -> bool {
        self.queue.as_deref().is_some_and(|queue| {
            queue.is_stalled() || queue.held() >= send.pause_at() || !queue.unread.is_empty()
        })
    }
}
