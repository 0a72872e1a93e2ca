//! One open WebSocket: its state, and the transitions of RFC 6455 7.

use std::mem::size_of;

use crate::close::CloseCode;
use crate::config::Role;
use crate::disconnect::{Cause, CloseFrame, Disconnect, Initiator, Traffic};
use crate::endpoint::Endpoint;
use crate::frame::{CONTROL_PAYLOAD_SIZE_MAX, FrameHeader, Opcode, append_frame};
use crate::message::Event;
use crate::receiver::{Item, Receiver};
use crate::time::Time;

mod deadline;
mod error;

pub use error::{CloseError, Closed, PingError};

/// The reason of a Close frame: what a control frame holds, less the code.
const CLOSE_REASON_SIZE_MAX: usize = CONTROL_PAYLOAD_SIZE_MAX - 2;

/// One WebSocket after its opening handshake.
///
/// Every method takes the [`Endpoint`] with which the connection was begun; to change it is an
/// error that goes unnoticed. Nothing is on the heap while the connection is open and between two
/// messages.
#[derive(Debug)]
pub struct Connection {
    state: State,
    opened: Time,
    /// When the last byte arrived.
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
    Open {
        receiver: Receiver,
        pinged: Time,
        phase: u16,
    },
    /// Our Close is out (7.1.3) and the peer's is awaited until `deadline`. Nothing else is sent,
    /// and messages that still arrive are dropped.
    Closing {
        closing: Box<Closing>,
        deadline: Time,
    },
    /// Nothing more is sent, so our FIN may go out (7.1.1). What arrives is ignored; the peer's FIN
    /// is awaited until `deadline`.
    Lingering {
        end: Option<Box<Disconnect>>,
        deadline: Time,
    },
    /// Client: the closing handshake is done, and the server closes TCP first (7.1.1), until
    /// `deadline`.
    AwaitingEof {
        end: Option<Box<Disconnect>>,
        deadline: Time,
    },
    /// A deadline passed: the transport is to be reset, so that nothing of it stays.
    Expired { end: Option<Box<Disconnect>> },
    /// The transport is over.
    Released { end: Option<Box<Disconnect>> },
}

/// Our half of a closing handshake.
#[derive(Debug)]
struct Closing {
    sent: CloseFrame,
    cause: Cause,
    receiver: Receiver,
}

