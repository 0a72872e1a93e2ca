//! Masking of payloads of at most [`LEN_MAX`] bytes, with two words that may overlap.

/// Longest payload of this module in bytes.
pub(super) const LEN_MAX: usize = 32;

/// Masks at most [`LEN_MAX`] bytes, like [`super::mask_and_test`].
#[inline]
pub(super) fn mask(bytes: &mut [u8], key: [u8; 4]) -> bool {
    match bytes.len() {
        0..=3 => up_to_3_bytes(bytes, key),
        4..=7 => two_words_u32(bytes, key),
        8..=15 => two_words_u64(bytes, key),
        _ => two_words_u128(bytes, key),
    }
}

fn up_to_3_bytes(bytes: &mut [u8], key: [u8; 4]) -> bool {
    let mut all = 0;
    for (byte, key) in bytes.iter_mut().zip(key) {
        *byte ^= key;
        all |= *byte;
    }
    all.is_ascii()
}

/// Defines a function that masks the first and the last word of a payload of one to two words. Both are
/// read before either is written, so that the bytes in both words are masked once.
macro_rules! two_words {
    ($name:ident, $word:ty) => {
        #[inline]
        fn $name(bytes: &mut [u8], key: [u8; 4]) -> bool {
            const SIZE: usize = size_of::<$word>();
            const HIGH_BITS: $word = <$word>::from_ne_bytes([0x80; SIZE]);
            // Multiplication by this repeats the key in every four bytes of a word.
            const REPEAT: $word = <$word>::MAX / u32::MAX as $word;
            let key = u32::from_le_bytes(key);
            let tail_start = bytes.len() - SIZE;
            let (Some(&head), Some(&tail)) = (bytes.first_chunk(), bytes.last_chunk()) else {
                unreachable!("the payload is at least one word long");
            };
            let tail_key = key.rotate_right(8 * (tail_start % 4) as u32);
            let head = <$word>::from_le_bytes(head) ^ (key as $word * REPEAT);
            let tail = <$word>::from_le_bytes(tail) ^ (tail_key as $word * REPEAT);
            bytes[..SIZE].copy_from_slice(&head.to_le_bytes());
            bytes[tail_start..].copy_from_slice(&tail.to_le_bytes());
            (head | tail) & HIGH_BITS == 0
        }
    };
}

two_words!(two_words_u32, u32);
two_words!(two_words_u64, u64);
two_words!(two_words_u128, u128);
