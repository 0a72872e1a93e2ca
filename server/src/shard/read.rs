//! From received bytes to the handler, message by message, and what is kept unread meanwhile.
//!
//! Bytes are kept unread for one of three reasons, and read on when that is gone:
//!
//! ```text
//!  Sending  answers might not find room in the send queue ── it is sent ─────────┐
//!  Turn     the connection has had its share ──────────────── the next turn ─────┼─► read on
//!  Room     it publishes, and what it published waits ─────── there is room ─────┘
//! ```

use std::collections::VecDeque;

use tidewheel_codec::{Cause, CloseCode, Time};

use super::{
    Shard,
    share::{self, Share},
};
use crate::{
    Conn, ConnectionId, Handler,
    connection::{Awaits, Connection, Phase, Receive},
    contain::{self, Callback},
    fanout::Habit,
    message::{Arrived, Event},
    outbox::Lane,
    ring::Ring,
};

/// Connections with bytes that are kept unread.
#[derive(Debug)]
pub(super) struct Unread {
    /// Those that wait for their turn, and for room; with their generation.
    turn: VecDeque<(u32, u32)>,
    room: VecDeque<(u32, u32)>,
    /// What a turn reads.
    per_turn: Share,
    /// What is left of that.
    left: Share,
    /// Receives that have completed in this turn.
    receives: u32,
}

impl Unread {
    pub(super) fn new(core_shards: u16) -> Self {
        let per_turn = share::TURN.part(core_shards);
        Self {
            turn: VecDeque::new(),
            room: VecDeque::new(),
            per_turn,
            left: per_turn,
            receives: 0,
        }
    }

    /// A turn begins, in which so many receives have completed.
    pub(super) fn begin_turn(&mut self, receives: usize) {
        self.left = self.per_turn;
        self.receives = receives as u32;
    }

    /// Whether somebody can be read on at once.
    pub(super) fn is_behind(&self) -> bool {
        !self.turn.is_empty()
    }

    /// Whether somebody waits for room.
    pub(super) fn awaits_room(&self) -> bool {
        !self.room.is_empty()
    }

    fn push(&mut self, awaits: Awaits, slot: u32, generation: u32) {
        match awaits {
            Awaits::Nothing | Awaits::Sending => {}
            Awaits::Turn => self.turn.push_back((slot, generation)),
            Awaits::Room => self.room.push_back((slot, generation)),
        }
    }
}

impl<R: Ring, H: Handler> Shard<R, H> {
    /// Hands the frames that have arrived to the handler, and keeps those that it is too early for.
    pub(super) fn frames(&mut self, slot: u32, arrived: Arrived<'_>, now: Time) {
        if let Some((rest, awaits)) = self.read(slot, arrived, now) {
            self.keep_unread(slot, rest, awaits);
        }
    }

    /// Keeps bytes unread, behind those that are.
    pub(super) fn keep_unread(&mut self, slot: u32, bytes: &[u8], awaits: Awaits) {
        let connection = &mut self.connections[slot as usize];
        let queue = connection.queue.get_or_insert_with(|| self.pool.take());
        queue.parked.push(bytes);
        self.wait_for(slot, awaits);
    }

    /// Notes what a connection waits for before it is read on.
    fn wait_for(&mut self, slot: u32, awaits: Awaits) {
        let connection = &mut self.connections[slot as usize];
        if connection.awaits != awaits {
            connection.awaits = awaits;
            self.unread.push(awaits, slot, connection.generation);
            if awaits == Awaits::Room {
                self.stats.publisher_pauses.add(1);
            }
        }
    }

    /// Reads what is kept unread of those that have waited, as far as the turn's share goes.
    pub(super) fn read_on(&mut self, now: Time) {
        for _ in 0..self.unread.room.len() {
            let Some((slot, generation)) = self.unread.room.pop_front() else {
                break;
            };
            let Some(connection) = self.waiting(slot, generation, Awaits::Room) else {
                continue;
            };
            let (habit, is_open) = (connection.habit, connection.is_open());
            if !is_open || self.fanout.may_read(slot, habit) {
                self.wait_for(slot, Awaits::Turn);
            } else {
                self.unread.room.push_back((slot, generation));
            }
        }
        self.unread.receives = self.unread.turn.len() as u32;
        while !self.unread.left.is_used_up()
            && let Some((slot, generation)) = self.unread.turn.pop_front()
        {
            if let Some(connection) = self.waiting(slot, generation, Awaits::Turn) {
                connection.awaits = Awaits::Nothing;
                self.resume_reading(slot, now);
            }
        }
    }

