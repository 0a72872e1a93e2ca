//! Handles received bytes, and the end of sends.

use super::visit::Visit;
use crate::{
    Handler,
    connection::{Phase, ReceiveEvent, WaitReason, Wants},
    contain::Callback,
    message::Arrived,
    ring::{Buffer, Completion, Ring},
};

impl<R: Ring, H: Handler> Visit<'_, R, H> {
    /// Handles the completion of a receive: bytes, the peer's FIN, or an error.
    pub(super) fn received(&mut self, completion: Completion) {
        let result = completion.result;
        if !completion.more {
            let at_end = result == 0;
            self.change_receive(ReceiveEvent::Complete { at_end });
        }
        if self.connection.is_leaving() {
            return;
        }
        match result {
            1.. => {
                let buffer = completion
                    .buffer
                    .expect("a receive with bytes has a buffer");
                self.note_receive_size(buffer.len());
                self.deliver(buffer);
                self.rearm();
                self.switch_to_filling();
            }
            0 if self.connection.receiving.is_at_end() => {}
            0 => self.handle_peer_fin(),
            error => match -error {
                libc::ENOBUFS if self.connection.receiving.wants() == Wants::Now => self.starve(),
                // The receive was being cancelled.
                libc::ENOBUFS | libc::ECANCELED => self.rearm(),
                _ => self.handle_peer_reset(),
            },
        }
    }

    /// Handles the completion of a receive into the message that is arriving.
    pub(super) fn filled(&mut self, completion: &Completion) {
        let buffer = self.core.ring.take_filled(completion.token);
        self.change_receive(ReceiveEvent::Complete { at_end: false });
        let Phase::Open { protocol, .. } = &mut self.connection.phase else {
            return;
        };
        protocol.receive_assembly(buffer, self.now);
        match completion.result {
            1.. => self.read_message(),
            0 => self.handle_peer_fin(),
            error if -error == libc::ECANCELED => self.receive_present(),
            _ => self.handle_peer_reset(),
        }
    }

    /// Reads bytes that were received into a message. If the connection has to wait, the bytes stay in the
    /// message.
    fn read_message(&mut self) {
        if self.must_wait() {
            return self.keep_behind(&[]);
        }
        self.frames(Arrived::elsewhere(&mut []));
        self.pause_if_unread();
        self.poll_protocol();
        if self.is_receive_wanted() {
            self.receive_more();
        }
    }

    /// Reads received bytes, or keeps them while the connection has to wait.
    fn deliver(&mut self, buffer: Buffer) {
        if self.must_wait() {
            return self.keep_behind(&buffer);
        }
        Arrived::in_buffer(buffer, |arrived| match &self.connection.phase {
            Phase::Open { .. } => self.frames(arrived),
            Phase::Handshake { .. } => self.deliver_request(arrived),
            // Bytes behind an answered request are discarded.
            Phase::Undecided { .. }
            | Phase::Answered { .. }
            | Phase::Flushing { .. }
            | Phase::Leaving(_) => {}
        });
        self.pause_if_unread();
        self.poll_protocol();
    }

    /// Reads the bytes of a request, and those behind it. A message of an open connection must not pay for this code.
    #[inline(never)]
    fn deliver_request(&mut self, arrived: Arrived<'_>) {
        let Some(at) = self.receive_request(arrived.bytes()) else {
            return;
        };
        let rest = arrived.skip(at);
        match &self.connection.phase {
            Phase::Undecided { .. } if rest.bytes().is_empty() => {}
            Phase::Undecided { .. } => self.keep_unread(rest.into_bytes(), WaitReason::Verdict),
            Phase::Handshake { .. }
            | Phase::Answered { .. }
            | Phase::Open { .. }
            | Phase::Flushing { .. }
            | Phase::Leaving(_) => self.frames(rest),
        }
    }

    /// Returns whether received bytes have to wait: for the answer to the request, for space in the send queue, or
    /// behind unread bytes.
    fn must_wait(&self) -> bool {
        match &self.connection.phase {
            Phase::Open { protocol, .. } if protocol.is_open() => {
                self.connection.is_congested(&self.core.sends.limits)
            }
            // No answer follows a Close, so the send queue does not matter.
            Phase::Open { .. } => self.connection.has_unread(),
            Phase::Undecided { .. } => true,
            Phase::Handshake { .. }
            | Phase::Answered { .. }
            | Phase::Flushing { .. }
            | Phase::Leaving(_) => false,
        }
    }

    /// Keeps received bytes behind the unread bytes, and stops receiving.
    fn keep_behind(&mut self, bytes: &[u8]) {
        let reason = self.connection.reading.reason();
        let mut reason = reason.unwrap_or(WaitReason::SendQueue);
        match &mut self.connection.phase {
            Phase::Open { protocol, .. } => {
                protocol.note_heard(self.now);
                if !protocol.is_open() {
                    reason = WaitReason::TurnQuota;
                }
            }
            Phase::Undecided { .. } => reason = WaitReason::Verdict,
            Phase::Handshake { .. }
            | Phase::Answered { .. }
            | Phase::Flushing { .. }
            | Phase::Leaving(_) => {}
        }
        self.keep_unread(bytes, reason);
        self.pause();
    }

    /// Called when the send queue is empty. Reads the unread bytes, and continues to receive.
    pub(super) fn handle_sent(&mut self) {
        self.core.fanout.resume(self.slot);
        let Some(queue) = self.connection.queue.as_mut() else {
            return;
        };
        let missed = std::mem::take(&mut queue.missed);
        if missed > 0 {
            self.call(Callback::Gap, |handler, conn| {
                if conn.is_open() {
                    handler.gap(conn, missed);
                }
            });
        }
        self.call(Callback::Drained, |handler, conn| {
            if conn.is_open() {
                handler.drained(conn);
            }
        });
        match self.connection.reading.reason() {
            // The read schedule has the connection.
            Some(
                WaitReason::TurnQuota
                | WaitReason::PublishBudget
                | WaitReason::Tasks
                | WaitReason::Verdict,
            ) => {
                self.poll_protocol();
            }
            None | Some(WaitReason::SendQueue) => self.read_on(),
        }
    }
}
