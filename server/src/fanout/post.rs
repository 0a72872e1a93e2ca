//! What other threads hand to a shard.

use std::sync::{
    Arc, OnceLock,
    atomic::{AtomicU8, Ordering},
};

use bytes::Bytes;
use tidewheel_codec::CloseCode;

use super::{
    Published,
    budget::Budget,
    mailbox::{Closed, Mailbox},
};
use crate::{ConnectionId, command::Command, ring::Bell, stats::Stats};

/// The shard that this was for has ended.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) struct Gone;

/// What a shard is asked for by other threads.
#[derive(Debug)]
pub(crate) enum Mail {
    Publish(Arc<Published>),
    Send {
        to: ConnectionId,
        is_text: bool,
        payload: Bytes,
    },
    Close {
        whom: ConnectionId,
        code: CloseCode,
        reason: Box<str>,
    },
}

/// Bytes of memory of a mailbox's node, with what allocators add to it.
const NODE_BYTES: usize = size_of::<Mail>() + 32;

impl Mail {
    /// Bytes of memory that it takes.
    fn size(&self) -> usize {
        let size = match self {
            Self::Publish(message) => message.size(),
            Self::Send { payload, .. } => payload.len(),
            Self::Close { reason, .. } => reason.len(),
        };
        NODE_BYTES + size
    }
}

/// Where a shard gets its mail and its commands.
#[derive(Debug)]
pub(crate) struct Post {
    mailbox: Mailbox<Mail>,
    commands: AtomicU8,
    /// Set before the shard first looks into its mailbox.
    bell: OnceLock<Bell>,
    /// What the shard counts.
    stats: OnceLock<Arc<Stats>>,
    pub(crate) budget: Budget,
}

impl Post {
    pub(super) fn new(fanout_memory: usize) -> Self {
        Self {
            mailbox: Mailbox::new(),
            commands: AtomicU8::new(0),
            bell: OnceLock::new(),
            stats: OnceLock::new(),
            budget: Budget::new(fanout_memory),
        }
    }

    /// The shard says how it is woken, once.
    pub(super) fn set_bell(&self, bell: Bell) -> bool {
        self.bell.set(bell).is_ok()
    }

    /// The shard says where it counts, once.
    pub(super) fn set_stats(&self, stats: &Arc<Stats>) {
        self.stats.get_or_init(|| Arc::clone(stats));
    }

    /// The connections of the shard; none if it has ended.
    pub(super) fn connections(&self) -> u64 {
        match self.stats.get() {
            Some(stats) if !self.budget.is_closed() => stats.connections.get(),
            Some(_) | None => 0,
        }
    }

    pub(super) fn bell(&self) -> Option<&Bell> {
        self.bell.get()
    }

    /// Hands over without waking the shard; says whether it is to be woken.
    pub(super) fn hand_quietly(&self, mail: Mail) -> Result<bool, Gone> {
        let size = mail.size();
        self.budget.add_mail(size);
        self.mailbox.add(mail).map_err(|Closed| {
            self.budget.remove_mail(size);
            Gone
        })
    }

    /// Hands over, and wakes the shard if need be.
    pub(crate) fn hand(&self, mail: Mail) -> Result<(), Gone> {
        if self.hand_quietly(mail)? {
            self.ring();
        }
        Ok(())
    }

    /// Takes nothing more, and drops what waits, for the shard has ended; says whether it was open. From
    /// now on it holds up no publisher.
    pub(super) fn close(&self) -> bool {
        let was_open = self.mailbox.close(|mail| self.note_read(&mail));
        self.budget.close();
        was_open
    }

    /// Tells the shard what to do; commands overtake mail.
    pub(crate) fn command(&self, command: Command) {
        self.commands.fetch_or(bit(command), Ordering::Release);
        self.ring();
    }

    /// Wakes the shard.
    pub(super) fn ring(&self) {
        if let Some(bell) = self.bell.get() {
            bell.ring();
        }
    }

    /// Takes the commands that have come.
    pub(super) fn take_commands(&self) -> impl Iterator<Item = Command> + use<> {
        // A load is cheaper than a swap, and there is nearly never a command.
        let bits = match self.commands.load(Ordering::Relaxed) {
            0 => 0,
            _ => self.commands.swap(0, Ordering::Acquire),
        };
        let commands = [Command::Drain, Command::DrainForRestart, Command::Stop].into_iter();
        commands.filter(move |command| bits & bit(*command) != 0)
    }

    /// Takes all mail that has come, in order. It counts until it is [read](Self::note_read).
    pub(super) fn take(&self, read: impl FnMut(Mail)) {
        self.mailbox.take(read);
    }

    /// A piece of mail that was taken is no mail any more.
    pub(super) fn note_read(&self, mail: &Mail) {
        self.budget.remove_mail(mail.size());
    }
}

fn bit(command: Command) -> u8 {
    match command {
        Command::Drain => 1,
        Command::DrainForRestart => 2,
        Command::Stop => 4,
    }
}
