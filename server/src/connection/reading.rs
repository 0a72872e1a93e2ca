//! The reason why received bytes of a connection are not read.
//!
//! ```text
//! PublishBudget  its published messages wait ── the budget has space, or it closes ─► TurnQuota
//! TurnQuota      its quota is used up ───────── a turn has quota for it ────────────► read
//! Verdict        its request is not answered ── the answer is there ────────────────► TurnQuota
//! Tasks          it has too many tasks ──────── a task has finished, or it closes ──► TurnQuota
//! SendQueue      answers may have no space ──── everything is sent ─────────────────► read
//! ```

/// The state of reading: enabled, or waiting for a reason.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) struct Reading {
    waits_for: Option<WaitReason>,
}

/// The reason why a connection is not read.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) enum WaitReason {
    /// The send queue may have no space for answers.
    SendQueue,
    /// The connection's quota of the turn is used up.
    TurnQuota,
    /// The connection publishes, and the budget of published messages has no space.
    PublishBudget,
    /// The application has not decided yet how to answer the request.
    Verdict,
    /// The connection, or its shard, has as many tasks as it may have.
    Tasks,
}

impl Reading {
    pub(crate) const fn new() -> Self {
        Self { waits_for: None }
    }

    /// Sets the reason. Returns whether it has changed, so that the connection must be listed for it.
    #[inline]
    pub(crate) fn wait_for(&mut self, reason: WaitReason) -> bool {
        self.waits_for.replace(reason) != Some(reason)
    }

    /// The reason why the connection is not read, if it waits.
    #[inline]
    pub(crate) fn reason(self) -> Option<WaitReason> {
        self.waits_for
    }

    /// Enables reading.
    #[inline]
    pub(crate) fn resume(&mut self) {
        self.waits_for = None;
    }
}
