//! A timer wheel for deadlines that are moved far more often than they are reached: keepalives, timeouts, leases.
//!
//! A deadline of each of millions of things, moved each time that the thing gives a sign of life: here that is one
//! store into the thing's own record, with no cache miss beyond the one that touched the record. There is no clock
//! inside, no thread, no `unsafe` and no dependency. The caller says what time it is, in [`Tick`]s of whatever length
//! it chose, and keeps an 8-byte [`Timer`] beside each thing, which it names by a `u32`.
//!
//! ```
//! use tidewheel_timerwheel::{Tick, Timer, Timers, Wheel};
//!
//! struct Session {
//!     timer: Timer,
//! }
//! struct Sessions(Vec<Session>);
//!
//! impl Timers for Sessions {
//!     fn timer(&mut self, id: u32) -> Option<&mut Timer> {
//!         self.0.get_mut(id as usize).map(|session| &mut session.timer)
//!     }
//!     fn expire(&mut self, wheel: &mut Wheel, id: u32) {
//!         println!("session {id} timed out at {:?}", wheel.now());
//!     }
//! }
//!
//! let mut wheel = Wheel::new(Tick::new(0));
//! let mut sessions = Sessions(vec![Session { timer: Timer::new() }]);
//! wheel.set(0, &mut sessions.0[0].timer, Tick::new(1250));
//! // A sign of life: one store.
//! wheel.set(0, &mut sessions.0[0].timer, Tick::new(1900));
//! assert!(wheel.advance(Tick::new(1899), 8192, &mut sessions));
//! assert!(sessions.0[0].timer.is_set());
//! assert!(wheel.advance(Tick::new(1900), 8192, &mut sessions));
//! assert!(!sessions.0[0].timer.is_set());
//! ```
//!
//! `examples/keepalive.rs` keeps a million connections alive.
//!
//! # Geometry
//!
//! | | ticks | with ticks of 16 ms |
//! |---|--:|--:|
//! | resolution | 1 | 16 ms |
//! | one turn: [`SLOTS`] | 4096 | 65.5 s |
//! | the furthest that an entry lies ahead: [`HORIZON`] | 4095 | 65.5 s |
//! | the furthest deadline, and the longest sleep | 2^31 - 1 | 397 days |
//! | until ticks wrap around, which is of no consequence | 2^32 | 795 days |
//!
//! 16 ms suit timeouts of seconds. Whatever the length, count all ticks from one monotonic base, and round `now` down
//! and deadlines up: then a timer is never early. A deadline of `now() + n` is up to a tick nearer than `n` ticks,
//! since the current one has begun already: add 1.
//!
//! # What holds
//!
//! - A timer never expires before its deadline, and expires once for each time that it was set.
//! - It expires in the first [`advance`](Wheel::advance) that reaches the deadline, if the budget allows: called once
//!   a tick, at most one tick late. A deadline that was reached before it was set is due at the next tick.
//! - A timer that was cleared does not expire, nor does the old deadline of one that was moved, even when it was due
//!   in the very tick that is being swept; within `expire` as without.
//! - A deadline beyond the horizon is as exact as any other; it is looked at once a turn.
//! - A record that is done with can be given up without a word. Its old entry is dropped when it comes up, and never
//!   speaks for the next thing of that id, whose timer begins as [`Timer::new`]. To [`clear`](Wheel::clear) the timer
//!   and hand it on, while [`Timers::timer`] keeps answering for it, is cheaper still: the entry is taken over.
//! - After a sleep the cost is that of the entries, each looked at once or twice, however many ticks went by.
//! - When `advance` has returned `true`, there are at most `2 * (timers + SLOTS)` entries, where one that was cleared
//!   or given up counts until its entry would have come up. Moving deadlines back and forth does not grow that; memory
//!   is given back in blocks of 64 KiB as entries go.
//!
//! # How
//!
//! A wheel of one level: an array of slots, one for each tick of a turn, each a bag of ids. The timer holds its
//! deadline and the slot of its entry. **The entry does not follow the deadline.** When it comes up, the timer is
//! asked: due, and it expires; moved to later, and it is queued anew where the deadline is now; and when the timer
//! names another slot, the entry was superseded and is dropped. So a deadline that moves away, as those of live
//! connections do, costs nothing until its entry comes up, once for each timeout rather than once for each message.
//!
//! A deadline that moves nearer than its entry gets a second one, and the first is superseded. Were they left to
//! themselves, one timer that goes back and forth could own an entry in every slot, and several in one. They are
//! counted, and once they may be half of all, `advance` goes through the slots, within its budget, and drops them. A
//! slot has two generations, of which the timer notes one, so that of two entries of one timer in one slot the second
//! is dropped.
//!
//! Ids lie in chunks of two cache lines, from a pool that all slots share: no slot keeps what a mass expiry once
//! needed, and filling a slot never moves what is in it. Two levels of bitmap find the next occupied slot.
//!
//! # Costs
//!
//! | | touches | ns at 100,000 timers | at 1,000,000 |
//! |---|---|--:|--:|
//! | `set`, later than the entry | the timer: 1 store, 17 instructions, 0 cache misses | 2 | 5 |
//! | its share of `advance` in a keepalive | the timer, the head of a slot | 4 | 7 |
//! | `set`, for the first time or earlier than the entry | the timer, the head of a slot | 3 | 30 |
//! | `clear` | the timer: 1 store | 0 | 0 |
//! | an expiry, of many in the same second | the timer, a chunk of 31 ids | 17 | 35 |
//! | `advance` over a tick in which nothing is due | the bitmaps | 4 | 4 |
//!
//! Memory: 8 bytes in the record, 4 to 6 in the wheel for each timer, and 34 KB for the wheel.
//!
//! Over the cost of touching the record, but for the expiry. Measured by `cargo bench -p benches --bench timers`, beside
//! six others; `benches/RESULTS.md` has the conditions.
//!
//! # Where it comes from, and what others do
//!
//! G. Varghese and T. Lauck, *Hashed and Hierarchical Timing Wheels*, SOSP 1987, describe the wheel of one level
//! (their schemes 4 to 6) and the hierarchy of wheels (scheme 7), in which a timer is moved at once, by its links.
//!
//! - **Linux** has eight or nine levels of 64 slots, each coarser by 8. A timer is never moved down a level; it is
//!   late by up to an eighth instead, as most are cancelled first. `mod_timer` takes it out of one list and puts it
//!   into another.
//! - **Netty**'s `HashedWheelTimer` has one level, 512 slots of 100 ms, and counts the rounds that a timer has to
//!   wait. A timer cannot be moved, only cancelled and made anew. Its `IdleStateHandler` notes when something was last
//!   read and looks at that when its task runs: the idea of this crate, on top of a heap.
//! - **Kafka** has levels of 20 slots, made as they are needed, and a queue of occupied slots, so as not to wake up
//!   for empty ones.
//! - **tokio** has six levels of 64 slots of 1 ms, with links inside the futures, under a lock. `Sleep::reset` to a
//!   later time only notes it, as here; its `DelayQueue` moves the entry.
//!
//! What differs here: the time of a timeout is short against a turn, so one level does; the caller's record is in the
//! cache anyway when it moves its deadline, so that is where the deadline is kept; and what is in the slots is 4
//! bytes rather than a node, which nobody but `advance` ever looks at.

#![forbid(unsafe_code)]

mod occupancy;
mod pool;
mod tick;
mod timer;
mod wheel;

pub use tick::Tick;
pub use timer::Timer;
pub use wheel::{Timers, Wheel};

/// Slots of the wheel, one for each tick of a turn.
pub const SLOTS: usize = 4096;

/// How many ticks ahead an entry can lie. A deadline beyond it is looked at, and queued anew, each time that this
/// many ticks have passed.
pub const HORIZON: u32 = SLOTS as u32 - 1;
