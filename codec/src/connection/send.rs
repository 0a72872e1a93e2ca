//! What the application sends.

use super::{Closed, Connection, PingError, State};
use crate::endpoint::Endpoint;
use crate::frame::{CONTROL_PAYLOAD_SIZE_MAX, FrameHeader, Opcode, append_frame};
use crate::role::Role;

impl Connection {
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
        frame(endpoint, Opcode::Ping, payload, out);
        Ok(())
    }

    /// Counts messages that were sent in a frame which was encoded once for many connections.
    #[inline]
    pub fn note_sent(&mut self, endpoint: &mut Endpoint, messages: u64, bytes: u64) {
        for traffic in [&mut self.traffic, &mut endpoint.traffic] {
            traffic.sent_messages += messages;
            traffic.sent_bytes += bytes;
        }
    }

    /// Whether frames of [`Endpoint::encode_compressed`] may be sent on this connection: it agreed
    /// to permessage-deflate without context takeover, and to a window as large as theirs.
    #[inline]
    #[must_use]
    pub fn shares_compression(&self, endpoint: &Endpoint) -> bool {
        let (
            State::Open {
                deflate: Some(terms),
                ..
            },
            Some(codec),
        ) = (&self.state, &endpoint.codec)
        else {
            return false;
        };
        !terms.takeover && terms.window_bits >= codec.shared_window_bits()
    }

    /// Whether permessage-deflate was negotiated.
    #[inline]
    #[must_use]
    pub const fn is_compressed(&self) -> bool {
        matches!(
            self.state,
            State::Open {
                deflate: Some(_),
                ..
            }
        )
    }

    /// Whether what is sent may refer to what was sent before (context takeover), so that no
    /// message may be left out once it is encoded.
    #[inline]
    #[must_use]
    pub fn keeps_context(&self) -> bool {
        let State::Open { deflate, .. } = &self.state else {
            return false;
        };
        deflate.is_some_and(|terms| terms.takeover)
    }

    /// Whether a message of `size` bytes would be compressed: the connection agreed to
    /// permessage-deflate, and the message is not below the threshold.
    #[inline]
    #[must_use]
    pub fn compresses(&self, endpoint: &Endpoint, size: usize) -> bool {
        let State::Open { deflate, .. } = &self.state else {
            return false;
        };
        let threshold = endpoint
            .config
            .deflate
            .as_ref()
            .map(|deflate| deflate.threshold);
        deflate.is_some() && threshold.is_some_and(|threshold| size >= threshold)
    }

    #[inline]
    fn send_message(
        &mut self,
        endpoint: &mut Endpoint,
        opcode: Opcode,
        payload: &[u8],
        out: &mut Vec<u8>,
    ) -> Result<(), Closed> {
        let State::Open {
            deflate, streams, ..
        } = &mut self.state
        else {
            return Err(Closed);
        };
        let masking_key = masking_key(endpoint);
        let is_sent = match (deflate, &mut endpoint.codec) {
            (Some(terms), Some(codec)) => {
                let message = (opcode, payload);
                codec.append_message(*terms, streams.as_deref_mut(), masking_key, message, out)
            }
            (Some(_) | None, _) => false,
        };
        if !is_sent {
            append_frame(
                FrameHeader::new(opcode, masking_key, payload.len() as u64),
                payload,
                out,
            );
        }
        self.note_sent(endpoint, 1, payload.len() as u64);
        Ok(())
    }
}

/// Appends one uncompressed frame to `out`, masked if we are a client.
#[inline]
pub(super) fn frame(endpoint: &mut Endpoint, opcode: Opcode, payload: &[u8], out: &mut Vec<u8>) {
    let header = FrameHeader::new(opcode, masking_key(endpoint), payload.len() as u64);
    append_frame(header, payload, out);
}

#[inline]
fn masking_key(endpoint: &mut Endpoint) -> Option<[u8; 4]> {
    match endpoint.config.role {
        Role::Client => Some(endpoint.keys.next_key()),
        Role::Server => None,
    }
}
