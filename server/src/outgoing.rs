//! A message to send.

use tidewheel_codec::frame::Opcode;

use crate::message::Message;

/// A message to send.
#[derive(Debug)]
pub enum Outgoing<'m> {
    /// A text message, copied.
    Text(&'m str),
    /// A binary message, copied.
    Binary(&'m [u8]),
    /// The received message. A large one is sent without copying it.
    Received(Message<'m>),
}

impl<'m> From<&'m str> for Outgoing<'m> {
    fn from(text: &'m str) -> Self {
        Self::Text(text)
    }
}

impl<'m> From<&'m [u8]> for Outgoing<'m> {
    fn from(bytes: &'m [u8]) -> Self {
        Self::Binary(bytes)
    }
}

impl<'m> From<Message<'m>> for Outgoing<'m> {
    fn from(message: Message<'m>) -> Self {
        Self::Received(message)
    }
}

impl Outgoing<'_> {
    pub(crate) fn len(&self) -> usize {
        self.parts().1.len()
    }

    /// The opcode and the payload.
    pub(crate) fn parts(&self) -> (Opcode, &[u8]) {
        match self {
            Self::Text(text) => (Opcode::Text, text.as_bytes()),
            Self::Binary(bytes) => (Opcode::Binary, bytes),
            Self::Received(message) => {
                let is_text = message.as_text().is_some();
                let opcode = if is_text {
                    Opcode::Text
                } else {
                    Opcode::Binary
                };
                (opcode, message.payload())
            }
        }
    }
}
