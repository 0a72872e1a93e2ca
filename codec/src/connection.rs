//! One open WebSocket: its state, and the transitions of RFC 6455 7.

use std::mem::size_of;
use std::time::Duration;

use bytes::BytesMut;

use crate::deflate::{Agreement, Compressed, Streams, Terms};
use crate::disconnect::{Cause, Disconnect, Initiator, Traffic};
use crate::endpoint::Endpoint;
use crate::frame::Opcode;
use crate::message::{Event, Message};
use crate::receiver::{Item, Receiver, Rules, poll_common};
use crate::time::Time;
use crate::violation::Violation;

mod close;
mod deadline;
mod error;
mod send;

use close::Closing;

pub use error::{CloseError, Closed, PingError};

/// A ping or a Close is with the peer's kernel within this time, and the clocks differ by less.
const SENT_WITHIN: Duration = Duration::from_millis(100);

/// One WebSocket after its opening handshake.
///
/// Every method takes the [`Endpoint`] with which the connection was begun; to change it is an
/// error that goes unnoticed. Nothing is on the heap while the connection is open and between two
/// messages.
#[derive(Debug)]
pub struct Connection {
    state: State,
    opened: Time,
    /// The time at which the last byte arrived, or was [taken](Connection::note_taken).
    heard: Time,
    /// When the last message arrived.
    messaged: Time,
    traffic: Traffic,
}

const _: () = assert!(size_of::<Connection>() <= 88);

/// The states of RFC 6455 7.
///
/// ```text
///   Open --+-- Close received, ours goes out ----------------+
///     |    |                                                 |
///     |    +-- start_closing_handshake --> Closing --+-- Close received --> server: Lingering
///     |                                      |   |   |                      client: AwaitingEof
///     +-- fail --> Lingering <------ fail ---+   +-- deadline ------------> Expired
///
///   Lingering, AwaitingEof --- deadline -----------------------------------> Expired
///   any ---------------------- EOF, or the transport failed ---------------> Released
/// ```
///
/// `end` is taken by `poll_disconnect`, once.
#[derive(Debug)]
enum State {
    /// Messages go both ways. A ping is unanswered while `pinged` is later than the last byte that
    /// was heard. `phase` spreads the pings of many connections.
    /// `deflate` is what was negotiated; `streams` are those that are not shared.
    Open {
        receiver: Receiver,
        pinged: Time,
        phase: u16,
        deflate: Option<Terms>,
        streams: Option<Box<Streams>>,
    },
    /// Our Close is out (7.1.3) and the peer's is awaited until `deadline`. Nothing else is sent,
    /// and messages that still arrive are dropped.
    Closing {
        closing: Box<Closing>,
        deadline: Time,
    },
    /// Nothing more is sent, so our FIN may go out (7.1.1). What arrives is ignored; the peer's FIN
    /// is awaited until `deadline`, and longer while the peer takes what was sent.
    Lingering {
        end: Option<Box<Disconnect>>,
        deadline: Time,
        patience: Patience,
    },
    /// Client: the closing handshake is done, and the server closes TCP first (7.1.1), until
    /// `deadline`.
    AwaitingEof {
        end: Option<Box<Disconnect>>,
        deadline: Time,
    },
    /// A deadline passed: the transport is to be reset, so that nothing of it stays.
    Expired { end: Option<Box<Disconnect>> },
    /// The transport is over. What the peer has not taken yet may be delivered; not beyond `close_by`, if
    /// it was cut for its silence.
    Released {
        end: Option<Box<Disconnect>>,
        close_by: Option<Time>,
    },
}

/// The condition under which the peer is waited for longer at the end of a connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Patience {
    /// To take bytes.
    Unasked,
    /// To take more bytes than these, which are counted modulo 2^32.
    Asked { total: u32 },
    /// Nothing helps: it was cut for its silence.
    None,
}

/// The bytes that a peer has acknowledged.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Taken {
    /// When it last took bytes.
    pub last: Time,
    /// The bytes that it has taken since the connection began.
    pub total: u64,
    /// Whether there is more for it to take.
    pub has_more: bool,
}

impl Patience {
    /// Whether a peer that has taken so much is waited for longer. Old acknowledgements that it repeats
    /// move the time of the last, but not the total.
    fn extends(&mut self, total: u64) -> bool {
        let asked = Self::Asked {
            total: total as u32,
        };
        let extends = *self != Self::None && *self != asked;
        if extends {
            *self = asked;
        }
        extends
    }
}

