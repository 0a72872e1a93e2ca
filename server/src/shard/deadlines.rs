//! The one timer of each connection, for whichever of its deadlines is next.

use std::time::Duration;

use slab::Slab;
use tidewheel_codec::Time;
use tidewheel_timerwheel::{Tick, Timer, Timers, Wheel};

use super::{Shard, TICK_MS, share_of_core, visit::Visit};
use crate::{
    Handler,
    connection::{Connection, Phase},
    ring::Ring,
};

/// Entries of the wheel that a turn looks at; the others are looked at in the next, which follows at
/// once. Most are of deadlines that have moved, some 40 ns each.
pub(crate) const ENTRIES_PER_TURN: usize = 128;

/// Deadlines that pass in one turn of the shards on a core, at most, so that mass expiry never holds
/// up the network. Each may cost a send or a reset, some 10 us, and an echo that arrives meanwhile
/// waits for two turns.
const EXPIRIES_PER_TURN: usize = 64;

/// The least that a shard has of these, however many others share its core.
const EXPIRIES_MIN: usize = 1;

/// The deadlines of all connections of a shard.
pub(super) struct Deadlines {
    wheel: Wheel,
    /// Slots whose timer has expired in this turn.
    expired: Vec<u32>,
    /// Timers that may expire in one turn.
    expiries_per_turn: usize,
}

impl Deadlines {
    pub(super) fn new(receive_buffers: u16, core_shards: u16, now: Time) -> Self {
        Self {
            wheel: Wheel::new(tick_at(now)),
            expired: Vec::new(),
            expiries_per_turn: share_of_core(
                expiries_per_turn(receive_buffers),
                core_shards,
                EXPIRIES_MIN,
            ),
        }
    }

    /// Sets a connection's timer.
    fn set(&mut self, slot: u32, timer: &mut Timer, deadline: Option<Time>) {
        match deadline {
            Some(deadline) => self.wheel.set(slot, timer, tick_after(deadline)),
            None => self.wheel.clear(timer),
        }
    }

    /// How long until a timer may expire, if there is one.
    pub(super) fn next_in(&self, now: Time) -> Option<Duration> {
        self.wheel.next_wake().map(|tick| until(tick, now))
    }

    /// Entries of the wheel.
    pub(super) fn entries(&self) -> usize {
        self.wheel.entries()
    }

    /// Bytes of memory that the wheel holds.
    pub(super) fn memory(&self) -> usize {
        self.wheel.memory()
    }
}

/// Deadlines that pass in a turn: half as many as there are receive buffers, at most. So the answers to
/// the pings of a turn fill half of the buffers, and the other half is left for what others send.
pub(crate) fn expiries_per_turn(receive_buffers: u16) -> usize {
    EXPIRIES_PER_TURN.min(usize::from(receive_buffers) / 2)
}

impl<R: Ring, H: Handler> Shard<R, H> {
    /// Lets deadlines pass; says whether all that are due have.
    pub(super) fn expire(&mut self, now: Time) -> bool {
        let deadlines = &mut self.core.deadlines;
        let most = deadlines.expiries_per_turn;
        let mut expired = std::mem::take(&mut deadlines.expired);
        let mut entries = ENTRIES_PER_TURN;
        let mut done = false;
        while !done && entries > 0 && expired.len() < most {
            let budget = entries.min(most - expired.len());
            let mut view = Due {
                connections: &mut self.connections,
                expired: &mut expired,
            };
            done = deadlines.wheel.advance(tick_at(now), budget, &mut view);
            entries -= budget;
        }
        for slot in expired.drain(..) {
            self.visit(slot, now, |visit| visit.timed_out());
        }
        self.core.deadlines.expired = expired;
        done
    }
}

impl<R: Ring, H: Handler> Visit<'_, R, H> {
    /// Sets the connection's timer to whichever of its deadlines is next.
    pub(super) fn schedule(&mut self) {
        let Connection { timer, phase, .. } = &mut *self.connection;
        let deadline = match phase {
            Phase::Handshake { deadline, .. } | Phase::Refused { deadline } => Some(*deadline),
            Phase::Flushing { delivery } => Some(delivery.next()),
            Phase::Open { protocol, .. } => protocol.poll_timeout(self.core.endpoint.config()),
            Phase::Leaving(_) => None,
        };
        self.core.deadlines.set(self.slot, timer, deadline);
    }
}

/// The wheel's view of the connections.
struct Due<'a, S> {
    connections: &'a mut Slab<Connection<S>>,
    expired: &'a mut Vec<u32>,
}

impl<S> Timers for Due<'_, S> {
    fn timer(&mut self, id: u32) -> Option<&mut Timer> {
        self.connections
            .get_mut(id as usize)
            .map(|connection| &mut connection.timer)
    }

    fn expire(&mut self, _: &mut Wheel, id: u32) {
        self.expired.push(id);
    }
}

/// The last tick that has begun at `now`.
fn tick_at(now: Time) -> Tick {
    Tick::new((now.as_millis() / TICK_MS) as u32)
}

/// The first tick that is not before `deadline`.
fn tick_after(deadline: Time) -> Tick {
    Tick::new(deadline.as_millis().div_ceil(TICK_MS) as u32)
}

/// From `now` until `tick` begins.
fn until(tick: Tick, now: Time) -> Duration {
    let current = tick_at(now);
    if !current.is_before(tick) {
        return Duration::ZERO;
    }
    let begins = (now.as_millis() / TICK_MS + u64::from(tick.since(current))) * TICK_MS;
    Duration::from_millis(begins - now.as_millis())
}
