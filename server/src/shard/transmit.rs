//! Gives queued bytes to the kernel: one send for each connection in a turn.
//!
//! `connection/sending.rs` has the states that a send goes through.

use tidewheel_codec::Time;

use super::{Shard, core::Settled, visit::Visit};
use crate::{
    Handler,
    connection::{Phase, Queued, SendAction, SendEvent, SendResult},
    ring::{Completion, Op, Ring, SendMode},
};

impl<R: Ring, H: Handler> Shard<R, H> {
    /// Sends what the turn has queued.
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

    /// Silent sends of which nothing was heard have taken everything.
    pub(super) fn retire_silent(&mut self, now: Time) {
        let mut silent = std::mem::take(&mut self.core.sends.silent);
        for slot in silent.drain(..) {
            self.visit(slot, now, |visit| visit.retire());
        }
        self.core.sends.silent = silent;
    }

    /// Draws the conclusions from sends that have completed.
    pub(super) fn handle_settled(&mut self, now: Time) {
        let mut settled = std::mem::take(&mut self.core.sends.settled);
        for (slot, how) in settled.drain(..) {
            self.visit(slot, now, |visit| visit.handle_settled_send(how));
        }
        self.core.sends.settled = settled;
    }
}

impl<R: Ring, H: Handler> Visit<'_, R, H> {
    /// Counts what the connection's queue keeps because the socket has not taken it yet.
    fn count_queued(&mut self) {
        if let Some(queue) = &mut self.connection.queue {
            let waiting = match self.connection.sending.is_silent() {
                // The socket takes it at once; if not, there will be a next time.
                true => 0,
                false => queue.unsent(),
            };
            self.core.sends.pool.count_queued(queue, waiting);
        }
    }

    /// Sends what the connection has queued, and its FIN behind that, unless a send is under way.
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

    /// Gives the queue back if the connection can do without one.
    fn give_up_idle_queue(&mut self) {
        if let Some(queue) = self.connection.queue.take_if(|queue| queue.is_idle()) {
            self.core.sends.pool.put_back(queue);
        }
    }

    /// A send has completed: because it was short, or was to be told of. What follows from it is left
    /// for later in the turn: nothing may be lent anew before it is known which of the earlier silent
    /// sends are over.
    pub(super) fn settle(&mut self, completion: &Completion) {
        let queue = self.connection.queue.as_mut().expect("something was lent");
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
            // If not everything was taken: until it is, the socket is waited for, and nothing is read.
            Settled::Part => self.mark_dirty(),
            // The connection has ended. What was received before it did is of no use.
            Settled::Failed => self.handle_peer_reset(),
        }
    }

    /// A socket takes bytes again, or has ended, which the next send will tell.
    pub(super) fn writable(&mut self) {
        self.connection.sending.on(SendEvent::Writable);
        if !self.connection.is_leaving() {
            self.mark_dirty();
        }
    }

    /// A silent send that has not completed has taken everything.
    fn retire(&mut self) {
        if !self.connection.sending.is_silent() {
            return;
        }
        self.connection.sending.on(SendEvent::Retire);
        let queue = self.connection.queue.as_mut().expect("something was lent");
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
