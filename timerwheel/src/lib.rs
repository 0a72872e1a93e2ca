//! A timer wheel for deadlines that are moved far more often than they pass, such as keepalives, timeouts and
//! leases. It is for event loops with up to millions of timers.
//!
//! Each record of the caller, such as a connection, has a deadline that moves whenever the record is active. Moving
//! it to a later time is one store into the record, without a further cache miss. The crate has no clock, no thread,
//! no `unsafe` code and no dependency. The caller passes the current time in [`Tick`]s of any length, stores an
//! 8-byte [`Timer`] in each record, and identifies records by a `u32`.
//!
//! ```
//! use tidewheel_timerwheel::{Tick, Timer, Timers, Wheel};
//!
//! struct Session {
//!     timer: Timer,
//! }
//!
//! #[derive(Default)]
//! struct Sessions {
//!     sessions: Vec<Session>,
//!     expired: Vec<u32>,
//! }
//!
//! impl Timers for Sessions {
//!     fn timer(&mut self, id: u32) -> Option<&mut Timer> {
//!         self.sessions.get_mut(id as usize).map(|session| &mut session.timer)
//!     }
//!
//!     fn expire(&mut self, _wheel: &mut Wheel, id: u32) {
//!         self.expired.push(id);
//!     }
//! }
//!
//! let mut wheel = Wheel::new(Tick::new(0));
//! let mut sessions = Sessions::default();
//! sessions.sessions.push(Session { timer: Timer::new() });
//!
//! wheel.set(0, &mut sessions.sessions[0].timer, Tick::new(1250));
//! // The session is active, and its deadline moves: one store.
//! wheel.set(0, &mut sessions.sessions[0].timer, Tick::new(1900));
//!
//! // At most 8192 entries are checked in each call.
//! assert!(wheel.advance(Tick::new(1899), 8192, &mut sessions));
//! assert_eq!(sessions.expired, []);
//! assert!(wheel.advance(Tick::new(1900), 8192, &mut sessions));
//! assert_eq!(sessions.expired, [0]);
//! ```
//!
//! `examples/keepalive.rs` simulates the keepalive of a million connections.
//!
//! # Geometry
//!
//! | | ticks | with ticks of 16 ms |
//! |---|--:|--:|
//! | resolution | 1 | 16 ms |
//! | one turn: [`SLOTS`] | 4096 | 65.5 s |
//! | largest distance of an entry: [`HORIZON_TICKS`] | 4095 | 65.5 s |
//! | largest distance of a deadline, and longest time without `advance` | 2^31 - 1 | 397 days |
//! | wrap-around of ticks, which is handled | 2^32 | 795 days |
//!
//! Ticks of 16 ms suit timeouts of seconds. Count all ticks from one monotonic base. Round `now` down and deadlines
//! up, so that no timer expires early. The current tick has begun already, so use `now() + n + 1` for a duration of at
//! least `n` ticks.
//!
//! # Guarantees
//!
//! - A timer never expires before its deadline, and expires once for each deadline that is set and reached.
//! - A timer expires in the first [`advance`](Wheel::advance) that reaches its deadline, if the budget suffices. With
//!   one call in each tick, it is at most one tick late. A deadline that has passed when it is set expires at the next
//!   tick.
//! - A cleared timer does not expire, and neither does the previous deadline of a moved timer. This holds for deadlines
//!   of the tick that is being processed, and for calls within `expire`.
//! - A deadline beyond [`HORIZON_TICKS`] is as precise as any other. Its entry is checked once in each turn.
//! - A record can be removed without a call. Its entry is dropped when the wheel reaches it, and does not affect the
//!   next record with the same id, whose timer starts as [`Timer::new`]. Reusing a [cleared](Wheel::clear) timer for the
//!   next record is faster, because the entry is reused.
//! - The time of `advance` depends on the number of entries, which are checked once or twice each, and not on the number
//!   of ticks.
//! - When `advance` has returned `true`, the wheel has at most `2 * (timers + SLOTS)` entries. A cleared or removed timer
//!   counts until the wheel reaches its entry. Memory is freed in blocks of 64 KiB as entries are removed.
//!
//! # Design
//!
//! The wheel has one level: an array of slots, one for each tick of a turn. A slot has an unordered list of ids. The timer
//! has its deadline and the slot of its entry. **The entry does not move with the deadline.** When the wheel reaches an
//! entry, it checks the timer. If the deadline has passed, the timer expires. If the deadline is later, a new entry is
//! inserted for it. If the timer names another slot, the entry is superseded and is dropped. So a deadline that moves
//! to later times needs one insertion in each timeout, not one for each message.
//!
//! A deadline that moves before its entry gets a second entry, and the first one is superseded. One timer could collect
//! superseded entries in every slot, and several in one slot. So they are counted, and when they may be half of all
//! entries, `advance` checks all slots within its budget and drops them. A slot has two generations, of which the timer
//! stores one. They distinguish two entries of one timer in one slot.
//!
//! Ids are stored in chunks of two cache lines, from a pool that all slots share. So no slot keeps the memory of a mass
//! expiry, and adding an id never copies others. Two levels of bitmaps find the next occupied slot.
//!
//! # Costs
//!
//! | | accesses | ns at 100,000 timers | at 1,000,000 |
//! |---|---|--:|--:|
//! | `set` to a time after the entry | the timer: 1 store, 17 instructions, 0 cache misses | 2 | 5 |
//! | share of `advance` in a keepalive | the timer, the head of a slot | 4 | 7 |
//! | first `set`, or `set` to a time before the entry | the timer, the head of a slot | 3 | 30 |
//! | `clear` | the timer: 1 store | 0 | 0 |
//! | an expiry, of many in the same second | the timer, a chunk of 31 ids | 17 | 35 |
//! | `advance` over a tick without entries | the bitmaps | 4 | 4 |
//!
//! The times do not include the cache miss of the record, except for the expiry. Memory: 8 bytes in the record, 4 to 6 in
//! the wheel for each timer, and 34 KB for the wheel. Measured by `cargo bench -p benches --bench timers` of the
//! Tidewheel workspace, whose `benches/RESULTS.md` has the conditions.
//!
//! # Sources, and other timer wheels
//!
//! G. Varghese and T. Lauck, *Hashed and Hierarchical Timing Wheels*, SOSP 1987, describe the wheel of one level
//! (schemes 4 to 6) and the hierarchy of wheels (scheme 7). There, moving a timer moves its list node at once.
//!
//! - **Linux** has eight or nine levels of 64 slots. Each level is 8 times coarser than the one before. A timer does not
//!   move to a finer level, and so expires late by up to an eighth. Most timers are cancelled before. `mod_timer` moves
//!   the list node.
//! - **Netty**'s `HashedWheelTimer` has one level of 512 slots of 100 ms, and counts the remaining rounds of a timer. A
//!   timer can be cancelled, but not moved. Its `IdleStateHandler` stores the time of the last read and checks it when its
//!   task runs. That is the idea of this crate, with a heap.
//! - **Kafka** has levels of 20 slots, which are created on demand, and a queue of occupied slots, so that it does not
//!   wake up for empty ones.
//! - **tokio** has six levels of 64 slots of 1 ms, with list nodes in the futures, behind a lock. `Sleep::reset` to a
//!   later time only stores the time, as in this crate. `DelayQueue` moves the entry.
//!
//! This crate assumes that timeouts are short against one turn, so that one level suffices, and that the caller's record
//! is in the cache when its deadline moves, so that the deadline is stored there.

#![forbid(unsafe_code)]

mod occupancy;
mod pool;
mod tick;
mod timer;
mod wheel;

pub use tick::Tick;
pub use timer::Timer;
pub use wheel::{Timers, Wheel};

/// The number of slots of the wheel, which is the number of ticks in one turn.
pub const SLOTS: usize = 4096;

/// Largest distance of an entry from the current tick, in ticks. An entry of a later deadline is checked and inserted
/// again each time that this number of ticks has passed.
pub const HORIZON_TICKS: u32 = SLOTS as u32 - 1;

#[cfg(doctest)]
#[doc = include_str!("../README.md")]
mod readme {}
