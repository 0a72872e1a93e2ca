//! SSE2, which every x86-64 has, AVX2, and AVX-512.
#![allow(unsafe_code)]

use std::arch::x86_64::{
    __m128i, __m256i, __m512i, _mm_loadu_si128, _mm_movemask_epi8, _mm_or_si128, _mm_set1_epi32,
    _mm_storeu_si128, _mm_xor_si128, _mm256_loadu_si256, _mm256_movemask_epi8, _mm256_or_si256,
    _mm256_set1_epi32, _mm256_storeu_si256, _mm256_xor_si256, _mm512_loadu_si512, _mm512_or_si512,
    _mm512_set1_epi32, _mm512_storeu_si512, _mm512_test_epi32_mask, _mm512_xor_si512,
};

use super::short;

/// As [`crate::mask::mask_and_test`], for more than [`short::LEN_MAX`] bytes.
#[inline]
pub(super) fn mask(bytes: &mut [u8], key: [u8; 4]) -> bool {
    // Below one vector of AVX-512, a choice costs more than it gains.
    let is_long = bytes.len() >= size_of::<__m512i>();
    if is_long && is_x86_feature_detected!("avx512f") {
        // SAFETY: the processor has AVX-512F, and there are 64 bytes at least.
        unsafe { avx512(bytes, key) }
    } else if is_long && is_x86_feature_detected!("avx2") {
        // SAFETY: the processor has AVX2, and there are 32 bytes at least.
        unsafe { avx2(bytes, key) }
    } else {
        debug_assert!(bytes.len() > short::LEN_MAX);
        // SAFETY: every x86-64 has SSE2, and there are 16 bytes at least.
        unsafe { sse2(bytes, key) }
    }
}

/// Masks with vectors of one width.
///
/// The first vector and the last ones may lie anywhere and overlap with others, so there is no loop
/// over single bytes. They are read before anything is written and written after everything else,
/// so that each byte is masked once. Those between start at multiples of the width, so that none
/// lies in two cache lines.
macro_rules! backend {
    ($name:ident, $feature:literal, $vector:ty, $load:ident, $store:ident, $xor:ident, $or:ident,
     $splat:ident, $is_ascii:expr) => {
        /// # Safety
        ///
        /// The processor has the feature, and `bytes` is at least as long as one vector.
        #[target_feature(enable = $feature)]
        unsafe fn $name(bytes: &mut [u8], key: [u8; 4]) -> bool {
            const WIDTH: usize = size_of::<$vector>();
            const FOUR: usize = 4 * WIDTH;
            let key = u32::from_le_bytes(key);
            let key_at =
                |position: usize| $splat(key.rotate_right(8 * (position % 4) as u32) as i32);
            let (start, len) = (bytes.as_mut_ptr(), bytes.len());
            let mut position = WIDTH - start.addr() % WIDTH;
            let aligned_key = key_at(position);
            // SAFETY: `len` is at least `WIDTH`, and at least `FOUR` in the second branch, so the
            // first vector and the last ones are within `bytes`. At each access of the loops,
            // `position` and what is accessed behind it are at most `len`, by their conditions.
            // The accesses need no alignment.
            unsafe {
                let first = $xor($load(start.cast()), key_at(0));
                if len <= FOUR {
                    let last_vector: *mut $vector = start.add(len - WIDTH).cast();
                    let last = $xor($load(last_vector), key_at(len - WIDTH));
                    let mut all = $or(first, last);
                    while position < len - WIDTH {
                        let vector: *mut $vector = start.add(position).cast();
                        let masked = $xor($load(vector), aligned_key);
                        $store(vector, masked);
                        all = $or(all, masked);
                        position += WIDTH;
                    }
                    $store(start.cast(), first);
                    $store(last_vector, last);
                    $is_ascii(all)
                } else {
                    let last_vectors: *mut $vector = start.add(len - FOUR).cast();
                    let last_key = key_at(len - FOUR);
                    let last: [$vector; 4] =
                        std::array::from_fn(|i| $xor($load(last_vectors.add(i)), last_key));
                    let mut all = $or($or(first, last[0]), $or(last[1], $or(last[2], last[3])));
                    while position < len - FOUR {
                        let vectors: *mut $vector = start.add(position).cast();
                        let masked: [$vector; 4] =
                            std::array::from_fn(|i| $xor($load(vectors.add(i)), aligned_key));
                        $store(vectors, masked[0]);
                        $store(vectors.add(1), masked[1]);
                        $store(vectors.add(2), masked[2]);
                        $store(vectors.add(3), masked[3]);
                        all = $or(
                            all,
                            $or($or(masked[0], masked[1]), $or(masked[2], masked[3])),
                        );
                        position += FOUR;
                    }
                    $store(start.cast(), first);
                    $store(last_vectors, last[0]);
                    $store(last_vectors.add(1), last[1]);
                    $store(last_vectors.add(2), last[2]);
                    $store(last_vectors.add(3), last[3]);
                    $is_ascii(all)
                }
            }
        }
    };
}

/// The bit in each byte that ASCII does not use.
const HIGH_BITS: i32 = i32::from_ne_bytes([0x80; 4]);

backend!(
    sse2,
    "sse2",
    __m128i,
    _mm_loadu_si128,
    _mm_storeu_si128,
    _mm_xor_si128,
    _mm_or_si128,
    _mm_set1_epi32,
    |all| _mm_movemask_epi8(all) == 0
);
backend!(
    avx2,
    "avx2",
    __m256i,
    _mm256_loadu_si256,
    _mm256_storeu_si256,
    _mm256_xor_si256,
    _mm256_or_si256,
    _mm256_set1_epi32,
    |all| _mm256_movemask_epi8(all) == 0
);
backend!(
    avx512,
    "avx512f",
    __m512i,
    _mm512_loadu_si512,
    _mm512_storeu_si512,
    _mm512_xor_si512,
    _mm512_or_si512,
    _mm512_set1_epi32,
    |all| _mm512_test_epi32_mask(all, _mm512_set1_epi32(HIGH_BITS)) == 0
);

#[cfg(test)]
pub(super) fn backends() -> Vec<(&'static str, super::Backend)> {
    // SAFETY: every x86-64 has SSE2, and callers mask more than `short::LEN_MAX` bytes.
    let mut backends: Vec<(&'static str, super::Backend)> =
        vec![("sse2", |bytes, key| unsafe { sse2(bytes, key) })];
    if is_x86_feature_detected!("avx2") {
        // SAFETY: the processor has AVX2, and callers mask more than `short::LEN_MAX` bytes.
        backends.push(("avx2", |bytes, key| unsafe { avx2(bytes, key) }));
    }
    if is_x86_feature_detected!("avx512f") {
        backends.push(("avx512", |bytes, key| {
            if bytes.len() >= 64 {
                // SAFETY: the processor has AVX-512F, and there are 64 bytes at least.
                unsafe { avx512(bytes, key) }
            } else {
                mask(bytes, key)
            }
        }));
    }
    backends
}
