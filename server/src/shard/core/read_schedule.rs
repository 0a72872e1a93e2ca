//! The order in which connections with unread bytes are read.

use std::collections::VecDeque;

use super::read_quota::{self, ReadQuota};
use crate::connection::WaitReason;

/// Connections with unread bytes, and the quota of the turn.
#[derive(Debug)]
pub(in crate::shard) struct ReadSchedule {
    /// Connections that wait for quota: slot and generation.
    awaits_quota: VecDeque<(u32, u32)>,
    /// Connections that wait for a budget, of published messages or of tasks: slot and generation.
    awaits_budget: VecDeque<(u32, u32)>,
    /// Quota of one turn.
    per_turn: ReadQuota,
    /// Quota that is left in this turn.
    left: ReadQuota,
    /// Connections that want a part of the turn's quota.
    claimants: u32,
}

impl ReadSchedule {
    pub(in crate::shard) fn new(core_shards: u16) -> Self {
        let per_turn = read_quota::TURN.divided_by(core_shards);
        Self {
            awaits_quota: VecDeque::new(),
            awaits_budget: VecDeque::new(),
            per_turn,
            left: per_turn,
            claimants: 0,
        }
    }

    /// Begins a turn, in which `receives` receives have completed.
    pub(in crate::shard) fn begin_turn(&mut self, receives: usize) {
        self.left = self.per_turn;
        self.claimants = receives as u32;
    }

    /// Begins the part of a turn in which waiting connections are read.
    pub(in crate::shard) fn begin_waiting(&mut self) {
        self.claimants = self.awaits_quota.len() as u32;
    }

    /// Returns whether a connection waits for quota, so that the next turn can read it.
    pub(in crate::shard) fn is_behind(&self) -> bool {
        !self.awaits_quota.is_empty()
    }

    /// Returns whether a connection waits for a budget.
    pub(in crate::shard) fn awaits_budget(&self) -> bool {
        !self.awaits_budget.is_empty()
    }

    /// Adds a connection to the list for `reason`.
    pub(in crate::shard) fn list(&mut self, reason: WaitReason, slot: u32, generation: u32) {
        match reason {
            // The end of the send, or the answer, resumes it.
            WaitReason::SendQueue | WaitReason::Verdict => {}
            WaitReason::TurnQuota => self.awaits_quota.push_back((slot, generation)),
            WaitReason::PublishBudget | WaitReason::Tasks => {
                self.awaits_budget.push_back((slot, generation));
            }
        }
    }

    /// Takes the next connection that waits for quota, unless the turn's quota is used up.
    pub(in crate::shard) fn next(&mut self) -> Option<(u32, u32)> {
        if self.left.is_used_up() {
            return None;
        }
        self.awaits_quota.pop_front()
    }

    /// Number of connections that wait for a budget.
    pub(in crate::shard) fn over_budget(&self) -> usize {
        self.awaits_budget.len()
    }

    /// Takes the next connection that waits for a budget.
    pub(in crate::shard) fn next_over_budget(&mut self) -> Option<(u32, u32)> {
        self.awaits_budget.pop_front()
    }

    /// The quota of the next connection.
    pub(in crate::shard) fn quota(&self) -> ReadQuota {
        self.left.of_connection(self.claimants)
    }

    /// Quota that is left in this turn.
    pub(in crate::shard) fn left(&mut self) -> &mut ReadQuota {
        &mut self.left
    }
}
