use crate::{SLOTS, Tick};

/// The caller's part of one timer: 8 bytes, stored in the caller's record.
///
/// [`new`](Self::new), `default()` and all-zero bytes are equal: a timer without a deadline and without an entry. A timer
/// with an entry belongs to one id of one [`Wheel`](crate::Wheel), so it is neither `Clone` nor `Copy`.
#[derive(Debug, Default)]
pub struct Timer {
    deadline: Tick,
    queued: Label,
    /// Whether `deadline` is valid. An armed timer has an entry. After `clear`, a timer may have an entry as well, which
    /// the next `set` reuses.
    armed: bool,
}

const _: () = assert!(size_of::<Timer>() == 8);

impl Timer {
    /// Returns a timer without a deadline.
    #[must_use]
    pub const fn new() -> Self {
        Self {
            deadline: Tick::new(0),
            queued: Label::NONE,
            armed: false,
        }
    }

    /// Returns the deadline of the last [`Wheel::set`](crate::Wheel::set), or `None` if the timer has expired or was
    /// cleared.
    #[must_use]
    pub const fn deadline(&self) -> Option<Tick> {
        if self.armed {
            Some(self.deadline)
        } else {
            None
        }
    }

    /// Returns whether the timer has a deadline.
    #[must_use]
    pub const fn is_set(&self) -> bool {
        self.armed
    }

    pub(crate) const fn arm(&mut self, deadline: Tick) {
        self.deadline = deadline;
        self.armed = true;
    }

    /// Moves the deadline of an armed timer to a time after its entry: one store.
    pub(crate) const fn postpone(&mut self, deadline: Tick) {
        debug_assert!(self.armed && !self.queued.is_none());
        self.deadline = deadline;
    }

    pub(crate) const fn disarm(&mut self) {
        self.armed = false;
    }

    pub(crate) const fn queued(&self) -> Label {
        self.queued
    }

    pub(crate) const fn queue(&mut self, label: Label) {
        self.queued = label;
    }
}

/// The slot of a timer's entry and the generation of that slot, or [`NONE`](Self::NONE) without an entry.
///
/// A slot identifies the entry without its tick, because an entry is less than one turn ahead. It stays valid when the
/// wheel skips whole turns.
#[derive(Copy, Clone, Eq, PartialEq, Debug, Default)]
pub(crate) struct Label(u16);

impl Label {
    /// The label of a timer without an entry. It is 0, so that zeroed memory is such a timer.
    pub(crate) const NONE: Self = Self(0);
    const QUEUED: u16 = 1 << 15;
    const GENERATION: u16 = 1 << 14;
    const SLOT: u16 = SLOTS as u16 - 1;

    pub(crate) const fn new(slot: usize) -> Self {
        debug_assert!(slot < SLOTS);
        Self(Self::QUEUED | slot as u16)
    }

    pub(crate) const fn is_none(self) -> bool {
        self.0 & Self::QUEUED == 0
    }

    /// Returns the slot. The value is meaningless if `is_none`.
    pub(crate) const fn slot(self) -> usize {
        (self.0 & Self::SLOT) as usize
    }

    pub(crate) const fn other_generation(self) -> Self {
        Self(self.0 ^ Self::GENERATION)
    }

    /// Returns whether both have the same slot, in any generation.
    pub(crate) const fn same_slot(self, other: Self) -> bool {
        (self.0 ^ other.0) & !Self::GENERATION == 0
    }
}

const _: () = assert!(SLOTS.is_power_of_two() && SLOTS <= Label::GENERATION as usize);
