//! The end of a connection, and the release of its slot.
//!
//! A TCP connection ends in one of two ways. In order: the server sends FIN, the peer sends FIN, and the server
//! closes the descriptor; TIME_WAIT stays with the kernel. Or by reset: a deadline passes, and the server
//! closes the descriptor. That resets the connection, because every socket inherits `SO_LINGER` of zero from
//! its listener (socket(7), tcp(7)). In neither case does the close wait until the socket is writable.

use tidewheel_codec::{self as codec, Cause, Disconnect, Time, Transmit, handshake::Rejection};

use super::{core::Lifecycle, visit::Visit};
use crate::{
    Handler, Response,
    connection::{
        AckStatus, AckWait, Connection, Descriptor, FinResult, Phase, ReceiveEvent, SendEvent,
        WaitReason,
    },
    contain::{self, Callback},
    outbox::Lane,
    ring::{AckProgress, Op, Ring, Socket},
    stats::Rejected,
};

impl<R: Ring, H: Handler> Visit<'_, R, H> {
    /// Does what the protocol asks for. Called after the protocol has got bytes, a timeout, or a call of the
    /// handler.
    pub(super) fn poll_protocol(&mut self) {
        let transmit = match &mut self.connection.phase {
            Phase::Open { protocol, .. } => match protocol.poll_disconnect() {
                None => protocol.poll_transmit(),
                Some(end) => {
                    self.report_disconnect(&end);
                    self.poll_transmit()
                }
            },
            Phase::Answered { .. } => Transmit::Finish,
            Phase::Handshake { .. } | Phase::Undecided { .. } => Transmit::Nothing,
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
            | Phase::Undecided { .. }
            | Phase::Answered { .. }
            | Phase::Flushing { .. }
            | Phase::Leaving(_) => {
                unreachable!("a report does not change the phase")
            }
        }
    }

    /// Reports the end of a connection to the handler, the log and the counters.
    fn report_disconnect(&mut self, end: &Disconnect) {
        self.core.stats.closed(end.cause);
        let violation = match end.cause {
            Cause::ProtocolError(violation) => Some(violation.to_string()),
            _ => None,
        };
        tracing::debug!(
            target: "tidewheel::close",
            connection = %self.id(),
            initiator = end.initiator.as_str(),
            cause = end.cause.as_str(),
            violation,
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
        let mut is_called = false;
        self.call(Callback::Close, |handler, conn| {
            is_called = true;
            handler.close(conn, end);
        });
        if !is_called {
            // The handler has panicked when it was asked for the span.
            self.call_without_span(Callback::Close, |handler, conn| handler.close(conn, end));
        }
        // The handler may have subscribed again.
        self.core.fanout.forget(self.slot);
    }

    /// Refuses a request, and closes the connection.
    pub(super) fn refuse(&mut self, reason: Rejected, response: &Response) {
        self.core.stats.rejected(reason);
        let (status, reason) = (response.status(), reason.as_str());
        tracing::debug!(target: "tidewheel::handshake", status, reason, "refused");
        self.answer(response);
    }

    /// Answers a request, and closes the connection.
    pub(super) fn answer(&mut self, response: &Response) {
        // When the answer is sent, the bytes behind the request are read, which discards them.
        self.connection.reading.resume();
        self.end_later();
        self.queue().write(Lane::Control, |out| response.write(out));
        let deadline = self.end_of_wait(self.now);
        self.connection.advance(Phase::Answered { deadline });
    }

    /// Handles the peer's FIN, when all bytes before it have been read.
    pub(super) fn handle_peer_fin(&mut self) {
        match &mut self.connection.phase {
            Phase::Open { protocol, .. } => {
                protocol.receive_eof(self.now);
                self.poll_protocol();
            }
            Phase::Handshake { .. } | Phase::Undecided { .. } | Phase::Answered { .. } => {
                self.flush_and_close();
            }
            Phase::Flushing { .. } | Phase::Leaving(_) => {}
        }
    }

    /// Handles the end of the TCP connection by RST or by the kernel's timeout.
    pub(super) fn handle_peer_reset(&mut self) {
        // Neither queued bytes nor a FIN can be sent.
        self.connection.sending.on(SendEvent::PeerGone);
        match &mut self.connection.phase {
            Phase::Open { protocol, .. } => {
                protocol.receive_reset(self.now);
                if let Some(end) = protocol.poll_disconnect() {
                    self.report_disconnect(&end);
                }
                self.reset();
            }
            Phase::Handshake { .. }
            | Phase::Undecided { .. }
            | Phase::Answered { .. }
            | Phase::Flushing { .. } => {
                self.reset();
            }
            Phase::Leaving(_) => {}
        }
    }

    /// Reports the end of an open connection that the shard resets because it ends.
    pub(super) fn abandon(&mut self) {
        if let Phase::Open { protocol, .. } = &mut self.connection.phase {
            protocol.abandon(self.now);
            if let Some(end) = protocol.poll_disconnect() {
                self.report_disconnect(&end);
            }
        }
    }

    /// Resets the connection at the end of a drain.
    pub(super) fn end_drain(&mut self) {
        self.abandon();
        match self.connection.phase {
            Phase::Handshake { .. }
            | Phase::Undecided { .. }
            | Phase::Answered { .. }
            | Phase::Open { .. }
            | Phase::Flushing { .. } => self.reset_overdue(),
            Phase::Leaving(_) => {}
        }
    }

    /// Handles the expiry of the connection's timer.
    pub(super) fn handle_timer(&mut self) {
        self.run_timers();
        let is_paused = self.connection.receiving.is_paused();
        let is_held_back = self.connection.reading.reason() == Some(WaitReason::PublishBudget);
        match &mut self.connection.phase {
            Phase::Handshake { .. } => {
                self.core.stats.handshake_timeouts.add(1);
                self.reset();
            }
            Phase::Undecided { .. } => {
                let response = Response::busy("the server has not decided in time");
                self.refuse(Rejected::Undecided, &response);
                self.poll_protocol();
            }
            Phase::Answered { .. } => self.reset_overdue(),
            Phase::Flushing { .. } => self.query_unacked(),
            // The shard does not read the connection, so it cannot judge whether the peer is alive.
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

    /// Resets a connection whose deadline has passed.
    fn reset_overdue(&mut self) {
        self.core.stats.deadline_resets.add(1);
        self.reset();
    }

    /// Handles the deadlines of the protocol that have passed.
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
                // The closing handshake starts behind the queued messages.
                Transmit::Nothing if !protocol.is_open() => {
                    queue.write(Lane::Control, |last| last.extend_from_slice(out));
                }
                // A ping is queued already.
                Transmit::Nothing if queue.is_stalled() && queue.has_control() => {}
                Transmit::Nothing => queue.write_control(out),
                Transmit::Finish | Transmit::Release | Transmit::Reset => queue.write_close(out),
            }
            out.clear();
        }
        self.poll_protocol();
    }

    /// Submits a query about the connection, unless one is in flight.
    fn query(&mut self, query: impl FnOnce(Socket) -> Op) {
        if self.connection.begin_query() {
            let socket = self.connection.socket();
            self.push(query(socket));
        }
    }

    /// Asks the kernel when the peer's last bytes arrived, and when the peer last acknowledged bytes. The peer
    /// may be alive although no bytes of it were read: the Ping or the Close may lie behind a large message
    /// that it is still receiving, or this connection or the whole shard is not being read.
    fn query_tcp_info(&mut self) {
        self.query(|socket| Op::QueryTcpInfo { socket });
    }

    /// Handles the answer to [`query_tcp_info`](Self::query_tcp_info): milliseconds since the peer's last
    /// bytes, and what it has acknowledged; an error if the kernel cannot report it.
    pub(super) fn handle_tcp_info(&mut self, result: i32, taken: Option<AckProgress>) {
        self.connection.end_query();
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
            if let Ok(silence_ms) = u64::try_from(result) {
                protocol.note_heard(before(silence_ms));
            }
            if let (Some(taken), Some(close_by)) = (taken, close_by) {
                protocol.note_acknowledged(taken, close_by);
            }
        }
        self.run_timeout();
        // The query was submitted before the peer's FIN arrived.
        if matches!(self.connection.phase, Phase::Flushing { .. }) {
            self.query_unacked();
        }
    }

    /// Asks for the number of bytes that the peer has not acknowledged, after everything was sent to it.
    fn query_unacked(&mut self) {
        self.query(|socket| Op::QueryUnacked { socket });
    }

    /// Handles the number of bytes that the peer has not acknowledged; an error if the kernel cannot report it.
    pub(super) fn handle_unacked(&mut self, result: i32) {
        self.connection.end_query();
        let close_by = self.end_of_wait(self.now);
        let queue = self.connection.queue.as_ref();
        let queued = queue.map_or(0, |queue| queue.unsent());
        let is_flushed = self.connection.is_flushed();
        let Phase::Flushing { ack_wait } = &mut self.connection.phase else {
            return;
        };
        // Our FIN counts as one byte.
        let to_send = queued as u64 + u64::from(!is_flushed);
        // If the kernel cannot report it, unacknowledged bytes are lost.
        let left = u64::try_from(result).unwrap_or(0) + to_send;
        match ack_wait.note_left(left, self.now, close_by) {
            AckStatus::Delivered => self.close_in_order(),
            AckStatus::Waits { is_stalled } => {
                self.schedule();
                if is_stalled && is_flushed {
                    self.query_error();
                }
            }
            AckStatus::Expired => self.reset_overdue(),
        }
    }

    /// Asks whether the peer has reset the connection since its FIN. No receive is armed that would report it.
    fn query_error(&mut self) {
        self.query(|socket| Op::QueryError { socket });
    }

    /// Handles the events of poll(2), which report whether the connection has failed.
    pub(super) fn handle_query_error(&mut self, result: i32) {
        self.connection.end_query();
        match result > 0 && result & i32::from(libc::POLLERR) != 0 {
            true => self.handle_peer_reset(),
            // The time of the next query may have passed.
            false => self.schedule(),
        }
    }

    /// Closes the connection, because the server shuts down (RFC 6455 7.4.1: 1001, going away; or 1012, service
    /// restart).
    pub(super) fn start_shutdown(&mut self) {
        let Connection { phase, queue, .. } = &mut *self.connection;
        match phase {
            Phase::Handshake { head, .. } if head.is_empty() => self.reset(),
            Phase::Handshake { .. } | Phase::Undecided { .. } => {
                let rejection = Rejection::new(503, "the server shuts down");
                let rejection = rejection.with_header("Retry-After", "1");
                self.refuse(Rejected::Shutdown, &rejection.into());
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
                debug_assert!(started.is_ok(), "code and reason may be sent");
                self.poll_protocol();
            }
            Phase::Answered { .. } | Phase::Flushing { .. } | Phase::Leaving(_) => {}
        }
    }

    /// The deadline of a peer to which everything was sent, and that took bytes at `time` or began to close
    /// then. A drain has a deadline of its own, which is not exceeded.
    fn end_of_wait(&self, time: Time) -> Time {
        let deadline = time + self.core.settings.close_timeout;
        match self.core.lifecycle {
            Lifecycle::Draining(progress) => deadline.min(progress.deadline()),
            Lifecycle::Serving | Lifecycle::Stopped => deadline,
        }
    }

    /// Called when the peer has ended its direction in order. Sends the queue and our FIN. The descriptor is
    /// closed when the peer has acknowledged everything.
    fn flush_and_close(&mut self) {
        debug_assert!(!self.connection.receiving.is_under_way());
        let close_by = match &self.connection.phase {
            Phase::Open { protocol, .. } => protocol.close_by(),
            Phase::Handshake { .. }
            | Phase::Undecided { .. }
            | Phase::Answered { .. }
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

    /// Resets the connection: ends its operations, and closes the descriptor. The slot is freed after the last
    /// completion.
    fn reset(&mut self) {
        let socket = self.connection.socket();
        if self.connection.is_armed() {
            self.push(Op::Reset { socket });
        }
        self.push(Op::Close { socket });
        self.enter_last_phase(Phase::Leaving(Descriptor::Closing));
    }

    /// Enters a phase in which nothing is received, and drops the application's state.
    fn enter_last_phase(&mut self, phase: Phase<H::State>) {
        self.change_receive(ReceiveEvent::Leave);
        self.end_later();
        let before = self.connection.advance(phase);
        self.schedule();
        if let Err(panic) = contain::catch(|| drop(before)) {
            self.note_panic(Callback::DropState, panic);
        }
    }

    /// Cancels the timers of the connection. Its tasks may finish within the close timeout.
    fn end_later(&mut self) {
        let deadline = self.now + self.core.settings.close_timeout;
        self.core.later.end_connection(self.slot, deadline);
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

    /// Asks whether the peer has acknowledged everything, if everything was sent, including our FIN.
    pub(super) fn query_unacked_if_flushed(&mut self) {
        if matches!(self.connection.phase, Phase::Flushing { .. }) && self.connection.is_flushed() {
            self.query_unacked();
        }
    }

    /// Closes the descriptor of a connection whose both directions have ended in order.
    fn close_in_order(&mut self) {
        let socket = self.connection.socket();
        self.connection.advance(Phase::Leaving(Descriptor::Closing));
        self.schedule();
        self.push(Op::Close { socket });
    }

    /// Handles the completion of the close.
    pub(super) fn handle_closed(&mut self) {
        self.connection.advance(Phase::Leaving(Descriptor::Closed));
    }
}
