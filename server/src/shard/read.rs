//! Reads received bytes, message by message, and keeps bytes unread that cannot be read yet.
//!
//! `connection/reading.rs` has the reasons.

use std::marker::PhantomData;

use tidewheel_codec::{Cause, CloseCode, Time};

use super::{Shard, core::Core, visit::Visit};
use crate::{
    Conn, Handler, Link,
    connection::{Connection, Phase, ReceiveEvent, WaitReason},
    contain::{self, Callback},
    fanout::PublishHistory,
    message::{Arrived, Event},
    ring::Ring,
};

impl<R: Ring, H: Handler> Shard<R, H> {
    /// Reads waiting connections, within the turn's quota.
    pub(super) fn read_waiting(&mut self, now: Time) {
        for _ in 0..self.core.read_schedule.over_budget() {
            let Some((slot, generation)) = self.core.read_schedule.next_over_budget() else {
                break;
            };
            self.visit(slot, now, |visit| visit.retry(generation));
        }
        self.core.read_schedule.begin_waiting();
        while let Some((slot, generation)) = self.core.read_schedule.next() {
            self.visit(slot, now, |visit| {
                if visit.waits(generation, WaitReason::TurnQuota) {
                    visit.read_on();
                }
            });
        }
    }
}

impl<R: Ring, H: Handler> Visit<'_, R, H> {
    /// Reads frames, and keeps the bytes that cannot be read yet.
    pub(super) fn frames(&mut self, arrived: Arrived<'_>) {
        if let Some((rest, reason)) = self.read(arrived) {
            self.keep_unread(rest, reason);
        }
    }

    /// Keeps bytes unread, behind the unread bytes.
    pub(super) fn keep_unread(&mut self, bytes: &[u8], reason: WaitReason) {
        self.queue().unread.push(bytes);
        self.wait_for(reason);
    }

    /// Notes the reason why the connection is not read, and lists the connection for it.
    pub(super) fn wait_for(&mut self, reason: WaitReason) {
        if self.connection.reading.wait_for(reason) {
            let generation = self.connection.generation();
            self.core.read_schedule.list(reason, self.slot, generation);
            if reason == WaitReason::PublishBudget {
                self.core.stats.publisher_pauses.add(1);
            }
        }
    }

    /// Returns whether the connection is the one that was listed, and still waits for this reason.
    fn waits(&self, generation: u32, reason: WaitReason) -> bool {
        self.connection.generation() == generation
            && self.connection.reading.reason() == Some(reason)
    }

    /// Schedules a connection that waits for a budget for reading if the budget has space, and lists it again
    /// otherwise.
    fn retry(&mut self, generation: u32) {
        if self.connection.generation() != generation {
            return;
        }
        let publish_history = self.connection.publish_history;
        let (reason, has_space) = match self.connection.reading.reason() {
            Some(reason @ WaitReason::PublishBudget) => (
                reason,
                self.core.fanout.may_read(self.slot, publish_history),
            ),
            Some(reason @ WaitReason::Tasks) => (reason, !self.core.later.is_busy(self.slot)),
            Some(WaitReason::SendQueue | WaitReason::TurnQuota | WaitReason::Verdict) | None => {
                return;
            }
        };
        if has_space || !self.connection.is_open() {
            self.wait_for(WaitReason::TurnQuota);
        } else {
            self.core.read_schedule.list(reason, self.slot, generation);
        }
    }

    /// Reads unread bytes within the connection's quota. Continues to receive when none are left.
    pub(super) fn read_on(&mut self) {
        self.connection.reading.resume();
        self.read_unread();
        if self.connection.receiving.is_at_end()
            && !self.connection.is_congested(&self.core.sends.limits)
        {
            self.change_receive(ReceiveEvent::ReachEnd);
            return self.handle_peer_fin();
        }
        self.rearm();
        self.poll_protocol();
    }

    /// Reads unread bytes until the connection has to wait.
    fn read_unread(&mut self) {
        loop {
            let queue = self.connection.queue.as_mut();
            let Some(mut piece) = queue.and_then(|queue| queue.unread.take()) else {
                return;
            };
            let rest = self.read(Arrived::elsewhere(piece.unread()));
            if let Some((rest, reason)) = rest.map(|(bytes, why)| (bytes.len(), why)) {
                piece.keep_last(rest);
                self.queue().unread.put_back(piece);
                return self.wait_for(reason);
            }
        }
    }

    /// Reads frames until the connection's quota is used up, or the connection has to wait. Returns the bytes
    /// that are left, and the reason. Bytes that were received into a message stay there, and are not returned.
    fn read<'b>(&mut self, arrived: Arrived<'b>) -> Option<(&'b [u8], WaitReason)> {
        match contain::catch(|| self.read_messages(arrived)) {
            Ok(rest) => rest,
            Err(panic) => {
                let Some(callback) = self.core.callback.take() else {
                    panic.resume();
                };
                self.fail_after_panic(callback, panic);
                None
            }
        }
    }

    fn read_messages<'b>(&mut self, arrived: Arrived<'b>) -> Option<(&'b [u8], WaitReason)> {
        let (id, now, slot) = (self.id(), self.now, self.slot);
        let Core {
            handler,
            endpoint,
            read_schedule,
            sends,
            fanout,
            later,
            stats,
            settings,
            callback,
            ..
        } = &mut *self.core;
        let Connection {
            phase,
            rate,
            publish_history,
            queue,
            ..
        } = &mut *self.connection;
        let Phase::Open { protocol, state } = phase else {
            return None;
        };
        let is_compressed = protocol.is_compressed();
        if is_compressed && protocol.is_open() && read_schedule.left().is_deflate_used_up() {
            // A short message may inflate to the quota of a whole turn.
            protocol.note_heard(now);
            return Some((arrived.into_bytes(), WaitReason::TurnQuota));
        }
        let given = read_schedule.quota();
        let mut quota = given;
        // Publications of other callbacks do not count for this connection.
        fanout.take_published();
        let queue = queue.get_or_insert_with(|| sends.pool.take());
        let (control, limits) = (&mut sends.control, sends.limits);
        let mut frames = arrived.frames(protocol, quota.frames(), now);
        let mut deflate_work = endpoint.deflate_work();
        let reason = loop {
            if protocol.is_open() {
                if queue.held() >= limits.pause_at() {
                    break Some(WaitReason::SendQueue);
                }
                if *publish_history != PublishHistory::NeverPublished
                    && !fanout.may_read(slot, *publish_history)
                {
                    break Some(WaitReason::PublishBudget);
                }
                if later.is_busy(slot) {
                    break Some(WaitReason::Tasks);
                }
            }
            let event = frames.poll(protocol, endpoint, control);
            if !control.is_empty() {
                match protocol.is_open() {
                    true => queue.write_control(control),
                    // Behind the answers to messages before the peer's Close or its violation.
                    false => queue.write_close(control),
                }
                control.clear();
            }
            let Some(event) = event else {
                break match frames.frames_left() {
                    0 => Some(WaitReason::TurnQuota),
                    _ => None,
                };
            };
            match event {
                Event::Message(_)
                    if settings
                        .message_rate_max
                        .is_some_and(|limit| rate.exceeds(limit, now)) =>
                {
                    let (code, cause) = (CloseCode::POLICY_VIOLATION, Cause::MessageRate);
                    protocol.fail(endpoint, code, cause, control, now);
                    queue.write_close(control);
                    control.clear();
                }
                Event::Message(message) => {
                    // The turn is charged the whole message, although it may exceed the connection's quota.
                    read_schedule.left().take_message(message.len());
                    let mut is_last = quota.take_message(message.len());
                    let link = Link {
                        id,
                        now,
                        protocol,
                        queue,
                        endpoint,
                        fanout,
                        later,
                        limits,
                        handler: PhantomData,
                    };
                    let mut conn = Conn::new(link, state);
                    *callback = Some(Callback::Message);
                    conn.within_span(handler, |handler, conn| handler.message(conn, message));
                    *callback = None;
                    if is_compressed {
                        // The work of inflating the message, and of compressing the answers.
                        let work = endpoint.deflate_work() - deflate_work;
                        read_schedule.left().take_deflate(work);
                        is_last |= quota.take_deflate(work);
                        deflate_work += work;
                    }
                    if fanout.take_published() {
                        *publish_history = PublishHistory::HasPublished;
                    } else if *publish_history == PublishHistory::Unknown {
                        *publish_history = PublishHistory::NeverPublished;
                    }
                    if is_last && protocol.is_open() {
                        break Some(WaitReason::TurnQuota);
                    }
                }
                Event::Ping => {}
                // Every frame counts as a sign of life, so a Pong needs no more than this.
                Event::Pong(payload) => {
                    if let Some(round_trip) = protocol.round_trip(&payload, now) {
                        stats.ping_round_trips.record(round_trip);
                    }
                }
            }
        };
        let used = given.frames() - frames.frames_left();
        read_schedule.left().take_frames(used);
        let rest: &[u8] = frames.into_rest();
        let is_left = !rest.is_empty() || protocol.is_unread();
        reason.filter(|_| is_left).map(|reason| (rest, reason))
    }
}
