//! The inbox of a shard: jobs and commands from other threads.

use std::sync::{
    Arc, OnceLock,
    atomic::{AtomicU8, Ordering},
};

use bytes::Bytes;
use tidewheel_codec::CloseCode;

use super::{
    Published,
    budget::Budget,
    mpsc_queue::{Closed, MpscQueue},
};
use crate::{ConnectionId, call::SentCall, command::Command, ring::Waker, stats::Stats};

/// Error of adding a job: the shard has ended.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) struct Gone;

/// A job that another thread gives to a shard.
#[derive(Debug)]
pub(crate) enum Job {
    Publish(Arc<Published>),
    Send {
        id: ConnectionId,
        is_text: bool,
        payload: Bytes,
    },
    Close {
        id: ConnectionId,
        code: CloseCode,
        reason: Box<str>,
    },
    /// Calls a closure with a connection.
    Call {
        id: ConnectionId,
        call: SentCall,
    },
}

/// Memory in bytes of a node of the job queue, including the overhead of an allocator.
const NODE_BYTES: usize = size_of::<Job>() + 32;

/// Memory in bytes of a [`SentCall`] without its closure: three allocations, one of them for the answer.
const CALL_OVERHEAD: usize = 160;

impl Job {
    /// Memory in bytes of the job.
    fn size(&self) -> usize {
        let size = match self {
            Self::Publish(message) => message.size(),
            Self::Send { payload, .. } => payload.len(),
            Self::Close { reason, .. } => reason.len(),
            Self::Call { call, .. } => call.size() + CALL_OVERHEAD,
        };
        NODE_BYTES + size
    }
}

/// The jobs and commands for a shard.
#[derive(Debug)]
pub(crate) struct Inbox {
    jobs: MpscQueue<Job>,
    commands: AtomicU8,
    /// Set before the shard first takes its jobs.
    waker: OnceLock<Waker>,
    /// The shard's counters.
    stats: Arc<Stats>,
    pub(crate) budget: Budget,
}

impl Inbox {
    pub(super) fn new(fanout_memory: usize) -> Self {
        Self {
            jobs: MpscQueue::new(),
            commands: AtomicU8::new(0),
            waker: OnceLock::new(),
            stats: Arc::default(),
            budget: Budget::new(fanout_memory),
        }
    }

    /// Sets the waker of the shard. Returns whether it was not set before.
    pub(super) fn set_waker(&self, waker: Waker) -> bool {
        self.waker.set(waker).is_ok()
    }

    /// The counters of the shard.
    pub(crate) fn stats(&self) -> &Arc<Stats> {
        &self.stats
    }

    /// Number of connections of the shard; 0 after it has ended.
    pub(super) fn connections(&self) -> u64 {
        match self.budget.is_closed() {
            true => 0,
            false => self.stats.connections.get(),
        }
    }

    pub(super) fn waker(&self) -> Option<&Waker> {
        self.waker.get()
    }

    /// Adds a job without waking the shard. Returns whether the caller has to wake the shard.
    pub(super) fn push_without_wake(&self, job: Job) -> Result<bool, Gone> {
        let size = job.size();
        self.budget.add_queued(size);
        self.jobs.add(job).map_err(|Closed| {
            self.budget.remove_queued(size);
            Gone
        })
    }

    /// Adds a job, and wakes the shard if the inbox was empty.
    pub(crate) fn push(&self, job: Job) -> Result<(), Gone> {
        if self.push_without_wake(job)? {
            self.wake();
        }
        Ok(())
    }

    /// Closes the inbox of a shard that has ended, and drops all jobs. From now on the shard limits no
    /// publisher. Returns whether the inbox was open.
    pub(super) fn close(&self) -> bool {
        let was_open = self.jobs.close(|job| self.note_read(&job));
        self.budget.close();
        was_open
    }

    /// Adds a command. Commands overtake jobs.
    pub(crate) fn command(&self, command: Command) {
        self.commands.fetch_or(bit(command), Ordering::Release);
        self.wake();
    }

    /// Wakes the shard.
    pub(super) fn wake(&self) {
        if let Some(waker) = self.waker.get() {
            waker.wake();
        }
    }

    /// Takes all commands.
    pub(super) fn take_commands(&self) -> impl Iterator<Item = Command> + use<> {
        // Commands are rare, and a load costs less than a swap.
        let bits = match self.commands.load(Ordering::Relaxed) {
            0 => 0,
            _ => self.commands.swap(0, Ordering::Acquire),
        };
        let commands = [Command::Drain, Command::DrainForRestart, Command::Stop].into_iter();
        commands.filter(move |command| bits & bit(*command) != 0)
    }

    /// Takes all jobs, in order. A job counts in the budget until [`note_read`](Self::note_read).
    pub(super) fn take(&self, read: impl FnMut(Job)) {
        self.jobs.take(read);
    }

    /// Removes a job from the budget.
    pub(super) fn note_read(&self, job: &Job) {
        self.budget.remove_queued(job.size());
    }
}

fn bit(command: Command) -> u8 {
    match command {
        Command::Drain => 1,
        Command::DrainForRestart => 2,
        Command::Stop => 4,
    }
}
