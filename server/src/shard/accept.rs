//! Accepts connections, and never more than there are free places.
//!
//! An accept into a full table of direct descriptors fails with `ENFILE`, and drops the client. So at most one accept is
//! armed for each free place. A few places are reserved for clients over the limit, which get 503 or 429. When these are
//! taken too, clients wait in the listener's backlog.
//!
//! Each accept serves one client. A multishot accept does not report the client's address, and can accept the whole
//! backlog before it is stopped.

use std::{net::SocketAddr, time::Duration};

use tidewheel_codec::Time;

use super::{Shard, core::Lifecycle, parts::UNKNOWN};
use crate::{
    Handler,
    admission::{Network, Refusal},
    connection::Connection,
    ring::{Completion, Op, OpCode, Ring, Socket, Token},
};

/// Pause after the system has run out of descriptors or memory.
const RETRY_AFTER: Duration = Duration::from_secs(1);

/// The accepts of a shard.
#[derive(Debug)]
pub(super) struct Acceptor {
    /// Number of places.
    capacity: u32,
    bucket: Option<TokenBucket>,
    /// Accepts in flight, one bit for each.
    armed: u64,
    stopped: bool,
    /// Time before which no accept is armed, because the system is out of resources, or the rate is reached.
    retry_at: Option<Time>,
}

/// A token bucket, which limits the rate of accepts.
#[derive(Debug)]
struct TokenBucket {
    /// Accepts in a second; equal to thousandths of an accept in a millisecond.
    rate: u32,
    /// Tokens in thousandths of an accept.
    tokens: u64,
    filled_at: Time,
}

impl TokenBucket {
    fn new(rate: u32, now: Time) -> Self {
        let mut bucket = Self {
            rate,
            tokens: 0,
            filled_at: now,
        };
        bucket.tokens = bucket.capacity();
        bucket
    }

    /// Capacity of the bucket: accepts of a tenth of a second, and one at least.
    fn capacity(&self) -> u64 {
        (u64::from(self.rate) * 100).max(1000)
    }

    /// Number of connections that may be accepted now.
    fn allowance(&mut self, now: Time) -> u32 {
        let elapsed_ms = now.since(self.filled_at).as_millis() as u64;
        self.filled_at = now;
        let filled = elapsed_ms.saturating_mul(u64::from(self.rate));
        self.tokens = self.tokens.saturating_add(filled).min(self.capacity());
        u32::try_from(self.tokens / 1000).unwrap_or(u32::MAX)
    }

    /// Time at which the next connection may be accepted.
    fn next_at(&self) -> Time {
        let missing = 1000_u64.saturating_sub(self.tokens % 1000);
        self.filled_at + Duration::from_millis(missing.div_ceil(u64::from(self.rate)))
    }
}

impl Acceptor {
    /// Creates an acceptor with `capacity` places, which accepts at most `rate` connections in a second.
    pub(super) fn new(capacity: u32, rate: Option<u32>, now: Time) -> Self {
        Self {
            capacity,
            bucket: rate.map(|rate| TokenBucket::new(rate, now)),
            armed: 0,
            stopped: false,
            retry_at: None,
        }
    }

    /// Ends all accepts, and shuts the listening socket down, so that another process can listen on the address.
    pub(super) fn stop(&mut self, ring: &mut impl Ring) {
        self.stopped = true;
        ring.stop_listening();
        self.cancel_all(ring);
    }

    /// Returns whether no accept is in flight, and none will be armed.
    pub(super) fn is_stopped(&self) -> bool {
        self.stopped && self.armed == 0
    }

    /// Time until accepts are armed again, if they are paused.
    pub(super) fn retry_in(&self, now: Time) -> Option<Duration> {
        self.retry_at
            .filter(|_| !self.stopped)
            .map(|time| time.since(now))
    }

    fn cancel_all(&mut self, ring: &mut impl Ring) {
        for index in (0..u64::BITS).filter(|index| self.armed >> index & 1 == 1) {
            let (kind, target) = (OpCode::Accept, accept(index));
            ring.push(Op::Cancel { kind, target }, Token::new(0, 0));
        }
    }

