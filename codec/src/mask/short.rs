//! Payloads of few bytes: two words that may overlap, rather than a loop over bytes.

use super::key_at;

/// The longest payload that this is for.
pub(super) const LEN_MAX: usize = 32;

/// As [`super::mask`], for at most [`LEN_MAX`] bytes.
#[inline]
pub(super) fn mask(bytes: &mut [u8], key: [u8; 4]) {
    match bytes.len() {
        0 => {}
        1..=3 => {
            for (byte, key) in bytes.iter_mut().zip(key) {
                *byte ^= key;
            }
        }
        4..=7 => two_words::<4>(bytes, key),
        8..=15 => two_words::<8>(bytes, key),
        _ => two_words::<16>(bytes, key),
    }
}

/// Masks the first and the last `N` bytes, of `N` to `2 * N`. Both are read before either is
/// written, so that the bytes in both are masked once.
#[inline]
fn two_words<const N: usize>(bytes: &mut [u8], key: [u8; 4]) {
    let tail_start = bytes.len() - N;
    let Some(&head) = bytes.first_chunk::<N>() else {
        unreachable!("there are {N} bytes at least");
    };
    let Some(&tail) = bytes.last_chunk::<N>() else {
        unreachable!("there are {N} bytes at least");
    };
    let tail_key = key_at(key, tail_start);
    bytes[..N].copy_from_slice(&masked(head, key));
    bytes[tail_start..].copy_from_slice(&masked(tail, tail_key));
}

/// The compiler makes this one exclusive or of the whole word.
#[inline]
fn masked<const N: usize>(mut word: [u8; N], key: [u8; 4]) -> [u8; N] {
    for (i, byte) in word.iter_mut().enumerate() {
        *byte ^= key[i % 4];
    }
    word
}
