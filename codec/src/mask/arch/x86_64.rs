//! Masking with SSE2, which every x86-64 processor has, AVX2, and AVX-512.
#![allow(unsafe_code)]

use std::arch::x86_64::{
    __m128i, __m256i, __m512i, _mm_loadu_si128, _mm_movemask_epi8, _mm_or_si128, _mm_set1_epi32,
    _mm_storeu_si128, _mm_xor_si128, _mm256_loadu_si256, _mm256_movemask_epi8, _mm256_or_si256,
    _mm256_set1_epi32, _mm256_storeu_si256, _mm256_xor_si256, _mm512_loadu_si512, _mm512_or_si512,
    _mm512_set1_epi32, _mm512_storeu_si512, _mm512_test_epi32_mask, _mm512_xor_si512,
};

#[cfg(test)]
use super::{Backend, short};

/// Masks as [`super::Mask`] defines.
///
/// # Safety
///
/// The conditions of [`super::Mask`].
#[inline]
pub(super) unsafe fn mask(from: *const u8, to: *mut u8, len: usize, key: [u8; 4]) -> bool {
    // Below one vector of AVX-512, feature detection takes longer than wider vectors save.
    let is_long = len >= size_of::<__m512i>();
    // SAFETY: the features are detected, and every x86-64 processor has SSE2. `len` is at least 64 for
    // the first two functions, and more than 32 for the last. The other conditions are those of this
    // function.
    unsafe {
        if is_long && is_x86_feature_detected!("avx512f") {
            avx512(from, to, len, key)
        } else if is_long && is_x86_feature_detected!("avx2") {
            avx2(from, to, len, key)
        } else {
            sse2(from, to, len, key)
        }
    }
}

/// Defines a function that masks with vectors of one width.
///
/// The first and the last vectors are unaligned and may overlap others, so no single bytes remain. They are
/// read before any write and written after all others, so that each byte is masked once. The vectors
/// between them are written at multiples of their width, so that none crosses a cache line.
macro_rules! backend {
    ($name:ident, $feature:literal, $vector:ty, $load:ident, $store:ident, $xor:ident, $or:ident,
     $splat:ident, $is_ascii:expr) => {
        /// # Safety
        ///
        /// The conditions of [`super::Mask`]. The processor has the feature, and `len` is at least the width of
        /// one vector.
        #[target_feature(enable = $feature)]
        unsafe fn $name(from: *const u8, to: *mut u8, len: usize, key: [u8; 4]) -> bool {
            const WIDTH: usize = size_of::<$vector>();
            const FOUR: usize = 4 * WIDTH;
            let key = u32::from_le_bytes(key);
            let key_at =
                |position: usize| $splat(key.rotate_right(8 * (position % 4) as u32) as i32);
            let mut position = WIDTH - to.addr() % WIDTH;
            let aligned_key = key_at(position);
            // SAFETY: `len` is at least `WIDTH`, and more than `FOUR` in the second branch, so the first
            // and the last vectors are within it. The loop conditions keep `position` plus the accessed
            // bytes within `len`. The accesses need no alignment.
            unsafe {
                let first = $xor($load(from.cast()), key_at(0));
                if len <= FOUR {
                    let last = $xor($load(from.add(len - WIDTH).cast()), key_at(len - WIDTH));
                    let mut all = $or(first, last);
                    while position < len - WIDTH {
                        let masked = $xor($load(from.add(position).cast()), aligned_key);
                        $store(to.add(position).cast(), masked);
                        all = $or(all, masked);
                        position += WIDTH;
                    }
                    $store(to.cast(), first);
                    $store(to.add(len - WIDTH).cast(), last);
                    $is_ascii(all)
                } else {
                    let last_vectors: *const $vector = from.add(len - FOUR).cast();
                    let last_key = key_at(len - FOUR);
                    let last: [$vector; 4] =
                        std::array::from_fn(|i| $xor($load(last_vectors.add(i)), last_key));
                    let mut all = $or($or(first, last[0]), $or(last[1], $or(last[2], last[3])));
                    while position < len - FOUR {
                        let vectors: *const $vector = from.add(position).cast();
                        let masked: [$vector; 4] =
                            std::array::from_fn(|i| $xor($load(vectors.add(i)), aligned_key));
                        let vectors: *mut $vector = to.add(position).cast();
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
                    $store(to.cast(), first);
                    let last_vectors: *mut $vector = to.add(len - FOUR).cast();
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

/// The top bit of each byte, which is 0 in ASCII.
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
pub(super) fn backends() -> Vec<Backend> {
    let backend = |name, len_min, mask| Backend {
        name,
        len_min,
        mask,
    };
    let mut backends = vec![backend("sse2", short::LEN_MAX + 1, sse2)];
    if is_x86_feature_detected!("avx2") {
        backends.push(backend("avx2", short::LEN_MAX + 1, avx2));
    }
    if is_x86_feature_detected!("avx512f") {
        backends.push(backend("avx512", size_of::<__m512i>(), avx512));
    }
    backends
}
