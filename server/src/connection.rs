//! The slot of a connection: everything that a shard keeps for it.

use tidewheel_codec::{
    Connection as Protocol, Time,
    handshake::{Limits, Request},
};
use tidewheel_timerwheel::Timer;

use crate::{
    admission::Refusal,
    conn::SendLimits,
    fanout::Habit,
    outbox::Queue,
    ring::{Socket, Token},
};

/// One connection, from accept to the last completion.
pub(crate) struct Connection<S> {
    /// Its one timer, for whichever deadline is next.
    pub(crate) timer: Timer,
    pub(crate) socket: Socket,
    /// Tells it from those that had the slot before; 24 bits.
    pub(crate) generation: u32,
    pub(crate) receive: Receive,
    pub(crate) flight: Flight,
    pub(crate) fin: Fin,
    /// Whether it is on the list of those to look at when the turn ends.
    pub(crate) dirty: bool,
    /// The kernel is being asked when the peer was last heard.
    pub(crate) asking: bool,
    /// Whether it is counted among those that have been admitted.
    pub(crate) admitted: bool,
    /// What the bytes wait for that are kept unread.
    pub(crate) awaits: Awaits,
    /// Whether it publishes.
    pub(crate) habit: Habit,
    pub(crate) rate: MessageRate,
    /// What it has to send; none while it has nothing.
    pub(crate) queue: Option<Box<Queue>>,
    pub(crate) phase: Phase<S>,
}

// Two cache lines for a connection of an application that keeps nothing of its own.
const _: () = assert!(size_of::<Connection<()>>() <= 128);

/// How far a connection has come.
///
/// ```text
///  accept ──► Handshake ──► Open ─────────────────────────► Leaving ──► slot free
///                 │          (its protocol closes,             ▲
///                 │           and says when to leave)          │
///                 └───────► Refused ── peer's FIN, deadline ───┘
/// ```
pub(crate) enum Phase<S> {
    /// The request is awaited, until `deadline`; `head` is what has come of it.
    /// If it is one too many, `refusal` is the answer.
    Handshake {
        head: Head,
        deadline: Time,
        refusal: Option<Refusal>,
    },
    /// The request was answered with an error and FIN. Reset at `deadline`.
    Refused { deadline: Time },
    /// The WebSocket, and its closing.
    Open { protocol: Protocol, state: S },
    /// Nothing is to be said or heard any more. The slot is free when the descriptor is closed,
    /// and nothing is under way.
    Leaving(Descriptor),
}

/// How far the descriptor of a connection that leaves has come.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) enum Descriptor {
    /// Our FIN is under way, which a Close would overtake.
    Finishing,
    /// Its Close is submitted.
    Closing,
    /// It is closed.
    Closed,
}

/// The state of the receive.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) enum Receive {
    /// The kernel has one into provided buffers.
    Armed,
    /// It is being cancelled, because a large message is arriving.
    Switching,
    /// The kernel has one into the message that is arriving.
    Filling,
    /// It ended for want of a buffer, and is armed again when there is one.
    Starved,
    /// It is being cancelled, because nothing can be sent.
    Pausing,
    /// It is cancelled, and armed again when everything is sent.
    Paused,
    /// The same, and it had heard the peer's FIN.
    PausedAtEnd,
    /// None is under way: it was not armed yet, or is over.
    Ended,
}

/// What a connection waits for before received bytes that are kept unread are read.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) enum Awaits {
    /// Nothing is unread.
    Nothing,
    /// Everything that is queued is to be sent.
    Sending,
    /// It has had its share of the turn.
    Turn,
    /// It publishes, and there is to be room for what it publishes.
    Room,
}

/// The part of a request that has arrived, and how much is to come before it is parsed again.
#[derive(Debug, Default)]
pub(crate) struct Head {
    bytes: Vec<u8>,
    /// Bytes of the whole request, if its head is whole.
    whole_size: Option<usize>,
}

impl Head {
    /// With the first bytes, in which there is no whole request.
    pub(crate) fn new(bytes: &[u8], limits: &Limits) -> Self {
        let bytes = bytes.to_vec();
        Self {
            bytes,
            whole_size: None,
        }
        .parsed(limits)
    }

    /// The same, after a parser has found no whole request.
    pub(crate) fn parsed(mut self, limits: &Limits) -> Self {
        self.whole_size = Request::whole_size(&self.bytes, limits).ok().flatten();
        self
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.bytes.is_empty()
    }

    pub(crate) fn bytes(&self) -> &[u8] {
        &self.bytes
    }

    pub(crate) fn len(&self) -> usize {
        self.bytes.len()
    }

    /// Adds bytes; says whether the request may be whole, or is too large. So each byte is looked at a
    /// bounded number of times, in however many pieces the request comes.
    pub(crate) fn extend(&mut self, bytes: &[u8], limits: &Limits) -> bool {
        // The end of a head may begin in what was there before.
        let at = self.bytes.len().saturating_sub(2);
        self.bytes.extend_from_slice(bytes);
        match self.whole_size {
            Some(size) => self.bytes.len() >= size,
            None => self.bytes.len() >= limits.max_bytes || ends_head(&self.bytes[at..]),
        }
    }
}

