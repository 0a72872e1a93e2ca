use std::fmt;

/// Bytes that are fetched from the kernel at a time: 256 masking keys.
const POOL_SIZE: usize = 1024;

/// Masking keys that a peer cannot predict (RFC 6455 10.3: "derived from a strong source of
/// entropy"): the kernel's generator, read 256 keys at a time. Seeded in simulations.
pub(crate) struct MaskingKeys {
    source: Source,
    pool: [u8; POOL_SIZE],
    used: usize,
}

enum Source {
    Kernel,
    Seeded { state: u64 },
}

impl MaskingKeys {
    pub(crate) fn unpredictable() -> Self {
        Self {
            source: Source::Kernel,
            pool: [0; POOL_SIZE],
            used: POOL_SIZE,
        }
    }

    pub(crate) fn with_seed(seed: u64) -> Self {
        Self {
            source: Source::Seeded { state: seed },
            pool: [0; POOL_SIZE],
            used: POOL_SIZE,
        }
    }

    #[inline]
    pub(crate) fn next_key(&mut self) -> [u8; 4] {
        self.take()
    }

    /// `N` random bytes, none of which is handed out again.
    #[inline]
    pub(crate) fn take<const N: usize>(&mut self) -> [u8; N] {
        const { assert!(N <= POOL_SIZE) };
        if POOL_SIZE - self.used < N {
            self.refill();
        }
        let mut bytes = [0; N];
        bytes.copy_from_slice(&self.pool[self.used..self.used + N]);
        self.used += N;
        bytes
    }

    /// # Panics
    ///
    /// When the kernel has no random bytes, as no Linux since 3.17 does: predictable masking keys
    /// would be worse.
    #[cold]
    fn refill(&mut self) {
        match &mut self.source {
            Source::Kernel => getrandom::fill(&mut self.pool).expect("getrandom(2) is available"),
            Source::Seeded { state } => {
                for word in self.pool.as_chunks_mut::<8>().0 {
                    *word = split_mix(state).to_le_bytes();
                }
            }
        }
        self.used = 0;
    }
}

impl fmt::Debug for MaskingKeys {
    /// Does not show keys that are yet to be used.
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter
            .debug_struct("MaskingKeys")
            .finish_non_exhaustive()
    }
}

/// SplitMix64 (Steele, Lea, Flood 2014): well distributed for any seed; not for secrets.
fn split_mix(state: &mut u64) -> u64 {
    *state = state.wrapping_add(0x9e37_79b9_7f4a_7c15);
    let mut word = *state;
    word = (word ^ (word >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    word = (word ^ (word >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    word ^ (word >> 31)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_seed_gives_the_same_keys_again() {
        let mut one = MaskingKeys::with_seed(7);
        let mut two = MaskingKeys::with_seed(7);
        let mut other = MaskingKeys::with_seed(8);
        let keys: Vec<_> = (0..1000).map(|_| one.next_key()).collect();
        assert!(keys.iter().all(|&key| two.next_key() == key));
        assert!(keys.iter().any(|&key| other.next_key() != key));
    }

    #[test]
    fn no_byte_of_the_pool_is_handed_out_twice() {
        let mut keys = MaskingKeys::unpredictable();
        let mut seen: Vec<[u8; 16]> = (0..1000).map(|_| keys.take()).collect();
        seen.sort_unstable();
        seen.dedup();
        assert_eq!(seen.len(), 1000);
    }
}
