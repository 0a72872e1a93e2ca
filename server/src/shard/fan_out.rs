//! Moves published messages into the send queues of their subscribers.

use tidewheel_codec::Time;

use super::{Shard, share_of_core, visit::Visit};
use crate::{
    Handler,
    conn::Postpone,
    fanout::NONE,
    outbox::PROGRESS_TIME,
    ring::{Op, Ring, Token},
};

/// Subscribers that get published messages in one turn of the shards on a core, at most. The limit bounds the
/// time for which received bytes wait: each subscriber costs a send, some 5 us. With half as many, a delivery
/// cost 4 % more (16 messages in each send).
pub(crate) const FANNED_OUT_PER_TURN: usize = 128;

/// Lower bound of [`FANNED_OUT_PER_TURN`] when shards share a core.
const FANNED_OUT_MIN: usize = 8;

/// Bytes of published messages that are queued in one turn of the shards on a core, at most. A subscriber gets
/// at least one segment.
pub(crate) const FANNED_OUT_BYTES_PER_TURN: usize = 1 << 20;

/// Lower bound of [`FANNED_OUT_BYTES_PER_TURN`] when shards share a core.
const FANNED_OUT_BYTES_MIN: usize = 64 << 10;

/// Deliveries to subscribers of large topics in one turn of the shards on a core, at most. A delivery takes 3
/// to 65 ns, depending on the caches. A turn also starts no job after its jobs have made this many deliveries.
pub(crate) const DELIVERIES_PER_TURN: usize = 1 << 14;

/// Work to queue one message, in bytes, in addition to its own bytes.
const MESSAGE_WORK_BYTES: usize = 64;

/// Long send queues from which the publishers count as too fast, if the queues are also more than one in
/// [`LONG_QUEUES_DIVISOR`] of all subscribers' queues.
const LONG_QUEUES_MIN: usize = 2;
const LONG_QUEUES_DIVISOR: usize = 4;

/// The limits of the fan-out in one turn.
pub(super) struct FanOutLimits {
    /// Time until which the publishers count as too fast, and not the subscribers as too slow.
    publishers_too_fast_until: Time,
    /// Subscribers that get published messages in one turn, at most.
    subscribers_per_turn: usize,
    /// Bytes of published messages that are queued in one turn, at most.
    bytes_per_turn: usize,
}

impl FanOutLimits {
    pub(super) fn new(core_shards: u16, now: Time) -> Self {
        Self {
            publishers_too_fast_until: now,
            subscribers_per_turn: share_of_core(FANNED_OUT_PER_TURN, core_shards, FANNED_OUT_MIN),
            bytes_per_turn: share_of_core(
                FANNED_OUT_BYTES_PER_TURN,
                core_shards,
                FANNED_OUT_BYTES_MIN,
            ),
        }
    }
}

impl<R: Ring, H: Handler> Shard<R, H> {
    /// Queues published messages for their subscribers, and wakes the shards that have new jobs. Returns the time
    /// at which a suspended subscriber is retried.
    pub(super) fn fan_out(&mut self, now: Time) -> Option<Time> {
        let retry_at = self.core.fanout.resume_suspended(now);
        self.core.fanout.end_turn();
        for (shard, waker) in self.core.fanout.take_shards_to_wake() {
            let token = Token::new(0, u32::from(shard));
            self.core.ring.push(Op::Wake { waker }, token);
        }
        let postpone = self.postpone(now);
        let limits = &self.fan_out_limits;
        let (subscribers, bytes) = (limits.subscribers_per_turn, limits.bytes_per_turn);
        let mut work = 0;
        for _ in 0..subscribers {
            if work >= bytes {
                break;
            }
            let Some(slot) = self.core.fanout.next_waiting() else {
                break;
            };
            let chain = self.core.fanout.take_chain(slot);
            if chain == NONE {
                continue;
            }
            let queued = self.visit(slot, now, |visit| visit.deliver_chain(chain, postpone));
            work += queued.unwrap_or(0);
        }
        self.core.fanout.update_budget();
        retry_at
    }

    /// The wait that a subscriber without space in its send queue is granted.
    fn postpone(&mut self, now: Time) -> Postpone {
        let long = self.core.sends.pool.long();
        let limits = &mut self.fan_out_limits;
        if long >= LONG_QUEUES_MIN && LONG_QUEUES_DIVISOR * long > self.core.fanout.subscribers() {
            limits.publishers_too_fast_until = now + PROGRESS_TIME;
        }
        match now < limits.publishers_too_fast_until {
            true => Postpone::WhilePeerReads,
            false => Postpone::UntilNextTurn,
        }
    }

    /// Wakes a shard that the ring could not wake.
    pub(super) fn wake_by_eventfd(&self, shard: u32) {
        if let Some(waker) = self.core.fanout.waker(shard) {
            waker.wake();
        }
    }
}

impl<R: Ring, H: Handler> Visit<'_, R, H> {
    /// Queues the messages of a chain for this connection. Returns the work in bytes.
    fn deliver_chain(&mut self, chain: u32, postpone: Postpone) -> usize {
        let delivered = self.with_conn(|_, conn| conn.deliver(chain, postpone));
        if delivered.is_none() {
            self.core.fanout.release(self.slot, chain);
        }
        match self.connection.is_open() {
            true => self.mark_dirty(),
            // The policy for slow consumers has closed the connection.
            false => self.poll_protocol(),
        }
        delivered.map_or(0, |it| it.frame_bytes + it.messages * MESSAGE_WORK_BYTES)
    }
}
