//! The deadlines of a connection: which is next, and what happens at it.

use std::time::Duration;

use super::close::{Closing, close_reason};
use super::{Connection, Patience, State, send};
use crate::close::CloseCode;
use crate::config::Config;
use crate::disconnect::{Cause, Initiator};
use crate::endpoint::Endpoint;
use crate::frame::Opcode;
use crate::time::{Time, millis};

/// A ping goes out up to this part of the interval early, and up to a 256th more.
const PING_JITTER_DIVISOR: u64 = 8;

/// What is due on an open connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Due {
    /// Nothing was heard, and a ping goes out.
    Ping,
    /// Nothing was heard since the ping.
    PingTimeout,
    /// No message arrived.
    IdleTimeout,
    /// The connection is old.
    Lifetime,
}

impl Connection {
    /// When [`handle_timeout`](Self::handle_timeout) is to be called next, whatever the deadline
    /// is for; `None` when there is none. Each deadline is fixed by what was received, and moves
    /// when bytes arrive.
    #[inline]
    #[must_use]
    pub fn poll_timeout(&self, config: &Config) -> Option<Time> {
        match &self.state {
            State::Open { pinged, phase, .. } => {
                self.next_due(config, *pinged, *phase).map(|(time, _)| time)
            }
            State::Closing { deadline, .. }
            | State::Lingering { deadline, .. }
            | State::AwaitingEof { deadline, .. } => Some(*deadline),
            State::Expired { .. } | State::Released { .. } => None,
        }
    }

    /// Whether [`handle_timeout`](Self::handle_timeout) would end the connection now because the peer is
    /// quiet since a ping, or since a Close: the moment to ask whether something has
    /// [arrived](Self::note_heard) that was not received yet, and whether the peer has
    /// [taken](Self::note_taken) something.
    #[must_use]
    pub fn is_overdue(&self, config: &Config, now: Time) -> bool {
        match &self.state {
            State::Open { pinged, phase, .. } => self
                .next_due(config, *pinged, *phase)
                .is_some_and(|(time, due)| time <= now && due == Due::PingTimeout),
            State::Closing { deadline, .. } => *deadline <= now,
            State::Lingering {
                deadline, patience, ..
            } => *deadline <= now && *patience != Patience::None,
            State::AwaitingEof { .. } | State::Expired { .. } | State::Released { .. } => false,
        }
    }

    /// Does what is due at `now`: sends a ping, starts the closing handshake, fails or resets the
    /// connection. Does nothing when nothing is due.
    pub fn handle_timeout(&mut self, endpoint: &mut Endpoint, out: &mut Vec<u8>, now: Time) {
        match &mut self.state {
            State::Open { pinged, phase, .. } => {
                let (pinged, phase) = (*pinged, *phase);
                if let Some((time, due)) = self.next_due(&endpoint.config, pinged, phase)
                    && time <= now
                {
                    self.handle_due(due, endpoint, out, now);
                }
            }
            State::Closing { closing, deadline } if *deadline <= now => {
                let (cause, sent) = (closing.cause_at_deadline(), closing.take_sent());
                closing.receiver.release(&mut endpoint.pool);
                let end = Some(self.end(Initiator::Local, cause, None, Some(sent), now));
                self.state = State::Expired { end };
            }
            State::Lingering { end, deadline, .. } | State::AwaitingEof { end, deadline }
                if *deadline <= now =>
            {
                let end = end.take();
                self.state = State::Expired { end };
            }
            State::Closing { .. }
            | State::Lingering { .. }
            | State::AwaitingEof { .. }
            | State::Expired { .. }
            | State::Released { .. } => {}
        }
    }

    /// How long a ping took to be answered, by the payload of the Pong that has just been received;
    /// `None` if that is not the answer to the newest ping of ours.
    ///
    /// Whole milliseconds, as `now` is.
    #[must_use]
    pub fn round_trip(&self, pong: &[u8], now: Time) -> Option<Duration> {
        let State::Open { pinged, .. } = self.state else {
            return None;
        };
        let is_answer = pinged > self.opened && pong == ping_payload(self.opened, pinged);
        is_answer.then(|| now.since(pinged))
    }

