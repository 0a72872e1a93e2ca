//! Which receive a connection gets: into provided buffers, into the message that is arriving, or none.
//!
//! `connection/receiving.rs` has the states that it goes through.

use tidewheel_codec::Time;

use super::{Shard, visit::Visit};
use crate::{
    Handler,
    connection::{Phase, ReceiveAction, ReceiveEvent, Wants},
    ring::{Op, OpCode, Ring},
};

/// A connection is busy if it sends so many bytes at once: as many as the shortest buffer holds.
const BUSY_BYTES_MIN: usize = 1 << 10;

impl<R: Ring, H: Handler> Shard<R, H> {
    /// Arms receives that ended for want of a buffer: as many as there are buffers now, because
    /// each of them may take one.
    pub(super) fn rearm_starved(&mut self, now: Time) {
        for _ in 0..self.core.ring.buffers_free() {
            let Some((slot, generation)) = self.core.receives.next_starved() else {
                break;
            };
            self.visit(slot, now, |visit| {
                let connection = &visit.connection;
                if connection.generation() == generation && connection.receiving.is_starved() {
                    visit.arm();
                }
            });
        }
    }
}

impl<R: Ring, H: Handler> Visit<'_, R, H> {
    /// Stops receiving until what was received is read.
    pub(super) fn pause(&mut self) {
        debug_assert!(
            self.connection
                .queue
                .as_ref()
                .is_some_and(|queue| queue.unread.bytes() <= self.core.receives.memory()),
            "the kernel has received no more once the pause was submitted"
        );
        if !self.connection.receiving.is_paused() {
            self.core.stats.receive_pauses.add(1);
        }
        self.change_receive(ReceiveEvent::Pause);
    }

    /// Stops receiving if something is kept unread.
    pub(super) fn pause_if_unread(&mut self) {
        if self.connection.has_unread() {
            self.pause();
        }
    }

    /// Arms a receive that is not armed and should be.
    pub(super) fn rearm(&mut self) {
        if self.is_receive_wanted() {
            self.arm();
        }
    }

    pub(super) fn is_receive_wanted(&self) -> bool {
        let is_wanted = match self.connection.receiving.wants() {
            Wants::Nothing => false,
            Wants::Now => true,
            Wants::WhenRead => !self.connection.is_congested(&self.core.sends.limits),
        };
        is_wanted && !self.connection.is_leaving()
    }

    /// Receives into provided buffers any number of times; or, if much of a message is to come, into
    /// that.
    pub(super) fn arm(&mut self) {
        if !self.receive_into_message(self.core.receives.fill_bytes_min(), true) {
            self.receive_into_buffers(true);
        }
    }

    /// Receives the rest of a large message into its own buffer, to the last byte. Another such message is
    /// likely to follow, and only its beginning should arrive in a buffer of the pool.
    pub(super) fn receive_more(&mut self) {
        if !self.receive_into_message(1, true) {
            self.receive_into_buffers(false);
        }
    }

    /// Receives what is there of a message into it; or into a provided buffer, if nothing is to come.
    pub(super) fn receive_present(&mut self) {
        if !self.receive_into_message(1, false) {
            self.receive_into_buffers(false);
        }
    }

    /// Receives into provided buffers.
    fn receive_into_buffers(&mut self, multishot: bool) {
        if self.core.ring.buffers_free() == 0 {
            return self.starve();
        }
        self.change_receive(ReceiveEvent::Arm);
        let is_scarce = self.core.receives.is_scarce(self.now);
        let multishot = multishot && !(is_scarce && self.connection.is_busy_sender());
        let socket = self.connection.socket();
        self.push(Op::Receive { socket, multishot });
    }

    /// Receives into the message that is arriving, if `least` bytes of it or more are to come; returns
    /// whether it does. With `gather` the receive waits, for a moment, until many bytes are there.
    fn receive_into_message(&mut self, least: u64, gather: bool) -> bool {
        if !self
            .connection
            .is_worth_filling(least, &self.core.sends.limits)
        {
            return false;
        }
        let Phase::Open { protocol, .. } = &mut self.connection.phase else {
            return false;
        };
        let to_come = usize::try_from(protocol.to_come()).unwrap_or(usize::MAX);
        let Some(buffer) = protocol.lend_assembly() else {
            return false;
        };
        let room = buffer.capacity() - buffer.len();
        self.change_receive(ReceiveEvent::Fill);
        self.push(Op::Fill {
            socket: self.connection.socket(),
            buffer,
            limit: room.min(to_come),
            gather,
        });
        true
    }

    /// Ends a multishot receive if what is to come had better be received into its message.
    pub(super) fn switch_to_filling(&mut self) {
        let least = self.core.receives.fill_bytes_min();
        if self.connection.receiving.is_armed()
            && self
                .connection
                .is_worth_filling(least, &self.core.sends.limits)
        {
            self.change_receive(ReceiveEvent::Switch);
        }
    }

    /// Notes how much a connection sends at once.
    pub(super) fn note_receive_size(&mut self, bytes: usize) {
        self.connection.note_busy_sender(bytes >= BUSY_BYTES_MIN);
    }

    /// There is no buffer to receive into.
    pub(super) fn starve(&mut self) {
        self.change_receive(ReceiveEvent::Starve);
        self.core.stats.starvations.add(1);
        let generation = self.connection.generation();
        self.core
            .receives
            .list_starved(self.slot, generation, self.now);
    }

    /// Lets the receive change its state, and does what follows.
    pub(super) fn change_receive(&mut self, event: ReceiveEvent) {
        match self.connection.receiving.on(event) {
            ReceiveAction::Nothing => {}
            ReceiveAction::Cancel => {
                let target = self.connection.token(self.slot);
                self.push(Op::Cancel {
                    kind: OpCode::Receive,
                    target,
                });
            }
        }
    }
}
