/// A moment, counted in ticks from whatever base the caller chose.
///
/// How long a tick is, is the caller's choice; the wheel only counts. Ticks wrap around after 2^32, so two of them
/// are ordered only when they lie less than 2^31 ticks apart (397 days of 16 ms): there is no `Ord`, there is
/// [`is_before`](Self::is_before).
#[derive(Copy, Clone, Eq, PartialEq, Hash, Debug, Default)]
pub struct Tick(u32);

impl Tick {
    /// The tick with the number `tick`.
    #[must_use]
    pub const fn new(tick: u32) -> Self {
        Self(tick)
    }

    /// The number of this tick.
    #[must_use]
    pub const fn get(self) -> u32 {
        self.0
    }

    /// The tick that comes `ticks` later.
    #[must_use]
    pub const fn wrapping_add(self, ticks: u32) -> Self {
        Self(self.0.wrapping_add(ticks))
    }

    /// The tick that came `ticks` earlier.
    #[must_use]
    pub const fn wrapping_sub(self, ticks: u32) -> Self {
        Self(self.0.wrapping_sub(ticks))
    }

    /// Whether this tick comes before `other`, which lies less than 2^31 ticks away.
    #[must_use]
    pub const fn is_before(self, other: Self) -> bool {
        self.ahead_of(other) < 0
    }

    /// The number of ticks from `earlier` to this one, modulo 2^32.
    #[must_use]
    pub const fn since(self, earlier: Self) -> u32 {
        self.0.wrapping_sub(earlier.0)
    }

    /// How far this tick lies ahead of `other`; negative when it lies behind.
    pub(crate) const fn ahead_of(self, other: Self) -> i32 {
        self.since(other).cast_signed()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn order_holds_across_the_wrap_around() {
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
