//! Which receive a connection has: into provided buffers, into the message that is arriving, or none.
//!
//! ```text
//!   Armed, multishot ── much of a message is to come ──► Switching ── cancelled ──► Filling ◄─┐
//!          ▲                                                                           │      │
//!          │                          ┌───────── its frame is all there ───────────────┘      │
//!          │                          ▼                                                       │
//!          └── none has begun ── Armed, once ── much of the next message is to come ──────────┘
//! ```
//!
//! Pausing, and wanting for buffers, end any of them but Filling, which needs no buffer of the ring's,
//! and takes no more than the message has room for.

use super::Shard;
use crate::{
    Handler,
    connection::{Phase, Receive},
    ring::{Op, OpCode, Ring},
};

impl<R: Ring, H: Handler> Shard<R, H> {
    /// Stops receiving until everything is sent.
    pub(super) fn pause(&mut self, slot: u32) {
        let connection = &mut self.connections[slot as usize];
        debug_assert!(
            connection
                .queue
                .as_ref()
                .is_some_and(|queue| queue.parked.bytes() <= self.settings.receive_memory),
            "the kernel has received no more once the pause was submitted"
        );
        if !connection.is_paused() {
            self.stats.receive_pauses.add(1);
        }
        match connection.receive {
            Receive::Armed => {
                connection.receive = Receive::Pausing;
                self.cancel_receive(slot);
            }
            Receive::Switching => connection.receive = Receive::Pausing,
            Receive::Starved | Receive::Ended => connection.receive = Receive::Paused,
            // What it fills was there before.
            Receive::Filling => {}
            Receive::Pausing | Receive::Paused | Receive::PausedAtEnd => {}
        }
    }

    /// Arms a receive that is not armed and should be.
    pub(super) fn rearm(&mut self, slot: u32) {
        if self.is_receive_wanted(slot) {
            self.arm(slot);
        }
    }

    pub(super) fn is_receive_wanted(&self, slot: u32) -> bool {
        let Some(connection) = self.connections.get(slot as usize) else {
            return false;
        };
        let wanted = match connection.receive {
            Receive::Ended => true,
            Receive::Paused => !connection.is_congested(&self.settings.send),
            Receive::Armed
            | Receive::Switching
            | Receive::Filling
            | Receive::Starved
            | Receive::Pausing
            | Receive::PausedAtEnd => false,
        };
        wanted && !matches!(connection.phase, Phase::Leaving(_))
    }

    /// Receives into provided buffers any number of times; or, if much of a message is to come, into
    /// that.
    pub(super) fn arm(&mut self, slot: u32) {
        if !self.fill(slot, self.settings.fill_min, true) {
            self.provide_for(slot, true);
        }
    }

    /// Receives the rest of a message into it, to the last byte. Behind its end another such message is
    /// likely to follow, of which no more than the beginning should arrive elsewhere.
    pub(super) fn receive_more(&mut self, slot: u32) {
        if !self.fill(slot, 1, true) {
            self.provide_for(slot, false);
        }
    }

    /// Receives what is there of a message into it; or into a provided buffer, if nothing is to come.
    pub(super) fn receive_present(&mut self, slot: u32) {
        if !self.fill(slot, 1, false) {
            self.provide_for(slot, false);
        }
    }

    /// Receives into provided buffers.
    fn provide_for(&mut self, slot: u32, multishot: bool) {
        if self.ring.buffers_free() == 0 {
            return self.starve(slot);
        }
        let connection = &mut self.connections[slot as usize];
        connection.receive = Receive::Armed;
        let socket = connection.socket;
        let token = connection.token(slot);
        self.ring.push(Op::Receive { socket, multishot }, token);
    }

    /// Receives into the message that is arriving, if at least so many bytes of it are to come; says
    /// whether they are. To gather is to wait, for a moment, until much is there.
    fn fill(&mut self, slot: u32, least: u64, gather: bool) -> bool {
        let connection = &mut self.connections[slot as usize];
        if !connection.is_worth_filling(least, &self.settings.send) {
            return false;
        }
        let Phase::Open { protocol, .. } = &mut connection.phase else {
            return false;
        };
        let to_come = usize::try_from(protocol.to_come()).unwrap_or(usize::MAX);
        let Some(buffer) = protocol.lend_assembly() else {
            return false;
        };
        let room = buffer.capacity() - buffer.len();
        connection.receive = Receive::Filling;
        let token = connection.token(slot);
        let fill = Op::Fill {
            socket: connection.socket,
            buffer,
            limit: room.min(to_come),
            gather,
        };
        self.ring.push(fill, token);
        true
    }

    /// Ends a multishot receive if what is to come had better be received into its message.
    pub(super) fn prefer_filling(&mut self, slot: u32) {
        let Some(connection) = self.connections.get_mut(slot as usize) else {
            return;
        };
        if connection.receive == Receive::Armed
            && connection.is_worth_filling(self.settings.fill_min, &self.settings.send)
        {
            connection.receive = Receive::Switching;
            self.cancel_receive(slot);
        }
    }

    fn cancel_receive(&mut self, slot: u32) {
        let connection = &self.connections[slot as usize];
        let target = connection.token(slot);
        let token = connection.token(slot);
        let kind = OpCode::Receive;
        self.ring.push(Op::Cancel { kind, target }, token);
    }

    /// There was no buffer to receive into.
    pub(super) fn starve(&mut self, slot: u32) {
        self.connections[slot as usize].receive = Receive::Starved;
        self.stats.starvations.add(1);
        let generation = self.connections[slot as usize].generation;
        self.lists.starved.push_back((slot, generation));
    }

    /// Arms receives that ended for want of a buffer: as many as there are buffers now, because
    /// each of them may take one.
    pub(super) fn feed(&mut self) {
        for _ in 0..self.ring.buffers_free() {
            let Some((slot, generation)) = self.lists.starved.pop_front() else {
                break;
            };
            if let Some(connection) = self.connections.get(slot as usize)
                && connection.generation == generation
                && connection.receive == Receive::Starved
            {
                self.arm(slot);
            }
        }
    }

    /// Stops receiving if something is kept unread.
    pub(super) fn pause_if_parked(&mut self, slot: u32) {
        let queue = self.connections[slot as usize].queue.as_ref();
        if queue.is_some_and(|queue| !queue.parked.is_empty()) {
            self.pause(slot);
        }
    }
}
