//! The resources that a shard and its connections hold.

use super::Shard;
use crate::{Handler, connection::Phase, ring::Ring};

/// The resources that a shard holds at the moment.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub struct Holdings {
    /// Connections that hold a slot.
    pub connections: usize,
    /// Entries of the timer wheel: one for each deadline, and entries that a later deadline has replaced.
    pub wheel_entries: usize,
    /// Memory of the timer wheel in bytes.
    pub wheel_bytes: usize,
    /// Subscriptions to topics and patterns.
    pub subscriptions: u64,
    /// Timers of the application.
    pub timers: usize,
    /// Tasks of the application that are unfinished, or whose output waits.
    #[cfg(feature = "tasks")]
    pub tasks: usize,
    /// Bytes in the send queues.
    pub queued_bytes: usize,
    /// Memory in bytes of published messages that are not in the send queues of all their subscribers yet.
    pub fanout_bytes: usize,
}

/// The largest memory in bytes that any one connection holds, for each purpose.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub struct Heaviest {
    /// Memory of the send queue.
    pub queue: usize,
    /// Memory of received bytes that are not read yet.
    pub unread: usize,
    /// Memory of a message that is arriving.
    pub assembly: usize,
}

impl<R: Ring, H: Handler> Shard<R, H> {
    /// The resources that the shard holds at the moment.
    #[must_use]
    pub fn holdings(&self) -> Holdings {
        Holdings {
            connections: self.connections.len(),
            wheel_entries: self.core.deadlines.entries(),
            wheel_bytes: self.core.deadlines.memory(),
            subscriptions: self.core.stats.subscriptions.get(),
            timers: self.core.later.timers.count(),
            #[cfg(feature = "tasks")]
            tasks: self.core.later.tasks.count(),
            queued_bytes: self.core.sends.pool.waiting(),
            fanout_bytes: self.core.fanout.bytes(),
        }
    }

    /// The largest memory that any one connection holds, for each purpose. Takes time linear in the number of
    /// connections.
    #[must_use]
    pub fn heaviest(&self) -> Heaviest {
        let mut most = Heaviest::default();
        for (_, connection) in &self.connections {
            if let Some(queue) = &connection.queue {
                most.queue = most.queue.max(queue.allocation());
                most.unread = most.unread.max(queue.unread.bytes());
            }
            if let Phase::Open { protocol, .. } = &connection.phase {
                most.assembly = most.assembly.max(protocol.assembly_size());
            }
        }
        most
    }
}
