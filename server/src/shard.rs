//! A shard: one thread, one ring, and the connections that live on it.
//!
//! [`Shard::turn`] is all that it does: look at what the kernel has completed, let the handler
//! run, let deadlines pass, and queue what follows from it. It neither waits nor reads a clock.

mod accept;
mod admission;
mod core;
mod deadlines;
mod deliver;
mod depart;
mod drain;
mod hand_over;
mod handshake;
pub(crate) mod inbox;
mod memory;
mod parts;
mod read;
mod receive;
pub(crate) mod share;
mod transmit;
mod visit;

use std::{sync::Arc, time::Duration};

use slab::Slab;
use tidewheel_codec::{CloseCode, Endpoint, Time};

#[cfg(test)]
pub(crate) use self::deadlines::{ENTRIES_PER_TURN, expiries_per_turn};
pub use self::parts::Parts;
use self::{
    accept::Acceptor,
    admission::ShardAdmission,
    core::{Core, Settings},
    deadlines::Deadlines,
    handshake::Refusals,
    inbox::Deliveries,
    memory::Memory,
    read::Unread,
    receive::Receives,
    transmit::Sends,
    visit::Visit,
};
use crate::{
    Config, Handler,
    config::Drain,
    connection::{Connection, Phase},
    contain,
    fanout::Fanout,
    ring::{Completion, Op, OpCode, Ring, Token, Wait},
};
pub use crate::{capacity::Capacity, command::Command};

/// Deliveries in a turn that a shard may make however many others share its core.
const DELIVERIES_MIN: usize = 1 << 10;

/// How soon those that wait for room for what they publish are looked at again.
const ROOM_RETRY: Duration = Duration::from_millis(1);

/// Length of a tick of the wheel, in milliseconds.
pub const TICK_MS: u64 = 16;

/// What a shard is to do next.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Next {
    /// Enter the ring and wait as told, then take the next turn.
    Enter(Wait),
    /// Nothing any more: the shard is at its end.
    Finished,
}

/// How a shard has ended.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum End {
    /// It was told to, and has.
    Finished,
    /// Its ring cannot be used any more.
    RingFailed,
    /// It has panicked.
    Panicked,
}

/// A shard on ring `R` with the application `H`.
#[expect(
    missing_debug_implementations,
    reason = "neither ring nor handler need have one"
)]
pub struct Shard<R: Ring, H: Handler> {
    /// First, because the ring in it must be dropped before the connections: what they send is lent to
    /// the kernel.
    core: Core<R, H>,
    connections: Slab<Connection<H::State>>,
    /// Given to the next connection.
    generation: u32,
    handshake_timeout: Duration,
    acceptor: Acceptor,
    admission: ShardAdmission,
    deliveries: Deliveries,
    memory: Memory,
    /// Completions of this turn; empty between turns.
    completions: Vec<Completion>,
    /// Whether the ring was entered since the turn before: only then are silent sends over that did not
    /// complete.
    is_entered: bool,
}

/// How far the shard itself has come.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
enum Life {
    Serving,
    Draining(drain::Progress),
    Stopped,
}

/// What a shard keeps at the moment.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub struct Holdings {
    /// Connections that hold a slot.
    pub connections: usize,
    /// Entries of the timer wheel: one for each deadline, and those that have been superseded.
    pub wheel_entries: usize,
    /// Bytes of memory that the wheel holds.
    pub wheel_bytes: usize,
    /// Subscriptions to topics and patterns.
    pub subscriptions: u64,
    /// Bytes that wait in send queues.
    pub queued_bytes: usize,
    /// Bytes of published messages that are not yet in the send queues of all subscribers.
    pub fanout_bytes: usize,
}

/// The most bytes of memory that any one connection keeps, for each purpose.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub struct Heaviest {
    /// For what waits to be sent.
    pub queue: usize,
    /// For what was received and is kept unread.
    pub unread: usize,
    /// For a message that is arriving.
    pub assembly: usize,
}

