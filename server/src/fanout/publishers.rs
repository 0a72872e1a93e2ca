//! Connections that publish, and whether they may go on.

use std::sync::Arc;

use super::{
    Fanout,
    budget::{Pressure, Window},
};

/// Bytes that a connection may have under way while messages wait for their turn, or one message.
const WINDOW_BYTES: usize = 64 << 10;

/// What is known of a connection from the messages that it has sent.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub(crate) enum PublishHistory {
    /// It has sent none.
    #[default]
    Unknown,
    /// None of them was published.
    Listens,
    /// One of them was.
    Publishes,
}

/// A connection whose last message was of so many bytes or fewer is not held back by others: it may have
/// one message under way until the budget is used up.
const SMALL_MESSAGE_BYTES: usize = 4 << 10;

/// The connections of a shard that have published.
#[derive(Debug, Default)]
pub(super) struct Publishers {
    /// The window of each slot, up to the highest that has ever published.
    windows: Vec<Option<Arc<Window>>>,
    /// Whether anybody has published since that was last asked.
    has_published: bool,
    /// The pressure on the fullest shard, if anybody has asked in this turn, and nothing was published
    /// since.
    pressure: Option<Pressure>,
}

impl Publishers {
    /// What a connection has under way; from now on it counts as one that publishes.
    fn window(&mut self, slot: u32) -> &Arc<Window> {
        self.has_published = true;
        let slot = slot as usize;
        if self.windows.len() <= slot {
            self.windows.resize(slot + 1, None);
        }
        self.windows[slot].get_or_insert_default()
    }

    fn under_way(&self, slot: u32) -> usize {
        let window = self.windows.get(slot as usize).and_then(Option::as_ref);
        window.map_or(0, |window| window.bytes())
    }

    /// Whether a connection has nothing under way, and publishes small messages.
    fn is_small_and_idle(&self, slot: u32) -> bool {
        let window = self.windows.get(slot as usize).and_then(Option::as_ref);
        window
            .is_none_or(|window| window.bytes() == 0 && window.last_bytes() <= SMALL_MESSAGE_BYTES)
    }

    /// Something was published: the pressure is to be looked at again.
    pub(super) fn note_publish(&mut self) {
        self.pressure = None;
    }

    pub(super) fn forget(&mut self, slot: u32) {
        if let Some(window) = self.windows.get_mut(slot as usize) {
            *window = None;
        }
    }

    pub(super) fn end_turn(&mut self) {
        self.pressure = None;
    }
}

impl Fanout {
    /// The window of a connection that publishes.
    pub(crate) fn window(&mut self, slot: u32) -> Arc<Window> {
        Arc::clone(self.publishers.window(slot))
    }

    /// Whether a connection has published since that was last asked.
    #[inline]
    pub(crate) fn take_published(&mut self) -> bool {
        std::mem::take(&mut self.publishers.has_published)
    }

    /// Whether the next message of a connection may be read: if it is published, there is to be room
    /// for it.
    pub(crate) fn may_read(&mut self, slot: u32, publish_history: PublishHistory) -> bool {
        match publish_history {
            PublishHistory::NeverPublished => true,
            PublishHistory::Unknown => self.pressure() < Pressure::HoldUnknown,
            PublishHistory::HasPublished => match self.pressure() {
                Pressure::Free if !self.is_full() => true,
                Pressure::Free | Pressure::Behind => self.publishers.under_way(slot) < WINDOW_BYTES,
                Pressure::Hold | Pressure::HoldUnknown => self.publishers.is_small_and_idle(slot),
                Pressure::Full => false,
            },
        }
    }

    /// The pressure on the fullest shard, as it was when somebody first asked since the turn began, or
    /// since this shard last published.
    fn pressure(&mut self) -> Pressure {
        let shared = &self.shared;
        *self
            .publishers
            .pressure
            .get_or_insert_with(|| shared.pressure())
    }
}
