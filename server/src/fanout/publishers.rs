//! The connections that publish, and the limits on reading them.

use std::sync::Arc;

use super::{Fanout, budget::Pressure, window::Window};

/// Bytes that a connection may have in flight while messages wait, at most; or one message.
const WINDOW_BYTES: usize = 64 << 10;

/// The messages that a connection has published.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub(crate) enum PublishHistory {
    /// It has not sent a message yet.
    #[default]
    Unknown,
    /// It has sent messages, and published none of them.
    NeverPublished,
    /// It has published.
    HasPublished,
}

/// Size in bytes of a small message. A connection whose last message was small is not limited by other
/// publishers: it may have one message in flight until the budget is used up.
const SMALL_MESSAGE_BYTES: usize = 4 << 10;

/// The connections of a shard that have published.
#[derive(Debug, Default)]
pub(super) struct Publishers {
    /// The window of each slot, up to the highest that has ever published.
    windows: Vec<Option<Arc<Window>>>,
    /// Whether a connection has published since the last [`Fanout::take_published`].
    has_published: bool,
    /// The highest pressure on any shard; `None` if it was not computed since the begin of the turn or since
    /// the last publication.
    pressure: Option<Pressure>,
}

impl Publishers {
    /// The window of a connection, which counts as a publisher from now on.
    fn window(&mut self, slot: u32) -> &Arc<Window> {
        self.has_published = true;
        let slot = slot as usize;
        if self.windows.len() <= slot {
            self.windows.resize(slot + 1, None);
        }
        self.windows[slot].get_or_insert_default()
    }

    fn bytes_in_flight(&self, slot: u32) -> usize {
        let window = self.windows.get(slot as usize).and_then(Option::as_ref);
        window.map_or(0, |window| window.bytes())
    }

    /// Returns whether a connection has nothing in flight, and its last message was small.
    fn is_small_and_idle(&self, slot: u32) -> bool {
        let window = self.windows.get(slot as usize).and_then(Option::as_ref);
        window
            .is_none_or(|window| window.bytes() == 0 && window.last_bytes() <= SMALL_MESSAGE_BYTES)
    }

    /// Discards the cached pressure, because a message was published.
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

    /// Returns whether a connection has published since the last call.
    #[inline]
    pub(crate) fn take_published(&mut self) -> bool {
        std::mem::take(&mut self.publishers.has_published)
    }

    /// Returns whether the next message of a connection may be read. If it is published, the budget must have
    /// space for it.
    pub(crate) fn may_read(&mut self, slot: u32, publish_history: PublishHistory) -> bool {
        match publish_history {
            PublishHistory::NeverPublished => true,
            PublishHistory::Unknown => self.pressure() < Pressure::HoldUnknown,
            PublishHistory::HasPublished => match self.pressure() {
                Pressure::Free if !self.is_full() => true,
                Pressure::Free | Pressure::Behind => {
                    self.publishers.bytes_in_flight(slot) < WINDOW_BYTES
                }
                Pressure::Hold | Pressure::HoldUnknown => self.publishers.is_small_and_idle(slot),
                Pressure::Full => false,
            },
        }
    }

    /// The highest pressure on any shard, computed once in a turn and after each publication of this shard.
    fn pressure(&mut self) -> Pressure {
        let shared = &self.shared;
        *self
            .publishers
            .pressure
            .get_or_insert_with(|| shared.pressure())
    }
}
