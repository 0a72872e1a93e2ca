//! From received bytes to the handler, message by message, and what is kept unread meanwhile.
//!
//! `connection/reading.rs` has the reasons why bytes are kept.

use std::collections::VecDeque;

use tidewheel_codec::{Cause, CloseCode, Time};

use super::{
    Shard,
    core::Core,
    share::{self, Share},
    visit::Visit,
};
use crate::{
    Conn, Handler,
    connection::{Connection, Obstacle, Phase, ReceiveEvent},
    contain::{self, Callback},
    fanout::Habit,
    message::{Arrived, Event},
    ring::Ring,
};

/// Connections with bytes that are kept unread.
#[derive(Debug)]
pub(super) struct Unread {
    /// Those that wait for their turn, and for room: slot and generation.
    turn: VecDeque<(u32, u32)>,
    room: VecDeque<(u32, u32)>,
    /// What a turn reads.
    per_turn: Share,
    /// What is left of that.
    left: Share,
    /// Connections that want a share of the turn.
    claimants: u32,
}

impl Unread {
    pub(super) fn new(core_shards: u16) -> Self {
        let per_turn = share::TURN.part(core_shards);
        Self {
            turn: VecDeque::new(),
            room: VecDeque::new(),
            per_turn,
            left: per_turn,
            claimants: 0,
        }
    }

    /// A turn begins, in which so many receives have completed.
    pub(super) fn begin_turn(&mut self, receives: usize) {
        self.left = self.per_turn;
        self.claimants = receives as u32;
    }

    /// Whether a connection can be read on at once.
    pub(super) fn is_behind(&self) -> bool {
        !self.turn.is_empty()
    }

    /// Whether a connection waits for room.
    pub(super) fn awaits_room(&self) -> bool {
        !self.room.is_empty()
    }

    /// Lists a connection for what it waits for.
    fn list(&mut self, obstacle: Obstacle, slot: u32, generation: u32) {
        match obstacle {
            // The end of a send looks after it.
            Obstacle::Answers => {}
            Obstacle::Turn => self.turn.push_back((slot, generation)),
            Obstacle::Room => self.room.push_back((slot, generation)),
        }
    }

    /// The next connection that has waited for its turn, unless the turn is used up.
    fn next(&mut self) -> Option<(u32, u32)> {
        if self.left.is_used_up() {
            return None;
        }
        self.turn.pop_front()
    }
}

impl<R: Ring, H: Handler> Shard<R, H> {
    /// Reads what is kept unread of those that have waited, as far as the turn's share goes.
    pub(super) fn read_on(&mut self, now: Time) {
        for _ in 0..self.core.unread.room.len() {
            let Some((slot, generation)) = self.core.unread.room.pop_front() else {
                break;
            };
            self.visit(slot, now, |visit| visit.look_for_room(generation));
        }
        self.core.unread.claimants = self.core.unread.turn.len() as u32;
        while let Some((slot, generation)) = self.core.unread.next() {
            self.visit(slot, now, |visit| {
                if visit.waits(generation, Obstacle::Turn) {
                    visit.read_on();
                }
            });
        }
    }
}

