//! The ways in which a connection ends, and the one way in which its slot comes back.
//!
//! A connection's TCP ends in one of two ways. In order: we send FIN, the peer sends FIN, and we close the
//! descriptor; the kernel keeps its TIME_WAIT. By force: a deadline passes and we close the descriptor,
//! which resets, because every connection inherits `SO_LINGER` of zero from its listener (socket(7),
//! tcp(7)). In neither way does the close wait for the socket to become writable.

use tidewheel_codec::{Cause, Disconnect, Time, Transmit, handshake::Rejection};

use super::visit::Visit;
use crate::{
    Handler,
    connection::{Connection, Descriptor, FinResult, Phase, ReceiveEvent, SendEvent},
    contain::{self, Callback},
    outbox::Lane,
    ring::{Op, Ring},
    stats::Rejected,
};

/// How a descriptor is closed.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) enum Exit {
    /// The peer's FIN is here: what is queued and our FIN go out first.
    Polite,
    /// Nothing more is to be expected, or waited for.
    Reset,
}

impl<R: Ring, H: Handler> Visit<'_, R, H> {
    /// Does what the protocol asks for after it has seen bytes, time, or the handler.
    pub(super) fn conclude(&mut self) {
        let transmit = match &mut self.connection.phase {
            Phase::Open { protocol, .. } => match protocol.poll_disconnect() {
                None => protocol.poll_transmit(),
                Some(end) => {
                    self.report(&end);
                    self.poll_transmit()
                }
            },
            Phase::Refused { .. } => Transmit::Finish,
            Phase::Handshake { .. } => Transmit::Nothing,
            Phase::Leaving(_) => return,
        };
        match transmit {
            Transmit::Nothing => {}
            Transmit::Finish => {
                self.connection.sending.on(SendEvent::WantFin);
            }
            Transmit::Release => return self.leave(Exit::Polite),
            Transmit::Reset => {
                self.core.stats.deadline_resets.add(1);
                return self.leave(Exit::Reset);
            }
        }
        if self.connection.queue.is_some() || self.connection.sending.wants_fin() {
            self.mark();
        }
        self.schedule();
    }

    fn poll_transmit(&self) -> Transmit {
        match &self.connection.phase {
            Phase::Open { protocol, .. } => protocol.poll_transmit(),
            Phase::Handshake { .. } | Phase::Refused { .. } | Phase::Leaving(_) => {
                unreachable!("a report changes no phase")
            }
        }
    }

    /// Tells the handler, the log and the counts how a connection has ended.
    fn report(&mut self, end: &Disconnect) {
        self.core.stats.closed(end.cause);
        tracing::debug!(
            target: "tidewheel::close",
            connection = %self.id(),
            initiator = end.initiator.as_str(),
            cause = end.cause.as_str(),
            violation = match end.cause {
                Cause::ProtocolError(violation) => Some(tracing::field::display(violation)),
                _ => None,
            },
            received = end.received.as_ref().map(|close| close.code.0),
            received_reason = end.received.as_ref().map(|close| &*close.reason),
            sent = end.sent.as_ref().map(|close| close.code.0),
            sent_reason = end.sent.as_ref().map(|close| &*close.reason),
            lived_ms = end.lived.as_millis() as u64,
            messages_received = end.traffic.received_messages,
            messages_sent = end.traffic.sent_messages,
            bytes_received = end.traffic.received_bytes,
            bytes_sent = end.traffic.sent_bytes,
            "connection ended"
        );
        self.core.fanout.forget(self.slot);
        self.call(Callback::Close, |handler, conn| handler.close(conn, end));
        // What the handler may have subscribed to since.
        self.core.fanout.forget(self.slot);
    }

    /// Answers a request with an error, and closes.
    pub(super) fn refuse(&mut self, reason: Rejected, rejection: &Rejection) {
        self.core.stats.rejected(reason);
        tracing::debug!(target: "tidewheel::handshake", status = rejection.status(), %rejection, "refused");
        self.queue()
            .write(Lane::Control, |out| rejection.write(out));
        let deadline = self.now + self.core.settings.close_timeout;
        self.connection.advance(Phase::Refused { deadline });
    }

    /// The peer has sent FIN, and everything before it has been read.
    pub(super) fn peer_finished(&mut self) {
        match &mut self.connection.phase {
            Phase::Open { protocol, .. } => {
                protocol.receive_eof(self.now);
                self.conclude();
            }
            Phase::Handshake { .. } | Phase::Refused { .. } => self.leave(Exit::Polite),
            Phase::Leaving(_) => {}
        }
    }

    /// The connection has failed underneath: RST, or the kernel gave up.
    pub(super) fn peer_reset(&mut self) {
        // There is nobody left to send a FIN to, nor anything before it.
        self.connection.sending.on(SendEvent::PeerGone);
        match &mut self.connection.phase {
            Phase::Open { protocol, .. } => {
                protocol.receive_reset(self.now);
                self.conclude();
            }
            Phase::Handshake { .. } | Phase::Refused { .. } => self.leave(Exit::Reset),
            Phase::Leaving(_) => {}
        }
    }

    /// The shard ends, and has reset the connection.
    pub(super) fn abandon(&mut self) {
        if let Phase::Open { protocol, .. } = &mut self.connection.phase {
            protocol.abandon(self.now);
            if let Some(end) = protocol.poll_disconnect() {
                self.report(&end);
            }
        }
    }

    /// One of the connection's deadlines may have passed.
    pub(super) fn timed_out(&mut self) {
        let is_deaf = self.connection.receiving.is_paused();
        match &mut self.connection.phase {
            Phase::Handshake { .. } => {
                self.core.stats.handshake_timeouts.add(1);
                self.leave(Exit::Reset);
            }
            Phase::Refused { .. } => {
                self.core.stats.deadline_resets.add(1);
                self.leave(Exit::Reset);
            }
            Phase::Open { protocol, .. }
                if is_deaf && protocol.is_open()
                    || protocol.is_ping_overdue(self.core.endpoint.config(), self.now) =>
            {
                self.ask();
            }
            Phase::Open { .. } => self.elapse(),
            Phase::Leaving(_) => {}
        }
    }

    /// Lets the protocol do what is due.
    fn elapse(&mut self) {
        let Connection { phase, queue, .. } = &mut *self.connection;
        let Phase::Open { protocol, .. } = phase else {
            return;
        };
        let sends = &mut self.core.sends;
        let out = &mut sends.control;
        protocol.handle_timeout(&mut self.core.endpoint, out, self.now);
        if !out.is_empty() {
            let queue = queue.get_or_insert_with(|| sends.pool.take());
            match protocol.poll_transmit() {
                // It begins to close in good order: behind what was said.
                Transmit::Nothing if !protocol.is_open() => {
                    queue.write(Lane::Control, |last| last.extend_from_slice(out));
                }
                // A ping that waits already tells as much as two.
                Transmit::Nothing if queue.is_stalled() && queue.has_control() => {}
                Transmit::Nothing => queue.write_control(out),
                Transmit::Finish | Transmit::Release | Transmit::Reset => queue.write_close(out),
            }
            out.clear();
        }
        self.conclude();
    }

    /// Asks when the peer was last heard: it may be alive, although what it has sent is not read,
    /// because it takes nothing, or because this shard has fallen behind.
    fn ask(&mut self) {
        if self.connection.begin_asking() {
            let socket = self.connection.socket();
            self.push(Op::Quiet { socket });
        }
    }

    /// The kernel has told how long the peer has been quiet, in milliseconds, or that it cannot.
    pub(super) fn quiet(&mut self, result: i32) {
        self.connection.end_asking();
        if let Phase::Open { protocol, .. } = &mut self.connection.phase
            && let Ok(quiet_ms) = u64::try_from(result)
        {
            let heard_ms = self.now.as_millis().saturating_sub(quiet_ms);
            protocol.note_heard(Time::from_millis(heard_ms));
        }
        self.elapse();
    }

    /// The server shuts down (RFC 6455 7.4.1: 1001, going away; or 1012, service restart).
    pub(super) fn say_goodbye(&mut self) {
        let Connection { phase, queue, .. } = &mut *self.connection;
        match phase {
            Phase::Handshake { .. } => self.leave(Exit::Reset),
            Phase::Open { protocol, .. } => {
                let core = &mut *self.core;
                let queue = queue.get_or_insert_with(|| core.sends.pool.take());
                let started = queue.write(Lane::Control, |out| {
                    let (code, cause) = (core.settings.drain.code, Cause::Shutdown);
                    protocol.start_closing_handshake(
                        &mut core.endpoint,
                        code,
                        "server shutting down",
                        cause,
                        out,
                        self.now,
                    )
                });
                debug_assert!(started.is_ok(), "a code and a reason that may be sent");
                self.conclude();
            }
            Phase::Refused { .. } | Phase::Leaving(_) => {}
        }
    }

    /// Ends everything on the descriptor and closes it. The slot follows when the last
    /// completion has come.
    fn leave(&mut self, exit: Exit) {
        if exit == Exit::Polite {
            self.last_words();
        }
        let socket = self.connection.socket();
        if self.connection.is_armed() {
            self.push(Op::Reset { socket });
        }
        let descriptor = match exit == Exit::Polite && self.connection.sending.is_fin_under_way() {
            true => Descriptor::Finishing,
            false => {
                self.push(Op::Close { socket });
                Descriptor::Closing
            }
        };
        self.change_receive(ReceiveEvent::Leave);
        let phase = self.connection.advance(Phase::Leaving(descriptor));
        self.schedule();
        if let Err(panic) = contain::catch(|| drop(phase)) {
            self.note_panic(Callback::DropState, panic);
        }
    }

    /// Sends what is queued, as far as the socket takes it, and FIN.
    fn last_words(&mut self) {
        if self.connection.sending.may_finish() {
            self.connection.sending.on(SendEvent::WantFin);
            self.transmit();
        }
    }

    /// Handles the completion of our FIN; `result` is a negated errno if it was not sent.
    pub(super) fn finished(&mut self, result: i32) {
        let result = match -result {
            libc::ECANCELED => FinResult::Cancelled,
            libc::EMFILE | libc::ENFILE => FinResult::Again,
            _ => FinResult::Done,
        };
        self.connection.sending.on(SendEvent::FinComplete(result));
        match self.connection.is_leaving() {
            true => self.close_if_finished(),
            false if self.connection.sending.wants_fin() => self.mark(),
            false => {}
        }
    }

    /// Closes the descriptor of a connection that leaves, if that has waited for our FIN.
    pub(super) fn close_if_finished(&mut self) {
        if !self.connection.sending.is_fin_under_way()
            && matches!(self.connection.phase, Phase::Leaving(Descriptor::Finishing))
        {
            self.connection.advance(Phase::Leaving(Descriptor::Closing));
            let socket = self.connection.socket();
            self.push(Op::Close { socket });
        }
    }

    /// The descriptor is closed.
    pub(super) fn closed(&mut self) {
        self.connection.advance(Phase::Leaving(Descriptor::Closed));
    }
}