impl<R: Ring, H: Handler> Shard<R, H> {
    /// A shard that begins to accept with its first turn.
    ///
    /// Memory for all connections is reserved here and never moves; untouched, it costs nothing.
    ///
    /// # Errors
    /// If the configuration is not one that a server can work with.
    pub fn new(
        ring: R,
        handler: H,
        config: &Config,
        endpoint: Endpoint,
        parts: Parts,
        now: Time,
    ) -> Result<Self, crate::InvalidConfig> {
        config.check()?;
        contain::catch_on_this_thread();
        parts.fabric.set_waker(parts.index, ring.waker());
        let Capacity {
            places,
            connections,
        } = parts.capacity;
        let shards = u32::from(config.shards.unwrap_or(1));
        let mut shard = Self {
            connections: Slab::with_capacity(places as usize),
            generation: 0,
            handshake_timeout: config.handshake_timeout,
            acceptor: Acceptor::new(
                places,
                parts.admission.asks_for_address(),
                config.max_accept_rate.map(|rate| rate.div_ceil(shards)),
                now,
            ),
            admission: ShardAdmission::new(parts.admission, parts.index, connections),
            deliveries: Deliveries::new(parts.core_shards, now),
            memory: Memory::new(config.release_memory, now),
            completions: Vec::new(),
            is_entered: false,
            core: Core {
                ring,
                handler,
                endpoint,
                deadlines: Deadlines::new(config.receive_buffers, parts.core_shards, now),
                receives: Receives::new(config, now),
                unread: Unread::new(parts.core_shards),
                sends: Sends::new(config),
                fanout: Fanout::new(
                    parts.fabric,
                    parts.index,
                    Arc::clone(&parts.stats),
                    places as usize,
                    share_of_core(
                        inbox::DELIVERIES_PER_TURN,
                        parts.core_shards,
                        DELIVERIES_MIN,
                    ),
                    config,
                ),
                stats: parts.stats,
                settings: Settings {
                    index: parts.index,
                    close_timeout: config.close_timeout,
                    request: config.request_limits,
                    origins: config.origins.clone(),
                    hosts: config.hosts.clone(),
                    message_rate_max: config.max_message_rate,
                    drain: Drain {
                        batch: config.drain.batch.div_ceil(shards),
                        ..config.drain
                    },
                    panic: config.panic,
                },
                refusals: Refusals::default(),
                life: Life::Serving,
                callback: None,
            },
        };
        shard.core.ring.push(Op::PollWakeup, Token::new(0, 0));
        shard.accept_more(now);
        Ok(shard)
    }

    /// Does all there is to do at `now`, and says what next: mostly [`enter`](Self::enter).
    pub fn turn(&mut self, now: Time) -> Next {
        self.reap(now);
        self.read_on(now);
        self.read_mail(now);
        let expired = self.expire(now);
        let drain_in = self.drain(now);
        let suspended = self.fan_out(now);
        self.flush(now);
        self.feed(now);
        self.publish_stats();
        self.release_memory(now);
        if self.is_finished() {
            return Next::Finished;
        }
        if !expired || drain_in == Some(Duration::ZERO) || self.is_behind() {
            return Next::Enter(Wait::No);
        }
        self.accept_more(now);
        let room = self.core.unread.awaits_room().then_some(ROOM_RETRY);
        let limits = [
            self.core.deadlines.next_in(now),
            drain_in,
            self.acceptor.retry_in(now),
            room,
            suspended.map(|time| time.since(now)),
            self.memory.next_in(now),
        ];
        Next::Enter(match limits.into_iter().flatten().min() {
            Some(limit) => Wait::For(limit),
            None => Wait::Forever,
        })
    }

