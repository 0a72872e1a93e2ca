//! A shard: one thread, one ring, and the connections that live on it.
//!
//! [`Shard::turn`] is all that it does: look at what the kernel has completed, let the handler
//! run, let deadlines pass, and queue what follows from it. It neither waits nor reads a clock.

mod accept;
mod deliver;
mod depart;
mod drain;
mod hand_over;
mod handshake;
mod parts;
pub(crate) mod post;
mod read;
mod receive;
pub(crate) mod share;
mod transmit;

use std::{
    collections::VecDeque,
    sync::{Arc, atomic::Ordering},
    time::Duration,
};

use slab::Slab;
use tidewheel_codec::{CloseCode, Endpoint, Time};
use tidewheel_timerwheel::{Tick, Timer, Timers, Wheel};

pub use self::parts::{Capacity, Parts};
use self::{accept::Acceptor, read::Unread};
use crate::{
    Config, Handler, Origins, PanicPolicy,
    admission::{Admission, Network},
    config::Drain,
    conn::SendLimits,
    connection::{Connection, Phase},
    contain::{self, Callback},
    fanout::{Aftermath, Fanout, Load, Mail},
    outbox::QueuePool,
    ring::{Completion, Op, OpCode, Ring, Token, Wait},
    stats::Stats,
};

/// Entries of the wheel that a turn looks at; the others are looked at in the next, which follows at
/// once. Most are of deadlines that have moved, some 40 ns each.
pub(crate) const ENTRIES_PER_TURN: usize = 128;

/// Deadlines that pass in one turn of the shards on a core, at most, so that mass expiry never holds
/// up the network. Each may cost a send or a reset, some 10 us, and an echo that arrives meanwhile
/// waits for two turns.
const EXPIRIES_PER_TURN: usize = 64;

/// But each shard of a core has so many, and so many connections and deliveries of a fan-out.
const EXPIRIES_MIN: usize = 1;
const FANNED_OUT_MIN: usize = 8;
const DELIVERIES_MIN: usize = 1 << 10;
const FANNED_OUT_BYTES_MIN: usize = 64 << 10;

/// Of [`Config::max_send_queue`] so much makes a queue long.
pub(crate) const LONG_QUEUE_SHARE: usize = 16;

/// How soon those that wait for room for what they publish are looked at again.
const ROOM_RETRY: Duration = Duration::from_millis(1);

/// What is to come of a message is received into it, without a copy, if it would fill so many receive
/// buffers.
const FILL_BUFFERS_MIN: u64 = 16;

/// Length of a tick of the wheel, in milliseconds.
pub const TICK_MS: u64 = 16;

/// What another thread asks of a shard.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Command {
    /// Accept no more, close every connection with [`Drain::code`](crate::Drain::code), and end when all are gone.
    Drain,
    /// The same with 1012, service restart, because another shard has failed.
    DrainForRestart,
    /// End now; what is open is reset.
    Stop,
}

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
    /// First, so that the kernel lets go of everything before its memory goes.
    ring: R,
    handler: H,
    connections: Slab<Connection<H::State>>,
    wheel: Wheel,
    endpoint: Endpoint,
    pool: QueuePool,
    acceptor: Acceptor,
    lists: Lists,
    unread: Unread,
    fanout: Fanout,
    aftermath: Aftermath,
    /// Bursts after which memory was given back.
    bursts: u64,
    /// Until then most subscribers count as unable to keep up.
    crowded_until: Time,
    life: Life,
    settings: Settings,
    stats: Arc<Stats>,
    admission: Arc<Admission>,
    /// Given to the next connection.
    generation: u32,
    /// What the application is doing while messages are read.
    callback: Option<Callback>,
}

/// How far the shard itself has come.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
enum Life {
    Serving,
    Draining(drain::Progress),
    Stopped,
}

/// Slots of connections that something is to be done for, and memory for the lists.
#[derive(Default)]
struct Lists {
    /// Have something to send, or a FIN.
    dirty: Vec<u32>,
    /// Have a silent send under way.
    silent: Vec<u32>,
    /// Have had a send that was not silently over.
    settled: Vec<(u32, transmit::Settled)>,
    /// Are without an armed receive, for want of buffers; with their generation.
    starved: VecDeque<(u32, u32)>,
    /// Are due.
    due: Vec<u32>,
    /// Mail that is yet to be read.
    mail: VecDeque<Mail>,
    /// Completions of this turn.
    completions: Vec<Completion>,
    /// Control frames that the protocol has just asked for.
    control: Vec<u8>,
    /// The network of each slot's connection, where those are counted.
    networks: Vec<Option<Network>>,
    /// Are on their way to another shard.
    travellers: Vec<hand_over::Traveller>,
}

