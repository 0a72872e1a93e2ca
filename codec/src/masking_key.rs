use std::fmt;

/// Random bytes that one system call fetches: 256 masking keys.
const POOL_SIZE: usize = 1024;

/// A generator of masking keys "derived from a strong source of entropy" (RFC 6455 10.3), or from a seed
/// in simulations.
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

    /// Returns `N` random bytes. Each byte is returned once.
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

    /// Fills the pool.
    ///
    /// # Panics
    ///
    /// If getrandom(2) fails, which does not happen since Linux 3.17. Predictable masking keys would be
    /// worse.
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
    /// Does not print unused keys.
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter
            .debug_struct("MaskingKeys")
            .finish_non_exhaustive()
    }
}

/// Returns the next value of SplitMix64 (Steele, Lea and Flood 2014): well distributed for any seed, but not
/// secret.
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
    fn equal_seeds_give_equal_keys() {
        let mut one = MaskingKeys::with_seed(7);
        let mut two = MaskingKeys::with_seed(7);
        let mut other = MaskingKeys::with_seed(8);
        let keys: Vec<_> = (0..1000).map(|_| one.next_key()).collect();
        assert!(keys.iter().all(|&key| two.next_key() == key));
        assert!(keys.iter().any(|&key| other.next_key() != key));
    }

    #[test]
    fn no_byte_of_the_pool_is_returned_twice() {
        let mut keys = MaskingKeys::unpredictable();
        let mut seen: Vec<[u8; 16]> = (0..1000).map(|_| keys.take()).collect();
        seen.sort_unstable();
        seen.dedup();
        assert_eq!(seen.len(), 1000);
    }
}