    /// Looks a connection up, lets `act` do something for it, and frees its slot if it is over.
    #[inline]
    fn visit<T>(
        &mut self,
        slot: u32,
        now: Time,
        act: impl FnOnce(&mut Visit<'_, R, H>) -> T,
    ) -> Option<T> {
        let connection = self.connections.get_mut(slot as usize)?;
        let mut visit = Visit {
            slot,
            now,
            connection,
            core: &mut self.core,
        };
        let result = act(&mut visit);
        if connection.is_over() {
            self.release(slot);
        }
        Some(result)
    }

    /// The same for a completion of the connection: its slot is its own until the last one.
    #[inline]
    fn visit_of(&mut self, token: Token, now: Time, act: impl FnOnce(&mut Visit<'_, R, H>)) {
        let visited = self.visit(token.slot(), now, |visit| {
            assert_eq!(
                visit.connection.generation(),
                token.generation(),
                "a slot reused too early"
            );
            act(visit);
        });
        assert!(visited.is_some(), "a slot freed too early");
    }

    /// Gives a slot back.
    fn release(&mut self, slot: u32) {
        let mut connection = self.connections.remove(slot as usize);
        if let Some(mut queue) = connection.queue.take() {
            queue.clear();
            self.core.sends.pool.put_back(queue);
        }
        if connection.is_admitted() {
            self.admission.forget(slot);
        }
        let count = self.connections.len() as u64;
        self.core.stats.connections.set(count);
    }

    /// Ends the shard, which has finished or failed: what is open is reset, and nobody sends to it any
    /// more. [`Handler::close`] is called for each open connection; but not after a panic, because the
    /// handler may be in any state.
    pub fn end(mut self, end: &End, now: Time) {
        self.core.fanout.fabric.close(self.core.settings.index);
        match end {
            End::RingFailed => self.visit_all(now, |visit| visit.peer_reset()),
            End::Finished => {
                self.reset_all();
                self.visit_all(now, |visit| visit.abandon());
            }
            End::Panicked => self.reset_all(),
        }
        self.admission.close();
        let Self {
            core,
            mut connections,
            ..
        } = self;
        let Core { ring, handler, .. } = core;
        // The kernel lets go of everything before its memory goes.
        drop(ring);
        // Each by itself: the state of one may panic when it is dropped.
        for connection in connections.drain() {
            let _ = contain::catch(|| drop(connection));
        }
        let _ = contain::catch(|| drop(handler));
    }

    fn visit_all(&mut self, now: Time, act: impl Fn(&mut Visit<'_, R, H>)) {
        let slots = self.connections.iter().map(|(slot, _)| slot as u32);
        for slot in slots.collect::<Vec<_>>() {
            self.visit(slot, now, &act);
        }
    }

    /// Resets every connection in one pass: a ring that is dropped looks for each of its operations from
    /// the start, which takes half a second for 9,000.
    fn reset_all(&mut self) {
        for (slot, connection) in &self.connections {
            if connection.is_armed() {
                let socket = connection.socket();
                let token = connection.token(slot as u32);
                self.core.ring.push(Op::Reset { socket }, token);
            }
        }
        // If it fails, the ring ends them when it is dropped.
        let _ = self.core.ring.enter(Wait::No);
    }

    /// Enters the ring, as the turn before has told.
    ///
    /// # Errors
    /// Those of [`Ring::enter`].
    pub fn enter(&mut self, wait: Wait) -> std::io::Result<()> {
        // Also if it fails: then nothing that was lent is read any more.
        self.is_entered = true;
        self.core.ring.enter(wait)
    }

    /// The ring. Only the shard can change it: what it has lent to the kernel depends on this very ring.
    pub fn ring(&self) -> &R {
        &self.core.ring
    }

    /// The application.
    pub fn handler(&mut self) -> &mut H {
        &mut self.core.handler
    }

    /// How many connections hold a slot.
    #[must_use]
    pub fn connections(&self) -> usize {
        self.connections.len()
    }

    /// How often a published message was put behind what waits for a subscriber.
    #[must_use]
    pub fn deliveries(&self) -> u64 {
        self.core.stats.deliveries.get()
    }

    /// What it keeps at the moment.
    #[must_use]
    pub fn holdings(&self) -> Holdings {
        Holdings {
            connections: self.connections.len(),
            wheel_entries: self.core.deadlines.entries(),
            wheel_bytes: self.core.deadlines.memory(),
            subscriptions: self.core.stats.subscriptions.get(),
            queued_bytes: self.core.sends.pool.waiting(),
            fanout_bytes: self.core.fanout.bytes(),
        }
    }

    /// What its heaviest connections keep; this looks at each of them.
    #[must_use]
    pub fn heaviest(&self) -> Heaviest {
        let mut most = Heaviest::default();
        for (_, connection) in &self.connections {
            if let Some(queue) = &connection.queue {
                most.queue = most.queue.max(queue.allocation());
                most.unread = most.unread.max(queue.parked.bytes());
            }
            if let Phase::Open { protocol, .. } = &connection.phase {
                most.assembly = most.assembly.max(protocol.assembly_size());
            }
        }
        most
    }

    /// Takes all completions, sends first: what those say decides which memory is free.
    fn reap(&mut self, now: Time) {
        let mut completions = std::mem::take(&mut self.completions);
        while let Some(completion) = self.core.ring.reap() {
            match completion.op {
                OpCode::Send => {
                    self.visit_of(completion.token, now, |visit| visit.settle(&completion));
                }
                _ => completions.push(completion),
            }
        }
        if std::mem::take(&mut self.is_entered) {
            self.retire_silent(now);
        }
        self.core.unread.begin_turn(completions.len());
        self.after_sends(now);
        for completion in completions.drain(..) {
            self.complete(completion, now);
        }
        self.completions = completions;
    }

    fn complete(&mut self, completion: Completion, now: Time) {
        let token = completion.token;
        match completion.op {
            OpCode::Accept => self.accepted(&completion, now),
            OpCode::Receive => self.visit_of(token, now, |visit| visit.received(completion)),
            OpCode::Fill => self.visit_of(token, now, |visit| visit.filled(&completion)),
            OpCode::Close => self.visit_of(token, now, |visit| visit.closed()),
            OpCode::Writable => self.visit_of(token, now, |visit| visit.writable()),
            OpCode::QueryTcpInfo => {
                let taken = self.core.ring.taken(token);
                self.visit_of(token, now, |visit| visit.quiet(completion.result, taken));
            }
            OpCode::QueryUnacked => {
                self.visit_of(token, now, |visit| visit.unacked(completion.result));
            }
            OpCode::QueryError => {
                self.visit_of(token, now, |visit| visit.told_error(completion.result));
            }
            OpCode::ShutdownWrite => {
                self.visit(token.slot(), now, |visit| {
                    // One that was linked to a short send is cancelled, and not waited for.
                    if visit.connection.generation() == token.generation() {
                        visit.finished(completion.result);
                    }
                });
            }
            OpCode::PollWakeup => {
                self.core.ring.waker().clear_calls();
                if !completion.more {
                    self.core.ring.push(Op::PollWakeup, token);
                }
            }
            // Silent on success. That there is nothing to cancel needs no answer: what was to be
            // cancelled tells of itself.
            OpCode::Cancel => {}
            // Every turn looks into the inbox.
            OpCode::Woken => {}
            OpCode::Wake => self.wake_by_eventfd(token.slot()),
            OpCode::HandOver => self.handed_over(&completion, now),
            OpCode::Arrive => self.arrived(&completion, now),
            OpCode::Send | OpCode::SendAll | OpCode::Connect => {
                unreachable!("taken before, or never submitted")
            }
        }
    }

    fn obey(&mut self, command: Command, now: Time) {
        if command == Command::DrainForRestart {
            self.core.settings.drain.code = CloseCode::SERVICE_RESTART;
        }
        match (command, self.core.life) {
            (Command::Drain | Command::DrainForRestart, Life::Serving) => {
                tracing::debug!(
                    shard = self.core.settings.index,
                    connections = self.connections.len(),
                    "the shard drains"
                );
                self.core.life = Life::Draining(drain::Progress::new(
                    now,
                    self.core.settings.close_timeout,
                    self.connections.len(),
                ));
                self.acceptor.stop(&mut self.core.ring);
            }
            (Command::Drain | Command::DrainForRestart, Life::Draining(_) | Life::Stopped) => {}
            (Command::Stop, _) => self.core.life = Life::Stopped,
        }
    }

    /// Whether there is more to do without the kernel's having said anything.
    fn is_behind(&self) -> bool {
        self.core.sends.is_dirty()
            || self.deliveries.is_behind()
            || self.core.unread.is_behind()
            || self.core.fanout.is_behind()
    }

    fn publish_stats(&self) {
        let core = &self.core;
        core.stats.publish(
            core.endpoint.traffic(),
            core.sends.pool.waiting(),
            core.deadlines.entries(),
            core.receives.buffers - core.ring.buffers_free(),
        );
        core.stats.fanout_bytes.set(core.fanout.bytes() as u64);
    }

    fn is_finished(&self) -> bool {
        match self.core.life {
            Life::Serving => false,
            Life::Draining(_) => {
                self.connections.is_empty()
                    && self.admission.handoffs() == 0
                    && self.acceptor.is_stopped()
            }
            Life::Stopped => true,
        }
    }
}

/// The part of `per_turn` for one of `core_shards` shards that share a core; at least `least`.
fn share_of_core(per_turn: usize, core_shards: u16, least: usize) -> usize {
    (per_turn / usize::from(core_shards.max(1))).max(least)
}
