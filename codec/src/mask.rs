//! Masking (RFC 6455 5.3): `bytes[i] ^= key[i % 4]`, in place or to another place, at the speed of
//! memory.

mod arch;
mod short;

use bytes::BufMut;

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

/// Appends `bytes` to `out`, which has room for them, and masks them there if there is a key.
///
/// A payload without a key is copied in the same way: above a few KiB `memcpy` of glibc may choose
/// `rep movsb`, which on AMD's Zen 4 takes 16 times as long where the place is from 1 to 16 bytes
/// further within its page than the bytes are in theirs.
#[inline]
#[allow(unsafe_code)]
pub(crate) fn append(bytes: &[u8], out: &mut impl BufMut, key: Option<[u8; 4]>) {
    let room = &mut out.chunk_mut()[..bytes.len()];
    if bytes.len() <= short::LEN_MAX {
        room.copy_from_slice(bytes);
        if let Some(key) = key {
            // SAFETY: all of the room has just been written.
            let written = unsafe { std::slice::from_raw_parts_mut(room.as_mut_ptr(), bytes.len()) };
            short::mask(written, key);
        }
    } else {
        arch::copy(bytes, room, key.unwrap_or_default());
    }
    // SAFETY: so many bytes of the room have been written.
    unsafe { out.advance_mut(bytes.len()) };
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
    fn each_backend_of_this_machine_equals_the_oracle() {
        for backend in arch::backends() {
            assert_equals_oracle(backend.name, backend.len_min, |bytes, key| {
                backend.mask(bytes, key)
            });
        }
    }

    #[test]
    fn each_backend_copies_as_it_masks_in_place() {
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
                let what = format!("{}: {len} bytes from {from} to {to}", backend.name);
                assert_eq!(is_ascii, expected[to..to + len].is_ascii(), "{what}");
                assert!(got == expected, "{what}");
            }
        }
    }

    #[test]
    fn what_is_appended_is_masked_if_there_is_a_key() {
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
        for backend in arch::backends() {
            assert_sees_each_byte(backend.name, backend.len_min, |bytes, key| {
                backend.mask(bytes, key)
            });
        }
    }
}