/// Received bytes that are not yet read, and when they arrived.
#[derive(Debug)]
pub struct Input<'b> {
    bytes: &'b mut [u8],
    now: Time,
    /// Frames that may still be read.
    frames: u32,
}

impl<'b> Input<'b> {
    /// The same, of which no more than `frames` frames are read, fragments and control frames
    /// included; then [`poll_event`](Connection::poll_event) gives `None`, and what was not read is
    /// [the rest](Self::into_rest).
    #[must_use]
    pub const fn with_frames_max(mut self, frames: u32) -> Self {
        self.frames = frames;
        self
    }

    /// Frames that may still be read.
    #[inline]
    #[must_use]
    pub const fn frames_left(&self) -> u32 {
        self.frames
    }

    /// Whether everything was read.
    #[inline]
    #[must_use]
    pub const fn is_empty(&self) -> bool {
        self.bytes.is_empty()
    }

    /// What was not read, for whoever stops between two events: it is to be received again, before
    /// anything else.
    #[must_use]
    pub fn into_rest(self) -> &'b mut [u8] {
        self.bytes
    }
}

/// What the transport owes the peer after it has sent what was appended to `out`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Transmit {
    /// Nothing.
    Nothing,
    /// FIN, once everything is sent; then read and drop until the peer's FIN.
    Finish,
    /// RST, at once, whatever is unsent; the connection is over.
    Reset,
    /// Release the descriptor: the peer has ended, so what cannot be sent without waiting is lost.
    /// The connection is over.
    Release,
}

