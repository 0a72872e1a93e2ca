use std::borrow::Cow;

use crate::close::CloseCode;
use crate::deflate::Compressed;
use crate::disconnect::CloseFrame;
use crate::frame::Opcode;
use crate::message::Message;
use crate::violation::Violation;

/// A complete message or control frame.
#[derive(Debug)]
pub(crate) enum Item<'b> {
    Message(Message<'b>),
    Compressed(Compressed<'b>),
    Ping(Cow<'b, [u8]>),
    Pong(Cow<'b, [u8]>),
    Close(CloseFrame),
}

impl<'b> Item<'b> {
    /// Returns the item of a control frame with an unmasked payload.
    pub(super) fn control(opcode: Opcode, payload: Cow<'b, [u8]>) -> Result<Self, Violation> {
        match opcode {
            Opcode::Ping => Ok(Self::Ping(payload)),
            Opcode::Pong => Ok(Self::Pong(payload)),
            Opcode::Close => parse_close(&payload).map(Self::Close),
            Opcode::Continuation | Opcode::Text | Opcode::Binary => {
                unreachable!("{opcode:?} is not the opcode of a control frame")
            }
        }
    }
}

/// RFC 6455 5.5.1: "If there is a body, the first two bytes of the body MUST be a 2-byte unsigned
/// integer [...] representing a status code".
fn parse_close(payload: &[u8]) -> Result<CloseFrame, Violation> {
    let Some((code, reason)) = payload.split_first_chunk::<2>() else {
        if payload.is_empty() {
            return Ok(CloseFrame {
                code: CloseCode::NO_STATUS_RECEIVED,
                reason: Box::default(),
            });
        }
        return Err(Violation::TruncatedCloseCode);
    };
    let code = CloseCode(u16::from_be_bytes(*code));
    if !code.is_sendable() {
        return Err(Violation::InvalidCloseCode { got: code.0 });
    }
    let reason = std::str::from_utf8(reason).map_err(|_| Violation::InvalidCloseReason)?;
    Ok(CloseFrame {
        code,
        reason: reason.into(),
    })
}