/// What of the configuration is needed in every turn.
struct Settings {
    index: u16,
    /// Connections that may stay.
    connections: u32,
    handshake_timeout: Duration,
    close_timeout: Duration,
    request: tidewheel_codec::handshake::Limits,
    origins: Origins,
    send: SendLimits,
    message_rate_max: Option<u32>,
    drain: Drain,
    /// Deadlines that pass in one turn.
    expiries_per_turn: usize,
    /// Connections that get what was published in one turn.
    fanned_out_per_turn: usize,
    /// Bytes that are sent of what was published in one turn.
    fanned_out_bytes_per_turn: usize,
    panic: PanicPolicy,
    release_memory: Option<fn()>,
    /// All receive buffers, the kernel's included.
    receive_buffers: usize,
    /// Bytes of all receive buffers.
    receive_memory: usize,
    /// Bytes to come of a message from which on they are received into it.
    fill_min: u64,
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
        parts.fabric.set_bell(parts.index, ring.bell());
        let room = parts.capacity.connections;
        parts.admission.open(parts.index, room);
        let shards = u32::from(config.shards.unwrap_or(1));
        let mut shard = Self {
            ring,
            handler,
            connections: Slab::with_capacity(parts.capacity.places as usize),
            wheel: Wheel::new(tick_at(now)),
            endpoint,
            pool: QueuePool::new(config.max_send_queue / LONG_QUEUE_SHARE),
            acceptor: Acceptor::new(
                parts.capacity.places,
                parts.admission.asks_for_address(),
                config.max_accept_rate.map(|rate| rate.div_ceil(shards)),
                now,
            ),
            lists: Lists::default(),
            unread: Unread::new(parts.core_shards),
            aftermath: Aftermath::new(now),
            bursts: 0,
            crowded_until: now,
            fanout: Fanout::new(
                parts.fabric,
                parts.index,
                Arc::clone(&parts.stats),
                parts.capacity.places as usize,
                share(post::DELIVERIES_PER_TURN, parts.core_shards, DELIVERIES_MIN),
                config,
            ),
            life: Life::Serving,
            settings: Settings {
                index: parts.index,
                handshake_timeout: config.handshake_timeout,
                close_timeout: config.close_timeout,
                request: config.request_limits,
                origins: config.origins.clone(),
                message_rate_max: config.max_message_rate,
                connections: room,
                drain: Drain {
                    batch: config.drain.batch.div_ceil(shards),
                    ..config.drain
                },
                expiries_per_turn: share(
                    expiries_per_turn(config.receive_buffers),
                    parts.core_shards,
                    EXPIRIES_MIN,
                ),
                fanned_out_per_turn: share(
                    post::FANNED_OUT_PER_TURN,
                    parts.core_shards,
                    FANNED_OUT_MIN,
                ),
                fanned_out_bytes_per_turn: share(
                    post::FANNED_OUT_BYTES_PER_TURN,
                    parts.core_shards,
                    FANNED_OUT_BYTES_MIN,
                ),
                panic: config.panic,
                release_memory: config.release_memory,
                receive_buffers: usize::from(config.receive_buffers),
                receive_memory: config.receive_memory(),
                fill_min: FILL_BUFFERS_MIN * u64::from(config.receive_buffer_size),
                send: SendLimits {
                    bytes_max: config.max_send_queue,
                    policy: config.slow_consumer,
                },
            },
            stats: parts.stats,
            admission: parts.admission,
            generation: 0,
            callback: None,
        };
        shard.ring.push(Op::Listen, Token::new(0, 0));
        shard.accept_more(now);
        Ok(shard)
    }

    /// Does all there is to do at `now`, and says what next.
    pub fn turn(&mut self, now: Time) -> Next {
        self.reap(now);
        self.read_on(now);
        self.read_mail(now);
        let expired = self.expire(now);
        let drain_in = self.drain(now);
        let suspended = self.fan_out(now);
        self.flush();
        self.feed();
        self.stats.publish(
            self.endpoint.traffic(),
            self.pool.waiting(),
            self.wheel.entries(),
            self.settings.receive_buffers - self.ring.buffers_free(),
        );
        self.stats.fanout_bytes.set(self.fanout.bytes() as u64);
        self.release_memory(now);
        if self.is_finished() {
            return Next::Finished;
        }
        if !expired || drain_in == Some(Duration::ZERO) || self.is_behind() {
            return Next::Enter(Wait::No);
        }
        self.accept_more(now);
        let wake = self.wheel.next_wake().map(|tick| until(tick, now));
        let room = self.unread.awaits_room().then_some(ROOM_RETRY);
        let suspended = suspended.map(|time| time.since(now));
        let aftermath = self.aftermath.due().map(|time| time.since(now));
        Next::Enter(
            match [
                wake,
                drain_in,
                self.acceptor.retry_in(now),
                room,
                suspended,
                aftermath,
            ]
            .into_iter()
            .flatten()
            .min()
            {
                Some(limit) => Wait::For(limit),
                None => Wait::Forever,
            },
        )
    }

    /// Gives back what a burst has needed, here or on another shard: messages that are published are made
    /// on one, and freed on others.
    fn release_memory(&mut self, now: Time) {
        let Some(release) = self.settings.release_memory else {
            return;
        };
        let traffic = self.endpoint.traffic();
        let load = Load {
            is_behind: self.fanout.defers(),
            bytes: traffic.received_bytes + traffic.sent_bytes,
            connections: self.connections.len(),
        };
        if self.aftermath.note(&load, now) {
            self.fanout.end_burst();
        }
        let bursts = self.fanout.fabric.bursts.load(Ordering::Relaxed);
        if bursts != self.bursts {
            self.bursts = bursts;
            release();
        }
    }

    /// Ends the shard, which has finished or failed: what is open is reset, and nobody sends to it any
    /// more. If its ring has failed, `close` is called for each connection. After a panic it is not,
    /// because the handler may be in any state.
    pub fn end(mut self, end: &End, now: Time) {
        self.fanout.fabric.close(self.settings.index);
        match end {
            End::RingFailed => {
                let open = self.connections.iter().map(|(slot, _)| slot as u32);
                for slot in open.collect::<Vec<_>>() {
                    self.peer_reset(slot, now);
                }
            }
            End::Finished | End::Panicked => self.reset_all(),
        }
        let networks = std::mem::take(&mut self.lists.networks);
        let networks = networks.into_iter().flatten();
        self.admission
            .close(self.settings.index, self.settings.connections, networks);
        let Self {
            ring,
            handler,
            mut connections,
            ..
        } = self;
        // The kernel lets go of everything before its memory goes.
        drop(ring);
        // Each by itself: the state of one may panic when it is dropped.
        for connection in connections.drain() {
            let _ = contain::catch(|| drop(connection));
        }
        let _ = contain::catch(|| drop(handler));
    }

    /// Resets every connection in one pass: a ring that is dropped looks for each of its operations from
    /// the start, which takes half a second for 9,000.
    fn reset_all(&mut self) {
        for (slot, connection) in &self.connections {
            if connection.is_armed() {
                let socket = connection.socket;
                let token = connection.token(slot as u32);
                self.ring.push(Op::Reset { socket }, token);
            }
        }
        // If it fails, the ring ends them when it is dropped.
        let _ = self.ring.enter(Wait::No);
    }

    /// Enters the ring, as the turn before has told.
    ///
    /// # Errors
    /// Those of [`Ring::enter`].
    pub fn enter(&mut self, wait: Wait) -> std::io::Result<()> {
        self.ring.enter(wait)
    }

    /// The ring. Only the shard can change it: what it has lent to the kernel depends on this very ring.
    pub fn ring(&self) -> &R {
        &self.ring
    }

    /// The application.
    pub fn handler(&mut self) -> &mut H {
        &mut self.handler
    }

    /// How many connections hold a slot.
    #[must_use]
    pub fn connections(&self) -> usize {
        self.connections.len()
    }

    /// How often a published message was put behind what waits for a subscriber.
    #[must_use]
    pub fn deliveries(&self) -> u64 {
        self.stats.deliveries.get()
    }

    /// What it keeps at the moment.
    #[must_use]
    pub fn holdings(&self) -> Holdings {
        Holdings {
            connections: self.connections.len(),
            wheel_entries: self.wheel.entries(),
            wheel_bytes: self.wheel.memory(),
            subscriptions: self.stats.subscriptions.get(),
            queued_bytes: self.pool.waiting(),
            fanout_bytes: self.fanout.bytes(),
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
        let mut completions = std::mem::take(&mut self.lists.completions);
        while let Some(completion) = self.ring.reap() {
            match completion.op {
                OpCode::Send => self.settle(&completion, now),
                _ => completions.push(completion),
            }
        }
        self.retire_silent();
        self.unread.begin_turn(completions.len());
        self.after_sends(now);
        for completion in completions.drain(..) {
            self.complete(completion, now);
        }
        self.lists.completions = completions;
    }

    fn complete(&mut self, completion: Completion, now: Time) {
        let token = completion.token;
        match completion.op {
            OpCode::Accept => self.accepted(&completion, now),
            OpCode::Receive => self.received(completion, now),
            OpCode::Fill => self.filled(&completion, now),
            OpCode::Close => self.closed(token.slot()),
            OpCode::Listen => {
                self.ring.bell().hush();
                if !completion.more {
                    self.ring.push(Op::Listen, token);
                }
            }
            OpCode::Finish => self.finished(&completion),
            OpCode::Writable => self.writable(token.slot()),
            OpCode::Quiet => self.quiet(&completion, now),
            // Silent on success. That there is nothing to cancel needs no answer: what was to be
            // cancelled tells of itself.
            OpCode::Cancel => {}
            // The mail is read in every turn.
            OpCode::Woken => {}
            OpCode::Wake => self.wake_by_bell(token.slot()),
            OpCode::HandOver => self.handed_over(&completion, now),
            OpCode::Arrive => self.arrived(&completion, now),
            OpCode::Send | OpCode::SendAll | OpCode::Connect => {
                unreachable!("taken before, or never submitted")
            }
        }
    }

    fn obey(&mut self, command: Command, now: Time) {
        if command == Command::DrainForRestart {
            self.settings.drain.code = CloseCode::SERVICE_RESTART;
        }
        match (command, self.life) {
            (Command::Drain | Command::DrainForRestart, Life::Serving) => {
                tracing::info!(
                    shard = self.settings.index,
                    connections = self.connections.len(),
                    "draining"
                );
                self.life = Life::Draining(drain::Progress::new(
                    now,
                    self.settings.close_timeout,
                    self.connections.len(),
                ));
                self.acceptor.stop(&mut self.ring);
            }
            (Command::Drain | Command::DrainForRestart, Life::Draining(_) | Life::Stopped) => {}
            (Command::Stop, _) => self.life = Life::Stopped,
        }
    }

    /// Whether there is more to do without the kernel's having said anything.
    fn is_behind(&self) -> bool {
        !self.lists.dirty.is_empty()
            || !self.lists.mail.is_empty()
            || self.unread.is_behind()
            || self.fanout.is_behind()
    }

    /// Lets deadlines pass; says whether all that are due have.
    fn expire(&mut self, now: Time) -> bool {
        let most = self.settings.expiries_per_turn;
        let mut due = std::mem::take(&mut self.lists.due);
        let mut entries = ENTRIES_PER_TURN;
        let mut done = false;
        while !done && entries > 0 && due.len() < most {
            let budget = entries.min(most - due.len());
            let mut view = Due {
                connections: &mut self.connections,
                due: &mut due,
            };
            done = self.wheel.advance(tick_at(now), budget, &mut view);
            entries -= budget;
        }
        for slot in due.drain(..) {
            self.timed_out(slot, now);
        }
        self.lists.due = due;
        done
    }

    fn is_finished(&self) -> bool {
        match self.life {
            Life::Serving => false,
            Life::Draining(_) => {
                self.connections.is_empty()
                    && self.lists.travellers.is_empty()
                    && self.acceptor.is_stopped()
            }
            Life::Stopped => true,
        }
    }

    /// Sets a connection's timer to whichever of its deadlines is next.
    fn schedule(&mut self, slot: u32) {
        let connection = &mut self.connections[slot as usize];
        let deadline = match &connection.phase {
            Phase::Handshake { deadline, .. } | Phase::Refused { deadline } => Some(*deadline),
            Phase::Open { protocol, .. } => protocol.poll_timeout(self.endpoint.config()),
            Phase::Leaving(_) => None,
        };
        match deadline {
            Some(deadline) => self
                .wheel
                .set(slot, &mut connection.timer, tick_after(deadline)),
            None => self.wheel.clear(&mut connection.timer),
        }
    }

    /// Puts a connection on the list of those to look at when the turn ends.
    fn mark(&mut self, slot: u32) {
        let connection = &mut self.connections[slot as usize];
        if !connection.dirty {
            connection.dirty = true;
            self.lists.dirty.push(slot);
        }
    }
}

/// Deadlines of a turn. It sends no more pings than it can read answers, with as many buffers to spare
/// for others: answers would queue up, and what others say behind them.
pub(crate) fn expiries_per_turn(receive_buffers: u16) -> usize {
    EXPIRIES_PER_TURN.min(usize::from(receive_buffers) / 2)
}

/// What one of so many shards on a core may do in its turn of what all of them may do in theirs.
fn share(per_turn: usize, core_shards: u16, least: usize) -> usize {
    (per_turn / usize::from(core_shards.max(1))).max(least)
}

/// The wheel's view of the connections.
struct Due<'a, S> {
    connections: &'a mut Slab<Connection<S>>,
    due: &'a mut Vec<u32>,
}

impl<S> Timers for Due<'_, S> {
    fn timer(&mut self, id: u32) -> Option<&mut Timer> {
        self.connections
            .get_mut(id as usize)
            .map(|connection| &mut connection.timer)
    }

    fn expire(&mut self, _: &mut Wheel, id: u32) {
        self.due.push(id);
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
