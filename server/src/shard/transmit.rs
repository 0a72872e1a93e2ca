//! Submits queued bytes to the kernel, in one send for each connection and turn.
//!
//! `connection/sending.rs` has the states of a send.

use tidewheel_codec::Time;

use super::{Shard, core::Settled, visit::Visit};
use crate::{
    Handler,
    connection::{Phase, Queued, SendAction, SendEvent, SendResult},
    ring::{Completion, Op, Ring, SendMode},
};

impl<R: Ring, H: Handler> Shard<R, H> {
    /// Submits the bytes that were queued in this turn.
    pub(super) fn flush(&mut self, now: Time) {
        let mut dirty = std::mem::take(&mut self.core.sends.dirty);
        for slot in dirty.drain(..) {
            self.visit(slot, now, |visit| {
                if visit.connection.take_dirty() && !visit.connection.is_leaving() {
                    visit.transmit();
                    visit.count_queued();
                }
            });
        }
        self.core.sends.dirty = dirty;
    }

    /// Ends the silent sends that have not completed: they took everything.
    pub(super) fn retire_silent(&mut self, now: Time) {
        let mut silent = std::mem::take(&mut self.core.sends.silent);
        for slot in silent.drain(..) {
            self.visit(slot, now, |visit| visit.retire());
        }
        self.core.sends.silent = silent;
    }

    /// Handles the results of sends that have completed in this turn.
    pub(super) fn handle_settled(&mut self, now: Time) {
        let mut settled = std::mem::take(&mut self.core.sends.settled);
        for (slot, how) in settled.drain(..) {
            self.visit(slot, now, |visit| visit.handle_settled_send(how));
        }
        self.core.sends.settled = settled;
    }
}

impl<R: Ring, H: Handler> Visit<'_, R, H> {
    /// Reports to the pool the bytes that the socket has not taken.
    fn count_queued(&mut self) {
        if let Some(queue) = &mut self.connection.queue {
            let waiting = match self.connection.sending.is_silent() {
                // Usually the socket takes all of it at once. If not, it is counted after the next flush.
                true => 0,
                false => queue.unsent(),
            };
            self.core.sends.pool.count_queued(queue, waiting);
        }
    }

    /// Submits the queue, and the FIN behind it, unless a send is in flight.
    pub(super) fn transmit(&mut self) {
        let is_awaited = self.connection.receiving.is_paused()
            || matches!(self.connection.phase, Phase::Flushing { .. });
        let queue = self.connection.queue.as_deref();
        let queued = match queue.filter(|queue| !queue.is_empty()) {
            Some(queue) => Queued::Bytes {
                is_whole: queue.fits_one_send(),
                is_awaited: queue.is_stalled() || is_awaited || queue.missed > 0,
            },
            None => Queued::Nothing,
        };
        let socket = self.connection.socket();
        match self.connection.sending.on(SendEvent::Flush(queued)) {
            SendAction::Nothing => {}
            SendAction::Poll => return self.push(Op::Writable { socket }),
            SendAction::Finish => self.push(Op::ShutdownWrite { socket }),
            SendAction::Send { mode, finish } => {
                let queue = self.connection.queue.as_mut();
                let data = queue.expect("bytes are queued").lend();
                if mode == SendMode::Silent {
                    self.core.sends.silent.push(self.slot);
                }
                return self.push(Op::Send {
                    socket,
                    data,
                    mode,
                    finish,
                });
            }
        }
        self.give_up_idle_queue();
    }

    /// Returns the queue to the pool if it is idle.
    fn give_up_idle_queue(&mut self) {
        if let Some(queue) = self.connection.queue.take_if(|queue| queue.is_idle()) {
            self.core.sends.pool.put_back(queue);
        }
    }

    /// Handles the completion of a send. The consequences follow later in the turn, because nothing may be lent
    /// before all earlier silent sends have ended.
    pub(super) fn settle(&mut self, completion: &Completion) {
        let queue = self.connection.queue.as_mut().expect("a send has a queue");
        let lent = queue.lent_bytes();
        let taken = usize::try_from(completion.result).unwrap_or(0);
        queue.settle(taken);
        let result = match completion.result {
            0.. if taken == lent => SendResult::Whole,
            0.. => SendResult::Short,
            error if -error == libc::EAGAIN => SendResult::Short,
            _ => SendResult::Failed,
        };
        if result == SendResult::Short {
            queue.stall(self.now);
        }
        let is_empty = queue.is_empty();
        self.connection.sending.on(SendEvent::Settle(result));
        if self.connection.is_leaving() {
            return;
        }
        let how = match result {
            SendResult::Whole if is_empty => Settled::Whole,
            SendResult::Whole | SendResult::Short => Settled::Part,
            SendResult::Failed => Settled::Failed,
        };
        self.core.sends.settled.push((self.slot, how));
    }

    fn handle_settled_send(&mut self, how: Settled) {
        if self.connection.is_leaving() {
            return;
        }
        if let (Phase::Flushing { .. }, Settled::Whole | Settled::Part) =
            (&self.connection.phase, how)
        {
            self.mark_dirty();
            return self.query_unacked_if_flushed();
        }
        match how {
            Settled::Whole => self.handle_sent(),
            // Nothing is read until the socket has taken everything.
            Settled::Part => self.mark_dirty(),
            // The connection has ended. Unread bytes are discarded.
            Settled::Failed => self.handle_peer_reset(),
        }
    }

    /// Handles a writable socket. If the connection has ended, the next send reports it.
    pub(super) fn writable(&mut self) {
        self.connection.sending.on(SendEvent::Writable);
        if !self.connection.is_leaving() {
            self.mark_dirty();
        }
    }

    /// Ends a silent send that has not completed, so it took everything.
    fn retire(&mut self) {
        if !self.connection.sending.is_silent() {
            return;
        }
        self.connection.sending.on(SendEvent::Retire);
        let queue = self.connection.queue.as_mut().expect("a send has a queue");
        queue.settle_whole();
        let is_idle = queue.is_idle();
        if self.connection.is_leaving() {
            return;
        }
        match is_idle && !self.connection.sending.wants_fin() {
            true => self.give_up_idle_queue(),
            false => self.mark_dirty(),
        }
        self.query_unacked_if_flushed();
    }
}
