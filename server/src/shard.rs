//! A shard: one thread, one ring, and the connections that live on it.
//!
//! [`Shard::turn`] handles the completions of the ring, calls the handler, handles the deadlines that have passed,
//! and queues the operations that follow. It neither waits nor reads a clock.

mod accept;
mod admission;
pub(crate) mod core;
#[cfg(feature = "tasks")]
mod decide;
mod drain;
mod expire;
pub(crate) mod fan_out;
mod hand_over;
mod handshake;
mod holdings;
pub(crate) mod jobs;
mod later;
mod memory;

mod parts;
pub(crate) mod presence;
mod read;
mod reap;
mod receive;
mod received;
mod teardown;
pub(crate) mod ticks;
mod transmit;
mod visit;

#[cfg(feature = "tasks")]
use std::rc::Rc;
use std::{collections::VecDeque, time::Duration};

use slab::Slab;
use tidewheel_codec::{Endpoint, Time};
#[cfg(feature = "tasks")]
use tokio::task::LocalSet;

use self::{
    accept::Acceptor,
    admission::ShardAdmission,
    core::{Core, Deadlines, Lifecycle, ReadSchedule, Receives, RefusalLog, Sends, Settings},
    fan_out::FanOutLimits,
    memory::Memory,
    visit::Visit,
};
pub use self::{
    holdings::{Heaviest, Holdings},
    parts::Parts,
};
use crate::{
    Config, Handler,
    config::Drain,
    connection::Connection,
    contain,
    fanout::{Fanout, Job},
    later::Schedule,
    proxies::Proxies,
    ring::{Completion, Op, Ring, Token, Wait},
};
pub use crate::{capacity::Capacity, command::Command};
#[cfg(feature = "tasks")]
use crate::{later::FinishedQueue, ring::Uring};

/// Lower bound of the deliveries in a turn when shards share a core.
const DELIVERIES_MIN: usize = 1 << 10;

/// Time between two checks whether a connection that waits for a budget may be read again.
const BUDGET_RETRY_INTERVAL: Duration = Duration::from_millis(1);

/// Length of a tick of the wheel, in milliseconds.
pub const TICK_MS: u64 = 16;

/// The next step of a shard's loop.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Next {
    /// Call [`Shard::enter`] with this, and then [`Shard::turn`].
    Enter(Wait),
    /// Call [`Shard::end`]: the shard has finished.
    Finished,
}

/// The reason why a shard ends.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum End {
    /// It has executed a command to drain or to stop.
    Finished,
    /// Its ring has failed.
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
    /// The first field, because the ring must be dropped before the connections: memory of their send queues is
    /// lent to the kernel.
    core: Core<R, H>,
    connections: Slab<Connection<H::State>>,
    /// Generation of the last connection.
    generation: u32,
    handshake_timeout: Duration,
    acceptor: Acceptor,
    admission: ShardAdmission,
    /// Jobs of other threads, the oldest first.
    jobs: VecDeque<Job>,
    fan_out_limits: FanOutLimits,
    memory: Memory,
    /// Completions of this turn. Empty between turns.
    completions: Vec<Completion>,
    /// Whether the ring was entered since the last turn. Only then have silent sends without a completion ended.
    is_entered: bool,
}

