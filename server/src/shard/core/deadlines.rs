//! The timer wheel of a shard.

use std::time::Duration;

use slab::Slab;
use tidewheel_codec::Time;
use tidewheel_timerwheel::{Timer, Timers, Wheel};

use crate::{
    connection::Connection,
    shard::{share_of_core, ticks},
};

/// Entries of the wheel that one turn checks, at most. Most belong to deadlines that have moved, and take some
/// 40 ns each.
pub(crate) const ENTRIES_PER_TURN: usize = 128;

/// Timers that expire in one turn of the shards on a core, at most. Each may cost a send or a reset, some
/// 10 us, and an echo that arrives meanwhile waits for two turns.
const EXPIRIES_PER_TURN: usize = 64;

/// Lower bound of [`EXPIRIES_PER_TURN`] when shards share a core.
const EXPIRIES_MIN: usize = 1;

/// The deadlines of all connections of a shard.
pub(in crate::shard) struct Deadlines {
    wheel: Wheel,
    /// Slots whose timer expired this turn. Empty between turns.
    expired: Vec<u32>,
    /// Timers that expire in one turn, at most.
    expiries_per_turn: usize,
}

impl Deadlines {
    pub(in crate::shard) fn new(receive_buffers: u16, core_shards: u16, now: Time) -> Self {
        Self {
            wheel: Wheel::new(ticks::at(now)),
            expired: Vec::new(),
            expiries_per_turn: share_of_core(
                expiries_per_turn(receive_buffers),
                core_shards,
                EXPIRIES_MIN,
            ),
        }
    }

    /// Sets or clears a connection's timer.
    pub(in crate::shard) fn set(&mut self, slot: u32, timer: &mut Timer, deadline: Option<Time>) {
        match deadline {
            Some(deadline) => self.wheel.set(slot, timer, ticks::after(deadline)),
            None => self.wheel.clear(timer),
        }
    }

    /// Advances the wheel to `now`, within the limits of a turn. Returns the slots whose timer has expired, and
    /// whether the wheel has reached `now`. The caller gives the vector back to [`recycle`](Self::recycle).
    pub(in crate::shard) fn advance<S>(
        &mut self,
        connections: &mut Slab<Connection<S>>,
        now: Time,
    ) -> (Vec<u32>, bool) {
        let mut expired = std::mem::take(&mut self.expired);
        let mut entries = ENTRIES_PER_TURN;
        let mut done = false;
        while !done && entries > 0 && expired.len() < self.expiries_per_turn {
            let budget = entries.min(self.expiries_per_turn - expired.len());
            let mut timers = ConnectionTimers {
                connections,
                expired: &mut expired,
            };
            done = self.wheel.advance(ticks::at(now), budget, &mut timers);
            entries -= budget;
        }
        (expired, done)
    }

    /// Keeps the memory of an empty vector for the next turn.
    pub(in crate::shard) fn recycle(&mut self, expired: Vec<u32>) {
        debug_assert!(expired.is_empty(), "all expired slots are handled");
        self.expired = expired;
    }

    /// Time until a timer may expire, if one is set.
    pub(in crate::shard) fn next_in(&self, now: Time) -> Option<Duration> {
        self.wheel.next_wake().map(|tick| ticks::until(tick, now))
    }

    /// Number of entries of the wheel.
    pub(in crate::shard) fn entries(&self) -> usize {
        self.wheel.entries()
    }

    /// Memory of the wheel in bytes.
    pub(in crate::shard) fn memory(&self) -> usize {
        self.wheel.memory()
    }
}

/// Timers that expire in a turn, at most: half as many as there are receive buffers. So the answers to the pings
/// of a turn fill half of the buffers.
pub(crate) fn expiries_per_turn(receive_buffers: u16) -> usize {
    EXPIRIES_PER_TURN.min(usize::from(receive_buffers) / 2)
}

/// Gives the wheel access to the timers in the connections.
struct ConnectionTimers<'a, S> {
    connections: &'a mut Slab<Connection<S>>,
    expired: &'a mut Vec<u32>,
}

impl<S> Timers for ConnectionTimers<'_, S> {
    fn timer(&mut self, id: u32) -> Option<&mut Timer> {
        self.connections
            .get_mut(id as usize)
            .map(|connection| &mut connection.timer)
    }

    fn expire(&mut self, _: &mut Wheel, id: u32) {
        self.expired.push(id);
    }
}