    /// The connection of a slot, if it still waits.
    fn waiting(
        &mut self,
        slot: u32,
        generation: u32,
        awaits: Awaits,
    ) -> Option<&mut Connection<H::State>> {
        let connection = self.connections.get_mut(slot as usize)?;
        let is_it = connection.generation == generation && connection.awaits == awaits;
        is_it.then_some(connection)
    }

    /// Reads what is kept unread, a share of it; receiving goes on when nothing is left.
    pub(super) fn resume_reading(&mut self, slot: u32, now: Time) {
        self.read_unread(slot, now);
        let connection = &mut self.connections[slot as usize];
        if connection.receive == Receive::PausedAtEnd
            && !connection.is_congested(&self.settings.send)
        {
            connection.receive = Receive::Ended;
            return self.peer_finished(slot, now);
        }
        self.rearm(slot);
        self.conclude(slot, now);
    }

    /// Reads what is kept unread, until it waits for something.
    pub(super) fn read_unread(&mut self, slot: u32, now: Time) {
        loop {
            let queue = self.connections[slot as usize].queue.as_mut();
            let Some(mut piece) = queue.and_then(|queue| queue.parked.take()) else {
                return;
            };
            let arrived = Arrived::elsewhere(piece.unread());
            let rest = self.read(slot, arrived, now);
            if let Some((rest, awaits)) = rest.map(|(bytes, awaits)| (bytes.len(), awaits)) {
                piece.keep_last(rest);
                let connection = &mut self.connections[slot as usize];
                let queue = connection.queue.get_or_insert_with(|| self.pool.take());
                queue.parked.put_back(piece);
                return self.wait_for(slot, awaits);
            }
        }
    }

