//! From a completed receive to the connection's bytes, and from a completed send to reading on.

use tidewheel_codec::Time;

use super::Shard;
use crate::{
    Handler,
    connection::{Awaits, Phase, Receive},
    contain::Callback,
    message::Arrived,
    ring::{Buffer, Completion, Ring},
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

    /// Reads what was received into a message; unless that has to wait, when it stays there.
    fn go_on(&mut self, slot: u32, now: Time) {
        if self.must_wait(slot) {
            return self.keep_behind(slot, &[], now);
        }
        self.frames(slot, Arrived::elsewhere(&mut []), now);
        self.pause_if_parked(slot);
        self.conclude(slot, now);
        if self.is_receive_wanted(slot) {
            self.receive_more(slot);
        }
    }

    /// Hands received bytes to whom they belong, or keeps them while they have to wait.
    fn deliver(&mut self, slot: u32, buffer: Buffer, now: Time) {
        if self.must_wait(slot) {
            return self.keep_behind(slot, &buffer, now);
        }
        Arrived::in_buffer(buffer, |arrived| {
            match &self.connections[slot as usize].phase {
                Phase::Handshake { .. } => {
                    if let Some(at) = self.receive_request(slot, arrived.bytes(), now) {
                        self.frames(slot, arrived.skip(at), now);
                    }
                }
                Phase::Open { .. } => self.frames(slot, arrived, now),
                // Refused: what it says beyond its request is of no interest.
                Phase::Refused { .. } | Phase::Leaving(_) => {}
            }
        });
        self.pause_if_parked(slot);
        self.conclude(slot, now);
    }

    /// Whether what an open connection has received has to wait: for room for answers, or behind what
    /// was received before.
    fn must_wait(&self, slot: u32) -> bool {
        let connection = &self.connections[slot as usize];
        match &connection.phase {
            Phase::Open { protocol, .. } if protocol.is_open() => {
                connection.is_congested(&self.settings.send)
            }
            // Nothing is answered any more.
            Phase::Open { .. } => connection.has_unread(),
            Phase::Handshake { .. } | Phase::Refused { .. } | Phase::Leaving(_) => false,
        }
    }

    /// Keeps received bytes behind those that are unread, and stops receiving.
    fn keep_behind(&mut self, slot: u32, bytes: &[u8], now: Time) {
        let connection = &mut self.connections[slot as usize];
        let mut awaits = match connection.awaits {
            Awaits::Nothing => Awaits::Sending,
            awaits @ (Awaits::Sending | Awaits::Turn | Awaits::Room) => awaits,
        };
        if let Phase::Open { protocol, .. } = &mut connection.phase {
            protocol.note_heard(now);
            if !protocol.is_open() {
                awaits = Awaits::Turn;
            }
        }
        self.keep_unread(slot, bytes, awaits);
        self.pause(slot);
    }

    /// Everything is sent: what was kept meanwhile is looked at now, and receiving goes on.
    pub(super) fn resume(&mut self, slot: u32, now: Time) {
        self.fanout.wake(slot);
        let Some(queue) = self.connections[slot as usize].queue.as_mut() else {
            return;
        };
        let missed = std::mem::take(&mut queue.missed);
        if missed > 0 {
            self.call(slot, now, Callback::Gap, |handler, conn| {
                handler.gap(conn, missed);
            });
        }
        self.call(slot, now, Callback::Drained, |handler, conn| {
            if conn.is_open() {
                handler.drained(conn);
            }
        });
        match self.connections[slot as usize].awaits {
            // It is on a list of those that are read on.
            Awaits::Turn | Awaits::Room => self.conclude(slot, now),
            Awaits::Nothing | Awaits::Sending => {
                self.connections[slot as usize].awaits = Awaits::Nothing;
                self.resume_reading(slot, now);
            }
        }
    }
}
