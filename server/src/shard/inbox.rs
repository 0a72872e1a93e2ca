//! Job from other threads, and what is published, on their way to connections.

use std::collections::VecDeque;

use tidewheel_codec::Time;

use super::{Shard, share_of_core, visit::Visit};
use crate::{
    ConnectionId, Handler,
    conn::Patience,
    fanout::{Job, NONE},
    outbox::PROGRESS_TIME,
    ring::{Op, Ring, Token},
};

/// Subscribers that are sent published messages in one turn of the shards on a core. The others follow in the
/// next turns, so that a fan-out to very many subscribers never holds up the network. Each costs a send, some
/// 5 us, for which received bytes wait. With half as many a delivery cost 4 % more (16 messages in each send).
pub(crate) const FANNED_OUT_PER_TURN: usize = 128;

/// Jobs done in one turn.
pub(crate) const JOBS_PER_TURN: usize = 1024;

/// Deliveries to subscribers of large topics in one turn of the shards on a core. A delivery takes 3 to
/// 65 ns, depending on the caches. The others follow in the next turns. A turn also does no more jobs
/// once what it has read was delivered this many times.
pub(crate) const DELIVERIES_PER_TURN: usize = 1 << 14;

/// Bytes of published messages that are sent in one turn of the shards on a core. A subscriber gets one
/// segment at least.
pub(crate) const FANNED_OUT_BYTES_PER_TURN: usize = 1 << 20;

/// The cost of a message that is queued by itself, in bytes, beside its own.
const MESSAGE_WORK: usize = 64;

/// If at least `CROWD_MIN` subscribers have long queues, and more than one in `CROWD_SHARE` has, the publishers
/// are too fast, and not the subscribers too slow; for a [`PROGRESS_TIME`] at least.
const CROWD_MIN: usize = 2;
const CROWD_SHARE: usize = 4;

/// Jobs for which memory is kept while there are none.
const JOBS_KEPT_MAX: usize = 1 << 10;

/// Lower bounds of `FANNED_OUT_PER_TURN` and `FANNED_OUT_BYTES_PER_TURN` when shards share a core.
const FANNED_OUT_MIN: usize = 8;
const FANNED_OUT_BYTES_MIN: usize = 64 << 10;

/// Jobs that wait, and the limits of the deliveries of a turn.
pub(super) struct Deliveries {
    /// Jobs to do.
    jobs: VecDeque<Job>,
    /// The time until which most subscribers count as unable to keep up.
    crowded_until: Time,
    /// Subscribers that are sent published messages in one turn.
    connections_per_turn: usize,
    /// Bytes of published messages that are sent in one turn.
    bytes_per_turn: usize,
}

impl Deliveries {
    pub(super) fn new(core_shards: u16, now: Time) -> Self {
        Self {
            jobs: VecDeque::new(),
            crowded_until: now,
            connections_per_turn: share_of_core(FANNED_OUT_PER_TURN, core_shards, FANNED_OUT_MIN),
            bytes_per_turn: share_of_core(
                FANNED_OUT_BYTES_PER_TURN,
                core_shards,
                FANNED_OUT_BYTES_MIN,
            ),
        }
    }

    /// Whether there are jobs to do.
    pub(super) fn is_behind(&self) -> bool {
        !self.jobs.is_empty()
    }
}

impl<R: Ring, H: Handler> Shard<R, H> {
    /// Follows what has come from other threads.
    pub(super) fn read_mail(&mut self, now: Time) {
        for command in self.core.fanout.commands() {
            self.obey(command, now);
        }
        let jobs = &mut self.deliveries.jobs;
        self.core.fanout.take_jobs(|job| jobs.push_back(job));
        let mut deliveries = 0;
        for _ in 0..JOBS_PER_TURN {
            if deliveries >= DELIVERIES_PER_TURN as u64 {
                break;
            }
            let Some(job) = self.deliveries.jobs.pop_front() else {
                break;
            };
            self.core.fanout.note_read(&job);
            match job {
                Job::Publish(message) => deliveries += self.core.fanout.take_in_remote(message),
                Job::Send {
                    to,
                    is_text,
                    payload,
                } => self.address(to, now, |conn| {
                    // What becomes of it is the policy's business.
                    let _ = match std::str::from_utf8(&payload) {
                        Ok(text) if is_text => conn.send(text),
                        _ => conn.send(&*payload),
                    };
                }),
                Job::Close { whom, code, reason } => self.address(whom, now, |conn| {
                    if let Err(error) = conn.close(code, &reason) {
                        tracing::warn!(connection = %whom, %error, "cannot be closed so");
                    }
                }),
            }
        }
        let jobs = &mut self.deliveries.jobs;
        if jobs.is_empty() && jobs.capacity() > JOBS_KEPT_MAX {
            *jobs = VecDeque::new();
        }
    }

    /// Lets `act` see a connection, if it is still there.
    fn address(
        &mut self,
        id: ConnectionId,
        now: Time,
        act: impl FnOnce(&mut crate::Conn<'_, H::State>),
    ) {
        self.visit(id.slot, now, |visit| {
            if visit.connection.generation() == id.generation {
                visit.with_conn(|_, conn| act(conn));
                visit.conclude();
            }
        });
    }

    /// Queues published messages for their subscribers, and wakes the shards that have got jobs. Returns when a
    /// subscriber that cannot keep up is to be looked at again.
    pub(super) fn fan_out(&mut self, now: Time) -> Option<Time> {
        let again = self.core.fanout.wake_suspended(now);
        self.core.fanout.end_turn();
        for (shard, waker) in self.core.fanout.sleepers() {
            let token = Token::new(0, u32::from(shard));
            self.core.ring.push(Op::Wake { waker }, token);
        }
        let long = self.core.sends.pool.long();
        if long >= CROWD_MIN && CROWD_SHARE * long > self.core.fanout.subscribers() {
            self.deliveries.crowded_until = now + PROGRESS_TIME;
        }
        let patience = match now < self.deliveries.crowded_until {
            true => Patience::Crowd,
            false => Patience::Turn,
        };
        let mut work = 0;
        for _ in 0..self.deliveries.connections_per_turn {
            if work >= self.deliveries.bytes_per_turn {
                break;
            }
            let Some(slot) = self.core.fanout.next_waiting() else {
                break;
            };
            let chain = self.core.fanout.take_chain(slot);
            if chain == NONE {
                continue;
            }
            let delivered = self.visit(slot, now, |visit| visit.deliver_chain(chain, patience));
            work += delivered.unwrap_or(0);
        }
        self.core.fanout.tell_budget();
        again
    }

    /// Another ring could not be woken by this one.
    pub(super) fn wake_by_eventfd(&self, shard: u32) {
        if let Some(waker) = self.core.fanout.waker(shard) {
            waker.wake();
        }
    }
}

impl<R: Ring, H: Handler> Visit<'_, R, H> {
    /// Queues what was published for this connection; says how much work that is.
    fn deliver_chain(&mut self, chain: u32, patience: Patience) -> usize {
        let delivered = self.with_conn(|_, conn| conn.deliver(chain, patience));
        if delivered.is_none() {
            self.core.fanout.release(self.slot, chain);
        }
        match self.connection.is_open() {
            true => self.mark(),
            // A slow reader has been closed.
            false => self.conclude(),
        }
        delivered.map_or(0, |it| it.frame_bytes + it.messages * MESSAGE_WORK)
    }
}