    /// Hands the frames that have arrived to the handler until the connection has had its share, or has
    /// to wait: then it gives the bytes that are left, which are none where what was received into a
    /// message is unread.
    fn read<'b>(
        &mut self,
        slot: u32,
        arrived: Arrived<'b>,
        now: Time,
    ) -> Option<(&'b [u8], Awaits)> {
        match contain::catch(|| self.read_messages(slot, arrived, now)) {
            Ok(rest) => rest,
            Err(panic) => {
                let Some(callback) = self.callback.take() else {
                    panic.resume();
                };
                self.fail_after(slot, callback, panic, now);
                None
            }
        }
    }

    fn read_messages<'b>(
        &mut self,
        slot: u32,
        arrived: Arrived<'b>,
        now: Time,
    ) -> Option<(&'b [u8], Awaits)> {
        let given = self.unread.left.of_connection(self.unread.receives);
        let mut share = given;
        let connection = &mut self.connections[slot as usize];
        let Connection {
            phase, rate, habit, ..
        } = connection;
        let Phase::Open { protocol, state } = phase else {
            return None;
        };
        // What other callbacks have published says nothing of this connection.
        self.fanout.take_published();
        let message_rate_max = self.settings.message_rate_max;
        let queue = connection.queue.get_or_insert_with(|| self.pool.take());
        let id = ConnectionId {
            shard: self.settings.index,
            generation: connection.generation,
            slot,
        };
        let mut frames = arrived.frames(protocol, share.frames(), now);
        let endpoint = &mut self.endpoint;
        let fanout = &mut self.fanout;
        let control = &mut self.lists.control;
        let limits = self.settings.send;
        let is_compressed = protocol.is_compressed();
        let awaits = loop {
            if protocol.is_open() {
                if queue.held() >= limits.pause_at() {
                    break Awaits::Sending;
                }
                if *habit != Habit::Listens && !fanout.may_read(slot, *habit) {
                    break Awaits::Room;
                }
            }
            let event = frames.poll(protocol, endpoint, control);
            if !control.is_empty() {
                if !protocol.is_open() {
                    // Who has sent Close, or broken the protocol, awaits no more than our Close.
                    queue.discard();
                }
                queue.write_control(control);
                control.clear();
            }
            let Some(event) = event else {
                break match frames.frames_left() {
                    0 => Awaits::Turn,
                    _ => Awaits::Nothing,
                };
            };
            match event {
                Event::Message(_)
                    if message_rate_max.is_some_and(|limit| rate.exceeds(limit, now)) =>
                {
                    let (code, cause) = (CloseCode::POLICY_VIOLATION, Cause::MessageRate);
                    protocol.fail(endpoint, code, cause, control, now);
                    queue.discard();
                    queue.write_control(control);
                    control.clear();
                }
                Event::Message(message) => {
                    let is_last = share.take_message(message.len(), is_compressed);
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
                    self.callback = Some(Callback::Message);
                    self.handler.message(&mut conn, message);
                    self.callback = None;
                    if fanout.take_published() {
                        *habit = Habit::Publishes;
                    } else if *habit == Habit::Unknown {
                        *habit = Habit::Listens;
                    }
                    if is_last && protocol.is_open() {
                        break Awaits::Turn;
                    }
                }
                Event::Ping => {}
                // It has been heard, as everything is.
                Event::Pong(payload) => {
                    if let Some(round_trip) = protocol.round_trip(&payload, now) {
                        self.stats.ping_round_trips.record(round_trip);
                    }
                }
            }
        };
        share.take_frames(given.frames() - frames.frames_left());
        self.unread.left.take_used(given, share);
        let rest: &[u8] = frames.into_rest();
        let is_left = !rest.is_empty() || protocol.is_unread();
        (awaits != Awaits::Nothing && is_left).then_some((rest, awaits))
    }

    /// Calls the application with an open connection; if it panics, the connection fails.
    pub(super) fn call(
        &mut self,
        slot: u32,
        now: Time,
        callback: Callback,
        call: impl FnOnce(&mut H, &mut Conn<'_, H::State>),
    ) {
        let called = contain::catch(|| {
            self.with_conn(slot, now, |handler, conn| call(handler, conn));
        });
        if let Err(panic) = called {
            self.fail_after(slot, callback, panic, now);
        }
    }

    /// The application has panicked: the connection fails with 1011, behind what was sent before.
    fn fail_after(&mut self, slot: u32, callback: Callback, panic: contain::Panic, now: Time) {
        self.note_panic(slot, callback, panic);
        let Connection { phase, queue, .. } = &mut self.connections[slot as usize];
        if let Phase::Open { protocol, .. } = phase {
            let queue = queue.get_or_insert_with(|| self.pool.take());
            let endpoint = &mut self.endpoint;
            let (code, cause) = (CloseCode::INTERNAL_ERROR, Cause::HandlerPanic);
            queue.write(Lane::Control, |out| {
                protocol.fail(endpoint, code, cause, out, now);
            });
        }
    }

    /// Logs and counts a panic of the application; stops the shard if that was asked for.
    pub(super) fn note_panic(&self, slot: u32, callback: Callback, panic: contain::Panic) {
        self.stats.handler_panics.add(1);
        let id = ConnectionId {
            shard: self.settings.index,
            generation: self.connections[slot as usize].generation,
            slot,
        };
        tracing::error!(
            connection = %id,
            callback = callback.as_str(),
            location = panic.location(),
            message = panic.message(),
            "the handler panicked"
        );
        if self.settings.panic == crate::PanicPolicy::StopServer {
            panic.resume();
        }
    }

    /// Lets the handler see an open connection.
    pub(super) fn with_conn<T>(
        &mut self,
        slot: u32,
        now: Time,
        callback: impl FnOnce(&mut H, &mut Conn<'_, H::State>) -> T,
    ) -> Option<T> {
        let connection = &mut self.connections[slot as usize];
        let Connection {
            phase,
            queue,
            generation,
            ..
        } = connection;
        let Phase::Open { protocol, state } = phase else {
            return None;
        };
        let queue = queue.get_or_insert_with(|| self.pool.take());
        let mut conn = Conn {
            id: ConnectionId {
                shard: self.settings.index,
                generation: *generation,
                slot,
            },
            now,
            protocol,
            state,
            queue,
            endpoint: &mut self.endpoint,
            fanout: &mut self.fanout,
            limits: self.settings.send,
        };
        Some(callback(&mut self.handler, &mut conn))
    }
}
