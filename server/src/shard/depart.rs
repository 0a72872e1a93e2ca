//! The ways in which a connection ends, and the one way in which its slot comes back.
//!
//! A connection's TCP ends in one of two ways. In order: we send FIN, the peer sends FIN, and we close the
//! descriptor; the kernel keeps its TIME_WAIT. By force: a deadline passes and we close the descriptor,
//! which resets, because every connection inherits `SO_LINGER` of zero from its listener (socket(7),
//! tcp(7)). In neither way does the close wait for the socket to become writable.

use tidewheel_codec::{self as codec, Cause, Disconnect, Time, Transmit, handshake::Rejection};

use super::{core::Lifecycle, visit::Visit};
use crate::{
    Handler,
    connection::{
        Connection, AckProgress, AckWait, Descriptor, FinResult, WaitReason, Phase, ReceiveEvent,
        SendEvent,
    },
    contain::{self, Callback},
    outbox::Lane,
    ring::{Op, Ring, Socket, Taken},
    stats::Rejected,
};

impl<R: Ring, H: Handler> Visit<'_, R, H> {
    /// Does what the protocol asks for after it has seen bytes, time, or the handler.
    pub(super) fn poll_protocol(&mut self) {
        let transmit = match &mut self.connection.phase {
            Phase::Open { protocol, .. } => match protocol.poll_disconnect() {
                None => protocol.poll_transmit(),
                Some(end) => {
                    self.report_disconnect(&end);
                    self.poll_transmit()
                }
            },
            Phase::Refused { .. } => Transmit::Finish,
            Phase::Handshake { .. } => Transmit::Nothing,
            Phase::Flushing { .. } | Phase::Leaving(_) => return,
        };
        match transmit {
            Transmit::Nothing => {}
            Transmit::Finish => {
                self.connection.sending.on(SendEvent::WantFin);
            }
            Transmit::Release => return self.flush_and_close(),
            Transmit::Reset => return self.reset_overdue(),
        }
        if self.connection.queue.is_some() || self.connection.sending.wants_fin() {
            self.mark_dirty();
        }
        self.schedule();
    }

    fn poll_transmit(&self) -> Transmit {
        match &self.connection.phase {
            Phase::Open { protocol, .. } => protocol.poll_transmit(),
            Phase::Handshake { .. }
            | Phase::Refused { .. }
            | Phase::Flushing { .. }
            | Phase::Leaving(_) => {
                unreachable!("a report changes no phase")
            }
        }
    }

    /// Tells the handler, the log and the counts how a connection has ended.
    fn report_disconnect(&mut self, end: &Disconnect) {
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
        let deadline = self.end_of_wait(self.now);
        self.connection.advance(Phase::Refused { deadline });
    }

    /// The peer has sent FIN, and everything before it has been read.
    pub(super) fn handle_peer_fin(&mut self) {
        match &mut self.connection.phase {
            Phase::Open { protocol, .. } => {
                protocol.receive_eof(self.now);
                self.poll_protocol();
            }
            Phase::Handshake { .. } | Phase::Refused { .. } => self.flush_and_close(),
            Phase::Flushing { .. } | Phase::Leaving(_) => {}
        }
    }

    /// The connection has failed underneath: RST, or the kernel gave up.
    pub(super) fn handle_peer_reset(&mut self) {
        // There is nobody left to send a FIN to, nor anything before it.
        self.connection.sending.on(SendEvent::PeerGone);
        match &mut self.connection.phase {
            Phase::Open { protocol, .. } => {
                protocol.receive_reset(self.now);
                if let Some(end) = protocol.poll_disconnect() {
                    self.report_disconnect(&end);
                }
                self.reset();
            }
            Phase::Handshake { .. } | Phase::Refused { .. } | Phase::Flushing { .. } => {
                self.reset();
            }
            Phase::Leaving(_) => {}
        }
    }

    /// The shard ends, and has reset the connection.
    pub(super) fn abandon(&mut self) {
        if let Phase::Open { protocol, .. } = &mut self.connection.phase {
            protocol.abandon(self.now);
            if let Some(end) = protocol.poll_disconnect() {
                self.report_disconnect(&end);
            }
        }
    }

    /// One of the connection's deadlines may have passed.
    pub(super) fn handle_timer(&mut self) {
        let is_paused = self.connection.receiving.is_paused();
        let is_held_back = self.connection.reading.reason() == Some(WaitReason::PublishBudget);
        match &mut self.connection.phase {
            Phase::Handshake { .. } => {
                self.core.stats.handshake_timeouts.add(1);
                self.reset();
            }
            Phase::Refused { .. } => self.reset_overdue(),
            Phase::Flushing { .. } => self.query_unacked(),
            // This shard does not let it prove that it is alive.
            Phase::Open { protocol, .. } if is_held_back && protocol.is_open() => {
                protocol.note_heard(self.now);
                self.run_timeout();
            }
            Phase::Open { protocol, .. }
                if is_paused && protocol.is_open()
                    || protocol.is_overdue(self.core.endpoint.config(), self.now) =>
            {
                self.query_tcp_info();
            }
            Phase::Open { .. } => self.run_timeout(),
            Phase::Leaving(_) => {}
        }
    }

    /// Resets the connection, of which a deadline has passed.
    fn reset_overdue(&mut self) {
        self.core.stats.deadline_resets.add(1);
        self.reset();
    }

    /// Lets the protocol do what is due.
    fn run_timeout(&mut self) {
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
        self.poll_protocol();
    }

    /// Asks the kernel about the connection, unless it is being asked already.
    fn query(&mut self, query: impl FnOnce(Socket) -> Op) {
        if self.connection.begin_asking() {
            let socket = self.connection.socket();
            self.push(query(socket));
        }
    }

    /// Asks when the peer was last heard, and when it last took bytes. It may be alive although nothing of it
    /// was read: the ping or the Close may lie behind a large message that it is still receiving, this
    /// connection may not be read because its peer takes nothing, or this shard may have fallen behind.
    fn query_tcp_info(&mut self) {
        self.query(|socket| Op::QueryTcpInfo { socket });
    }

    /// The kernel has told how long the peer has been quiet, in milliseconds, and when it last took what
    /// was sent to it; or that it cannot tell.
    pub(super) fn handle_tcp_info(&mut self, result: i32, taken: Option<Taken>) {
        self.connection.end_asking();
        let before = |millis: u64| Time::from_millis(self.now.as_millis().saturating_sub(millis));
        let queue = self.connection.queue.as_ref();
        let is_queued = queue.is_some_and(|queue| !queue.is_empty());
        let taken = taken.map(|taken| codec::Acknowledged {
            last: before(taken.idle().as_millis() as u64),
            total: taken.total,
            has_more: taken.is_awaited || taken.has_more || is_queued,
        });
        let close_by = taken.map(|taken| self.end_of_wait(taken.last));
        if let Phase::Open { protocol, .. } = &mut self.connection.phase {
            if let Ok(quiet_ms) = u64::try_from(result) {
                protocol.note_heard(before(quiet_ms));
            }
            if let (Some(taken), Some(close_by)) = (taken, close_by) {
                protocol.note_acknowledged(taken, close_by);
            }
        }
        self.run_timeout();
        // It was asked about before its peer's FIN came.
        if matches!(self.connection.phase, Phase::Flushing { .. }) {
            self.query_unacked();
        }
    }

    /// Asks how many bytes the peer has yet to take, to which everything was said.
    fn query_unacked(&mut self) {
        self.query(|socket| Op::QueryUnacked { socket });
    }

    /// The kernel has told how many bytes the peer has yet to acknowledge, or that it cannot tell.
    pub(super) fn handle_unacked(&mut self, result: i32) {
        self.connection.end_asking();
        let close_by = self.end_of_wait(self.now);
        let queue = self.connection.queue.as_ref();
        let queued = queue.map_or(0, |queue| queue.unsent());
        let is_flushed = self.connection.is_flushed();
        let Phase::Flushing { ack_wait } = &mut self.connection.phase else {
            return;
        };
        // Our FIN counts as a byte.
        let to_send = queued as u64 + u64::from(!is_flushed);
        // If the kernel cannot tell, what it has not delivered yet is lost.
        let left = u64::try_from(result).unwrap_or(0) + to_send;
        match ack_wait.note_left(left, self.now, close_by) {
            AckProgress::Delivered => self.close_in_order(),
            AckProgress::Waits { is_stalled } => {
                self.schedule();
                if is_stalled && is_flushed {
                    self.query_error();
                }
            }
            AckProgress::Expired => self.reset_overdue(),
        }
    }

    /// Asks whether the peer has reset the connection since its FIN: nothing is received any more that would
    /// tell.
    fn query_error(&mut self) {
        self.query(|socket| Op::QueryError { socket });
    }

    /// The kernel has told whether the connection has failed, by the events of poll(2).
    pub(super) fn handle_query_error(&mut self, result: i32) {
        self.connection.end_asking();
        match result > 0 && result & i32::from(libc::POLLERR) != 0 {
            true => self.handle_peer_reset(),
            // The time of the next question may have passed meanwhile.
            false => self.schedule(),
        }
    }

    /// The server shuts down (RFC 6455 7.4.1: 1001, going away; or 1012, service restart).
    pub(super) fn start_shutdown(&mut self) {
        let Connection { phase, queue, .. } = &mut *self.connection;
        match phase {
            Phase::Handshake { head, .. } if head.is_empty() => self.reset(),
            Phase::Handshake { .. } => {
                let rejection = Rejection::new(503, "the server shuts down");
                let rejection = rejection.with_header("Retry-After", "1");
                self.refuse(Rejected::Shutdown, &rejection);
                self.poll_protocol();
            }
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
                self.poll_protocol();
            }
            Phase::Refused { .. } | Phase::Flushing { .. } | Phase::Leaving(_) => {}
        }
    }

    /// Until when a peer is waited for to which everything was said, and which took bytes at `time`, or
    /// began to close. A drain waits no longer than its own time.
    fn end_of_wait(&self, time: Time) -> Time {
        let deadline = time + self.core.settings.close_timeout;
        match self.core.lifecycle {
            Lifecycle::Draining(progress) => deadline.min(progress.deadline()),
            Lifecycle::Serving | Lifecycle::Stopped => deadline,
        }
    }

    /// The peer has ended its direction, in order: what is queued goes out, and our FIN behind it. When the
    /// peer has taken all of that, the descriptor is closed.
    fn flush_and_close(&mut self) {
        debug_assert!(!self.connection.receiving.is_under_way());
        let close_by = match &self.connection.phase {
            Phase::Open { protocol, .. } => protocol.close_by(),
            Phase::Handshake { .. }
            | Phase::Refused { .. }
            | Phase::Flushing { .. }
            | Phase::Leaving(_) => None,
        };
        let deadline = close_by.unwrap_or_else(|| self.end_of_wait(self.now));
        let ack_wait = AckWait::new(self.now, deadline, close_by.is_some());
        self.enter_last_phase(Phase::Flushing { ack_wait });
        self.connection.sending.on(SendEvent::WantFin);
        self.transmit();
        self.query_unacked_if_flushed();
    }

    /// Ends everything on the descriptor and closes it, which resets. The slot follows when the last
    /// completion has come.
    fn reset(&mut self) {
        let socket = self.connection.socket();
        if self.connection.is_armed() {
            self.push(Op::Reset { socket });
        }
        self.push(Op::Close { socket });
        self.enter_last_phase(Phase::Leaving(Descriptor::Closing));
    }

    /// Enters a phase in which nothing is received, and drops what the application kept.
    fn enter_last_phase(&mut self, phase: Phase<H::State>) {
        self.change_receive(ReceiveEvent::Leave);
        let before = self.connection.advance(phase);
        self.schedule();
        if let Err(panic) = contain::catch(|| drop(before)) {
            self.note_panic(Callback::DropState, panic);
        }
    }

    /// Handles the completion of our FIN; `result` is a negated errno if it was not sent.
    pub(super) fn handle_fin_result(&mut self, result: i32) {
        let result = match -result {
            libc::ECANCELED => FinResult::Cancelled,
            libc::EMFILE | libc::ENFILE => FinResult::Again,
            _ => FinResult::Done,
        };
        self.connection.sending.on(SendEvent::FinComplete(result));
        if self.connection.sending.wants_fin() {
            self.mark_dirty();
        }
        self.query_unacked_if_flushed();
    }

    /// Asks whether everything is delivered that was sent, our FIN included.
    pub(super) fn query_unacked_if_flushed(&mut self) {
        if matches!(self.connection.phase, Phase::Flushing { .. }) && self.connection.is_flushed() {
            self.query_unacked();
        }
    }

    /// Closes the descriptor of a connection whose both ends have sent and taken everything.
    fn close_in_order(&mut self) {
        let socket = self.connection.socket();
        self.connection.advance(Phase::Leaving(Descriptor::Closing));
        self.schedule();
        self.push(Op::Close { socket });
    }

    /// The descriptor is closed.
    pub(super) fn handle_closed(&mut self) {
        self.connection.advance(Phase::Leaving(Descriptor::Closed));
    }
}