/// Received bytes that are not yet read, and when they arrived.
#[derive(Debug)]
pub struct Input<'b> {
    bytes: &'b mut [u8],
    now: Time,
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
        };
        Self {
            state,
            opened: now,
            heard: now,
            messaged: now,
            traffic: Traffic::default(),
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
        Input { bytes, now }
    }

    /// The next event of `input`; call it until it gives `None`.
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
        loop {
            let receiver = match &mut self.state {
                State::Open { receiver, .. } => receiver,
                State::Closing { closing, .. } => &mut closing.receiver,
                State::Lingering { .. }
                | State::AwaitingEof { .. }
                | State::Expired { .. }
                | State::Released { .. } => return None,
            };
            match receiver.poll(&endpoint.config, &mut endpoint.pool, &mut input.bytes) {
                Ok(None) => return None,
                Ok(Some(Item::Message(message))) => {
                    self.messaged = input.now;
                    self.traffic.received_messages += 1;
                    self.traffic.received_bytes += message.len() as u64;
                    return Some(Event::Message(message));
                }
                Ok(Some(Item::Ping(payload))) => {
                    // RFC 6455 5.5.2: "an endpoint MUST send a Pong frame in response"; 5.5.1
                    // allows none behind our Close that the peer could tell from silence.
                    if self.is_open() {
                        send(endpoint, Opcode::Pong, &payload, out);
                        return Some(Event::Ping(payload));
                    }
                }
                Ok(Some(Item::Pong(payload))) => return Some(Event::Pong(payload)),
                Ok(Some(Item::Close(close))) => self.receive_close(endpoint, close, out, input.now),
                Err(violation) => {
                    self.fail(
                        endpoint,
                        violation.close_code(),
                        violation.cause(),
                        out,
                        input.now,
                    );
                }
            }
        }
    }

    /// The peer closed its half of the transport: FIN, or a read of 0 bytes.
    pub fn receive_eof(&mut self, now: Time) {
        self.end_transport(Cause::EofWithoutClose, now);
    }

    /// The transport was reset or failed.
    pub fn receive_reset(&mut self, now: Time) {
        self.end_transport(Cause::Reset, now);
    }

    /// Appends a text message to `out`, as one frame.
    ///
    /// # Errors
    ///
    /// When the connection is no longer open.
    #[inline]
    pub fn send_text(
        &mut self,
        endpoint: &mut Endpoint,
        text: &str,
        out: &mut Vec<u8>,
    ) -> Result<(), Closed> {
        self.send_message(endpoint, Opcode::Text, text.as_bytes(), out)
    }

    /// Appends a binary message to `out`, as one frame.
    ///
    /// # Errors
    ///
    /// When the connection is no longer open.
    #[inline]
    pub fn send_binary(
        &mut self,
        endpoint: &mut Endpoint,
        bytes: &[u8],
        out: &mut Vec<u8>,
    ) -> Result<(), Closed> {
        self.send_message(endpoint, Opcode::Binary, bytes, out)
    }

    /// Appends a ping to `out`. Keepalive needs none: [`handle_timeout`](Self::handle_timeout)
    /// sends its own.
    ///
    /// # Errors
    ///
    /// When the connection is no longer open, or `payload` is longer than 125 bytes.
    pub fn ping(
        &mut self,
        endpoint: &mut Endpoint,
        payload: &[u8],
        out: &mut Vec<u8>,
    ) -> Result<(), PingError> {
        if !self.is_open() {
            return Err(PingError::Closed(Closed));
        }
        if payload.len() > CONTROL_PAYLOAD_SIZE_MAX {
            return Err(PingError::TooLong { got: payload.len() });
        }
        send(endpoint, Opcode::Ping, payload, out);
        Ok(())
    }

    /// Counts messages that were sent in a frame which was encoded once for many connections.
    #[inline]
    pub fn note_sent(&mut self, messages: u64, bytes: u64) {
        self.traffic.sent_messages += messages;
        self.traffic.sent_bytes += bytes;
    }

    /// _Start the WebSocket Closing Handshake_ (RFC 6455 7.1.2), for [`Cause::LocalClose`] or
    /// [`Cause::Shutdown`]. Does nothing when the connection is closing or closed.
    ///
    /// # Errors
    ///
    /// When the code must not be sent or the reason is longer than 123 bytes.
    pub fn start_closing_handshake(
        &mut self,
        endpoint: &mut Endpoint,
        code: CloseCode,
        reason: &str,
        cause: Cause,
        out: &mut Vec<u8>,
        now: Time,
    ) -> Result<(), CloseError> {
        if !code.is_sendable() {
            return Err(CloseError::InvalidCode { got: code });
        }
        if reason.len() > CLOSE_REASON_SIZE_MAX {
            return Err(CloseError::ReasonTooLong { got: reason.len() });
        }
        if let State::Open { receiver, .. } = &mut self.state {
            let mut receiver = std::mem::take(receiver);
            receiver.discard_messages(&mut endpoint.pool);
            let sent = send_close(endpoint, code, reason, out);
            let deadline = now + endpoint.config.close_timeout;
            let closing = Box::new(Closing {
                sent,
                cause,
                receiver,
            });
            self.state = State::Closing { closing, deadline };
        }
        Ok(())
    }

    /// _Fail the WebSocket Connection_ (RFC 6455 7.1.7): a Close frame with `code`, unless one is
    /// out, and then FIN without waiting for the peer's. Does nothing when the closing handshake
    /// is done.
    ///
    /// # Panics
    ///
    /// When `code` must not be sent.
    pub fn fail(
        &mut self,
        endpoint: &mut Endpoint,
        code: CloseCode,
        cause: Cause,
        out: &mut Vec<u8>,
        now: Time,
    ) {
        assert!(code.is_sendable(), "close code {code} must not be sent");
        let sent = match &mut self.state {
            State::Open { receiver, .. } => {
                receiver.release(&mut endpoint.pool);
                send_close(endpoint, code, &close_reason(cause), out)
            }
            State::Closing { closing, .. } => {
                closing.receiver.release(&mut endpoint.pool);
                closing.take_sent()
            }
            State::Lingering { .. }
            | State::AwaitingEof { .. }
            | State::Expired { .. }
            | State::Released { .. } => return,
        };
        let deadline = now + endpoint.config.close_timeout;
        let end = Some(self.end(Initiator::Local, cause, None, Some(sent), now));
        self.state = State::Lingering { end, deadline };
    }

    /// How the connection ended: `Some` exactly once, as soon as it is known.
    #[inline]
    pub fn poll_disconnect(&mut self) -> Option<Disconnect> {
        match &mut self.state {
            State::Open { .. } | State::Closing { .. } => None,
            State::Lingering { end, .. }
            | State::AwaitingEof { end, .. }
            | State::Expired { end }
            | State::Released { end } => end.take().map(|end| *end),
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

    #[inline]
    fn send_message(
        &mut self,
        endpoint: &mut Endpoint,
        opcode: Opcode,
        payload: &[u8],
        out: &mut Vec<u8>,
    ) -> Result<(), Closed> {
        if !self.is_open() {
            return Err(Closed);
        }
        send(endpoint, opcode, payload, out);
        self.note_sent(1, payload.len() as u64);
        Ok(())
    }

    /// The peer's Close: the first of a closing handshake or the answer to ours.
    fn receive_close(
        &mut self,
        endpoint: &mut Endpoint,
        received: CloseFrame,
        out: &mut Vec<u8>,
        now: Time,
    ) {
        let (initiator, cause, sent) = match &mut self.state {
            State::Open { receiver, .. } => {
                receiver.release(&mut endpoint.pool);
                // RFC 6455 5.5.1: "When sending a Close frame in response, the endpoint typically
                // echos the status code it received."
                let sent = send_close(endpoint, received.code, "", out);
                (Initiator::Peer, Cause::PeerClose, sent)
            }
            State::Closing { closing, .. } => {
                closing.receiver.release(&mut endpoint.pool);
                (Initiator::Local, closing.cause, closing.take_sent())
            }
            State::Lingering { .. }
            | State::AwaitingEof { .. }
            | State::Expired { .. }
            | State::Released { .. } => unreachable!("nothing is received in {:?}", self.state),
        };
        let deadline = now + endpoint.config.close_timeout;
        let end = Some(self.end(initiator, cause, Some(received), Some(sent), now));
        self.state = match endpoint.config.role {
            Role::Server => State::Lingering { end, deadline },
            Role::Client => State::AwaitingEof { end, deadline },
        };
    }

    /// The transport ended by itself. After our Close, `cause` is why we sent it: that the peer did
    /// not answer is told by `Disconnect::received`.
    fn end_transport(&mut self, cause: Cause, now: Time) {
        let end = match &mut self.state {
            State::Open { .. } => Some(self.end(Initiator::Network, cause, None, None, now)),
            State::Closing { closing, .. } => {
                let (cause, sent) = (closing.cause, closing.take_sent());
                Some(self.end(Initiator::Local, cause, None, Some(sent), now))
            }
            State::Lingering { end, .. }
            | State::AwaitingEof { end, .. }
            | State::Expired { end }
            | State::Released { end } => end.take(),
        };
        self.state = State::Released { end };
    }

    #[cold]
    fn end(
        &self,
        initiator: Initiator,
        cause: Cause,
        received: Option<CloseFrame>,
        sent: Option<CloseFrame>,
        now: Time,
    ) -> Box<Disconnect> {
        let lived = now.since(self.opened);
        Box::new(Disconnect {
            initiator,
            cause,
            received,
            sent,
            lived,
            traffic: self.traffic,
        })
    }
}

impl Closing {
    /// Moves the frame out; the state is left at once.
    fn take_sent(&mut self) -> CloseFrame {
        CloseFrame {
            code: self.sent.code,
            reason: std::mem::take(&mut self.sent.reason),
        }
    }
}

/// Appends one frame to `out`, masked if we are a client.
#[inline]
fn send(endpoint: &mut Endpoint, opcode: Opcode, payload: &[u8], out: &mut Vec<u8>) {
    let masking_key = match endpoint.config.role {
        Role::Client => Some(endpoint.keys.next_key()),
        Role::Server => None,
    };
    append_frame(
        FrameHeader::new(opcode, masking_key, payload.len() as u64),
        payload,
        out,
    );
}

/// Appends a Close frame; one without a body for [`CloseCode::NO_STATUS_RECEIVED`].
fn send_close(
    endpoint: &mut Endpoint,
    code: CloseCode,
    reason: &str,
    out: &mut Vec<u8>,
) -> CloseFrame {
    let mut payload = [0; CONTROL_PAYLOAD_SIZE_MAX];
    let mut len = 0;
    if code != CloseCode::NO_STATUS_RECEIVED {
        payload[..2].copy_from_slice(&code.0.to_be_bytes());
        payload[2..2 + reason.len()].copy_from_slice(reason.as_bytes());
        len = 2 + reason.len();
    }
    send(endpoint, Opcode::Close, &payload[..len], out);
    CloseFrame {
        code,
        reason: reason.into(),
    }
}

/// What our Close frame says when nobody gave a reason.
fn close_reason(cause: Cause) -> String {
    let reason = match cause {
        Cause::ProtocolError(violation) => return violation.to_string(),
        Cause::PingTimeout => "keepalive ping timeout",
        Cause::IdleTimeout => "idle timeout",
        Cause::TooBig => "message too big",
        Cause::SlowConsumer => "slow consumer",
        Cause::Shutdown => "server shutdown",
        Cause::Lifetime => "maximum lifetime reached",
        Cause::PeerClose
        | Cause::LocalClose
        | Cause::EofWithoutClose
        | Cause::Reset
        | Cause::CloseTimeout => "",
    };
    reason.to_owned()
}
