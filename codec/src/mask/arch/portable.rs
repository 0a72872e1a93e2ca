//! Masking on any processor, in chunks of 64 bytes that the compiler vectorizes (NEON on AArch64).

use super::short;
use crate::mask::key_at;

/// Masks as [`super::Mask`] defines.
///
/// # Safety
///
/// The conditions of [`super::Mask`].
#[cfg_attr(
    target_arch = "x86_64",
    allow(dead_code, reason = "only tests use it on this architecture")
)]
pub(super) unsafe fn mask(from: *const u8, to: *mut u8, len: usize, key: [u8; 4]) -> bool {
    // SAFETY: the conditions of this function.
    let bytes = unsafe {
        if from != to {
            to.copy_from_nonoverlapping(from, len);
        }
        std::slice::from_raw_parts_mut(to, len)
    };
    let mut keys = [0; 64];
    for word in keys.as_chunks_mut::<4>().0 {
        *word = key;
    }
    let mut all = [0_u8; 64];
    let (chunks, rest) = bytes.as_chunks_mut::<64>();
    for chunk in chunks {
        for ((byte, key), all) in chunk.iter_mut().zip(keys).zip(&mut all) {
            *byte ^= key;
            *all |= *byte;
        }
    }
    // Chunks of 64 and 32 bytes do not change the phase of the key.
    let (half, rest) = rest.split_at_mut(rest.len() & short::LEN_MAX);
    let is_half_ascii = short::mask(half, key);
    let is_rest_ascii = short::mask(rest, key_at(key, half.len()));
    all.is_ascii() && is_half_ascii && is_rest_ascii
}