impl Connection {
    /// A connection whose opening handshake was completed at `now`.
    ///
    /// `phase` moves each ping to an earlier time, by up to an eighth of the interval at 65535, so
    /// that connections that were opened together are not pinged together.
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
            messaged: now,
            traffic: Traffic::default(),
        }
    }

    /// The same connection with permessage-deflate, as it was negotiated by the opening handshake
    /// with the same endpoint.
    ///
    /// # Panics
    ///
    /// When the connection is closing or closed.
    #[must_use]
    pub fn with_deflate(mut self, agreement: Agreement) -> Self {
        let State::Open {
            deflate, streams, ..
        } = &mut self.state
        else {
            panic!("permessage-deflate is negotiated before the connection closes");
        };
        *deflate = Some(agreement.terms);
        *streams = Streams::new(agreement);
        self
    }

    /// Notes that bytes arrived at `time` which are kept unread for later: any byte proves that the
    /// peer was alive then.
    #[inline]
    pub fn note_heard(&mut self, time: Time) {
        self.heard = self.heard.max(time);
    }

    /// Notes what the peer has taken: it was alive then, and has not come to the ping or the Close yet. If the
    /// connection is closing, it is waited for until `close_by`, if that is later than its deadline; but not
    /// one that was cut at the ping timeout.
    ///
    /// If it has taken everything, what it took about the time of a ping or a Close may be that frame alone,
    /// which says nothing of the peer's program, and does not count.
    pub fn note_taken(&mut self, taken: Taken, close_by: Time) {
        let Taken {
            last,
            total,
            has_more,
        } = taken;
        let (deadline, patience) = match &mut self.state {
            State::Open { pinged, .. } => {
                let is_ping =
                    !has_more && last + SENT_WITHIN >= *pinged && last <= *pinged + SENT_WITHIN;
                if !is_ping {
                    self.note_heard(last);
                }
                return;
            }
            State::Closing { closing, deadline } => (deadline, &mut closing.patience),
            State::Lingering {
                deadline, patience, ..
            } => (deadline, patience),
            State::AwaitingEof { .. } | State::Expired { .. } | State::Released { .. } => return,
        };
        let is_later = close_by > *deadline && (has_more || close_by > *deadline + SENT_WITHIN);
        if is_later && patience.extends(total) {
            *deadline = close_by;
        }
    }

    /// Until when the transport may go on delivering what was sent, if that is decided already: the connection
    /// was cut for the peer's silence.
    #[must_use]
    pub fn close_by(&self) -> Option<Time> {
        match self.state {
            State::Released { close_by, .. } => close_by,
            State::Open { .. }
            | State::Closing { .. }
            | State::Lingering { .. }
            | State::AwaitingEof { .. }
            | State::Expired { .. } => None,
        }
    }

    /// Takes received bytes: hand the result to [`poll_event`](Self::poll_event).
    ///
    /// Any byte proves that the peer is alive.
    #[inline]
    pub fn receive<'b>(&mut self, bytes: &'b mut [u8], now: Time) -> Input<'b> {
        if !bytes.is_empty() {
            self.heard = now;
        }
        Input {
            bytes,
            now,
            frames: u32::MAX,
        }
    }

    /// Bytes of memory for the message that is arriving.
    #[must_use]
    pub fn assembly_size(&self) -> usize {
        self.receiver().map_or(0, Receiver::size)
    }

    /// Bytes that are to come of the frame in which the last bytes ended, if it is of a message:
    /// so many may be received into its [assembly](Self::lend_assembly).
    #[inline]
    #[must_use]
    pub fn to_come(&self) -> u64 {
        self.receiver().map_or(0, Receiver::to_come)
    }

    /// Hands out the free end of the buffer of the message that is arriving: an empty buffer, to receive
    /// into what it has of capacity, instead of copying it there, no more than
    /// [`to_come`](Self::to_come) bytes. `None` if nothing is to come. There is less room than for all
    /// that is, where memory would grow beyond four times what has arrived.
    ///
    /// Until it comes [back](Self::receive_assembly), nothing else may be received.
    pub fn lend_assembly(&mut self) -> Option<BytesMut> {
        self.receiver_mut()?.lend()
    }

    /// Takes back the buffer that was lent, with the bytes that were received into it, which
    /// [`poll_event`](Self::poll_event) reads next, whatever the input. Bytes in another buffer are copied.
    ///
    /// # Panics
    /// If the bytes are more than were to come, or if the bytes of the last loan are yet to be read.
    pub fn receive_assembly(&mut self, received: BytesMut, now: Time) {
        if !received.is_empty() {
            self.heard = now;
        }
        if let Some(receiver) = self.receiver_mut() {
            receiver.take_back(received);
        }
    }

    /// Whether bytes of a buffer that came [back](Self::receive_assembly) are yet to be read.
    #[must_use]
    pub fn is_unread(&self) -> bool {
        self.receiver().is_some_and(Receiver::is_unread)
    }

    fn receiver(&self) -> Option<&Receiver> {
        match &self.state {
            State::Open { receiver, .. } => Some(receiver),
            State::Closing { closing, .. } => Some(&closing.receiver),
            State::Lingering { .. }
            | State::AwaitingEof { .. }
            | State::Expired { .. }
            | State::Released { .. } => None,
        }
    }

    fn receiver_mut(&mut self) -> Option<&mut Receiver> {
        match &mut self.state {
            State::Open { receiver, .. } => Some(receiver),
            State::Closing { closing, .. } => Some(&mut closing.receiver),
            State::Lingering { .. }
            | State::AwaitingEof { .. }
            | State::Expired { .. }
            | State::Released { .. } => None,
        }
    }

    /// The next event of `input`; call it until it gives `None`, which it does when everything is
    /// read, or [as many frames](Input::with_frames_max) as may be.
    ///
    /// Answers to pings and to Close are appended to `out`, in order, as encoded frames. Messages
    /// that arrive after [`start_closing_handshake`](Self::start_closing_handshake) are dropped,
    /// as browsers do.
    #[inline]
    pub fn poll_event<'b>(
        &mut self,
        endpoint: &mut Endpoint,
        input: &mut Input<'b>,
        out: &mut Vec<u8>,
    ) -> Option<Event<'b>> {
        if let State::Open { receiver, .. } = &mut self.state
            && receiver.is_idle()
            && input.frames > 0
        {
            match poll_common(&endpoint.config, &mut input.bytes) {
                Ok(Some(message)) => {
                    input.frames -= 1;
                    return Some(self.receive_message(endpoint, message, input.now));
                }
                Ok(None) => {}
                Err(violation) => self.fail_with(endpoint, violation, out, input.now),
            }
        }
        self.poll_any_event(endpoint, input, out)
    }

    /// As [`poll_event`](Self::poll_event), for any bytes in any state.
    #[inline(never)]
    fn poll_any_event<'b>(
        &mut self,
        endpoint: &mut Endpoint,
        input: &mut Input<'b>,
        out: &mut Vec<u8>,
    ) -> Option<Event<'b>> {
        loop {
            if input.frames == 0 {
                return None;
            }
            let (receiver, deflate) = match &mut self.state {
                State::Open {
                    receiver, deflate, ..
                } => (receiver, deflate.is_some()),
                State::Closing { closing, .. } => (&mut closing.receiver, closing.deflate),
                State::Lingering { .. }
                | State::AwaitingEof { .. }
                | State::Expired { .. }
                | State::Released { .. } => return None,
            };
            let rules = Rules {
                config: &endpoint.config,
                deflate,
            };
            let Input { bytes, frames, .. } = input;
            let item = match receiver.poll(rules, &mut endpoint.pool, bytes, frames) {
                Ok(Some(Item::Compressed(compressed))) => self.decompress(endpoint, compressed),
                other => other,
            };
            match item {
                Ok(None) => return None,
                Ok(Some(Item::Message(message))) => {
                    return Some(self.receive_message(endpoint, message, input.now));
                }
                Ok(Some(Item::Ping(payload))) => {
                    // RFC 6455 5.5.2: "an endpoint MUST send a Pong frame in response". Nothing
                    // is sent behind our Close (1.4).
                    if self.is_open() {
                        send::frame(endpoint, Opcode::Pong, &payload, out);
                        return Some(Event::Ping(payload));
                    }
                }
                Ok(Some(Item::Pong(payload))) => return Some(Event::Pong(payload)),
                Ok(Some(Item::Close(close))) => self.receive_close(endpoint, close, out, input.now),
                Ok(Some(Item::Compressed(_))) => unreachable!("it was decompressed"),
                Err(violation) => self.fail_with(endpoint, violation, out, input.now),
            }
        }
    }

    #[inline]
    fn receive_message<'b>(
        &mut self,
        endpoint: &mut Endpoint,
        message: Message<'b>,
        now: Time,
    ) -> Event<'b> {
        self.messaged = now;
        for traffic in [&mut self.traffic, &mut endpoint.traffic] {
            traffic.received_messages += 1;
            traffic.received_bytes += message.len() as u64;
        }
        Event::Message(message)
    }

    /// The message of a compressed one; a violation if its DEFLATE or its text is not valid.
    #[cold]
    fn decompress<'b>(
        &mut self,
        endpoint: &mut Endpoint,
        compressed: Compressed<'_>,
    ) -> Result<Option<Item<'b>>, Violation> {
        let State::Open {
            deflate: Some(terms),
            streams,
            ..
        } = &mut self.state
        else {
            unreachable!("compressed messages are received when that was negotiated");
        };
        let codec = endpoint
            .codec
            .as_mut()
            .expect("the endpoint agreed to permessage-deflate");
        let limit = endpoint.config.max_message_size;
        codec
            .decompress(*terms, streams.as_deref_mut(), compressed, limit)
            .map(|message| Some(Item::Message(message)))
    }

    /// The peer closed its half of the transport: FIN, or a read of 0 bytes.
    pub fn receive_eof(&mut self, now: Time) {
        self.end_transport(Initiator::Network, Cause::EofWithoutClose, now);
    }

    /// The transport was reset or failed.
    pub fn receive_reset(&mut self, now: Time) {
        self.end_transport(Initiator::Network, Cause::Reset, now);
    }

    /// Ends the connection without a Close and without waiting, because its owner is stopped; the
    /// transport is to be reset. The cause is [`Cause::Shutdown`], unless we had sent Close for another.
    pub fn abandon(&mut self, now: Time) {
        self.end_transport(Initiator::Local, Cause::Shutdown, now);
    }

    /// How the connection ended: `Some` exactly once, as soon as it is known.
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

    /// What the transport owes; stays the same until the state changes.
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

    /// Whether messages may be sent.
    #[inline]
    #[must_use]
    pub const fn is_open(&self) -> bool {
        matches!(self.state, State::Open { .. })
    }

    /// Messages that went both ways so far.
    #[inline]
    #[must_use]
    pub const fn traffic(&self) -> Traffic {
        self.traffic
    }

    /// When the opening handshake was completed.
    #[inline]
    #[must_use]
    pub const fn opened(&self) -> Time {
        self.opened
    }
}
