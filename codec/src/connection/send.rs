//! The sending half of a connection: messages and pings to bytes.

use super::{Closed, Connection, PingError, State};
use crate::endpoint::Endpoint;
use crate::frame::{CONTROL_PAYLOAD_SIZE_MAX, FrameHeader, Opcode, append_frame};
use crate::role::Role;

impl Connection {
    /// Appends a text message to `out`, as one frame.
    ///
    /// # Errors
    ///
    /// If the connection is closing or closed.
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
    /// If the connection is closing or closed.
    #[inline]
    pub fn send_binary(
        &mut self,
        endpoint: &mut Endpoint,
        bytes: &[u8],
        out: &mut Vec<u8>,
    ) -> Result<(), Closed> {
        self.send_message(endpoint, Opcode::Binary, bytes, out)
    }

    /// Appends a ping to `out`. Keepalive does not need it: [`handle_timeout`](Self::handle_timeout) sends
    /// pings itself.
    ///
    /// # Errors
    ///
    /// If the connection is closing or closed, or `payload` is longer than 125 bytes.
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

    /// Adds `messages` messages of `bytes` payload bytes in total to the [traffic](Self::traffic), for
    /// frames that were encoded without this connection.
    #[inline]
    pub fn note_sent(&mut self, endpoint: &mut Endpoint, messages: u64, bytes: u64) {
        for traffic in [&mut self.traffic, &mut endpoint.traffic] {
            traffic.sent_messages += messages;
            traffic.sent_bytes += bytes;
        }
    }

    /// Returns whether frames of [`Endpoint::encode_compressed`] may be sent on this connection: it
    /// negotiated permessage-deflate without context takeover, and a window that is large enough.
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

    /// Returns whether permessage-deflate was negotiated. `false` once the connection is closing.
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

    /// Returns whether sent messages may refer to earlier ones (context takeover). Then no encoded message
    /// may be dropped from a send queue.
    #[inline]
    #[must_use]
    pub fn keeps_context(&self) -> bool {
        let State::Open { deflate, .. } = &self.state else {
            return false;
        };
        deflate.is_some_and(|terms| terms.takeover)
    }

    /// Returns whether a message of `size` bytes would be compressed: permessage-deflate was negotiated,
    /// and the size is not below the [threshold](crate::deflate::Deflate::threshold).
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

/// Appends one uncompressed frame to `out`. A client masks it.
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
