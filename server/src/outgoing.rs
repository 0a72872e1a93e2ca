//! A message to send.

use std::borrow::Cow;

use bytes::Bytes;
use tidewheel_codec::frame::Opcode;

use crate::message::Message;

/// A message to send.
///
/// Strings become text messages, bytes become binary messages, and a received [`Message`] keeps its type:
///
/// ```
/// use tidewheel::Outgoing;
///
/// for text in [Outgoing::from("hello"), Outgoing::from(format!("{}", "hello"))] {
///     assert!(matches!(text, Outgoing::Text(text) if text == "hello"));
/// }
/// let bytes = bytes::Bytes::from_static(b"hello");
/// for binary in [Outgoing::from(b"hello"), Outgoing::from(vec![1, 2, 3]), Outgoing::from([1, 2]), bytes.into()] {
///     assert!(matches!(binary, Outgoing::Binary(_)));
/// }
/// ```
#[derive(Debug)]
#[non_exhaustive]
pub enum Outgoing<'m> {
    /// A text message. It is copied into the send queue.
    Text(Cow<'m, str>),
    /// A binary message. It is copied into the send queue.
    Binary(Cow<'m, [u8]>),
    /// The received message. A message of 4 KiB or more is sent without copying it.
    Received(Message<'m>),
}

impl<'m> From<&'m str> for Outgoing<'m> {
    fn from(text: &'m str) -> Self {
        Self::Text(Cow::Borrowed(text))
    }
}

impl<'m> From<&'m String> for Outgoing<'m> {
    fn from(text: &'m String) -> Self {
        Self::Text(Cow::Borrowed(text))
    }
}

impl From<String> for Outgoing<'_> {
    fn from(text: String) -> Self {
        Self::Text(Cow::Owned(text))
    }
}

impl<'m> From<Cow<'m, str>> for Outgoing<'m> {
    fn from(text: Cow<'m, str>) -> Self {
        Self::Text(text)
    }
}

impl<'m> From<&'m [u8]> for Outgoing<'m> {
    fn from(bytes: &'m [u8]) -> Self {
        Self::Binary(Cow::Borrowed(bytes))
    }
}

impl<'m, const N: usize> From<&'m [u8; N]> for Outgoing<'m> {
    fn from(bytes: &'m [u8; N]) -> Self {
        Self::Binary(Cow::Borrowed(bytes))
    }
}

impl<const N: usize> From<[u8; N]> for Outgoing<'_> {
    fn from(bytes: [u8; N]) -> Self {
        Self::Binary(Cow::Owned(bytes.to_vec()))
    }
}

impl<'m> From<&'m Vec<u8>> for Outgoing<'m> {
    fn from(bytes: &'m Vec<u8>) -> Self {
        Self::Binary(Cow::Borrowed(bytes))
    }
}

impl From<Vec<u8>> for Outgoing<'_> {
    fn from(bytes: Vec<u8>) -> Self {
        Self::Binary(Cow::Owned(bytes))
    }
}

impl<'m> From<&'m Bytes> for Outgoing<'m> {
    fn from(bytes: &'m Bytes) -> Self {
        Self::Binary(Cow::Borrowed(bytes))
    }
}

impl From<Bytes> for Outgoing<'_> {
    fn from(bytes: Bytes) -> Self {
        Self::Binary(Cow::Owned(bytes.into()))
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

    /// Returns the opcode and the payload.
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
