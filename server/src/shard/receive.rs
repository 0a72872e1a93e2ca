//! Arms the receive of a connection: into provided buffers, or into the message that is arriving.
//!
//! `connection/receiving.rs` has its states.

use tidewheel_codec::Time;

use super::{Shard, visit::Visit};
use crate::{
    Handler,
    connection::{Phase, ReceiveAction, ReceiveEvent, Wants},
    ring::{Op, OpCode, Ring},
};

/// Bytes of one receive from which a connection is busy: the size of the shortest buffer.
const BUSY_BYTES_MIN: usize = 1 << 10;

impl<R: Ring, H: Handler> Shard<R, H> {
    /// Arms receives that ended for want of a buffer. Each may take a buffer, so it arms as many as buffers are
    /// free.
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
    /// Stops receiving until the unread bytes are read.
    pub(super) fn pause(&mut self) {
        debug_assert!(
            self.connection
                .queue
                .as_ref()
                .is_some_and(|queue| queue.unread.bytes() <= 2 * self.core.receives.memory()),
            "the bytes before the pause fill the receive buffers once, and those until its submission once more"
        );
        if !self.connection.receiving.is_paused() {
            self.core.stats.receive_pauses.add(1);
        }
        self.change_receive(ReceiveEvent::Pause);
    }

    /// Stops receiving if bytes are kept unread.
    pub(super) fn pause_if_unread(&mut self) {
        if self.connection.has_unread() {
            self.pause();
        }
    }

    /// Arms the receive, if none is armed and one is wanted.
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

    /// Arms a multishot receive into provided buffers; or a receive into the message, if much of it is to come.
    pub(super) fn arm(&mut self) {
        if !self.receive_into_message(self.core.receives.fill_bytes_min(), true) {
            self.receive_into_buffers(true);
        }
    }

    /// Receives the rest of a large message into its own buffer, up to its last byte. A similar message is
    /// likely to follow, and only its beginning should be received into a provided buffer.
    pub(super) fn receive_more(&mut self) {
        if !self.receive_into_message(1, true) {
            self.receive_into_buffers(false);
        }
    }

    /// Receives the available bytes of a message into it; or into a provided buffer, if no message is
    /// incomplete.
    pub(super) fn receive_present(&mut self) {
        if !self.receive_into_message(1, false) {
            self.receive_into_buffers(false);
        }
    }

    /// Arms a receive into provided buffers.
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

    /// Arms a receive into the message that is arriving, if at least `least` bytes of it are to come. Returns
    /// whether it did. With `coalesce`, the receive waits a short time for many bytes.
    fn receive_into_message(&mut self, least: u64, coalesce: bool) -> bool {
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
        let space = buffer.capacity() - buffer.len();
        self.change_receive(ReceiveEvent::Fill);
        self.push(Op::Fill {
            socket: self.connection.socket(),
            buffer,
            limit: space.min(to_come),
            coalesce,
        });
        true
    }

    /// Ends a multishot receive if the rest of the message should be received into it.
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

    /// Notes the number of bytes of a receive.
    pub(super) fn note_receive_size(&mut self, bytes: usize) {
        self.connection.note_busy_sender(bytes >= BUSY_BYTES_MIN);
    }

    /// Lists the connection, because no receive buffer is free.
    pub(super) fn starve(&mut self) {
        self.change_receive(ReceiveEvent::Starve);
        self.core.stats.starvations.add(1);
        let generation = self.connection.generation();
        self.core
            .receives
            .list_starved(self.slot, generation, self.now);
    }

    /// Changes the state of the receive, and submits the resulting operation.
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
