//! Why received bytes of a connection are kept unread.
//!
//! ```text
//!  Room     it has much under way that it published ─ there is room, or it closes ─► Turn
//!  Turn     it has had its share of the turn ──────── a turn has a share for it ───► read on
//!  Answers  answers might not find room to be sent ── everything is sent ──────────► read on
//! ```

/// The state of reading: on, or held up by an reason while received bytes are kept unread.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) struct Reading {
    waits_for: Option<WaitReason>,
}

/// The reason why a connection does not read.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) enum WaitReason {
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

    /// Notes an reason; says whether it is a new one, so that the connection must be listed for it.
    #[inline]
    pub(crate) fn wait_for(&mut self, reason: WaitReason) -> bool {
        self.waits_for.replace(reason) != Some(reason)
    }

    /// The reason that it waits for, if any.
    #[inline]
    pub(crate) fn reason(self) -> Option<WaitReason> {
        self.waits_for
    }

    /// Notes that the reason is gone.
    #[inline]
    pub(crate) fn go_on(&mut self) {
        self.waits_for = None;
    }
}