/// Whether there is an empty line (RFC 9112 2.2: also without carriage returns).
fn ends_head(bytes: &[u8]) -> bool {
    let is_end = |at: usize| {
        let next = &bytes[at + 1..];
        next.starts_with(b"\n") || next.starts_with(b"\r\n")
    };
    let mut line_ends = bytes.iter().zip(0..).filter(|(byte, _)| **byte == b'\n');
    line_ends.any(|(_, at)| is_end(at))
}

/// The state of the one send that may be under way.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) enum Flight {
    /// None is.
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
pub(crate) enum Fin {
    /// Not due.
    No,
    /// To follow the last byte that is queued.
    Wanted,
    /// Submitted.
    UnderWay,
    /// Sent; or there is nobody left to send it to.
    Done,
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
            receive: Receive::Ended,
            flight: Flight::Idle,
            fin: Fin::No,
            dirty: false,
            asking: false,
            admitted: refusal.is_none(),
            awaits: Awaits::Nothing,
            habit: Habit::Unknown,
            rate: MessageRate::default(),
            queue: None,
            phase: Phase::Handshake {
                head: Head::default(),
                deadline,
                refusal,
            },
        }
    }

    /// The token of an operation on this connection, which is in `slot`.
    pub(crate) fn token(&self, slot: u32) -> Token {
        Token::new(self.generation, slot)
    }

    /// Whether something that was submitted for the descriptor has yet to complete.
    pub(crate) fn is_busy(&self) -> bool {
        self.is_receiving()
            || matches!(self.flight, Flight::Silent | Flight::Told | Flight::Polling)
            || self.fin == Fin::UnderWay
            || self.asking
    }

    /// Whether something on the descriptor ends only when it is made to.
    pub(crate) fn is_armed(&self) -> bool {
        self.is_receiving() || self.flight == Flight::Polling
    }

    /// Whether a receive has yet to complete for the last time.
    pub(crate) fn is_receiving(&self) -> bool {
        match self.receive {
            Receive::Armed | Receive::Switching | Receive::Filling | Receive::Pausing => true,
            Receive::Starved | Receive::Paused | Receive::PausedAtEnd | Receive::Ended => false,
        }
    }

    /// Whether so much is to come of a message, at `least`, that it had better be received into it, and
    /// may be.
    pub(crate) fn is_worth_filling(&self, least: u64, send: &SendLimits) -> bool {
        match &self.phase {
            Phase::Open { protocol, .. } => protocol.to_come() >= least && !self.is_congested(send),
            Phase::Handshake { .. } | Phase::Refused { .. } | Phase::Leaving(_) => false,
        }
    }

    /// Whether messages go both ways.
    pub(crate) fn is_open(&self) -> bool {
        match &self.phase {
            Phase::Open { protocol, .. } => protocol.is_open(),
            Phase::Handshake { .. } | Phase::Refused { .. } | Phase::Leaving(_) => false,
        }
    }

    /// Whether received bytes are kept unread.
    pub(crate) fn has_unread(&self) -> bool {
        let queue = self.queue.as_deref();
        queue.is_some_and(|queue| !queue.parked.is_empty())
    }

    /// Whether receiving goes on only when everything is sent.
    pub(crate) fn is_paused(&self) -> bool {
        matches!(
            self.receive,
            Receive::Pausing | Receive::Paused | Receive::PausedAtEnd
        )
    }

    /// Whether a message should not be read now: the socket takes nothing, so much waits to be
    /// sent that answers might not find room, or what came before is not read yet.
    pub(crate) fn is_congested(&self, send: &SendLimits) -> bool {
        self.queue.as_deref().is_some_and(|queue| {
            queue.is_stalled() || queue.held() >= send.pause_at() || !queue.parked.is_empty()
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_request_in_pieces_is_parsed_when_it_may_be_whole() {
        let limits = Limits::default();
        let fields = "a: b\r\n".repeat(40);
        let end = "Content-Length: 3\r\n\r\n";
        for (line_end, start) in [("\r\n", "GET / HTTP/1.1\r\n"), ("\n", "GET / HTTP/1.1\n")] {
            let request = format!("{start}{}{end}abc", fields.replace("\r\n", line_end));
            let mut head = Head::new(&request.as_bytes()[..1], &limits);
            let mut parsed = Vec::new();
            for at in 1..request.len() {
                if head.extend(&request.as_bytes()[at..=at], &limits) {
                    parsed.push(at + 1);
                    head = head.parsed(&limits);
                }
            }
            assert_eq!(parsed, [request.len() - 3, request.len()]);
        }
    }

    #[test]
    fn a_request_that_never_ends_is_parsed_when_it_is_too_large() {
        let limits = Limits::default();
        let mut head = Head::new(b"G", &limits);
        let parsed = (1..limits.max_bytes).filter(|_| head.extend(b"E", &limits));
        assert_eq!(parsed.collect::<Vec<_>>(), [limits.max_bytes - 1]);
    }
}
