//! Closing and failing a connection (RFC 6455 7.1).

use super::acknowledged::DeadlineExtension;
use super::{CloseError, Connection, State, send};
use crate::close::CloseCode;
use crate::disconnect::{Cause, CloseFrame, Disconnect, Initiator};
use crate::endpoint::Endpoint;
use crate::frame::{CONTROL_PAYLOAD_SIZE_MAX, Opcode};
use crate::receiver::Receiver;
use crate::role::Role;
use crate::time::Time;
use crate::violation::Violation;

/// Longest reason of a Close frame in bytes: the payload of a control frame without the code.
const CLOSE_REASON_SIZE_MAX: usize = CONTROL_PAYLOAD_SIZE_MAX - 2;

/// A closing handshake that we started.
#[derive(Debug)]
pub(super) struct Closing {
    pub(super) sent: CloseFrame,
    pub(super) cause: Cause,
    pub(super) receiver: Receiver,
    /// Whether the peer's messages may be compressed.
    pub(super) deflate: bool,
    pub(super) extension: DeadlineExtension,
}

impl Connection {
    /// Appends a Close frame to `out`, and waits for that of the peer until the close timeout: _Start the
    /// WebSocket Closing Handshake_ (RFC 6455 7.1.2).
    ///
    /// `cause` is reported by [`poll_disconnect`](Self::poll_disconnect), usually [`Cause::LocalClose`] or
    /// [`Cause::Shutdown`]. Does nothing if the connection is closing or closed.
    ///
    /// # Errors
    ///
    /// If the code must not be sent, or the reason is longer than 123 bytes.
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
        if let State::Open {
            receiver, deflate, ..
        } = &mut self.state
        {
            let deflate = deflate.is_some();
            let mut receiver = std::mem::take(receiver);
            receiver.discard_messages(&mut endpoint.pool);
            let sent = send_close(endpoint, code, reason, out);
            let deadline = now + endpoint.config.close_timeout;
            let closing = Box::new(Closing {
                sent,
                cause,
                receiver,
                deflate,
                extension: DeadlineExtension::AtFirst,
            });
            self.state = State::Closing { closing, deadline };
        }
        Ok(())
    }

    /// Appends a Close frame with `code` to `out`, unless one was sent, and ends the connection without
    /// waiting for that of the peer: _Fail the WebSocket Connection_ (RFC 6455 7.1.7).
    ///
    /// Does nothing if the closing handshake is complete or the connection has failed already.
    ///
    /// # Panics
    ///
    /// If `code` must not be sent.
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
        self.state = State::Lingering {
            end,
            deadline,
            extension: match cause {
                Cause::PingTimeout => DeadlineExtension::Never,
                _ => DeadlineExtension::AtFirst,
            },
        };
    }

    /// Fails the connection because of a violation.
    #[cold]
    pub(super) fn fail_with(
        &mut self,
        endpoint: &mut Endpoint,
        violation: Violation,
        out: &mut Vec<u8>,
        now: Time,
    ) {
        self.fail(endpoint, violation.close_code(), violation.into(), out, now);
    }

    /// Handles the peer's Close, which starts the closing handshake or answers ours.
    pub(super) fn receive_close(
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
            | State::Released { .. } => {
                unreachable!("frames are ignored in state {:?}", self.state)
            }
        };
        let deadline = now + endpoint.config.close_timeout;
        let end = Some(self.end(initiator, cause, Some(received), Some(sent), now));
        self.state = match endpoint.config.role {
            Role::Server => State::Lingering {
                end,
                deadline,
                extension: DeadlineExtension::AtFirst,
            },
            Role::Client => State::AwaitingEof { end, deadline },
        };
    }

    /// Handles the end of the transport. After our Close, the cause of that Close is reported, and
    /// `Disconnect::received` is `None`.
    pub(super) fn end_transport(&mut self, initiator: Initiator, cause: Cause, now: Time) {
        let close_by = match &self.state {
            State::Lingering {
                deadline,
                extension: DeadlineExtension::Never,
                ..
            } => Some(*deadline),
            State::Released { close_by, .. } => *close_by,
            State::Open { .. }
            | State::Closing { .. }
            | State::Lingering { .. }
            | State::AwaitingEof { .. }
            | State::Expired { .. } => None,
        };
        let end = match &mut self.state {
            State::Open { .. } => Some(self.end(initiator, cause, None, None, now)),
            State::Closing { closing, .. } => {
                let (cause, sent) = (closing.cause, closing.take_sent());
                Some(self.end(Initiator::Local, cause, None, Some(sent), now))
            }
            State::Lingering { end, .. }
            | State::AwaitingEof { end, .. }
            | State::Expired { end }
            | State::Released { end, .. } => end.take(),
        };
        self.state = State::Released { end, close_by };
    }

    /// Returns the report of the end.
    #[cold]
    pub(super) fn end(
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
    /// Takes the sent Close frame for the report.
    pub(super) fn take_sent(&mut self) -> CloseFrame {
        CloseFrame {
            code: self.sent.code,
            reason: std::mem::take(&mut self.sent.reason),
        }
    }
}

/// Appends a Close frame to `out`, without a body for [`CloseCode::NO_STATUS_RECEIVED`].
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
    send::frame(endpoint, Opcode::Close, &payload[..len], out);
    CloseFrame {
        code,
        reason: reason.into(),
    }
}

/// Returns the reason of a Close frame that the application did not send.
pub(super) fn close_reason(cause: Cause) -> String {
    let reason = match cause {
        Cause::ProtocolError(violation) => return violation.to_string(),
        Cause::PingTimeout => "keepalive ping timeout",
        Cause::IdleTimeout => "idle timeout",
        Cause::TooBig => "message too big",
        Cause::SlowConsumer => "slow consumer",
        Cause::Shutdown => "server shutdown",
        Cause::Lifetime => "maximum lifetime reached",
        Cause::MessageRate => "too many messages",
        Cause::HandlerPanic => "internal error",
        Cause::PeerClose
        | Cause::LocalClose
        | Cause::EofWithoutClose
        | Cause::Reset
        | Cause::CloseTimeout => "",
    };
    reason.to_owned()
}
