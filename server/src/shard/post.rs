//! Mail from other threads, and what is published, on their way to connections.

use std::collections::VecDeque;

use tidewheel_codec::Time;

use super::Shard;
use crate::{
    ConnectionId, Handler,
    conn::Patience,
    connection::Phase,
    fanout::{Mail, NONE},
    outbox::PROGRESS_TIME,
    ring::{Op, Ring, Token},
};

/// Connections that get what was published in one turn of the shards on a core; the others get it in
/// the next, so that a fan-out to very many never holds up the network. Each costs a send, some 5
/// us, and what arrives meanwhile waits for all of them. Fewer in a turn make for more turns: with
/// half as many a delivery cost 4 % more, where each send has 16 messages in it.
pub(crate) const FANNED_OUT_PER_TURN: usize = 128;

/// Pieces of mail that one turn reads.
pub(crate) const MAIL_PER_TURN: usize = 1024;

/// Deliveries to very many in one turn of the shards on a core: 3 to 65 ns each, as caches have it.
/// The others follow in the next turns. When a turn has made so many to few of what came by mail, it
/// reads no more.
pub(crate) const DELIVERIES_PER_TURN: usize = 1 << 14;

/// Bytes that are sent of what was published in one turn of the shards on a core. A connection gets a
/// segment at least, whatever is left.
pub(crate) const FANNED_OUT_BYTES_PER_TURN: usize = 1 << 20;

/// What a message costs beside its bytes, where it is queued by itself.
const MESSAGE_WORK: usize = 64;

/// When the queues of so many subscribers are long, and of more than one in so many, the publishers are
/// too fast, and not the subscribers too slow. That holds for a [`PROGRESS_TIME`] at least.
const CROWD_MIN: usize = 2;
const CROWD_SHARE: usize = 4;

/// Room for mail for which memory is kept while there is none.
const MAIL_KEPT_MAX: usize = 1 << 10;

impl<R: Ring, H: Handler> Shard<R, H> {
    /// Follows what has come from other threads.
    pub(super) fn read_mail(&mut self, now: Time) {
        for command in self.fanout.commands() {
            self.obey(command, now);
        }
        let mail = &mut self.lists.mail;
        self.fanout.mail(|piece| mail.push_back(piece));
        let mut deliveries = 0;
        for _ in 0..MAIL_PER_TURN {
            if deliveries >= DELIVERIES_PER_TURN as u64 {
                break;
            }
            let Some(piece) = self.lists.mail.pop_front() else {
                break;
            };
            self.fanout.note_read(&piece);
            match piece {
                Mail::Publish(message) => deliveries += self.fanout.take_in_mail(message),
                Mail::Send {
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
                Mail::Close { whom, code, reason } => self.address(whom, now, |conn| {
                    if let Err(error) = conn.close(code, &reason) {
                        tracing::warn!(connection = %whom, %error, "cannot be closed so");
                    }
                }),
            }
        }
        if self.lists.mail.is_empty() && self.lists.mail.capacity() > MAIL_KEPT_MAX {
            self.lists.mail = VecDeque::new();
        }
    }

    /// Lets `act` see a connection, if it is still there.
    fn address(
        &mut self,
        id: ConnectionId,
        now: Time,
        act: impl FnOnce(&mut crate::Conn<'_, H::State>),
    ) {
        let is_there = self
            .connections
            .get(id.slot as usize)
            .is_some_and(|connection| connection.generation == id.generation);
        if is_there {
            self.with_conn(id.slot, now, |_, conn| act(conn));
            self.conclude(id.slot, now);
        }
    }

    /// Queues what was published for those who have subscribed, and wakes the shards that have got
    /// mail. Says when somebody who cannot keep up is to be looked at again.
    pub(super) fn fan_out(&mut self, now: Time) -> Option<Time> {
        let again = self.fanout.wake_suspended(now);
        self.fanout.end_turn();
        for (shard, bell) in self.fanout.sleepers() {
            let token = Token::new(0, u32::from(shard));
            self.ring.push(Op::Wake { bell }, token);
        }
        let long = self.pool.long();
        if long >= CROWD_MIN && CROWD_SHARE * long > self.fanout.subscribers() {
            self.crowded_until = now + PROGRESS_TIME;
        }
        let patience = match now < self.crowded_until {
            true => Patience::Crowd,
            false => Patience::Turn,
        };
        let mut work = 0;
        for _ in 0..self.settings.fanned_out_per_turn {
            if work >= self.settings.fanned_out_bytes_per_turn {
                break;
            }
            let Some(slot) = self.fanout.next_waiting() else {
                break;
            };
            let chain = self.fanout.take_chain(slot);
            if chain == NONE {
                continue;
            }
            match self.with_conn(slot, now, |_, conn| conn.deliver(chain, patience)) {
                Some(delivered) => {
                    work += delivered.frame_bytes + delivered.messages * MESSAGE_WORK;
                }
                None => self.fanout.release(slot, chain),
            }
            match &self.connections[slot as usize].phase {
                Phase::Open { protocol, .. } if protocol.is_open() => self.mark(slot),
                // A slow reader has been closed.
                _ => self.conclude(slot, now),
            }
        }
        self.fanout.tell_budget();
        again
    }

    /// Another ring could not be woken by this one.
    pub(super) fn wake_by_bell(&self, shard: u32) {
        if let Some(bell) = self.fanout.bell(shard) {
            bell.ring();
        }
    }
}
