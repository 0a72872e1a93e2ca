use crate::{SLOTS, Tick};

/// The caller's part of one timer: 8 bytes, kept beside the thing that is timed.
///
/// All-zero bytes, [`new`](Self::new) and `default()` are the same: no deadline, and no entry in any wheel. While it
/// has an entry, a timer belongs to one id of one [`Wheel`](crate::Wheel); that is why it is neither `Clone` nor `Copy`.
#[derive(Debug, Default)]
pub struct Timer {
    deadline: Tick,
    queued: Label,
    /// Whether `deadline` counts; then there is an entry. Not so the other way round: `clear` leaves the entry, to be
    /// taken over by the next `set`.
    armed: bool,
}

const _: () = assert!(size_of::<Timer>() == 8);

impl Timer {
    /// A timer without a deadline.
    #[must_use]
    pub const fn new() -> Self {
        Self {
            deadline: Tick::new(0),
            queued: Label::NONE,
            armed: false,
        }
    }

    /// The deadline, if there is one, as it was given to [`Wheel::set`](crate::Wheel::set).
    #[must_use]
    pub const fn deadline(&self) -> Option<Tick> {
        if self.armed {
            Some(self.deadline)
        } else {
            None
        }
    }

    /// Whether there is a deadline.
    #[must_use]
    pub const fn is_set(&self) -> bool {
        self.armed
    }

    pub(crate) const fn arm(&mut self, deadline: Tick) {
        self.deadline = deadline;
        self.armed = true;
    }

    /// Moves the deadline of a timer that is armed: the one store of a reschedule.
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

/// Where a timer's entry lies: nowhere, or in a slot; and in which generation of that slot.
///
/// A slot in place of a tick is enough, because an entry never lies further ahead than the wheel is long, and it
/// stays true when the wheel leaps over whole turns.
#[derive(Copy, Clone, Eq, PartialEq, Debug, Default)]
pub(crate) struct Label(u16);

impl Label {
    /// Zero, so that zeroed memory is an idle timer.
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

    /// The slot; meaningless if `is_none`.
    pub(crate) const fn slot(self) -> usize {
        (self.0 & Self::SLOT) as usize
    }

    pub(crate) const fn other_generation(self) -> Self {
        Self(self.0 ^ Self::GENERATION)
    }

    /// Whether both name the same slot, in whatever generation.
    pub(crate) const fn same_slot(self, other: Self) -> bool {
        (self.0 ^ other.0) & !Self::GENERATION == 0
    }
}

const _: () = assert!(SLOTS.is_power_of_two() && SLOTS <= Label::GENERATION as usize);