    /// Arms as many accepts as the free places and the rate permit. Returns whether the rate is reached.
    fn arm(&mut self, open: u32, now: Time, ring: &mut impl Ring) -> bool {
        if self.stopped || self.retry_at.is_some_and(|time| now < time) {
            return false;
        }
        self.retry_at = None;
        // A new connection may be open while the slot of a closed descriptor is not free yet.
        let free = self.capacity.saturating_sub(open);
        if self.armed.count_ones() > free {
            // A handoff to this shard has taken a place for which an accept was armed. All accepts are armed
            // anew: the kernel wakes one accept for each client, and if it woke one that is being cancelled,
            // the client would wait for the next one. A new accept looks for a client first.
            self.cancel_all(ring);
        }
        let mut wanted = free.min(u64::BITS);
        if let Some(bucket) = &mut self.bucket {
            let allowed = bucket.allowance(now);
            if allowed == 0 {
                self.retry_at = Some(bucket.next_at());
            }
            wanted = wanted.min(allowed);
        }
        while self.armed.count_ones() < wanted {
            let index = (!self.armed).trailing_zeros();
            self.armed |= 1 << index;
            ring.push(Op::Accept, accept(index));
        }
        self.retry_at.is_some()
    }

    fn completed(&mut self, completion: &Completion) {
        self.armed &= !(1 << completion.token.generation());
        if let Some(bucket) = &mut self.bucket
            && completion.result >= 0
        {
            bucket.tokens = bucket.tokens.saturating_sub(1000);
        }
    }
}

/// The token of an accept.
fn accept(index: u32) -> Token {
    Token::new(index, 0)
}

impl<R: Ring, H: Handler> Shard<R, H> {
    /// Arms as many accepts as there are free places.
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
                let peer = self.core.ring.peer(completion.token);
                self.admit(Socket(socket), peer.unwrap_or(UNKNOWN), now);
            }
            Err(_) if self.acceptor.stopped => {}
            Err(_) => match -completion.result {
                // The client has disconnected before it was accepted, or no place is free.
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

    /// Admits a new connection to this shard, or hands it over to a shard with a free place. A connection over
    /// a limit is refused when its request has arrived.
    fn admit(&mut self, socket: Socket, peer: SocketAddr, now: Time) {
        self.core.stats.accepts.add(1);
        match self.admission.admit(peer.ip()) {
            Ok(admitted) if !self.admission.are_here(&admitted) => {
                self.hand_over(socket, peer, admitted);
            }
            Ok(admitted) => self.insert_connection(socket, peer, Ok(admitted.network), now),
            Err(refusal) => self.insert_connection(socket, peer, Err(refusal), now),
        }
    }

    /// Gives a new connection its slot, its deadline and its receive.
    pub(super) fn insert_connection(
        &mut self,
        socket: Socket,
        peer: SocketAddr,
        admitted: Result<Option<Network>, Refusal>,
        now: Time,
    ) {
        self.generation = (self.generation + 1) % Token::GENERATIONS;
        let deadline = now + self.handshake_timeout;
        let refusal = admitted.err();
        let connection = Connection::new(socket, self.generation, peer, deadline, refusal);
        let slot = self.connections.insert(connection) as u32;
        if let Ok(Some(network)) = admitted {
            self.admission.note_network(slot, network);
        }
        let count = self.connections.len() as u64;
        self.core.stats.connections.set(count);
        // The connection may have been accepted before the accept was cancelled.
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
    fn a_rate_is_kept_with_bursts_of_a_tenth_of_a_second() {
        let at = Time::from_millis;
        let mut bucket = TokenBucket::new(100, at(0));
        assert_eq!(bucket.allowance(at(0)), 10);
        bucket.tokens = 0;
        assert_eq!(bucket.allowance(at(5)), 0);
        assert_eq!(bucket.next_at(), at(10));
        assert_eq!(bucket.allowance(at(10)), 1);
        assert_eq!(bucket.allowance(at(60_000)), 10, "the bucket is full");
    }

    #[test]
    fn a_rate_of_one_in_a_second_permits_one_accept() {
        let at = Time::from_millis;
        let mut bucket = TokenBucket::new(1, at(0));
        assert_eq!(bucket.allowance(at(0)), 1);
        bucket.tokens -= 1000;
        assert_eq!(bucket.next_at(), at(1000));
    }
}
