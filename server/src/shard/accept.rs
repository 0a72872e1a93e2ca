//! Accepting connections, and never one too many.
//!
//! A full table of direct descriptors ends a multishot accept with `ENFILE` and drops the client
//! that it had accepted. So the multishot accept runs only while there is ample room, and single
//! accepts, no more than there are free places, fill the rest. A few places are kept for those who
//! come when all others are taken, to be told so; who comes when those are taken, too, waits in
//! the listener's backlog.

use std::{net::IpAddr, time::Duration};

use tidewheel_codec::Time;

use super::{Shard, core::Lifecycle};
use crate::{
    Handler,
    admission::{Network, Refusal},
    connection::Connection,
    ring::{Completion, Op, OpCode, Ring, Socket, Token},
};

/// With fewer free places than this, connections are accepted one by one. A listener's whole
/// backlog, and what comes meanwhile, may be accepted before a multishot accept can be stopped.
const MULTISHOT_FREE_PLACES_MIN: u32 = 8192;

/// After the system has run out of descriptors or memory.
const RETRY_AFTER: Duration = Duration::from_secs(1);

/// The slot in the token of a multishot accept; single accepts have [`SINGLE`].
const MULTISHOT: u32 = 0;
const SINGLE: u32 = 1;

/// What is under way to accept connections.
#[derive(Debug)]
pub(super) struct Acceptor {
    /// Places in all.
    capacity: u32,
    /// Whether it matters who comes, which a multishot accept does not tell.
    addressed: bool,
    pace: Option<TokenBucket>,
    multishot: Multishot,
    /// Single accepts under way, a bit for each.
    singles: u64,
    stopped: bool,
    /// Not before then is anybody accepted: the system as a whole is out of something, or the pace
    /// is reached.
    retry_at: Option<Time>,
}

#[derive(Clone, Copy, Debug, Eq, PartialEq)]
enum Multishot {
    Off,
    Armed,
    Cancelling,
}

/// A bucket of accepts that fills with time.
#[derive(Debug)]
struct TokenBucket {
    /// Accepts in a second, which is also thousandths of an accept in a millisecond.
    rate: u32,
    /// Thousandths of an accept.
    credit: u64,
    filled_at: Time,
}

impl TokenBucket {
    fn new(rate: u32, now: Time) -> Self {
        let mut pace = Self {
            rate,
            credit: 0,
            filled_at: now,
        };
        pace.credit = pace.credit_max();
        pace
    }

    /// A tenth of a second's worth, and one at least.
    fn credit_max(&self) -> u64 {
        (u64::from(self.rate) * 100).max(1000)
    }

    /// How many may be accepted now.
    fn allowance(&mut self, now: Time) -> u32 {
        let elapsed_ms = now.since(self.filled_at).as_millis() as u64;
        self.filled_at = now;
        let filled = elapsed_ms.saturating_mul(u64::from(self.rate));
        self.credit = self.credit.saturating_add(filled).min(self.credit_max());
        u32::try_from(self.credit / 1000).unwrap_or(u32::MAX)
    }

    /// When the next may be accepted.
    fn next_at(&self) -> Time {
        let missing = 1000_u64.saturating_sub(self.credit % 1000);
        self.filled_at + Duration::from_millis(missing.div_ceil(u64::from(self.rate)))
    }
}

impl Acceptor {
    /// With room for `capacity` connections; at most `rate` in a second.
    pub(super) fn new(capacity: u32, addressed: bool, rate: Option<u32>, now: Time) -> Self {
        Self {
            capacity,
            addressed,
            pace: rate.map(|rate| TokenBucket::new(rate, now)),
            multishot: Multishot::Off,
            singles: 0,
            stopped: false,
            retry_at: None,
        }
    }

    /// Ends all accepts, and gives the address up to whoever takes over.
    pub(super) fn stop(&mut self, ring: &mut impl Ring) {
        self.stopped = true;
        ring.stop_listening();
        self.cancel_multishot(ring);
        self.cancel_singles(ring);
    }

    /// Whether none is under way, and none will be.
    pub(super) fn is_stopped(&self) -> bool {
        self.stopped && self.singles == 0 && self.multishot == Multishot::Off
    }

    /// How long until somebody is accepted again, where nobody is.
    pub(super) fn retry_in(&self, now: Time) -> Option<Duration> {
        self.retry_at
            .filter(|_| !self.stopped)
            .map(|time| time.since(now))
    }

    fn cancel_multishot(&mut self, ring: &mut impl Ring) {
        if self.multishot == Multishot::Armed {
            self.multishot = Multishot::Cancelling;
            let target = multishot();
            let kind = OpCode::Accept;
            ring.push(Op::Cancel { kind, target }, cancel());
        }
    }

    fn cancel_singles(&mut self, ring: &mut impl Ring) {
        for index in (0..u64::BITS).filter(|index| self.singles >> index & 1 == 1) {
            let target = single(index);
            let kind = OpCode::Accept;
            ring.push(Op::Cancel { kind, target }, cancel());
        }
    }

