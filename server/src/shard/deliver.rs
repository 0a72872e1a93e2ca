//! From a filled buffer to the handler.

use tidewheel_codec::{Cause, CloseCode, Event, Time, deflate::Agreement, handshake::Request};

use super::{Life, Shard};
use crate::{
    Conn, ConnectionId, Handler, Verdict,
    admission::Refusal,
    connection::{Connection, Phase, Receive},
    outbox::{Lane, Queue},
    ring::{Buffer, Completion, Ring},
    stats::Rejected,
};

impl<R: Ring, H: Handler> Shard<R, H> {
    /// A receive has completed: with bytes, with the peer's FIN, or with an error.
    pub(super) fn received(&mut self, completion: Completion, now: Time) {
        let slot = completion.token.slot();
        let connection = &mut self.connections[slot as usize];
        assert_eq!(
            connection.generation,
            completion.token.generation(),
            "a slot reused too early"
        );
        if !completion.more {
            connection.receive = match (connection.receive, -completion.result) {
                (Receive::Pausing, 0) => Receive::PausedAtEnd,
                (Receive::Pausing, _) => Receive::Paused,
                _ => Receive::Ended,
            };
        }
        let at_end = connection.receive == Receive::PausedAtEnd;
        if let Phase::Leaving(_) = connection.phase {
            if let Some(buffer) = completion.buffer {
                self.ring.provide(buffer);
            }
            return self.release_if_idle(slot);
        }
        match completion.result {
            1.. => {
                let buffer = completion.buffer.expect("bytes are received into a buffer");
                self.deliver(slot, buffer, now);
                self.rearm(slot);
                self.prefer_filling(slot);
            }
            0 if at_end => {}
            0 => self.peer_finished(slot, now),
            error => match -error {
                libc::ENOBUFS if connection.receive == Receive::Ended => self.starve(slot),
                // It was being cancelled.
                libc::ENOBUFS | libc::ECANCELED => self.rearm(slot),
                _ => self.peer_reset(slot, now),
            },
        }
    }

    /// A receive into the message that is arriving has completed.
    pub(super) fn filled(&mut self, completion: &Completion, now: Time) {
        let slot = completion.token.slot();
        let buffer = self.ring.take_filled(completion.token);
        let connection = &mut self.connections[slot as usize];
        assert_eq!(
            connection.generation,
            completion.token.generation(),
            "a slot reused too early"
        );
        connection.receive = Receive::Ended;
        let Phase::Open { protocol, .. } = &mut connection.phase else {
            return self.release_if_idle(slot);
        };
        let received = usize::try_from(completion.result).unwrap_or(0);
        protocol.receive_assembly(buffer, received, now);
        match completion.result {
            1.. => self.go_on(slot, now),
            0 => self.peer_finished(slot, now),
            error if -error == libc::ECANCELED => self.receive_present(slot),
            _ => self.peer_reset(slot, now),
        }
    }

    /// Reads what was received into a message; unless nothing can be answered, when it stays there.
    fn go_on(&mut self, slot: u32, now: Time) {
        let connection = &mut self.connections[slot as usize];
        if connection.is_congested(&self.settings.send)
            && let Phase::Open { protocol, .. } = &connection.phase
            && protocol.is_open()
        {
            let queue = connection.queue.as_mut().expect("congestion has a cause");
            queue.parked.push(&[]);
            return self.pause(slot);
        }
        self.frames(slot, &mut [], std::ptr::null()..std::ptr::null(), now);
        self.pause_if_parked(slot);
        self.conclude(slot, now);
        if self.is_receive_wanted(slot) {
            self.receive_more(slot);
        }
    }

    /// Hands received bytes to whom they belong, or keeps them while nothing can be answered.
    fn deliver(&mut self, slot: u32, mut buffer: Buffer, now: Time) {
        let connection = &mut self.connections[slot as usize];
        if connection.is_congested(&self.settings.send)
            && let Phase::Open { protocol, .. } = &mut connection.phase
            && protocol.is_open()
        {
            protocol.note_heard(now);
            let queue = connection.queue.as_mut().expect("congestion has a cause");
            queue.parked.push(&buffer);
            self.ring.provide(buffer);
            return self.pause(slot);
        }
        // Kept while the connection was open, and first in order now that it is closing.
        self.unpark(slot, now);
        let received = buffer.as_ptr_range();
        let leftover = self.process(slot, &mut buffer, received, now);
        match leftover {
            Leftover::None => {}
            Leftover::Frames { at } => {
                let received = buffer.as_ptr_range();
                self.frames(slot, &mut buffer[at..], received, now);
            }
        }
        let queue = self
            .connections
            .get_mut(slot as usize)
            .and_then(|it| it.queue.as_mut());
        let unused = match queue {
            Some(queue) => queue.attach(buffer),
            None => Some(buffer),
        };
        if let Some(buffer) = unused {
            self.ring.provide(buffer);
        }
        self.pause_if_parked(slot);
        self.conclude(slot, now);
    }

