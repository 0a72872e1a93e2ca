//! Why received bytes of a connection are kept unread.
//!
//! ```text
//!  Answers  answers might not find room in the send queue ── it is sent ─────────┐
//!  Turn     the connection has had its share ──────────────── the next turn ─────┼─► read on
//!  Room     it publishes, and what it published waits ─────── there is room ─────┘
//! ```

/// What a connection waits for before received bytes that are kept unread are read.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) struct Reading {
    waits_for: Option<Obstacle>,
}

/// What keeps a connection from reading.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) enum Obstacle {
    /// Everything that is queued is to be sent.
    Answers,
    /// It has had its share of the turn.
    Turn,
    /// It publishes, and there is to be room for what it publishes.
    Room,
}

impl Reading {
    pub(crate) const fn new() -> Self {
        Self { waits_for: None }
    }

    /// Notes what it waits for; says whether that is new, so that it is to be listed for it.
    pub(crate) fn wait_for(&mut self, obstacle: Obstacle) -> bool {
        self.waits_for.replace(obstacle) != Some(obstacle)
    }

    /// What it waits for, if it does.
    pub(crate) fn obstacle(self) -> Option<Obstacle> {
        self.waits_for
    }

    /// That is gone.
    pub(crate) fn go_on(&mut self) {
        self.waits_for = None;
    }
}
