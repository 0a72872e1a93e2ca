//! Fingerprints of received messages.

use std::hash::{DefaultHasher, Hash, Hasher};

/// The part of a message that identifies it when it comes back.
#[derive(Clone, Debug, Eq, PartialEq)]
pub(crate) enum Fingerprint {
    /// Its first eight bytes, little-endian; missing bytes are zero.
    Prefix,
    /// Its first eight bytes if these bytes follow, and otherwise `u64::MAX`.
    PrefixAndTail(Box<[u8]>),
    /// A hash of all its bytes.
    Digest,
}

impl Fingerprint {
    /// Returns the fingerprint of a message.
    pub(crate) fn of(&self, message: &[u8]) -> u64 {
        match (self, message.first_chunk()) {
            (Self::Prefix, Some(bytes)) => u64::from_le_bytes(*bytes),
            (Self::Prefix, None) => {
                let mut bytes = [0; 8];
                bytes[..message.len()].copy_from_slice(message);
                u64::from_le_bytes(bytes)
            }
            (Self::PrefixAndTail(tail), _) => match message.split_first_chunk() {
                Some((head, rest)) if rest == &**tail => u64::from_le_bytes(*head),
                Some(_) | None => u64::MAX,
            },
            (Self::Digest, _) => {
                let mut hasher = DefaultHasher::new();
                message.hash(&mut hasher);
                hasher.finish()
            }
        }
    }
}