    fn process(
        &mut self,
        slot: u32,
        bytes: &mut [u8],
        received: std::ops::Range<*const u8>,
        now: Time,
    ) -> Leftover {
        match &mut self.connections[slot as usize].phase {
            Phase::Handshake { head, .. } => {
                if head.is_empty() {
                    return self.request(slot, bytes, now);
                }
                head.extend_from_slice(bytes);
                let mut head = std::mem::take(head);
                match self.request(slot, &head, now) {
                    Leftover::Frames { at } => {
                        // They lie behind a request in memory of our own.
                        self.frames(
                            slot,
                            &mut head[at..],
                            std::ptr::null()..std::ptr::null(),
                            now,
                        );
                    }
                    Leftover::None => {
                        if let Phase::Handshake { head: kept, .. } =
                            &mut self.connections[slot as usize].phase
                        {
                            *kept = head;
                        }
                    }
                }
                Leftover::None
            }
            Phase::Open { .. } => {
                self.frames(slot, bytes, received, now);
                Leftover::None
            }
            // Refused: what it says beyond its request is of no interest.
            Phase::Refused { .. } | Phase::Leaving(_) => Leftover::None,
        }
    }

    /// Looks for a whole request at the start of `bytes`, and answers it.
    fn request(&mut self, slot: u32, bytes: &[u8], now: Time) -> Leftover {
        let connection = &mut self.connections[slot as usize];
        let (request, size) = match Request::parse(bytes, &self.settings.request) {
            Ok(Some(parsed)) => parsed,
            Ok(None) => {
                if let Phase::Handshake { head, .. } = &mut connection.phase
                    && head.is_empty()
                {
                    head.extend_from_slice(bytes);
                }
                return Leftover::None;
            }
            Err(rejection) => {
                self.refuse(slot, Rejected::Request, &rejection, now);
                return Leftover::None;
            }
        };
        if let Phase::Handshake {
            refusal: Some(refusal),
            ..
        } = &connection.phase
        {
            let reason = match refusal {
                Refusal::Full => Rejected::Connections,
                Refusal::Network => Rejected::Address,
            };
            let rejection = refusal.rejection();
            self.refuse(slot, reason, &rejection, now);
            return Leftover::None;
        }
        if let Err(rejection) = self.settings.origins.check(&request) {
            self.refuse(slot, Rejected::Origin, &rejection, now);
            return Leftover::None;
        }
        match self.handler.upgrade(&request) {
            Verdict::Accept { state, protocol } => {
                let mut accept = request.accept();
                if let Some(protocol) = protocol {
                    accept = accept.with_protocol(protocol);
                }
                let agreement = self.endpoint.accept_deflate(request.extensions());
                if let Some(agreement) = &agreement {
                    accept = accept.with_extensions(agreement.to_string());
                }
                let queue = connection.queue.get_or_insert_with(|| self.pool.take());
                queue.write(Lane::Control, |out| accept.write(out));
                self.open(slot, state, agreement, now);
                Leftover::Frames { at: size }
            }
            Verdict::Reject(rejection) => {
                self.refuse(slot, Rejected::Application, &rejection, now);
                Leftover::None
            }
        }
    }

    fn open(&mut self, slot: u32, state: H::State, deflate: Option<Agreement>, now: Time) {
        let connection = &mut self.connections[slot as usize];
        let mut protocol = tidewheel_codec::Connection::new(now, phase_of(connection.generation));
        if let Some(agreement) = deflate {
            protocol = protocol.with_deflate(agreement);
        }
        connection.phase = Phase::Open { protocol, state };
        self.stats.opens.add(1);
        self.with_conn(slot, now, Handler::open);
        if let Life::Draining(_) = self.life {
            self.say_goodbye(slot, now);
        }
    }

    /// Hands the frames in `bytes` to the handler, and keeps those that it is too early for.
    fn frames(
        &mut self,
        slot: u32,
        bytes: &mut [u8],
        received: std::ops::Range<*const u8>,
        now: Time,
    ) {
        if let Some(rest) = self.read(slot, bytes, received, now) {
            let queue = self.connections[slot as usize].queue.as_mut();
            let queue = queue.expect("what waits to be sent is queued");
            queue.parked.push(&bytes[bytes.len() - rest..]);
        }
    }