impl<R: Ring, H: Handler> Visit<'_, R, H> {
    /// Hands the frames that have arrived to the handler, and keeps those that it is too early for.
    pub(super) fn frames(&mut self, arrived: Arrived<'_>) {
        if let Some((rest, obstacle)) = self.read(arrived) {
            self.keep_unread(rest, obstacle);
        }
    }

    /// Keeps bytes unread, behind those that are.
    pub(super) fn keep_unread(&mut self, bytes: &[u8], obstacle: Obstacle) {
        self.queue().parked.push(bytes);
        self.wait_for(obstacle);
    }

    /// Notes what the connection waits for before it is read on.
    fn wait_for(&mut self, obstacle: Obstacle) {
        if self.connection.reading.wait_for(obstacle) {
            let generation = self.connection.generation();
            self.core.unread.list(obstacle, self.slot, generation);
            if obstacle == Obstacle::Room {
                self.core.stats.publisher_pauses.add(1);
            }
        }
    }

    /// Whether this connection is the one that was listed, and still waits.
    fn waits(&self, generation: u32, obstacle: Obstacle) -> bool {
        self.connection.generation() == generation
            && self.connection.reading.obstacle() == Some(obstacle)
    }

    /// Lets a connection that waits for room have its turn, if there is some.
    fn look_for_room(&mut self, generation: u32) {
        if !self.waits(generation, Obstacle::Room) {
            return;
        }
        let habit = self.connection.habit;
        if !self.connection.is_open() || self.core.fanout.may_read(self.slot, habit) {
            self.wait_for(Obstacle::Turn);
        } else {
            self.core.unread.list(Obstacle::Room, self.slot, generation);
        }
    }

    /// Reads what is kept unread, a share of it; receiving goes on when nothing is left.
    pub(super) fn read_on(&mut self) {
        self.connection.reading.go_on();
        self.read_unread();
        if self.connection.receiving.is_at_end()
            && !self.connection.is_congested(&self.core.sends.limits)
        {
            self.change_receive(ReceiveEvent::ReachEnd);
            return self.peer_finished();
        }
        self.rearm();
        self.conclude();
    }

    /// Reads what is kept unread, until it waits for something.
    fn read_unread(&mut self) {
        loop {
            let queue = self.connection.queue.as_mut();
            let Some(mut piece) = queue.and_then(|queue| queue.parked.take()) else {
                return;
            };
            let rest = self.read(Arrived::elsewhere(piece.unread()));
            if let Some((rest, obstacle)) = rest.map(|(bytes, why)| (bytes.len(), why)) {
                piece.keep_last(rest);
                self.queue().parked.put_back(piece);
                return self.wait_for(obstacle);
            }
        }
    }

    /// Hands the frames that have arrived to the handler until the connection's share is used up or it has
    /// to wait: then returns the bytes that are left, and why. No bytes are left if what is unread was
    /// received into a message: it stays there.
    fn read<'b>(&mut self, arrived: Arrived<'b>) -> Option<(&'b [u8], Obstacle)> {
        match contain::catch(|| self.read_messages(arrived)) {
            Ok(rest) => rest,
            Err(panic) => {
                let Some(callback) = self.core.callback.take() else {
                    panic.resume();
                };
                self.fail_after(callback, panic);
                None
            }
        }
    }

    fn read_messages<'b>(&mut self, arrived: Arrived<'b>) -> Option<(&'b [u8], Obstacle)> {
        let (id, now, slot) = (self.id(), self.now, self.slot);
        let Core {
            handler,
            endpoint,
            unread,
            sends,
            fanout,
            stats,
            settings,
            callback,
            ..
        } = &mut *self.core;
        let Connection {
            phase,
            rate,
            habit,
            queue,
            ..
        } = &mut *self.connection;
        let Phase::Open { protocol, state } = phase else {
            return None;
        };
        let is_compressed = protocol.is_compressed();
        if is_compressed && protocol.is_open() && unread.left.is_deflate_used_up() {
            // A message of a few bytes may be the work of a whole turn.
            protocol.note_heard(now);
            return Some((arrived.into_bytes(), Obstacle::Turn));
        }
        let given = unread.left.of_connection(unread.claimants);
        let mut share = given;
        // What other callbacks have published says nothing of this connection.
        fanout.take_published();
        let queue = queue.get_or_insert_with(|| sends.pool.take());
        let (control, limits) = (&mut sends.control, sends.limits);
        let mut frames = arrived.frames(protocol, share.frames(), now);
        let mut deflate_work = endpoint.deflate_work();
        let obstacle = loop {
            if protocol.is_open() {
                if queue.held() >= limits.pause_at() {
                    break Some(Obstacle::Answers);
                }
                if *habit != Habit::Listens && !fanout.may_read(slot, *habit) {
                    break Some(Obstacle::Room);
                }
            }
            let event = frames.poll(protocol, endpoint, control);
            if !control.is_empty() {
                match protocol.is_open() {
                    true => queue.write_control(control),
                    // Behind the answers to what came before the peer's Close, or violation.
                    false => queue.write_close(control),
                }
                control.clear();
            }
            let Some(event) = event else {
                break match frames.frames_left() {
                    0 => Some(Obstacle::Turn),
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
                    // All of it is the turn's, though it may be more than the connection's share.
                    unread.left.take_message(message.len());
                    let mut is_last = share.take_message(message.len());
                    let mut conn = Conn {
                        id,
                        now,
                        protocol,
                        state,
                        queue,
                        endpoint,
                        fanout,
                        limits,
                    };
                    *callback = Some(Callback::Message);
                    handler.message(&mut conn, message);
                    *callback = None;
                    if is_compressed {
                        // Of the message, and of the answers to it.
                        let work = endpoint.deflate_work() - deflate_work;
                        unread.left.take_deflate(work);
                        is_last |= share.take_deflate(work);
                        deflate_work += work;
                    }
                    if fanout.take_published() {
                        *habit = Habit::Publishes;
                    } else if *habit == Habit::Unknown {
                        *habit = Habit::Listens;
                    }
                    if is_last && protocol.is_open() {
                        break Some(Obstacle::Turn);
                    }
                }
                Event::Ping => {}
                // It has been heard, as everything is.
                Event::Pong(payload) => {
                    if let Some(round_trip) = protocol.round_trip(&payload, now) {
                        stats.ping_round_trips.record(round_trip);
                    }
                }
            }
        };
        unread
            .left
            .take_frames(given.frames() - frames.frames_left());
        let rest: &[u8] = frames.into_rest();
        let is_left = !rest.is_empty() || protocol.is_unread();
        obstacle
            .filter(|_| is_left)
            .map(|obstacle| (rest, obstacle))
    }
}
