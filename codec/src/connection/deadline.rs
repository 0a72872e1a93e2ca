//! The deadlines of a connection, and the action at each.

use std::time::Duration;

use super::acknowledged::DeadlineExtension;
use super::close::{Closing, close_reason};
use super::{Connection, State, send};
use crate::close::CloseCode;
use crate::config::Config;
use crate::disconnect::{Cause, Initiator};
use crate::endpoint::Endpoint;
use crate::frame::Opcode;
use crate::time::{Time, millis};

/// The largest jitter of a ping: the ping interval divided by this.
const PING_JITTER_DIVISOR: u64 = 8;

/// A deadline of an open connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Due {
    /// No byte arrived within the ping interval.
    Ping,
    /// No byte arrived within the ping timeout.
    PingTimeout,
    /// No message arrived within the idle timeout.
    IdleTimeout,
    /// The connection has reached its maximum lifetime.
    Lifetime,
}

impl Connection {
    /// Returns the time of the next call of [`handle_timeout`](Self::handle_timeout), or `None` if the
    /// connection has no deadline. The time changes when bytes arrive, and after `handle_timeout`.
    ///
    /// `config` is that of the connection's endpoint.
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

    /// Returns whether [`handle_timeout`](Self::handle_timeout) would end the connection at `now`, because
    /// the peer did not answer a ping or a Close.
    ///
    /// Before that, ask the kernel for bytes that [arrived](Self::note_heard) but are not received yet,
    /// and for [acknowledgements](Self::note_acknowledged).
    #[must_use]
    pub fn is_overdue(&self, config: &Config, now: Time) -> bool {
        match &self.state {
            State::Open { pinged, phase, .. } => self
                .next_due(config, *pinged, *phase)
                .is_some_and(|(time, due)| time <= now && due == Due::PingTimeout),
            State::Closing { deadline, .. } => *deadline <= now,
            State::Lingering {
                deadline,
                extension,
                ..
            } => *deadline <= now && *extension != DeadlineExtension::Never,
            State::AwaitingEof { .. } | State::Expired { .. } | State::Released { .. } => false,
        }
    }

    /// Handles the deadline if it has passed at `now`: appends a ping to `out`, starts the closing
    /// handshake, or fails or resets the connection.
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

    /// Returns the time from our last ping to `now`, in whole milliseconds, if `pong` is the payload of
    /// its answer; else `None`.
    #[must_use]
    pub fn round_trip(&self, pong: &[u8], now: Time) -> Option<Duration> {
        let State::Open { pinged, .. } = self.state else {
            return None;
        };
        let is_answer = pinged > self.opened && pong == ping_payload(self.opened, pinged);
        is_answer.then(|| now.since(pinged))
    }

    /// Performs the action of a deadline that has passed.
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

    /// Starts the closing handshake with 1001, because 1000 would mean that the application has finished.
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

    /// Returns the earliest deadline of an open connection.
    #[inline]
    fn next_due(&self, config: &Config, pinged: Time, phase: u16) -> Option<(Time, Due)> {
        let mut next = self.keepalive(config, pinged, phase);
        let mut sooner = |time: Time, due| {
            if next.is_none_or(|(earliest, _)| time < earliest) {
                next = Some((time, due));
            }
        };
        if let Some(timeout) = config.idle_timeout {
            sooner(self.last_message + timeout, Due::IdleTimeout);
        }
        if let Some(lifetime) = config.max_lifetime {
            sooner(self.opened + lifetime, Due::Lifetime);
        }
        next
    }

    /// Returns the time of the next ping, or of the ping timeout. The jitter makes pings early, but does
    /// not shorten the interval plus the timeout.
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
                let silent_since = self.heard.max(pinged).as_millis();
                let time = silent_since.saturating_add(interval - jitter);
                Some((Time::from_millis(align(time, interval)), Due::Ping))
            }
        }
    }
}

/// Rounds the time of a ping down, both in milliseconds, to one of 256 to 511 times in an interval.
///
/// Pings of many connections then share slots of a timer wheel, and wake-ups.
#[inline]
fn align(time: u64, interval: u64) -> u64 {
    let step = 1 << interval.max(256).ilog2().saturating_sub(8);
    time & !(step - 1)
}

/// Returns the payload of a ping: milliseconds since the opening handshake, which identify the ping.
fn ping_payload(opened: Time, now: Time) -> [u8; 4] {
    (now.since(opened).as_millis() as u32).to_be_bytes()
}

impl Closing {
    /// Returns the cause of the reset at the close timeout: that of our Close, but
    /// [`Cause::CloseTimeout`] if the application sent it. That the peer did not answer shows in
    /// `Disconnect::received` in any case.
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