    /// Hands the frames in `bytes` to the handler, message by message, until too much waits to be
    /// sent; gives the number of bytes that are left then, if there are any, or what was received
    /// into a message is unread.
    fn read(
        &mut self,
        slot: u32,
        bytes: &mut [u8],
        received: std::ops::Range<*const u8>,
        now: Time,
    ) -> Option<usize> {
        let connection = &mut self.connections[slot as usize];
        let Connection { phase, rate, .. } = connection;
        let Phase::Open { protocol, state } = phase else {
            return None;
        };
        let message_rate_max = self.settings.message_rate_max;
        let queue = connection.queue.get_or_insert_with(|| self.pool.take());
        let id = ConnectionId {
            shard: self.settings.index,
            generation: connection.generation,
            slot,
        };
        let mut input = protocol.receive(bytes, now);
        let endpoint = &mut self.endpoint;
        let fanout = &mut self.fanout;
        let control = &mut self.lists.control;
        let limits = self.settings.send;
        loop {
            if protocol.is_open() && queue.held() >= limits.pause_at() {
                let rest = input.into_rest().len();
                return (rest > 0 || protocol.is_unread()).then_some(rest);
            }
            let event = protocol.poll_event(endpoint, &mut input, control);
            if !control.is_empty() {
                if !protocol.is_open() {
                    // Who has sent Close, or broken the protocol, awaits no more than our Close.
                    queue.discard();
                }
                queue.write_control(control);
                control.clear();
            }
            let event = event?;
            match event {
                Event::Message(_)
                    if message_rate_max.is_some_and(|limit| rate.exceeds(limit, now)) =>
                {
                    let (code, cause) = (CloseCode::POLICY_VIOLATION, Cause::MessageRate);
                    protocol.fail(endpoint, code, cause, control, now);
                    queue.discard();
                    queue.write_control(control);
                    control.clear();
                }
                Event::Message(message) => {
                    let received = received.clone();
                    let mut conn = Conn {
                        id,
                        now,
                        protocol,
                        state,
                        queue,
                        endpoint,
                        fanout,
                        limits,
                        received,
                    };
                    self.handler.message(&mut conn, message);
                }
                // Answered already.
                Event::Ping(_) => {}
                // It has been heard, as everything is.
                Event::Pong(payload) => {
                    if let Some(round_trip) = protocol.round_trip(&payload, now) {
                        self.stats.ping_round_trips.record(round_trip);
                    }
                }
            }
        }
    }

    /// Lets the handler see an open connection.
    pub(super) fn with_conn(
        &mut self,
        slot: u32,
        now: Time,
        callback: impl FnOnce(&mut H, &mut Conn<'_, H::State>),
    ) {
        let connection = &mut self.connections[slot as usize];
        let Connection {
            phase,
            queue,
            generation,
            ..
        } = connection;
        let Phase::Open { protocol, state } = phase else {
            return;
        };
        let queue: &mut Queue = queue.get_or_insert_with(|| self.pool.take());
        let mut conn = Conn {
            id: ConnectionId {
                shard: self.settings.index,
                generation: *generation,
                slot,
            },
            now,
            protocol,
            state,
            queue,
            endpoint: &mut self.endpoint,
            fanout: &mut self.fanout,
            limits: self.settings.send,
            received: std::ptr::null()..std::ptr::null(),
        };
        callback(&mut self.handler, &mut conn);
    }

    /// Everything is sent: what was kept meanwhile is looked at now, and receiving goes on.
    pub(super) fn resume(&mut self, slot: u32, now: Time) {
        let connection = &mut self.connections[slot as usize];
        let Some(queue) = connection.queue.as_mut() else {
            return;
        };
        let missed = std::mem::take(&mut queue.missed);
        if missed > 0 {
            self.with_conn(slot, now, |handler, conn| handler.gap(conn, missed));
        }
        self.with_conn(slot, now, |handler, conn| {
            if conn.is_open() {
                handler.drained(conn);
            }
        });
        self.unpark(slot, now);
        let connection = &mut self.connections[slot as usize];
        if connection.receive == Receive::PausedAtEnd
            && !connection.is_congested(&self.settings.send)
        {
            connection.receive = Receive::Ended;
            return self.peer_finished(slot, now);
        }
        self.rearm(slot);
        self.conclude(slot, now);
    }

    /// Looks at what was kept, as far as there is room for answers.
    fn unpark(&mut self, slot: u32, now: Time) {
        loop {
            let queue = self.connections[slot as usize].queue.as_mut();
            let Some(mut piece) = queue.and_then(|queue| queue.parked.take()) else {
                return;
            };
            let rest = self.read(slot, &mut piece, std::ptr::null()..std::ptr::null(), now);
            if let Some(rest) = rest {
                piece.drain(..piece.len() - rest);
                let queue = self.connections[slot as usize].queue.as_mut();
                let queue = queue.expect("what waits to be sent is queued");
                return queue.parked.put_back(piece);
            }
        }
    }
}

/// What is left of received bytes when the request at their start is answered.
enum Leftover {
    None,
    /// Frames, from `at` on.
    Frames {
        at: usize,
    },
}

/// Spreads the pings of connections that opened together (a multiplicative hash).
fn phase_of(generation: u32) -> u16 {
    (generation.wrapping_mul(0x9E37_79B1) >> 16) as u16
}
