//! From the bytes that were queued to the kernel: one send for each connection and turn.

use tidewheel_codec::Time;

use super::Shard;
use crate::{
    Handler,
    connection::{Fin, Flight, Phase},
    ring::{Completion, Op, Ring, SendMode},
};

/// How a send ended that was not silently over.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) enum Settled {
    /// Everything was taken.
    Whole,
    /// What was lent was taken, and there is more to send.
    Part,
    /// The connection has ended underneath.
    Failed,
}

impl<R: Ring, H: Handler> Shard<R, H> {
    /// Sends what the turn has queued.
    pub(super) fn flush(&mut self) {
        let mut dirty = std::mem::take(&mut self.lists.dirty);
        for slot in dirty.drain(..) {
            if let Some(connection) = self.connections.get_mut(slot as usize)
                && std::mem::take(&mut connection.dirty)
                && !matches!(connection.phase, Phase::Leaving(_))
            {
                self.transmit(slot);
                self.weigh(slot);
            }
        }
        self.lists.dirty = dirty;
    }

    /// Counts what a connection's queue keeps because the socket has not taken it yet.
    fn weigh(&mut self, slot: u32) {
        let connection = &mut self.connections[slot as usize];
        if let Some(queue) = &mut connection.queue {
            let waiting = match connection.flight {
                // The socket takes it at once; if not, there will be a next time.
                Flight::Silent => 0,
                Flight::Idle | Flight::Stalled | Flight::Polling | Flight::Told => queue.unsent(),
            };
            self.pool.weigh(queue, waiting);
        }
    }

    /// Sends what a connection has queued, and its FIN behind that, unless a send is under way.
    pub(super) fn transmit(&mut self, slot: u32) {
        let connection = &mut self.connections[slot as usize];
        let socket = connection.socket;
        match connection.flight {
            Flight::Idle => {}
            Flight::Stalled => {
                connection.flight = Flight::Polling;
                let token = connection.token(slot);
                return self.ring.push(Op::Writable { socket }, token);
            }
            Flight::Polling | Flight::Silent | Flight::Told => return,
        }
        let is_paused = connection.is_paused();
        let Some(queue) = connection.queue.as_mut().filter(|queue| !queue.is_empty()) else {
            if connection
                .queue
                .as_ref()
                .is_some_and(|queue| queue.is_idle())
            {
                self.pool
                    .put_back(connection.queue.take().expect("just looked at"));
            }
            if connection.fin == Fin::Wanted {
                connection.fin = Fin::UnderWay;
                self.ring
                    .push(Op::Finish { socket }, connection.token(slot));
            }
            return;
        };
        let owes_gap = queue.missed > 0;
        let is_stalled = queue.is_stalled();
        let lent = queue.lend();
        let finish = lent.whole && connection.fin == Fin::Wanted;
        if finish {
            connection.fin = Fin::UnderWay;
        }
        // Where something is to follow when the send is over, it must tell that it is.
        let mode = if is_stalled || is_paused || owes_gap || !lent.whole {
            connection.flight = Flight::Told;
            SendMode::Told
        } else {
            connection.flight = Flight::Silent;
            self.lists.silent.push(slot);
            SendMode::Silent
        };
        let token = connection.token(slot);
        self.ring.push(
            Op::Send {
                socket,
                data: lent.data,
                mode,
                finish,
            },
            token,
        );
    }

    /// A send has completed: because it was short, or was to be told of. What follows from it is left for later in the turn: nothing may be lent anew before it is known which
    /// of the earlier silent sends are over.
    pub(super) fn settle(&mut self, completion: &Completion, now: Time) {
        let slot = completion.token.slot();
        let connection = &mut self.connections[slot as usize];
        assert_eq!(
            connection.generation,
            completion.token.generation(),
            "a slot reused too early"
        );
        let queue = connection.queue.as_mut().expect("something was lent");
        let lent = queue.lent_bytes();
        let taken = usize::try_from(completion.result).unwrap_or(0);
        queue.settle(Some(taken));
        let is_empty = queue.is_empty();
        connection.flight = Flight::Idle;
        if taken < lent && connection.fin == Fin::UnderWay {
            // It was linked to this send, and is not done.
            connection.fin = Fin::Wanted;
        }
        let took_something = completion.result >= 0 || completion.result == -libc::EAGAIN;
        match took_something {
            true if taken < lent => self.stall(slot, now),
            true if is_empty => self.lists.settled.push((slot, Settled::Whole)),
            true => self.lists.settled.push((slot, Settled::Part)),
            false => self.lists.settled.push((slot, Settled::Failed)),
        }
    }

    /// Draws the conclusions from sends that have completed.
    pub(super) fn after_sends(&mut self, now: Time) {
        let mut settled = std::mem::take(&mut self.lists.settled);
        for (slot, how) in settled.drain(..) {
            if let Phase::Leaving(_) = self.connections[slot as usize].phase {
                self.close_if_finished(slot);
                self.release_if_idle(slot);
                continue;
            }
            match how {
                Settled::Whole => self.resume(slot, now),
                Settled::Part => self.mark(slot),
                // The connection has ended. What was received before it did is of no use.
                Settled::Failed => self.peer_reset(slot, now),
            }
        }
        self.lists.settled = settled;
    }

    /// Not everything was taken: until it is, the socket is waited for, and nothing is read.
    fn stall(&mut self, slot: u32, now: Time) {
        let connection = &mut self.connections[slot as usize];
        connection.flight = Flight::Stalled;
        connection
            .queue
            .as_mut()
            .expect("not all was taken")
            .stall(now);
        match connection.phase {
            Phase::Leaving(_) => {
                self.lists.settled.push((slot, Settled::Failed));
            }
            Phase::Handshake { .. } | Phase::Refused { .. } | Phase::Open { .. } => self.mark(slot),
        }
    }

    /// A socket takes bytes again, or has ended, which the next send will tell.
    pub(super) fn writable(&mut self, slot: u32) {
        let connection = &mut self.connections[slot as usize];
        connection.flight = Flight::Idle;
        if let Phase::Leaving(_) = connection.phase {
            self.release_if_idle(slot);
        } else {
            self.mark(slot);
        }
    }

    /// Silent sends of which nothing was heard have taken everything.
    pub(super) fn retire_silent(&mut self) {
        let mut silent = std::mem::take(&mut self.lists.silent);
        for slot in silent.drain(..) {
            let connection = &mut self.connections[slot as usize];
            if connection.flight != Flight::Silent {
                continue;
            }
            connection.flight = Flight::Idle;
            let queue = connection.queue.as_mut().expect("something was lent");
            queue.settle(None);
            if let Phase::Leaving(_) = connection.phase {
                self.release_if_idle(slot);
            } else if queue.is_idle() && connection.fin != Fin::Wanted {
                self.pool
                    .put_back(connection.queue.take().expect("just looked at"));
            } else {
                self.mark(slot);
            }
        }
        self.lists.silent = silent;
    }
}
