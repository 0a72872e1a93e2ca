//! Masking of payloads (RFC 6455 5.3): `bytes[i] ^= key[i % 4]`, in place or while copying.

mod arch;
mod short;

use bytes::BufMut;

/// Masks or unmasks `bytes` with `key`. The operation is its own inverse.
///
/// On x86-64, the widest supported vector instructions are chosen at run time.
///
/// ```
/// let mut bytes = *b"\x7f\x9f\x4d\x51\x58";
/// tidewheel_codec::mask::mask(&mut bytes, [0x37, 0xfa, 0x21, 0x3d]);
/// assert_eq!(&bytes, b"Hello");
/// ```
#[inline]
pub fn mask(bytes: &mut [u8], key: [u8; 4]) {
    mask_and_test(bytes, key);
}

/// Masks `bytes` like [`mask`], and returns whether all bytes are then ASCII, and so valid UTF-8.
#[inline]
pub(crate) fn mask_and_test(bytes: &mut [u8], key: [u8; 4]) -> bool {
    if bytes.len() <= short::LEN_MAX {
        short::mask(bytes, key)
    } else {
        arch::mask(bytes, key)
    }
}

/// Appends `bytes` to `out`, and masks them there if `key` is given. `out` must have room for them.
///
/// Bytes without a key are copied by the same functions. Above a few KiB, `memcpy` of glibc may choose
/// `rep movsb`, which is 16 times slower on AMD Zen 4 if the offset of the destination in its page is 1 to
/// 16 bytes larger than that of the source.
#[inline]
#[allow(unsafe_code)]
pub(crate) fn append(bytes: &[u8], out: &mut impl BufMut, key: Option<[u8; 4]>) {
    let room = &mut out.chunk_mut()[..bytes.len()];
    if bytes.len() <= short::LEN_MAX {
        room.copy_from_slice(bytes);
        if let Some(key) = key {
            // SAFETY: all bytes of `room` have just been written.
            let written = unsafe { std::slice::from_raw_parts_mut(room.as_mut_ptr(), bytes.len()) };
            short::mask(written, key);
        }
    } else {
        arch::copy(bytes, room, key.unwrap_or_default());
    }
    // SAFETY: `bytes.len()` bytes of `room` have been written.
    unsafe { out.advance_mut(bytes.len()) };
}

/// Returns the key for the part of a payload that starts at byte `position`.
///
/// A payload in pieces is unmasked by `mask(piece, key_at(key, position_of_piece))` for each piece.
#[inline]
#[must_use]
pub const fn key_at(key: [u8; 4], position: usize) -> [u8; 4] {
    u32::from_le_bytes(key)
        .rotate_right(8 * (position % 4) as u32)
        .to_le_bytes()
}

#[cfg(test)]
mod tests {
    use super::*;

    const LEN_MAX: usize = 600;
    const OFFSET_MAX: usize = 63;
    const KEY: [u8; 4] = [0x37, 0xfa, 0x21, 0x3d];

    /// Masks `bytes` as RFC 6455 5.3 defines it.
    fn oracle(bytes: &mut [u8], key: [u8; 4]) {
        bytes
            .iter_mut()
            .enumerate()
            .for_each(|(i, byte)| *byte ^= key[i % 4]);
    }

    /// Compares `mask` with the oracle at all lengths and alignments, and checks the surrounding bytes.
    fn assert_equals_oracle(name: &str, len_min: usize, mask: impl Fn(&mut [u8], [u8; 4]) -> bool) {
        let original = original();
        for len in len_min..=LEN_MAX {
            for offset in 0..=OFFSET_MAX {
                let mut expected = original.clone();
                oracle(&mut expected[offset..offset + len], KEY);
                let mut got = original.clone();
                let is_ascii = mask(&mut got[offset..offset + len], KEY);
                assert_eq!(
                    is_ascii,
                    expected[offset..offset + len].is_ascii(),
                    "{name}: {len} at {offset}"
                );
                assert!(got == expected, "{name}: {len} bytes at offset {offset}");
            }
        }
    }

    fn original() -> Vec<u8> {
        (0..OFFSET_MAX + LEN_MAX + 64)
            .map(|i| (i * 7 + i / 256) as u8)
            .collect()
    }

    #[test]
    fn the_chosen_backend_equals_the_oracle() {
        assert_equals_oracle("chosen", 0, mask_and_test);
    }

    #[test]
    fn every_backend_equals_the_oracle() {
        for backend in arch::backends() {
            assert_equals_oracle(backend.name, backend.len_min, |bytes, key| {
                backend.mask(bytes, key)
            });
        }
    }

    #[test]
    fn every_backend_copies_like_the_oracle() {
        const PLACES: [usize; 6] = [0, 1, 4, 31, 32, 63];
        let original = original();
        for backend in arch::backends() {
            for (len, from, to) in (backend.len_min..=LEN_MAX)
                .flat_map(|len| PLACES.map(|from| (len, from)))
                .flat_map(|(len, from)| PLACES.map(|to| (len, from, to)))
            {
                let mut expected = original.clone();
                expected[to..to + len].copy_from_slice(&original[from..from + len]);
                oracle(&mut expected[to..to + len], KEY);
                let mut got = original.clone();
                let is_ascii =
                    backend.copy(&original[from..from + len], &mut got[to..to + len], KEY);
                let title = format!("{}: {len} bytes from {from} to {to}", backend.name);
                assert_eq!(is_ascii, expected[to..to + len].is_ascii(), "{title}");
                assert!(got == expected, "{title}");
            }
        }
    }

    #[test]
    fn appended_bytes_are_masked_if_a_key_is_given() {
        let original = original();
        for len in 0..=LEN_MAX {
            for key in [None, Some(KEY)] {
                let mut expected = b"before".to_vec();
                expected.extend_from_slice(&original[..len]);
                oracle(&mut expected[6..], key.unwrap_or_default());
                let mut got = b"before".to_vec();
                got.reserve(len);
                append(&original[..len], &mut got, key);
                assert_eq!(got, expected, "{len} bytes, {key:?}");
            }
        }
    }

    #[test]
    fn masking_in_two_pieces_equals_masking_the_whole() {
        let original: Vec<u8> = (0..200).collect();
        let mut expected = original.clone();
        mask(&mut expected, KEY);
        for split in 0..=original.len() {
            let mut got = original.clone();
            let (head, tail) = got.split_at_mut(split);
            mask(head, KEY);
            mask(tail, key_at(KEY, split));
            assert_eq!(got, expected, "split at {split}");
        }
    }

    /// Checks that `mask` reports a single byte above ASCII at every position, and reports none in ASCII.
    fn assert_detects_each_byte(
        name: &str,
        len_min: usize,
        mask: impl Fn(&mut [u8], [u8; 4]) -> bool,
    ) {
        for len in len_min..=200 {
            let mut text = vec![b'a'; len];
            oracle(&mut text, KEY);
            assert!(mask(&mut text, KEY), "{name}: {len} bytes");
            for position in 0..len {
                text.fill(b'a');
                text[position] = 0x80;
                oracle(&mut text, KEY);
                assert!(
                    !mask(&mut text, KEY),
                    "{name}: {len} bytes, one at {position}"
                );
            }
        }
    }

    #[test]
    fn every_backend_detects_each_byte_above_ascii() {
        assert_detects_each_byte("chosen", 0, mask_and_test);
        for backend in arch::backends() {
            assert_detects_each_byte(backend.name, backend.len_min, |bytes, key| {
                backend.mask(bytes, key)
            });
        }
    }
}