    fn handle_due(&mut self, due: Due, endpoint: &mut Endpoint, out: &mut Vec<u8>, now: Time) {
        match due {
            Due::Ping => {
                let payload = ping_payload(self.opened, now);
                send::frame(endpoint, Opcode::Ping, &payload, out);
                if let State::Open { pinged, .. } = &mut self.state {
                    *pinged = now;
                }
            }
            Due::PingTimeout => {
                self.fail(
                    endpoint,
                    CloseCode::INTERNAL_ERROR,
                    Cause::PingTimeout,
                    out,
                    now,
                );
            }
            Due::IdleTimeout => self.go_away(endpoint, Cause::IdleTimeout, out, now),
            Due::Lifetime => self.go_away(endpoint, Cause::Lifetime, out, now),
        }
    }

    /// No timer closes with 1000: the peer is told that it was not its doing.
    fn go_away(&mut self, endpoint: &mut Endpoint, cause: Cause, out: &mut Vec<u8>, now: Time) {
        self.start_closing_handshake(
            endpoint,
            CloseCode::GOING_AWAY,
            &close_reason(cause),
            cause,
            out,
            now,
        )
        .expect("the code may be sent and the reason is short");
    }

    /// The earliest deadline of an open connection.
    #[inline]
    fn next_due(&self, config: &Config, pinged: Time, phase: u16) -> Option<(Time, Due)> {
        let mut next = self.keepalive(config, pinged, phase);
        let mut sooner = |time: Time, due| {
            if next.is_none_or(|(earliest, _)| time < earliest) {
                next = Some((time, due));
            }
        };
        if let Some(timeout) = config.idle_timeout {
            sooner(self.messaged + timeout, Due::IdleTimeout);
        }
        if let Some(lifetime) = config.max_lifetime {
            sooner(self.opened + lifetime, Due::Lifetime);
        }
        next
    }

    /// The ping, or the end of the wait for its answer. Pings are early by the jitter, but a peer
    /// that is silent has the whole interval and timeout.
    #[inline]
    fn keepalive(&self, config: &Config, pinged: Time, phase: u16) -> Option<(Time, Due)> {
        let interval = config.ping_interval?;
        let unanswered = pinged > self.heard;
        match config.ping_timeout {
            Some(timeout) if unanswered => {
                let waiting_since = (self.heard + interval).max(pinged);
                Some((waiting_since + timeout, Due::PingTimeout))
            }
            Some(_) | None => {
                let interval = millis(interval);
                let jitter =
                    (interval / PING_JITTER_DIVISOR).saturating_mul(u64::from(phase)) >> 16;
                let quiet_since = self.heard.max(pinged).as_millis();
                let time = quiet_since.saturating_add(interval - jitter);
                Some((Time::from_millis(in_step(time, interval)), Due::Ping))
            }
        }
    }
}

/// A time for a ping, a little earlier: pings of many connections fall together, so that they take
/// fewer slots of a timer wheel and fewer wake-ups. There are 256 to 511 such times in an interval.
#[inline]
fn in_step(time: u64, interval: u64) -> u64 {
    let step = 1 << interval.max(256).ilog2().saturating_sub(8);
    time & !(step - 1)
}

/// What a ping at `now` carries: milliseconds since the opening handshake, which tell pings apart.
fn ping_payload(opened: Time, now: Time) -> [u8; 4] {
    (now.since(opened).as_millis() as u32).to_be_bytes()
}

impl Closing {
    /// Why the connection is reset. A shutdown, an idle timeout or the lifetime says more than
    /// that the peer did not answer, which `Disconnect::received` tells; a close of the
    /// application's says less.
    fn cause_at_deadline(&self) -> Cause {
        match self.cause {
            Cause::LocalClose => Cause::CloseTimeout,
            Cause::PeerClose
            | Cause::PingTimeout
            | Cause::IdleTimeout
            | Cause::EofWithoutClose
            | Cause::Reset
            | Cause::ProtocolError(_)
            | Cause::TooBig
            | Cause::SlowConsumer
            | Cause::CloseTimeout
            | Cause::Shutdown
            | Cause::Lifetime
            | Cause::MessageRate
            | Cause::HandlerPanic => self.cause,
        }
    }
}