    /// Arms what the number of free places and the pace ask for; says whether the pace has just
    /// been reached.
    fn arm(&mut self, open: u32, now: Time, ring: &mut impl Ring) -> bool {
        if self.stopped || self.retry_at.is_some_and(|time| now < time) {
            return false;
        }
        self.retry_at = None;
        // A slot may be held for a moment after its descriptor is closed, and another be open already.
        let free = self.capacity.saturating_sub(open);
        let one_by_one = self.addressed || self.pace.is_some() || free <= MULTISHOT_FREE_PLACES_MIN;
        if !one_by_one {
            if self.multishot == Multishot::Off && self.singles == 0 {
                self.multishot = Multishot::Armed;
                let accept = Op::Accept {
                    multishot: true,
                    addressed: false,
                };
                ring.push(accept, multishot());
            }
            return false;
        }
        self.cancel_multishot(ring);
        if self.singles.count_ones() > free {
            // Who was handed over to this shard has taken a place that an accept was armed for. All are
            // armed anew, for the kernel wakes one for each client: were it one that is being cancelled,
            // the client would wait until another came. A new one looks first.
            self.cancel_singles(ring);
        }
        let mut wanted = free.min(u64::BITS);
        if let Some(pace) = &mut self.pace {
            let allowed = pace.allowance(now);
            if allowed == 0 {
                self.retry_at = Some(pace.next_at());
            }
            wanted = wanted.min(allowed);
        }
        if self.multishot == Multishot::Off {
            while self.singles.count_ones() < wanted {
                let index = (!self.singles).trailing_zeros();
                self.singles |= 1 << index;
                let accept = Op::Accept {
                    multishot: false,
                    addressed: self.addressed,
                };
                ring.push(accept, single(index));
            }
        }
        self.retry_at.is_some()
    }

    fn completed(&mut self, completion: &Completion) {
        let token = completion.token;
        match token.slot() {
            SINGLE => self.singles &= !(1 << token.generation()),
            _ if !completion.more => self.multishot = Multishot::Off,
            _ => {}
        }
        if let Some(pace) = &mut self.pace
            && completion.result >= 0
        {
            pace.credit = pace.credit.saturating_sub(1000);
        }
    }
}

fn multishot() -> Token {
    Token::new(0, MULTISHOT)
}

fn single(index: u32) -> Token {
    Token::new(index, SINGLE)
}

fn cancel() -> Token {
    Token::new(0, 0)
}

impl<R: Ring, H: Handler> Shard<R, H> {
    /// Accepts as many connections as there is room for.
    pub(super) fn accept_more(&mut self, now: Time) {
        let open = (self.connections.len() + self.admission.handoffs()) as u32;
        if self.acceptor.arm(open, now, &mut self.core.ring) {
            self.core.stats.accept_pauses.add(1);
        }
    }

    pub(super) fn accepted(&mut self, completion: &Completion, now: Time) {
        self.acceptor.completed(completion);
        match u32::try_from(completion.result) {
            Ok(socket) => {
                let address = self.core.ring.peer(completion.token);
                self.admit(Socket(socket), address, now);
            }
            Err(_) if self.acceptor.stopped => {}
            Err(_) => match -completion.result {
                // The peer was gone before it was accepted, or there is no room for more.
                libc::ECONNABORTED | libc::ECANCELED | libc::EAGAIN | libc::EINTR => {}
                errno => {
                    let error = std::io::Error::from_raw_os_error(errno);
                    tracing::warn!(shard = self.core.settings.index, %error, "accept failed; trying again in a second");
                    self.acceptor.retry_at = Some(now + RETRY_AFTER);
                }
            },
        }
        self.accept_more(now);
    }

    /// Lets a new connection in, here or with a shard that has room. If it is one too many, it is told
    /// so when its request has come.
    fn admit(&mut self, socket: Socket, address: Option<IpAddr>, now: Time) {
        self.core.stats.accepts.add(1);
        match self.admission.enter(address) {
            Ok(admitted) if !self.admission.are_here(&admitted) => self.hand_over(socket, admitted),
            Ok(admitted) => self.insert_connection(socket, Ok(admitted.network), now),
            Err(refusal) => self.insert_connection(socket, Err(refusal), now),
        }
    }

    /// Gives a new connection its slot, its deadline and its receive.
    pub(super) fn insert_connection(
        &mut self,
        socket: Socket,
        admitted: Result<Option<Network>, Refusal>,
        now: Time,
    ) {
        self.generation = (self.generation + 1) % Token::GENERATIONS;
        let deadline = now + self.handshake_timeout;
        let connection = Connection::new(socket, self.generation, deadline, admitted.err());
        let slot = self.connections.insert(connection) as u32;
        if let Ok(Some(network)) = admitted {
            self.admission.note_network(slot, network);
        }
        let count = self.connections.len() as u64;
        self.core.stats.connections.set(count);
        // It may have been accepted before the accept could be stopped.
        let is_draining = matches!(self.core.lifecycle, Lifecycle::Draining(_));
        self.visit(slot, now, |visit| {
            visit.arm();
            visit.schedule();
            if is_draining {
                visit.start_shutdown();
            }
        });
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_pace_is_kept_with_bursts_of_a_tenth() {
        let at = Time::from_millis;
        let mut pace = TokenBucket::new(100, at(0));
        assert_eq!(pace.allowance(at(0)), 10);
        pace.credit = 0;
        assert_eq!(pace.allowance(at(5)), 0);
        assert_eq!(pace.next_at(), at(10));
        assert_eq!(pace.allowance(at(10)), 1);
        assert_eq!(pace.allowance(at(60_000)), 10, "no more than a burst");
    }

    #[test]
    fn a_pace_of_one_in_a_second_lets_one_in() {
        let at = Time::from_millis;
        let mut pace = TokenBucket::new(1, at(0));
        assert_eq!(pace.allowance(at(0)), 1);
        pace.credit -= 1000;
        assert_eq!(pace.next_at(), at(1000));
    }
}
