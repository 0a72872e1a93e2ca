/// A time as the number of ticks since a base. The caller chooses the base and the length of a tick.
///
/// Ticks wrap around after 2^32. Two ticks have an order only if they are less than 2^31 ticks apart (397 days with ticks
/// of 16 ms), so the type has [`is_before`](Self::is_before) and no `Ord`.
#[derive(Copy, Clone, Eq, PartialEq, Hash, Debug, Default)]
pub struct Tick(u32);

impl Tick {
    /// Returns the tick with the number `tick`.
    #[must_use]
    pub const fn new(tick: u32) -> Self {
        Self(tick)
    }

    /// Returns the number of this tick.
    #[must_use]
    pub const fn get(self) -> u32 {
        self.0
    }

    /// Returns the tick `ticks` later.
    #[must_use]
    pub const fn wrapping_add(self, ticks: u32) -> Self {
        Self(self.0.wrapping_add(ticks))
    }

    /// Returns the tick `ticks` earlier.
    #[must_use]
    pub const fn wrapping_sub(self, ticks: u32) -> Self {
        Self(self.0.wrapping_sub(ticks))
    }

    /// Returns whether this tick is before `other`. The result is meaningful if both are less than 2^31 ticks apart.
    #[must_use]
    pub const fn is_before(self, other: Self) -> bool {
        self.ahead_of(other) < 0
    }

    /// Returns the number of ticks from `earlier` to this one, modulo 2^32.
    #[must_use]
    pub const fn since(self, earlier: Self) -> u32 {
        self.0.wrapping_sub(earlier.0)
    }

    /// Returns the number of ticks from `other` to this one, which is negative if this one is before `other`.
    pub(crate) const fn ahead_of(self, other: Self) -> i32 {
        self.since(other).cast_signed()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ticks_are_ordered_across_the_wrap_around() {
        let before = Tick::new(u32::MAX - 2);
        let after = before.wrapping_add(5);
        assert_eq!(after.get(), 2);
        assert!(before.is_before(after));
        assert!(!after.is_before(before));
        assert!(!after.is_before(after));
        assert_eq!(after.since(before), 5);
        assert_eq!(after.wrapping_sub(5), before);
    }
}
