//! Masking (RFC 6455 5.3): `bytes[i] ^= key[i % 4]`, in place, at the speed of memory.

mod arch;
mod short;

/// Masks or unmasks `bytes` with `key`: the operation is its own inverse.
///
/// The widest vectors that the processor has are chosen at run time.
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

/// As [`mask`]; whether all bytes are ASCII then, and hence valid UTF-8.
#[inline]
pub(crate) fn mask_and_test(bytes: &mut [u8], key: [u8; 4]) -> bool {
    if bytes.len() <= short::LEN_MAX {
        short::mask(bytes, key)
    } else {
        arch::mask(bytes, key)
    }
}

/// The key for the bytes that follow the first `position` bytes of a payload.
///
/// A payload that arrives in pieces is unmasked piece by piece:
/// `mask(piece, key_at(key, bytes_before_the_piece))`.
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

    /// RFC 6455 5.3, literally.
    fn oracle(bytes: &mut [u8], key: [u8; 4]) {
        bytes
            .iter_mut()
            .enumerate()
            .for_each(|(i, byte)| *byte ^= key[i % 4]);
    }

    /// Compares at all lengths and alignments, the bytes around included.
    fn assert_equals_oracle(name: &str, len_min: usize, mask: impl Fn(&mut [u8], [u8; 4]) -> bool) {
        let original: Vec<u8> = (0..OFFSET_MAX + LEN_MAX + 64)
            .map(|i| (i * 7 + i / 256) as u8)
            .collect();
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

    #[test]
    fn the_chosen_backend_equals_the_oracle() {
        assert_equals_oracle("chosen", 0, mask_and_test);
    }

    #[test]
    fn each_backend_of_this_machine_equals_the_oracle() {
        for (name, mask) in arch::backends() {
            assert_equals_oracle(name, short::LEN_MAX + 1, mask);
        }
    }

    #[test]
    fn pieces_equal_the_whole_at_every_split() {
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

    /// One byte above ASCII, at any place, is seen; none is seen where there is none.
    fn assert_sees_each_byte(
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
    fn each_byte_above_ascii_is_seen() {
        assert_sees_each_byte("chosen", 0, mask_and_test);
        for (name, mask) in arch::backends() {
            assert_sees_each_byte(name, short::LEN_MAX + 1, mask);
        }
    }
}
