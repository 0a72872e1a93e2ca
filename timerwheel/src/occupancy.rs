use crate::SLOTS;

const WORDS: usize = SLOTS / 64;
const _: () = assert!(WORDS == 64, "the summary has one bit for each word");

/// The set of slots with entries: a bit for each slot, and a summary bit for each word of these bits.
#[derive(Debug)]
pub(crate) struct Occupancy {
    words: [u64; WORDS],
    summary: u64,
}

impl Occupancy {
    pub(crate) const fn new() -> Self {
        Self {
            words: [0; WORDS],
            summary: 0,
        }
    }

    pub(crate) const fn insert(&mut self, slot: usize) {
        self.words[slot / 64] |= 1 << (slot % 64);
        self.summary |= 1 << (slot / 64);
    }

    pub(crate) const fn remove(&mut self, slot: usize) {
        self.words[slot / 64] &= !(1 << (slot % 64));
        if self.words[slot / 64] == 0 {
            self.summary &= !(1 << (slot / 64));
        }
    }

    pub(crate) const fn contains(&self, slot: usize) -> bool {
        self.words[slot / 64] & 1 << (slot % 64) != 0
    }

    /// Returns the first occupied slot from `slot` to the last slot. `slot` is at most `SLOTS`.
    pub(crate) fn first_from(&self, slot: usize) -> Option<usize> {
        let word = slot / 64;
        if word == WORDS {
            return None;
        }
        let here = self.words[word] & u64::MAX << (slot % 64);
        if here != 0 {
            return Some(word * 64 + here.trailing_zeros() as usize);
        }
        let later = self.summary & (u64::MAX << word) & !(1 << word);
        if later == 0 {
            return None;
        }
        let word = later.trailing_zeros() as usize;
        Some(word * 64 + self.words[word].trailing_zeros() as usize)
    }

    /// Returns the distance from `slot` to the next occupied one, with wrap-around: 1 to `SLOTS`.
    pub(crate) fn distance_after(&self, slot: usize) -> Option<u32> {
        let next = self.first_from(slot + 1).or_else(|| self.first_from(0))?;
        let distance = next.wrapping_sub(slot + 1) % SLOTS + 1;
        Some(distance as u32)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_distance_equals_that_of_a_linear_search() {
        let mut occupancy = Occupancy::new();
        assert_eq!(occupancy.distance_after(17), None);
        for slot in [0, 1, 63, 64, 130, 2048, 4095] {
            occupancy.insert(slot);
        }
        occupancy.insert(200);
        occupancy.remove(200);
        for slot in 0..SLOTS {
            let expected = (1..=SLOTS).find(|step| occupancy.contains((slot + step) % SLOTS));
            assert_eq!(
                occupancy.distance_after(slot),
                expected.map(|step| step as u32),
                "after {slot}"
            );
        }
    }

    #[test]
    fn the_only_occupied_slot_is_one_turn_from_itself() {
        let mut occupancy = Occupancy::new();
        occupancy.insert(77);
        assert_eq!(occupancy.distance_after(77), Some(SLOTS as u32));
    }
}
