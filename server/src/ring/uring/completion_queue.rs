//! Taking completions from the kernel.

use io_uring::cqueue;

use super::{
    Uring,
    user_data::{self, Purpose},
};
use crate::ring::{Completion, OpCode};

/// Maximum number of enters for deferred task work after an enter that does not wait.
const TASK_WORK_RUNS_MAX: u32 = 256;

impl Uring {
    /// Takes a completion from the queue that is shared with the kernel.
    pub(super) fn pop_completion(&mut self) -> Option<Completion> {
        let entry = self.ring.completion().next()?;
        let (purpose, token) = user_data::decode(entry.user_data());
        let op = match purpose {
            Purpose::Op(op) => op,
            Purpose::InstallToShutdown | Purpose::InstallToQuery => {
                return Some(self.installer.installed(purpose, token, entry.result()));
            }
        };
        match op {
            OpCode::Send => self.installer.note_sent(token, entry.result()),
            OpCode::SendAll => drop(self.send_all_bytes.remove(&token)),
            OpCode::Fill => self.fills.end(token, entry.result()),
            _ => {}
        }
        let flags = entry.flags();
        let buffer = cqueue::buffer_select(flags)
            .map(|id| self.buffers.take(id, entry.result().max(0) as u32));
        Some(Completion {
            op,
            token,
            result: entry.result(),
            more: cqueue::more(flags),
            buffer,
        })
    }

    /// Empties the completion queue; [`Ring::reap`](super::Ring::reap) returns the completions later.
    pub(super) fn set_completions_aside(&mut self) {
        while let Some(completion) = self.pop_completion() {
            self.early_completions.push_back(completion);
        }
    }

    /// Takes the completions that did not fit into the queue, which the kernel keeps.
    pub(super) fn take_overflow(&mut self) {
        while self.ring.submission().cq_overflow() {
            self.set_completions_aside();
            match self.ring.submitter().submit_and_wait(0) {
                Ok(_) => {}
                Err(error) => match error.raw_os_error() {
                    Some(libc::EINTR | libc::EBUSY | libc::EAGAIN) => {}
                    _ => return self.fail(&error),
                },
            }
        }
    }

    /// Runs the kernel's deferred task work; returns whether all of it was run.
    ///
    /// One enter runs at most 20 items (the kernel's `IO_LOCAL_TW_DEFAULT_MAX`), in order. Turns that do
    /// not wait, and queue more work than that each, would delay received bytes more and more; so
    /// [`Ring::enter`](super::Ring::enter) calls this after an enter that does not wait.
    pub fn run_task_work(&mut self) -> bool {
        if self.failure.is_some() {
            return false;
        }
        for _ in 0..TASK_WORK_RUNS_MAX {
            if !self.ring.submission().taskrun() {
                return true;
            }
            if self.ring.submit().is_err() {
                break;
            }
        }
        false
    }

    /// Whether [`Ring::enter`](super::Ring::enter) would return without waiting, because a completion or
    /// deferred task work is pending.
    pub fn has_pending_completions(&mut self) -> bool {
        let submission = self.ring.submission();
        let is_pending = submission.taskrun() || submission.cq_overflow();
        drop(submission);
        is_pending || !self.early_completions.is_empty() || !self.ring.completion().is_empty()
    }

    /// Whether an enter that does not wait would do nothing.
    pub(super) fn is_idle(&mut self) -> bool {
        let submission = self.ring.submission();
        submission.is_empty() && !submission.taskrun() && !submission.cq_overflow()
    }
}
