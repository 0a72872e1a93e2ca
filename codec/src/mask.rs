//! Masking (RFC 6455 5.3): `bytes[i] ^= key[i % 4]`, in place, as fast as memory allows.

mod portable;

/// Masks or unmasks `bytes` with `key`: the operation is its own inverse.
///
/// ```
/// let mut bytes = *b"\x7f\x9f\x4d\x51\x58";
/// tidewheel_codec::mask::mask(&mut bytes, [0x37, 0xfa, 0x21, 0x3d]);
/// assert_eq!(&bytes, b"Hello");
/// ```
#[inline]
pub fn mask(bytes: &mut [u8], key: [u8; 4]) {
    portable::mask(bytes, key);
}

/// The key for the bytes that follow the first `position` bytes of a payload.
///
/// A payload that arrives in pieces is unmasked piece by piece:
/// `mask(piece, key_at(key, bytes_before_this_piece))`.
#[inline]
#[must_use]
pub const fn key_at(key: [u8; 4], position: usize) -> [u8; 4] {
    u32::from_le_bytes(key)
        .rotate_right(8 * (position % 4) as u32)
        .to_le_bytes()
}
