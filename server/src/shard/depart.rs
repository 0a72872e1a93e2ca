//! The ways in which a connection ends, and the one way in which its slot comes back.
//!
//! Closing TCP is always one of two: our FIN, then the peer's, then Close, which leaves nothing
//! but the kernel's TIME_WAIT; or, at a deadline, Close alone, which resets, because the listener
//! hands down `SO_LINGER` of zero to every connection (socket(7), tcp(7)). Neither waits for the
//! socket to become writable.

use tidewheel_codec::{Cause, Disconnect, Time, Transmit, handshake::Rejection};

use super::Shard;
use crate::{
    ConnectionId, Handler,
    connection::{Connection, Descriptor, Fin, Flight, Phase, Receive},
    contain::{self, Callback},
    outbox::Lane,
    ring::{Completion, Op, Ring},
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

impl<R: Ring, H: Handler> Shard<R, H> {
    /// Does what the protocol asks for after it has seen bytes, time, or the handler.
    pub(super) fn conclude(&mut self, slot: u32, now: Time) {
        let connection = &mut self.connections[slot as usize];
        let transmit = match &mut connection.phase {
            Phase::Open { protocol, .. } => {
                if let Some(end) = protocol.poll_disconnect() {
                    self.report(slot, &end, now);
                }
                match &self.connections[slot as usize].phase {
                    Phase::Open { protocol, .. } => protocol.poll_transmit(),
                    Phase::Handshake { .. } | Phase::Refused { .. } | Phase::Leaving(_) => {
                        unreachable!("a report changes no phase")
                    }
                }
            }
            Phase::Refused { .. } => Transmit::Finish,
            Phase::Handshake { .. } => Transmit::Nothing,
            Phase::Leaving(_) => return,
        };
        let connection = &mut self.connections[slot as usize];
        match transmit {
            Transmit::Nothing => {}
            Transmit::Finish if connection.fin == Fin::No => connection.fin = Fin::Wanted,
            Transmit::Finish => {}
            Transmit::Release => return self.leave(slot, Exit::Polite),
            Transmit::Reset => {
                self.stats.deadline_resets.add(1);
                return self.leave(slot, Exit::Reset);
            }
        }
        if connection.queue.is_some() || connection.fin == Fin::Wanted {
            self.mark(slot);
        }
        self.schedule(slot);
    }

    /// Tells the handler, the log and the counts how a connection has ended.
    fn report(&mut self, slot: u32, end: &Disconnect, now: Time) {
        let generation = self.connections[slot as usize].generation;
        let id = ConnectionId {
            shard: self.settings.index,
            generation,
            slot,
        };
        self.stats.closed(end.cause);
        tracing::debug!(
            target: "tidewheel::close",
            connection = %id,
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
        self.fanout.forget(slot);
        self.call(slot, now, Callback::Close, |handler, conn| {
            handler.close(conn, end);
        });
        // What the handler may have subscribed to since.
        self.fanout.forget(slot);
    }

    /// Answers a request with an error, and closes.
    pub(super) fn refuse(&mut self, slot: u32, reason: Rejected, rejection: &Rejection, now: Time) {
        self.stats.rejected(reason);
        tracing::debug!(target: "tidewheel::handshake", status = rejection.status(), %rejection, "refused");
        let connection = &mut self.connections[slot as usize];
        let queue = connection.queue.get_or_insert_with(|| self.pool.take());
        queue.write(Lane::Control, |out| rejection.write(out));
        connection.phase = Phase::Refused {
            deadline: now + self.settings.close_timeout,
        };
    }

    /// The peer has sent FIN, and everything before it has been read.
    pub(super) fn peer_finished(&mut self, slot: u32, now: Time) {
        match &mut self.connections[slot as usize].phase {
            Phase::Open { protocol, .. } => {
                protocol.receive_eof(now);
                self.conclude(slot, now);
            }
            Phase::Handshake { .. } | Phase::Refused { .. } => self.leave(slot, Exit::Polite),
            Phase::Leaving(_) => {}
        }
    }

    /// The connection has failed underneath: RST, or the kernel gave up.
    pub(super) fn peer_reset(&mut self, slot: u32, now: Time) {
        // There is nobody left to send a FIN to, nor anything before it.
        let fin = &mut self.connections[slot as usize].fin;
        if *fin != Fin::UnderWay {
            *fin = Fin::Done;
        }
        match &mut self.connections[slot as usize].phase {
            Phase::Open { protocol, .. } => {
                protocol.receive_reset(now);
                self.conclude(slot, now);
            }
            Phase::Handshake { .. } | Phase::Refused { .. } => self.leave(slot, Exit::Reset),
            Phase::Leaving(_) => {}
        }
    }

    /// One of the connection's deadlines may have passed.
    pub(super) fn timed_out(&mut self, slot: u32, now: Time) {
        let Some(connection) = self.connections.get_mut(slot as usize) else {
            return;
        };
        let is_deaf = connection.is_paused();
        match &mut connection.phase {
            Phase::Handshake { .. } => {
                self.stats.handshake_timeouts.add(1);
                self.leave(slot, Exit::Reset);
            }
            Phase::Refused { .. } => {
                self.stats.deadline_resets.add(1);
                self.leave(slot, Exit::Reset);
            }
            Phase::Open { protocol, .. }
                if is_deaf && protocol.is_open()
                    || protocol.is_ping_overdue(self.endpoint.config(), now) =>
            {
                self.ask(slot);
            }
            Phase::Open { .. } => self.elapse(slot, now),
            Phase::Leaving(_) => {}
        }
    }

    /// Lets the protocol do what is due.
    fn elapse(&mut self, slot: u32, now: Time) {
        let Connection { phase, queue, .. } = &mut self.connections[slot as usize];
        let Phase::Open { protocol, .. } = phase else {
            return;
        };
        let out = &mut self.lists.control;
        protocol.handle_timeout(&mut self.endpoint, out, now);
        if !out.is_empty() {
            let queue = queue.get_or_insert_with(|| self.pool.take());
            match protocol.poll_transmit() {
                // It begins to close in good order: behind what was said.
                Transmit::Nothing if !protocol.is_open() => {
                    queue.write(Lane::Control, |last| last.extend_from_slice(out));
                }
                // A ping that waits already tells as much as two.
                Transmit::Nothing if queue.is_stalled() && queue.has_control() => {}
                Transmit::Nothing => queue.write_control(out),
                // It has failed: nothing but the Close is of use to the peer.
                Transmit::Finish | Transmit::Release | Transmit::Reset => {
                    queue.discard();
                    queue.write_control(out);
                }
            }
            out.clear();
        }
        self.conclude(slot, now);
    }

    /// Asks when the peer was last heard: it may be alive, although what it has sent is not read,
    /// because it takes nothing, or because this shard has fallen behind.
    fn ask(&mut self, slot: u32) {
        let connection = &mut self.connections[slot as usize];
        if !connection.asking {
            connection.asking = true;
            let socket = connection.socket;
            let token = connection.token(slot);
            self.ring.push(Op::Quiet { socket }, token);
        }
    }

    /// The kernel has told how long the peer has been quiet, or that it cannot.
    pub(super) fn quiet(&mut self, completion: &Completion, now: Time) {
        let slot = completion.token.slot();
        let connection = &mut self.connections[slot as usize];
        connection.asking = false;
        if let Phase::Open { protocol, .. } = &mut connection.phase
            && let Ok(quiet_ms) = u64::try_from(completion.result)
        {
            protocol.note_heard(Time::from_millis(now.as_millis().saturating_sub(quiet_ms)));
        }
        self.elapse(slot, now);
        self.release_if_idle(slot);
    }

    /// The server shuts down (RFC 6455 7.4.1: 1001, going away; or 1012, service restart).
    pub(super) fn say_goodbye(&mut self, slot: u32, now: Time) {
        let Some(connection) = self.connections.get_mut(slot as usize) else {
            return;
        };
        match &mut connection.phase {
            Phase::Handshake { .. } => self.leave(slot, Exit::Reset),
            Phase::Open { protocol, .. } => {
                let queue = connection.queue.get_or_insert_with(|| self.pool.take());
                let endpoint = &mut self.endpoint;
                let started = queue.write(Lane::Control, |out| {
                    let (code, cause) = (self.settings.drain.code, Cause::Shutdown);
                    protocol.start_closing_handshake(
                        endpoint,
                        code,
                        "server shutting down",
                        cause,
                        out,
                        now,
                    )
                });
                debug_assert!(started.is_ok(), "a code and a reason that may be sent");
                self.conclude(slot, now);
            }
            Phase::Refused { .. } | Phase::Leaving(_) => {}
        }
    }

    /// Ends everything on the descriptor and closes it. The slot follows when the last
    /// completion has come.
    pub(super) fn leave(&mut self, slot: u32, exit: Exit) {
        if exit == Exit::Polite {
            self.last_words(slot);
        }
        let connection = &mut self.connections[slot as usize];
        debug_assert!(
            !matches!(connection.phase, Phase::Leaving(_)),
            "it leaves once"
        );
        self.wheel.clear(&mut connection.timer);
        let socket = connection.socket;
        if connection.is_armed() {
            let token = connection.token(slot);
            self.ring.push(Op::Reset { socket }, token);
        }
        let descriptor = if exit == Exit::Polite && connection.fin == Fin::UnderWay {
            Descriptor::Finishing
        } else {
            let token = connection.token(slot);
            self.ring.push(Op::Close { socket }, token);
            Descriptor::Closing
        };
        if !connection.is_receiving() {
            connection.receive = Receive::Ended;
        }
        let phase = std::mem::replace(&mut connection.phase, Phase::Leaving(descriptor));
        if let Err(panic) = contain::catch(|| drop(phase)) {
            self.note_panic(slot, Callback::DropState, panic);
        }
    }

    /// Sends what is queued, as far as the socket takes it, and FIN.
    fn last_words(&mut self, slot: u32) {
        let connection = &mut self.connections[slot as usize];
        let may_finish = matches!(connection.fin, Fin::No | Fin::Wanted);
        if connection.flight == Flight::Idle && may_finish {
            connection.fin = Fin::Wanted;
            self.transmit(slot);
        }
    }

    /// Our FIN is out, or was not to be.
    pub(super) fn finished(&mut self, completion: &Completion) {
        let token = completion.token;
        let slot = token.slot();
        // One that was linked to a short send is cancelled, and not waited for.
        let Some(connection) = self
            .connections
            .get_mut(slot as usize)
            .filter(|connection| {
                connection.generation == token.generation() && connection.fin == Fin::UnderWay
            })
        else {
            return;
        };
        match -completion.result {
            libc::ECANCELED => return,
            // For want of a descriptor; the ring takes another way now.
            libc::EMFILE | libc::ENFILE => {
                connection.fin = Fin::Wanted;
                self.mark(slot);
            }
            // That it finds the peer gone needs no answer: what is under way tells of that.
            _ => connection.fin = Fin::Done,
        }
        self.close_if_finished(slot);
        self.release_if_idle(slot);
    }

    /// Closes the descriptor of a connection that leaves, if that has waited for our FIN.
    pub(super) fn close_if_finished(&mut self, slot: u32) {
        let connection = &mut self.connections[slot as usize];
        if connection.fin != Fin::UnderWay
            && let Phase::Leaving(descriptor @ Descriptor::Finishing) = &mut connection.phase
        {
            *descriptor = Descriptor::Closing;
            let socket = connection.socket;
            let token = connection.token(slot);
            self.ring.push(Op::Close { socket }, token);
        }
    }

    /// The descriptor is closed.
    pub(super) fn closed(&mut self, slot: u32) {
        let connection = &mut self.connections[slot as usize];
        connection.phase = Phase::Leaving(Descriptor::Closed);
        self.release_if_idle(slot);
    }

    /// Gives the slot back if no completion is to come for it.
    pub(super) fn release_if_idle(&mut self, slot: u32) {
        let connection = &mut self.connections[slot as usize];
        let Phase::Leaving(Descriptor::Closed) = connection.phase else {
            return;
        };
        if connection.is_busy() {
            return;
        }
        if let Some(mut queue) = connection.queue.take() {
            queue.clear();
            self.pool.put_back(queue);
        }
        if self.connections.remove(slot as usize).admitted {
            self.forget(slot);
        }
        self.stats.connections.set(self.connections.len() as u64);
    }
}