impl<R: Ring, H: Handler> Shard<R, H> {
    /// Creates a shard, which accepts from its first turn on.
    ///
    /// Reserves address space for all connections, which never move. It takes no memory until it is used.
    ///
    /// # Errors
    /// If [`Config::check`] fails.
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
        parts.shared.set_waker(parts.index, ring.waker());
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
                config.max_accept_rate.map(|rate| rate.div_ceil(shards)),
                now,
            ),
            admission: ShardAdmission::new(parts.admission, parts.index, connections),
            jobs: VecDeque::new(),
            fan_out_limits: FanOutLimits::new(parts.core_shards, now),
            memory: Memory::new(config.release_memory, now),
            completions: Vec::new(),
            is_entered: false,
            core: Core {
                ring,
                handler,
                endpoint,
                deadlines: Deadlines::new(config.receive_buffers, parts.core_shards, now),
                receives: Receives::new(config, now),
                read_schedule: ReadSchedule::new(parts.core_shards),
                sends: Sends::new(config),
                fanout: Fanout::new(
                    parts.shared,
                    parts.index,
                    places as usize,
                    share_of_core(
                        fan_out::DELIVERIES_PER_TURN,
                        parts.core_shards,
                        DELIVERIES_MIN,
                    ),
                    config,
                ),
                later: Schedule::new(config),
                stats: parts.stats,
                settings: Settings {
                    index: parts.index,
                    address: parts.address,
                    close_timeout: config.close_timeout,
                    request: config.request_limits,
                    origins: config.origins.clone(),
                    hosts: config.hosts.clone(),
                    proxies: Proxies {
                        trusted: config.trusted_proxies.clone(),
                        header: config.proxy_header,
                    },
                    message_rate_max: config.max_message_rate,
                    drain: Drain {
                        batch: config.drain.batch.div_ceil(shards),
                        ..config.drain
                    },
                    panic: config.panic,
                },
                refusal_log: RefusalLog::default(),
                lifecycle: Lifecycle::Serving,
                callback: None,
            },
        };
        shard.core.ring.push(Op::PollWakeup, Token::new(0, 0));
        shard.accept_more(now);
        Ok(shard)
    }

    /// Takes one turn at `now`. Returns the next step, which is mostly [`enter`](Self::enter).
    pub fn turn(&mut self, now: Time) -> Next {
        self.reap(now);
        self.read_waiting(now);
        self.do_jobs(now);
        #[cfg(feature = "tasks")]
        let tasks_done = self.finish_tasks(now);
        #[cfg(not(feature = "tasks"))]
        let tasks_done = true;
        let expired = self.expire_timers(now);
        let drain_in = self.drain(now);
        self.report_presence();
        let suspended = self.fan_out(now);
        self.flush(now);
        self.rearm_starved(now);
        self.publish_stats();
        self.release_memory(now);
        if self.is_finished() {
            return Next::Finished;
        }
        if !expired || !tasks_done || drain_in == Some(Duration::ZERO) || self.is_behind() {
            return Next::Enter(Wait::No);
        }
        self.accept_more(now);
        let awaits_budget = self.core.read_schedule.awaits_budget();
        let limits = [
            self.core.deadlines.next_in(now),
            drain_in,
            self.acceptor.retry_in(now),
            awaits_budget.then_some(BUDGET_RETRY_INTERVAL),
            suspended.map(|time| time.since(now)),
            self.core.later.next_deadline().map(|time| time.since(now)),
            self.memory.next_in(now),
        ];
        Next::Enter(match limits.into_iter().flatten().min() {
            Some(limit) => Wait::For(limit),
            None => Wait::Forever,
        })
    }

    /// Calls `act` with the connection in a slot, if there is one, and frees the slot if the connection has
    /// ended.
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

    /// Frees a slot.
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

    /// Ends the shard: resets its connections, and closes its inbox. [`Handler::close`] is called for each open
    /// connection, but not after a panic, because the handler may be in an inconsistent state.
    pub fn end(mut self, end: &End, now: Time) {
        self.core.fanout.shared.close(self.core.settings.index);
        match end {
            End::RingFailed => self.visit_all(now, |visit| visit.handle_peer_reset()),
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
        let Core {
            ring,
            handler,
            later,
            stats,
            ..
        } = core;
        // First, so that the kernel uses no memory that is freed below.
        drop(ring);
        // One by one, because the destructor of a connection's state may panic.
        for connection in connections.drain() {
            let _ = contain::catch(|| drop(connection));
        }
        let _ = contain::catch(|| drop(later));
        let _ = contain::catch(|| drop(handler));
        stats.end();
    }

    fn visit_all(&mut self, now: Time, act: impl Fn(&mut Visit<'_, R, H>)) {
        let slots = self.connections.iter().map(|(slot, _)| slot as u32);
        for slot in slots.collect::<Vec<_>>() {
            self.visit(slot, now, &act);
        }
    }

    /// Resets every connection in one pass. The ring, when it is dropped, would search all operations for each
    /// of them, which takes half a second for 9,000.
    fn reset_all(&mut self) {
        for (slot, connection) in &self.connections {
            if connection.is_armed() {
                let socket = connection.socket();
                let token = connection.token(slot as u32);
                self.core.ring.push(Op::Reset { socket }, token);
            }
        }
        // If it fails, the connections end when the ring is dropped.
        let _ = self.core.ring.enter(Wait::No);
    }

    /// Enters the ring with the wait that the last turn returned.
    ///
    /// # Errors
    /// Those of [`Ring::enter`].
    pub fn enter(&mut self, wait: Wait) -> std::io::Result<()> {
        // Also if it fails, because a ring that has failed reads no lent memory.
        self.is_entered = true;
        self.core.ring.enter(wait)
    }

    /// The ring. It cannot be replaced or changed, because memory of the shard is lent to it.
    pub fn ring(&self) -> &R {
        &self.core.ring
    }

    /// The application.
    pub fn handler(&mut self) -> &mut H {
        &mut self.core.handler
    }

    /// Number of connections that hold a slot.
    #[must_use]
    pub fn connections(&self) -> usize {
        self.connections.len()
    }

    /// Number of deliveries since the start. A delivery queues one published message for one subscriber.
    #[must_use]
    pub fn deliveries(&self) -> u64 {
        self.core.stats.deliveries.get()
    }

    /// The set on which the tasks run, and the queue of those that have finished.
    #[cfg(feature = "tasks")]
    pub(crate) fn tasks(&self) -> (Rc<LocalSet>, Rc<FinishedQueue>) {
        let tasks = &self.core.later.tasks;
        (tasks.local(), tasks.finished())
    }

    /// Returns whether a task is unfinished, or its output waits.
    #[cfg(all(feature = "tasks", feature = "testing"))]
    pub(crate) fn has_tasks(&self) -> bool {
        self.core.later.tasks.count() > 0
    }

    /// Returns whether a task was ever started.
    #[cfg(feature = "tasks")]
    pub(crate) fn uses_tasks(&self) -> bool {
        self.core.later.tasks.is_used()
    }

    /// Returns whether the next turn has work even if nothing completes.
    fn is_behind(&self) -> bool {
        self.core.sends.is_dirty()
            || !self.jobs.is_empty()
            || self.core.read_schedule.is_behind()
            || self.core.fanout.is_behind()
    }

    fn publish_stats(&self) {
        let core = &self.core;
        core.stats.publish(
            core.endpoint.traffic(),
            core.sends.pool.waiting(),
            core.deadlines.entries(),
            core.receives.buffers() - core.ring.buffers_free(),
        );
        core.stats.fanout_bytes.set(core.fanout.bytes() as u64);
    }

    fn is_finished(&self) -> bool {
        match self.core.lifecycle {
            Lifecycle::Serving => false,
            Lifecycle::Draining(_) => {
                self.connections.is_empty()
                    && !self.core.later.has_work()
                    && self.core.fanout.presence_reports() == 0
                    && self.admission.handoffs() == 0
                    && self.acceptor.is_stopped()
            }
            Lifecycle::Stopped => true,
        }
    }
}

#[cfg(feature = "tasks")]
impl<H: Handler> Shard<Uring, H> {
    /// See [`Uring::has_pending_completions`].
    pub(crate) fn has_pending_completions(&mut self) -> bool {
        self.core.ring.has_pending_completions()
    }
}

/// The part of `per_turn` for one of `core_shards` shards that share a core; at least `least`.
fn share_of_core(per_turn: usize, core_shards: u16, least: usize) -> usize {
    (per_turn / usize::from(core_shards.max(1))).max(least)
}
